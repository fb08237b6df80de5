"""`pocket-agent chat` as a process, in a pseudo-terminal or a pipe, with a real server behind it."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path

from pocket_agent.client import Client, Frame, Subscription
from tests.harness import DEADLINE_SECONDS
from tests.harness.follow import follow
from tests.harness.forkserver import ForkedProcess, fork_server
from tests.harness.question import FORM, OPTIONS, answer_of, asking
from tests.harness.repository import git, repository
from tests.harness.server import ServerProcess
from tests.harness.sessions import Machine, answer, name_of

_CODES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78])")
_COMMAND = "import typer; from pocket_agent.cli.main import chat_command; typer.run(chat_command)"


def environment(server: ServerProcess) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(server.home),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "PROMPT_TOOLKIT_NO_CPR": "1",
        "PA_URL": server.url,
        "PA_TOKEN": server.token,
        "PA_DATA_DIR": str(server.data_dir),
    }


class Person:
    """Somebody at a terminal: types, and waits to read something."""

    def __init__(self, terminal: int, process: ForkedProcess) -> None:
        self.process = process
        self._terminal = terminal
        self._shown = bytearray()
        self._changed = asyncio.Event()
        self._read_to = 0
        asyncio.get_running_loop().add_reader(terminal, self._on_output)

    def _on_output(self) -> None:
        try:
            self._shown += os.read(self._terminal, 65536)
        except OSError:  # EIO: the other side is gone
            asyncio.get_running_loop().remove_reader(self._terminal)
        self._changed.set()

    @property
    def shown(self) -> str:
        """All that was shown, without colours and cursor movements."""
        return _CODES.sub("", self._shown.decode("utf-8", "replace")).replace("\r", "")

    async def reads(self, words: str) -> str:
        """Wait until the words are shown, after those that were waited for before; returns all since these."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while (found := self.shown.find(words, self._read_to)) < 0:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{words!r} was not shown after:\n{self.shown[self._read_to :]}") from None
        since = self.shown[self._read_to : found]
        self._read_to = found + len(words)
        return since

    def types(self, text: str) -> None:
        """Type a line and press Enter."""
        self.presses(text + "\r")

    def presses(self, keys: str) -> None:
        """Press keys."""
        os.write(self._terminal, keys.encode())

    async def leaves(self) -> int:
        """Wait for the end of the program; returns its exit status."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.process.wait()

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._terminal)
        os.close(self._terminal)


@contextlib.asynccontextmanager
async def chat(server: ServerProcess, *arguments: str, cwd: Path | None = None) -> AsyncIterator[Person]:
    """The command in a pseudo-terminal of 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = fork_server().start(
        ["chat", *arguments],
        environment(server),
        theirs,
        terminal=True,
        cwd=cwd,
        imports=["pocket_agent.cli.chat.launch"],
    )
    os.close(theirs)
    person = Person(ours, process)
    try:
        yield person
    finally:
        await person.close()


