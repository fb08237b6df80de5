"""The dashboard of what agents do, and what it costs: executions, tokens, approvals, tools."""

from typing import Final

from grafana_foundation_sdk.models import units

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring import recording
from pocket_agent.monitoring.dashboard.choice import of_server, recorded, server_choices, told
from pocket_agent.monitoring.dashboard.graph import counts, graph, heat
from pocket_agent.monitoring.dashboard.look import BEHAVIORS, CALLS, NO_EXECUTION, STATES, STATUSES
from pocket_agent.monitoring.dashboard.page import USAGE, Page
from pocket_agent.monitoring.dashboard.panel import Line, Panel, Section
from pocket_agent.monitoring.dashboard.query import Query, Spread
from pocket_agent.monitoring.dashboard.shape import figure
from pocket_agent.monitoring.promql import increase, quantile, rate, total
from pocket_agent.monitoring.selector import buckets, picked, select
from pocket_agent.monitoring.variable import RATE_INTERVAL
from pocket_agent.monitoring.vector import Vector
from pocket_agent.observability import catalogue

_BUDGET: Final = "cost_usd_per_day"
_NO_APPROVAL: Final = "No approval was asked for lately"


def usage(settings: Settings) -> Page:
    """The dashboard, with the marks where alerts of these settings begin."""
    return Page(
        USAGE,
        "Pocket Agent Usage",
        "What agents do on one server, and what it costs: executions, tokens, dollars, approvals, tools.",
        "24h",
        server_choices(),
        (
            Section("Executions", (_executions(), _times(settings))),
            Section("Tokens and cost", (Line(4, (*_money(settings), *_token_sums())), _cost(), _tokens())),
            Section("Approvals and tools", (_approvals(),)),
        ),
    )


def _executions() -> Line:
    busy = graph(
        "Running and waiting",
        "Executions that run, prompts that wait for their turn, requests that wait for a person's answer, and how many "
        "executions may run at a time.",
        Query(of_server(select(catalogue.EXECUTIONS_ACTIVE)), "running"),
        Query(of_server(select(catalogue.EXECUTION_QUEUE_DEPTH)), "waiting"),
        Query(of_server(select(catalogue.APPROVALS_PENDING)), "for an approval"),
        Query(total(of_server(select(catalogue.LIMIT, limit="executions")), "limit"), "limit"),
        unit=units.Short,
        dashed=("limit",),
        alerts=("LimitNearlyReached",),
    )
    ended = counts(
        "Executions in the last hour",
        "Executions that ended in the hour before, and requests for one that were refused.",
        Query(recorded(recording.EXECUTIONS_HOURLY), "{{status}}"),
        stacked=True,
        colours=STATUSES,
        alerts=("ExecutionsFailing",),
    )
    projects = graph(
        "Projects by state",
        "Projects that wait for a prompt, that work, and whose last execution failed.",
        Query(of_server(select(catalogue.PROJECTS_ACTIVE)), "{{state}}"),
        unit=units.Short,
        stacked=True,
        colours=STATES,
    )
    return Line(8, (busy, ended, projects))


def _times(settings: Settings) -> Line:
    # Raw series: what is recorded has no exemplars.
    durations = of_server(buckets(catalogue.EXECUTION_DURATION))
    spread = heat(
        "Execution times",
        "How many executions took how long, waiting for approvals included. A diamond is one execution; it leads to "
        "its trace.",
        Spread(total(increase(durations, RATE_INTERVAL), "status")),
        unit=units.Seconds,
        nothing=NO_EXECUTION,
    )
    first = of_server(buckets(catalogue.TIME_TO_FIRST_MESSAGE))
    waits = graph(
        "Time to the first word",
        "95 of 100 agents of the last 30 minutes said their first word within this time; half of them within the lower "
        "one. A diamond is one execution; it leads to its trace.",
        Query(told(recording.FIRST_MESSAGE_P95), "p95"),
        Query(quantile(0.5, rate(first, recording.CALM)).at_least(0), "half of them", exemplars=True),
        unit=units.Seconds,
        nothing=NO_EXECUTION,
    )
    slowest = graph(
        "Longest executions",
        "95 and 99 of 100 executions of the last 30 minutes took no longer. The dashed line is where SlowExecutions "
        "begins.",
        Query(told(recording.EXECUTION_P95), "p95"),
        Query(told(recording.EXECUTION_P99), "p99"),
        unit=units.Seconds,
        mark=settings.alerts.slow_execution,
        nothing=NO_EXECUTION,
        alerts=("SlowExecutions",),
    )
    return Line(8, (spread, waits, slowest))


