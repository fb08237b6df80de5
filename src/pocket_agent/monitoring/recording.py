"""What is recorded for dashboards: rates, percentiles, shares of limits, tokens and cost."""

from typing import Final

from pocket_agent.monitoring.foreign import (
    CPU_SECONDS,
    DISK_READ,
    DISK_WRITTEN,
    MACHINE_CPU_SECONDS,
    MACHINE_JOB,
    NETWORK_RECEIVED,
    NETWORK_SENT,
    NOTIFICATIONS,
    NOTIFICATIONS_FAILED,
    SERVER_JOB,
)
from pocket_agent.monitoring.period import hours, minutes
from pocket_agent.monitoring.promql import increase, quantile, rate, total, total_by
from pocket_agent.monitoring.rule import Recording
from pocket_agent.monitoring.selector import Not, Unlike, amount, buckets, count, select
from pocket_agent.monitoring.vector import Vector
from pocket_agent.observability import catalogue
from pocket_agent.observability.catalogue import SERVER_CODES, Metric

RECENT: Final = minutes(5)
CALM: Final = minutes(30)
"""For what happens seldom, such as executions: five minutes would mostly hold none, or one."""
HOUR: Final = hours(1)

# What goes through these goes through a real device too, and would count twice.
_LAYERS: Final = Unlike("dm-.*|md.*|loop.*|z?ram.*")
_INNER_LINKS: Final = Unlike("lo|veth.*|br.*|bond.*|docker.*|virbr.*|cni.*|cali.*|flannel.*|tap.*|tun.*|wg.*|ifb.*")


def _name(metric: Metric) -> str:
    return metric.name.removesuffix("_total")


def _rate(metric: Metric, *without: str) -> Recording:
    return Recording(_name(metric), "rate5m", total(rate(select(metric), RECENT), *without))


def _hourly(metric: Metric, *without: str) -> Recording:
    return Recording(_name(metric), "increase1h", total(increase(select(metric), HOUR), *without))


def _percentile(percent: int, metric: Metric, *without: str, seldom: bool = False) -> Recording:
    window = CALM if seldom else RECENT
    query = quantile(percent / 100, total(rate(buckets(metric), window), *without))
    return Recording(metric.name, f"p{percent}_rate{window}", query)


def _device_rate(metric: Metric, without: Unlike) -> Recording:
    series = select(metric, device=without, job=MACHINE_JOB)
    return Recording(_name(metric), "rate5m", total(rate(series, RECENT), "device"))


def _processor_time(series: Vector) -> Vector:
    return total(rate(series, RECENT), "cpu", "mode")


def _ended(statuses: tuple[str, ...]) -> Vector:
    return total(increase(select(catalogue.EXECUTIONS_TOTAL, status=statuses), HOUR), "status")


