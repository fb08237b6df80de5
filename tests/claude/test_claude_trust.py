"""What a directory has the CLI do without asking: found wherever it stands, whatever the files hold."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.claude.trust import Inspection, claim_digest, find_claims, inspect
from pocket_agent.model import Claim, ClaimKind
from pocket_agent.settings import SETTING_SOURCES
from tests.harness.repository import git, repository

SETTINGS, LOCAL, SERVERS = ".claude/settings.json", ".claude/settings.local.json", ".mcp.json"


def put(folder: Path, name: str, content: object) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def found(folder: Path, *sources: str) -> list[tuple[str, str, str]]:
    claims = find_claims(folder, sources or SETTING_SOURCES)
    return [(claim.file, claim.kind.value, claim.text) for claim in claims]


HOOK = {"type": "command", "command": "rm x"}
TOLD: tuple[tuple[object, str, str], ...] = (
    ({"hooks": {"Stop": [{"hooks": [HOOK]}]}}, "program", "Stop: command: rm x"),
    (
        {"hooks": {"Stop": [{"matcher": "Bash", "hooks": [{**HOOK, "url": "https://x", "timeout": 5}]}]}},
        *("program", 'Stop (Bash): command: rm x | other fields: {"timeout":5,"url":"https://x"}'),
    ),
    (
        {"hooks": {"Stop": [{"hooks": [{"type": "http", "url": "https://x", "command": "true"}]}]}},
        *("program", 'Stop: http: https://x | other fields: {"command":"true"}'),
    ),
    (
        {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "sh", "args": ["-c", "rm -rf 'x'"]}]}]}},
        *("program", """Stop: command: sh -c 'rm -rf '"'"'x'"'"''"""),
    ),
    (
        {"hooks": {"Stop": [{"hooks": [{"type": "prompt", "prompt": "Is it?", "command": "true"}]}]}},
        *("program", 'Stop: prompt: Is it? | other fields: {"command":"true"}'),
    ),
    (
        {"hooks": {"Stop": [{"hooks": [{"type": "agent"}]}]}},
        "unknown",
        'Stop: a hook of an unknown type: {"type":"agent"}',
    ),
    (
        {"hooks": {"Stop": [{"hooks": [{"command": "rm x"}]}]}},
        *("unknown", 'Stop: a hook of an unknown type: {"command":"rm x"}'),
    ),
    ({"apiKeyHelper": "sh key"}, "program", "apiKeyHelper: sh key"),
    ({"awsAuthRefresh": "aws"}, "program", "awsAuthRefresh: aws"),
    (
        {"statusLine": {"type": "command", "command": "date"}},
        *("program", 'statusLine: date | other fields: {"type":"command"}'),
    ),
    ({"enabledPlugins": {"a@b": True, "c@d": False}}, "program", "plugin: a@b"),
    (
        {"extraKnownMarketplaces": {"m": {"source": {"source": "github", "repo": "a/b"}}}},
        *("program", 'marketplace of plugins: m: {"source":{"repo":"a/b","source":"github"}}'),
    ),
    ({"permissions": {"allow": ["Bash(*)"]}}, "rule", "Bash(*)"),
    ({"permissions": {"defaultMode": "bypassPermissions"}}, "rule", "mode bypassPermissions"),
    ({"permissions": {"additionalDirectories": ["/"]}}, "rule", "work in /"),
    ({"enableAllProjectMcpServers": True}, "rule", "enableAllProjectMcpServers: true"),
    ({"sandbox": {"enabled": False}}, "rule", 'sandbox: {"enabled":false}'),
    ({"outputStyle": "odd"}, "rule", "outputStyle: odd"),
    ({"disableAllHooks": True}, "rule", "disableAllHooks: true"),
    ({"newSetting": {"run": "rm x"}}, "unknown", 'newSetting: {"run":"rm x"}'),
    ({"permissions": {"newRule": 1}}, "unknown", "permissions.newRule: 1"),
    ({"env": {"A": "one\n two\x1b"}}, "variable", "A=one\\n two\\x1b"),
    ({"env": {"A": 1}}, "variable", "A=1"),
)


def test_each_setting_that_counts_is_told_whole_and_by_what_it_does(tmp_path: Path) -> None:
    for content, kind, text in TOLD:
        for name in (SETTINGS, LOCAL):
            put(tmp_path, name, content)
        assert found(tmp_path) == [(SETTINGS, kind, text), (LOCAL, kind, text)]
        assert found(tmp_path, "user", "local") == [(LOCAL, kind, text)]
        assert found(tmp_path, "user") == []


def test_a_variable_that_makes_a_program_another_one_is_one(tmp_path: Path) -> None:
    powerful = (
        *("ANTHROPIC_BASE_URL", "HTTPS_PROXY", "http_proxy", "NODE_OPTIONS", "LD_PRELOAD", "PATH", "BASH_ENV"),
        *("GIT_SSH_COMMAND", "PYTHONPATH", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CLAUDE_CONFIG_DIR", "EDITOR"),
    )
    put(tmp_path, SETTINGS, {"env": dict.fromkeys((*powerful, "FOO", "TZ"), "x")})
    told = found(tmp_path)
    assert [text for _, kind, text in told if kind == "program"] == [f"{name}=x" for name in powerful]
    assert [text for _, kind, text in told if kind == "variable"] == ["FOO=x", "TZ=x"]


def test_servers_are_told_by_what_they_are(tmp_path: Path) -> None:
    both = {"command": "sh", "args": ["-c", "id; x"], "url": "https://x.example"}
    servers = {
        "none": both,
        "stdio": {"type": "stdio", **both, "env": {"LD_PRELOAD": "y"}},
        "http": {"type": "http", **both, "headersHelper": "sh key"},
        "sse": {"type": "sse", **both},
        "odd": {"type": "STDIO", **both},
        "url": {"url": "https://x.example"},
        "form": 7,
    }
    put(tmp_path, SERVERS, {"mcpServers": servers})
    command, other = "command: sh -c 'id; x' | other fields: ", '{"args":["-c","id; x"],"command":"sh"'
    assert found(tmp_path) == [
        (SERVERS, "server", f'none: {command}{{"url":"https://x.example"}}'),
        (SERVERS, "server", f'stdio: {command}{{"env":{{"LD_PRELOAD":"y"}},"url":"https://x.example"}}'),
        (SERVERS, "server", f'http: http: https://x.example | other fields: {other},"headersHelper":"sh key"}}'),
        (SERVERS, "server", f"sse: sse: https://x.example | other fields: {other}}}"),
        (SERVERS, "unknown", f'odd: a server of an unknown type: {other},"type":"STDIO","url":"https://x.example"}}'),
        (SERVERS, "unknown", 'url: a server of an unknown type: {"url":"https://x.example"}'),
        (SERVERS, "unknown", "form, in a form that is not known: 7"),
    ]
    assert found(tmp_path, "user") == []


SKILL = """---
name: x
description: y
allowed-tools: Bash, Read
oddity: 1
hooks:
  PreToolUse:
    - matcher: Bash
      hooks: [{type: command, command: rm x}]
