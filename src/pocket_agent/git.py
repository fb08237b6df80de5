"""The `git` program: worktrees of a project's repository, for conversations with a directory of their own.

git runs with a fixed environment: without hooks, prompts and pagers, and without the GIT_* variables of the server, so
that a repository decides neither what runs nor where. Filters of the user's own configuration (Git LFS) still run.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from pocket_agent.errors import FileOperationError, ValidationError
from pocket_agent.model import Worktree

_QUESTION_SECONDS: Final = 10.0
_CHECKOUT_SECONDS: Final = 600.0
"""The limit for a checkout, which may write gigabytes."""
_MAX_OUTPUT: Final = 1024 * 1024
_SAFE: Final = (
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.quotePath=false"),
    *("-c", "gc.auto=0"),
)


class GitError(Exception):
    """git refused; the text is the last line of its standard error."""


class PendingWork(NamedTuple):
    """What would be lost with a worktree.

    Attributes:
        changes: files with changes that are not committed, untracked ones included.
        commits: commits that are on no other branch, on no tag and on no remote.
    """

    changes: int
    commits: int


def _environment() -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "cat"}


async def _git(directory: Path, *arguments: str, limit: float = _QUESTION_SECONDS) -> str:
    """The standard output of git in a directory.

    Raises:
        GitError: git is missing, refuses, or takes longer than `limit` seconds.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *("git", *_SAFE, "-C", str(directory), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
            start_new_session=True,
        )
    )
    try:
        process = await asyncio.shield(starting)
    except OSError as error:
        raise GitError("git is not installed, or cannot be run") from error
    except asyncio.CancelledError:  # asyncio would end git, but not what git has started
        with contextlib.suppress(OSError):
            await _kill(await starting)
        raise
    assert process.stdout is not None and process.stderr is not None
    try:
        async with asyncio.timeout(limit):
            output, said = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            code = await process.wait()
    except TimeoutError as error:
        raise GitError(f"git took longer than {limit:.0f} seconds") from error
    finally:
        if process.returncode is None:
            await _kill(process)
    if code != 0:
        raise GitError(said.strip().rpartition("\n")[2] or f"git ended with exit code {code}")
    return output.strip("\n")


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a process and all that it has started in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _read(stream: asyncio.StreamReader) -> str:
    """The first _MAX_OUTPUT bytes of a stream, read to its end."""
    kept = b""
    while data := await stream.read(64 * 1024):
        kept += data[: max(0, _MAX_OUTPUT - len(kept))]
    return os.fsdecode(kept)


