"""Checks a rendered stack with the programs that will read it, as far as they are installed."""

import os
import shutil
import subprocess
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
        message: what it said, or why it was not asked.
    """

    name: str
    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class _Question:
    name: str
    programs: tuple[str, ...]
    arguments: tuple[str, ...]
    files: tuple[Path, ...]


def check(directory: Path, find: Callable[[str], str | None] = shutil.which) -> Iterator[Check]:
    """Check the files of a directory, one result for each question.

    Args:
        directory: what `render` wrote.
        find: where a program is; None when it is not installed.
    """
    for question in _questions(directory):
        missing = [file for file in question.files if not file.exists()]
        program = next((found for name in question.programs if (found := find(name)) is not None), None)
        if missing or not question.files:
            what = ", ".join(str(file.relative_to(directory)) for file in missing) or "no such files"
            yield Check(question.name, "failed", f"not there: {what}; render the stack first")
        elif program is None:
            yield Check(question.name, "skipped", f"{question.programs[0]} is not installed")
        else:
            yield _ask(question, str(Path(program).absolute()), directory)


def _questions(directory: Path) -> Sequence[_Question]:
    rules = tuple(sorted(directory.glob("prometheus/rules/*.yml")))
    tests = tuple(sorted(directory.glob("prometheus/tests/*.yml")))
    config = directory / "prometheus" / "prometheus.yml"
    manager = directory / "alertmanager" / "alertmanager.yml"
    blackbox = directory / "blackbox" / "blackbox.yml"
    script = directory / "k6" / "load-test.js"
    promtool = ("promtool",)
    return (
        _Question(
            "promtool check config", promtool, ("check", "config", "--lint=all", "--lint-fatal", str(config)), (config,)
        ),
        _Question(
            "promtool check rules", promtool, ("check", "rules", "--lint=all", "--lint-fatal", *map(str, rules)), rules
        ),
        _Question("promtool test rules", promtool, ("test", "rules", *map(str, tests)), tests),
        _Question("amtool check-config", ("amtool",), ("check-config", str(manager)), (manager,)),
        _Question(
            "blackbox --config.check",
            ("blackbox_exporter", "prometheus-blackbox-exporter"),
            ("--config.check", f"--config.file={blackbox}"),
            (blackbox,),
        ),
        _Question("k6 inspect", ("k6",), ("inspect", str(script)), (script,)),
    )


def _ask(question: _Question, program: str, directory: Path) -> Check:
    try:
        done = subprocess.run(  # noqa: S603 - a list, of our own words and files
            [program, *question.arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            cwd=directory,
            env={**os.environ, "K6_NO_USAGE_REPORT": "true"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(question.name, "failed", f"{program} cannot be run: {error}")
    said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()[-_OUTPUT:]
    return Check(question.name, "ok" if done.returncode == 0 else "failed", said)
