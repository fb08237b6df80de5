"""A conversation's loops: the tail ingests the CLI's output, the pump starts prompts, the clock enforces timeouts, and
the turns of terminals are taken in.

Each run of them starts with restoring the session from the store.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from pocket_agent import errors, model
from pocket_agent.claude import control
from pocket_agent.claude.process import check_directory
from pocket_agent.conversation.accounting import Budget, execution_event
from pocket_agent.conversation.agent import Agent
from pocket_agent.conversation.capacity import Capacity
from pocket_agent.conversation.conversation_log import Draft, entry_draft, live_draft, now, tick
from pocket_agent.conversation.runner import Runner
from pocket_agent.conversation.state import VERIFIABLE, State, queue_hold
from pocket_agent.conversation.terminal_turns import TerminalTurns
from pocket_agent.events import ExecutionDelayed, ExecutionQueued, Observer, StorageFailed
from pocket_agent.model import Execution, ExecutionStatus, HoldReason, ProjectState
from pocket_agent.policy import Policy
from pocket_agent.protocol.push import ErrorData
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Change, Store

_RETRY_SECONDS: Final = 1.0
"""Pause before a failed write or a failed start is tried again."""
_HOLD_SECONDS: Final = 60.0
"""The longest time between two checks whether a hold has ended."""
_RETRY_FACTOR: Final = 5
"""The pause between two readings of the directory's settings is at least this many times as long as one of them."""
_MAX_RETRY_SECONDS: Final = 10.0
_TERMINAL_SECONDS: Final = 2.0
_NOT_OF_THE_PROMPT: Final = (
    *(
        errors.ClaudeNotFoundError,
        errors.DirectoryUnavailableError,
        errors.ResourceLimitError,
        errors.FileOperationError,
        errors.SessionOpenError,
        errors.TrustRequiredError,
    ),
)
"""Errors of a start that leave the prompt in its place in the queue."""