MESSAGES_RECEIVED: Final = _rate(catalogue.MESSAGES_RECEIVED, "type")
MESSAGES_SENT: Final = _rate(catalogue.MESSAGES_SENT, "type")
MESSAGES_BY_TYPE: Final = _rate(catalogue.MESSAGES_RECEIVED)
MESSAGE_BYTES: Final = _rate(catalogue.MESSAGE_BYTES)
REQUESTS: Final = _rate(catalogue.REQUESTS_TOTAL, "type", "outcome")
REQUESTS_BY_OUTCOME: Final = _rate(catalogue.REQUESTS_TOTAL, "type")
ERRORS: Final = _rate(catalogue.ERRORS_TOTAL, "code", "operation")
ERRORS_BY_CODE: Final = _rate(catalogue.ERRORS_TOTAL, "operation")
SERVER_ERRORS: Final = Recording(
    "pocket_agent_server_errors",
    "rate5m",
    total(rate(select(catalogue.ERRORS_TOTAL, code=sorted(SERVER_CODES)), RECENT), "code", "operation"),
)
SERVER_ERROR_RATIO: Final = Recording(
    "pocket_agent_server_errors_per_message", "ratio_rate5m", SERVER_ERRORS.query / MESSAGES_RECEIVED.query.above(0)
)
EXECUTIONS: Final = _rate(catalogue.EXECUTIONS_TOTAL, "status")
EXECUTIONS_BY_STATUS: Final = _rate(catalogue.EXECUTIONS_TOTAL)
EXECUTIONS_HOURLY: Final = _hourly(catalogue.EXECUTIONS_TOTAL)
EXECUTION_SUCCESS: Final = Recording(
    "pocket_agent_executions_success",
    "ratio_increase1h",
    _ended(("success",)) / _ended(("success", "error", "timeout")).above(0),
)
EXECUTION_P95: Final = _percentile(95, catalogue.EXECUTION_DURATION, "status", seldom=True)
EXECUTION_P99: Final = _percentile(99, catalogue.EXECUTION_DURATION, "status", seldom=True)
EXECUTION_MEAN: Final = Recording(
    catalogue.EXECUTION_DURATION.name,
    "mean_rate1h",
    total(rate(amount(catalogue.EXECUTION_DURATION), HOUR), "status")
    / total(rate(count(catalogue.EXECUTION_DURATION), HOUR), "status").above(0),
)
FIRST_MESSAGE_P95: Final = _percentile(95, catalogue.TIME_TO_FIRST_MESSAGE, seldom=True)
REQUEST_P95: Final = _percentile(95, catalogue.REQUEST_DURATION, "type")
REQUEST_P99: Final = _percentile(99, catalogue.REQUEST_DURATION, "type")
REQUEST_P95_BY_TYPE: Final = _percentile(95, catalogue.REQUEST_DURATION)
LOOP_LAG_P99: Final = _percentile(99, catalogue.EVENT_LOOP_LAG)
PING_P95: Final = _percentile(95, catalogue.PING_RTT)
BROADCAST_P99: Final = _percentile(99, catalogue.BROADCAST_DURATION)
COMMIT_P99: Final = _percentile(99, catalogue.STORAGE_COMMIT)
CPU: Final = Recording(_name(CPU_SECONDS), "rate5m", rate(select(CPU_SECONDS, job=SERVER_JOB), RECENT))
LIMIT_RATIO: Final = Recording(
    "pocket_agent_limit_usage_per_limit", "ratio", select(catalogue.LIMIT_USAGE) / select(catalogue.LIMIT).above(0)
)
TOKENS_HOURLY: Final = _hourly(catalogue.CLAUDE_TOKENS, "model")
TOKENS_HOURLY_BY_MODEL: Final = _hourly(catalogue.CLAUDE_TOKENS, "type")
COST_HOURLY: Final = _hourly(catalogue.CLAUDE_COST, "model")
COST_HOURLY_BY_MODEL: Final = _hourly(catalogue.CLAUDE_COST)
COST_HOURLY_BY_PROJECT: Final = _hourly(catalogue.PROJECT_COST)
TOOLS_HOURLY: Final = _hourly(catalogue.CLAUDE_TOOL_CALLS, "outcome")
APPROVALS_HOURLY: Final = _hourly(catalogue.APPROVALS_TOTAL)
APPROVAL_WAIT_P95: Final = _percentile(95, catalogue.APPROVAL_WAIT, seldom=True)
PROJECTS_ASKED_FOR: Final = Recording(
    "pocket_agent_projects_asked_for",
    "increase1h",
    total(increase(select(catalogue.MESSAGES_RECEIVED, type="project_create"), HOUR), "type"),
)
MESSAGES_SENT_BY_TYPE: Final = _rate(catalogue.MESSAGES_SENT)
CONNECTIONS_OPENED: Final = _hourly(catalogue.CONNECTIONS_TOTAL)
CONNECTIONS_REFUSED: Final = _hourly(catalogue.CONNECTIONS_REJECTED)
DISCONNECTS: Final = _hourly(catalogue.DISCONNECTS)
SLOW_CONSUMERS: Final = _hourly(catalogue.SLOW_CONSUMER)
ERRORS_BY_OPERATION: Final = _hourly(catalogue.ERRORS_TOTAL, "code")
COMMITS: Final = Recording("pocket_agent_storage_commits", "rate5m", rate(count(catalogue.STORAGE_COMMIT), RECENT))
TOKENS_HOURLY_BY_PROJECT: Final = _hourly(catalogue.PROJECT_TOKENS, "type")
TOOLS_HOURLY_BY_OUTCOME: Final = _hourly(catalogue.CLAUDE_TOOL_CALLS, "tool")
TELEMETRY_LOST: Final = _hourly(catalogue.TELEMETRY_DROPPED)
SETTINGS_READ: Final = _hourly(catalogue.SETTINGS_RELOADS)
LABELS_UNKNOWN: Final = _hourly(catalogue.METRIC_LABEL_OVERFLOW)
NOTIFICATIONS_HOURLY: Final = Recording(
    _name(NOTIFICATIONS), "increase1h", total_by(increase(select(NOTIFICATIONS), HOUR), "integration")
)
NOTIFICATIONS_FAILED_HOURLY: Final = Recording(
    _name(NOTIFICATIONS_FAILED), "increase1h", total_by(increase(select(NOTIFICATIONS_FAILED), HOUR), "integration")
)
# Both sides are of the same time, so that the first minutes after a start are right, too.
MACHINE_CPU: Final = Recording(
    "node_cpu_busy",
    "ratio_rate5m",
    _processor_time(select(MACHINE_CPU_SECONDS, job=MACHINE_JOB, mode=Not("idle", "iowait")))
    / _processor_time(select(MACHINE_CPU_SECONDS, job=MACHINE_JOB)),
)
DISKS_READ: Final = _device_rate(DISK_READ, _LAYERS)
DISKS_WRITTEN: Final = _device_rate(DISK_WRITTEN, _LAYERS)
LINKS_RECEIVED: Final = _device_rate(NETWORK_RECEIVED, _INNER_LINKS)
LINKS_SENT: Final = _device_rate(NETWORK_SENT, _INNER_LINKS)

RECORDINGS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Recording))
"""All of them, in the order above."""
