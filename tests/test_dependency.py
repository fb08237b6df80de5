"""What others have written and the package rests on: declared, bounded, used and pinned, so that it can be audited."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[1]
LOCKS: Final = ("package-lock.json", "webui/package-lock.json", "tests/grafana/package-lock.json")
UNBOUNDED: Final = {"cryptography": "its major versions come often, and bring what was mended"}
"""What may become of any version, and why."""


def declared(group: str | None = None) -> list[Requirement]:
    """What pyproject.toml asks for: to run, or in an optional group."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [
        Requirement(line) for line in (project["optional-dependencies"][group] if group else project["dependencies"])
    ]


def pins() -> dict[str, str]:
    """The versions in constraints.txt, by canonical name."""
    pairs = [line.partition("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()]
    return {canonicalize_name(name): pin for name, _, pin in pairs}


def needed(requirements: list[Requirement]) -> Iterator[str]:
    """The canonical names of all that these bring with them, here."""
    waiting, known = list(requirements), set[str]()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})) or name in known:
            continue
        known.add(name)
        yield name
        inner = [Requirement(line) for line in requires(name) or ()]
        # An extra's own requirements are those that its marker asks for.
        chosen = [{"extra": extra} for extra in (*wanted.extras, "")]
        waiting += [
            Requirement(str(one).partition(";")[0])
            for one in inner
            if one.marker is None or any(one.marker.evaluate(environment) for environment in chosen)
        ]


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deptry", "src", "--no-ansi"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_requirement_says_from_which_version_and_up_to_which() -> None:
    open_ = []
    for one in declared():
        operators = {specifier.operator for specifier in one.specifier}
        if "==" not in operators and (">=" not in operators or ("<" not in operators and one.name not in UNBOUNDED)):
            open_.append(str(one))
    assert open_ == []
    assert {one.name for one in declared()} >= UNBOUNDED.keys()


def test_tools_need_no_more_than_a_first_version() -> None:
    assert [str(one) for one in declared("dev") if not one.specifier and not one.name.startswith("types-")] == []


def test_everything_that_is_installed_has_the_version_that_is_pinned() -> None:
    known = pins()
    for name in needed([*declared(), *declared("dev")]):
        installed = version(name)
        assert known.get(name) == installed, f"{name}: {installed} is installed, {known.get(name)} is pinned"


def test_every_pin_fits_its_requirement() -> None:
    known = pins()
    for one in (*declared(), *declared("dev")):
        assert one.specifier.contains(known[canonicalize_name(one.name)], prereleases=True), str(one)


def test_constraints_are_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_of_npm_hold_a_hash_for_each_package_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    packages: dict[str, dict[str, Any]] = json.loads(text)["packages"]
    assert [
        name for name, one in packages.items() if name and not str(one.get("integrity")).startswith("sha512-")
    ] == []
    assert [name for name, one in packages.items() if "resolved" in one] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_of_npm_are_of_what_is_declared(lock: str) -> None:
    declared_ = json.loads((ROOT / lock).with_name("package.json").read_text("utf-8"))
    locked = json.loads((ROOT / lock).read_text("utf-8"))["packages"][""]
    for kind in ("dependencies", "devDependencies"):
        assert declared_.get(kind, {}) == locked.get(kind, {})


def test_the_audit_asks_about_every_lock() -> None:
    script = (ROOT / "scripts" / "audit").read_text("utf-8")
    assert "constraints.txt" in script
    folders = re.findall(r"^for folder in (.+); do$", script, re.MULTILINE)
    assert sorted(folders[0].split()) == sorted(str(Path(lock).parent) for lock in LOCKS)
