"""The hooks in the CLI's settings: put in, found, taken out again, with every other byte as it was."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.claude.hook_settings import EVENTS, command, install, installed, remove
from pocket_agent.errors import ConfigurationError

OTHERS: Final = {
    "SessionStart": [{"matcher": "*", "hooks": [{"type": "command", "command": 'echo "start" \\ \u00e9'}]}],
    "Stop": [{"hooks": [{"type": "command", "command": "true", "timeout": 5}]}],
    "PermissionRequest": [],
}

LAYOUTS: Final = (
    "{}",
    "{}\n",
    " {\r\n}\r\n",
    "\ufeff{}\r\n",
    '\ufeff{"hooks": {"Stop": []}}',
    '{"model": "opus"}',
    '{\n    "model" : "opus" ,\n\t"hooks"\n:\n{ }\n}\n\n',
    '{"hooks": {}}',
    '{"hooks":{"Stop":[]}}',
    '{"hooks": {"Stop": []}, "x": {"hooks": [{}]}}',
    json.dumps({"hooks": OTHERS}),
    json.dumps({"hooks": OTHERS}, indent=2, ensure_ascii=False) + "\n",
    json.dumps({"a": '"hooks": {', "hooks": OTHERS, "z": [1, {"}": "]"}]}, indent="\t"),
)


def commands(folder: str = "/opt/pocket agent") -> Mapping[str, str]:
    """The commands of an installation in a folder."""
    relay = Path(folder, "hook_relay.py")
    return {event: command("/usr/bin/python3", relay, Path("/da'ta"), event) for event in EVENTS}


@pytest.mark.parametrize("text", LAYOUTS)
def test_removal_restores_every_byte(text: str) -> None:
    made = install(text, commands())
    assert installed(made) == commands()
    before, after = json.loads(text.removeprefix("\ufeff")), json.loads(made.removeprefix("\ufeff"))
    assert {key: value for key, value in after.items() if key != "hooks"} == {
        key: value for key, value in before.items() if key != "hooks"
    }
    for event, entries in before.get("hooks", {}).items():
        assert [entry for entry in after["hooks"][event] if "hook_relay" not in str(entry)] == entries
    assert remove(made) == text
    assert remove(text) == text


@given(
    st.dictionaries(st.text(), st.recursive(st.none() | st.text(), st.lists), max_size=4),
    st.dictionaries(st.sampled_from([*EVENTS, "PreToolUse"]), st.lists(st.just({"hooks": []}), max_size=2)),
    st.sampled_from([None, 2, "\t"]),
    st.booleans(),
)
def test_any_settings_are_restored(
    rest: dict[str, object], hooks: dict[str, object], indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps({**rest, "hooks": hooks} if hooks else rest, indent=indent, ensure_ascii=ascii_only)
    if isinstance(rest.get("hooks"), str | list):
        return
    made = install(text, commands())
    assert installed(made) == commands()
    assert remove(made) == text


def test_a_file_that_was_not_there_is_gone_again() -> None:
    made = install(None, commands())
    assert installed(made) == commands()
    assert remove(made) is None


@pytest.mark.parametrize("text", ["", "\n", " \r\n\t"])
def test_a_blank_file_is_blank_again(text: str) -> None:
    made = install(text, commands())
    assert installed(made) == commands()
    assert install(made, commands()) == made
    assert remove(made) == text


def test_another_installation_replaces_the_earlier_one() -> None:
    text = LAYOUTS[-1]
    made = install(install(text, commands("/old")), commands("/new"))
    assert installed(made) == commands("/new")
    assert remove(made) == text


def test_what_users_add_afterwards_stays() -> None:
    made = install('{"a": 1}', commands()).replace('"a": 1', '"a": 1,\n "b": 2')
    assert remove(made) == '{"a": 1,\n "b": 2}'
    made = install("{}", commands())[:-1] + ', "b": 2}'
    assert json.loads(remove(made) or "") == {"b": 2}


def test_settings_that_were_written_anew_lose_the_hooks_alone() -> None:
    before = {"model": "opus", "hooks": OTHERS}
    made = json.dumps(json.loads(install(json.dumps(before), commands())), indent=4)
    assert installed(made) == commands()
    rest = {event: entries for event, entries in OTHERS.items() if entries}
    assert json.loads(remove(made) or "") == {**before, "hooks": rest}
    alone = json.dumps(json.loads(install('{"a": 1}', commands())), indent=2)
    assert json.loads(remove(alone) or "") == {"a": 1}


def test_a_hook_that_a_user_adds_next_to_the_servers_own_stays() -> None:
    mine = {"type": "command", "command": "notify-send \ud800"}
    settings = json.loads(install("{}", commands()))
    settings["hooks"]["PermissionRequest"][0]["hooks"].append(mine)
    for text in (json.dumps(settings), json.dumps(settings, indent=2)):
        removed = remove(text)
        assert removed is not None
        hooks = json.loads(removed.encode())["hooks"]
        assert {event: entries for event, entries in hooks.items() if entries} == {
            "PermissionRequest": [{"hooks": [mine]}]
        }
        assert installed(install(text, commands("/new"))) == commands("/new")


@pytest.mark.parametrize("hooks", [5, True, "text", [5], None, {"command": "x"}])
def test_entries_that_are_not_hooks_stay(hooks: object) -> None:
    text = json.dumps({"hooks": {"Stop": [{"hooks": hooks}, 7]}})
    assert remove(install(text, commands())) == text


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1',
        '{"a": 1,}',
        "// a comment\n{}",
        "[]",
        '"text"',
        '{"hooks": []}',
        '{"hooks": {"Stop": {}}}',
        '{"hooks": {}, "hooks": {}}',
        "[" * 100_000,
    ],
)
def test_broken_settings_are_refused(text: str) -> None:
    for act in (installed, remove, lambda text: install(text, commands())):
        with pytest.raises(ConfigurationError, match="CLI's settings"):
            act(text)
