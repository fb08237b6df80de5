"""pocket_agent.settings.live: which settings a reload changes."""

from pathlib import Path

import pytest

from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import LoadedSettings, SettingChange, apply_reload, load_settings, merge_reload
from pocket_agent.settings.sections import RESTART, SETTINGS


def loaded(**flags: object) -> LoadedSettings:
    """Settings with these values (`__` for the dots of their keys)."""
    values = {name.replace("__", "."): value for name, value in flags.items()}
    return load_settings(config=None, environ={}, flags={"data.dir": Path("/data"), **values})


def test_each_setting_reaches_the_holders_of_its_section_and_no_other_changes() -> None:
    before, wrong = loaded().settings, []
    for key, setting in SETTINGS.items():
        running, other, mark = loaded(), loaded(), object()
        *sections, name = key.split(".")
        held, changed = running.settings, other.settings
        for section in sections:
            held, changed = getattr(held, section), getattr(changed, section)
        changed.__dict__[name] = mark
        apply_reload(running.settings, other.settings)
        same = all(one.value(running.settings) == one.value(before) for one in SETTINGS.values() if one != setting)
        if getattr(held, name) is not mark or not same:
            wrong.append(key)
    assert wrong == []


def test_only_settings_that_can_change_are_reloaded() -> None:
    running = loaded(limits__max_projects=5, server__port=8443)
    limits = running.settings.limits
    read = loaded(limits__max_projects=7, server__port=9443, alerts__error_rate=2, notifications__urls=["json://a/b"])
    merged, result = merge_reload(running, read)
    assert limits.max_projects == 5, "not before the reload is applied"
    apply_reload(running.settings, merged)
    assert (limits.max_projects, running.settings.server.port, running.settings.alerts.error_rate) == (7, 8443, 2)
    assert result.applied == (
        SettingChange("limits.max_projects", 5, 7),
        SettingChange("notifications.urls", [], ["********"]),
    )
    assert result.deferred == (SettingChange("server.port", 8443, 9443),)
    again, nothing = merge_reload(running, read)
    assert again == merged
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
