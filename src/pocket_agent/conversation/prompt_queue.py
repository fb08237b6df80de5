"""The prompts of one conversation that wait: queue, change, promote, withdraw and start them."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from pocket_agent import errors, model
from pocket_agent.conversation.conversation_log import Draft, now
from pocket_agent.conversation.loops import ConversationLoops
from pocket_agent.conversation.state import State
from pocket_agent.events import ExecutionQueued, ExecutionWithdrawn, Observer, UsageAdded
from pocket_agent.model import ExecuteOptions, Execution, ExecutionId, ExecutionStatus, HoldReason
from pocket_agent.protocol.requests import ExecuteData, QueueResumeData
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Change, Store


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The result of withdrawing the prompts of a device that lost its access.

    Attributes:
        count: queued prompts that were withdrawn.
        running: the execution that was running, if it or a prompt written into its turn is the device's.
        killed: whether such an execution was killed.
    """

    count: int
    running: ExecutionId | None
    killed: bool = False


class PromptQueue:
    """The operations of clients on the prompts of one conversation."""

    def __init__(
        self, loops: ConversationLoops, state: State, store: Store, settings: CurrentSettings, observer: Observer
    ) -> None:
        self.loops = loops
        self.state = state
        self._runner = loops.runner
        self._store = store
        self._settings = settings
        self._observer = observer

    async def execute(
        self,
        prompt: str,
        options: ExecuteOptions,
        *,
        prompt_id: str | None,
        by: str,
        device_id: str | None = None,
        generation: int = 0,
        correlation_id: str = "",
        traceparent: str | None = None,
        when: Literal["queue", "now", "interrupt"] = "queue",
    ) -> ExecuteData:
        """Run a prompt now, or queue it; the same `prompt_id` again is the same execution. For `when` see `Execute`.

        For `prompt_id`, `by`, `device_id` and `generation` see `Execution`, for the others `ExecutionContext`.

        Raises:
            ForbiddenError: the device was revoked while the request was handled.
            ResourceLimitError: the queue or the disk is full.
            ClaudeNotFoundError: there is no usable CLI.
        """
        async with self.loops.turn():
            state = self.state
            if prompt_id is not None:
                known = await self._store.execution_by_prompt(state.record.id, prompt_id)
                if known is not None:
                    return self._receipt(known)
            self.loops.policy.check_maker(device_id)
            await self.loops.gate()
            execution = Execution(
                id=ExecutionId(str(uuid.uuid4())),
                conversation_id=state.record.id,
                prompt_id=prompt_id,
                prompt=prompt,
                options=options,
                status=ExecutionStatus.QUEUED,
                # Behind all waiting prompts, even after the clock was set back.
                position=max([time.time_ns(), *(waiting.position + 1 for waiting in state.queue)]),
                created_at=now(),
                by=by,
                correlation_id=correlation_id,
                traceparent=traceparent,
                device_id=device_id,
                generation=generation,
            )
            if await self.loops.start_now(execution):
                return ExecuteData(state.record.project_id, execution.id, "started", 0)
            limit = self._settings.current.limits.max_queued_prompts
            if len(state.queue) + len(state.steering) >= limit:
                raise errors.ResourceLimitError(
                    f"The queue of this project is full ({limit} prompts, limits.max_queued_prompts)."
                )

            if when != "queue":
                execution = replace(execution, position=state.front())
            if when == "now" and await self._runner.can_steer(execution):
                await self._runner.steer(execution)
                return self._receipt(execution)
            interrupted = state.current if when == "interrupt" else None
            if interrupted is not None:
                interrupted = replace(interrupted, stop=interrupted.stop or model.StopRequest.INTERRUPT)
            elif when == "interrupt" and state.works_alone:
                await self.loops.note_interrupt()  # first: a prompt that is sent again is not carried out again

            def queued() -> list[Draft]:
                state.enqueue(execution)
                state.current = interrupted or state.current
                return state.announce(queue=True)

            # Another prompt ends every hold but one for claims that have not been accepted, or for a paused execution.
            hold = state.record.queue_hold
            is_paused = bool(state.queue) and state.queue[0].status.is_paused
            kept = hold if hold is not None and (hold.reason is HoldReason.TRUST or is_paused) else None
            await state.log.write(
                change=Change(
                    executions=(execution, interrupted) if interrupted is not None else (execution,), admits=execution
                ),
                record={"queue_hold": kept},
                context=execution.context,
                after=queued,
            )
            if when == "interrupt" and (state.current is not None or state.works_alone):
                await self.loops.interrupt()
            self._observer.emit(ExecutionQueued(execution.context, state.place_of(execution)))
            self.loops.wake.set()
            return self._receipt(execution)

    def _receipt(self, execution: Execution) -> ExecuteData:
        if any(steering.id == execution.id for steering in self.state.steering):
            return ExecuteData(self.state.record.project_id, execution.id, "steering", 0)
        place = self.state.place_of(execution)
        return ExecuteData(self.state.record.project_id, execution.id, "queued" if place > 0 else "started", place)

    async def resume(self) -> QueueResumeData:
        """Let the waiting prompts start."""
        async with self.loops.turn():
            if self.state.record.queue_hold is not None:
                await self.loops.release_hold()
            self.loops.wake.set()
            return QueueResumeData(self.state.record.project_id)

    async def edit(self, execution_id: str, prompt: str, editor: model.Device) -> None:
        """Change a waiting prompt; from then on it is the editor's, and is withdrawn with the editor's access.

        Raises:
            ProcessNotFoundError: it does not wait (any more).
            ForbiddenError: the editor was revoked, or is limited to some projects and another device gave the prompt,
                with options that the editor may not choose.
        """
        async with self.loops.turn():
            self.loops.policy.check_maker(editor.id)
            waiting = self._waiting(execution_id)
            if waiting.status.is_paused:
                raise errors.ProcessNotFoundError("This prompt has run already, and is paused; it cannot be changed.")
            if editor.projects is not None and waiting.device_id != editor.id:
                raise errors.ForbiddenError(
                    "A device that is limited to some projects may only change its own prompts."
                )
            changed = replace(waiting, prompt=prompt, by=editor.name, device_id=editor.id, generation=editor.generation)
            await self._requeue(changed, admits=changed)

    async def promote(self, execution_id: str) -> None:
        """Write a waiting prompt into the running turn, or make it the next one that starts.

        Raises:
            ProcessNotFoundError: it does not wait (any more), or is paused.
            ForbiddenError: the device that gave it was revoked.
        """
        async with self.loops.turn():
            waiting = self._waiting(execution_id)
            if waiting.status.is_paused:
                raise errors.ProcessNotFoundError("This prompt is paused; queue_resume continues it.")
            promoted = replace(waiting, position=self.state.front())
            if await self._runner.can_steer(promoted):
                await self._runner.steer(promoted)
                return
            await self._requeue(promoted)

    async def cancel(self, execution_id: str) -> None:
        """Withdraw a waiting prompt. Raises ProcessNotFoundError when it does not wait (any more)."""
        async with self.loops.turn():
            await self._cancel(self._waiting(execution_id))

    async def _cancel(self, waiting: Execution) -> None:
        await self._requeue(replace(waiting, status=ExecutionStatus.CANCELLED, finished_at=now()))
        self.loops.wake.set()
        self._observer.emit(ExecutionWithdrawn(waiting.context, waiting.created_at))
        if waiting.usage:  # it was paused
            self._observer.emit(UsageAdded(waiting.context.project_id, waiting.context, waiting.usage))

    async def withdraw(self, void: Callable[[Execution], bool], *, kill: bool = False) -> Withdrawn:
        """Withdraw the queued prompts of devices that lost their access.

        This waits for a prompt that is being started, so that the prompt is either withdrawn or returned as running.

        Args:
            void: whether the device that gave this prompt lost its access.
            kill: whether to kill the running execution as well, if it or a prompt written into its turn is one.

        Raises:
            ProjectNotFoundError: the project was deleted.
            FileOperationError: the store refused; the start of a prompt checks its device again.
        """
        if not self.loops.ready.is_set():  # no prompt starts before, and the start checks the device
            return Withdrawn(0, None)
        async with self.loops.turn():
            running = self.state.current
            # A prompt that was written into the running turn can be stopped with that turn only.
            if running is not None and not any(map(void, (running, *self.state.steering))):
                running = None
            if running is not None and kill:
                await self._runner.end(ExecutionStatus.KILLED, killed=True)
                self.loops.wake.set()
            waiting = [execution for execution in self.state.queue if void(execution)]
            for execution in waiting:
                await self._cancel(execution)
            return Withdrawn(len(waiting), running.id if running is not None else None, killed=kill)

    def _waiting(self, execution_id: str) -> Execution:
        for execution in self.state.queue:
            if execution.id == execution_id:
                return execution
        raise errors.ProcessNotFoundError("There is no such prompt in the queue; it may have started already.")

    async def _requeue(self, changed: Execution, *, admits: Execution | None = None) -> None:
        state = self.state

        def applied() -> list[Draft]:
            state.queue = [
                changed if waiting.id == changed.id else waiting
                for waiting in state.queue
                if waiting.id != changed.id or not changed.status.is_final
            ]
            state.queue.sort(key=lambda waiting: waiting.position)
            return state.announce(queue=True)

        last = changed.status.is_final and len(state.queue) == 1
        # To drop a lost execution is the answer that its hold waits for; a usage limit also stops the prompts behind.
        hold = state.record.queue_hold
        answered = changed.status.is_final and changed.paused_for is HoldReason.LOST and changed.paused_at is not None
        ends = last or (answered and hold is not None and hold.reason is HoldReason.LOST)
        project = {"queue_hold": None} if ends else {}
        await state.log.write(
            change=Change(executions=(changed,), admits=admits), record=project, context=changed.context, after=applied
        )
