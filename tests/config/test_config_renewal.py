"""Which settings change while the server runs, and that they reach whoever holds a part of them."""

from pathlib import Path

import pytest

from pocket_agent.config import LoadedSettings, load_settings
from pocket_agent.config.document import render_settings_table
from pocket_agent.config.leaf import LEAVES
from pocket_agent.config.renewal import EFFECTS, Change, Effect, merge, renew
from pocket_agent.errors import ConfigurationError


def loaded(**flags: object) -> LoadedSettings:
    """Settings with these values (`__` for the dots of their keys)."""
    values = {name.replace("__", "."): value for name, value in flags.items()}
    return load_settings(config=None, environ={}, flags={"data.dir": Path("/data"), **values})


def test_every_setting_says_when_it_counts() -> None:
    assert list(EFFECTS.keys() - LEAVES.keys()) == [], "no such setting"
    assert list(LEAVES.keys() - EFFECTS.keys()) == [], "add it to config/renewal.py"


def test_the_documentation_says_it_of_every_setting() -> None:
    rows = [line for line in render_settings_table().splitlines() if line.startswith("| `")]
    cells = [line.replace("\\|", "").split("|") for line in rows]
    told = {cell[1].strip(" `"): cell[5].strip() for cell in cells}
    assert told == {key: effect.value for key, effect in EFFECTS.items()}


@pytest.mark.parametrize("key", LEAVES)
def test_what_is_put_in_place_is_all_of_it_and_only_that(key: str) -> None:
    running, other = loaded(), loaded()
    held = running.settings
    for section in key.split(".")[:-1]:
        held = getattr(held, section)
    leaf, name = LEAVES[key], key.rsplit(".", 1)[-1]
    place = other.settings
    for section in key.split(".")[:-1]:
        place = getattr(place, section)
    mark = object()
    place.__dict__[name] = mark
    renew(running.settings, other.settings)
    assert getattr(held, name) is mark, "who holds the section sees it"
    assert all(one.value(running.settings) == one.value(loaded().settings) for one in LEAVES.values() if one != leaf)


def test_only_what_can_change_is_taken_over() -> None:
    running = loaded(limits__max_projects=5, server__port=8443)
    limits = running.settings.limits
    read = loaded(limits__max_projects=7, server__port=9443, alerts__error_rate=2, notifications__urls=["json://a/b"])
    merged, renewal = merge(running, read)
    assert limits.max_projects == 5, "not before it is told to"
    renew(running.settings, merged)
    assert (limits.max_projects, running.settings.server.port, running.settings.alerts.error_rate) == (7, 8443, 2)
    assert renewal.applied == (
        Change("limits.max_projects", 5, 7),
        Change("notifications.urls", [], ["********"]),
    )
    assert renewal.deferred == (Change("server.port", 8443, 9443),)
    again, nothing = merge(running, read)
    assert again == merged
    assert (nothing.applied, len(nothing.deferred)) == ((), 1)


def test_what_cannot_stand_together_with_what_needs_a_restart_is_refused() -> None:
    running = loaded(claude__max_line="16MiB", claude__max_spool="64MiB")
    read = loaded(claude__max_line="1MiB", claude__max_spool="2MiB")
    with pytest.raises(ConfigurationError, match=r"claude\.max_line and claude\.max_spool.*restart"):
        merge(running, read)


def test_settings_of_which_the_server_makes_more_than_a_value_at_the_start_need_one() -> None:
    for key in (
        "server.port",
        "data.dir",
        "server.auth",
        "server.tls.enabled",
        "metrics.port",
        "traces.enabled",
        "demo",
    ):
        assert EFFECTS[key] is Effect.RESTART
