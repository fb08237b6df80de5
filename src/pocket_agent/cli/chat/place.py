"""Selection of the project."""

import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from pocket_agent.cli.chat.plain import one_line
from pocket_agent.client import Client
from pocket_agent.errors import ProjectNotFoundError
from pocket_agent.protocol.push import PathInspectData, ProjectStateData

PATH_MAX: Final = 4096
"""Linux's limit on the length of a path: a truncated path could not be copied."""

Ask = Callable[[str], Awaitable[str]]
"""Asks the user a question and returns the answer."""


def find(projects: list[ProjectStateData], path: str) -> ProjectStateData | None:
    """The project in the directory `path`, or the one with that id or name."""
    real = os.path.realpath(path)
    for project in projects:
        if os.path.realpath(project.path) == real:
            return project
    named = [project for project in projects if path in {project.id, project.name}]
    return named[0] if len(named) == 1 else None


def absolute(path: str) -> str:
    """`path` as an absolute path, without resolving symlinks."""
    return str(Path(path).absolute())


async def settle(client: Client, path: str) -> ProjectStateData:
    """The project at `path`, created without asking if there is none."""
    found = find(await client.projects(), path)
    return found if found is not None else await client.create_project(absolute(path))


async def choose(client: Client, path: str | None, ask: Ask, say: Callable[[str], None]) -> ProjectStateData:
    """Let the user choose or create a project.

    Raises:
        ProjectNotFoundError: the user chose none.
    """
    projects = await client.projects()
    here = absolute(path or ".")
    found = find(projects, path or here)
    if found is not None:
        return found
    if path is not None or not projects:
        # Not part of the question: the terminal would break the path at its width, and a user could not copy it.
        say(f"{one_line(here, PATH_MAX)} is not a project yet.")
        shown = await inspect_new(client, here, say)
        return await make(client, here, "Create a project there? [y/n] ", ask, shown.hash)
    return await pick(client, projects, here, ask, say)


async def pick(
    client: Client, projects: list[ProjectStateData], here: str, ask: Ask, say: Callable[[str], None]
) -> ProjectStateData:
    """Let the user choose one of `projects` by its number, or create one in the directory `here`.

    Raises:
        ProjectNotFoundError: the user chose none.
    """
    for number, project in enumerate(projects, 1):
        say(f"{number:>3}  {one_line(project.name, 40)}  {one_line(project.path, PATH_MAX)}  {project.state}")
    say(f"  n  create a project in {one_line(here, PATH_MAX)}")
    answer = (await ask("Which one? ")).strip().lower()
    if answer == "n":
        shown = await inspect_new(client, here, say)
        if shown.claims:
            return await make(client, here, "Create the project with these settings? [y/n] ", ask, shown.hash)
        return await client.create_project(here, shown=shown.hash or None)
    if answer.isdecimal() and 1 <= int(answer) <= len(projects):
        return projects[int(answer) - 1]
    raise ProjectNotFoundError("No project was chosen.")


async def inspect_new(client: Client, here: str, say: Callable[[str], None]) -> PathInspectData:
    """Show the claims of a directory that have not been accepted; returns all of its claims."""
    found = await client.inspect_all(here)
    new = found.claims[: found.new] if found.project_id is not None else found.claims
    if new:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(str(claim.kind) for claim in new).items())
        what = "new or changed settings" if found.project_id is not None else "settings"
        say(f"{one_line(here, PATH_MAX)} has {what} of its own, which the CLI follows without asking ({kinds}):")
    for claim in new:
        # In full: a truncated claim could hide its effect.
        say(f"  {one_line(claim.file, 4096)}: {claim.kind} {one_line(claim.text, len(claim.text) * 10)}")
    return found


async def make(client: Client, here: str, question: str, ask: Ask, shown: str) -> ProjectStateData:
    """Create a project if the user agrees, with the settings that have the hash `shown`.

    Raises:
        ProjectNotFoundError: the user did not agree.
    """
    answer = await ask(question)
    if answer.strip().lower() not in {"y", "yes"}:
        raise ProjectNotFoundError("No project was chosen.")
    return await client.create_project(here, shown=shown or None)
