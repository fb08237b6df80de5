"""The golden files: what clients, scripts and stored data rely on, as it is now, so that a review shows each change."""

import hashlib
import inspect
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import typer
import yaml

from pocket_agent.audit import EMPTY, AuditRecord, append
from pocket_agent.cli.main import app
from pocket_agent.monitoring import render, rule_groups
from pocket_agent.protocol.json_schema import protocol_schema
from pocket_agent.settings import load_settings
from pocket_agent.storage.database import migrate

_RECORDS: Final = (
    AuditRecord("2026-01-02T03:04:05.678Z", "login", by="phone", device_id="d-1", address="192.0.2.1"),
    AuditRecord("2026-01-02T03:04:06.000Z", "execute", "RATE_LIMIT", "phone", "d-1", "192.0.2.1", "p-1", {"bytes": 12}),
    AuditRecord("2026-01-02T03:04:07.000Z", "settings_reload", by="Jörg\n", details={"changed": ["x" * 20_000]}),
)


def _commands() -> str:
    """The help of each command with its options: the texts, without the layout of the libraries that print them."""
    return "\n".join(_help(typer.main.get_command(app), "pocket-agent"))


def _help(command: Any, path: str) -> Iterator[str]:
    yield from (path, *(f"    {line}".rstrip() for line in inspect.cleandoc(command.help or "").splitlines()))
    for given in command.params:
        names = ", ".join((*given.opts, *given.secondary_opts)) if given.param_type_name == "option" else given.name
        marks = [mark for mark in ("required", "multiple", "hidden", "is_flag") if getattr(given, mark, False)]
        default = f" [{given.default}]" if type(given.default) is int else ""
        yield f"    {' '.join((names, *marks))}{default}: {getattr(given, 'help', None) or ''}"
    yield ""
    for name, found in getattr(command, "commands", {}).items():
        yield from _help(found, f"{path} {name}")


def _database() -> str:
    """The tables, indexes and triggers of an empty database."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name")
        statements = [f"{inspect.cleandoc(sql)};\n" for (sql,) in rows]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    return f"PRAGMA user_version = {version};\n\n" + "\n".join(statements)


def _audit_log() -> str:
    """Records of each form: plain, refused, and with a value that is too long for the log."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.log"
        append(path, _RECORDS, EMPTY)
        return path.read_text("utf-8")


def _monitoring() -> str:
    """The stack for default settings: each file with a hash of its content, and each rule with its expression."""
    settings = load_settings(config=None, environ={"HOME": "/home/user"}, flags={}).settings
    files = [f"{_digest(file.path, file.text)}  {file.path}" for file in render(settings)]
    rules = []
    for rule in (
        rule for file in rule_groups(settings).values() for group in file["groups"] for rule in group["rules"]
    ):
        name = f"alert {rule['alert']}" if "alert" in rule else f"record {rule['record']}"
        wait = f" for {rule['for']}" if "for" in rule else ""
        rules += [f"{name}{wait}", f"    {' '.join(str(rule['expr']).split())}"]
    return "\n".join(["Files, by the hash of their content without layout and comments:", "", *files, "", *rules, ""])


def _digest(path: str, text: str) -> str:
    if path.endswith(".json"):
        text = json.dumps(json.loads(text), sort_keys=True)
    elif path.endswith((".yml", ".yaml")):
        text = json.dumps(list(yaml.safe_load_all(text)), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


GOLDEN: Final[dict[str, Callable[[], str]]] = {
    "tests/golden/commands.txt": _commands,
    "tests/golden/protocol.schema.json": lambda: json.dumps(protocol_schema(), indent=1, ensure_ascii=False) + "\n",
    "tests/golden/database.sql": _database,
    "tests/golden/audit.log": _audit_log,
    "tests/golden/monitoring.txt": _monitoring,
}
"""Path to what makes the file."""
