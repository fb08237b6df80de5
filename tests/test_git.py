"""Worktrees with the real git: what is made, what would be lost, and repositories that are not as they should be."""

import asyncio
import os
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest

from pocket_agent.claude.confinement import Confinement, find_confinement
from pocket_agent.errors import FileOperationError, ValidationError
from pocket_agent.git import Git, PendingWork, slug
from tests.harness.repository import git, repository
from tests.harness.tool import require_tool
from tests.server.room import until

OPEN = Confinement()
GIT = Git(os.environ, OPEN)


@pytest.fixture
def worktrees(tmp_path: Path) -> Path:
    return tmp_path / "trees"


async def test_a_project_inside_a_repository_keeps_its_place(folder: Path, worktrees: Path) -> None:
    repository(folder)
    (folder / "sub").mkdir()
    inside, made = await GIT.add_worktree(folder / "sub", worktrees, "w", branch=None, base=None)
    assert inside == Path(made.root) / "sub" and inside.is_dir()
    assert (made.branch, made.base, made.is_own_branch) == ("agent/w", git(folder, "rev-parse", "HEAD"), True)
    assert await GIT.pending_work(made) == PendingWork(0, 0)
    assert await GIT.remove_worktree(made, keep_branch=False) is None
    assert git(folder, "branch", "--list", "agent/*") == ""


@pytest.mark.parametrize(
    "branch", ["-x", "a..b", "a b", "HEAD^{tree}", "x.lock", "--upload-pack=touch x", "\n", "a\0b"]
)
async def test_a_branch_that_is_no_branch(folder: Path, worktrees: Path, branch: str) -> None:
    repository(folder)
    for name, base in ((branch, None), (None, branch)):
        with pytest.raises(ValidationError):
            await GIT.add_worktree(folder, worktrees, "w", branch=name, base=base)
    assert not worktrees.exists() or not any(worktrees.iterdir())
    assert git(folder, "worktree", "list").count("\n") == 0


async def test_a_branch_that_exists_is_taken_and_stays(folder: Path, worktrees: Path) -> None:
    repository(folder)
    git(folder, "branch", "mine")
    with pytest.raises(ValidationError, match="only for a new one"):
        await GIT.add_worktree(folder, worktrees, "w", branch="mine", base="main")
    with pytest.raises(ValidationError, match="could not make"):
        await GIT.add_worktree(folder, worktrees, "w", branch="main", base=None)
    _, made = await GIT.add_worktree(folder, worktrees, "w", branch="mine", base=None)
    assert await GIT.remove_worktree(made, keep_branch=False) == "mine"


async def test_the_reason_of_git_names_no_path(folder: Path, worktrees: Path, tmp_path: Path) -> None:
    """A device that is limited to a project reads it, and the path may be that of another one."""
    repository(folder)
    git(folder, "worktree", "add", "--quiet", "-b", "taken", str(tmp_path / "secret"))
    with pytest.raises(ValidationError, match=r"'taken' is already .* '…'") as caught:
        await GIT.add_worktree(folder, worktrees, "w", branch="taken", base=None)
    assert str(tmp_path) not in caught.value.message
    worktrees.rmdir()
    worktrees.touch()
    with pytest.raises(FileOperationError) as failed:
        await GIT.add_worktree(folder, worktrees, "w", branch=None, base=None)
    assert str(tmp_path) not in failed.value.message


async def test_a_branch_is_not_its_folder(folder: Path, worktrees: Path) -> None:
    """`feature` cannot be made next to `feature/one`, and does not exist with it."""
    repository(folder)
    git(folder, "branch", "feature/one")
    with pytest.raises(ValidationError, match=r"could not make .*feature/one' exists"):
        await GIT.add_worktree(folder, worktrees, "w", branch="feature", base="main")
    _, made = await GIT.add_worktree(folder, worktrees, "w", branch="other", base=None)
    git(Path(made.root), "checkout", "--quiet", "--detach")
    git(folder, "branch", "--delete", "other")
    git(folder, "branch", "other/one")
    assert await GIT.pending_work(made) == PendingWork(0, 0)
    assert await GIT.remove_worktree(made, keep_branch=True) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
