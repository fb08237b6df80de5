"""A machine on which the CLI has kept sessions, as files that a test writes."""

import json
from pathlib import Path
from typing import Any, Final

from pocket_agent.claude.transcripts import folder_name

AT: Final = "2026-11-30T03:22:06.409Z"


def name_of(number: int) -> str:
    """The id of a session."""
    return f"00000000-0000-4000-8000-{number:012d}"


class Machine:
    """A configuration directory, and a project."""

    def __init__(self, configuration: Path, project: Path) -> None:
        self.configuration = configuration
        self.project = project
        project.mkdir(exist_ok=True)

    def path(self, number: int = 1, directory: Path | None = None) -> Path:
        """The file of a session of the project, or of another directory; its folder is made."""
        folder = self.configuration / "projects" / folder_name(str(directory or self.project))
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name_of(number)}.jsonl"

    def write(self, *records: dict[str, Any], number: int = 1, directory: Path | None = None) -> Path:
        """Write a session anew."""
        path = self.path(number, directory)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    def append(self, *records: dict[str, Any], number: int = 1) -> None:
        """Write further records, as a CLI does that has the session open."""
        with self.path(number).open("a") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))

    def prompt(self, text: str, directory: Path | None = None, **more: object) -> dict[str, Any]:
        """The record of a prompt."""
        message = {"role": "user", "content": text}
        cwd = str(directory or self.project)
        return {"type": "user", "message": message, "timestamp": AT, "cwd": cwd, "uuid": "u", **more}


def answer(text: str, **more: object) -> dict[str, Any]:
    """The record of a text of the model."""
    return {"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}, "timestamp": AT, **more}
