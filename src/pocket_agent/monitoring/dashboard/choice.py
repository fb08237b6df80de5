"""What a person chooses at the top of a dashboard, and the queries that follow the choice."""

from typing import Final, get_args

from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
    VariableType,
)

from pocket_agent.config.settings import Level
from pocket_agent.monitoring.foreign import ALERTS, MACHINE_JOB, SERVER_JOB, UP
from pocket_agent.monitoring.grafana import LOKI_UID, PROMETHEUS_UID
from pocket_agent.monitoring.rule import ALERT_SERVICE, Recording
from pocket_agent.monitoring.selector import Not, narrowed, picked, select
from pocket_agent.monitoring.variable import Variable
from pocket_agent.monitoring.vector import Vector

_FIGURES: Final = Variable("datasource")
_LOGS: Final = Variable("logs")
_JOB: Final = Variable("job")
_INSTANCE: Final = Variable("instance")
_MACHINE: Final = Variable("machine")

FIGURES: Final = DataSourceRef(type_val="prometheus", uid=f"${{{_FIGURES.name}}}")
LOGS: Final = DataSourceRef(type_val="loki", uid=f"${{{_LOGS.name}}}")


def of_server(series: Vector) -> Vector:
    """Plain series, those of the chosen server only."""
    return narrowed(series, job=_JOB, instance=_INSTANCE)


def of_machine(series: Vector) -> Vector:
    """Plain series of the node exporter, those of the chosen machine only."""
    return narrowed(picked(series, UP, job=MACHINE_JOB), instance=_MACHINE)


def seen_outside(series: Vector, job: str) -> Vector:
    """Plain series of the blackbox exporter, those of probes of the chosen server only."""
    return narrowed(picked(series, UP, job=job), instance=_INSTANCE)


OWN_ALERTS: Final = select(ALERTS, service=ALERT_SERVICE)
"""The alerts of all servers and of the stack itself, but none that others keep in the same Prometheus."""
FIRING: Final = select(ALERTS, alertname=Not("Watchdog"), alertstate="firing", service=ALERT_SERVICE)
"""Those of them that are news."""
NOTHING: Final = of_server(select(UP)) * 0
"""0 for the chosen server, up or not: for what has no series before something happened."""


def recorded(rule: Recording) -> Vector:
    """What a rule recorded of the chosen server."""
    return of_server(rule.series)


def told(rule: Recording) -> Vector:
    """The same without what is no number, such as a percentile of nothing."""
    return recorded(rule).at_least(0)


def server_choices() -> list[VariableModel]:
    """Prometheus, and the server."""
    return [
        _source(_FIGURES, "Data source", "prometheus", "Prometheus", PROMETHEUS_UID),
        # Not out of the server's own series, which end when it does.
        _values(_JOB, "Job", FIGURES, _of_prometheus(f'label_values({UP.name}{{job=~"{SERVER_JOB}.*"}}, job)')),
        _values(_INSTANCE, "Server", FIGURES, _of_prometheus(f'label_values({UP.name}{{job="{_JOB}"}}, instance)')),
    ]


def machine_choice() -> VariableModel:
    """The machine, by its node exporter."""
    query = _of_prometheus(f'label_values({UP.name}{{job="{MACHINE_JOB}"}}, instance)')
    return _values(_MACHINE, "Machine", FIGURES, query)


def log_choices() -> list[VariableModel]:
    """Loki, and which lines."""
    levels = VariableModel(
        type_val=VariableType.CUSTOM,
        name="level",
        label="Level",
        query=",".join(get_args(Level)),
        multi=True,
        include_all=True,
        # With nothing escaped, and a line without a level too.
        all_value=".*",
        current=VariableOption(text=["All"], value=["$__all"]),
    )
    search = VariableModel(
        type_val=VariableType.TEXTBOX,
        name="search",
        label="Search",
        query="",
        current=VariableOption(text="", value=""),
    )
    return [
        _source(_LOGS, "Logs", "loki", "Loki", LOKI_UID),
        _values(Variable("service"), "Service", LOGS, _of_loki("service")),
        _values(Variable("environment"), "Environment", LOGS, _of_loki("environment", '{service="$service"}')),
        _bare(levels),
        _bare(search),
    ]


def _source(variable: Variable, label: str, kind: str, name: str, uid: str) -> VariableModel:
    return _bare(
        VariableModel(
            type_val=VariableType.DATASOURCE,
            name=variable.name,
            label=label,
            query=kind,
            refresh=VariableRefresh.ON_DASHBOARD_LOAD,
            current=VariableOption(text=name, value=uid),
        )
    )


def _values(variable: Variable, label: str, source: DataSourceRef, query: dict[str, object]) -> VariableModel:
    return _bare(
        VariableModel(
            type_val=VariableType.QUERY,
            name=variable.name,
            label=label,
            datasource=source,
            query=query,
            refresh=VariableRefresh.ON_TIME_RANGE_CHANGED,
            sort=VariableSort.ALPHABETICAL_ASC,
        )
    )


def _of_prometheus(text: str) -> dict[str, object]:
    # As Grafana 11 saves it: 1 are the values of a label.
    return {"qryType": 1, "query": text, "refId": "PrometheusVariableQueryEditor-VariableQuery"}


def _of_loki(label: str, stream: str = "") -> dict[str, object]:
    return {"label": label, "refId": "LokiVariableQueryEditor-VariableQuery", "stream": stream, "type": 1}


def _bare(model: VariableModel) -> VariableModel:
    """Without what is only for variables that are intervals."""
    model.auto = model.auto_min = model.auto_count = None
    return model
