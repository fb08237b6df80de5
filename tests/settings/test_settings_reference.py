"""pocket_agent.settings.reference: docs/settings.md is generated from the declarations."""

from pathlib import Path

import pytest

from pocket_agent.settings.load import LEGACY_VARIABLES
from pocket_agent.settings.reference import render_settings_table
from pocket_agent.settings.sections import SETTINGS

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_settings_table(), "run: make generate"


def test_every_setting_and_variable_has_a_row() -> None:
    rows = [line for line in render_settings_table().splitlines() if line.startswith("| `")]
    assert len(rows) == len(SETTINGS)
    for setting, row in zip(SETTINGS.values(), rows, strict=True):
        cells = row.replace("\\|", "").split("|")
        assert cells[1].strip() == f"`{setting.key}`"
        assert cells[5].strip() == setting.effect.value
        assert f"`{setting.variable}`" in row
        assert setting.help in row
    for variable in LEGACY_VARIABLES:
        assert any(f"`{variable}`" in row for row in rows)


def test_the_page_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    page = render_settings_table()
    monkeypatch.setenv("HOME", "/somewhere/else")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/other")
    assert render_settings_table() == page
