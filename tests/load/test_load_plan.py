"""pocket_agent.load.plan: what can be asked for, and what is refused."""

from typing import Any

import pytest

from pocket_agent.errors import ConfigurationError
from pocket_agent.load.plan import Kind, Plan, parse_mix


def test_a_mix() -> None:
    assert parse_mix("list=5, join=0,execute=2") == {Kind.LIST: 5, Kind.EXECUTE: 2}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "''"),
        ("list", "'list'"),
        ("list=1,dance=2", "'dance=2'"),
        ("list=-1", "'list=-1'"),
        ("list=1001", "'list=1001'"),
        ("list=1,list=2", "list twice"),
        ("list=0", "above 0"),
    ],
)
def test_a_mix_that_is_none(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        parse_mix(text)


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"connections": 0}, "--connections"),
        ({"connections": 10_001}, "--connections"),
        ({"rate": 0.0}, "--rate"),
        ({"rate": float("nan")}, "--rate"),
        ({"duration_seconds": 0.0}, "--duration"),
        ({"timeout_seconds": 0.0}, "--timeout"),
        ({"ramp_seconds": 31.0}, "--ramp"),
        ({"mix": {Kind.EXECUTE: 1}}, "--allow-executions"),
    ],
)
def test_a_plan_that_makes_no_sense(choices: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Plan(**choices)


def test_executions_when_they_are_allowed() -> None:
    assert Plan(mix={Kind.EXECUTE: 1}, allow_executions=True).mix == {Kind.EXECUTE: 1}
