"""Carries an execution from its start to its end: the process, its model, the prompt, the lines, the result."""

import asyncio
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from pocket_agent import errors, events, model
from pocket_agent.claude import control
from pocket_agent.claude.process import check_directory
from pocket_agent.claude.stream import CliMessage
from pocket_agent.claude.transcripts import Keeping
from pocket_agent.claude.trust import Inspection, inspect
from pocket_agent.conversation.accounting import Budget, duration, execution_event
from pocket_agent.conversation.agent import Agent, Batch
from pocket_agent.conversation.capacity import Capacity
from pocket_agent.conversation.conversation_log import Draft, entry_draft, now, tick
from pocket_agent.conversation.ingest import BatchResult, Intake
from pocket_agent.conversation.state import State, approval_event, tool_name
from pocket_agent.conversation.terminal_turns import TerminalTurns
from pocket_agent.events import Observer
from pocket_agent.model import ExecuteOptions, Execution, ExecutionContext, ExecutionStatus
from pocket_agent.policy import Policy
from pocket_agent.protocol.push import ErrorData, PromptData
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Change

_CONTROL_SECONDS: Final = 5.0
"""How long the CLI may take to answer a control request; it answers within milliseconds."""
_MAX_ATTEMPTS: Final = 2
"""How often a prompt is written to a process that ends without output."""
_NAMED_TASKS: Final = 5
_MAX_UNASKED: Final = 3
"""How often an execution is continued without a question after its process was lost."""
_LOST: Final = frozenset({None, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, 128 + signal.SIGTERM})
"""Exit codes of a process that something else ended: a shutdown, or the kernel when memory runs out. None is that of
one that ended while no server ran, or that another server started. The CLI (2.1.332) exits with 143 on SIGTERM."""
_CONTINUE: Final = {
    model.HoldReason.USAGE_LIMIT: (
        "A usage limit stopped you before you had finished. It has been reset: continue with the last request."
    ),
    model.HoldReason.LOST: (
        "Your process was lost before you had finished, as with a restart of the machine, and with it every command "
        "that ran in the background. Check what is done already, then continue with the last request."
    ),
}
"""The prompts that continue a paused execution in its session, by the reason of the pause."""
_TURN_DUE_SECONDS: Final = 5.0
"""How long after the end of a background task the CLI may start a turn for it; 2.1.330 takes up to 0.3 s."""