async def test_the_reason_of_git_is_its_first_line(folder: Path) -> None:
    repository(folder)
    os.chown(folder, 12345, 12345)
    assert "dubious ownership" in (await GIT.why_no_worktree(folder) or "")


async def test_only_what_exists_nowhere_else_is_pending(folder: Path, worktrees: Path) -> None:
    repository(folder)
    _, made = await GIT.add_worktree(folder, worktrees, "w", branch="mine", base=None)
    root = Path(made.root)
    (root / ".gitignore").write_text("ignored\n")
    (root / "ignored").write_text("x")
    assert await GIT.pending_work(made) == PendingWork(1, 0)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=more")
    assert await GIT.pending_work(made) == PendingWork(0, 1)
    git(root, "branch", "copy")
    assert await GIT.pending_work(made) == PendingWork(0, 0), "another branch has the commit"
    git(root, "checkout", "--quiet", "--detach")
    git(root, "commit", "--quiet", "--allow-empty", "--message=detached")
    assert await GIT.pending_work(made) == PendingWork(0, 1), "no branch has it"


async def test_a_worktree_that_is_gone(folder: Path, worktrees: Path) -> None:
    repository(folder)
    _, made = await GIT.add_worktree(folder, worktrees, "w", branch=None, base=None)
    Path(made.root).rename(worktrees / "moved")
    assert await GIT.pending_work(made) == PendingWork(0, 0)
    assert await GIT.remove_worktree(made, keep_branch=False) is None
    _, made = await GIT.add_worktree(folder, worktrees, "v", branch=None, base=None)
    folder.rename(folder.with_name("away"))
    with pytest.raises(FileOperationError):
        await GIT.pending_work(made)
    assert await GIT.remove_worktree(made, keep_branch=True) is None
    assert not Path(made.root).exists()


