"""The tests of the rules can fail: each rule is made wrong in every place, and they have to notice each time."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.objective import OBJECTIVES
from pocket_agent.monitoring.period import Period
from pocket_agent.monitoring.rule import Alert
from pocket_agent.monitoring.rulefile import rules, runbook_address
from pocket_agent.monitoring.ruletest import RuleTests, rule_tests
from tests.monitoring.rule_sample import promtool

SETTINGS = Settings()
_COMPARED = re.compile(r"([<>]=?|==) (\d[\d.]*)")
_CONDITION = re.compile(r'\b(\w+)(!?=~?)"([^"]*)"')
_MINUTES = re.compile(r"(\d+)m")

Rule = dict[str, Any]


def wrong_expressions(text: str) -> Iterator[tuple[str, str]]:
    """What was done to an expression, and what became of it."""
    for found in _COMPARED.finditer(text):
        value = float(found[2])
        # Small numbers are counts, which a part of one does not change.
        step = 1.5 if value in {0, 1.5, 2.5, 3} else value / 20
        for changed in (value - step, value + step):
            yield f"{found[0]} becomes {changed:g}", f"{text[: found.start(2)]}{changed!r}{text[found.end(2) :]}"
    lines = text.split("\n")
    for number, line in enumerate(lines):
        rest = lines[:number] + lines[number + 1 :]
        if number:
            yield f"without {line}", "\n".join(rest)
        elif rest and rest[0].startswith("or "):
            yield f"without {line}", "\n".join(rest).removeprefix("or ")
    for found in _CONDITION.finditer(text):
        other = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}[found[2]]
        yield f"{found[1]} {other}", f"{text[: found.start(2)]}{other}{text[found.end(2) :]}"


class Wrong(NamedTuple):
    """A rule that was made wrong.

    Attributes:
        what: was done to it.
        left: the rules that there are now.
        plain: whether whatever fires shows it.
    """

    what: str
    left: list[Rule]
    plain: bool = False


def wrong_rules(rule: Rule, interval: Period) -> Iterator[Wrong]:
    """Each way to make a rule wrong.

    Args:
        rule: a right one.
        interval: between two evaluations, which cannot tell less from each other.
    """
    yield Wrong("no such rule", [], plain=True)
    for text, expression in wrong_expressions(rule["expr"]):
        yield Wrong(text, [{**rule, "expr": expression}])
    holds = Period(int((_MINUTES.fullmatch(rule["for"]) or ["", "0"])[1]) * 60_000)
    for changed in sorted({str(holds + interval), str(holds - interval)} - {str(holds)}):
        yield Wrong(f"for {changed}", [{**rule, "for": changed}])
    labels, notes = rule["labels"], rule["annotations"]
    for label in labels:
        yield Wrong(f"another {label}", [{**rule, "labels": {**labels, label: "other"}}], plain=True)
    for note in notes:
        yield Wrong(f"another {note}", [{**rule, "annotations": {**notes, note: f"{notes[note]}?"}}], plain=True)


UNNOTICED = {
    "DiskWillFillIn24h": {
        ">= 0 becomes -1.5": "only NaN is left out: no disk has less than no space",
        ">= 0 becomes 1.5": "nor does a byte more or less count",
        "< 0 becomes -1.5": "nor in a day",
        "< 0 becomes 1.5": "nor in a day",
    },
}
"""What is another way to say the same, and why."""


def alerts() -> Iterator[tuple[str, RuleTests, Alert, Rule]]:
    """Each alert with the tests of it, and its rule."""
    known = {
        (rule["alert"], rule["labels"]["severity"], rule["labels"].get("slo")): rule
        for file in rules(SETTINGS).values()
        for group in file["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    for tests in rule_tests(SETTINGS):
        for alert in dict.fromkeys(alert for _, alert, _ in tests.cases):
            if len(tests.rules) == 1:
                own = replace(tests, cases=tuple(case for case in tests.cases if case[1] is alert))
                slo = alert.constants.get("slo")
                name = " ".join(filter(None, (alert.name, slo, alert.severity if slo else None)))
                yield name, own, alert, known[alert.name, alert.severity, slo]


ALERTS = {name: (tests, rule) for name, tests, _, rule in alerts()}


def write(folder: Path, tests: RuleTests, left: list[Rule]) -> Path:
    """A directory with rules and their tests; returns the file of the tests."""
    (folder / "rules").mkdir(parents=True)
    (folder / "tests").mkdir()
    groups = {"groups": [{"name": "one", "rules": left}]}
    (folder / "rules" / f"{tests.rules[0]}.yml").write_text(json.dumps(groups), "utf-8")
    file = folder / "tests" / "tests.yml"
    file.write_text(json.dumps(tests.render(runbook_address(SETTINGS))), "utf-8")
    return file


@pytest.mark.parametrize("name", ALERTS)
def test_the_tests_notice_whatever_is_wrong_with_the_rule(name: str, tmp_path: Path) -> None:
    tests, rule = ALERTS[name]
    ways = list(wrong_rules(rule, tests.interval))
    if rule["labels"].get("slo", OBJECTIVES[0].name) != OBJECTIVES[0].name:
        # The alerts of all objectives are built alike: of the others only what differs is made wrong.
        tests = replace(tests, cases=tuple(case for case in tests.cases if ": just " in case[0].title))
        ways = [way for way in ways if not way.what.startswith("without ")]
    fires = next(case for case in tests.cases if any(look.fired for look in case[0].looks))
    right = write(tmp_path / "right", tests, [rule])
    wrong = {
        write(tmp_path / str(number), replace(tests, cases=(fires,)) if plain else tests, left): what
        for number, (what, left, plain) in enumerate(ways)
    }
    _, said = promtool("test", "rules", right, *wrong)
    passed = {Path(path) for path, word in re.findall(r"Unit Testing:  (\S+)\n  (\w+)", said) if word == "SUCCESS"}
    assert right in passed, said
    assert said.count("Unit Testing:") == len(wrong) + 1
    unnoticed = {text for file, text in wrong.items() if file in passed}
    assert unnoticed == UNNOTICED.get(name, {}).keys()
