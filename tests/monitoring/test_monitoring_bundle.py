"""A directory that is rendered into again and again: nothing of a person's is lost, nothing is ever half."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from pocket_agent.errors import FileOperationError
from pocket_agent.monitoring import bundle
from pocket_agent.monitoring.bundle import MANIFEST, Outcome, write
from pocket_agent.monitoring.files import RenderedFile

FILES = {"a.yml": "a: 1\n", "sub/b.yml": "b: 1\n", "sub/deep/c.yml": "c: 1\n"}


def put(folder: Path, files: Mapping[str, str], *, force: bool = False) -> Outcome:
    return write(folder, [RenderedFile(path, text) for path, text in files.items()], force=force)


def there(folder: Path) -> dict[str, str]:
    """What is in the directory beside the manifest."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in found}


def test_the_first_time_everything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "stack"
    assert put(folder, FILES) == Outcome(tuple(sorted(FILES)), (), (), (), ())
    assert there(folder) == FILES


def test_the_second_time_nothing_is(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert put(tmp_path, FILES) == Outcome((), tuple(sorted(FILES)), (), (), ())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_nobody_changed_is_brought_up_to_date(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    assert put(tmp_path, {**FILES, "a.yml": "a: 2\n"}).written == ("a.yml",)
    assert there(tmp_path)["a.yml"] == "a: 2\n"


def test_what_a_person_changed_is_left_alone_and_told_each_time(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    (tmp_path / "a.yml").write_text("mine\n")
    for text in ("a: 1\n", "a: 2\n", "a: 3\n"):
        assert put(tmp_path, {**FILES, "a.yml": text}).kept == ("a.yml",)
    assert there(tmp_path)["a.yml"] == "mine\n"


def test_force_overwrites_it(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    (tmp_path / "a.yml").write_text("mine\n")
    assert put(tmp_path, FILES, force=True).written == ("a.yml",)
    assert there(tmp_path) == FILES
    assert put(tmp_path, {**FILES, "a.yml": "a: 2\n"}).written == ("a.yml",), "it is ours again"


def test_a_change_that_was_taken_back_is_none(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    (tmp_path / "a.yml").write_text("mine\n")
    put(tmp_path, FILES)
    (tmp_path / "a.yml").write_text(FILES["a.yml"])
    assert put(tmp_path, {**FILES, "a.yml": "a: 2\n"}).written == ("a.yml",)


def test_what_was_there_before_the_first_time_is_a_persons(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("somebody's\n")
    outcome = put(tmp_path, FILES)
    assert (outcome.kept, len(outcome.written)) == (("a.yml",), 2)
    assert there(tmp_path)["a.yml"] == "somebody's\n"


def test_what_a_person_removed_is_written_again(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    (tmp_path / "a.yml").unlink()
    assert put(tmp_path, FILES).written == ("a.yml",)


def test_what_is_not_part_of_it_any_more_is_removed_with_its_directory(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    assert put(tmp_path, {"a.yml": FILES["a.yml"]}).removed == ("sub/b.yml", "sub/deep/c.yml")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.yml", MANIFEST])


def test_unless_a_person_changed_it_which_is_told_once(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    (tmp_path / "sub" / "b.yml").write_text("mine\n")
    outcome = put(tmp_path, {"a.yml": FILES["a.yml"]})
    assert (outcome.removed, outcome.abandoned) == (("sub/deep/c.yml",), ("sub/b.yml",))
    assert put(tmp_path, {"a.yml": FILES["a.yml"]}).abandoned == ()
    assert there(tmp_path) == {"a.yml": FILES["a.yml"], "sub/b.yml": "mine\n"}


def test_what_else_is_in_the_directory_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "note.txt").write_text("a note")
    put(tmp_path, FILES, force=True)
    put(tmp_path, {})
    assert there(tmp_path) == {"sub/note.txt": "a note"}


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"a.yml": "x"}', '{"a.yml": [1]}', "\xff\x00"])
def test_a_damaged_manifest_makes_everything_a_persons(tmp_path: Path, content: str) -> None:
    put(tmp_path, FILES)
    (tmp_path / MANIFEST).write_text(content, "latin-1")
    outcome = put(tmp_path, {**FILES, "a.yml": "a: 2\n"})
    assert outcome.kept == ("a.yml",)
    assert there(tmp_path) == FILES


@pytest.mark.parametrize("path", ["../outside.txt", "/outside.txt", "sub/../../outside.txt", ""])
def test_a_manifest_that_names_what_is_outside_removes_nothing_there(tmp_path: Path, path: str) -> None:
    folder, outside = tmp_path / "stack", tmp_path / "outside.txt"
    outside.write_text("x")
    put(folder, FILES)
    digest = bundle._digest(b"x")
    (folder / MANIFEST).write_text(json.dumps({path.replace("/outside", f"{tmp_path}/outside"): [digest]}))
    assert put(folder, {}).removed == ()
    assert outside.read_text() == "x"


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("path", ["a.yml", "sub", "sub/deep", MANIFEST])
def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path: Path, path: str, force: bool) -> None:
    folder, elsewhere = tmp_path / "stack", tmp_path / "elsewhere"
    elsewhere.mkdir()
    victim = elsewhere / "victim"
    victim.write_text("precious")
    link(folder / path, victim if path in ("a.yml", MANIFEST) else elsewhere)
    with pytest.raises(FileOperationError, match="is a symbolic link, which is not followed"):
        put(folder, FILES, force=force)
    assert there(elsewhere) == {"victim": "precious"}
    assert not (elsewhere / MANIFEST).exists()


def test_a_link_in_the_place_of_a_removed_file_is_not_followed(tmp_path: Path) -> None:
    folder, victim = tmp_path / "stack", tmp_path / "victim"
    put(folder, FILES)
    victim.write_text(FILES["a.yml"])
    (folder / "a.yml").unlink()
    link(folder / "a.yml", victim)
    with pytest.raises(FileOperationError):
        put(folder, {})
    assert victim.exists()


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link(tmp_path / "stack", tmp_path / "real")
    put(tmp_path / "stack", FILES)
    assert there(tmp_path / "real") == FILES


def test_a_directory_in_the_place_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yml").mkdir()
    with pytest.raises(FileOperationError, match=r"a\.yml: not a regular file"):
        put(tmp_path, FILES, force=True)


def test_a_file_in_the_place_of_a_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "sub").write_text("a file")
    with pytest.raises(FileOperationError, match="sub"):
        put(tmp_path, FILES, force=True)
    assert there(tmp_path)["sub"] == "a file"


def test_a_pipe_in_the_place_of_a_file_stops_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yml")
    with pytest.raises(FileOperationError, match=r"a\.yml: not a regular file"):
        put(tmp_path, FILES)


def test_the_stack_may_not_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "stack").write_text("x")
    with pytest.raises(FileOperationError, match="stack"):
        put(tmp_path / "stack", FILES)


REFUSED = """
import os, sys
from pathlib import Path
from pocket_agent.errors import FileOperationError
from pocket_agent.monitoring.bundle import write
from pocket_agent.monitoring.files import RenderedFile

if os.geteuid() == 0:
    os.seteuid(65534)  # root may write anywhere
try:
    write(Path(sys.argv[1]), [RenderedFile("a.yml", "x")])
except FileOperationError as error:
    print(error.message)
"""


def test_a_directory_that_cannot_be_written_is_told() -> None:
    with tempfile.TemporaryDirectory() as name:  # where everybody gets to, unlike pytest's own
        Path(name).chmod(0o755)
        folder = Path(name) / "stack"
        folder.mkdir(mode=0o555)
        done = subprocess.run([sys.executable, "-c", REFUSED, str(folder)], capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"The stack cannot be written into {folder}: {folder}"), done
        assert done.stdout.rstrip().endswith("Permission denied.")
        assert list(folder.iterdir()) == []


def test_a_disk_that_fills_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, FILES)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileOperationError, match="No space left on device"):
        put(tmp_path, {**FILES, "a.yml": "a: 2\n"})
    assert there(tmp_path) == FILES, "and no draft"


KILLED = """
import os, signal, sys
from pathlib import Path
from pocket_agent.monitoring import bundle
from pocket_agent.monitoring.files import RenderedFile

left = int(sys.argv[2])
def counted(call):
    def run(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return run
for name in ("fsync", "open"):
    setattr(bundle.os, name, counted(getattr(os, name)))
Path.replace = counted(Path.replace)
Path.unlink = counted(Path.unlink)
files = [RenderedFile(f"{name}.yml", f"{name}: {'new' * 1000}") for name in "abc"]
bundle.write(Path(sys.argv[1]), files)
print("done")
"""


def test_kill_at_any_moment_leaves_old_or_new_and_the_next_run_makes_up_for_it(tmp_path: Path) -> None:
    old = {f"{name}.yml": f"{name}: old" for name in "abcd"}
    new = {f"{name}.yml": f"{name}: {'new' * 1000}" for name in "abc"}
    moment, done = 0, False
    while not done:
        folder = tmp_path / str(moment)
        put(folder, old)
        ran = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(moment)], capture_output=True, check=False)
        done = ran.returncode == 0
        assert done or ran.returncode == -signal.SIGKILL, ran.stderr
        for path, text in there(folder).items():
            if not path.endswith(".rendering"):
                assert text in (old[path], new.get(path)), path
        newer = {path: text + "!" for path, text in new.items()}
        outcome = put(folder, newer)
        assert (outcome.kept, outcome.abandoned) == ((), ()), f"killed at moment {moment}"
        assert there(folder) == newer
        moment += 1
    assert moment > 10
