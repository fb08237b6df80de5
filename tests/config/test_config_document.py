"""pocket_agent.config.document, and that docs/settings.md is what it renders."""

from pathlib import Path

import pytest

from pocket_agent.config.document import render_settings_table
from pocket_agent.config.environment import LEGACY_KEYS
from pocket_agent.config.leaf import LEAVES

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_settings_table(), (
        "run: python -m pocket_agent.config.document > docs/settings.md"
    )


def test_every_setting_and_variable_has_a_row() -> None:
    rows = [line for line in render_settings_table().splitlines() if line.startswith("| `")]
    assert len(rows) == len(LEAVES)
    for leaf, row in zip(LEAVES.values(), rows, strict=True):
        assert row.startswith(f"| `{leaf.key}` |")
        assert f"`{leaf.variable}`" in row
        assert leaf.help in row
    for variable in LEGACY_KEYS:
        assert any(f"`{variable}`" in row for row in rows)


def test_the_page_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    page = render_settings_table()
    monkeypatch.setenv("HOME", "/somewhere/else")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/other")
    assert render_settings_table() == page
