"""The scripted model as a process of its own."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from tests.harness import DEADLINE_SECONDS

from pocket_agent.demo import demo_process as process
from pocket_agent.demo.demo_process import (
    DemoModel,
    ModelRecord,
    child_environment,
    ensure_running,
    read_record,
    write_record,
)
from pocket_agent.demo.scripted_model import ScriptedModel
from pocket_agent.errors import PocketAgentError

Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture
async def state(tmp_path: Path, eventually: Eventually) -> AsyncIterator[Path]:
    """A state directory whose model is ended after the test."""
    directory = tmp_path / "state"
    yield directory
    if (record := read_record(directory)) and record.pid != os.getpid():
        await end(DemoModel(f"http://127.0.0.1:{record.port}", record.pid), signal.SIGTERM, eventually)


async def answers(model: DemoModel) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{model.base_url}/demo/identity") as response,
        ):
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def end(model: DemoModel, number: signal.Signals, eventually: Eventually) -> None:
    async def gone() -> bool:
        return not await answers(model)

    if await answers(model):
        os.kill(model.pid, number)
        await eventually(gone)


def is_our_child(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def modes(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in directory.iterdir()}


async def test_it_starts_answers_and_is_found_again(state: Path) -> None:
    model = await ensure_running(state)
    assert await answers(model)
    assert await ensure_running(state) == model
    assert model.pid != os.getpid()


async def test_it_is_in_a_session_of_its_own_and_no_child(state: Path) -> None:
    model = await ensure_running(state)
    assert os.getsid(model.pid) != os.getsid(0)
    assert not is_our_child(model.pid)


async def test_its_files_are_for_the_owner_only(state: Path) -> None:
    await ensure_running(state)
    assert modes(state) == {"model.json": 0o600, "model.lock": 0o600, "model.log": 0o600}
    assert modes(state.parent)["state"] == 0o700
    assert "listens on" in (state / "model.log").read_text()


async def test_several_callers_at_once_get_one_model(state: Path) -> None:
    models = await asyncio.gather(*(ensure_running(state) for _ in range(5)))
    assert len(set(models)) == 1
    assert (state / "model.log").read_text().count("listens on") == 1


async def test_a_model_that_died_comes_back_on_its_port(state: Path, eventually: Eventually) -> None:
    first = await ensure_running(state)
    await end(first, signal.SIGKILL, eventually)
    second = await ensure_running(state)
    assert second.pid != first.pid
    assert second.base_url == first.base_url


async def test_another_server_on_its_port_is_not_taken_for_it(state: Path, model: ScriptedModel) -> None:
    url = await model.start()
    os.mkdir(state)  # noqa: PTH102 (pathlib's is refused in async functions)
    port = int(url.rpartition(":")[2])
    write_record(state, ModelRecord(pid=os.getpid(), port=port, instance="somebody else"))
    found = await ensure_running(state)
    assert found.base_url != url
    assert found.pid != os.getpid()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid":"x"}', b'{"pid":1,"port":1}'])
def test_a_broken_record_is_replaced(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(content)
    assert read_record(tmp_path) is None
    record = ModelRecord(pid=1, port=2, instance="x")
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert [file.name for file in tmp_path.iterdir()] == ["model.json"]


async def test_it_ends_by_itself_when_nobody_asks(state: Path, eventually: Eventually) -> None:
    async def ended() -> bool:
        return "ends" in (state / "model.log").read_text()

    model = await ensure_running(state, idle_seconds=5.0)  # until then a start has asked it, on a slow machine too
    # Asking the model would keep it from ending, so its log is watched.
    await eventually(ended)
    assert not await answers(model)


async def test_a_directory_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(PocketAgentError, match="cannot keep its state"):
        await ensure_running(file)


async def test_a_process_that_fails_is_reported_with_its_log(state: Path) -> None:
    (state / "model.json").mkdir(parents=True)
    with pytest.raises(PocketAgentError, match="did not start") as caught:
        await ensure_running(state)
    assert caught.value.details["status"] == 1
    assert "Error" in str(caught.value.details["log"])
    (state / "model.json").rmdir()


async def test_a_process_that_does_not_come_up_is_ended(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_START_SECONDS", 0.0)
    with pytest.raises(PocketAgentError, match="did not start") as caught:
        await ensure_running(state)
    assert caught.value.details["status"] is None
    assert read_record(state) is None


async def test_a_lock_that_somebody_keeps_is_reported(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LOCK_SECONDS", 0.0)
    os.mkdir(state)  # noqa: PTH102 (pathlib's is refused in async functions)
    descriptor = os.open(state / "model.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(PocketAgentError, match="Another process"):
        await ensure_running(state)
    os.close(descriptor)
    assert await answers(await ensure_running(state))


def test_the_environment_keeps_the_cli_to_the_model(tmp_path: Path) -> None:
    found = child_environment("http://127.0.0.1:5", tmp_path)
    assert found["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:5"
    assert found["HOME"] == str(tmp_path)
    assert found["ANTHROPIC_API_KEY"]
    for name in ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER"):
        assert found[name] == "1"
    assert "127.0.0.1" in found["NO_PROXY"]


def test_the_help_lists_the_keywords_without_loading_the_http_library() -> None:
    code = (
        "import runpy, sys, contextlib\n"
        "sys.argv = ['demo', '--help']\n"
        "with contextlib.suppress(SystemExit):\n"
        "    runpy.run_module('pocket_agent.demo', run_name='__main__')\n"
        "print('aiohttp' in sys.modules)\n"
    )
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "demo:overload" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


async def test_in_the_foreground_it_ends_at_sigterm(state: Path) -> None:
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pocket_agent.demo", "--state-dir", str(state)),
        stdout=asyncio.subprocess.PIPE,
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
    )
    assert command.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert b"listens on" in await command.stdout.readline()
        assert json.loads((state / "model.json").read_bytes())["pid"] == command.pid
        command.terminate()
        assert b"ends" in await command.stdout.read()
        assert await command.wait() == 0