async def why_no_worktree(directory: Path) -> str | None:
    """Why a project's directory can have no worktrees, as a sentence; None when it can."""
    try:
        if await _git(directory, "rev-parse", "--is-inside-work-tree") != "true":
            return "The directory is not in the working tree of a git repository."
    except GitError as error:
        missing = "not a git repository" in str(error)
        return "The directory is not in a git repository." if missing else f"git cannot be used here: {error}."
    try:
        await _git(directory, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    except GitError:
        return "The repository has no commit yet."
    return None


async def add_worktree(
    directory: Path, folder: Path, name: str, *, branch: str | None, base: str | None
) -> tuple[Path, Worktree]:
    """Make a worktree of the repository of `directory`; the working tree of `directory` is not touched.

    Args:
        directory: of the project, which may be inside the repository.
        folder: where worktrees are; made if it does not exist.
        name: of the new directory in it, and of the new branch if none is named.
        branch: an existing branch, or the name of a new one.
        base: where a new branch begins; None for the commit of `directory`.

    Returns:
        The directory of the project inside the worktree, and the worktree.

    Raises:
        ValidationError: no repository, no such base, an invalid branch, or one that is checked out elsewhere.
        FileOperationError: the folder cannot be written.
    """
    reason = await why_no_worktree(directory)
    if reason is not None:
        raise ValidationError(f"A worktree cannot be made: {reason}")
    try:
        top = Path(await _git(directory, "rev-parse", "--show-toplevel"))
        git_dir = await _git(directory, "rev-parse", "--path-format=absolute", "--git-common-dir")
        branch = branch or f"agent/{name}"
        await _git(directory, "check-ref-format", f"refs/heads/{branch}")
        exists = bool(await _git(directory, "for-each-ref", "--format=%(refname)", f"refs/heads/{branch}"))
        if exists and base is not None:
            raise ValidationError(f"The branch {branch} exists; `base` is only for a new one.")
        begin = f"refs/heads/{branch}" if exists else base or "HEAD"
        commit = await _git(directory, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{begin}^{{commit}}")
    except GitError as error:
        raise ValidationError("There is no such branch or base, or its name is not valid.") from error
    root = await asyncio.to_thread(_prepared, folder) / name
    checkout = ("--", str(root), branch) if exists else ("-b", branch, "--", str(root), commit)
    made = Worktree(branch, commit, str(root), git_dir, is_own_branch=not exists)
    try:
        await _git(directory, "worktree", "add", "--quiet", *checkout, limit=_CHECKOUT_SECONDS)
        inside = await asyncio.to_thread(_inside, root, top, directory)
    except BaseException as error:
        with contextlib.suppress(FileOperationError):
            await asyncio.shield(remove_worktree(made, keep_branch=False))
        if isinstance(error, GitError):
            raise ValidationError(f"git could not make the worktree: {error}.") from error
        raise
    return inside, made


def _prepared(folder: Path) -> Path:
    """The real path of the folder for worktrees, made if it does not exist."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise FileOperationError(f"The folder for worktrees (projects.worktrees) cannot be made: {error}.") from error


def _inside(root: Path, top: Path, directory: Path) -> Path:
    """The place of `directory` in the worktree `root` of the repository whose working tree is `top`."""
    inside = root / directory.resolve().relative_to(top.resolve())
    with contextlib.suppress(OSError):  # the agent's start reports a directory that is missing
        inside.mkdir(parents=True, exist_ok=True)
    return inside


async def pending_work(worktree: Worktree) -> PendingWork:
    """The work that only a worktree has.

    Raises:
        FileOperationError: git cannot say.
    """
    root, own = Path(worktree.root), f"refs/heads/{worktree.branch}"
    try:
        changes = 0
        tips = []
        if await asyncio.to_thread(root.is_dir):
            changes = len((await _git(root, "status", "--porcelain", "--untracked-files=normal")).splitlines())
            tips.append(await _git(root, "rev-parse", "HEAD"))
        if await _git(Path(worktree.git_dir), "for-each-ref", "--format=%(refname)", own):
            tips.append(own)
        others = ("--not", f"--exclude={worktree.branch}", "--branches", "--tags", "--remotes")
        count = await _git(Path(worktree.git_dir), "rev-list", "--count", *tips, *others) if tips else "0"
    except (GitError, OSError) as error:
        raise FileOperationError(f"git cannot list what is pending in the worktree: {error}.") from error
    return PendingWork(changes, int(count))


async def remove_worktree(worktree: Worktree, *, keep_branch: bool) -> str | None:
    """Delete a worktree's directory with its changes, and a branch that the server made.

    Args:
        worktree: may be gone already.
        keep_branch: also keep the server's own branch, since it has commits that nothing else has.

    Returns:
        The branch that stays; None when it is deleted or was gone.

    Raises:
        FileOperationError: the directory could not be deleted.
    """
    repository, root = Path(worktree.git_dir), Path(worktree.root)
    try:
        if await asyncio.to_thread(root.is_dir):
            with contextlib.suppress(GitError):
                await _git(repository, "worktree", "remove", "--force", "--force", str(root), limit=_CHECKOUT_SECONDS)
            if await asyncio.to_thread(root.is_dir):  # the repository is gone, or git no longer knows the worktree
                await asyncio.to_thread(shutil.rmtree, root)
    except OSError as error:
        raise FileOperationError(f"The worktree could not be deleted: {error}.") from error
    with contextlib.suppress(GitError):  # a `worktree add` that was ended leaves a lock
        await _git(repository, "worktree", "unlock", str(root))
    try:
        await _git(repository, "worktree", "prune")
        if worktree.is_own_branch and not keep_branch:
            await _git(repository, "branch", "--quiet", "-D", "--", worktree.branch)
            return None
        known = await _git(repository, "for-each-ref", "--format=%(refname)", f"refs/heads/{worktree.branch}")
    except GitError:
        return None
    return worktree.branch if known else None


def slug(text: str) -> str:
    """A text as part of a branch and a directory: lower case letters, digits and hyphens, at most 40."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
