"""The server's log as tests read it: every line parsed, and held against the schema."""

import json
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator

SCHEMA_FILE: Final = Path(__file__).parents[1] / "observability" / "log_schema.json"
SCHEMA: Final[dict[str, Any]] = json.loads(SCHEMA_FILE.read_text("utf-8"))
_VALIDATOR: Final = Draft202012Validator(SCHEMA)

Line = dict[str, Any]


def messages() -> dict[str, Any]:
    """The part of the schema for each message."""
    return {name: part for name, part in SCHEMA["$defs"].items() if name != "field"}


def parse(data: bytes) -> list[Line]:
    """The lines of a whole log, each in the form of the schema."""
    assert data == b"" or data.endswith(b"\n"), data[-200:]
    assert data.decode("utf-8").replace("\n", "").isprintable(), "nothing can colour or break a line"
    found = [json.loads(line) for line in data[:-1].split(b"\n")] if data else []
    for line in found:
        part = messages().get(line.get("msg"))
        assert part is not None, f"no such message in the schema: {line}"
        problems = [error.message for error in _VALIDATOR.evolve(schema=SCHEMA | part).iter_errors(line)]
        assert _VALIDATOR.is_valid(line), f"{line}: {problems}"
    return found


def read(path: Path) -> list[Line]:
    """The lines of a log file that were written whole; see `parse`."""
    data = path.read_bytes() if path.exists() else b""
    return parse(data[: data.rfind(b"\n") + 1])
