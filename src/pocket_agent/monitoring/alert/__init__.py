"""What somebody should know of, and when."""

from collections.abc import Mapping
from itertools import chain

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.alert.availability import availability_alerts
from pocket_agent.monitoring.alert.execution import execution_alerts
from pocket_agent.monitoring.alert.fault import fault_alerts
from pocket_agent.monitoring.alert.pipeline import pipeline_alerts
from pocket_agent.monitoring.alert.saturation import saturation_alerts
from pocket_agent.monitoring.rule import Alert


def group_alerts(settings: Settings) -> Mapping[str, tuple[Alert, ...]]:
    """Every alert but those of the objectives (`slo`), by what it is about, with the thresholds of the settings."""
    return {
        "availability": tuple(availability_alerts(settings)),
        "fault": tuple(fault_alerts(settings)),
        "execution": tuple(execution_alerts(settings)),
        "saturation": tuple(saturation_alerts(settings)),
        "pipeline": tuple(pipeline_alerts()),
    }


def find_alerts(settings: Settings) -> tuple[Alert, ...]:
    """All of them."""
    return tuple(chain.from_iterable(group_alerts(settings).values()))
