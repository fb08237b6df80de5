"""Sessions on the disk: what is listed, read by pages and followed, and what a hostile file cannot do."""

import asyncio
import json
import os
import random
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pocket_agent.claude import transcripts as module
from pocket_agent.claude.process_tree import read_row
from pocket_agent.claude.transcript_records import Shown
from pocket_agent.claude.transcripts import (
    Keeping,
    Transcripts,
    configuration_directory,
    folder_name,
    keeping,
    worktrees,
)
from pocket_agent.errors import FileOperationError, ValidationError
from tests.harness.follow import eventually
from tests.harness.sessions import AT, Machine, answer, name_of

MAX_LINE = 20_000


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "configuration", tmp_path / "project")


@pytest.fixture
async def transcripts(machine: Machine) -> AsyncIterator[Transcripts]:
    value = Transcripts(machine.configuration, MAX_LINE)
    yield value
    value.close()


async def listed(transcripts: Transcripts, machine: Machine, limit: int = 100) -> list[module.StoredSession]:
    return (await transcripts.sessions([str(machine.project)], limit)).sessions


async def whole(transcripts: Transcripts, machine: Machine, limit: int = 7) -> list[Shown]:
    """All that is shown of session 1, page by page from the end."""
    found: list[Shown] = []
    before: int | None = None
    while before != 0:
        page = await transcripts.page([str(machine.project)], name_of(1), before, limit=limit, max_bytes=50_000)
        assert before is None or page.before < before
        before = page.before
        found = page.lines + found
    return found


def test_the_names_are_those_of_the_cli() -> None:
    # Observed with 2.1.332.
    assert folder_name("/tmp/x/proj \u00e9_a.b") == "-tmp-x-proj---a-b"
    assert folder_name("/tmp/x/em\U0001f600ji") == "-tmp-x-em--ji"
    assert folder_name("/" + "d" * 300) == "-" + "d" * 199
    assert configuration_directory({"CLAUDE_CONFIG_DIR": "/c", "HOME": "/h"}) == Path("/c")
    assert configuration_directory({"HOME": "/h"}) == Path("/h/.claude")


async def test_a_session_is_listed_with_what_its_beginning_and_end_say(
    transcripts: Transcripts, machine: Machine
) -> None:
    assert await listed(transcripts, machine) == []  # there is no configuration directory yet
    machine.write(
        {"type": "mode", "mode": "normal"},
        machine.prompt("<local-command-caveat>x"),
        machine.prompt("first\nthing " + "x" * 500),
        answer("one"),
        machine.prompt("from a tool", isMeta=True),
        machine.prompt("[Request interrupted by user for tool use]"),
        machine.prompt("second"),
        {"type": "attachment", "attachment": {"type": "queued_command", "prompt": "third"}, "timestamp": AT},
    )
    (one,) = await listed(transcripts, machine)
    assert (one.session_id, one.directory, one.turns, one.estimated) == (name_of(1), str(machine.project), 3, False)
    assert one.title == one.first_prompt == ("first thing " + "x" * 500)[:200]
    assert (one.last_active, one.running) == (1796008926409, False)
    with machine.path().open("a") as file:
        file.write(json.dumps({"type": "ai-title", "aiTitle": "Named by the CLI"}) + "\n")
    assert [one.title for one in await listed(transcripts, machine)] == ["Named by the CLI"]
    with machine.path().open("a") as file:
        file.write(json.dumps({"type": "custom-title", "customTitle": "Named by a user"}) + "\n")
    assert [one.title for one in await listed(transcripts, machine)] == ["Named by a user"]


async def test_only_sessions_of_the_project_are_listed_the_last_written_first(
    transcripts: Transcripts, machine: Machine
) -> None:
    like = machine.project.with_name("project-x")  # another directory, whose folder begins with this one's
    same = machine.project / "a_b"
    other = machine.project / "a-b"  # one folder for both
    for number, directory in enumerate((machine.project, like, same, other), 1):
        path = machine.write(machine.prompt("hello", directory), number=number, directory=directory)
        os.utime(path, (number, number))
    machine.write({"type": "mode"}, number=5)  # a CLI that was given no prompt
    machine.write(answer("no directory"), number=6)
    (machine.path().parent / "notes.jsonl").write_text("{}\n")
    found = await listed(transcripts, machine)
    assert [(one.session_id, one.directory) for one in found] == [
        (name_of(4), str(other)),
        (name_of(3), str(same)),
        (name_of(1), str(machine.project)),
    ]
    listing = await transcripts.sessions([str(machine.project)], 2)
    assert ([one.session_id for one in listing.sessions], listing.truncated) == ([name_of(4), name_of(3)], True)
    assert await transcripts.find([str(machine.project)], name_of(2)) is None
    with pytest.raises(ValidationError, match="no such session"):
        await transcripts.page([str(machine.project)], name_of(2), None, limit=1, max_bytes=1000)


