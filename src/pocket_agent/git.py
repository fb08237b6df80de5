"""The `git` program: worktrees of a project's repository, for conversations with a directory of their own.

A repository decides neither what runs nor where. git runs as confined as the agents do, with their environment, and
without GIT_* variables, hooks, prompts and pagers. Filters (gitattributes(5)) of the user's own configuration run, for
example Git LFS; those that only the repository's configuration defines do not, since an agent can write it. Objects
that a partial clone lacks are not fetched.
"""

import asyncio
import contextlib
import functools
import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pocket_agent.claude.command_line import PROCESS_MARKER, build_environment
from pocket_agent.claude.confinement import Confinement
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
_VARIABLES: Final = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    # Against what a repository may configure for fetches: a transport is a program.
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
}
_FILTER_KEYS: Final = {"clean": "", "smudge": "", "process": "", "required": "false"}
"""The settings of a filter, with the values by which it does nothing."""

_LISTED: Final = ("--show-scope", "--includes", "--null", "--list")
_REPOSITORY_SCOPES: Final = frozenset({"local", "worktree"})


class GitError(Exception):
    """git refused; the text is the line of its standard error that says why."""


class PendingWork(NamedTuple):
    """What would be lost with a worktree.

    Attributes:
        changes: files with changes that are not committed, untracked ones included, and 1 for submodules.
        commits: commits that are on no other branch, on no tag and on no remote.
    """

    changes: int
    commits: int


class _Repository(NamedTuple):
    """The directories of a repository.

    Attributes:
        top: the working tree.
        git_dir: of a linked working tree, its own data; of the main one `common`.
        common: the data that all working trees share.
    """

    top: Path
    git_dir: Path
    common: Path

    def is_own(self) -> bool:
        """Whether this is the repository of the working tree, which could name any other one in its `.git`."""
        try:
            top, common, git_dir = self.top.resolve(), self.common.resolve(), self.git_dir.resolve()
            if any(common.is_relative_to(folder / ".git") for folder in (top, *top.parents)):
                return True
            # A linked worktree, which its repository knows (gitrepository-layout(5), `worktrees/<id>/gitdir`).
            named = Path(os.fsdecode((git_dir / "gitdir").read_bytes()).strip("\n"))
            return git_dir.is_relative_to(common / "worktrees") and named.parent.resolve() == top
        except (OSError, RuntimeError):
            return False


