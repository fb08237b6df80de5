"""What the drawings of panels have in common."""

from collections.abc import Mapping, Sequence
from typing import Final

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard

Step = tuple[float | None, str]
"""From this value on (None: from the lowest), this colour."""
State = tuple[str, str]
"""A word and its colour."""

PLAIN: Final[Sequence[Step]] = ((None, "green"),)


def thresholds(steps: Sequence[Step]) -> ThresholdsConfig:
    """Colours from values on."""
    made = [dashboard.Threshold(value=value, color=colour) for value, colour in steps]
    return ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(made)


def mapping(states: Mapping[int, State] | Mapping[str, State]) -> dashboard.ValueMap:
    """Words and colours for values."""
    return dashboard.ValueMap(
        options={
            str(value): dashboard.ValueMappingResult(text=word, color=colour, index=place)
            for place, (value, (word, colour)) in enumerate(states.items())
        }
    )


def fixed(colour: str) -> dashboard.DynamicConfigValue:
    """The property of a colour."""
    return dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


def legend(shown: bool) -> common.VizLegendOptions:
    """A legend below, or none."""
    return (
        common.VizLegendOptions()
        .show_legend(shown)
        .display_mode(looks.LegendDisplayMode.LIST)
        .placement(looks.LegendPlacement.BOTTOM)
        .calcs([])
    )


def tooltip() -> common.VizTooltipOptions:
    """All values of a time, the greatest first."""
    return common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING)


def silent(panel: dashboard.Panel, words: str | None) -> dashboard.Panel:
    """Say `words` instead of "No data"."""
    if words is not None:
        assert panel.field_config is not None
        panel.field_config.defaults.no_value = words
    return panel
