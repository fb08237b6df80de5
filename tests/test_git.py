"""Worktrees with the real git: what is made, what would be lost, and repositories that are not as they should be."""

import asyncio
import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from pocket_agent.errors import FileOperationError, ValidationError
from pocket_agent.git import PendingWork, add_worktree, pending_work, remove_worktree, slug, why_no_worktree
from tests.harness.repository import git, repository
from tests.server.room import until


@pytest.fixture
def worktrees(tmp_path: Path) -> Path:
    return tmp_path / "trees"


async def test_a_project_inside_a_repository_keeps_its_place(folder: Path, worktrees: Path) -> None:
    repository(folder)
    (folder / "sub").mkdir()
    inside, made = await add_worktree(folder / "sub", worktrees, "w", branch=None, base=None)
    assert inside == Path(made.root) / "sub" and inside.is_dir()
    assert (made.branch, made.base, made.is_own_branch) == ("agent/w", git(folder, "rev-parse", "HEAD"), True)
    assert await pending_work(made) == PendingWork(0, 0)
    assert await remove_worktree(made, keep_branch=False) is None
    assert git(folder, "branch", "--list", "agent/*") == ""


@pytest.mark.parametrize("branch", ["-x", "a..b", "a b", "HEAD^{tree}", "x.lock", "--upload-pack=touch pwned", "\n"])
async def test_a_branch_that_is_no_branch(folder: Path, worktrees: Path, branch: str) -> None:
    repository(folder)
    for chosen in ({"branch": branch, "base": None}, {"branch": None, "base": branch}):
        with pytest.raises(ValidationError):
            await add_worktree(folder, worktrees, "w", **chosen)
    assert not worktrees.exists() or not any(worktrees.iterdir())
    assert git(folder, "worktree", "list").count("\n") == 0


async def test_a_branch_that_exists_is_taken_and_stays(folder: Path, worktrees: Path) -> None:
    repository(folder)
    git(folder, "branch", "mine")
    with pytest.raises(ValidationError, match="only for a new one"):
        await add_worktree(folder, worktrees, "w", branch="mine", base="main")
    with pytest.raises(ValidationError, match="could not make"):
        await add_worktree(folder, worktrees, "w", branch="main", base=None)
    _, made = await add_worktree(folder, worktrees, "w", branch="mine", base=None)
    assert await remove_worktree(made, keep_branch=False) == "mine"


async def test_only_what_exists_nowhere_else_is_pending(folder: Path, worktrees: Path) -> None:
    repository(folder)
    _, made = await add_worktree(folder, worktrees, "w", branch="mine", base=None)
    root = Path(made.root)
    (root / ".gitignore").write_text("ignored\n")
    (root / "ignored").write_text("x")
    assert await pending_work(made) == PendingWork(1, 0)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=more")
    assert await pending_work(made) == PendingWork(0, 1)
    git(root, "branch", "copy")
    assert await pending_work(made) == PendingWork(0, 0), "another branch has the commit"
    git(root, "checkout", "--quiet", "--detach")
    git(root, "commit", "--quiet", "--allow-empty", "--message=detached")
    assert await pending_work(made) == PendingWork(0, 1), "no branch has it"


async def test_a_worktree_that_is_gone(folder: Path, worktrees: Path) -> None:
    repository(folder)
    _, made = await add_worktree(folder, worktrees, "w", branch=None, base=None)
    Path(made.root).rename(worktrees / "moved")
    assert await pending_work(made) == PendingWork(0, 0)
    assert await remove_worktree(made, keep_branch=False) is None
    _, made = await add_worktree(folder, worktrees, "v", branch=None, base=None)
    folder.rename(folder.with_name("away"))
    with pytest.raises(FileOperationError):
        await pending_work(made)
    assert await remove_worktree(made, keep_branch=True) is None
    assert not Path(made.root).exists()


async def test_why_there_can_be_none(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await why_no_worktree(folder) == "The directory is not in a git repository."
    git(folder, "init", "--quiet")
    assert await why_no_worktree(folder) == "The repository has no commit yet."
    assert "not in the working tree" in str(await why_no_worktree(folder / ".git"))
    monkeypatch.setenv("GIT_DIR", str(folder / ".git"))
    other = tmp_path / "other"
    other.mkdir()
    assert await why_no_worktree(other) == "The directory is not in a git repository.", "GIT_DIR has no effect"
    monkeypatch.setenv("PATH", "")
    assert "not installed" in str(await why_no_worktree(folder))


async def test_hooks_and_monitors_of_the_repository_do_not_run(folder: Path, worktrees: Path) -> None:
    repository(folder)
    for name in ("post-checkout", "monitor"):
        script = folder / ".git" / "hooks" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ntouch {folder}/ran\n")
        script.chmod(0o755)
    git(folder, "config", "core.fsmonitor", str(folder / ".git" / "hooks" / "monitor"))
    _, made = await add_worktree(folder, worktrees, "w", branch=None, base=None)
    await pending_work(made)
    assert not (folder / "ran").exists()


async def test_a_cancelled_request_leaves_no_git(folder: Path, worktrees: Path) -> None:
    repository(folder)
    git(folder, "config", "filter.slow.smudge", "sleep 600; cat")
    (folder / ".gitattributes").write_text("slow.txt filter=slow\n")
    (folder / "slow.txt").write_text("x\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=slow")
    adding = asyncio.ensure_future(add_worktree(folder, worktrees, "w", branch=None, base=None))
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
        asking = asyncio.ensure_future(why_no_worktree(folder))
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
