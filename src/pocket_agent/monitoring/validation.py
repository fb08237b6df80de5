"""Checks a rendered stack with the programs that will read it, as far as they are installed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

_SECONDS: Final = 120.0
_OUTPUT: Final = 4000

Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """A program's word on some of the files.

    Attributes:
        name: what was asked of it.
        status: `skipped` when the program is not installed or there is nothing to check.
        message: the files that are good, what it said against them, or why it was not asked.
    """

    name: str
    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class _Question:
    """What a program is asked.

    Attributes:
        name: for people.
        programs: the names under which it may be installed.
        arguments: before the files.
        files: below the directory, or a pattern for some.
        prefix: of each file's argument.
        optional: whether there may be no such files.
    """

    name: str
    programs: tuple[str, ...]
    arguments: tuple[str, ...]
    files: str
    prefix: str = ""
    optional: bool = False


_ADVICE: Final = {
    "field url_file not found": "monitoring.webhook_url_file and watchdog_url_file need Alertmanager 0.26 or newer; "
    "update it, or use monitoring.webhook_url and watchdog_url."
}
"""What to do about some of what programs say."""
_LINT: Final = ("--lint=all", "--lint-fatal")
_QUESTIONS: Final = (
    _Question("promtool check config", ("promtool",), ("check", "config", *_LINT), "prometheus/prometheus.yml"),
    _Question("promtool check rules", ("promtool",), ("check", "rules", *_LINT), "prometheus/rules/*.yml"),
    _Question("promtool test rules", ("promtool",), ("test", "rules"), "prometheus/tests/*.yml", optional=True),
    _Question("amtool check-config", ("amtool",), ("check-config",), "alertmanager/alertmanager.yml"),
    _Question(
        "blackbox --config.check",
        ("blackbox_exporter", "prometheus-blackbox-exporter"),
        ("--config.check",),
        "blackbox/blackbox.yml",
        "--config.file=",
    ),
    _Question("k6 inspect", ("k6",), ("inspect",), "k6/load-test.js"),
    _Question("loki -verify-config", ("loki",), ("-verify-config",), "loki/config.yml", "-config.file="),
    _Question("alloy fmt", ("alloy",), ("fmt",), "alloy/config.alloy"),
    _Question("promtail -check-syntax", ("promtail",), ("-check-syntax",), "promtail/config.yml", "-config.file="),
    _Question(
        "otelcol validate", ("otelcol", "otelcol-contrib"), ("validate",), "otel-collector/config.yaml", "--config="
    ),
)


def find_program(name: str) -> str | None:
    """A program of PATH, or one that came with a Python package and is beside the interpreter, as k6 is."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def check(directory: Path, find: Callable[[str], str | None] = find_program) -> Iterator[Check]:
    """Check the files of a directory, one result for each question.

    Args:
        directory: what `render` wrote.
        find: where a program is; None when it is not installed.
    """
    directory = directory.absolute()
    for question in _QUESTIONS:
        files = sorted(directory.glob(question.files))
        program = next((found for name in question.programs if (found := find(name)) is not None), None)
        if not files and question.optional:
            yield Check(question.name, "skipped", f"there is no {question.files}")
        elif not files:
            yield Check(question.name, "failed", f"there is no {question.files}; render the stack first")
        elif program is None:
            yield Check(question.name, "skipped", f"{question.programs[0]} is not installed")
        else:
            yield _ask(question, str(Path(program).absolute()), directory, files)


def _ask(question: _Question, program: str, directory: Path, files: Sequence[Path]) -> Check:
    try:
        done = subprocess.run(  # noqa: S603 - a list, of our own words and files
            [program, *question.arguments, *(f"{question.prefix}{file}" for file in files)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            cwd=directory,
            env={**os.environ, "K6_NO_USAGE_REPORT": "true"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check(question.name, "failed", f"{program} did not end within {_SECONDS:g} s")
    except OSError as error:
        return Check(question.name, "failed", f"{program} cannot be run: {error.strerror}")
    if done.returncode == 0:
        return Check(question.name, "ok", ", ".join(str(file.relative_to(directory)) for file in files))
    said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()[-_OUTPUT:]
    said += "".join(f"\n{advice}" for words, advice in _ADVICE.items() if words in said)
    return Check(question.name, "failed", said or f"{program} ended with status {done.returncode}")
