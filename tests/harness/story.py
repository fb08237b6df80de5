"""A session with a bit of everything, for tests that look at what the server tells of it."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from tests.harness import DEADLINE_SECONDS
from tests.harness.server import ServerProcess


class Counted:
    """A client that counts what it sends and gets, by type, and keeps the results of the CLI."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self._socket = socket
        self._number = 0
        self.sent: Counter[str] = Counter()
        self.got: Counter[str] = Counter()
        self.sent_bytes = 0
        self.results: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()

    async def ask(self, kind: str, project_id: str | None = None, **data: object) -> dict[str, Any]:
        """Send a request and read up to its answer."""
        self._number += 1
        request_id = f"r{self._number}"
        frame = {"type": kind, "request_id": request_id, "data": data}
        text = json.dumps(frame if project_id is None else {**frame, "project_id": project_id})
        self.sent[kind] += 1
        self.sent_bytes += len(text)
        await self._socket.send_str(text)
        return await self.until(lambda frame: frame.get("request_id") == request_id)

    async def until(self, last: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read up to a frame for which `last` holds, and return it."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                message = await self._socket.receive()
                assert message.type is aiohttp.WSMsgType.TEXT, message
                frame: dict[str, Any] = json.loads(message.data)
                self.got[frame["type"]] += 1
                if frame["type"] == "agent_message" and frame["data"].get("type") == "result":
                    self.results.append(frame["data"])
                if last(frame):
                    return frame

    async def ends(self, state: str) -> None:
        """Read up to the end of an execution."""
        await self.until(lambda frame: frame["type"] == "project_state" and frame["data"]["state"] == state)


UNHURRIED: Final = "timeouts: {execution: 1h}"
"""Settings of a server for `story`: no execution ends in time but the one for which the limit is lowered."""


async def story(server: ServerProcess, folder: Path) -> Counted:
    """A success with an approval, another one, an error, a timeout, a kill, a denial, rejections.

    Args:
        server: was made with the settings `UNHURRIED`.
        folder: becomes a project.
    """
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {server.token}"}
        async with http.ws_connect(server.url, headers=headers, max_msg_size=0) as socket, Counted(socket) as client:
            project = (await client.ask("project_create", path=str(folder)))["data"]["id"]
            await client.ask("project_join", project, since=0)
            for behavior in ("allow", "deny"):
                await client.ask("execute", project, prompt=f"demo:bash=touch {behavior}.txt")
                asked = await client.until(lambda frame: frame["type"] == "approval_requested")
                answer = {"approval_id": asked["data"]["approval_id"], "behavior": behavior}
                await client.ask("approval_respond", project, **answer)
                await client.ends("IDLE")
            await client.ask("execute", project, prompt="demo:text")
            await client.ends("IDLE")
            await client.ask("execute", project, prompt="demo:error")
            await client.ends("ERROR")
            await client.ask("execute", project, prompt="demo:slow=600s")
            await client.until(lambda frame: frame["data"].get("type") == "stream_event")
            await server.reload("timeouts: {execution: 1s}")
            await client.ends("ERROR")
            await server.reload(UNHURRIED)
            await client.ask("execute", project, prompt="demo:slow=600s")
            await client.until(lambda frame: frame["data"].get("type") == "stream_event")
            await client.ask("agent_kill", project)
            await client.ask("execute", "nobody", prompt="demo:text")
            await client.ask("execute", project)
            # Whatever was sent before its answer has been counted then.
            assert (await client.ask("project_list"))["data"]["total"] == 1
        return client
