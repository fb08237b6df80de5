"""What a panel asks, and what it calls the answers."""

import re
from dataclasses import dataclass

from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import loki, prometheus

from pocket_agent.monitoring.dashboard.choice import FIGURES, LOGS
from pocket_agent.monitoring.vector import TARGET_LABELS, Kind, QueryError, Vector


@dataclass(frozen=True, slots=True)
class Query:
    """A question to Prometheus.

    Attributes:
        vector: what is asked.
        legend: the name of each result, with `{{label}}` for every label that tells results apart.
        exemplars: show the traces that the values came from; only raw series have any.
    """

    vector: Vector
    legend: str
    exemplars: bool = False

    def __post_init__(self) -> None:
        self.vector.require_gauge()
        told = frozenset(re.findall(r"{{(\w+)}}", self.legend)) - TARGET_LABELS
        if told != self.vector.labels:
            raise QueryError(f"{self.legend!r} does not tell {sorted(self.vector.labels)} apart: {self.vector.text}")

    @property
    def text(self) -> str:
        """What Prometheus is asked."""
        return self.vector.text

    def target(self, ref: str) -> Dataquery:
        """The query as Grafana's model has it, for a graph."""
        return prometheus.Dataquery(
            expr=self.text,
            legend_format=self.legend,
            range_val=True,
            instant=False,
            exemplar=self.exemplars,
            editor_mode=prometheus.QueryEditorMode.CODE,
            datasource=FIGURES,
            ref_id=ref,
        )


@dataclass(frozen=True, slots=True)
class Present:
    """A question to Prometheus for a table: what is now, all labels included."""

    vector: Vector

    @property
    def text(self) -> str:
        """What Prometheus is asked."""
        return self.vector.text

    def target(self, ref: str) -> Dataquery:
        """The query as Grafana's model has it."""
        return prometheus.Dataquery(
            expr=self.text,
            format_val=prometheus.PromQueryFormat.TABLE,
            range_val=False,
            instant=True,
            editor_mode=prometheus.QueryEditorMode.CODE,
            datasource=FIGURES,
            ref_id=ref,
        )


@dataclass(frozen=True, slots=True)
class Spread:
    """A question to Prometheus for a heat map: how many values fell into each bucket.

    Attributes:
        vector: the growth of buckets, without labels but `le`.
    """

    vector: Vector

    def __post_init__(self) -> None:
        if self.vector.kind is not Kind.BUCKET_RATES or self.vector.labels != {"le"}:
            raise QueryError(f"a heat map needs the growth of the buckets of one histogram: {self.vector.text}")

    @property
    def text(self) -> str:
        """What Prometheus is asked."""
        return self.vector.text

    def target(self, ref: str) -> Dataquery:
        """The query as Grafana's model has it."""
        return prometheus.Dataquery(
            expr=self.text,
            legend_format="{{le}}",
            format_val=prometheus.PromQueryFormat.HEATMAP,
            range_val=True,
            instant=False,
            exemplar=True,
            editor_mode=prometheus.QueryEditorMode.CODE,
            datasource=FIGURES,
            ref_id=ref,
        )


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A question to Loki.

    Attributes:
        text: LogQL.
        legend: the name of each result; empty for lines.
    """

    text: str
    legend: str = ""

    def target(self, ref: str) -> Dataquery:
        """The query as Grafana's model has it."""
        return loki.Dataquery(
            expr=self.text,
            legend_format=self.legend or None,
            query_type="range",
            editor_mode=loki.QueryEditorMode.CODE,
            datasource=LOGS,
            ref_id=ref,
        )


Asked = Query | Present | Spread | LogQuery
