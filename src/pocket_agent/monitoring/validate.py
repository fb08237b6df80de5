"""Checks a rendered stack with those of its programs that are installed."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, NamedTuple

_SECONDS: Final = 60.0
"""Time limit for a program; each takes about a second of a core, which a busy machine may lack."""
_OUTPUT: Final = 4000

Status = Literal["ok", "failed", "skipped"]


class Validation(NamedTuple):
    """The result of a validator; `message`: the valid files, its output, or why it was skipped."""

    name: str
    status: Status
    message: str


class _Validator(NamedTuple):
    """How a program checks some files."""

    name: str
    programs: tuple[str, ...]  # the names under which it may be installed
    arguments: tuple[str, ...]  # before the files
    files: str  # a pattern below the directory
    prefix: str = ""  # of each file's argument
    setting: str = ""  # without which the files are not rendered; all others always are


_ADVICE: Final = {
    "field url_file not found": "monitoring.webhook_url_file and watchdog_url_file need Alertmanager 0.26 or newer; "
    "update it, or use monitoring.webhook_url and watchdog_url."
}
"""Advice for a message of a program."""
_LINT: Final = ("--lint=all", "--lint-fatal")
_VALIDATORS: Final = (
    _Validator("promtool check config", ("promtool",), ("check", "config", *_LINT), "prometheus/prometheus.yml"),
    _Validator("promtool check rules", ("promtool",), ("check", "rules", *_LINT), "prometheus/rules/*.yml"),
    _Validator("amtool check-config", ("amtool",), ("check-config",), "alertmanager/alertmanager.yml"),
    _Validator(
        "blackbox --config.check",
        ("blackbox_exporter", "prometheus-blackbox-exporter"),
        ("--config.check",),
        "blackbox/blackbox.yml",
        "--config.file=",
    ),
    _Validator("k6 inspect", ("k6",), ("inspect",), "k6/load-test.js"),
    _Validator("loki -verify-config", ("loki",), ("-verify-config",), "loki/config.yml", "-config.file="),
    _Validator("tempo -config.verify", ("tempo",), ("-config.verify",), "tempo/config.yml", "-config.file="),
    _Validator("alloy fmt", ("alloy",), ("fmt",), "alloy/config.alloy"),
    _Validator(
        "promtail -check-syntax",
        ("promtail",),
        ("-check-syntax",),
        "promtail/config.yml",
        "-config.file=",
        setting="monitoring.promtail",
    ),
    _Validator(
        "otelcol validate", ("otelcol", "otelcol-contrib"), ("validate",), "otel-collector/config.yaml", "--config="
    ),
)


def find_program(name: str) -> str | None:
    """A program in PATH, or next to the interpreter, where a Python package installs k6."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def validate(directory: Path, find: Callable[[str], str | None] = find_program) -> Iterator[Validation]:
    """Check a rendered directory, with one result for each validator; `find` returns the path of a program."""
    directory = directory.absolute()
    with ThreadPoolExecutor(len(_VALIDATORS), "validator") as pool:
        yield from pool.map(lambda validator: _validate(validator, directory, find), _VALIDATORS)


def _validate(validator: _Validator, directory: Path, find: Callable[[str], str | None]) -> Validation:
    files = sorted(directory.glob(validator.files))
    program = next(filter(None, map(find, validator.programs)), None)
    if not files and validator.setting:
        return Validation(validator.name, "skipped", f"{validator.setting} is off")
    if not files:
        return Validation(validator.name, "failed", f"there is no {validator.files}; render the stack first")
    if program is None:
        return Validation(validator.name, "skipped", f"{validator.programs[0]} is not installed")
    return _ask(validator, str(Path(program).absolute()), directory, files)


def _ask(validator: _Validator, program: str, directory: Path, files: Sequence[Path]) -> Validation:
    try:
        # Not a pipe, which a child of the program may hold open for ever.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # noqa: S603 - a list of constants and own files
                [program, *validator.arguments, *(f"{validator.prefix}{file}" for file in files)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_SECONDS,
                cwd=directory,
                env={**os.environ, "K6_NO_USAGE_REPORT": "true"},
                check=False,
            )
            output.seek(max(0, output.seek(0, os.SEEK_END) - _OUTPUT))
            said = output.read(_OUTPUT).decode("utf-8", "replace").strip()
    except subprocess.TimeoutExpired:
        return Validation(validator.name, "failed", f"{program} did not end within {_SECONDS:g} s")
    except OSError as error:
        return Validation(validator.name, "failed", f"{program} cannot be run: {error.strerror}")
    if done.returncode == 0:
        return Validation(validator.name, "ok", ", ".join(str(file.relative_to(directory)) for file in files))
    said += "".join(f"\n{advice}" for words, advice in _ADVICE.items() if words in said)
    return Validation(validator.name, "failed", said or f"{program} ended with status {done.returncode}")
