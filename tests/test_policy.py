"""What clients may choose for an agent."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_agent.errors import ConfigurationError, ForbiddenError, InvalidPathError, PocketAgentError
from pocket_agent.model import ExecuteOptions
from pocket_agent.policy import Policy
from pocket_agent.settings import load_settings
from tests.harness.mortal import as_mortal

INLINE = json.dumps({"mcpServers": {"x": {"command": "/bin/true"}}})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project inside a root, and things outside of it."""
    for name in ("code/project", "code/other", "outside", "data"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("code/mcp.json", "code/project/mcp.json", "outside/mcp.json", "data/mcp.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def policy(tree: Path, **changed: object) -> Policy:
    """One whose projects are in `code`, unless the test says otherwise."""
    flags: dict[str, object] = {"data.dir": tree / "data", "projects.allowed_roots": [tree / "code"]}
    flags |= {name.replace("__", "."): value for name, value in changed.items()}
    return Policy(load_settings(config=None, environ={}, flags=flags).settings)


async def admit(policy_: Policy, tree: Path, **options: Any) -> ExecuteOptions:
    """What becomes of these options in the project."""
    return await policy_.admit(ExecuteOptions(**options), str(tree / "code" / "project"))


async def refused(policy_: Policy, tree: Path, **options: Any) -> str:
    """The code with which these are refused."""
    with pytest.raises(PocketAgentError) as caught:
        await admit(policy_, tree, **options)
    return caught.value.code


async def test_by_default_only_what_skips_approvals_is_refused(tree: Path) -> None:
    open_ = policy(tree, projects__allowed_roots=[])
    for mode in ("default", "acceptEdits", "plan", "auto", "dontAsk"):
        assert (await admit(open_, tree, permission_mode=mode)).permission_mode == mode
    chosen = await admit(open_, tree, allowed_tools=("Bash", "Edit"), mcp_config=INLINE)
    assert (chosen.allowed_tools, chosen.mcp_config, chosen.disallowed_tools) == (("Bash", "Edit"), INLINE, ())
    assert await refused(open_, tree, dangerously_skip_permissions=True) == "FORBIDDEN"
    assert await refused(open_, tree, permission_mode="bypassPermissions") == "FORBIDDEN"


async def test_what_skips_approvals_can_be_allowed(tree: Path) -> None:
    open_ = policy(tree, claude__allow_dangerously_skip_permissions=True)
    assert (await admit(open_, tree, dangerously_skip_permissions=True)).dangerously_skip_permissions
    assert (await admit(open_, tree, permission_mode="bypassPermissions")).permission_mode == "bypassPermissions"


async def test_only_some_modes_may_be_chosen_and_the_servers_own_always(tree: Path) -> None:
    strict = policy(tree, claude__permission_modes=["default", "plan"], claude__permission_mode="acceptEdits")
    assert await refused(strict, tree, permission_mode="auto") == "FORBIDDEN"
    for mode in ("default", "plan", "acceptEdits", None):
        await admit(strict, tree, permission_mode=mode)


@pytest.mark.parametrize(
    ("tool", "may"),
    [
        ("Read", True),
        ("Read(src/**)", True),
        ("Bash(git log:*)", True),
        ("Bash(git status)", False),
        ("Bash", False),
        ("Bash(git log:*),Bash", False),
        ("Bash(git log:*) Bash", False),
        ("Read,Bash", False),
        ("Read Bash", False),
        ("Read\nBash", False),
        ("Read(x)Bash(y)", False),
        ("read", False),
        ("*", False),
        ("", False),
        (" Read", False),
    ],
)
async def test_only_some_tools_may_be_used_without_asking(tree: Path, tool: str, may: bool) -> None:
    strict = policy(tree, claude__client_tools=["Read", "Bash(git log:*)"])
    if may:
        assert (await admit(strict, tree, allowed_tools=(tool,))).allowed_tools == (tool,)
    else:
        assert await refused(strict, tree, allowed_tools=("Read", tool)) == "FORBIDDEN"


@given(st.text(alphabet="ReadBash(), \n:*", max_size=20))
async def test_no_spelling_smuggles_a_tool_in(tool: str) -> None:
    strict = policy(Path("/nowhere"), claude__client_tools=["Read"], projects__allowed_roots=[])
    try:
        await strict.admit(ExecuteOptions(allowed_tools=(tool,)), "/usr")
    except ForbiddenError:
        return
    assert tool == "Read" or (tool.startswith("Read(") and tool.endswith(")") and tool.count("(") == 1)


REMEMBERED = [
    # settings, what the CLI suggests, whether it may stand
    ({}, {"type": "setMode", "mode": "acceptEdits"}, True),
    ({}, {"type": "setMode", "mode": "bypassPermissions"}, False),
    ({"claude__permission_modes": ["default"]}, {"type": "setMode", "mode": "acceptEdits"}, False),
    ({}, {"type": "addRules", "rules": [{"toolName": "Bash", "ruleContent": "echo (a)"}]}, True),
    ({"claude__client_tools": ["Read"]}, {"type": "addRules", "rules": [{"toolName": "Read"}]}, True),
    ({"claude__client_tools": ["Read"]}, {"type": "addRules", "rules": [{"toolName": "Bash"}]}, False),
    ({"claude__client_tools": ["Bash(ls:*)"]}, {"type": "addRules", "rules": [{"toolName": "Bash"}]}, False),
    (
        {"claude__client_tools": ["Bash(ls:*)"]},
        {"type": "addRules", "rules": [{"toolName": "Bash", "ruleContent": "ls:*"}]},
        True,
    ),
    (
        {"claude__client_tools": ["Read"]},
        {"type": "addRules", "behavior": "deny", "rules": [{"toolName": "Bash"}]},
        True,
    ),
    ({}, {"type": "addDirectories", "directories": ["code/other"]}, True),
    ({}, {"type": "addDirectories", "directories": ["code/other", "outside"]}, False),
    ({}, {"type": "addDirectories", "directories": ["code/link"]}, False),
    ({}, {"type": 7}, False),
    ({}, {"type": "addRules", "rules": "Bash"}, False),
    ({}, {"type": "somethingNew", "more": [1]}, True),
]


@pytest.mark.parametrize(("changed", "suggested", "may"), REMEMBERED)
async def test_what_is_remembered_is_what_clients_may_choose(
    tree: Path, changed: dict[str, object], suggested: dict[str, Any], may: bool
) -> None:
    (tree / "code" / "link").symlink_to(tree / "outside")
    if "directories" in suggested:
        suggested = {**suggested, "directories": [str(tree / path) for path in suggested["directories"]]}
    asked = policy(tree, **changed).check_remembered(json.dumps([{"type": "setMode"}, suggested]).encode())
    if may:
        await asked
    else:
        with pytest.raises((ForbiddenError, InvalidPathError)):
            await asked


async def test_some_tools_are_for_nobody(tree: Path) -> None:
    strict = policy(tree, claude__disallowed_tools=["WebFetch", "Bash(rm:*)"])
    chosen = await admit(strict, tree, disallowed_tools=("Edit", "WebFetch"))
    assert chosen.disallowed_tools == ("Edit", "WebFetch", "Bash(rm:*)")
    assert await admit(strict, tree, **msgspec.structs.asdict(chosen)) == chosen, "admitted again, it is the same"


async def test_directories_and_files_are_inside_the_roots_alone(tree: Path) -> None:
    strict = policy(tree)
    inside = str(tree / "code" / "other")
    assert (await admit(strict, tree, add_dirs=(inside,))).add_dirs == (inside,)
    for given_, real in (
        (str(tree / "code" / "mcp.json"), "code/mcp.json"),
        ("mcp.json", "code/project/mcp.json"),
        ("./../mcp.json", "code/mcp.json"),
    ):
        assert (await admit(strict, tree, mcp_config=given_)).mcp_config == str(tree / real)
    for path in (tree / "outside", tree, Path("/"), tree / "code" / ".." / "outside", tree / "gone", Path("relative")):
        assert await refused(strict, tree, add_dirs=(inside, str(path))) == "INVALID_PATH"
    for config in (
        str(tree / "outside" / "mcp.json"),
        "../../outside/mcp.json",
        str(tree / "code"),
        "/etc/passwd",
        "/dev/null",
        "gone.json",
        "a\0b",
        "",
    ):
        assert await refused(strict, tree, mcp_config=config) == "INVALID_PATH", config
    for config in (INLINE, f"\n {INLINE}"):
        assert await refused(strict, tree, mcp_config=config) == "FORBIDDEN"


async def test_nothing_of_the_servers_own_data_is_given_to_an_agent(tree: Path) -> None:
    open_ = policy(tree, projects__allowed_roots=[])
    assert await refused(open_, tree, add_dirs=(str(tree / "data"),)) == "INVALID_PATH"
    assert await refused(open_, tree, mcp_config=str(tree / "data" / "mcp.json")) == "INVALID_PATH"


async def test_links_that_lead_out_are_followed_and_refused(tree: Path) -> None:
    strict = policy(tree)
    (tree / "code" / "link").symlink_to(tree / "outside")
    (tree / "code" / "link.json").symlink_to(tree / "outside" / "mcp.json")
    (tree / "code" / "in").symlink_to(tree / "code" / "other")
    assert await refused(strict, tree, add_dirs=(str(tree / "code" / "link"),)) == "INVALID_PATH"
    assert await refused(strict, tree, mcp_config=str(tree / "code" / "link.json")) == "INVALID_PATH"
    assert await refused(strict, tree, mcp_config=str(tree / "code" / "link" / "mcp.json")) == "INVALID_PATH"
    assert (await admit(strict, tree, add_dirs=(str(tree / "code" / "in"),))).add_dirs == (
        str(tree / "code" / "other"),
    )


async def test_what_was_allowed_is_looked_at_again_when_its_turn_comes(tree: Path) -> None:
    strict = policy(tree)
    admitted = await admit(strict, tree, add_dirs=(str(tree / "code" / "other"),))
    (tree / "code" / "other").rmdir()
    (tree / "code" / "other").symlink_to(tree / "outside")
    with pytest.raises(InvalidPathError, match="outside the directories"):
        await strict.admit(admitted, str(tree / "code" / "project"))


async def test_a_project_outside_the_roots_of_today_starts_nothing(tree: Path) -> None:
    with pytest.raises(InvalidPathError):
        await policy(tree).admit(ExecuteOptions(), str(tree / "outside"))


TRY_TO_ADD = """
import asyncio, pathlib, sys
from tests.test_policy import policy, refused
tree = pathlib.Path(sys.argv[1])
print(asyncio.run(refused(policy(tree), tree, add_dirs=(str(tree / "code" / "other"),))))
"""


def test_a_directory_that_may_not_be_entered(tree: Path) -> None:
    (tree / "code" / "other").chmod(0)
    assert as_mortal(TRY_TO_ADD, tree) == "INVALID_PATH"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"claude.permission_modes": ["everything"]}, "item 1, 'everything'"),
        ({"claude.client_tools": ["Read Bash"]}, "does not match"),
        ({"claude.client_tools": ["Bash(a),Bash(b)"]}, "does not match"),
        ({"claude.disallowed_tools": ["--x y"]}, "does not match"),
        ({"claude.inherit": ["A B"]}, "does not match"),
        ({"claude.inherit": ["*X"]}, "does not match"),
        ({"claude.limits.by": "systemd", "claude.limits.cpu_time": "1h"}, "systemd has no limit on CPU time"),
        ({"claude.limits.cpus": 2}, "only systemd limits the number of CPUs"),
        ({"claude.permission_mode": "bypassPermissions"}, "skips every approval"),
    ],
)
def test_settings_that_cannot_be(flags: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_settings(config=None, environ={}, flags=flags)