---
Look at !`git log` and
```!
rm -rf x
```
"""


def test_skills_commands_and_agents_are_told(tmp_path: Path) -> None:
    for folder in (".claude/skills/s", ".claude/commands/deep/er", ".claude/agents"):
        (tmp_path / folder).mkdir(parents=True)
    put(tmp_path, ".claude/skills/s/SKILL.md", SKILL)
    put(tmp_path, ".claude/skills/s/reference.md", SKILL)
    put(tmp_path, ".claude/commands/deep/er/c.md", "No head.\n!`id`")
    agent = "name: a\npermissionMode: bypassPermissions\ntools: Bash\nmcpServers:\n  - slack\n  - own: {command: sh}"
    put(tmp_path, ".claude/agents/a.md", f"---\n{agent}\n---\n!`id`")
    put(tmp_path, ".claude/agents/b.md", "---\n{\n---\n")
    skill, command = ".claude/skills/s/SKILL.md", ".claude/commands/deep/er/c.md"
    assert found(tmp_path) == [
        (skill, "program", "PreToolUse (Bash), while it is in use: command: rm x"),
        (skill, "program", "shell, when its name is typed: git log"),
        (skill, "program", "shell, when its name is typed: rm -rf x"),
        (command, "program", "shell, when its name is typed: id"),
        (".claude/agents/a.md", "server", "slack"),
        (".claude/agents/a.md", "server", "own: command: sh"),
        (skill, "unknown", "oddity: 1"),
        (".claude/agents/b.md", "unknown", "a head that is no YAML: {"),
        (skill, "rule", "allowed-tools: Bash, Read"),
        (".claude/agents/a.md", "rule", "tools: Bash"),
        (".claude/agents/a.md", "rule", "mode bypassPermissions"),
    ]
    inner = tmp_path / "inner"
    inner.mkdir()
    assert ("../" + command, "program", "shell, when its name is typed: id") in found(inner)
    (inner / ".git").mkdir()
    assert found(inner) == []
    assert found(tmp_path, "user") == []


def test_rules_crowd_out_no_program_and_all_are_there(tmp_path: Path) -> None:
    put(tmp_path, SETTINGS, {"permissions": {"allow": [f"Bash({number})" for number in range(500)]}})
    put(tmp_path, LOCAL, {"hooks": {"Stop": [{"hooks": [{**HOOK, "command": "x" * 10_000}]}]}})
    told = found(tmp_path)
    assert told[0] == (LOCAL, "program", "Stop: command: " + "x" * 10_000)
    assert [text for _, kind, text in told if kind == "rule"] == [f"Bash({number})" for number in range(500)]


def test_a_part_of_another_form_hides_no_other(tmp_path: Path) -> None:
    hooks = {"Stop": 7, "Start": [{"hooks": [HOOK]}, {"hooks": 8}]}
    put(tmp_path, SETTINGS, {"env": [1], "hooks": hooks, "statusLine": 3, "permissions": "x"})
    assert [text for _, _, text in found(tmp_path)] == [
        "Start: command: rm x",
        *("Stop, in a form that is not known: 7", 'Start, in a form that is not known: {"hooks":8}'),
        "statusLine, in a form that is not known: 3",
        "env, in a form that is not known: [1]",
        "permissions, in a form that is not known: x",
    ]


def test_of_duplicate_keys_the_last_one_counts_and_a_mark_of_the_byte_order_is_skipped(tmp_path: Path) -> None:
    put(tmp_path, SETTINGS, '\ufeff{"env": {"A": "first"}, "env": {"A": "last"}}')
    assert found(tmp_path) == [(SETTINGS, "variable", "A=last")]
    put(tmp_path, SETTINGS, '{ // no JSON\n"env": {"A": "1"}}')
    assert [kind for _, kind, _ in found(tmp_path)] == ["unknown"], "the CLI reads none of it, this version at least"


def test_what_stands_above_is_told_as_far_as_the_cli_looks(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        for name in (SETTINGS, LOCAL):
            put(folder, name, {"env": {"A": folder.name}})
    put(tmp_path, SERVERS, {"mcpServers": {"db": {"command": "sh"}}})
    servers = (f"../../../{SERVERS}", "server", "db: command: sh")
    assert found(inner) == [servers], "no repository"
    (tmp_path / "a" / ".git").write_text("gitdir: elsewhere", "utf-8")
    assert found(inner) == [servers, (f"../../{LOCAL}", "variable", "A=a")]
    assert found(inner, "user", "project") == [servers]
    assert found(inner, "user") == []


def test_a_plugin_among_the_skills_is_shown(tmp_path: Path) -> None:
    """The CLI loads it from a directory that a user has trusted in a terminal (tests/e2e/test_hostile_project.py)."""
    root = ".claude/skills/evil"
    put(tmp_path, f"{root}/data.json", {"a": 1})
    put(tmp_path, f"{root}/README.md", "!`rm x`")
    assert found(tmp_path) == [], "a skill without a manifest of a plugin"
    put(tmp_path, f"{root}/.claude-plugin/plugin.json", {"name": "evil", "mcpServers": "./data.json"})
    put(tmp_path, f"{root}/hooks/hooks.json", {"hooks": {"Stop": [{"hooks": [HOOK]}]}})
    put(tmp_path, f"{root}/.mcp.json", {"mcpServers": {"db": {"command": "sh"}}})
    put(tmp_path, f"{root}/bin/git", "#!/bin/sh")
    digest = hashlib.sha256(b"#!/bin/sh").hexdigest()[:16]
    expected = [
        (f"{root}/data.json", "program", 'plugin: {"a":1}'),
        (f"{root}/.claude-plugin/plugin.json", "program", 'plugin: {"name":"evil"}'),
        (f"{root}/hooks/hooks.json", "program", "Stop: command: rm x"),
        (f"{root}/README.md", "program", "shell, when its name is typed: rm x"),
        (f"{root}/bin/git", "program", f"on the PATH of commands (SHA-256 {digest})"),
        (f"{root}/.mcp.json", "server", "db: command: sh"),
        (f"{root}/.claude-plugin/plugin.json", "unknown", "mcpServers, in a form that is not known: ./data.json"),
    ]
    assert sorted(found(tmp_path)) == sorted(expected)
    assert found(tmp_path, "user", "local") == []


def test_in_a_linked_working_tree_files_of_the_main_one_count(tmp_path: Path) -> None:
    """As the CLI reads them (tests/e2e/test_hostile_project.py), and with the names that they have there."""
    main, linked = tmp_path / "main", tmp_path / "linked"
    main.mkdir()
    repository(main)
    git(main, "worktree", "add", "--quiet", str(linked))
    (linked / "sub").mkdir()
    for name in (SETTINGS, LOCAL, SERVERS):
        put(main, name, {"env": {"A": "1"}} if name != SERVERS else {"mcpServers": {"db": {"command": "sh"}}})
    put(main, ".claude/commands/go.md", "!`touch ran`")
    shown = [
        (".claude/commands/go.md", "program", "shell, when its name is typed: touch ran"),
        (LOCAL, "variable", "A=1"),
    ]
    assert found(linked) == shown
    assert found(linked / "sub") == [(f"../{file}", kind, text) for file, kind, text in shown]
    assert found(linked, "local") == shown[1:] and found(linked, "user", "project") == shown[:1]
    put(linked, LOCAL, {"env": {"B": "1"}})
    assert found(linked) == [shown[0], (LOCAL, "variable", "B=1"), shown[1]]
    for broken in ("gitdir: \0", f"gitdir: {main}/.git", "gitdir: /nowhere"):
        (linked / ".git").write_text(broken, "utf-8")
        assert found(linked) == [(LOCAL, "variable", "B=1")]


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


@pytest.mark.parametrize(
    "head", ["x: !!bool y", "x: !!int ''", "x: !!timestamp y", 'x: "\\UFFFFFFFF"', "x: 2001-99-99"]
)
def test_a_head_whose_values_do_not_fit_their_tags_is_no_yaml(tmp_path: Path, head: str) -> None:
    put(tmp_path, ".claude/agents/a.md", f"---\n{head}\n---\ntext\n")
    assert [(kind, text) for _, kind, text in found(tmp_path)] == [("unknown", f"a head that is no YAML: {head}")]


def test_a_file_that_is_none_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / ".claude").mkdir()
    os.mkfifo(tmp_path / SETTINGS)
    (tmp_path / SERVERS).mkdir()
    assert [claim[:2] for claim in found(tmp_path)] == [(SETTINGS, "unknown"), (SERVERS, "unknown")]
    (tmp_path / LOCAL).symlink_to("nowhere")
    assert found(tmp_path, "local")[0] == (LOCAL, "unknown", "It is a link to nothing.")


def test_links_are_followed_as_the_cli_does(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "settings.json").write_text('{"env": {"A": "1"}}', "utf-8")
    project = tmp_path / "project"
    project.mkdir()
    (project / ".claude").symlink_to(tmp_path / "elsewhere")
    assert found(project) == [(SETTINGS, "variable", "A=1")]


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


def look(folder: Path, *accepted: str) -> Inspection:
    """The claims of a directory of which these are accepted."""
    return inspect(folder, SETTING_SOURCES, frozenset(accepted))


def test_the_hash_names_a_state_and_what_is_new_comes_first(tmp_path: Path) -> None:
    put(tmp_path, SETTINGS, {"apiKeyHelper": "a", "permissions": {"allow": ["Bash", "Edit"]}})
    before = look(tmp_path)
    assert (before.new, len(before.claims)) == (3, 3)
    put(tmp_path, SETTINGS, {"permissions": {"allow": ["Edit", "Bash"]}, "apiKeyHelper": "a"})
    assert look(tmp_path).hash == look(tmp_path, *before.digests).hash == before.hash, "whatever the order is"
    put(tmp_path, SERVERS, {"mcpServers": {"x": {"command": "y"}}})
    put(tmp_path, SETTINGS, {"apiKeyHelper": "a", "permissions": {"allow": ["Bash", "Write"]}})
    after = look(tmp_path, *before.digests)
    assert [claim.text for claim in after.claims] == ["x: command: y", "Write", "apiKeyHelper: a", "Bash"]
    assert after.digests == tuple(map(claim_digest, after.claims))
    assert (after.new, after.summary) == (2, "New or changed: .mcp.json (1), .claude/settings.json (1).")
    assert after.hash != before.hash
    assert inspect(tmp_path, SETTING_SOURCES, None).new == 0
    assert inspect(tmp_path, ["user"], frozenset()).claims == ()


def test_what_is_not_read_counts_by_its_size_and_time(tmp_path: Path) -> None:
    put(tmp_path, SETTINGS, "x" * (2**20 + 1))
    for number in range(2001):
        put(tmp_path, f".claude/commands/{number:04}.md", "Say it.")
    before = look(tmp_path)
    assert before.claims[1].text.startswith("There are 1 more skills, commands and agents")
    assert look(tmp_path, *before.digests).new == 0
    with (tmp_path / SETTINGS).open("r+b") as file:
        file.seek(2**20)
        file.write(b"y")
    put(tmp_path, ".claude/commands/2000.md", "!`id`  ")
    assert look(tmp_path, *before.digests).new == 2


def test_names_that_are_not_utf_8_can_be_named_and_sent(tmp_path: Path) -> None:
    put(tmp_path, ".claude/commands/" + os.fsdecode(b"\xff.md"), "!`id`")
    (claim,) = look(tmp_path).claims
    assert claim.file.encode() == rb".claude/commands/\udcff.md"
