"""Rules as values: what Prometheus records, and what it alerts of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pocket_agent.monitoring.period import Period
from pocket_agent.monitoring.vector import Kind, QueryError, Vector

Severity = Literal["critical", "warning", "info", "none"]
ALERT_SERVICE: Final = "pocket-agent"
"""The label `service` of every alert, by which it is told from those of others."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A query whose results are kept as series of their own, named `job_instance[_label]:metric:operation`.

    Attributes:
        metric: what it is made of, without `_total`.
        operation: what was done with it, the last first.
        query: what is recorded.
        constants: labels that all results get.
    """

    metric: str
    operation: str
    query: Vector
    constants: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.query.require_gauge()
        if self.metric.endswith("_total"):
            raise QueryError(f"{self.metric}: what is recorded is not a counter")

    @property
    def name(self) -> str:
        """The name by the rule of Prometheus (Recording rules, Naming): level, metric, operation."""
        level = "_".join(("job", "instance", *sorted(self.query.labels | self.constants.keys())))
        return f"{level}:{self.metric}:{self.operation}"

    @property
    def series(self) -> Vector:
        """What it recorded, to be asked for."""
        text = ", ".join(f'{label}="{value}"' for label, value in self.constants.items())
        labels = self.query.labels | self.constants.keys()
        return Vector(self.name + (f"{{{text}}}" if text else ""), Kind.GAUGE, labels, selector=True)

    def render(self) -> dict[str, Any]:
        """The rule for Prometheus."""
        rule: dict[str, Any] = {"record": self.name, "expr": self.query.text}
        return {**rule, "labels": dict(self.constants)} if self.constants else rule


@dataclass(frozen=True, slots=True, eq=False)
class Alert:
    """A condition that somebody should know of.

    Attributes:
        name: also that of its runbook.
        hold: how long the condition must hold.
        query: has a result for each thing that is wrong.
        summary, description: templates of Prometheus, with `$labels` and `$value`; `{hold}` is how long.
        meaning: what it is for, in a sentence for the documentation.
        constants: labels that it has beside its severity.
    """

    name: str
    severity: Severity
    hold: Period
    query: Vector
    summary: str
    description: str
    meaning: str
    constants: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """What it adds to the labels of the query's result."""
        return {"severity": self.severity, "service": ALERT_SERVICE, **self.constants}

    def render(self, runbooks: str, scale: float) -> dict[str, Any]:
        """The rule for Prometheus.

        Args:
            runbooks: the address below which the runbooks are.
            scale: factor on `hold`.
        """
        hold = str(self.hold.scaled(scale))
        return {
            "alert": self.name,
            "expr": self.query.text,
            "for": hold,
            "labels": self.labels,
            "annotations": {
                "summary": self.summary,
                "description": self.description.replace("{hold}", hold),
                "runbook_url": f"{runbooks}/{self.name}",
            },
        }


def render_group(name: str, interval: Period, rules: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A group of rules, which Prometheus evaluates one after the other."""
    return {"name": name, "interval": str(interval), "rules": list(rules)}