class Stopwatch:
    """Measures how long something runs, without its pauses."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return self._before + (time.monotonic() - self._since if self._since is not None else 0.0)

    def run(self, *, on: bool, keep: bool) -> None:
        """Run or pause; without `keep`, start at 0."""
        self._before = self.elapsed if keep else 0.0
        self._since = time.monotonic() if on else None


class Runner:
    """Runs one conversation's executions, one at a time. Callers hold its mutex."""

    def __init__(
        self,
        state: State,
        agent: Agent,
        capacity: Capacity,
        budget: Budget,
        settings: CurrentSettings,
        policy: Policy,
        observer: Observer,
        evict: Callable[[], Awaitable[bool]],
        terminal: TerminalTurns,
    ) -> None:
        self._terminal = terminal
        self._state = state
        self._agent = agent
        self._capacity = capacity
        self._budget = budget
        self._settings = settings
        self._policy = policy
        self._observer = observer
        self._evict = evict
        self.idle_since = time.monotonic()
        self.alone = Stopwatch()
        self._starting = False
        self._written: asyncio.Future[None] | None = None

    async def start(self, execution: Execution) -> None:
        """Give the prompt to the agent; the caller holds the execution slot. After an error nothing has changed.

        Raises:
            ClaudeNotFoundError: there is no usable CLI.
            ExecutionFailedError: the CLI could not be started.
            ForbiddenError, InvalidPathError: the settings do not allow the options (any more), or the device that gave
                the prompt was revoked.
            FileOperationError: the start could not be stored.
            ProcessActiveError: it needs another process, which would end the work in the background.
            SessionOpenError: it needs a process for a session that a terminal has open.
            TrustRequiredError: the directory's settings make the CLI do something that has not been accepted.
        """
        self._starting = True
        try:
            await self._start(execution)
        finally:
            self._starting = False
            self.settle()

    async def _start(self, execution: Execution) -> None:
        state = self._state
        self._policy.check_maker(execution.device_id)
        wanted = await self.effective(execution.options)
        began = time.monotonic()
        if state.current is None and not state.work.turn:
            await self.take_in_terminal()
        if not self._agent.alive and not state.record.fork and await self._terminal.is_open():
            raise errors.SessionOpenError(
                "A terminal has this conversation open: end the CLI there first, or continue a copy of it "
                "(session_resume with fork)."
            )
        execution = await self._without_lost_session(execution)
        warm = await self._ensure_process(wanted, execution.context)
        at = now()
        paused_for = execution.paused_for if execution.status.is_paused else None
        started = self._started(execution, at)
        prompt = PromptData(
            execution_id=execution.id,
            prompt=_message(started),
            by=execution.by,
            prompt_id=execution.prompt_id,
            continues=paused_for,
        )

        def begun() -> list[Draft]:
            was_queued = state.place_of(execution) > 0
            state.queue = [waiting for waiting in state.queue if waiting.id != execution.id]
            state.current = started
            state.end_status, state.killed, state.attempts = None, False, 0
            state.first_message_seen = paused_for is not None
            state.turn_due = 0.0
            state.account = replace(state.account, work=replace(state.work, prompt="", blocked=None))
            return state.announce(queue=was_queued)

        try:
            await state.log.write(
                [entry_draft("prompt", prompt, model.Direction.CLIENT, said="" if paused_for else execution.prompt)],
                Change(executions=(started,), process=self._agent.record, admits=started),
                record={"state": model.ProjectState.EXECUTING, "archived": False},
                context=execution.context,
                after=begun,
            )
        except BaseException:
            if not warm:
                await self._agent.terminate(idle=True)
                await self._forget_process()
            raise
        self._capacity.used(state.record.id, self._evict)
        preparation = time.monotonic() - began
        if paused_for is not None:
            self._observer.emit(events.ExecutionContinued(execution.context, paused_for, started.waited_ms / 1000))
            await self.send_prompt()
            return
        queued = max(0.0, (at - execution.created_at) / 1000 - preparation)
        self._observer.emit(events.ExecutionStarted(execution.context, warm, queued, preparation))
        await self.send_prompt()

    async def _without_lost_session(self, execution: Execution) -> Execution:
        """A paused execution that is about to continue, without its session when that lacks its prompt.

        The CLI stores a message some time after it has taken it, so that a killed process may have taken a prompt, and
        begun with it, of which its session knows nothing: the short prompt would continue another one.
        """
        project, session = self._state.record, self._state.session
        if not execution.status.is_paused or self._agent.alive or execution.session_id is None:
            return execution
        found = await self._agent.keeping(project.real_path, execution.session_id, execution.id)
        if found is Keeping.NO_SESSION and execution.session_id == project.session_id:
            # A session that began with this prompt has not been stored at all, and cannot be resumed.
            is_own = session is not None and session.created_at >= (execution.started_at or session.created_at + 1)
            if is_own:
                await self._state.log.write(record={"session_id": None, "fork": False}, context=execution.context)
                return replace(execution, session_id=None)
        return replace(execution, session_id=None) if found is Keeping.MISSING else execution

    def _started(self, execution: Execution, at: model.Milliseconds) -> Execution:
        """The execution as it starts, or continues, at the time `at` with the present process.

        A paused one continues with a short prompt if its session, which has its prompt, is the present one. Otherwise
        it gets its prompt again, with the same uuid, by which a session that has the prompt after all skips it.
        """
        started = replace(execution, status=ExecutionStatus.STARTING, spool_offset=self._agent.spool_size)
        if not execution.status.is_paused:
            return replace(started, started_at=at, started_tick=tick())
        project = self._state.record
        in_session = execution.session_id is not None and execution.session_id == project.session_id
        waited = execution.waited_ms + max(0, at - (execution.paused_at or at))
        # The ticks of its start may be those of another boot.
        elapsed = max(waited, at - (execution.started_at or at))
        return replace(
            started,
            waited_ms=waited,
            started_tick=tick() - elapsed,
            paused_at=None,
            continuations=execution.continuations + 1 if in_session else 0,
        )

    async def effective(self, options: ExecuteOptions) -> ExecuteOptions:
        """The options of a prompt with the project's and the server's defaults filled in, if they are allowed.

        Raises:
            ForbiddenError, InvalidPathError: they are not (any more).
            DirectoryUnavailableError: a path that was there when the prompt came is gone.
        """
        project = self._state.record
        filled = replace(
            options,
            model=options.model or project.model or self._settings.current.claude.model,
            permission_mode=options.permission_mode
            or project.permission_mode
            or self._settings.current.claude.permission_mode,
        )
        try:
            return await self._policy.admit(filled, project.real_path)
        except errors.MissingPathError as error:
            raise errors.DirectoryUnavailableError(error.message) from error

    async def take_in_terminal(self) -> None:
        """Store what terminals have done in the session, and end an idle process, which does not have it.

        Raises:
            FileOperationError: it could not be stored.
        """
        if await self._terminal.take_in() and self._agent.alive and not self._state.is_engaged:
            await self.close_process()

    async def inspect(self) -> Inspection:
        """The claims of the project's directory, compared with the accepted ones. Reads the disk, in a thread.

        Raises:
            DirectoryUnavailableError: the directory is gone, or may not be entered.
        """
        directory, sources = Path(self._state.record.real_path), self._settings.current.claude.setting_sources
        accepted = self._state.acceptance.digests

        def look() -> Inspection:
            check_directory(directory)
            return inspect(directory, sources, accepted)

        return await asyncio.to_thread(look)

    async def accept(self, found: Inspection, project: dict[str, object] | None = None) -> None:
        """Store that exactly these claims are accepted, together with changes of the project's fields.

        Raises:
            FileOperationError: the store refused; nothing has changed.
        """
        state = self._state
        digests = found.digests
        if state.record.worktree is not None:  # the branch may lack claims of the project's directory
            digests = tuple(sorted({*digests, *(state.acceptance.digests or ())}))

        def accepted() -> list[Draft]:
            state.acceptance.digests = frozenset(digests)
            return state.announce(queue=True) if project else []

        await state.log.write(
            change=Change(trust=model.Trust(state.record.project_id, digests)), record=project or {}, after=accepted
        )

    async def _admit_claims(self) -> Inspection:
        """Raise TrustRequiredError when the directory has claims that have not been accepted.

        In a project of a version that did not store accepted claims, the first start accepts the present ones: they
        were in force before.
        """
        found = await self.inspect()
        if self._state.acceptance.digests is None:
            await self.accept(found)
        if found.new:
            raise errors.TrustRequiredError(found.summary, details={"hash": found.hash})
        return found

    async def _ensure_process(self, options: ExecuteOptions, context: ExecutionContext) -> bool:
        """Have a process that fits the options and the directory's claims; returns whether it ran already."""
        agent, project = self._agent, self._state.record
        found = await self._admit_claims()
        is_outdated = agent.record is not None and agent.record.claims not in {"", found.hash}
        if is_outdated and not (agent.alive and self._state.is_engaged):  # work in the background goes on
            await self.close_process()
        if agent.open and (not agent.fits(options) or project.fork or not await self._adjust(options)):
            if agent.alive and self._state.is_engaged:
                raise errors.ProcessActiveError(
                    "These options need a new process of the agent, with which what runs in the background would end: "
                    f"{self._background()}. Give the prompt without them, or end that first (agent_kill)."
                )
            await self.close_process()
        if agent.open:
            return True
        await self._capacity.reserve_process(project.id)
        try:
            await agent.start(options, resume=project.session_id, fork=project.fork, context=context, claims=found.hash)
        except BaseException:
            self._capacity.gone(project.id)
            raise
        assert agent.record is not None
        self._state.account = agent.record.account
        return False

    async def set_model(self, model: str | None) -> bool:
        """Change the model of the running process; False when the CLI does not accept it."""
        request_id = uuid.uuid4().hex
        return await self._set(request_id, control.set_model(request_id, model), "requested_model", model)

    async def set_permission_mode(self, mode: str) -> bool:
        """Change the permission mode of the running process; False when the CLI does not accept it."""
        request_id = uuid.uuid4().hex
        return await self._set(request_id, control.set_permission_mode(request_id, mode), "requested_mode", mode)

    async def _adjust(self, options: ExecuteOptions) -> bool:
        """Change model and permission mode of the warm process; False when the prompt needs a new process."""
        work, mode = self._state.work, options.permission_mode or "default"
        if options.model != work.requested_model and not await self.set_model(options.model):
            return False
        is_set = mode == ("default" if work.requested_mode is None else work.requested_mode)
        return is_set or await self.set_permission_mode(mode)

    async def _set(self, request_id: str, line: bytes, attribute: str, value: str | None) -> bool:
        agent, before = self._agent, getattr(self._state.work, attribute)

        def refused(answer: "asyncio.Future[CliMessage]") -> None:
            response = answer.result().response if not answer.cancelled() else None
            if response is not None and not response.succeeded:
                self._note_work(attribute, before)

        self._note_work(attribute, value)  # before the answer, which comes after lines that depend on the value
        if agent.is_starting:
            # This may take long. The next prompt tries again what it refuses.
            agent.expect(request_id).add_done_callback(refused)
            with suppress(errors.ProcessNotFoundError):
                agent.send(line)
            return True
        answer = await self._ask(request_id, line)
        if answer is None or answer.response is None:
            # A process that is stopped carries it out when it goes on; one that knows no control requests does not.
            self._note_work(attribute, "" if agent.has_answered else before)
            return False
        if not answer.response.succeeded:
            self._note_work(attribute, before)
        return answer.response.succeeded

    async def ask(self, line: Callable[[str], bytes]) -> msgspec.Raw:
        """The process's answer to a control request, which `line` builds with an id.

        Raises:
            ProcessNotFoundError: there is no process, or it does not answer.
            ValidationError: it refuses the request; the message has its reason.
        """
        request_id = uuid.uuid4().hex
        answer = await self._ask(request_id, line(request_id)) if self._agent.alive else None
        if answer is None or answer.response is None:
            raise errors.ProcessNotFoundError("The agent's process does not run, or does not answer.")
        if not answer.response.succeeded:
            raise errors.ValidationError(f"The agent refuses this: {answer.response.error or 'no reason was given'}")
        return answer.response.response

    async def _ask(self, request_id: str, line: bytes) -> CliMessage | None:
        """Send a control request; None when no answer comes, as from a stand-in that knows no control requests."""
        agent, loop = self._agent, asyncio.get_running_loop()
        answer = agent.expect(request_id)
        deadline = loop.time() + _CONTROL_SECONDS
        try:
            agent.send(line)
            # The answer is a line of the spool, which no other task reads while the mutex is held.
            while not answer.done() and agent.open:
                if not await self.ingest_batch():
                    async with asyncio.timeout_at(deadline):
                        await agent.activity()
        except (errors.ProcessNotFoundError, TimeoutError):
            answer.cancel()
        return answer.result() if answer.done() and not answer.cancelled() else None

    def note_mode(self, mode: str) -> None:
        """Record an accepted permission mode before the line in which the CLI reports it."""
        self._note_work("permission_mode", mode)

    def _note_work(self, attribute: str, value: str | None) -> None:
        work = replace(self._state.work, **{attribute: value})
        self._state.account = replace(self._state.account, work=work)

    def _background(self) -> str:
        """The work of the process in the background, as text."""
        tasks = [task.description or task.type for task in self._state.work.tasks]
        return ", ".join(tasks[:_NAMED_TASKS]) or "a turn of the agent's own"

    async def suits(self, execution: Execution) -> bool:
        """Whether the running process can take a prompt; any other error of the prompt shows when it starts."""
        try:
            wanted = await self.effective(execution.options)
        except errors.PocketAgentError:
            return True
        return not self._agent.alive or (self._agent.fits(wanted) and not self._state.record.fork)

    async def send_prompt(self) -> None:
        """Write the prompt of the running execution; the tail notices a process that is gone."""
        state, execution = self._state, self._state.current
        assert execution is not None
        state.attempts += 1
        state.heard_at = time.monotonic()
        state.prompt_spool_offset = self._agent.spool_size
        with suppress(errors.ProcessNotFoundError):
            self._written = self._agent.send_prompt(_message(execution), execution.message_id, execution.context)
            await self._note_written()

    async def _note_written(self) -> None:
        """Store that the prompt is written, once it is; a long one takes until the process has read enough."""
        state, written = self._state, self._written
        if written is None or not written.done():
            return
        self._written = None
        execution = state.current
        if execution is None or execution.status is not ExecutionStatus.STARTING:
            return
        if written.cancelled() or written.exception() is not None:
            return
        running = replace(execution, status=ExecutionStatus.RUNNING)

        def sent() -> list[Draft]:
            if state.current is execution:
                state.current = running
            return []

        with suppress(errors.FileOperationError):  # the prompt runs all the same, and its uuid identifies it
            await state.log.write(change=Change(executions=(running,)), context=execution.context, after=sent)

    async def can_steer(self, execution: Execution) -> bool:
        """Whether the running turn can take up a prompt: it has reached the model, and has the prompt's options.

        Only a CLI that reports the states of prompts (2.1.330 does) reports when a turn has taken one up.
        """
        state, agent = self._state, self._agent
        running, work = state.current, state.work
        if running is None or running.status is not ExecutionStatus.RUNNING or state.end_status is not None:
            return False
        if not agent.alive or agent.deaf or work.turn != "prompt" or work.prompt != "started":
            return False
        try:
            wanted = await self.effective(execution.options)
        except errors.PocketAgentError:
            return False
        mode = work.permission_mode or work.requested_mode
        has_mode = (wanted.permission_mode or "default") == (mode or "default")
        return has_mode and wanted.model == work.requested_model and agent.fits(wanted) and not state.record.fork

    async def steer(self, execution: Execution) -> None:
        """Write a prompt into the running turn.

        Raises:
            ForbiddenError: the device that gave the prompt was revoked.
            FileOperationError: it could not be stored; nothing has changed.
        """
        state = self._state
        self._policy.check_maker(execution.device_id)
        running = state.current
        assert running is not None
        steering = replace(
            execution,
            status=ExecutionStatus.STEERING,
            position=max([execution.position, *(each.position + 1 for each in state.steering)]),
            started_at=now(),
            started_tick=tick(),
            spool_offset=self._agent.spool_size,
        )
        prompt = PromptData(
            execution_id=execution.id,
            prompt=execution.prompt,
            by=execution.by,
            prompt_id=execution.prompt_id,
            steers=running.id,
        )

        def begun() -> list[Draft]:
            was_queued = state.place_of(execution) > 0
            state.queue = [waiting for waiting in state.queue if waiting.id != execution.id]
            state.steering.append(steering)
            return state.announce(queue=was_queued)

        await state.log.write(
            [entry_draft("prompt", prompt, model.Direction.CLIENT, said=execution.prompt)],
            Change(executions=(steering,), admits=steering),
            context=execution.context,
            after=begun,
        )
        self._observer.emit(events.ExecutionStarted(execution.context, True, 0.0, 0.0))
        self.write_steering(steering)

    def write_steering(self, execution: Execution) -> None:
        """Write a prompt of the running turn; the CLI skips it when it has it already."""
        with suppress(errors.ProcessNotFoundError):  # the tail requeues it
            self._agent.send_prompt(execution.prompt, execution.message_id, execution.context)

    async def ingest_batch(self) -> bool:
        """Store one batch of the CLI's output in the log; False when there is none now.

        Raises:
            FileOperationError: it could not be stored; the next call gets the same lines.
        """
        agent = self._agent
        await self._note_written()
        batch = agent.next_batch()
        if batch is None:
            if agent.drained:
                await self._exited()
                return True
            return False
        plan = self._intake().take(batch.lines)
        silent = agent.record is not None and agent.record.consumed <= self._state.prompt_spool_offset
        await self._store(plan, batch)
        self._state.heard_at = time.monotonic()
        if silent and len(plan.answers) == len(batch.lines):
            # The process has answered control requests, and written nothing about the prompt yet.
            self._state.prompt_spool_offset = batch.consumed
        return True

    def _intake(self) -> Intake:
        return Intake(
            self._state,
            may_choose=self._may_choose,
            resumes_at=self._resumes_at,
        )

    def _resumes_at(self, reset: model.Milliseconds) -> model.Milliseconds | None:
        running = self._state.current
        return self._state.limits.resumes_at(reset, running.continuations if running is not None else 0)

    def _may_choose(self, mode: str) -> bool:
        try:
            self._policy.check_mode(mode)
        except errors.ForbiddenError:
            return False
        return True

    async def _store(self, plan: BatchResult, batch: Batch | None, *, ended: bool = False) -> None:
        """Store a plan, then apply it."""
        agent, record = self._agent, self._agent.record
        entries = any(draft.direction is not None for draft in plan.drafts)
        if batch is not None and record is not None:
            record = replace(
                record, consumed=batch.lines[plan.taken - 1].end, account=plan.account or self._state.account
            )
        if entries or ended:
            await self._state.log.write(
                plan.drafts,
                Change(
                    executions=tuple(
                        found
                        for found in (
                            *(plan.running, plan.finished, plan.paused, plan.earlier, plan.next),
                            *plan.joined,
                            *plan.requeued,
                        )
                        if found is not None
                    ),
                    approvals=(*plan.opened.values(), *plan.closed.values()),
                    process=None if ended else record,
                    ended_process=record.id if ended and record is not None else None,
                    sessions=(plan.session,) if plan.session is not None else (),
                    spent=plan.spent,
                ),
                record=plan.record,
                context=self._context(),
                after=lambda: self._apply(plan),
            )
        elif batch is not None:
            # Live frames alone change nothing that must survive: they are read again after a crash.
            self._apply(plan)
            self._state.log.say(plan.drafts)
        if batch is not None:
            agent.record = record
            agent.acknowledge(plan.taken)
        agent.has_answered = agent.has_answered or bool(plan.answers)
        if agent.has_answered or plan.results or self._state.work.turn:
            agent.is_starting = False
        for answer in plan.answers:
            agent.answered(answer)
        for refusal in plan.refusals:
            with suppress(errors.ProcessNotFoundError):
                agent.send(refusal)

    def _context(self) -> ExecutionContext | None:
        return self._state.current.context if self._state.current is not None else None

    def _apply(self, plan: BatchResult) -> list[Draft]:
        state, observer = self._state, self._observer
        state.partial.take(plan.partial)
        state.results += plan.results
        context = self._context()
        shown = state.shown, state.work.tasks, state.work.permission_mode
        hold: model.QueueHold | None = plan.record.get("queue_hold")
        if hold is not None and plan.paused is None:
            self._observer.emit(
                events.ExecutionDelayed(state.queue[0].context, errors.ExecutionFailedError.code, hold.message)
            )
        if plan.spoke and state.current is not None and not state.first_message_seen:
            state.first_message_seen = True
            observer.emit(events.FirstMessageReceived(state.current.context, duration(state.current)))
        self._apply_approvals(plan, context)
        for reason in plan.rejected:
            observer.emit(events.LineRejected(state.record.project_id, context, reason))
        if plan.session is not None:
            state.session = plan.session
        if plan.running is not None:
            state.current = plan.running
        self._account_for(plan, context)
        queue_changed = "queue_hold" in plan.record or plan.paused is not None or bool(plan.requeued)
        limits_changed = state.limits.report(plan.windows)
        if plan.finished is not None:
            self._finish(plan.finished)
        if plan.paused is not None:
            self._pause(plan.paused, hold)
        self._apply_steering(plan)
        self.settle()
        if plan.notified or (plan.finished is not None and state.turn_due):
            state.turn_due = time.monotonic() + _TURN_DUE_SECONDS
        if shown != (state.shown, state.work.tasks, state.work.permission_mode):
            self.idle_since = time.monotonic()
            return state.announce(queue=queue_changed)
        said = any(draft.said for draft in plan.drafts)
        visible = plan.opened or plan.closed or plan.record or plan.finished is not None or limits_changed or said
        return state.announce(queue=queue_changed) if visible else []

    def _apply_steering(self, plan: BatchResult) -> None:
        state = self._state
        left = {execution.id for execution in (*plan.joined, *plan.requeued)}
        if plan.next is not None:
            left.add(plan.next.id)
            state.current, state.attempts, state.first_message_seen = plan.next, 1, True
            state.prompt_spool_offset = plan.next.spool_offset or 0
        state.steering = [execution for execution in state.steering if execution.id not in left]
        for execution in plan.requeued:
            state.enqueue(execution)
        for execution in plan.joined:
            self._observer.emit(execution_event(execution))

    def _apply_approvals(self, plan: BatchResult, context: ExecutionContext | None) -> None:
        state, observer = self._state, self._observer
        for approval in plan.opened.values():
            state.approvals[approval.id] = approval
            asked, project = tool_name(approval), state.record
            observer.emit(events.ApprovalRequested(project.project_id, project.id, context, approval.id, asked))
        for approval in plan.closed.values():
            state.approvals.pop(approval.id, None)
            observer.emit(approval_event(approval, state.current))

    def _account_for(self, plan: BatchResult, context: ExecutionContext | None) -> None:
        """Count the stored usage and tool calls."""
        state, observer = self._state, self._observer
        if plan.account is not None:
            state.account = plan.account
        for done in plan.tools:
            observer.emit(
                events.ToolCompleted(
                    state.record.project_id, context, done.tool, done.outcome, done.seconds, done.decision
                )
            )
        for seconds in plan.requests:
            observer.emit(events.ApiRequestAnswered(state.record.project_id, context, seconds))
        for spent in plan.spent:
            self._budget.spend(spent.day, spent.cost_usd)
        if plan.earlier is not None:
            state.last = plan.earlier
        if plan.late:
            past = plan.earlier.context if plan.earlier is not None else None
            observer.emit(events.UsageAdded(state.record.project_id, past, plan.late))

    def _finish(self, execution: Execution) -> None:
        self._state.last = execution
        self._stop()
        self._observer.emit(execution_event(execution))

    def _pause(self, execution: Execution, hold: model.QueueHold | None) -> None:
        self._state.enqueue(execution)
        self._stop()
        assert execution.paused_for is not None
        until = hold.until if hold is not None else execution.paused_at
        self._observer.emit(events.ExecutionPaused(execution.context, execution.paused_for, until, duration(execution)))

    def _stop(self) -> None:
        state = self._state
        state.current = None
        state.end_status, state.killed = None, False
        state.partial.clear()
        self.idle_since = time.monotonic()

    async def finish(self, status: ExecutionStatus, error: ErrorData | None, *, silent: bool = False) -> None:
        """End the running execution, which has no process any more; see `Intake.finish`."""
        await self._store(self._intake().finish(status, error, silent=silent), None, ended=True)

    async def lose(self, *, silent: bool) -> bool:
        """Pause the running execution, whose process was lost; False when it is to end instead.

        An execution that a client has stopped, or that has run too long, ends. So does one that was lost while the
        setting is `never`.
        """
        state, setting = self._state, self._settings.current.executions.resume_interrupted
        execution = state.current
        if execution is None or state.end_status is not None or setting == "never":
            return False
        ask = setting == "ask" or execution.continuations >= _MAX_UNASKED
        await self._store(self._intake().interrupt(ask=ask, heard=not silent), None, ended=True)
        return True

    async def leave(self) -> None:
        """Store that a process was not found, and with it the end of its work outside an execution."""
        await self._store(self._intake().leave(None), None, ended=True)

    def settle(self) -> None:
        """Hold an execution slot while the agent works, and time its work without a prompt."""
        state = self._state
        works = state.works_alone
        self.alone.run(on=works and not state.approvals, keep=works)
        if works or self._starting or state.current is not None:
            if not state.has_slot:
                state.has_slot = True
                self._capacity.occupy()
        elif state.has_slot:
            state.has_slot = False
            self._capacity.release()

    async def _exited(self) -> None:
        """The process is gone and all its output is in the log."""
        state, agent = self._state, self._agent
        execution = state.current
        silent = agent.spool_size <= state.prompt_spool_offset
        code = agent.exit_code
        if execution is None or (silent and state.end_status is None and 0 < state.attempts < _MAX_ATTEMPTS):
            lost = execution is None and not state.killed and (state.works_alone or state.work.tasks)
            error = self._error_of_exit(code) if lost else None
            await self._store(self._intake().leave(error), None, ended=True)
            if execution is None:
                state.end_status, state.killed = None, False
            await self._forget_process()
            if execution is not None:
                await self._retry_or_fail(execution)
            return
        if code in _LOST and await self.lose(silent=silent):
            await self._forget_process()
            return
        error = None if state.killed else self._error_of_exit(code)
        await self.finish(state.end_status or ExecutionStatus.ERROR, error, silent=silent)
        await self._forget_process()

    async def _retry_or_fail(self, execution: Execution) -> None:
        try:
            await self._retry(execution)
        except errors.PocketAgentError as error:
            if self._agent.open:
                await self._agent.terminate(idle=True)
                await self._forget_process()
            await self.finish(ExecutionStatus.ERROR, ErrorData(error.code, error.message, error.details or None))

    async def _retry(self, execution: Execution) -> None:
        """The process ended without output about the prompt, so a new process gets the prompt."""
        attempts = self._state.attempts
        self._policy.check_maker(execution.device_id)
        await self._ensure_process(await self.effective(execution.options), execution.context)
        started = replace(execution, status=ExecutionStatus.STARTING, spool_offset=0)
        change = Change(executions=(started,), process=self._agent.record, admits=started)
        await self._state.log.write(change=change, context=execution.context)
        self._state.current = started
        self._capacity.used(self._state.record.id, self._evict)
        self._state.attempts = attempts
        await self.send_prompt()

    async def replace_process(self) -> None:
        """End a process that cannot be written to; another one continues the conversation and the prompt."""
        execution = self._state.current
        await self._agent.terminate(idle=False)
        if execution is None or self._state.end_status is not None:
            return  # the tail notices its end
        while self._agent.open and not self._agent.drained:
            await self.ingest_batch()
        if self._state.current is None:
            return
        await self._store(self._intake().leave(), None, ended=True)
        await self._forget_process()
        await self._retry_or_fail(self._state.current)

    def _error_of_exit(self, code: int | None) -> ErrorData | None:
        if self._state.end_status is ExecutionStatus.TIMEOUT:
            return ErrorData("EXECUTION_TIMEOUT", "The agent worked longer than timeouts.execution and was ended.")
        if self._state.end_status is not None:
            return None
        how = "ended" if code is None else f"ended with exit code {code}"
        text = self._agent.error_output()
        lost = "before the execution was done" if self._state.current is not None else f"with {self._background()}"
        message = f"The agent's process {how} {lost}."
        details: dict[str, object] | None = {"stderr": text} if text else None
        return ErrorData("EXECUTION_FAILED", message, details)

    async def _forget_process(self) -> None:
        await self._agent.close()
        self._capacity.gone(self._state.record.id)
        self._terminal.wake.set()

    async def end(self, end_status: ExecutionStatus, *, killed: bool = False) -> None:
        """End all work of the agent by ending its process; returns when both are over."""
        self._state.end_status, self._state.killed = end_status, killed
        await self._agent.terminate(idle=False)
        await self._drain()

    async def close_process(self) -> None:
        """End an idle process; the conversation continues in another one."""
        await self._agent.terminate(idle=True)
        await self._drain()

    async def _drain(self) -> None:
        while self._agent.open:
            await self.ingest_batch()


def _message(execution: Execution) -> str:
    """The text of the message that the execution waits for: its prompt, or one that continues it in its session."""
    if not execution.continuations:
        return execution.prompt
    return _CONTINUE[execution.paused_for or model.HoldReason.LOST]
