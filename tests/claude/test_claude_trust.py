"""What a directory has the CLI do without asking: found wherever it stands, whatever the files hold."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.claude.trust import MAX_CLAIMS, find_claims
from pocket_agent.config.agent import SETTING_SOURCES
from pocket_agent.model import Claim, ClaimKind

SETTINGS, LOCAL, SERVERS = ".claude/settings.json", ".claude/settings.local.json", ".mcp.json"


def put(folder: Path, name: str, content: object) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def found(folder: Path, *sources: str) -> list[tuple[str, str, str]]:
    claims = find_claims(folder, sources or SETTING_SOURCES)
    return [(claim.file, claim.kind.value, claim.text) for claim in claims]


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        ({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "rm x"}]}]}}, "program", "Stop: rm x"),
        ({"hooks": {"Stop": [{"hooks": [{"type": "prompt", "prompt": "Is it?"}]}]}}, "program", "Stop: Is it?"),
        ({"hooks": {"Stop": [{"hooks": [{"type": "agent"}]}]}}, "program", "Stop: agent"),
        ({"apiKeyHelper": "sh key"}, "program", "apiKeyHelper: sh key"),
        ({"awsAuthRefresh": "aws"}, "program", "awsAuthRefresh: aws"),
        ({"statusLine": {"type": "command", "command": "date"}}, "program", "statusLine: date"),
        ({"enabledPlugins": {"a@b": True, "c@d": False}}, "program", "plugin: a@b"),
        ({"permissions": {"allow": ["Bash(*)"]}}, "rule", "Bash(*)"),
        ({"permissions": {"defaultMode": "bypassPermissions"}}, "rule", "mode bypassPermissions"),
        ({"permissions": {"additionalDirectories": ["/"]}}, "rule", "work in /"),
        ({"env": {"ANTHROPIC_BASE_URL": "http://x"}}, "variable", "ANTHROPIC_BASE_URL=http://x"),
        ({"env": {"A": "one\n two"}}, "variable", "A=one two"),
    ],
)
def test_each_setting_that_counts_is_told(tmp_path: Path, content: object, kind: str, text: str) -> None:
    for name in (SETTINGS, LOCAL):
        put(tmp_path, name, content)
    assert found(tmp_path) == [(SETTINGS, kind, text), (LOCAL, kind, text)]
    assert found(tmp_path, "user", "local") == [(LOCAL, kind, text)]
    assert found(tmp_path, "user") == []


def test_servers_are_told_unless_only_the_users_settings_count(tmp_path: Path) -> None:
    servers = {"db": {"command": "sh", "args": ["-c", "id"]}, "far": {"type": "http", "url": "https://x.example"}}
    put(tmp_path, SERVERS, {"mcpServers": servers})
    assert found(tmp_path) == [(SERVERS, "server", "db: sh -c id"), (SERVERS, "server", "far: https://x.example")]
    assert found(tmp_path, "user") == []


def test_what_stands_above_is_told_as_far_as_the_cli_looks(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        for name in (SETTINGS, LOCAL):
            put(folder, name, {"env": {"A": folder.name}})
    put(tmp_path, SERVERS, {"mcpServers": {"db": {"command": "sh"}}})
    servers = (f"../../../{SERVERS}", "server", "db: sh")
    assert found(inner) == [servers], "no repository"
    (tmp_path / "a" / ".git").write_text("gitdir: elsewhere", "utf-8")
    assert found(inner) == [(f"../../{LOCAL}", "variable", "A=a"), servers]
    assert found(inner, "user", "project") == [servers]
    assert found(inner, "user") == []


def test_what_is_harmless_is_not_told(tmp_path: Path) -> None:
    put(tmp_path, SETTINGS, {"model": "opus", "permissions": {"deny": ["Bash"]}, "hooks": {}, "env": {}})
    put(tmp_path, SERVERS, {"mcpServers": {}})
    (tmp_path / "CLAUDE.md").write_text("Be kind.", "utf-8")
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    "content", ["{", "[]", '"x"', '{"hooks": 1}', '{"hooks": {"Stop": 1}}', '{"env": []}', "[" * 100_000, " " * 2**21]
)
def test_what_cannot_be_read_is_told(tmp_path: Path, content: str) -> None:
    put(tmp_path, SETTINGS, content)
    put(tmp_path, LOCAL, {"env": {"A": "1"}})
    assert [claim[1] for claim in found(tmp_path)] == ["unknown", "variable"]


def test_a_file_that_is_none_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / ".claude").mkdir()
    os.mkfifo(tmp_path / SETTINGS)
    (tmp_path / SERVERS).mkdir()
    assert [claim[:2] for claim in found(tmp_path)] == [(SETTINGS, "unknown"), (SERVERS, "unknown")]


def test_links_are_followed_as_the_cli_does(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "settings.json").write_text('{"env": {"A": "1"}}', "utf-8")
    project = tmp_path / "project"
    project.mkdir()
    (project / ".claude").symlink_to(tmp_path / "elsewhere")
    assert found(project) == [(SETTINGS, "variable", "A=1")]


def test_there_is_an_end_to_it(tmp_path: Path) -> None:
    put(tmp_path, SETTINGS, {"env": {f"A{number}": "x" * 1_000 for number in range(500)}})
    claims = find_claims(tmp_path, SETTING_SOURCES)
    assert len(claims) == MAX_CLAIMS
    assert max(len(claim.text) for claim in claims) == 300
    assert claims[-1].text == "There are 451 more."


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("hooks", "permissions", "env", "statusLine", "apiKeyHelper", "enabledPlugins", "mcpServers")


@given(content=st.dictionaries(st.sampled_from(NAMES), values))
def test_whatever_they_hold_there_is_an_answer(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    folder = tmp_path_factory.mktemp("brought")
    for name in (SETTINGS, SERVERS):
        put(folder, name, content)
    for claim in find_claims(folder, SETTING_SOURCES):
        assert isinstance(claim, Claim)
        assert isinstance(claim.kind, ClaimKind)
        assert "\n" not in claim.text
