"""Changes the model and the permission mode of a process that runs, through the CLI's control requests."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from pocket_agent.claude import control
from pocket_agent.claude.stream import CliMessage
from pocket_agent.errors import ProcessNotFoundError
from pocket_agent.model import ExecuteOptions
from pocket_agent.session.agent import Agent

_CONTROL_SECONDS: Final = 5.0
"""How long the CLI may take to answer a control request; it answers within milliseconds."""


class Tuning:
    """Every method is called with the session's mutex held.

    Args:
        take_in: puts what the CLI wrote into the log; returns whether there was anything.
    """

    def __init__(self, agent: Agent, take_in: Callable[[], Awaitable[bool]]) -> None:
        self._agent = agent
        self._take_in = take_in

    async def adjust(self, options: ExecuteOptions) -> bool:
        """Change model and permission mode of the warm process; False when it needs a new one."""
        agent = self._agent
        if options.model != agent.model and not await self.set_model(options.model):
            return False
        mode = options.permission_mode
        return mode == agent.permission_mode or await self.set_permission_mode(mode or "default")

    async def set_model(self, model: str | None) -> bool:
        """Tell the running process; False when it does not accept."""
        request_id = uuid.uuid4().hex
        return await self._set(request_id, control.set_model(request_id, model), "model", model)

    async def set_permission_mode(self, mode: str) -> bool:
        """Tell the running process; False when it does not accept."""
        request_id = uuid.uuid4().hex
        return await self._set(request_id, control.set_permission_mode(request_id, mode), "permission_mode", mode)

    async def _set(self, request_id: str, line: bytes, attribute: str, value: str | None) -> bool:
        before = getattr(self._agent, attribute)
        setattr(self._agent, attribute, value)  # now, for what the CLI says of it before its answer is read
        if not self._agent.spool_size:
            # It is still starting, which may take long. What it refuses later, the next prompt tries anew.
            answered = self._agent.expect(request_id)
            answered.add_done_callback(lambda answer: self._refused(answer, attribute, before))
            with suppress(ProcessNotFoundError):
                self._agent.send(line)
            return True
        answer = await self._ask(request_id, line)
        if answer is None or answer.response is None or not answer.response.succeeded:
            setattr(self._agent, attribute, before)
            return False
        return True

    def _refused(self, answer: "asyncio.Future[CliMessage]", attribute: str, before: str | None) -> None:
        response = answer.result().response if not answer.cancelled() else None
        if response is not None and not response.succeeded:
            setattr(self._agent, attribute, before)

    async def _ask(self, request_id: str, line: bytes) -> CliMessage | None:
        """Ask the CLI; None when no answer comes, as from a stand-in that knows no control requests."""
        agent, loop = self._agent, asyncio.get_running_loop()
        answer = agent.expect(request_id)
        deadline = loop.time() + _CONTROL_SECONDS
        try:
            agent.send(line)
            # The answer comes by the spool, which nobody else reads while the mutex is held.
            while not answer.done() and agent.open:
                if not await self._take_in():
                    async with asyncio.timeout_at(deadline):
                        await agent.activity()
        except (ProcessNotFoundError, TimeoutError):
            answer.cancel()
        return answer.result() if answer.done() and not answer.cancelled() else None
