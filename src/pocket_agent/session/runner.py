"""Carries an execution from its start to its end: the process, its model, the prompt, the lines, the result."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from pocket_agent.claude import control
from pocket_agent.claude.process import check_directory
from pocket_agent.claude.stream import CliMessage
from pocket_agent.claude.trust import Inspection, inspect
from pocket_agent.errors import (
    ExecutionFailedError,
    FileOperationError,
    ForbiddenError,
    PocketAgentError,
    ProcessActiveError,
    ProcessNotFoundError,
    TrustRequiredError,
)
from pocket_agent.events import (
    ApprovalRequested,
    ExecutionDelayed,
    ExecutionStarted,
    FirstMessageReceived,
    LineRejected,
    Observer,
    ToolCompleted,
    UsageAdded,
)
from pocket_agent.model import (
    ApprovalId,
    Direction,
    ExecuteOptions,
    Execution,
    ExecutionContext,
    ExecutionStatus,
    ProjectState,
    QueueHold,
    Trust,
)
from pocket_agent.policy import Policy
from pocket_agent.protocol.push import ErrorData, PromptData
from pocket_agent.session.accounting import Budget, duration, execution_event
from pocket_agent.session.agent import Agent, Batch
from pocket_agent.session.capacity import Capacity
from pocket_agent.session.ingest import BatchResult, Intake, Snapshot
from pocket_agent.session.project_log import Draft, Write, entry_draft, now, tick
from pocket_agent.session.state import State, approval_event, tool_name
from pocket_agent.settings import CurrentSettings

# ----------------------------------------------------------------------
# Changing the model and the permission mode of a process that runs, through the CLI's control requests.

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


# ----------------------------------------------------------------------
# The execution. Every method is called with the session's mutex held, so that nothing happens in between.

_MAX_ATTEMPTS: Final = 2
"""How often a prompt is written to a process that ends without having said anything."""


_NAMED_TASKS: Final = 5
_TURN_DUE_SECONDS: Final = 5.0
"""How long after the end of a background task the CLI may begin a turn for it; 2.1.330 takes up to 0.3 s."""


class Stopwatch:
    """Measures how long something has gone on, without its pauses.

    Attributes:
        elapsed: seconds.
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return self._before + (time.monotonic() - self._since if self._since is not None else 0.0)

    def run(self, *, on: bool, keep: bool) -> None:
        """Go on or pause; without `keep`, begin anew."""
        self._before = self.elapsed if keep else 0.0
        self._since = time.monotonic() if on else None


def new_approval_id() -> ApprovalId:
    """An id that no other approval has."""
    return ApprovalId(uuid.uuid4().hex)


