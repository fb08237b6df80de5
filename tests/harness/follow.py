"""Reading a project's log in tests: live from a stream, whole from the store, and comparing the two."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import psutil

from pocket_agent.client import Client, Frame, Subscription
from tests.harness import DEADLINE_SECONDS


class Line(NamedTuple):
    """An entry as it can be compared, wherever it was read: `data` is byte for byte."""

    offset: int
    type: str
    data: bytes


def lines(frames: Iterable[Frame]) -> list[Line]:
    """The entries among the frames."""
    return [Line(frame.offset, frame.type, frame.payload) for frame in frames if frame.offset is not None]


def numbers(frames: Iterable[Frame]) -> list[int]:
    """The numbers of the stand-in's numbered lines, as far as they are entries."""
    said = [frame.data for frame in frames if frame.offset is not None and frame.type == "agent_message"]
    return [data["number"] for data in said if "number" in data]


def entry_types(frames: Iterable[Frame]) -> list[str]:
    """What each entry is: its type, and for a line of the CLI the type of that."""
    return [
        f"{frame.type}/{frame.data['type']}" if frame.type == "agent_message" else frame.type
        for frame in frames
        if frame.offset is not None
    ]


def is_result(frame: Frame) -> bool:
    """Whether this is the entry with the CLI's result."""
    return frame.offset is not None and frame.type == "agent_message" and frame.data.get("type") == "result"


async def follow(stream: Subscription, last: Callable[[Frame], bool]) -> list[Frame]:
    """The frames up to the one for which `last` holds, and that one."""
    frames: list[Frame] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for frame in stream:
            frames.append(frame)
            if last(frame):
                return frames
    raise AssertionError("the project was deleted")


async def until(stream: Subscription, kind: str, **data: object) -> list[Frame]:
    """The frames up to one of this type whose data has these values, which is the last."""
    return await follow(
        stream,
        lambda frame: frame.type == kind and all(frame.data.get(name) == value for name, value in data.items()),
    )


async def until_line(stream: Subscription, number: int) -> list[Frame]:
    """The frames up to one of the stand-in's numbered lines."""
    return await until(stream, "agent_message", number=number)


async def end_of(stream: Subscription, execution_id: str) -> list[Frame]:
    """The frames of an execution: from the entry of its prompt to the state in which it left the project."""
    await until(stream, "prompt", execution_id=execution_id)
    return await follow(stream, lambda frame: frame.type == "project_state" and frame.data["state"] != "EXECUTING")


async def run(client: Client, stream: Subscription, prompt: str) -> list[Frame]:
    """Give a prompt and follow it to its end; see `end_of`."""
    receipt = await client.execute(stream.project_id, prompt, timeout=DEADLINE_SECONDS)
    return await end_of(stream, receipt.execution_id)


async def stored(client: Client, project_id: str) -> list[Line]:
    """The whole log as `get_messages` tells it, page by page."""
    found: list[Line] = []
    while True:
        page = await client.messages(project_id, since=found[-1].offset if found else 0, limit=1000)
        found += [Line(message.offset, message.type, bytes(message.message)) for message in page.messages]
        if not page.metadata.has_more:
            return found


def alive(process: psutil.Process) -> bool:
    """Whether a process still does anything; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def eventually(
    question: Callable[[], Awaitable[bool]] | Callable[[], bool], what: str, *, pause: float = 0.02
) -> None:
    """Ask again and again until the answer is yes, ever less often: what takes seconds is not asked 50 times each.

    `pause` in seconds is that after the first question.
    """
    async with asyncio.timeout(DEADLINE_SECONDS):
        try:
            while True:
                answer = question()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(pause)
                pause = max(pause, min(1.25 * pause, 0.5))
        except asyncio.CancelledError as error:
            raise AssertionError(f"never came true: {what}") from error