async def test_why_there_can_be_none(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await GIT.why_no_worktree(folder) == "The directory is not in a git repository."
    git(folder, "init", "--quiet")
    assert await GIT.why_no_worktree(folder) == "The repository has no commit yet."
    assert "not in the working tree" in str(await GIT.why_no_worktree(folder / ".git"))
    elsewhere = Git({**os.environ, "GIT_DIR": str(folder / ".git")}, OPEN)
    other = tmp_path / "other"
    other.mkdir()
    assert await elsewhere.why_no_worktree(other) == "The directory is not in a git repository.", (
        "GIT_DIR has no effect"
    )
    monkeypatch.setenv("PATH", "")
    assert "not installed" in str(await Git(os.environ, OPEN).why_no_worktree(folder))


async def test_hooks_and_monitors_of_the_repository_do_not_run(folder: Path, worktrees: Path) -> None:
    repository(folder)
    for name in ("post-checkout", "monitor"):
        script = folder / ".git" / "hooks" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ntouch {folder}/ran\n")
        script.chmod(0o755)
    git(folder, "config", "core.fsmonitor", str(folder / ".git" / "hooks" / "monitor"))
    for event in ("post-checkout", "post-index-change", "reference-transaction"):  # since git 2.54, git-hook(1)
        git(folder, "config", "--add", "hook.own.event", event)
    git(folder, "config", "hook.own.command", f"touch {folder}/ran")
    _, made = await GIT.add_worktree(folder, worktrees, "w", branch=None, base=None)
    await GIT.pending_work(made)
    await GIT.remove_worktree(made, keep_branch=False)
    assert not (folder / "ran").exists()


def of_user(home: Path, confinement: Confinement = OPEN, **filters: str) -> Git:
    """git of a user whose configuration has these filters, by name; each changes the files of a checkout."""
    lines = [f'[filter "{name}"]\n\tsmudge = "{command}"\n' for name, command in filters.items()]
    home.mkdir(exist_ok=True)
    (home / ".gitconfig").write_text("".join(lines))
    return Git({**os.environ, "HOME": str(home)}, confinement)


async def test_filters_of_the_user_run_and_those_of_the_repository_do_not(
    folder: Path, worktrees: Path, tmp_path: Path
) -> None:
    user = of_user(tmp_path, known="sed s/^/known-/")
    repository(folder)
    for name in ("known", "own", "a=b"):
        (folder / f"{name}.txt").write_text("x\n")
    (folder / ".gitattributes").write_text("known.txt filter=known\nown.txt filter=own\n*=b.txt filter=a=b\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=filtered")
    (folder / ".git" / "more").write_text(f'[filter "a=b"]\n\tprocess = touch {folder}/ran\n\trequired = true\n')
    git(folder, "config", "include.path", "more")
    for name in ("known", "own"):
        for kind in ("clean", "smudge"):
            git(folder, "config", f"filter.{name}.{kind}", f"touch {folder}/ran; cat")
        git(folder, "config", f"filter.{name}.required", "true")
    _, made = await user.add_worktree(folder, worktrees, "w", branch=None, base=None)
    assert [(Path(made.root) / f"{name}.txt").read_text() for name in ("known", "own")] == ["known-x\n", "x\n"]
    (Path(made.root) / "own.txt").write_text("changed\n")
    assert (await user.pending_work(made)).changes == 2, "what the user's filter wrote is a change without a `clean`"
    await user.remove_worktree(made, keep_branch=False)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("condition", ["onbranch:agent/**", "gitdir:**/worktrees/**", "gitdir:**"])
async def test_a_filter_that_only_a_worktree_has_does_not_run(folder: Path, worktrees: Path, condition: str) -> None:
    """Its configuration is another one than that of the main working tree (git-config(1), "Conditional includes")."""
    repository(folder)
    (folder / ".gitattributes").write_text("own.txt filter=own\n")
    (folder / "own.txt").write_text("x\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=filtered")
    command = f"touch {folder}/ran; cat"
    (folder / ".git" / "more").write_text(f'[filter "own"]\n\tsmudge = "{command}"\n\tclean = "{command}"\n')
    git(folder, "config", f"includeIf.{condition}.path", str(folder / ".git" / "more"))
    _, made = await GIT.add_worktree(folder, worktrees, "w", branch=None, base=None)
    (Path(made.root) / "own.txt").write_text("changed\n")
    assert (await GIT.pending_work(made)).changes == 1
    assert not (folder / "ran").exists()


async def test_a_configuration_that_is_too_large_is_refused(folder: Path, worktrees: Path) -> None:
    """A filter behind the part that is read would run."""
    repository(folder)
    with (folder / ".git" / "config").open("a") as file:
        file.write("".join(f'[x "{number}"]\n\ta = {"y" * 1000}\n' for number in range(1100)))
    with pytest.raises(ValidationError, match="configuration of the repository has more than 1 MiB"):
        await GIT.add_worktree(folder, worktrees, "w", branch=None, base=None)
    assert not any(worktrees.iterdir())


@pytest.mark.parametrize("mode", ["data", "project"])
async def test_git_is_as_confined_as_the_agents(
    folder: Path, worktrees: Path, tmp_path: Path, mode: Literal["data", "project"]
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "secret").write_text("secret")
    confinement = find_confinement(mode, str(require_tool("bwrap").parent), [hidden])
    assert confinement.mode == mode
    user = of_user(folder / "home", confinement, leak=f"ls {hidden}")
    repository(folder)
    (folder / ".gitattributes").write_text("note.md filter=leak\n")
    git(folder, "add", ".gitattributes")
    git(folder, "commit", "--quiet", "--message=filtered")
    _, made = await user.add_worktree(folder, worktrees, "w", branch=None, base=None)
    assert (Path(made.root) / "note.md").read_text() == ""
    assert await user.pending_work(made) == PendingWork(1, 0)
    assert await user.remove_worktree(made, keep_branch=False) is None
    assert not Path(made.root).exists()
    assert git(folder, "worktree", "list").count("\n") == 0


async def test_a_repository_that_is_not_the_directorys_own(folder: Path, worktrees: Path, tmp_path: Path) -> None:
    repository(folder)
    linked, thief = tmp_path / "linked", tmp_path / "thief"
    git(folder, "worktree", "add", "--quiet", str(linked))
    assert await GIT.why_no_worktree(linked) is None, "its repository knows it"
    thief.mkdir()
    for named in (folder / ".git", folder / ".git" / "worktrees" / "linked"):
        (thief / ".git").write_text(f"gitdir: {named}\n")
        assert "not its own" in str(await GIT.why_no_worktree(thief)), named
    (thief / ".git").unlink()
    (thief / ".git").symlink_to(folder / ".git")
    assert "not its own" in str(await GIT.why_no_worktree(thief))
    for elsewhere, reason in ((linked, "not in the working tree"), (tmp_path, "not its own")):
        git(folder, "config", "core.worktree", str(elsewhere))
        with pytest.raises(ValidationError, match=reason):
            await GIT.add_worktree(folder, worktrees, "w", branch=None, base=None)


async def test_a_path_with_a_line_break(tmp_path: Path) -> None:
    folder = tmp_path / "two\nlines"
    folder.mkdir()
    repository(folder)
    assert "line break" in str(await GIT.why_no_worktree(folder))


async def test_a_link_in_the_commit_leads_nowhere(folder: Path, worktrees: Path, tmp_path: Path) -> None:
    repository(folder)
    (folder / "sub").symlink_to(tmp_path)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=link")
    (folder / "sub").unlink()
    (folder / "sub").mkdir()
    with pytest.raises(ValidationError, match="symbolic link"):
        await GIT.add_worktree(folder / "sub", worktrees, "w", branch=None, base=None)
    assert not any(worktrees.iterdir())


async def test_submodules_are_pending_work_and_not_entered(folder: Path, worktrees: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    repository(other)
    repository(folder)
    git(folder, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "inner")
    git(folder, "commit", "--quiet", "--message=submodule")
    _, made = await GIT.add_worktree(folder, worktrees, "w", branch=None, base=None)
    assert await GIT.pending_work(made) == PendingWork(0, 0)
    root = Path(made.root)
    git(root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init")
    inner = root / "inner"
    git(inner, "config", "filter.own.clean", f"touch {tmp_path}/ran; cat")
    (inner / ".gitattributes").write_text("note.md filter=own\n")
    (inner / "note.md").write_text("more\n")
    assert await GIT.pending_work(made) == PendingWork(1, 0)
    assert not (tmp_path / "ran").exists()
    await GIT.remove_worktree(made, keep_branch=False)
    assert not root.exists()


async def test_a_cancelled_request_leaves_no_git(folder: Path, worktrees: Path, tmp_path: Path) -> None:
    repository(folder)
    user = of_user(tmp_path, slow="sleep 600; cat")
    (folder / ".gitattributes").write_text("slow.txt filter=slow\n")
    (folder / "slow.txt").write_text("x\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=slow")
    adding = asyncio.ensure_future(user.add_worktree(folder, worktrees, "w", branch=None, base=None))
    await until(lambda: worktrees.exists() and any(worktrees.iterdir()))
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert not any(worktrees.iterdir())
    assert git(folder, "worktree", "list").count("\n") == 0
    assert git(folder, "branch", "--list", "agent/*") == ""


async def test_a_request_that_is_cancelled_while_git_starts_leaves_no_git(
    folder: Path, worktrees: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(folder)
    start, begun = asyncio.create_subprocess_exec, asyncio.Event()
    processes = []

    async def slow(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        processes.append(await start("sh", "-c", "sleep 600 & sleep 600", **options))
        begun.set()
        await asyncio.sleep(0.1)
        return processes[-1]

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "create_subprocess_exec", slow)
        asking = asyncio.ensure_future(GIT.why_no_worktree(folder))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    (process,) = processes
    await until(
        lambda: not any(os.getpgid(found.pid) == process.pid for found in psutil.process_iter() if living(found))
    )


def living(process: psutil.Process) -> bool:
    """Whether it runs and has a group."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) >= 0
    except (psutil.Error, ProcessLookupError):
        return False


def test_names_for_branches() -> None:
    assert slug("Fix the Bug: über-long " + "x" * 99) == ("fix-the-bug-ber-long-" + "x" * 99)[:40]
    assert slug("..") == ""
