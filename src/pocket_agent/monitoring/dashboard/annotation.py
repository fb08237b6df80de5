"""What graphs are marked with: starts of the server, and alerts that fire."""

from typing import Final

from grafana_foundation_sdk.models.dashboard import AnnotationQuery

from pocket_agent.monitoring.dashboard.choice import FIGURES, FIRING, of_server
from pocket_agent.monitoring.foreign import START_TIME
from pocket_agent.monitoring.selector import select
from pocket_agent.monitoring.vector import Vector

_MILLISECONDS: Final = 1000

STARTS: Final = of_server(select(START_TIME)) * _MILLISECONDS


class _Events(AnnotationQuery):
    """Events out of Prometheus, with the fields that only its own queries have.

    Attributes:
        vector: each of its results is an event.
        title, text: templates with `{{label}}`.
        value_is_time: the values are the times of the events, in milliseconds of Unix time.
    """

    def __init__(
        self, name: str, vector: Vector, colour: str, *, title: str, text: str = "", value_is_time: bool = False
    ) -> None:
        super().__init__(name=name, datasource=FIGURES, icon_color=colour, expr=vector.text, built_in=None)
        self.title = title
        self.text = text
        self.value_is_time = value_is_time

    def to_json(self) -> dict[str, object]:
        """The query as Grafana keeps it."""
        own = {"titleFormat": self.title, "textFormat": self.text, "useValueForTime": self.value_is_time}
        return {**super().to_json(), **own, "step": "60s"}


def annotations() -> list[AnnotationQuery]:
    """The marks of every dashboard with graphs of the server."""
    return [
        _Events("Starts", STARTS, "blue", title="The server was started", value_is_time=True),
        _Events("Alerts", FIRING, "red", title="{{alertname}}", text="{{severity}} {{instance}}"),
    ]
