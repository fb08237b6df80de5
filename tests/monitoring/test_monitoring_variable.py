import pytest

from pocket_agent.monitoring.foreign import DISK_READ, UP
from pocket_agent.monitoring.promql import highest_by, increase, lowest, rate, tally, total
from pocket_agent.monitoring.recording import EXECUTIONS, EXECUTIONS_BY_STATUS
from pocket_agent.monitoring.selector import Not, Unlike, narrowed, picked, select
from pocket_agent.monitoring.variable import RATE_INTERVAL, Variable
from pocket_agent.monitoring.vector import QueryError
from pocket_agent.observability import catalogue

SERVER = Variable("server")
CHECKS = select(catalogue.HEALTH_CHECK_UP)


def test_series_follow_a_variable_beside_the_conditions_that_they_have() -> None:
    assert narrowed(EXECUTIONS.series, instance=SERVER).text == f'{EXECUTIONS.name}{{instance="$server"}}'
    one = select(catalogue.LIMIT, limit="connections")
    assert narrowed(one, job=Variable("job"), instance=SERVER).text == (
        'pocket_agent_limit{instance="$server", job="$job", limit="connections"}'
    )


def test_only_plain_series_follow_a_variable() -> None:
    with pytest.raises(QueryError, match="not a plain series"):
        narrowed(CHECKS.equal_to(0), instance=SERVER)


def test_a_variable_for_a_label_that_is_not_there_is_refused() -> None:
    with pytest.raises(QueryError, match="no labels status"):
        narrowed(EXECUTIONS.series, status=SERVER)


def test_recorded_series_are_picked_by_values_that_their_metric_has() -> None:
    succeeded = picked(EXECUTIONS_BY_STATUS.series, catalogue.EXECUTIONS_TOTAL, status="success")
    assert succeeded.text == f'{EXECUTIONS_BY_STATUS.name}{{status="success"}}'
    with pytest.raises(QueryError, match="status is never succeeded"):
        picked(EXECUTIONS_BY_STATUS.series, catalogue.EXECUTIONS_TOTAL, status="succeeded")
    with pytest.raises(QueryError, match="no labels status"):
        picked(EXECUTIONS.series, catalogue.EXECUTIONS_TOTAL, status="success")


def test_values_that_nobody_can_list_are_left_out_by_their_form() -> None:
    assert select(DISK_READ, device=Unlike("dm-.*|loop.*")).text == (
        'node_disk_read_bytes_total{device!~"dm-.*|loop.*"}'
    )


def test_known_values_are_not_left_out_by_a_form() -> None:
    with pytest.raises(QueryError, match="name those that are meant"):
        select(catalogue.EXECUTIONS_TOTAL, status=Unlike("k.*"))
    assert select(catalogue.EXECUTIONS_TOTAL, status=Not("killed")).text.endswith('{status!="killed"}')


@pytest.mark.parametrize("form", ['a"b', r"a\d", "a b"])
def test_a_form_that_would_need_quoting_is_refused(form: str) -> None:
    with pytest.raises(QueryError, match="quoting"):
        Unlike(form)


def test_a_window_may_be_left_to_grafana() -> None:
    opened = select(catalogue.CONNECTIONS_TOTAL)
    assert rate(opened, RATE_INTERVAL).text == "rate(pocket_agent_connections_total[$__rate_interval])"
    assert increase(opened, RATE_INTERVAL).text == "increase(pocket_agent_connections_total[$__rate_interval])"


def test_aggregations_name_what_they_drop() -> None:
    assert lowest(CHECKS, "check").text == "min without (check) (pocket_agent_health_check_up)"
    assert lowest(CHECKS, "check").labels == frozenset()
    assert highest_by(CHECKS, "check").text == "max by (job, instance, check) (pocket_agent_health_check_up)"
    assert tally(CHECKS).text == "count(pocket_agent_health_check_up)"
    with pytest.raises(QueryError, match="no labels"):
        lowest(CHECKS, "limit")
    with pytest.raises(QueryError, match="over which labels"):
        lowest(select(UP))


def test_sums_and_differences_hold_together_less_than_products() -> None:
    used, limit = (
        total(select(metric, limit="projects"), "limit") for metric in (catalogue.LIMIT_USAGE, catalogue.LIMIT)
    )
    assert (limit - used).text == (
        'sum without (limit) (pocket_agent_limit{limit="projects"}) - '
        'sum without (limit) (pocket_agent_limit_usage{limit="projects"})'
    )
    assert ((limit - used) / limit).text.startswith("(sum without")
    assert (limit - (used + 1)).text.endswith(
        ' - (sum without (limit) (pocket_agent_limit_usage{limit="projects"}) + 1)'
    )
