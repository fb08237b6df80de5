"""Which directories a path that is being typed may go on to. Which may be projects is in test_projects.py."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pocket_agent.directory import MAX_COMPLETIONS, Completions, Directories
from pocket_agent.errors import InvalidPathError
from pocket_agent.settings import ProjectSettings, Settings


def allowing(*roots: Path) -> Settings:
    """Settings that restrict projects to some directories."""
    return Settings(projects=ProjectSettings(allowed_roots=roots))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Some directories and files, two of them outside of `code`."""
    for name in ("code/alpha", "code/Alpine", "code/beta/inner", "code/.hidden", "code/data", "other/secret"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "code" / "almost.txt").write_text("a file")
    return tmp_path


async def names(directories: Directories, typed: str) -> list[str]:
    """What comes after the last slash of each completion."""
    return [path.rpartition("/")[2] for path in (await directories.complete(typed)).paths]


async def test_a_path_goes_on_to_the_directories_that_begin_so(tree: Path) -> None:
    anywhere = Directories(allowing(), tree / "private")
    assert await anywhere.complete(f"{tree}/code/al") == Completions(
        [f"{tree}/code/alpha", f"{tree}/code/Alpine"], truncated=False
    )
    assert await names(anywhere, f"{tree}/code/AL") == ["alpha", "Alpine"]
    assert await names(anywhere, f"{tree}/code/") == ["alpha", "Alpine", "beta", "data"]
    assert await names(anywhere, f"{tree}/code/.") == [".hidden"]
    assert await names(anywhere, f"{tree}/code/beta/") == ["inner"]


@pytest.mark.parametrize(
    "typed", ["code", "./code", "~", "~/code", "/tmp\0/", "/none/such", "/dev/null/", "/" + "x" * 5000]
)
async def test_what_leads_nowhere_goes_on_to_nothing(tree: Path, typed: str) -> None:
    assert not (await Directories(allowing(), tree / "private").complete(typed)).paths


async def test_it_begins_at_the_roots_or_at_home(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rooted = Directories(allowing(tree / "code", tree / "gone"), tree / "private")
    assert (await rooted.complete("")).paths == [str(tree / "code")]
    monkeypatch.setenv("HOME", str(tree / "other"))
    assert (await Directories(allowing(), tree / "private").complete(" ")).paths == [str(tree / "other")]
    monkeypatch.setenv("HOME", str(tree / "gone"))
    assert (await Directories(allowing(), tree / "private").complete("")).paths == []


async def test_outside_the_roots_only_the_way_to_them_is_told(tree: Path) -> None:
    rooted = Directories(allowing(tree / "code"), tree / "private")
    assert await names(rooted, "/") == [tree.parts[1]]
    assert await names(rooted, f"{tree}/") == ["code"]
    assert await names(rooted, f"{tree}/o") == []
    assert await names(rooted, f"{tree}/other/") == []
    assert await names(rooted, f"{tree}/code/../other/") == []
    assert await names(rooted, f"{tree}/none/") == []
    assert await names(rooted, f"{tree}/code/be") == ["beta"]


async def test_links_out_of_the_roots_are_not_followed(tree: Path) -> None:
    (tree / "code" / "escape").symlink_to(tree / "other")
    (tree / "code" / "inside").symlink_to(tree / "code" / "beta")
    (tree / "code" / "loop").symlink_to(tree / "code" / "loop")
    rooted = Directories(allowing(tree / "code"), tree / "private")
    assert await names(rooted, f"{tree}/code/") == ["alpha", "Alpine", "beta", "data", "inside"]
    assert await names(rooted, f"{tree}/code/escape/") == []
    assert await names(rooted, f"{tree}/code/inside/") == ["inner"]


async def test_the_servers_own_data_is_left_out(tree: Path) -> None:
    directories = Directories(allowing(), tree / "code" / "data")
    assert await names(directories, f"{tree}/code/") == ["alpha", "Alpine", "beta"]
    (tree / "code" / "data" / "spool").mkdir()
    assert await names(directories, f"{tree}/code/data/") == []


async def test_directories_that_cannot_be_entered_or_named_are_left_out(tree: Path) -> None:
    os.mkdir(os.fsencode(tree / "code") + b"/\xff")  # noqa: PTH102 - pathlib takes no bytes
    assert "\udcff" not in "".join(await names(Directories(allowing(), tree / "private"), f"{tree}/code/"))


async def test_there_are_never_too_many(tree: Path) -> None:
    for number in range(MAX_COMPLETIONS):
        (tree / "other" / f"d{number:03}").mkdir()
    anywhere = Directories(allowing(), tree / "private")
    exactly = await anywhere.complete(f"{tree}/other/d")
    assert (len(exactly.paths), exactly.truncated) == (MAX_COMPLETIONS, False)
    more = await anywhere.complete(f"{tree}/other/")
    assert (len(more.paths), more.truncated) == (MAX_COMPLETIONS, True)


async def refused(directories: Directories, path: Path) -> bool:
    """Whether an agent may not work there."""
    with contextlib.suppress(InvalidPathError):
        await directories.find(str(path))
        return False
    return True


async def test_the_data_directory_is_refused_from_inside_and_from_around(tree: Path) -> None:
    data = tree / "code" / "data"
    (data / "spool").mkdir()
    (tree / "link").symlink_to(tree / "code")
    (tree / "inner").symlink_to(data / "spool")
    anywhere = Directories(allowing(), tree / "link" / "data")
    paths = (tree, tree / "code", data, data / "spool", tree / "link", tree / "inner", Path("/"))
    assert [path for path in paths if not await refused(anywhere, path)] == []
    assert not await refused(anywhere, tree / "code" / "alpha")
    # What may not be a project itself still leads to those that may.
    assert await names(anywhere, f"{tree}/co") == ["code"]
    assert await names(anywhere, f"{tree}/code/da") == []


MOUNTED = """
import sys
from pathlib import Path
from pocket_agent.settings import Settings
from pocket_agent.directory import Directories, private_paths
from pocket_agent.errors import InvalidPathError
from pocket_agent.errors import InvalidPathError

tree = Path(sys.argv[1])
anywhere = Directories(Settings(), tree / "code" / "data")
for path in (tree / "copy", tree / "copy" / "data", tree / "other", tree / "other" / "secret", tree / "code" / "beta"):
    try:
        anywhere._check(path)
    except InvalidPathError:
        print(path.relative_to(tree))
"""


def test_a_bind_mount_of_the_data_directory_or_of_one_above_it_is_refused_too(tree: Path) -> None:
    (tree / "copy").mkdir()
    mounts = 'mount --bind "$1/code" "$1/copy"; mount --bind "$1/code/data" "$1/other/secret"'
    script = f'{mounts}; exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh", tree, sys.executable, MOUNTED],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr:
        pytest.skip("this user may make no mounts")
    assert done.stdout.split() == ["copy", "copy/data", "other", "other/secret"], done.stderr


async def test_nothing_outside_the_roots_is_said_to_exist(tmp_path: Path) -> None:
    """A client that may not use a path must not learn whether it is there."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root, outside / "there"):
        folder.mkdir(parents=True)
    (outside / "file").touch()
    (root / "link").symlink_to(outside)
    known = Directories(allowing(root), tmp_path / "data")
    for find in (known.find, known.find_file):
        said = set()
        for path in ("there", "missing", "file", "there/deeper", "file/deeper"):
            for base in (outside, root / "link", root / ".." / "outside"):
                with pytest.raises(InvalidPathError) as refused:
                    await find(str(base / path))
                said.add(refused.value.message)
        assert len(said) == 1, said
