"""The revision: read from git's own files, as git itself tells it."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from pocket_agent.observability.revision import FILE, UNKNOWN, checkout_revision, find_revision
from tests.harness.absence import absent
from tests.harness.tool import ROOT, require_tool


def git(folder: Path, *arguments: str) -> str:
    """Run git, without anybody's settings."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = subprocess.run(
        [str(require_tool("git")), *arguments], cwd=folder, env=env, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one commit and the package in it."""
    folder = tmp_path / "checkout"
    package(folder).mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "commit", "--quiet", "--allow-empty", "--message=first")
    return folder


def package(checkout: Path) -> Path:
    """Where the package is in a checkout."""
    return checkout / "src" / "pocket_agent"


def head(folder: Path) -> str:
    """What git says."""
    return git(folder, "rev-parse", "HEAD")[:12]


def test_of_a_branch(checkout: Path) -> None:
    assert find_revision(package(checkout)) == head(checkout)


def test_of_a_branch_with_a_path_for_a_name(checkout: Path) -> None:
    git(checkout, "checkout", "--quiet", "-b", "feature/one")
    git(checkout, "commit", "--quiet", "--allow-empty", "--message=second")
    assert find_revision(package(checkout)) == head(checkout)


def test_of_a_detached_head(checkout: Path) -> None:
    git(checkout, "checkout", "--quiet", "--detach")
    assert find_revision(package(checkout)) == head(checkout)


def test_of_packed_references(checkout: Path) -> None:
    git(checkout, "branch", "other-main")
    git(checkout, "pack-refs", "--all")
    assert not (checkout / ".git/refs/heads/main").exists()
    assert find_revision(package(checkout)) == head(checkout)


def test_of_a_further_worktree(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "worktree", "add", "--quiet", str(tmp_path / "further"), "-b", "further")
    git(tmp_path / "further", "commit", "--quiet", "--allow-empty", "--message=second")
    package(tmp_path / "further").mkdir(parents=True)
    assert find_revision(package(tmp_path / "further")) == head(tmp_path / "further") != head(checkout)


def test_of_a_checkout_without_a_commit(tmp_path: Path) -> None:
    package(tmp_path).mkdir(parents=True)
    git(tmp_path, "init", "--quiet")
    assert find_revision(package(tmp_path)) == UNKNOWN


def test_an_installed_package_says_what_it_was_built_from(tmp_path: Path) -> None:
    installed = tmp_path / "site-packages" / "pocket_agent"
    installed.mkdir(parents=True)
    assert find_revision(installed) == UNKNOWN
    (installed / FILE).write_text("0123456789ab\n", "utf-8")
    assert find_revision(installed) == "0123456789ab"


def test_a_repository_around_an_installed_package_is_another_program(checkout: Path) -> None:
    installed = checkout / ".venv" / "pocket_agent"
    installed.mkdir(parents=True)
    assert find_revision(installed) == UNKNOWN


def test_nonsense_is_no_revision(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for text in ("", "ref: refs/heads/none\n", "z" * 40, "\xff"):
        (tmp_path / ".git" / "HEAD").write_text(text, "latin-1")
        assert checkout_revision(tmp_path) is None


def test_a_package_holds_the_commit_that_it_was_built_from(checkout: Path, tmp_path: Path) -> None:
    if find_spec("hatchling") is None:
        absent("hatchling")
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout / name)
    shutil.copytree(ROOT / "docs" / "runbooks", checkout / "docs" / "runbooks")
    package(checkout).rmdir()
    shutil.copytree(ROOT / "src", checkout / "src", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    build(checkout, "sdist", tmp_path / "built")
    build(checkout, "wheel", tmp_path / "built")
    assert revision_in(tmp_path / "built") == head(checkout)
    (archive,) = (tmp_path / "built").glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    build(source, "wheel", tmp_path / "again")
    assert revision_in(tmp_path / "again") == head(checkout), "a source distribution hands it on"


def build(folder: Path, target: str, to: Path) -> None:
    """Build a distribution."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(to)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def revision_in(folder: Path) -> str:
    """What the only wheel of a folder says."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return opened.read(f"pocket_agent/{FILE}").decode().strip()