class ConversationLoops:
    """Runs one conversation. A caller that changes it holds `mutex`.

    Args:
        gate: raises ResourceLimitError or ClaudeNotFoundError when no execution may start now.
        terminal: the turns of terminals in the session.

    Attributes:
        wake: set when the next prompt may be able to start.
        tick: set when a deadline may have moved.
        ready: set once the session is restored from the store.
        closed: whether the project is being deleted, so that no execution may start.
        policy: the options that clients may choose for an agent.
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
        terminal: TerminalTurns,
    ) -> None:
        self.mutex = asyncio.Lock()
        self.wake = asyncio.Event()
        self.tick = asyncio.Event()
        self.ready = asyncio.Event()
        self.closed = False
        self.gate = gate
        self.policy = Policy(settings)
        self.terminal = terminal
        self.runner = Runner(state, agent, capacity, budget, settings, self.policy, observer, self._evict, terminal)
        self._state = state
        self._agent = agent
        self._store = store
        self._capacity = capacity
        self._settings = settings
        self._observer = observer
        self._interrupt_deadline: tuple[model.ExecutionId | int, float] | None = None
        self._pause = _RETRY_SECONDS

    async def run(self) -> None:
        """Restore the conversation from the store, then work until cancelled."""
        self.ready.clear()
        while not self.ready.is_set():
            try:
                async with self.mutex:
                    await self._restore()
                    self.ready.set()
            except errors.FileOperationError as error:
                self._storage_failed(error)
                await asyncio.sleep(_RETRY_SECONDS)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._tail())
            loops.create_task(self._pump())
            loops.create_task(self._clock())
            loops.create_task(self._watch_terminal())

    def _storage_failed(self, error: errors.FileOperationError) -> None:
        running = self._state.current
        context = running.context if running is not None else None
        self._observer.emit(StorageFailed(self._state.record.project_id, context, error.message))

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold the mutex for a request. Raises ProjectNotFoundError when the project was deleted."""
        await self.ready.wait()
        async with self.mutex:
            if self.closed:
                raise errors.ProjectNotFoundError("There is no such project.")
            yield

    async def start_now(self, execution: Execution) -> bool:
        """Start a prompt if it is the first; False when it has to queue. Needs the mutex."""
        state = self._state
        if state.queue or not await self._can_begin(execution):
            return False
        if not state.has_slot and not self._capacity.try_acquire():
            return False
        self._observer.emit(ExecutionQueued(execution.context, 0))
        try:
            await self._start(execution)
        except errors.TrustRequiredError:  # the prompt queues, and the pump holds the queue
            return False
        return True

    async def _can_begin(self, execution: Execution) -> bool:
        """Whether the agent can take a prompt now.

        During a turn the CLI would fold the prompt into that turn, so the prompt waits for its end. Next to subagents
        it may start, unless it needs another process, which would end them.
        """
        state = self._state
        if state.current is not None or state.work.turn:
            return False
        return not (state.works_alone or state.is_turn_due) or await self.runner.suits(execution)

    async def _start(self, execution: Execution) -> None:
        """Start with the slot that the caller took; a failed start gives it back."""
        self._state.has_slot = True
        await self.runner.start(execution)
        self.tick.set()

    async def interrupt(self) -> None:
        """Ask the agent to stop; a process that goes on is ended after a grace period. Needs the mutex.

        An interrupt stops the turn and the subagents (2.1.330). When only commands run in the background, they are
        stopped.
        """
        state = self._state
        running = state.current
        lines = [control.interrupt(uuid.uuid4().hex)]
        if running is not None:
            state.end_status = ExecutionStatus.KILLED
        elif state.works_alone:
            await self.note_interrupt()
        else:
            lines = [control.stop_task(uuid.uuid4().hex, task.id) for task in state.work.tasks]
        if self._interrupt_left() is None and (running is not None or state.works_alone):
            grace = self._settings.current.claude.interrupt_grace
            self._interrupt_deadline = self._interruptible, time.monotonic() + grace
        self.tick.set()
        with contextlib.suppress(errors.ProcessNotFoundError):  # it has ended by itself, which the tail will notice
            self._agent.send(b"".join(lines))

    @property
    def _interruptible(self) -> model.ExecutionId | int:
        """Identifies the running execution, or a turn of the agent's own by the number of results before its end."""
        return self._state.current.id if self._state.current is not None else self._state.results

    async def note_interrupt(self) -> None:
        """Store that what works without a prompt is to end, which a later server interrupts again. Needs the mutex."""
        state, agent = self._state, self._agent
        if agent.record is None or state.work.interrupted:
            return
        account = replace(state.account, work=replace(state.work, interrupted=True))
        record = replace(agent.record, account=account)

        def noted() -> list[Draft]:
            state.account, agent.record = account, record
            return []

        with contextlib.suppress(errors.FileOperationError):  # the interrupt itself needs no disk
            await state.log.write(change=Change(process=record), after=noted)

    async def release_hold(self) -> None:
        """Let the waiting prompts start. Needs the mutex."""
        await self._write_hold(None)
        self.wake.set()

    async def _write_hold(self, hold: model.QueueHold | None) -> None:
        await self._state.log.write(record={"queue_hold": hold}, after=lambda: self._state.announce(queue=True))

    async def _evict(self) -> bool:
        """Close the process if the project is idle, so that another project can start one."""
        if self._is_needed():
            return False
        # A conversation that is about to start a process holds a slot, so no two of them wait for each other here.
        async with self.mutex:
            if self._is_needed():
                return False
            await self.runner.close_process()
        return True

    def _is_needed(self) -> bool:
        """Whether the process works, or will soon."""
        return self._state.has_slot or self._state.is_engaged

    async def _restore(self) -> None:
        state, conversation_id, project_id = self._state, self._state.record.id, self._state.record.project_id
        opened = await self._store.open_executions(conversation_id)
        state.queue = [execution for execution in opened if execution.status.waits]
        state.steering = [found for found in opened if found.status is ExecutionStatus.STEERING]
        running = {ExecutionStatus.STARTING, ExecutionStatus.RUNNING}
        state.current = next((found for found in opened if found.status in running), None)
        state.last = await self._store.last_finished(conversation_id)
        trust = await self._store.trust(project_id)
        state.acceptance.digests = frozenset(trust.digests) if trust is not None else None
        stop = state.current.stop if state.current is not None else None
        state.end_status = ExecutionStatus.KILLED if stop is not None else None
        state.killed = stop is model.StopRequest.KILL
        starting = state.current is not None and state.current.status is ExecutionStatus.STARTING
        state.attempts, state.first_message_seen = 0 if starting else 1, True
        answers = []
        state.approvals = {}
        for approval in await self._store.open_approvals(conversation_id):
            if approval.status is model.ApprovalStatus.PENDING:
                state.approvals[approval.id] = approval
            else:
                answers.append(approval)
        self._trust_ticks()
        if state.record.session_id is not None:
            state.session = await self._store.session(project_id, state.record.session_id)
        record = await self._store.process(conversation_id)
        self._agent.release()
        state.account = record.account if record is not None else model.Account()
        self.runner.settle()
        state.prompt_spool_offset = (state.current.spool_offset if state.current is not None else None) or 0
        if record is not None:
            await self._adopt(record)
        if state.current is not None:
            if self._agent.alive:
                await self._continue(state.current)
                for steering in state.steering:
                    self.runner.write_steering(steering)
            elif not self._agent.open:
                await self._abandon()
        elif not self._agent.open and (state.approvals or state.work.tasks or state.steering):
            await self.runner.leave()
        await self._carry_out_stop()
        for approval in answers:
            if approval.answer is not None:
                with contextlib.suppress(errors.ProcessNotFoundError):
                    self._agent.send(approval.answer)
            await state.log.write(change=Change(approvals=(replace(approval, delivered=True),)))
        self.wake.set()
        self.terminal.wake.set()

    def _trust_ticks(self) -> None:
        """Replace start times of an older version, or of another boot of the machine, by the present time."""
        state, at = self._state, tick()
        if state.current is not None and not 0 <= (state.current.started_tick or -1) <= at:
            state.current = replace(state.current, started_tick=at)
        for key, approval in state.approvals.items():
            if not 0 <= (approval.created_tick or -1) <= at:
                state.approvals[key] = replace(approval, created_tick=at)

    async def _adopt(self, record: model.ProcessRecord) -> None:
        try:
            await self._agent.adopt(record)
        except errors.ExecutionFailedError as error:
            self._say_error(error)
            await self._state.log.write(change=Change(ended_process=record.id))
            return
        self._capacity.used(self._state.record.id, self._evict)
        while await self.runner.ingest_batch():
            pass

    async def _continue(self, execution: Execution) -> None:
        """Continue with an adopted process; write the prompt again if the process may not have got it.

        The CLI skips a message whose `uuid` it has seen, whether it waits, runs or is over (observed with 2.1.330),
        so the server need not know how much the process has read.
        """
        if self._agent.deaf:
            await self.runner.replace_process()
        elif execution.status is ExecutionStatus.STARTING:
            try:
                self.policy.check_maker(execution.device_id)
                await self._state.log.write(change=Change(admits=execution), context=execution.context)
            except errors.ForbiddenError:  # revoked while no server ran, before the prompt was written
                await self.runner.end(ExecutionStatus.KILLED, killed=True)
                return
            await self.runner.send_prompt()

    async def _carry_out_stop(self) -> None:
        """Carry out a stop request that was stored before the server died."""
        state = self._state
        match state.current and state.current.stop:
            case model.StopRequest.KILL:
                await self.runner.end(ExecutionStatus.KILLED, killed=True)
            case model.StopRequest.INTERRUPT:
                await self.interrupt()
            case None if state.works_alone and state.work.interrupted:
                await self.interrupt()

    async def _abandon(self) -> None:
        """Pause or end an execution whose process is gone without a trace, as after a reboot."""
        if await self.runner.lose(silent=True):
            self.wake.set()
            return
        if self._state.end_status is ExecutionStatus.KILLED:  # a client had stopped it
            await self.runner.finish(ExecutionStatus.KILLED, None)
            return
        error = ErrorData("EXECUTION_FAILED", "The agent's process ended while the server could not see it.")
        await self.runner.finish(ExecutionStatus.ERROR, error)

    async def _tail(self) -> None:
        while True:
            await self._agent.activity()
            try:
                async with self.mutex:
                    took = await self.runner.ingest_batch()
            except errors.FileOperationError as error:
                self._storage_failed(error)
                self.tick.set()
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if took:
                self.tick.set()
                if self._state.current is None and not self._state.work.turn:
                    self.wake.set()
                    if self.terminal.is_unknown:
                        self.terminal.wake.set()
                await asyncio.sleep(0)  # yield to the event loop during long output

    async def _pump(self) -> None:
        reported: str | None = None
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
                    reported = None
                except (
                    errors.ClaudeNotFoundError,
                    errors.ResourceLimitError,
                    errors.FileOperationError,
                    errors.SessionOpenError,
                ) as error:
                    # Not the prompt's fault: it keeps its place until the fault is gone.
                    if error.message != reported:
                        if isinstance(error, errors.ClaudeNotFoundError):  # the hold says it to clients that come later
                            self._say_error(error)
                        else:
                            await self._report(error)
                        self._delayed(error)
                    reported = error.message
                    if not isinstance(error, errors.ClaudeNotFoundError) or not await self._hold(HoldReason.CLI, error):
                        await asyncio.sleep(_RETRY_SECONDS)
                except (errors.DirectoryUnavailableError, errors.TrustRequiredError) as error:
                    is_trust = isinstance(error, errors.TrustRequiredError)
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
        if held and await self._is_cause_gone():
            async with self.mutex:
                if self._is_verifiable:
                    with contextlib.suppress(errors.FileOperationError):
                        await self.release_hold()

    @property
    def _is_verifiable(self) -> bool:
        hold = self._state.record.queue_hold
        return hold is not None and hold.reason in VERIFIABLE

    async def _is_cause_gone(self) -> bool:
        """Whether the directories and the CLI are available, or all claims of the directory are accepted."""
        hold = self._state.record.queue_hold
        try:
            await asyncio.to_thread(check_directory, Path(self._state.record.real_path))
            if hold is not None and hold.reason is HoldReason.TRUST:
                return await self._is_accepted()
            for waiting in self._state.queue[:1]:
                await self.runner.effective(waiting.options)
            await self.gate()
        except (errors.ClaudeNotFoundError, errors.DirectoryUnavailableError):
            return False
        except errors.PocketAgentError:
            pass  # another fault, which the next start reports
        return True

    async def _hold(self, reason: HoldReason, error: errors.PocketAgentError) -> bool:
        """Hold the queue for a fault that is not the prompt's; returns whether the hold was stored."""
        async with self.mutex:
            if not self._state.queue:
                return True
            try:
                await self._write_hold(queue_hold(reason, error.message, now()))
            except errors.FileOperationError:
                return False
            self.wake.set()
            return True

    async def _is_accepted(self) -> bool:
        """Whether the directory has no new claims any more; otherwise the hold is updated with the present ones."""
        began = time.monotonic()
        found = await self.runner.inspect()
        elapsed = time.monotonic() - began
        self._pause = min(max(_RETRY_SECONDS, _RETRY_FACTOR * elapsed), _MAX_RETRY_SECONDS)
        if not found.new:
            return True
        async with self.mutex:
            before = self._state.record.queue_hold
            if before is not None and before.reason is HoldReason.TRUST:
                hold = queue_hold(HoldReason.TRUST, found.summary, before.since)
                if hold != before:
                    with contextlib.suppress(errors.FileOperationError):
                        await self._write_hold(hold)
        return False

    @property
    def _may_start(self) -> bool:
        """Whether a prompt waits, and neither an execution nor a hold of this project blocks it."""
        state = self._state
        return bool(state.queue) and state.current is None and state.record.queue_hold is None

    def _delayed(self, error: errors.PocketAgentError) -> None:
        if self._state.queue:
            self._observer.emit(ExecutionDelayed(self._state.queue[0].context, error.code, error.message))

    async def _start_next(self, *, acquired: bool) -> bool:
        """Start the first prompt of the queue; False when it has to wait for the agent.

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
            self._capacity.release()  # the agent started to work while this waited for the slot
        elif not acquired and not state.has_slot:
            return True  # the work has ended since, so the pump has to wait for a slot
        state.has_slot = True
        try:
            await self.gate()
            await self._start(execution)
        except _NOT_OF_THE_PROMPT:
            raise
        except errors.PocketAgentError as error:
            await self._fail_queued(execution, error)
        finally:
            self.runner.settle()
        return True

    async def _fail_queued(self, execution: Execution, error: errors.PocketAgentError) -> None:
        failed = replace(execution, status=ExecutionStatus.ERROR, finished_at=now(), code=error.code)
        data = ErrorData(error.code, error.message, {"execution_id": execution.id, **error.details})
        state = self._state

        def applied() -> list[Draft]:
            state.queue = [waiting for waiting in state.queue if waiting.id != execution.id]
            return state.announce(queue=True)

        await state.log.write(
            [entry_draft("error", data)],
            Change(executions=(failed,)),
            record={"state": ProjectState.ERROR},
            context=failed.context,
            after=applied,
        )
        self._observer.emit(execution_event(failed))

    async def _report(self, error: errors.PocketAgentError) -> None:
        """Store an error, for clients that come later; deliver it alone when it cannot be stored."""
        try:
            async with self.mutex:
                data = ErrorData(error.code, error.message, error.details or None)
                await self._state.log.write([entry_draft("error", data)])
        except errors.FileOperationError:
            self._say_error(error)

    def _say_error(self, error: errors.PocketAgentError) -> None:
        self._state.log.say([live_draft("error", ErrorData(error.code, error.message, error.details or None))])

    async def _watch_terminal(self) -> None:
        """Take in what terminals have done in the session, repeatedly while a client watches and no agent has it."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TERMINAL_SECONDS if self._may_be_in_terminal else None):
                    await self.terminal.wake.wait()
            self.terminal.wake.clear()
            try:
                async with self.mutex:
                    if self._state.current is None and not self._state.work.turn:
                        await self.runner.take_in_terminal()
            except errors.FileOperationError as error:
                self._storage_failed(error)
                await asyncio.sleep(_RETRY_SECONDS)

    @property
    def _may_be_in_terminal(self) -> bool:
        return self.terminal.may_come and not self._agent.alive

    async def _clock(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_deadline()):
                    await self.tick.wait()
            self.tick.clear()
            try:
                async with self.mutex:
                    await self._on_time()
            except errors.FileOperationError as error:
                self._storage_failed(error)
                await asyncio.sleep(_RETRY_SECONDS)

    def renew(self) -> None:
        """Check deadlines and the queue again, since settings have changed."""
        self.tick.set()
        self.wake.set()

    def _next_deadline(self) -> float | None:
        """Seconds until the next deadline; None without one."""
        due = [left for left in (self._deadline(), self._hold_left()) if left is not None]
        return min(due) if due else None

    def _hold_left(self) -> float | None:
        """Seconds until the time of the hold ends, at most a minute; None when it has no time.

        Without `limits.resume_after_reset` it ends at once. The time is that of the wall clock, which may be set, and
        goes on while the machine sleeps. A clock that was set back to before the hold was ahead, perhaps by years: the
        hold ends, and a limit that is not over refuses again.
        """
        hold, at = self._state.record.queue_hold, now()
        if hold is None or hold.until is None:
            return None
        if not self._state.limits.resumes or at < hold.since - _HOLD_SECONDS * 1000:
            return 0.0
        return min(_HOLD_SECONDS, max(0.0, (hold.until - at) / 1000))

    def _deadline(self) -> float | None:
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
        """Seconds that the running execution has to end after its interrupt; None without an interrupt.

        The deadline identifies it, since the next one may have started before the clock runs again.
        """
        if self._interrupt_deadline is None or self._interruptible != self._interrupt_deadline[0]:
            return None
        return self._interrupt_deadline[1] - time.monotonic()

    async def _on_time(self) -> None:
        hold = self._state.record.queue_hold
        if hold is not None and self._hold_left() == 0.0:
            resumes = self._state.limits.resumes
            await self._write_hold(None if resumes else queue_hold(hold.reason, "", hold.since))
        if self._state.current is None and not self._state.works_alone:
            self._interrupt_deadline = None
            await self._close_if_idle()
        else:
            await self._end_if_due()
        self.wake.set()

    async def _end_if_due(self) -> None:
        if not self._agent.open:
            # With a full disk, neither a new process nor the end of the execution could be stored.
            if self._state.current is not None:
                await self._abandon()
            return
        interrupt_left, time_left = self._interrupt_left(), self._time_left()
        if interrupt_left is not None and interrupt_left <= 0:
            self._interrupt_deadline = None
            await self.runner.end(ExecutionStatus.KILLED)
        elif time_left is not None and time_left <= 0 and self._state.end_status is None:
            await self.runner.end(ExecutionStatus.TIMEOUT)

    async def _close_if_idle(self) -> None:
        if not self._agent.alive or self._state.is_engaged:
            return
        idle = self._settings.current.timeouts.idle
        expired = idle > 0 and time.monotonic() - self.runner.idle_since >= idle
        if expired or self._agent.spool_size > self._settings.current.claude.max_spool:
            await self.runner.close_process()
