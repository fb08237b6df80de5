"""Figures in words are those of Prometheus's own templates."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pocket_agent.monitoring.ruletest.wording import (
    humanize,
    humanize_binary,
    humanize_duration,
    humanize_percentage,
)
from tests.monitoring.rule_sample import promtool

VALUES = (
    0.0, 1.0, 5.0, 999.0, 1000.0, 1234.5, 20.705, 1e6, 2.5e13, 0.5, 0.1, 0.0204, 1e-7, -0.25, -3.0, -1500.0,
    59.94, 60.0, 61.5, 3599.0, 3661.0, 86399.0, 90061.0, 1209599.0, 1023.0, 1024.0, 2.0**30 - 1, 2.0**30, 5e15,
    0.9009765625, 12.345, -90061.0,
)  # fmt: skip
FUNCTIONS = {
    "humanize": humanize,
    "humanize1024": humanize_binary,
    "humanizeDuration": humanize_duration,
    "humanizePercentage": humanize_percentage,
}


@pytest.mark.parametrize(("name", "function"), FUNCTIONS.items(), ids=list(FUNCTIONS))
def test_the_words_are_prometheus_own(name: str, function: Callable[[float], str], tmp_path: Path) -> None:
    text = f"{{{{ $value | {name} }}}}"
    rule = {"alert": "A", "expr": "x", "annotations": {"text": text}}
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}), "utf-8")
    fired = [
        {"exp_labels": {"number": str(number)}, "exp_annotations": {"text": function(value)}}
        for number, value in enumerate(VALUES)
    ]
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f'x{{number="{number}"}}', "values": repr(value)} for number, value in enumerate(VALUES)
        ],
        "alert_rule_test": [{"eval_time": "0s", "alertname": "A", "exp_alerts": fired}],
    }
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": ["rules.yml"], "tests": [test]}), "utf-8")
    status, said = promtool("test", "rules", file)
    assert status == 0, said