async def run_script(server: ServerProcess, *arguments: str, given: bytes | None = None) -> tuple[int | None, str, str]:
    """The command without a terminal: exit status, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _COMMAND, *arguments,
        stdin=asyncio.subprocess.PIPE if given is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(server),
    )  # fmt: skip
    async with asyncio.timeout(DEADLINE_SECONDS):
        out, err = await process.communicate(given)
    return process.returncode, out.decode(), err.decode()


async def see(stream: Subscription, kind: str) -> Frame:
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for frame in stream:
            if frame.type == kind:
                return frame
    raise AssertionError("the project was deleted")


@contextlib.asynccontextmanager
async def watched(client: Client, folder: Path) -> AsyncIterator[Subscription]:
    project = await client.create_project(str(folder))
    async with client.subscribe(project.id, since=0) as stream:
        yield stream


async def test_a_conversation(standin_server: ServerProcess, folder: Path) -> None:
    async with chat(standin_server, cwd=folder) as person, standin_server.client() as other:
        await person.reads("Make it one")  # the path before it may be long enough to break the line
        person.types("y")
        await person.reads("(/help) ──")

        person.types("delta streamed-words ask Edit")
        await person.reads("> delta streamed-words ask Edit  (test)")
        await person.reads("streamed-words")
        await person.reads("▲ The agent asks to use Edit")

        person.types("lines 1")  # waits in the queue
        await person.reads("queued, at place 1")
        person.types("/queue")
        await person.reads("1  lines 1")
        person.types("/edit 1 ask Bash")
        await person.reads("changed")

        person.presses("\x03")
        await person.reads("interrupting…")
        await person.reads("no answer is needed any more")
        await person.reads("✗")
        await person.reads("> ask Bash")

        await person.reads("▲ The agent asks to use Bash")
        await person.reads("$ date")
        person.types("y")
        await person.reads("allowed by test")
        await person.reads("✓")

        person.types("ask Write")
        await person.reads("▲ The agent asks to use Write")
        person.types("n not today")
        await person.reads("denied by test: not today")
        await person.reads("✓")

        person.types("ask Bash")
        await person.reads("▲ The agent asks to use Bash")
        project = (await other.projects())[0]
        async with other.subscribe(project.id) as stream:
            assert stream.joined is not None
            await other.approve(project.id, stream.joined.approvals[0].approval_id)
        await person.reads("allowed by test")
        await person.reads("✓")

        person.types("/nonsense")
        await person.reads("There is no command /nonsense")
        person.types("/history 3")
        await person.reads("allowed by test")
        person.types("/clear")
        await person.reads("a new session begins")
        person.types("/resume Write")
        await person.reads("The id of a session is needed")
        (session,) = await other.sessions(project.id)
        person.types(f"/fork {session.session_id}")
        await person.reads("goes on with a copy of session")
        person.types("/quit")
        await person.reads("Nothing was stopped")
        assert await person.leaves() == 0


async def test_a_conversation_begins_with_the_history_of_its_session(
    standin_server: ServerProcess, folder: Path
) -> None:
    machine = Machine(standin_server.home / ".claude", folder)
    machine.write(machine.prompt("at the desk"), answer("an answer to the desk"))
    async with standin_server.client() as other:
        project = await other.create_project(str(folder))
        await other.resume(project.id, name_of(1))
        async with chat(standin_server, str(folder)) as person:
            await person.reads("> at the desk  (terminal)")
            await person.reads("an answer to the desk")
            await person.reads("the session “at the desk” goes on")


async def test_the_server_dies_and_comes_back(standin_server: ServerProcess, folder: Path) -> None:
    async with standin_server.client() as other, watched(other, folder) as stream:
        await other.execute(stream.project_id, "lines 2")
        async with chat(standin_server, str(folder)) as person:
            await person.reads("> lines 2  (test)")  # history
            await person.reads("✓")
            await standin_server.kill()
            since = await person.reads("── offline:")
            person.types("ask Bash")
            await person.reads("offline; the prompt is sent once when the server is back")
            await standin_server.start()
            since += await person.reads("── back")
            assert since.count("── offline:") == 0
            await person.reads("▲ The agent asks to use Bash")
            person.types("y")
            await person.reads("✓")
            await person.reads(">")  # Ctrl-D means nothing while something is printed above the prompt
            person.presses("\x04")
            await person.reads("Nothing was stopped")
            assert await person.leaves() == 0
        page = await other.messages(stream.project_id, limit=1000)
        prompts = [json.loads(bytes(entry.message))["prompt"] for entry in page.messages if entry.type == "prompt"]
        assert prompts == ["lines 2", "ask Bash"]


async def test_ctrl_c_twice_leaves_an_idle_agent_and_ctrl_d_a_working_one(
    standin_server: ServerProcess, folder: Path
) -> None:
    async with standin_server.client() as other, watched(other, folder) as stream:
        async with chat(standin_server, str(folder)) as person:
            await person.reads("(/help) ──")
            await person.reads(">")
            person.presses("half a line")
            await person.reads("half a line")
            person.presses("\x03")  # only empties the line
            person.types("/queue")
            await person.reads("No prompt waits.")
            person.presses("\x03")
            await person.reads("Ctrl-C again leaves")
            person.presses("\x03")
            assert await person.leaves() == 0
        async with chat(standin_server, str(folder)) as person:
            await person.reads("(/help) ──")
            person.types("delta at-work sleep 60")
            await person.reads("> delta at-work sleep 60  (test)")
            await person.reads("at-work")
            await person.reads("… >")
            person.presses("\x04")
            await person.reads("The agent goes on working")
            assert await person.leaves() == 0
        await see(stream, "prompt")
        assert (await other.projects())[0].state == "EXECUTING"
        await other.kill(stream.project_id)


async def test_a_project_is_picked_from_the_list(standin_server: ServerProcess, folder: Path, tmp_path: Path) -> None:
    async with standin_server.client() as other:
        project = await other.create_project(str(folder))
        async with chat(standin_server, cwd=tmp_path) as person:
            await person.reads(f"1  {project.name}")
            await person.reads("Which one?")
            person.types("1")
            await person.reads("(/help) ──")
            person.types("/projects")
            await person.reads("Which one?")
            person.types("")
            await person.reads("No project was chosen.")
            person.types("/quit")
            assert await person.leaves() == 0


async def test_conversations_are_begun_listed_and_switched(standin_server: ServerProcess, folder: Path) -> None:
    async with standin_server.client() as other:
        project = await other.create_project(str(folder))
        async with chat(standin_server, cwd=folder) as person:
            await person.reads(f"── {project.name}  ")
            person.types("/new Side work")
            await person.reads(f"── {project.name} / Side work")
            await person.reads("Side work >")
            person.types("delta said-aside")
            await person.reads("✓")
            person.types("/conversations")
            await person.reads("  main conversation  IDLE")
            await person.reads("* Side work  IDLE")
            person.types("/switch")
            await person.reads("2  Side work")
            await person.reads("Which conversation? [1]")
            person.types("")
            await person.reads(f"── {project.name}  ")
            person.types("/switch Side work")
            await person.reads("> delta said-aside  (test)")
            person.types("/switch nowhere")
            await person.reads("No conversation of this project has the title or id")
            person.types("/quit")
            assert await person.leaves() == 0
        (_, side) = (await other.conversations(project.id)).conversations
        assert (await other.messages(project.id)).messages == []
        for arguments in (["--conversation=Side work"], [f"--conversation={side.conversation_id}"]):
            async with chat(standin_server, *arguments, cwd=folder) as person:
                await person.reads(f"── {project.name} / Side work")
                person.types("/quit")
                assert await person.leaves() == 0
        async with chat(standin_server, cwd=folder) as person:
            await person.reads("Which conversation? [1]")
            person.types("9")
            await person.reads("No conversation was chosen.")
            assert await person.leaves() == 1
    status, out, _ = await run_script(
        standin_server, str(folder), "--conversation=Side work", "--prompt=ask Bash", "--yes"
    )
    assert status == 0, out


async def test_conversations_are_renamed_archived_restored_and_deleted(
    standin_server: ServerProcess, folder: Path
) -> None:
    repository(folder)
    async with standin_server.client() as other:
        project = await other.create_project(str(folder))
        main = f"── {project.name}  "
        async with chat(standin_server, cwd=folder) as person:
            await person.reads(main)
            person.types("/archive")
            await person.reads("The main conversation of a project cannot be archived.")
            for refused in ("/rename Main", "/delete"):
                person.types(refused)
                await person.reads("The main conversation has the name of its project")
            person.types("/restore")
            await person.reads("No conversation of this project is archived.")
            person.types("/new --worktre Side")
            await person.reads("There is no option --worktre")
            person.types("/new --worktree=side Side work")
            await person.reads(f"── {project.name} / Side work")
            (_, side) = (await other.conversations(project.id)).conversations
            assert git(Path(side.path), "branch", "--show-current") == "side"

            person.types("/rename Other\u202e work")
            await person.reads("Other<U+202E> work >")
            person.types("/archive Side work")
            await person.reads("/archive takes no name")
            person.types("delta said-aside ask Bash")
            await person.reads("▲ The agent asks to use Bash")
            person.types("/archive")
            await person.reads("not possible while")
            person.types("y")
            await person.reads("✓")
            person.types("/archive")
            await person.reads("is archived; /restore brings it back")
            await person.reads(main)
            assert len((await other.conversations(project.id)).conversations) == 1
            person.types("/restore")
            await person.reads("Other<U+202E> work")
            await person.reads("> delta said-aside")
            assert len((await other.conversations(project.id)).conversations) == 2

            (Path(side.path) / "note.md").write_text("two\n")
            git(Path(side.path), "commit", "--quiet", "--all", "--message=second")
            (Path(side.path) / "note.md").write_text("three\n")
            for answers in (["n"], ["y", "n"], ["y", "y"]):
                person.types("/delete")
                for answer_, words in zip(answers, ["worktree with all files", "1 changes that are not"], strict=False):
                    await person.reads(words)
                    await person.reads("[y/n]")
                    assert len((await other.conversations(project.id)).conversations) == 2
                    person.types(answer_)
                if answers[-1] == "n":
                    await person.reads("The conversation stays.")
            await person.reads("The branch side is kept.")
            await person.reads(main)
            assert not Path(side.path).exists()

            person.types("/new --worktree")
            await person.reads("new conversation >")
            person.types("/delete")
            await person.reads("Delete it? [y/n]")
            person.types("y")
            await person.reads("The conversation was deleted.")
            await person.reads(main)
            person.types("/quit")
            assert await person.leaves() == 0
        assert len((await other.conversations(project.id, archived=True)).conversations) == 1


async def test_what_a_directory_brings_is_told_before_it_becomes_a_project(
    standin_server: ServerProcess, folder: Path
) -> None:
    (folder / ".mcp.json").write_text('{"mcpServers": {"planted": {"command": "/bin/sh"}}}', "utf-8")
    async with standin_server.client() as other:
        async with chat(standin_server, cwd=folder) as person:
            await person.reads("which the CLI follows without asking")
            await person.reads(".mcp.json: server planted: command: /bin/sh")
            await person.reads("Make it one?")
            person.types("n")
            await person.reads("No project was chosen.")
        assert await other.projects() == []
        async with chat(standin_server, cwd=folder) as person:
            await person.reads("Make it one?")
            person.types("y")
            await person.reads("(/help) ──")
            person.types("/quit")
            assert await person.leaves() == 0
        assert [project.path for project in await other.projects()] == [str(folder)]


async def test_settings_that_come_later_are_shown_and_accepted(standin_server: ServerProcess, folder: Path) -> None:
    settings = folder / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text('{"apiKeyHelper": "old"}')
    async with standin_server.client() as other, watched(other, folder) as stream:
        settings.write_text('{"apiKeyHelper": "old", "awsAuthRefresh": "\u202enew"}')
        async with chat(standin_server, cwd=folder) as person:
            await person.reads("(/help) ──")
            person.types("/trust yes")
            await person.reads("Show the settings first")
            person.types("lines 1")
            await person.reads("on hold")
            person.types("/trust")
            await person.reads("awsAuthRefresh: <U+202E>new")
            await person.reads("/trust yes accepts this")
            assert "apiKeyHelper" not in person.shown, "only what is new is listed"
            settings.write_text('{"apiKeyHelper": "other"}')
            person.types("/trust yes")
            await person.reads("settings have changed")
            person.types("/trust")
            await person.reads("apiKeyHelper: other")
            await person.reads("/trust yes accepts this")
            assert (await other.projects())[0].queue_hold is not None
            person.types("/trust yes")
            await person.reads("accepted")
            await see(stream, "prompt")
            person.types("/quit")
            await person.leaves()
        assert (await other.inspect_path(str(folder))).new == 0


async def test_a_script_gets_the_answer_and_an_exit_status(standin_server: ServerProcess, folder: Path) -> None:
    status, out, err = await run_script(standin_server, str(folder), "--yes", "--prompt", "delta hello ask Bash")
    assert (status, out) == (0, "hello\n")
    assert "allowed by test" in err

    status, out, _ = await run_script(standin_server, str(folder), given=b"delta from-a-pipe fail")
    assert (status, out) == (1, "from-a-pipe\n")

    status, out, _ = await run_script(standin_server, str(folder), "--json", "--prompt", "lines 2")
    frames = [json.loads(line) for line in out.splitlines()]
    numbers = [frame["data"]["number"] for frame in frames if "number" in frame["data"]]
    assert status == 0
    assert numbers == [1, 2]
    assert frames[-1]["data"]["type"] == "result"


async def test_a_script_that_is_interrupted_leaves_the_agent_alone(standin_server: ServerProcess, folder: Path) -> None:
    async with standin_server.client() as other, watched(other, folder) as stream:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _COMMAND, str(folder), "--prompt", "sleep 60",
            stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, env=environment(standin_server),
        )  # fmt: skip
        await see(stream, "prompt")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE_SECONDS):
            _, err = await process.communicate()
        assert process.returncode == 130
        assert b"the agent goes on" in err
        await other.kill(stream.project_id)


async def test_a_question_of_an_mcp_server_is_answered(demo_server: ServerProcess, folder: Path) -> None:
    async with demo_server.client() as client, chat(demo_server, str(folder)) as person:
        await person.reads("not a project yet")
        person.types("y")
        await person.reads("/help")
        (project,) = await client.projects()
        async with client.subscribe(project.id) as stream:
            await client.execute(project.id, asking(FORM), options=OPTIONS)
            await person.reads("The MCP server crm asks:")
            await person.reads("Whom is this for?")
            await person.reads("y: answer")
            person.types("y")
            for words, line in (
                ("Name (As on the invoice)", ""),
                ("a value is needed", "/back"),
                ("The question still waits", "y"),
                ("Name (As on the invoice)", "Ada"),
                ("Size; at least 1", "0"),
                ("at least 1.", "3"),
                ("Kind; 1 new, 2 old", "2"),
                ("Tags; 1 red, 2 blue", ""),
                ("Urgent; y or n", "n"),
            ):
                await person.reads(words)
                person.types(line)
            await person.reads("answered by")
            frames = await follow(stream, lambda frame: frame.data.get("type") == "result")
        content = {"name": "Ada", "size": 3, "kind": "old", "urgent": False}
        assert answer_of(frames) == {"action": "accept", "content": content}