async def test_a_directory_that_leads_out_of_the_project_is_not_its_own(
    transcripts: Transcripts, machine: Machine
) -> None:
    for number, way in enumerate(("..", "../elsewhere", "inside/../../elsewhere"), 1):
        machine.write({**machine.prompt("x"), "cwd": f"{machine.project}/{way}"}, number=number)
        assert await transcripts.find([str(machine.project)], name_of(number)) is None
    assert (await transcripts.sessions([str(machine.project)], 10)).sessions == []


async def test_a_file_that_grows_is_not_summarized_again(
    transcripts: Transcripts, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = machine.write(machine.prompt("first"), machine.prompt("second"))
    project = str(machine.project)
    begin = await transcripts.continued([project], name_of(1), None, "")
    with monkeypatch.context() as patch:
        patch.delattr(module, "_summary_of")
        with path.open("a") as file:
            file.write(json.dumps(machine.prompt("third")) + "\n")
        found = await transcripts.continued([project], name_of(1), begin.end, begin.digest)
        assert [json.loads(line.data)["prompt"] for line in found.lines] == ["third"]
    # A shorter one is another file in its place.
    path.write_text(json.dumps(machine.prompt("x", machine.project.with_name("project-x"))) + "\n")
    with pytest.raises(ValidationError, match="no such session"):
        await transcripts.continued([project], name_of(1), begin.end, begin.digest)


async def test_worktrees_count_when_both_sides_say_so(transcripts: Transcripts, machine: Machine) -> None:
    git = ["git", "-C", str(machine.project), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    tree, forged = machine.project.with_name("tree"), machine.project.with_name("forged")
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"], ["worktree", "add", "-q", str(tree)]):
        await asyncio.to_thread(subprocess.run, [*git, *command], check=True)
    assert worktrees(machine.project) == [str(tree)]
    assert worktrees(machine.project / "a" / "b") == [str(tree / "a" / "b")]
    assert worktrees(tree) == [], "the others are not its own"
    (forged / ".git").mkdir(parents=True)
    made = machine.project / ".git" / "worktrees" / "forged"
    made.mkdir()
    (made / "gitdir").write_text(f"{forged}/.git\n")
    assert worktrees(machine.project) == [str(tree)]
    machine.write(machine.prompt("in a tree", tree), directory=tree)
    machine.write(machine.prompt("elsewhere", forged), number=2, directory=forged)
    assert [one.directory for one in await listed(transcripts, machine)] == [str(tree)]


async def test_an_interruption_is_no_prompt(transcripts: Transcripts, machine: Machine) -> None:
    machine.write(machine.prompt("begin"), machine.prompt("[Request interrupted by user]"))
    assert [one.type for one in await whole(transcripts, machine)] == ["prompt", "agent_message"]


async def test_turns_of_a_large_session_are_an_estimate(
    transcripts: Transcripts, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WINDOW_BYTES", 2000)
    machine.write(*(machine.prompt(f"prompt {number}") for number in range(500)))
    (one,) = await listed(transcripts, machine)
    assert one.estimated
    assert 400 < one.turns < 600
    assert one.first_prompt == "prompt 0"


async def test_pages_have_each_record_once(
    transcripts: Transcripts, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", 500)
    choice = random.Random(1)  # noqa: S311 - no secret
    texts = [f"{number} " + "x" * choice.choice((0, 10, 499, 500, 501, 3000)) for number in range(200)]
    records = [machine.prompt(texts[0]), *map(answer, texts[1:])]
    path = machine.write(*records, {"type": "last-prompt", "lastPrompt": "hidden"}, {"type": "new-in-2030"})
    with path.open("ab") as file:
        file.write(b'{"type":"assistant","half')
    found = await whole(transcripts, machine)
    assert [json.loads(one.data)["message"]["content"][0]["text"] for one in found[1:-1]] == texts[1:]
    assert json.loads(found[0].data) == {"execution_id": "u", "prompt": texts[0], "by": "terminal"}
    assert json.loads(found[-1].data) == {"type": "new-in-2030"}
    content = path.read_bytes()
    assert [content[one.start : one.end] for one in found[1:]] == [one.data + b"\n" for one in found[1:]]
    assert [one.type for one in found] == ["prompt", *["agent_message"] * 200]


async def test_broken_and_huge_lines_become_errors(
    transcripts: Transcripts, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SCAN_BYTES", 30_000)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 5000)
    bomb = b'{"a":' * 5000
    lines = [
        json.dumps(machine.prompt("first")).encode(),
        b"not json",
        b"\0" * 9000,
        b'{"type":"user","message":{"content":"' + b"x" * 200_000 + b'"}}',
        b"\xff\xfe",
        bomb[:MAX_LINE],
        b'{"type":"user","message":17}',
        b'{"type":"user","message":{"content":"\\ud800"}}',
        b"",
        json.dumps(answer("last")).encode(),
    ]
    machine.path().write_bytes(b"\n".join(lines) + b"\n")
    assert [one.first_prompt for one in await listed(transcripts, machine)] == ["first"]
    found = await whole(transcripts, machine)
    kinds = ["prompt", "error", "error", "error", "error", "error", "agent_message", "agent_message", "agent_message"]
    assert [one.type for one in found] == kinds
    assert found[-2].data == lines[-3]
    assert found[-3].data == lines[-4]
    errors = [json.loads(one.data) for one in found if one.type == "error"]
    assert [error["code"] for error in errors] == [*["INVALID_MESSAGE"] * 2, "RESOURCE_LIMIT", *["INVALID_MESSAGE"] * 2]


async def test_nothing_outside_the_directory_is_read(
    transcripts: Transcripts, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = machine.write(machine.prompt("secret"), number=9).rename(machine.project.with_name("outside.jsonl"))
    machine.path(1).symlink_to(outside)
    os.mkfifo(machine.path(2))
    machine.path(3).mkdir()
    machine.path(4).symlink_to("/dev/zero")
    (machine.path().parent / os.fsdecode(b"\xff\xfe.jsonl")).write_text("x")
    elsewhere = machine.project.with_name("elsewhere")
    (elsewhere / "moved").mkdir(parents=True)
    outside.rename(elsewhere / "moved" / f"{name_of(5)}.jsonl")
    (machine.configuration / "projects" / f"{folder_name(str(machine.project))}-moved").symlink_to(elsewhere / "moved")
    assert await listed(transcripts, machine) == []
    for number in (1, 2, 3, 4):
        with pytest.raises(FileOperationError, match="cannot be read"):
            await transcripts.page([str(machine.project)], name_of(number), None, limit=1, max_bytes=1000)
    with pytest.raises(ValidationError):
        await transcripts.page([str(machine.project)], name_of(5), None, limit=1, max_bytes=1000)
    machine.write(machine.prompt("mine"), number=6)
    assert len(await listed(transcripts, machine)) == 1
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # the file of another user
    assert await listed(transcripts, machine) == []


async def test_a_projects_folder_that_is_a_link_or_no_folder_is_refused(
    transcripts: Transcripts, machine: Machine
) -> None:
    machine.write(machine.prompt("mine"))
    projects = machine.configuration / "projects"
    moved = projects.rename(machine.project.with_name("moved"))
    projects.symlink_to(moved)
    with pytest.raises(FileOperationError, match="cannot be read"):
        await listed(transcripts, machine)
    projects.unlink()
    projects.write_text("x")
    with pytest.raises(FileOperationError, match="cannot be read"):
        await listed(transcripts, machine)


async def test_ten_thousand_sessions_are_listed(transcripts: Transcripts, machine: Machine) -> None:
    text = json.dumps(machine.prompt("hello")) + "\n"
    machine.path()
    for number in range(10_000):
        machine.path().with_name(f"{name_of(number)}.jsonl").write_text(text)
    listing = await transcripts.sessions([str(machine.project)], 100)
    assert (len(listing.sessions), listing.truncated) == (100, True)


async def test_the_running_cli_is_found_by_its_record(transcripts: Transcripts, machine: Machine) -> None:
    machine.write(machine.prompt("hello"))
    folder = machine.configuration / "sessions"
    folder.mkdir()
    process = await asyncio.create_subprocess_exec("sleep", "600")
    try:
        row = read_row(process.pid)
        assert row is not None
        record = {"pid": process.pid, "sessionId": name_of(1), "procStart": row.start_time, "status": "idle"}
        (folder / "1.json").write_text("broken")
        (folder / "2.json").write_text('{"pid":"x"}')
        os.mkfifo(folder / "3.json")
        (folder / f"{process.pid}.json").write_text(json.dumps(record))
        assert [one.running for one in await listed(transcripts, machine)] == [True]
        # Of another container, or of the same one before a restart: an agent that was killed is no terminal.
        for entrypoint, is_terminal in (("cli", True), ("sdk-cli", False), (None, True)):
            elsewhere = {**record, "pidDomain": "linux:x:pid:[1]", "entrypoint": entrypoint}
            (folder / f"{process.pid}.json").write_text(json.dumps(elsewhere))
            assert [one.running for one in await listed(transcripts, machine)] == [is_terminal]
        # The pid of a process that has ended, which another one has now.
        (folder / f"{process.pid}.json").write_text(json.dumps({**record, "procStart": "1"}))
        assert [one.running for one in await listed(transcripts, machine)] == [False]
        (folder / f"{process.pid}.json").write_text(json.dumps(record))
    finally:
        process.kill()
        await process.wait()
    assert [one.running for one in await listed(transcripts, machine)] == [False]


async def test_new_lines_are_followed_to_the_end_of_the_file(transcripts: Transcripts, machine: Machine) -> None:
    path = machine.write(machine.prompt("first"))
    page = await transcripts.page([str(machine.project)], name_of(1), None, limit=10, max_bytes=10_000)
    follower = await transcripts.follow([str(machine.project)], name_of(1), page.epoch, page.end)
    assert (await follower.next()).lines == []  # it is not running
    line = json.dumps(answer("second")).encode() + b"\n"
    with path.open("ab", buffering=0) as file:
        waiting = asyncio.create_task(follower.next())
        file.write(line[:20])
        file.write(line[20:] + b"\0" * 30_000)
        growth = await waiting
        while not growth.lines:
            growth = await follower.next()
        assert [one.data for one in growth.lines] == [line[:-1]]
        assert growth.end == page.end + len(line)
        file.write(b"\n" + line)
        seen: list[str] = []
        while len(seen) < 2:
            seen += [one.type for one in (await follower.next()).lines]
        assert seen == ["error", "agent_message"]
    path.write_bytes(line)
    assert (await follower.next()).ended == "replaced"
    path.unlink()
    assert (await follower.next()).ended == "deleted"


async def test_a_file_in_the_place_of_a_followed_one_is_noticed(transcripts: Transcripts, machine: Machine) -> None:
    path = machine.write(machine.prompt("first"))
    page = await transcripts.page([str(machine.project)], name_of(1), None, limit=10, max_bytes=10_000)
    follower = await transcripts.follow([str(machine.project)], name_of(1), page.epoch, page.end)
    await follower.next()
    path.write_text("x" * page.end * 2)  # the same file, written anew and longer
    assert (await follower.next()).ended == "replaced"
    machine.write(machine.prompt("another")).rename(path.with_name("kept"))
    machine.write(machine.prompt("first"), machine.prompt("second"))
    assert (await follower.next()).ended == "replaced"


async def test_a_directory_that_does_not_answer_fails_in_time(
    transcripts: Transcripts, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.01)
    hanging, released = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang() -> None:
        loop.call_soon_threadsafe(hanging.set)
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result()

    blocked = asyncio.create_task(transcripts.call(hang))
    await hanging.wait()
    with pytest.raises(FileOperationError, match="does not answer"):
        await listed(transcripts, machine)
    released.set()
    with pytest.raises(FileOperationError, match="does not answer"):
        await blocked
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 300.0)
    await eventually(lambda: _is_empty(transcripts, machine), "it answers again")


async def _is_empty(transcripts: Transcripts, machine: Machine) -> bool:
    return await listed(transcripts, machine) == []


def test_whether_a_message_is_stored(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is searched from the end, in parts."""

    def found(message: str, session: int = 1) -> Keeping:
        return keeping(machine.configuration, str(machine.project), name_of(session), message)

    assert found("a") is Keeping.UNKNOWN, "without a configuration directory"
    machine.configuration.mkdir()
    assert found("a") is Keeping.NO_SESSION
    machine.write(*(machine.prompt("x", uuid=f"u-{number}") for number in range(50)))
    for size in (7, 50, 2**20):
        monkeypatch.setattr(module, "_SEARCHED_BYTES", size)
        assert {found(f"u-{number}") for number in (0, 25, 49)} == {Keeping.STORED}, size
        assert {found(word) for word in ("u-50", "u-4x", "-1")} == {Keeping.MISSING}, size
    assert found("u-1", session=2) is Keeping.NO_SESSION
    path = machine.path(3)
    path.symlink_to(machine.path(1))
    assert found("u-1", session=3) is Keeping.UNKNOWN, "a link is not followed"