def _money(settings: Settings) -> tuple[Panel, ...]:
    spent = total(of_server(select(catalogue.LIMIT_USAGE, limit=_BUDGET)), "limit")
    share = total(picked(recorded(recording.LIMIT_RATIO), catalogue.LIMIT, limit=_BUDGET), "limit")
    most = settings.alerts.limit_ratio
    ended = total(recorded(recording.EXECUTIONS_HOURLY), "status").above(0)
    return (
        figure(
            "Spent today",
            "What the executions of today cost (local time of the server), as the CLI reckons.",
            Query(spent, "spent"),
            unit=units.Dollars,
            decimals=2,
        ),
        figure(
            "Used of the day's budget",
            "Share of limits.cost_usd_per_day that is spent today.",
            Query(share, "used"),
            unit=units.PercentUnit,
            steps=((None, "green"), (most, "orange"), (1, "red")),
            nothing="No budget is set",
            alerts=("ClaudeCostBudget",),
        ),
        figure(
            "Cost of the last hour",
            "What was spent in the hour before, as the CLI reckons.",
            Query(recorded(recording.COST_HOURLY), "cost"),
            unit=units.Dollars,
            decimals=2,
        ),
        figure(
            "Cost of an execution",
            "What was spent in the hour before, for each execution that ended in it.",
            Query(recorded(recording.COST_HOURLY) / ended, "cost"),
            unit=units.Dollars,
            decimals=3,
            nothing=NO_EXECUTION,
        ),
    )


def _token_sums() -> tuple[Panel, ...]:
    return (
        figure(
            "Tokens of the last hour",
            "Tokens that were used in the hour before, those of the cache included.",
            Query(total(recorded(recording.TOKENS_HOURLY), "type"), "tokens"),
            unit=units.Short,
        ),
        figure(
            "Read from the cache",
            "Share of what models were given in the hour before that came from the cache.",
            Query(_cached(), "cached"),
            unit=units.PercentUnit,
            decimals=0,
            nothing=NO_EXECUTION,
        ),
    )


def _cached() -> Vector:
    read, made, new = (_tokens_of(kind) for kind in ("cacheRead", "cacheCreation", "input"))
    return read / (read + made + new).above(0)


def _tokens_of(kind: str) -> Vector:
    return total(picked(recorded(recording.TOKENS_HOURLY), catalogue.CLAUDE_TOKENS, type=kind), "type")


def _cost() -> Line:
    return Line(
        8,
        (
            graph(
                "Cost per hour by model",
                "What was spent in the hour before, as the CLI reckons. The models are those of metrics.models.",
                Query(recorded(recording.COST_HOURLY_BY_MODEL), "{{model}}"),
                unit=units.Dollars,
                stacked=True,
                alerts=("ClaudeCostBudget",),
            ),
            graph(
                "Cost per hour by project",
                "The same by project. The projects are those of metrics.projects; all others together are other.",
                Query(recorded(recording.COST_HOURLY_BY_PROJECT), "{{project}}"),
                unit=units.Dollars,
                stacked=True,
            ),
        ),
    )


def _tokens() -> Line:
    return Line(
        8,
        (
            graph(
                "Tokens per hour by kind",
                "Tokens that were used in the hour before: given to models, said by them, read from the cache and "
                "written to it.",
                Query(recorded(recording.TOKENS_HOURLY), "{{type}}"),
                unit=units.Short,
                stacked=True,
            ),
            graph(
                "Tokens per hour by model",
                "The same by model. The models are those of metrics.models.",
                Query(recorded(recording.TOKENS_HOURLY_BY_MODEL), "{{model}}"),
                unit=units.Short,
                stacked=True,
            ),
            graph(
                "Tokens per hour by project",
                "The same by project. The projects are those of metrics.projects; all others together are other.",
                Query(recorded(recording.TOKENS_HOURLY_BY_PROJECT), "{{project}}"),
                unit=units.Short,
                stacked=True,
            ),
        ),
    )


def _approvals() -> Line:
    return Line(
        8,
        (
            counts(
                "Approvals per hour",
                "Requests of agents to use a tool that were answered or withdrawn in the hour before.",
                Query(recorded(recording.APPROVALS_HOURLY), "{{behavior}}"),
                stacked=True,
                colours=BEHAVIORS,
            ),
            graph(
                "Waiting for people",
                "95 of 100 approvals of the last 30 minutes were answered within this time.",
                Query(told(recording.APPROVAL_WAIT_P95), "p95"),
                unit=units.Seconds,
                nothing=_NO_APPROVAL,
            ),
            counts(
                "Tool calls per hour",
                "Tools that agents used in the hour before; only those that were used are shown. `mcp` is any tool of "
                "an MCP server.",
                Query(total(recorded(recording.TOOLS_HOURLY_BY_OUTCOME), "outcome"), "all"),
                Query(recorded(recording.TOOLS_HOURLY).above(0), "{{tool}}"),
                dashed=("all",),
            ),
            counts(
                "Tool calls by outcome",
                "How the tool calls of the hour before ended; denied ones were refused by a person.",
                Query(recorded(recording.TOOLS_HOURLY_BY_OUTCOME), "{{outcome}}"),
                stacked=True,
                colours=CALLS,
            ),
        ),
    )
