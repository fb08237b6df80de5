"""pocket_agent.settings.live: which settings a reload changes."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import ValidationError

from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import LiveSettings, LoadedSettings, SettingChange, Settings, load_settings, merge_reload
from pocket_agent.settings.combinations import find_conflicts
from pocket_agent.settings.sections import RELOAD, RESTART, SETTINGS, Setting


def loaded(**flags: object) -> LoadedSettings:
    """Settings with these values (`__` for the dots of their keys)."""
    values = {name.replace("__", "."): value for name, value in flags.items()}
    return load_settings(config=None, environ={}, flags={"data.dir": Path("/data"), **values})


PLAIN = loaded()
CHANGED = [
    *("yes", "no", "2", "0.96", "0.5", "5m", "30s", "2MiB", "::1", "/x", "a", "a@b", "b:1", "#b", "https://b.example"),
    *("10.0.0.0/8", "text", "debug", "forwarded", "systemd", "full", "always", "data", "plan", "user", "json://b"),
    "A=b",
]
"""Texts of which each setting accepts one that is not its default."""


def other(key: str) -> LoadedSettings:
    """The defaults but for one setting."""
    for text in CHANGED:
        # Not `load_settings`, which refuses a setting that conflicts with another's default.
        try:
            found = Settings.model_validate(nested(key, text))
        except ValidationError:
            continue
        if SETTINGS[key].value(found) != SETTINGS[key].value(PLAIN.settings):
            return LoadedSettings(found, MappingProxyType({**PLAIN.sources, key: "f:1"}), None)
    raise AssertionError(f"no text for {key}")


def nested(key: str, text: str) -> dict[str, object]:
    """The settings of `PLAIN` and one more, for `Settings.model_validate`."""
    tree: dict[str, Any] = {"data": {"dir": "/data"}}
    *sections, name = key.split(".")
    section = tree
    for part in sections:
        section = section.setdefault(part, {})
    section[name] = text
    return tree


def reported(setting: Setting) -> list[list[str]]:
    """The changes that are applied and deferred when this setting alone is another."""
    return [[setting.key] if setting.effect is effect else [] for effect in (RELOAD, RESTART)]


def test_a_reload_takes_each_setting_that_does_not_need_a_restart() -> None:
    wrong = []
    for key, setting in SETTINGS.items():
        read = other(key)
        if list(find_conflicts(read.settings)):
            continue
        merged, result = merge_reload(PLAIN, read)
        expected = PLAIN if setting.effect is RESTART else read
        changed = [[change.key for change in changes] for changes in (result.applied, result.deferred)]
        if (merged.settings, merged.sources, changed) != (expected.settings, expected.sources, reported(setting)):
            wrong.append((key, changed))
    assert wrong == []


def test_a_reload_replaces_the_snapshot_and_changes_none() -> None:
    running = loaded(limits__max_projects=5, server__port=8443)
    live, before = LiveSettings(running), running.settings
    read = loaded(limits__max_projects=7, server__port=9443, alerts__error_rate=2, notifications__urls=["json://a/b"])
    merged, result = merge_reload(live.loaded, read)
    assert live.current is before, "not before the reload is applied"
    live.loaded = merged
    now = live.current
    assert (now.limits.max_projects, now.server.port, now.alerts.error_rate) == (7, 8443, 2)
    assert before.limits.max_projects == 5
    assert result.applied == (
        SettingChange("limits.max_projects", 5, 7),
        SettingChange("notifications.urls", [], ["********"]),
    )
    assert result.deferred == (SettingChange("server.port", 8443, 9443),)
    again, nothing = merge_reload(merged, read)
    assert again.settings == merged.settings
    assert (nothing.applied, len(nothing.deferred)) == ((), 1)


def test_a_conflict_with_a_setting_that_needs_a_restart_is_refused() -> None:
    running = loaded(claude__max_line="16MiB", claude__max_spool="64MiB")
    read = loaded(claude__max_line="1MiB", claude__max_spool="2MiB")
    with pytest.raises(ConfigurationError, match=r"claude\.max_line and claude\.max_spool.*restart"):
        merge_reload(running, read)


def test_settings_that_the_server_uses_at_the_start_need_a_restart() -> None:
    for key in (
        "server.port",
        "data.dir",
        "server.auth",
        "server.tls.enabled",
        "metrics.port",
        "traces.enabled",
        "demo",
    ):
        assert SETTINGS[key].effect is RESTART
