"""A project's loops: the tail takes in what the CLI writes, the pump starts the next prompt, the
clock ends what runs too long and closes what idles. Restoring is how each run of them begins.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from pocket_agent.claude import control
from pocket_agent.claude.process import check_directory
from pocket_agent.errors import (
    ClaudeNotFoundError,
    DirectoryUnavailableError,
    ExecutionFailedError,
    FileOperationError,
    ForbiddenError,
    PocketAgentError,
    ProcessNotFoundError,
    ProjectNotFoundError,
    ResourceLimitError,
    TrustRequiredError,
)
from pocket_agent.events import ExecutionDelayed, ExecutionQueued, Observer, StorageFailed
from pocket_agent.model import (
    Account,
    ApprovalStatus,
    Execution,
    ExecutionId,
    ExecutionStatus,
    HoldReason,
    ProcessRecord,
    ProjectState,
    StopRequest,
)
from pocket_agent.policy import Policy
from pocket_agent.protocol.push import ErrorData
from pocket_agent.session.accounting import Budget, execution_event
from pocket_agent.session.agent import Agent
from pocket_agent.session.capacity import Capacity
from pocket_agent.session.project_log import Draft, Write, entry_draft, live_draft, now, tick
from pocket_agent.session.runner import Runner
from pocket_agent.session.state import VERIFIABLE, State, queue_hold
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Store

_RETRY_SECONDS: Final = 1.0
"""Pause before a refused write or a start that was not possible is tried again."""
_RETRY_FACTOR: Final = 5
"""The pause between two readings of the settings is at least this many times as long as one of them."""
_MAX_RETRY_SECONDS: Final = 10.0
_NOT_OF_THE_PROMPT: Final = (
    *(ClaudeNotFoundError, DirectoryUnavailableError, ResourceLimitError, FileOperationError, TrustRequiredError),
)
"""Errors of a start that leave the prompt in its place in the queue."""


class ConversationLoops:
    """Keeps one session going. Whoever changes the session holds `mutex`.

    Args:
        gate: raises ResourceLimitError or ClaudeNotFoundError when no execution may begin now.

    Attributes:
        wake: set when the next prompt may be able to start.
        tick: set when a deadline may have moved.
        ready: set once the session is restored from the store.
        closed: whether the project is being deleted, so that nothing may begin in it.
        policy: what clients may choose for an agent.
    """

    def __init__(
        self,
        state: State,
        agent: Agent,
        store: Store,
        capacity: Capacity,
        budget: Budget,
        settings: CurrentSettings,
        observer: Observer,
        gate: Callable[[], Awaitable[None]],
    ) -> None:
        self.mutex = asyncio.Lock()
        self.wake = asyncio.Event()
        self.tick = asyncio.Event()
        self.ready = asyncio.Event()
        self.closed = False
        self.gate = gate
        self.policy = Policy(settings)
        self.runner = Runner(state, agent, capacity, budget, settings, self.policy, observer, self._evict)
        self._state = state
        self._agent = agent
        self._store = store
        self._capacity = capacity
        self._settings = settings
        self._observer = observer
        self._interrupt_deadline: tuple[ExecutionId | None, float] | None = None
        self._pause = _RETRY_SECONDS

    async def run(self) -> None:
        """Restore the session from the store, then work until cancelled."""
        self.ready.clear()
        while not self.ready.is_set():
            try:
                async with self.mutex:
                    await self._restore()
                    self.ready.set()
            except FileOperationError as error:
                self._storage_failed(error)
                await asyncio.sleep(_RETRY_SECONDS)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._tail())
            loops.create_task(self._pump())
            loops.create_task(self._clock())

    def _storage_failed(self, error: FileOperationError) -> None:
        running = self._state.current
        context = running.context if running is not None else None
        self._observer.emit(StorageFailed(self._state.project.id, context, error.message))

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The right to change the session, for a request.

        Raises:
            ProjectNotFoundError: the project was deleted meanwhile.
        """
        await self.ready.wait()
        async with self.mutex:
            if self.closed:
                raise ProjectNotFoundError("There is no such project.")
            yield

    async def start_now(self, execution: Execution) -> bool:
        """Start a prompt if nothing is before it; False when it has to queue. Needs the mutex."""
        state = self._state
        if state.queue or not await self._can_begin(execution):
            return False
        if not state.has_slot and not self._capacity.try_acquire():
            return False
        self._observer.emit(ExecutionQueued(execution.context, 0))
        try:
            await self._start(execution)
        except TrustRequiredError:  # it queues, and the pump puts the queue on hold
            return False
        return True

    async def _can_begin(self, execution: Execution) -> bool:
        """Whether a prompt can be given to the agent now.

        During a turn the CLI would fold it into that, so it waits for the end of the turn; next to subagents it may
        start, unless it needs another process, with which they would end.
        """
        state = self._state
        if state.current is not None or state.work.turn:
            return False
        return not (state.works_alone or state.is_turn_due) or await self.runner.suits(execution)

    async def _start(self, execution: Execution) -> None:
        """Start with the slot that the caller took; it goes back when the start fails."""
        self._state.has_slot = True
        await self.runner.start(execution)
        self.tick.set()

    async def interrupt(self) -> None:
        """Ask the agent to stop; a process that goes on all the same is ended after a grace. Needs the mutex.

        An interrupt stops the turn and the subagents (2.1.330). When only commands run in the background, they are
        stopped.
        """
        state = self._state
        running = state.current
        lines = [control.interrupt(uuid.uuid4().hex)]
        if running is not None:
            state.verdict = ExecutionStatus.KILLED
        elif not state.works_alone:
            lines = [control.stop_task(uuid.uuid4().hex, task.id) for task in state.work.tasks]
        if self._interrupt_left() is None and (running is not None or state.works_alone):
            grace = self._settings.current.claude.interrupt_grace
            self._interrupt_deadline = running.id if running is not None else None, time.monotonic() + grace
        self.tick.set()
        with contextlib.suppress(ProcessNotFoundError):  # it ended by itself, which the tail is about to see
            self._agent.send(b"".join(lines))

    async def release_hold(self) -> None:
        """Let the prompts that wait go on. Needs the mutex."""
        await self._state.log.write(Write(project={"queue_hold": None}), after=lambda: self._state.announce(queue=True))
        self.wake.set()

    async def _evict(self) -> bool:
        """Close the process if the project is idle, to make room for another's."""
        if self._is_needed():
            return False
        # A session that is about to start a process holds a slot, so no two of them wait for each other here.
        async with self.mutex:
            if self._is_needed():
                return False
            await self.runner.close_process()
        return True

    def _is_needed(self) -> bool:
        """Whether the process works, or is about to."""
        return self._state.has_slot or self._state.is_engaged

    async def _restore(self) -> None:
        state, project_id = self._state, self._state.project.id
        opened = await self._store.open_executions(project_id)
        state.queue = [execution for execution in opened if execution.status is ExecutionStatus.QUEUED]
        state.current = next((found for found in opened if found.status is not ExecutionStatus.QUEUED), None)
        state.last = await self._store.last_finished(project_id)
        trust = await self._store.trust(project_id)
        state.accepted = frozenset(trust.digests) if trust is not None else None
        stop = state.current.stop if state.current is not None else None
        state.verdict = ExecutionStatus.KILLED if stop is not None else None
        state.killed = stop is StopRequest.KILL
        starting = state.current is not None and state.current.status is ExecutionStatus.STARTING
        state.attempts, state.heard = 0 if starting else 1, True
        answers = []
        state.approvals = {}
        for approval in await self._store.open_approvals(project_id):
            if approval.status is ApprovalStatus.PENDING:
                state.approvals[approval.id] = approval
            else:
                answers.append(approval)
        self._trust_ticks()
        if state.project.session_id is not None:
            state.conversation = await self._store.session(project_id, state.project.session_id)
        record = await self._store.process(project_id)
        self._agent.release()
        state.account = record.account if record is not None else Account()
        self.runner.settle()
        state.silent_from = (state.current.spool_offset if state.current is not None else None) or 0
        if record is not None:
            await self._adopt(record)
        if state.current is not None:
            if self._agent.alive:
                await self._continue(state.current)
                await self._carry_out_stop()
            elif not self._agent.open:
                await self._abandon()
        elif not self._agent.open and (state.approvals or state.work.tasks):
            await self.runner.leave()
        for approval in answers:
            if approval.answer is not None:
                with contextlib.suppress(ProcessNotFoundError):
                    self._agent.send(approval.answer)
            await state.log.write(Write(approvals=(msgspec.structs.replace(approval, delivered=True),)))
        self.wake.set()

    def _trust_ticks(self) -> None:
        """Measure from now on what was begun under an older version, or in another boot of the machine."""
        state, at = self._state, tick()
        if state.current is not None and not 0 <= (state.current.started_tick or -1) <= at:
            state.current = msgspec.structs.replace(state.current, started_tick=at)
        for key, approval in state.approvals.items():
            if not 0 <= (approval.created_tick or -1) <= at:
                state.approvals[key] = msgspec.structs.replace(approval, created_tick=at)

    async def _adopt(self, record: ProcessRecord) -> None:
        try:
            await self._agent.adopt(record)
        except ExecutionFailedError as error:
            self._say_error(error)
            await self._state.log.write(Write(ended_process=record.id))
            return
        self._capacity.used(self._state.project.id, self._evict)
        while await self.runner.take_in():
            pass

    async def _continue(self, execution: Execution) -> None:
        """Go on with an adopted process; write the prompt again if it may not have got there.

        The CLI skips a message whose `uuid` it has seen, whether it waits, runs or is over (observed with 2.1.330),
        so nothing has to be known of what the process has read.
        """
        if self._agent.deaf:
            await self.runner.replace_process()
        elif execution.status is ExecutionStatus.STARTING:
            try:
                self.policy.check_maker(execution.device_id)
                await self._state.log.write(Write(context=execution.context, admits=execution))
            except ForbiddenError:  # revoked while no server ran, before the prompt was written
                await self.runner.end(ExecutionStatus.KILLED, killed=True)
                return
            await self.runner.send_prompt()

    async def _carry_out_stop(self) -> None:
        """Do what a client was promised before the server died."""
        match self._state.current and self._state.current.stop:
            case StopRequest.KILL:
                await self.runner.end(ExecutionStatus.KILLED, killed=True)
            case StopRequest.INTERRUPT:
                await self.interrupt()

    async def _abandon(self) -> None:
        """The process of the running execution is gone without a trace, as after a reboot."""
        error = ErrorData("EXECUTION_FAILED", "The agent's process ended while the server could not see it.")
        await self.runner.finish(ExecutionStatus.ERROR, error)

    async def _tail(self) -> None:
        while True:
            await self._agent.activity()
            try:
                async with self.mutex:
                    took = await self.runner.take_in()
            except FileOperationError as error:
                self._storage_failed(error)
                self.tick.set()
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if took:
                self.tick.set()
                if self._state.current is None and not self._state.work.turn:
                    self.wake.set()
                await asyncio.sleep(0)  # a long run shares the loop

    async def _pump(self) -> None:
        told: str | None = None
        while True:
            await self._may_have_changed()
            while self._may_start:
                acquired = not self._state.has_slot
                if acquired:
                    await self._capacity.acquire()
                try:
                    async with self.mutex:
                        if not await self._start_next(acquired=acquired):
                            break
                    told = None
                except (ClaudeNotFoundError, ResourceLimitError, FileOperationError) as error:
                    # Not the prompt's fault: it keeps its place until the fault is gone.
                    if error.message != told:
                        self._say_error(error)
                        self._delayed(error)
                    told = error.message
                    if not isinstance(error, ClaudeNotFoundError) or not await self._hold(HoldReason.CLI, error):
                        await asyncio.sleep(_RETRY_SECONDS)
                except (DirectoryUnavailableError, TrustRequiredError) as error:
                    is_trust = isinstance(error, TrustRequiredError)
                    self._delayed(error)
                    if not await self._hold(HoldReason.TRUST if is_trust else HoldReason.DIRECTORY, error):
                        await asyncio.sleep(_RETRY_SECONDS)

    async def _may_have_changed(self) -> None:
        """Wait until the next prompt may be able to start; ends a hold whose cause is gone."""
        held = self._is_verifiable
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause if held else None):
                await self.wake.wait()
        self.wake.clear()
        if not held:
            return
        if await self._is_cause_gone():
            async with self.mutex:
                if self._is_verifiable:
                    with contextlib.suppress(FileOperationError):
                        await self.release_hold()

    @property
    def _is_verifiable(self) -> bool:
        hold = self._state.project.queue_hold
        return hold is not None and hold.reason in VERIFIABLE

    async def _is_cause_gone(self) -> bool:
        """Whether the directory and the CLI are there, or everything that the directory's settings do is accepted."""
        hold = self._state.project.queue_hold
        try:
            await asyncio.to_thread(check_directory, Path(self._state.project.real_path))
            if hold is not None and hold.reason is HoldReason.TRUST:
                return await self._is_accepted()
            await self.gate()
        except (ClaudeNotFoundError, DirectoryUnavailableError):
            return False
        except PocketAgentError:
            return True  # another fault, which the next start reports
        return True

    async def _hold(self, reason: HoldReason, error: PocketAgentError) -> bool:
        """Hold the queue for a fault that is not the prompts'; whether that could be stored."""
        async with self.mutex:
            if not self._state.queue:
                return True
            hold = queue_hold(reason, error.message, now())
            try:
                await self._state.log.write(
                    Write(project={"queue_hold": hold}), after=lambda: self._state.announce(queue=True)
                )
            except FileOperationError:
                return False
            self.wake.set()
            return True

    async def _is_accepted(self) -> bool:
        """Whether nothing of the directory's settings is new any more; otherwise the hold reports what is new now."""
        began = time.monotonic()
        found = await self.runner.inspect()
        elapsed = time.monotonic() - began
        self._pause = min(max(_RETRY_SECONDS, _RETRY_FACTOR * elapsed), _MAX_RETRY_SECONDS)
        if found.new:
            await self._update_hold(found.summary)
        return not found.new

    async def _update_hold(self, said: str) -> None:
        async with self.mutex:
            before = self._state.project.queue_hold
            if before is None or before.reason is not HoldReason.TRUST:
                return
            hold = queue_hold(HoldReason.TRUST, said, before.since)
            if hold != before:
                with contextlib.suppress(FileOperationError):
                    await self._state.log.write(
                        Write(project={"queue_hold": hold}), after=lambda: self._state.announce(queue=True)
                    )

    @property
    def _may_start(self) -> bool:
        """Whether the next prompt of the queue is not held up by this project itself."""
        state = self._state
        return bool(state.queue) and state.current is None and state.project.queue_hold is None

    def _delayed(self, error: PocketAgentError) -> None:
        if self._state.queue:
            self._observer.emit(ExecutionDelayed(self._state.queue[0].context, error.code, error.message))

    async def _start_next(self, *, acquired: bool) -> bool:
        """Start the first prompt of the queue; False when it has to wait until the agent has done something.

        Args:
            acquired: whether a slot was taken for it; otherwise the agent, which worked without a prompt, had one.
        """
        state = self._state
        if not self._may_start or not await self._can_begin(state.queue[0]):
            if acquired:
                self._capacity.release()
            self.tick.set()
            return False
        execution = state.queue[0]
        if acquired and state.has_slot:
            self._capacity.release()  # the agent began to work while this waited
        elif not acquired and not state.has_slot:
            return True  # its work has ended since, so a slot has to be waited for
        state.has_slot = True
        try:
            await self.gate()
            await self._start(execution)
        except _NOT_OF_THE_PROMPT:
            raise
        except PocketAgentError as error:
            await self._fail_queued(execution, error)
        finally:
            self.runner.settle()
        return True

    async def _fail_queued(self, execution: Execution, error: PocketAgentError) -> None:
        failed = msgspec.structs.replace(execution, status=ExecutionStatus.ERROR, finished_at=now(), code=error.code)
        data = ErrorData(error.code, error.message, {"execution_id": execution.id, **error.details})
        state = self._state

        def applied() -> list[Draft]:
            state.queue = [waiting for waiting in state.queue if waiting.id != execution.id]
            return state.announce(queue=True)

        await state.log.write(
            Write(
                drafts=[entry_draft("error", data)],
                project={"state": ProjectState.ERROR},
                executions=(failed,),
                context=failed.context,
            ),
            after=applied,
        )
        self._observer.emit(execution_event(failed))

    def _say_error(self, error: PocketAgentError) -> None:
        self._state.log.say([live_draft("error", ErrorData(error.code, error.message, error.details or None))])

    async def _clock(self) -> None:
        while True:
            delay = self._next_deadline()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self.tick.wait()
            self.tick.clear()
            try:
                async with self.mutex:
                    await self._on_time()
            except FileOperationError as error:
                self._storage_failed(error)
                await asyncio.sleep(_RETRY_SECONDS)

    def renew(self) -> None:
        """Look again what is due, and what may start: settings have changed."""
        self.tick.set()
        self.wake.set()

    def _next_deadline(self) -> float | None:
        """Seconds until the clock has something to do; None when nothing is due."""
        state = self._state
        if state.current is None and not state.works_alone:
            if state.queue and state.is_turn_due:
                return state.turn_due - time.monotonic()
            idle = self._settings.current.timeouts.idle
            if not self._agent.open or idle <= 0 or state.is_busy:
                return None
            return max(0.0, max(self.runner.idle_since + idle, state.turn_due) - time.monotonic())
        if not self._agent.open:
            return 0.0
        due = [left for left in (self._time_left(), self._interrupt_left()) if left is not None]
        return max(0.0, min(due)) if due else None

    def _time_left(self) -> float | None:
        execution, limit = self._state.current, self._settings.current.timeouts.execution
        if limit <= 0:
            return None
        if execution is None:
            return limit - self.runner.alone.elapsed if not self._state.approvals else None
        if execution.started_tick is None or self._state.awaited():
            return None
        spent = tick() - execution.started_tick - execution.waited_ms
        return limit - spent / 1000

    def _interrupt_left(self) -> float | None:
        """Seconds that the running execution has to end after its interrupt; None without one.

        The deadline names its execution, since the next one may have started before the clock runs again.
        """
        running = self._state.current.id if self._state.current is not None else None
        if self._interrupt_deadline is None or running != self._interrupt_deadline[0]:
            return None
        return self._interrupt_deadline[1] - time.monotonic()

    async def _on_time(self) -> None:
        if self._state.current is None and not self._state.works_alone:
            self._interrupt_deadline = None
            await self._close_if_idle()
        else:
            await self._end_if_due()
        self.wake.set()

    async def _end_if_due(self) -> None:
        if not self._agent.open:
            # It could neither be started again nor could that be stored, when the disk was full.
            if self._state.current is not None:
                await self._abandon()
            return
        interrupt_left, time_left = self._interrupt_left(), self._time_left()
        if interrupt_left is not None and interrupt_left <= 0:
            self._interrupt_deadline = None
            await self.runner.end(ExecutionStatus.KILLED)
        elif time_left is not None and time_left <= 0 and self._state.verdict is None:
            await self.runner.end(ExecutionStatus.TIMEOUT)

    async def _close_if_idle(self) -> None:
        if not self._agent.alive or self._state.is_engaged:
            return
        idle = self._settings.current.timeouts.idle
        expired = idle > 0 and time.monotonic() - self.runner.idle_since >= idle
        if expired or self._agent.spool_size > self._settings.current.claude.max_spool:
            await self.runner.close_process()