class Git:
    """git, with the environment and the confinement of the agents.

    Args:
        environment: what the agents inherit.
        confinement: that of the agents.
    """

    def __init__(self, environment: Mapping[str, str], confinement: Confinement) -> None:
        kept = build_environment(environment, {})
        self._environment = {name: value for name, value in kept.items() if not name.startswith("GIT_")} | _VARIABLES
        self._confinement = confinement

    async def _git(
        self,
        directory: Path,
        *arguments: str,
        limit: float = _QUESTION_SECONDS,
        writable: Sequence[str] = (),
        settings: Sequence[tuple[str, str]] = (),
        marker: str | None = None,
    ) -> str:
        """The standard output of git in a directory.

        Args:
            directory: where git starts.
            arguments: of git.
            limit: in seconds.
            writable: the directories besides this one that it may write, when agents may only write their project.
            settings: names and values that replace those of all configuration files.
            marker: the mark in its environment, by which a later server finds it.

        Raises:
            GitError: git is missing, refuses, or takes longer than `limit` seconds.
        """
        command = ["git", *_SAFE, "-C", str(directory), *arguments]
        environment = dict(self._environment, GIT_CONFIG_COUNT=str(len(settings)))
        if marker is not None:
            environment[PROCESS_MARKER] = marker
        for number, (key, value) in enumerate(settings):
            environment[f"GIT_CONFIG_KEY_{number}"], environment[f"GIT_CONFIG_VALUE_{number}"] = key, value
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self._confinement.wrap(command, writable=[str(directory), *writable], environment=environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        )
        try:
            process = await asyncio.shield(starting)
        except OSError as error:
            raise GitError("git is not installed, or cannot be run") from error
        except ValueError as error:  # a NUL character, or a character that the file system's encoding lacks
            raise GitError("the name contains a character that no argument can hold") from error
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
            lines = said.strip().split("\n")  # advice may follow the reason
            reason = next((one for one in lines if one.startswith(("fatal: ", "error: "))), lines[-1])
            # A client may be limited to a project, and paths lead to others: where a branch is checked out.
            raise GitError(re.sub(r"'/[^']*'", "'…'", reason) or f"git ended with exit code {code}")
        return output.strip("\n")

    async def _has_branch(self, directory: Path, branch: str) -> bool:
        name = f"refs/heads/{branch}"  # `for-each-ref` also lists the references below it, as below a directory
        found = await self._git(directory, "for-each-ref", "--format=%(refname)", name)
        return name in found.split("\n")

    async def _disarmed(self, directory: Path, *writable: str) -> list[tuple[str, str]]:
        """Settings against the programs that the configuration of `directory` names.

        They replace the filters of the repository by those of the user, and leave the hooks of the configuration (git
        2.54, git-hook(1)), which `core.hooksPath` does not switch off, without an event.
        """
        listed = await self._git(directory, "config", *_LISTED, writable=writable)
        if len(os.fsencode(listed)) >= _MAX_OUTPUT:  # the rest was not read
            raise GitError(f"the configuration of the repository has more than {_MAX_OUTPUT // 2**20} MiB")
        own: dict[str, str] = {}
        wider: dict[str, str] = {}
        hooks: list[tuple[str, str]] = []
        fields = listed.split("\0")
        for scope, entry in zip(fields[::2], fields[1::2], strict=False):
            key, _, value = entry.partition("\n")
            if key.startswith("hook.") and key.endswith(".command"):
                hooks.append((f"{key.removesuffix('.command')}.event", ""))
            inert = _FILTER_KEYS.get(key.rpartition(".")[2]) if key.startswith("filter.") else None
            if inert is not None and scope in _REPOSITORY_SCOPES:
                own[key] = inert
            elif inert is not None:
                wider[key] = value
        return [*hooks, *((key, wider.get(key, inert)) for key, inert in own.items())]

    async def _disarmed_git(
        self,
        directory: Path,
        *arguments: str,
        writable: Sequence[str],
        limit: float = _QUESTION_SECONDS,
        marker: str | None = None,
    ) -> str:
        """As `_git`, for a command that may run what the configuration of `directory` names."""
        settings = await self._disarmed(directory, *writable)
        return await self._git(directory, *arguments, limit=limit, writable=writable, settings=settings, marker=marker)

    async def why_no_worktree(self, directory: Path) -> str | None:
        """Why a project's directory can have no worktrees, as a sentence; None when it can."""
        found = await self._find(directory)
        return found if isinstance(found, str) else None

    async def _find(self, directory: Path) -> "_Repository | str":
        """The repository of a directory, or why it can have no worktrees, as a sentence."""
        try:
            if await self._git(directory, "rev-parse", "--is-inside-work-tree") != "true":
                return "The directory is not in the working tree of a git repository."
            paths = ("--path-format=absolute", "--show-toplevel", "--git-dir", "--git-common-dir")
            lines = (await self._git(directory, "rev-parse", *paths)).split("\n")
        except GitError as error:
            missing = "not a git repository" in str(error)
            return "The directory is not in a git repository." if missing else f"git cannot be used here: {error}."
        if len(lines) != len(_Repository._fields):
            return "The path of the repository contains a line break."
        found = _Repository(*map(Path, lines))
        if not await asyncio.to_thread(found.is_own):
            return (
                "The directory names a repository that is not its own; "
                "the repository has to be in the directory or above it."
            )
        try:
            await self._git(directory, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        except GitError:
            return "The repository has no commit yet."
        return found

    async def add_worktree(
        self,
        directory: Path,
        folder: Path,
        name: str,
        *,
        branch: str | None,
        base: str | None,
        making: Callable[[Worktree], Awaitable[None]] | None = None,
    ) -> tuple[Path, Worktree]:
        """Make a worktree of the repository of `directory`; the working tree of `directory` is not touched.

        Args:
            directory: of the project, which may be inside the repository.
            folder: where worktrees are; made if it does not exist.
            name: of the new directory in it, and of the new branch if none is named.
            branch: an existing branch, or the name of a new one.
            base: where a new branch begins; None for the commit of `directory`.
            making: called before anything is made.

        Returns:
            The directory of the project inside the worktree, and the worktree.

        Raises:
            ValidationError: no repository, no such base, an invalid branch, or one that is checked out elsewhere.
            FileOperationError: the folder cannot be written.
        """
        found = await self._find(directory)
        if isinstance(found, str):
            raise ValidationError(f"A worktree cannot be made: {found}")
        try:
            branch = branch or f"agent/{name}"
            await self._git(directory, "check-ref-format", f"refs/heads/{branch}")
            exists = await self._has_branch(directory, branch)
            if exists and base is not None:
                raise ValidationError(f"The branch {branch} exists; `base` is only for a new one.")
            begin = f"refs/heads/{branch}" if exists else base or "HEAD"
            commit = await self._git(
                directory, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{begin}^{{commit}}"
            )
        except GitError as error:
            raise ValidationError("There is no such branch or base, or its name is not valid.") from error
        root = await asyncio.to_thread(_prepared, folder) / name
        checkout = ("--", str(root), branch) if exists else ("-b", branch, "--", str(root), commit)
        made = Worktree(branch, commit, str(root), str(found.common), is_own_branch=not exists)
        if making is not None:
            await making(made)
        add = ("worktree", "add", "--quiet", "--no-checkout", *checkout)
        reset = ("reset", "--quiet", "--hard", "--no-recurse-submodules")
        writable = (str(directory), str(root.parent), str(found.common))
        marked = functools.partial(self._disarmed_git, writable=writable, marker=made.root)
        try:
            await marked(directory, *add)
            # Conditional includes (git-config(1)) make the configuration another one than that of `directory`.
            await marked(root, *reset, limit=_CHECKOUT_SECONDS)
            inside = await asyncio.to_thread(_inside, root, found.top, directory)
        except BaseException as error:
            with contextlib.suppress(FileOperationError):
                await asyncio.shield(self.remove_worktree(made, keep_branch=False))
            if isinstance(error, GitError):
                raise ValidationError(f"git could not make the worktree: {error}.") from error
            raise
        return inside, made

    async def pending_work(self, worktree: Worktree) -> PendingWork:
        """The work that only a worktree has.

        Raises:
            FileOperationError: git cannot say.
        """
        root = Path(worktree.root)
        try:
            changes = 0
            tips = []
            if await asyncio.to_thread(root.is_dir):
                # git reads the configuration of a submodule without the settings given here, so it looks into none.
                status = ("status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=dirty")
                repository = worktree.git_dir
                changed = await self._disarmed_git(root, *status, writable=(repository,))
                current = ("rev-parse", "--path-format=absolute", "HEAD", "--git-dir")
                head, git_dir = (await self._git(root, *current, writable=(repository,))).split("\n")
                changes = len(changed.splitlines()) + await asyncio.to_thread((Path(git_dir) / "modules").is_dir)
                tips.append(head)
            if await self._has_branch(Path(worktree.git_dir), worktree.branch):
                tips.append(f"refs/heads/{worktree.branch}")
            others = ("--not", f"--exclude={worktree.branch}", "--branches", "--tags", "--remotes")
            count = await self._git(Path(worktree.git_dir), "rev-list", "--count", *tips, *others) if tips else "0"
        except (GitError, OSError) as error:
            raise FileOperationError(f"git cannot list what is pending in the worktree: {error}.") from error
        return PendingWork(changes, int(count))

    async def remove_worktree(self, worktree: Worktree, *, keep_branch: bool) -> str | None:
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
        writable = (str(root.parent), worktree.git_dir)
        try:
            if await asyncio.to_thread(root.is_dir):
                with contextlib.suppress(GitError):
                    remove = ("worktree", "remove", "--force", "--force", str(root))
                    await self._disarmed_git(repository, *remove, limit=_CHECKOUT_SECONDS, writable=writable)
                if await asyncio.to_thread(root.is_dir):  # the repository is gone, or git no longer knows the worktree
                    await asyncio.to_thread(shutil.rmtree, root)
        except OSError as error:
            raise FileOperationError(f"The worktree could not be deleted: {error.strerror}.") from error
        with contextlib.suppress(GitError):  # a `worktree add` that was ended leaves a lock
            await self._disarmed_git(repository, "worktree", "unlock", str(root), writable=writable)
        try:
            await self._disarmed_git(repository, "worktree", "prune", writable=writable)
            if worktree.is_own_branch and not keep_branch:
                await self._disarmed_git(
                    repository, "branch", "--quiet", "-D", "--", worktree.branch, writable=writable
                )
                return None
            return worktree.branch if await self._has_branch(repository, worktree.branch) else None
        except GitError:
            return None


def is_checked_out(worktree: Worktree) -> bool:
    """Whether the checkout of a new worktree is complete, so that it may have work: git writes the index last."""
    return (Path(worktree.git_dir) / "worktrees" / Path(worktree.root).name / "index").exists()


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


def _prepared(folder: Path) -> Path:
    """The real path of the folder for worktrees, made if it does not exist."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else "a loop of links"
        raise FileOperationError(f"The folder for worktrees (projects.worktrees) cannot be made: {why}.") from error


def _inside(root: Path, top: Path, directory: Path) -> Path:
    """The place of `directory` in the worktree `root` of the repository whose working tree is `top`.

    Raises:
        ValidationError: the chosen commit has a link there.
    """
    inside = root / directory.resolve().relative_to(top.resolve())
    real = inside.resolve()
    if real != inside:
        raise ValidationError("In this commit the project's directory is a symbolic link; choose another base.")
    with contextlib.suppress(OSError):  # the agent's start reports a directory that is missing
        inside.mkdir(parents=True, exist_ok=True)
    return inside


def slug(text: str) -> str:
    """A text as part of a branch and a directory: lower case letters, digits and hyphens, at most 40."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