class Runner:
    """Runs one project's executions, one at a time."""

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
    ) -> None:
        self._state = state
        self._agent = agent
        self._capacity = capacity
        self._budget = budget
        self._settings = settings
        self._policy = policy
        self._observer = observer
        self._evict = evict
        self.tuning = Tuning(agent, self.take_in)
        self.idle_since = time.monotonic()
        self.alone = Stopwatch()
        self._starting = False
        self._written: asyncio.Future[None] | None = None

    async def start(self, execution: Execution) -> None:
        """Give the prompt to the agent; the caller holds the execution slot.

        Raises:
            ClaudeNotFoundError: there is no usable CLI; nothing has changed.
            ExecutionFailedError: the CLI could not be started; nothing has changed.
            ForbiddenError, InvalidPathError: the settings do not allow what was chosen (any more), or the device
                that gave the prompt was revoked; the same.
            FileOperationError: the start could not be stored; nothing has changed.
            ProcessActiveError: it needs another process, with which what runs in the background would end.
            TrustRequiredError: the directory's settings have the CLI do something that nobody has accepted; nothing
                has changed.
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
        wanted = await self._effective(execution.options)
        began = time.monotonic()
        warm = await self._ensure_process(wanted, execution.context)
        at = now()
        started = msgspec.structs.replace(
            execution,
            status=ExecutionStatus.STARTING,
            started_at=at,
            started_tick=tick(),
            spool_offset=self._agent.spool_size,
        )
        prompt = PromptData(
            execution_id=execution.id, prompt=execution.prompt, by=execution.by, prompt_id=execution.prompt_id
        )

        def begun() -> list[Draft]:
            was_queued = state.place_of(execution) > 0
            state.queue = [waiting for waiting in state.queue if waiting.id != execution.id]
            state.current = started
            state.verdict, state.killed, state.attempts, state.heard = None, False, 0, False
            state.turn_due = 0.0
            state.account = msgspec.structs.replace(
                state.account, work=msgspec.structs.replace(state.work, prompt="", blocked=None)
            )
            return state.announce(queue=was_queued)

        try:
            await state.log.write(
                Write(
                    drafts=[entry_draft("prompt", prompt, Direction.CLIENT)],
                    project={"state": ProjectState.EXECUTING},
                    executions=(started,),
                    process=self._agent.record,
                    context=execution.context,
                    admits=started,
                ),
                after=begun,
            )
        except BaseException:
            if not warm:
                await self._agent.terminate(idle=True)
                await self._forget_process()
            raise
        self._capacity.used(state.project.id, self._evict)
        preparation = time.monotonic() - began
        queued = max(0.0, (at - execution.created_at) / 1000 - preparation)
        self._observer.emit(ExecutionStarted(execution.context, warm, queued, preparation))
        await self.send_prompt()

    async def _effective(self, options: ExecuteOptions) -> ExecuteOptions:
        """The options of a prompt with the project's and the server's defaults filled in, if they are allowed."""
        project = self._state.project
        filled = msgspec.structs.replace(
            options,
            model=options.model or project.model or self._settings.current.claude.model,
            permission_mode=options.permission_mode
            or project.permission_mode
            or self._settings.current.claude.permission_mode,
        )
        return await self._policy.admit(filled, project.real_path)

    async def inspect(self) -> Inspection:
        """The claims of the project's directory, compared with what was accepted. Reads the disk, in a thread.

        Raises:
            DirectoryUnavailableError: the directory is gone, or may not be entered.
        """
        directory, sources = Path(self._state.project.real_path), self._settings.current.claude.setting_sources
        accepted = self._state.accepted

        def look() -> Inspection:
            check_directory(directory)
            return inspect(directory, sources, accepted)

        return await asyncio.to_thread(look)

    async def accept(self, found: Inspection, project: dict[str, object] | None = None) -> None:
        """Store that these claims, and no others, are accepted, together with changes of the project's fields.

        Raises:
            FileOperationError: the store refused; nothing has changed.
        """
        state = self._state

        def accepted() -> list[Draft]:
            state.accepted = frozenset(found.digests)
            return state.announce(queue=True) if project else []

        await state.log.write(
            Write(trust=Trust(state.project.id, found.digests), project=project or {}), after=accepted
        )

    async def _admit_claims(self) -> Inspection:
        """Refuse to go on while the directory has claims that nobody has accepted.

        The first start in a project of a version that did not note what was accepted accepts what is there: it ran
        before.

        Raises:
            TrustRequiredError: a claim is new or changed.
            FileOperationError: what is there could not be stored as accepted.
        """
        found = await self.inspect()
        if self._state.accepted is None:
            await self.accept(found)
        if found.new:
            raise TrustRequiredError(found.summary, details={"hash": found.hash})
        return found

    async def _ensure_process(self, options: ExecuteOptions, context: ExecutionContext) -> bool:
        """Have a process that fits the options and the directory's claims; returns whether it ran already."""
        agent, project = self._agent, self._state.project
        found = await self._admit_claims()
        is_outdated = agent.record is not None and agent.record.claims not in {"", found.hash}
        if is_outdated and not (agent.alive and self._state.is_engaged):  # what runs in the background goes on
            await self.close_process()
        if agent.open and (not agent.fits(options) or project.fork or not await self.tuning.adjust(options)):
            if agent.alive and self._state.is_engaged:
                raise ProcessActiveError(
                    "These options need a new process of the agent, with which what runs in the background would end: "
                    f"{self._background()}. Give the prompt without them, or end that first (agent_kill)."
                )
            await self.close_process()
        if agent.open:
            return True
        await self._capacity.make_room(project.id)
        try:
            await agent.start(options, resume=project.session_id, fork=project.fork, context=context, claims=found.hash)
        except BaseException:
            self._capacity.gone(project.id)
            raise
        assert agent.record is not None
        self._state.account = agent.record.account
        return False

    def note_mode(self, mode: str) -> None:
        """The process has accepted a permission mode; it says so in a line of its own, which comes later."""
        work = msgspec.structs.replace(self._state.work, permission_mode=mode)
        self._state.account = msgspec.structs.replace(self._state.account, work=work)

    def _background(self) -> str:
        """What runs in the process, in words."""
        tasks = [task.description or task.type for task in self._state.work.tasks]
        return ", ".join(tasks[:_NAMED_TASKS]) or "a turn of the agent's own"

    async def suits(self, execution: Execution) -> bool:
        """Whether a prompt can be given to the process that runs; any other fault of it shows when it starts."""
        try:
            wanted = await self._effective(execution.options)
        except PocketAgentError:
            return True
        return not self._agent.alive or (self._agent.fits(wanted) and not self._state.project.fork)

    async def send_prompt(self) -> None:
        """Write the prompt of the running execution; a process that is gone shows in the tail."""
        state, execution = self._state, self._state.current
        assert execution is not None
        state.attempts += 1
        state.silent_from = self._agent.spool_size
        with suppress(ProcessNotFoundError):
            self._written = self._agent.send_prompt(execution.prompt, execution.context)
            await self._note_written()

    async def _note_written(self) -> None:
        """Store that the prompt is written, once it is; a long one waits for a process that reads it."""
        state, written = self._state, self._written
        if written is None or not written.done():
            return
        self._written = None
        execution = state.current
        if execution is None or execution.status is not ExecutionStatus.STARTING:
            return
        if written.cancelled() or written.exception() is not None:
            return
        running = msgspec.structs.replace(execution, status=ExecutionStatus.RUNNING)

        def sent() -> list[Draft]:
            if state.current is execution:
                state.current = running
            return []

        with suppress(FileOperationError):  # the prompt runs all the same, and is known by its uuid
            await state.log.write(Write(executions=(running,), context=execution.context), after=sent)

    async def take_in(self) -> bool:
        """Put what the CLI wrote into the log, one batch of it; False when there is nothing now.

        Raises:
            FileOperationError: it could not be stored; the same lines come again at the next call.
        """
        agent = self._agent
        await self._note_written()
        batch = agent.next_batch()
        if batch is None:
            if agent.drained:
                await self._exited()
                return True
            return False
        plan = Intake(self._present()).take(batch.lines)
        silent = agent.record is not None and agent.record.consumed <= self._state.silent_from
        await self._store(plan, batch)
        if silent and len(plan.answers) == len(batch.lines):
            # The process has answered the server, and said nothing about the prompt yet.
            self._state.silent_from = batch.consumed
        return True

    def _present(self) -> Snapshot:
        state = self._state
        return Snapshot(
            project=state.project,
            execution=state.current,
            approvals=state.approvals,
            session=state.conversation,
            last=state.last,
            account=state.account,
            verdict=state.verdict,
            killed=state.killed,
            new_approval_id=new_approval_id,
            queued=bool(state.queue),
            told_mode=self._agent.permission_mode,
            partial=state.partial,
            may_choose=self._may_choose,
        )

    def _may_choose(self, mode: str) -> bool:
        try:
            self._policy.check_mode(mode)
        except ForbiddenError:
            return False
        return True

    async def _store(self, plan: BatchResult, batch: Batch | None, *, ended: bool = False) -> None:
        """Store a plan, then make it true."""
        agent, record = self._agent, self._agent.record
        entries = any(draft.direction is not None for draft in plan.drafts)
        if batch is not None and record is not None:
            record = msgspec.structs.replace(
                record, consumed=batch.consumed, account=plan.account or self._state.account
            )
        if entries or ended:
            await self._state.log.write(
                Write(
                    drafts=plan.drafts,
                    project=plan.project,
                    executions=tuple(
                        found for found in (plan.running, plan.finished, plan.earlier) if found is not None
                    ),
                    approvals=(*plan.opened.values(), *plan.closed.values()),
                    process=None if ended else record,
                    ended_process=record.id if ended and record is not None else None,
                    sessions=(plan.session,) if plan.session is not None else (),
                    spent=plan.spent,
                    context=self._context(),
                ),
                after=lambda: self._apply(plan),
            )
        elif batch is not None:
            # Live frames alone move nothing that must survive: they are read again after a crash.
            self._apply(plan)
            self._state.log.say(plan.drafts)
        if batch is not None:
            agent.record = record
            agent.acknowledge()
        for answer in plan.answers:
            agent.answered(answer)
        for refusal in plan.refusals:
            with suppress(ProcessNotFoundError):
                agent.send(refusal)

    def _context(self) -> ExecutionContext | None:
        """What names the running execution."""
        return self._state.current.context if self._state.current is not None else None

    def _apply(self, plan: BatchResult) -> list[Draft]:
        state, observer = self._state, self._observer
        state.partial.take(plan.partial)
        context = self._context()
        shown = state.shown, state.work.tasks, state.work.permission_mode
        hold: QueueHold | None = plan.project.get("queue_hold")
        if hold is not None:
            self._observer.emit(ExecutionDelayed(state.queue[0].context, ExecutionFailedError.code, hold.message))
        if plan.mode is not None:
            self._agent.permission_mode = plan.mode
        if plan.spoke and state.current is not None and not state.heard:
            state.heard = True
            observer.emit(FirstMessageReceived(state.current.context, duration(state.current)))
        for approval in plan.opened.values():
            state.approvals[approval.id] = approval
            observer.emit(ApprovalRequested(state.project.id, context, approval.id, tool_name(approval)))
        for approval in plan.closed.values():
            state.approvals.pop(approval.id, None)
            observer.emit(approval_event(approval, state.current))
        for reason in plan.rejected:
            observer.emit(LineRejected(state.project.id, context, reason))
        if plan.session is not None:
            state.conversation = plan.session
        if plan.running is not None:
            state.current = plan.running
        self._account_for(plan, context)
        if plan.finished is not None:
            self._finish(plan.finished)
        self.settle()
        if plan.notified or (plan.finished is not None and state.turn_due):
            state.turn_due = time.monotonic() + _TURN_DUE_SECONDS
        if shown != (state.shown, state.work.tasks, state.work.permission_mode):
            self.idle_since = time.monotonic()
            return state.announce(queue=hold is not None)
        visible = plan.opened or plan.closed or plan.project or plan.finished is not None
        return state.announce(queue=hold is not None) if visible else []

    def _account_for(self, plan: BatchResult, context: ExecutionContext | None) -> None:
        """What was used, and which tools ran, is stored: count it."""
        state, observer = self._state, self._observer
        if plan.account is not None:
            state.account = plan.account
        for done in plan.tools:
            observer.emit(ToolCompleted(state.project.id, context, done.tool, done.outcome))
        for spent in plan.spent:
            self._budget.spend(spent.day, spent.cost_usd)
        if plan.earlier is not None:
            state.last = plan.earlier
        if plan.late:
            past = plan.earlier.context if plan.earlier is not None else None
            observer.emit(UsageAdded(state.project.id, past, plan.late))

    def _finish(self, execution: Execution) -> None:
        state = self._state
        state.current, state.last = None, execution
        state.verdict, state.killed = None, False
        state.partial.clear()
        self.idle_since = time.monotonic()
        self._observer.emit(execution_event(execution))

    async def finish(self, status: ExecutionStatus, error: ErrorData | None, *, silent: bool = False) -> None:
        """End the running execution, which has no process any more; see `Intake.finish`."""
        plan = Intake(self._present()).finish(status, error, silent=silent)
        await self._store(plan, None, ended=True)

    async def leave(self) -> None:
        """Note that the process is gone of which nothing was found, with what it did besides an execution."""
        await self._store(Intake(self._present()).leave(None), None, ended=True)

    def settle(self) -> None:
        """Hold an execution slot while the agent works, with a prompt or without, and time what has none."""
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
        """The process is gone and everything it wrote is in the log."""
        state, agent = self._state, self._agent
        execution = state.current
        silent = agent.spool_size <= state.silent_from
        code = agent.exit_code
        if execution is None or (silent and state.verdict is None and 0 < state.attempts < _MAX_ATTEMPTS):
            lost = execution is None and not state.killed and (state.works_alone or state.work.tasks)
            error = self._error_of_exit(code) if lost else None
            await self._store(Intake(self._present()).leave(error), None, ended=True)
            if execution is None:
                state.verdict, state.killed = None, False
            await self._forget_process()
            if execution is not None:
                await self._retry_or_fail(execution)
            return
        error = None if state.killed else self._error_of_exit(code)
        await self.finish(state.verdict or ExecutionStatus.ERROR, error, silent=silent)
        await self._forget_process()

    async def _retry_or_fail(self, execution: Execution) -> None:
        try:
            await self._retry(execution)
        except PocketAgentError as error:
            if self._agent.open:
                await self._agent.terminate(idle=True)
                await self._forget_process()
            await self.finish(ExecutionStatus.ERROR, ErrorData(error.code, error.message, error.details or None))

    async def _retry(self, execution: Execution) -> None:
        """The process ended without a word about the prompt, so the prompt goes to a new one."""
        attempts = self._state.attempts
        self._policy.check_maker(execution.device_id)
        await self._ensure_process(await self._effective(execution.options), execution.context)
        started = msgspec.structs.replace(execution, status=ExecutionStatus.STARTING, spool_offset=0)
        write = Write(executions=(started,), process=self._agent.record, context=execution.context, admits=started)
        await self._state.log.write(write)
        self._state.current = started
        self._capacity.used(self._state.project.id, self._evict)
        self._state.attempts = attempts
        await self.send_prompt()

    async def replace_process(self) -> None:
        """End a process that cannot be written to; another one goes on with the conversation and the prompt."""
        execution = self._state.current
        await self._agent.terminate(idle=False)
        if execution is None or self._state.verdict is not None:
            return  # its end shows in the tail
        while self._agent.open and not self._agent.drained:
            await self.take_in()
        if self._state.current is None:
            return
        await self._store(Intake(self._present()).leave(), None, ended=True)
        await self._forget_process()
        await self._retry_or_fail(self._state.current)

    def _error_of_exit(self, code: int | None) -> ErrorData | None:
        if self._state.verdict is ExecutionStatus.TIMEOUT:
            return ErrorData("EXECUTION_TIMEOUT", "The agent worked longer than timeouts.execution and was ended.")
        if self._state.verdict is not None:
            return None
        how = "ended" if code is None else f"ended with exit code {code}"
        text = self._agent.error_output()
        lost = "before the execution was done" if self._state.current is not None else f"with {self._background()}"
        message = f"The agent's process {how} {lost}."
        details: dict[str, object] | None = {"stderr": text} if text else None
        return ErrorData("EXECUTION_FAILED", message, details)

    async def _forget_process(self) -> None:
        await self._agent.close()
        self._capacity.gone(self._state.project.id)

    async def end(self, verdict: ExecutionStatus, *, killed: bool = False) -> None:
        """End what runs, with a prompt or without, by ending the process; returns when both are over."""
        self._state.verdict, self._state.killed = verdict, killed
        await self._agent.terminate(idle=False)
        await self._drain()

    async def close_process(self) -> None:
        """End an idle process; the conversation continues in another one."""
        await self._agent.terminate(idle=True)
        await self._drain()

    async def _drain(self) -> None:
        while self._agent.open:
            await self.take_in()
