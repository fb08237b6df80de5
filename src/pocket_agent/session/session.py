"""The requests that clients make of one project: prompts, approvals, the queue, conversations."""

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec.structs import replace

from pocket_agent import errors, model
from pocket_agent.claude import control
from pocket_agent.claude.stream import usage_report
from pocket_agent.claude.trust import Inspection, check_shown
from pocket_agent.events import ExecutionQueued, ExecutionWithdrawn, Observer, ProjectTrusted
from pocket_agent.model import ExecuteOptions, Execution, ExecutionId, ExecutionStatus, HoldReason
from pocket_agent.protocol.push import AgentKillData, ApprovalResolvedData, SessionResetData, SessionResumedData
from pocket_agent.protocol.requests import (
    AgentInterruptData,
    AgentReportData,
    ContextCategoryData,
    ContextUsageData,
    ExecuteData,
    ExecutionListData,
    McpServerData,
    QueueResumeData,
    RewindFilesData,
    SessionData,
)
from pocket_agent.session.agent import Agent
from pocket_agent.session.ingest import waited_after
from pocket_agent.session.loops import ConversationLoops
from pocket_agent.session.project_log import Draft, entry_draft, now, tick
from pocket_agent.session.state import (
    State,
    approval_event,
    changes_input,
    execution_data,
    permission_answer,
    queue_hold,
    session_data,
    suggestions,
    usage_windows_data,
)
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Change, Store


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The result of withdrawing the prompts of a device that lost its access.

    Attributes:
        count: queued prompts that were withdrawn.
        running: the device's execution that was running.
        killed: whether it was killed.
    """

    count: int
    running: ExecutionId | None
    killed: bool = False


class Session:
    """The operations of clients on one project."""

    def __init__(
        self,
        loops: ConversationLoops,
        state: State,
        agent: Agent,
        store: Store,
        settings: CurrentSettings,
        observer: Observer,
    ) -> None:
        self.loops = loops
        self.state = state
        self._runner = loops.runner
        self._agent = agent
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
                known = await self._store.execution_by_prompt(state.project.id, prompt_id)
                if known is not None:
                    return self._receipt(known)
            self.loops.policy.check_maker(device_id)
            await self.loops.gate()
            execution = Execution(
                id=ExecutionId(str(uuid.uuid4())),
                conversation_id=state.project.id,
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
                return ExecuteData(state.project.project_id, execution.id, "started", 0)
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

            def queued() -> list[Draft]:
                state.enqueue(execution)
                state.current = interrupted or state.current
                return state.announce(queue=True)

            # Another prompt ends every hold but one for claims that have not been accepted, or for a paused execution.
            hold = state.project.queue_hold
            is_paused = bool(state.queue) and state.queue[0].status.is_paused
            kept = hold if hold is not None and (hold.reason is HoldReason.TRUST or is_paused) else None
            await state.log.write(
                change=Change(
                    executions=(execution, interrupted) if interrupted is not None else (execution,), admits=execution
                ),
                project={"queue_hold": kept},
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
            return ExecuteData(self.state.project.project_id, execution.id, "steering", 0)
        place = self.state.place_of(execution)
        return ExecuteData(self.state.project.project_id, execution.id, "queued" if place > 0 else "started", place)

    async def kill(self, *, execution_id: str | None = None, hold_queue: bool = False) -> AgentKillData:
        """End all work (a prompt, a turn of the agent's own, subagents, commands) and every process of the agent.

        Args:
            execution_id: end only this execution; None for the running one.
            hold_queue: hold waiting prompts until `resume_queue`.

        Raises:
            ProcessNotFoundError: the agent does nothing, or runs another execution.
        """
        async with self.loops.turn():
            execution = self._running(execution_id)
            if execution is not None:
                with suppress(errors.FileOperationError):  # a full disk must not keep the agent alive
                    await self._request_stop(execution, model.StopRequest.KILL, hold_queue=hold_queue)
            await self._runner.end(ExecutionStatus.KILLED, killed=True)
            self.loops.wake.set()
            return AgentKillData(self.state.project.project_id, execution.id if execution is not None else None)

    async def interrupt(self, *, execution_id: str | None = None, hold_queue: bool = False) -> AgentInterruptData:
        """Ask the agent to stop its turn and its subagents; it is ended when it goes on after `claude.interrupt_grace`.

        The CLI lets commands in the background go on; when nothing else runs, they are stopped. The arguments and the
        errors are those of `kill`.
        """
        async with self.loops.turn():
            execution = self._running(execution_id)
            if execution is not None:
                with suppress(errors.FileOperationError):
                    await self._request_stop(execution, model.StopRequest.INTERRUPT, hold_queue=hold_queue)
            await self.loops.interrupt()
            return AgentInterruptData(self.state.project.project_id, execution.id if execution is not None else None)

    async def _request_stop(self, execution: Execution, stop: model.StopRequest, *, hold_queue: bool) -> None:
        """Store the request, so that a server that is killed now carries it out at its next start."""
        state = self.state
        stopped = replace(execution, stop=stop)
        hold = hold_queue and bool(state.queue)

        def applied() -> list[Draft]:
            state.current = stopped
            return state.announce(queue=True) if hold else []

        project: dict[str, object] = {}
        if hold:
            reason = HoldReason.KILLED if stop is model.StopRequest.KILL else HoldReason.INTERRUPTED
            project["queue_hold"] = queue_hold(reason, "", now())
        await state.log.write(
            change=Change(executions=(stopped,)), project=project, context=stopped.context, after=applied
        )

    def _running(self, execution_id: str | None) -> Execution | None:
        """The running execution; None when the agent works without a prompt."""
        running = self.state.current
        if running is None and execution_id is None:
            if self.state.is_busy:
                return None
            raise errors.ProcessNotFoundError("Nothing is running in this project.")
        if running is None or execution_id not in {None, running.id}:
            raise errors.ProcessNotFoundError("This execution is not running: it has ended, or has not started.")
        return running

    @property
    def process(self) -> model.ProcessRecord | None:
        """The stored data of the agent's process; None when none runs."""
        return self._agent.record if self._agent.alive else None

    async def resume_queue(self) -> QueueResumeData:
        """Let the waiting prompts start."""
        async with self.loops.turn():
            if self.state.project.queue_hold is not None:
                await self.loops.release_hold()
            self.loops.wake.set()
            return QueueResumeData(self.state.project.project_id)

    async def inspect(self) -> Inspection:
        """The claims of the project's directory, compared with the accepted ones."""
        return await self._runner.inspect()

    async def trust(self, shown: str, *, correlation_id: str | None = None) -> None:
        """Accept the claims of the project's directory, and no others; prompts that wait for this start.

        Args:
            shown: the hash of the state that the user has seen and accepts.
            correlation_id: identifies the request.

        Raises:
            ValidationError: the directory is in another state now; nothing has changed.
        """
        async with self.loops.turn():
            found = await self._runner.inspect()
            check_shown(found, shown)
            hold = self.state.project.queue_hold
            is_held = hold is not None and hold.reason is HoldReason.TRUST
            await self._runner.accept(found, {"queue_hold": None} if is_held else None)
            self._observer.emit(ProjectTrusted(self.state.project.project_id, correlation_id, found.new))
            self.loops.wake.set()

    def _refuse_while_running(self, what: str) -> None:
        if self.state.is_busy:
            raise errors.ProcessActiveError(
                f"{what} is not possible while the agent runs something (a prompt, a subagent, a command in the "
                "background); kill or await it first."
            )

    async def new_session(self) -> SessionResetData:
        """Let the next prompt start a new conversation. Raises ProcessActiveError while the agent is busy."""
        async with self.loops.turn():
            self._refuse_while_running("A new session")
            await self._runner.close_process()
            reset = SessionResetData(self.state.project.project_id, self.state.project.session_id)

            def applied() -> list[Draft]:
                self.state.conversation = None
                return self.state.announce()

            await self.state.log.write(
                [entry_draft("session_reset", reset)],
                project={"session_id": None, "fork": False, "state": model.ProjectState.IDLE},
                after=applied,
            )
            return reset

    @property
    def has_process(self) -> bool:
        """Whether a process of the agent has the conversation open."""
        return self._agent.alive

    async def release_process(self) -> str | None:
        """End the idle process, so that a terminal can continue the conversation, whose id is returned.

        Raises:
            ProcessActiveError: the agent is busy.
        """
        async with self.loops.turn():
            self._refuse_while_running("Going on in a terminal")
            await self._runner.close_process()
            return self.state.project.session_id

    async def resume(self, session_id: str, *, fork: bool, found: model.SessionRecord | None = None) -> None:
        """Let the next prompt continue another conversation, or a copy of it.

        Args:
            session_id: the conversation.
            fork: continue a copy.
            found: the session of a terminal with this id.

        Raises:
            ProcessActiveError: the agent is busy.
            ValidationError: the project has no such conversation.
        """
        async with self.loops.turn():
            self._refuse_while_running("Resuming another session")
            known = await self._store.session(self.state.project.project_id, session_id)
            conversation = known or found
            if conversation is None:
                raise errors.ValidationError("This project has no such session (session_list).")
            await self._runner.close_process()
            resumed = entry_draft("session_resumed", SessionResumedData(session_id, fork, conversation.title))

            def applied() -> list[Draft]:
                self.state.conversation = conversation
                return self.state.announce()

            await self.state.log.write(
                [resumed],
                Change(sessions=(conversation,) if known is None else ()),
                project={"session_id": session_id, "fork": fork},
                after=applied,
            )

    async def stop_task(self, task_id: str) -> None:
        """End a background task.

        Raises:
            ProcessNotFoundError: there is no such task (any more).
            ValidationError: the agent refuses.
        """
        async with self.loops.turn():
            if all(task.id != task_id for task in self.state.work.tasks):
                raise errors.ProcessNotFoundError("There is no such task; it may have ended.")
            await self._runner.ask(lambda request_id: control.stop_task(request_id, task_id))

    async def report(self, what: Literal["context", "mcp", "usage"]) -> AgentReportData:
        """What the agent's process reports about itself.

        Raises:
            ProcessNotFoundError: it does not run, or does not answer.
            ValidationError: it refuses, as an older CLI does, or its answer cannot be read.
        """
        project_id = self.state.project.project_id
        async with self.loops.turn():
            try:
                match what:
                    case "context":
                        answer = await self._runner.ask(control.get_context_usage)
                        usage = msgspec.json.decode(answer, type=control.ContextUsage)
                        parts = [ContextCategoryData(part.name, part.tokens, part.kind) for part in usage.categories]
                        context = ContextUsageData(usage.model, usage.total_tokens, usage.max_tokens, parts)
                        return AgentReportData(project_id, context=context)
                    case "mcp":
                        servers = control.mcp_servers(await self._runner.ask(control.mcp_status))
                        shown = [McpServerData(server.name, server.status, server.error) for server in servers]
                        return AgentReportData(project_id, mcp_servers=shown)
                    case "usage":
                        self.state.limits.report(usage_report(await self._runner.ask(control.get_usage)))
                        return AgentReportData(project_id, usage_windows=usage_windows_data(self.state.limits.windows))
            except msgspec.DecodeError as error:
                raise errors.ValidationError(f"The agent's answer cannot be read: {error}") from error

    async def rewind(self, execution_id: str, *, dry: bool) -> RewindFilesData:
        """Set the files back to their state before an execution, as far as the agent's file tools have changed them.

        Raises:
            ProcessActiveError: the agent works, and `dry` is not set.
            ProcessNotFoundError: its process does not run, or does not answer.
            ValidationError: it refuses, or its answer cannot be read.
        """
        async with self.loops.turn():
            if not dry:
                self._refuse_while_running("Rewinding files")
            answer = await self._runner.ask(lambda request_id: control.rewind_files(request_id, execution_id, dry=dry))
            try:
                found = msgspec.json.decode(answer, type=control.Rewind)
            except msgspec.DecodeError as error:
                raise errors.ValidationError(f"The agent's answer cannot be read: {error}") from error
            return RewindFilesData(
                *(self.state.project.project_id, execution_id, found.can_rewind, found.files_changed),
                *(found.insertions, found.deletions, found.error),
            )

    async def sessions(self) -> list[SessionData]:
        """The conversations of this project, newest first."""
        current = self.state.project.session_id
        found = await self._store.sessions(self.state.project.project_id)
        return [session_data(value, current=value.id == current) for value in found]

    async def executions(self, *, before: str | None, limit: int) -> ExecutionListData:
        """At most `limit` executions of this project, newest first; only those from before the execution `before`."""
        key = ExecutionId(before) if before is not None else None
        project = self.state.project
        found = await self._store.executions(project.id, before=key, limit=limit + 1)
        shown = [execution_data(value) for value in found[:limit]]
        return ExecutionListData(project.project_id, shown, has_more=len(found) > limit)

    def changes_input(self, approval_id: str, updated_input: Mapping[str, msgspec.Raw]) -> bool:
        """Whether an answer changes the input that the agent asked for; answers to its questions do not."""
        approval = self.state.approvals.get(model.ApprovalId(approval_id))
        return approval is None or changes_input(approval, updated_input)

    async def respond(
        self,
        approval_id: str,
        *,
        allow: bool,
        by: str,
        message: str | None = None,
        updated_input: Mapping[str, msgspec.Raw] | None = None,
        remember: bool = False,
    ) -> ApprovalResolvedData:
        """Answer a tool request; the first answer wins.

        Raises:
            ApprovalNotFoundError: no request of that id waits; details have its answer, if it was answered.
            ForbiddenError, InvalidPathError: clients may not choose what would be remembered; the request still waits.
        """
        async with self.loops.turn():
            state = self.state
            while self._agent.open and not self._agent.alive:
                await self._runner.ingest_batch()  # no process reads the answer, and the request ends with the process
            approval = state.approvals.get(model.ApprovalId(approval_id))
            if approval is None:
                raise await self._gone(approval_id)
            suggested = suggestions(approval) if allow and remember else None
            if suggested is not None:
                await self.loops.policy.check_remembered(suggested)
            at = now()
            line = permission_answer(
                approval, allow=allow, message=message, updated_input=updated_input, remember=remember
            )
            status = model.ApprovalStatus.ALLOWED if allow else model.ApprovalStatus.DENIED
            resolved = replace(approval, status=status, resolved_at=at, by=by, answer=line)
            changed = dict(updated_input) if allow and updated_input is not None else msgspec.UNSET
            data = ApprovalResolvedData(approval.id, "allow" if allow else "deny", by, message, changed)
            running, awaited = state.current, state.awaited()
            if running is not None and approval.id in awaited:
                running = replace(running, waited_ms=waited_after(running, awaited, approval.id, tick()))

            def answered() -> list[Draft]:
                state.approvals.pop(approval.id, None)
                state.restart_waits(approval)
                state.current = running
                self._runner.settle()
                self.loops.tick.set()
                return state.announce()

            await state.log.write(
                [entry_draft("approval_resolved", data, model.Direction.CLIENT)],
                Change(approvals=(resolved,), executions=(running,) if running is not None else ()),
                context=running.context if running is not None else None,
                after=answered,
            )
            self._observer.emit(approval_event(resolved, running))
            # The execution of a process that is gone ends soon. An answer that is not stored as delivered is
            # sent again to an adopted process, which ignores it.
            with suppress(errors.ProcessNotFoundError, errors.FileOperationError):
                if self._agent.send(line).done():
                    await state.log.write(change=Change(approvals=(replace(resolved, delivered=True),)))
            return data

    async def _gone(self, approval_id: str) -> errors.ApprovalNotFoundError:
        past = await self._store.approval(self.state.project.id, model.ApprovalId(approval_id))
        if past is None:
            return errors.ApprovalNotFoundError("There is no such approval in this project.")
        if past.status is model.ApprovalStatus.CANCELLED:
            return errors.ApprovalNotFoundError("The agent withdrew this request.", details={"behavior": "cancelled"})
        return errors.ApprovalNotFoundError(
            f"This request was answered already ({past.status} by {past.by}).",
            details={"behavior": past.status, "by": past.by},
        )

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

    async def withdraw(self, void: Callable[[Execution], bool], *, kill: bool = False) -> Withdrawn:
        """Withdraw the queued prompts of devices that lost their access.

        This waits for a prompt that is being started, so that the prompt is either withdrawn or returned as running.

        Args:
            void: whether the device that gave this prompt lost its access.
            kill: whether to kill the running execution as well, if it is one of these.

        Raises:
            ProjectNotFoundError: the project was deleted.
            FileOperationError: the store refused; the start of a prompt checks its device again.
        """
        if not self.loops.ready.is_set():  # no prompt starts before, and the start checks the device
            return Withdrawn(0, None)
        async with self.loops.turn():
            waiting = [execution for execution in self.state.queue if void(execution)]
            for execution in waiting:
                await self._cancel(execution)
            running = self.state.current
            if running is None or not void(running):
                return Withdrawn(len(waiting), None)
            if kill:
                await self._runner.end(ExecutionStatus.KILLED, killed=True)
                self.loops.wake.set()
            return Withdrawn(len(waiting), running.id, killed=kill)

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
        hold = state.project.queue_hold
        answered = changed.status.is_final and changed.paused_for is HoldReason.LOST and changed.paused_at is not None
        ends = last or (answered and hold is not None and hold.reason is HoldReason.LOST)
        project = {"queue_hold": None} if ends else {}
        await state.log.write(
            change=Change(executions=(changed,), admits=admits), project=project, context=changed.context, after=applied
        )

    async def set_model(self, model: str | None) -> None:
        """Change the model, also of the running process. Raises ValidationError when that does not accept it."""
        async with self.loops.turn():
            if self._agent.alive and not await self._runner.set_model(model):
                raise errors.ValidationError("The running agent does not accept this model, or does not answer.")
            await self.state.log.write(project={"model": model}, after=self.state.announce)

    async def set_permission_mode(self, mode: str) -> None:
        """Change the permission mode, also of the running process; raises as `set_model`."""
        async with self.loops.turn():
            if self._agent.alive and not await self._runner.set_permission_mode(mode):
                raise errors.ValidationError(
                    "The running agent does not accept this permission mode, or does not answer."
                )

            def applied() -> list[Draft]:
                if self._agent.alive:
                    self._runner.note_mode(mode)
                return self.state.announce()

            await self.state.log.write(project={"permission_mode": mode}, after=applied)

    async def rename(self, title: str | None) -> None:
        """Give the conversation a title; None shows its first prompt instead."""
        async with self.loops.turn():
            await self.state.log.write(project={"title": title}, after=self.state.announce)

    async def archive(self, *, archived: bool) -> None:
        """Leave the conversation out of lists, or show it again.

        Raises:
            ValidationError: the main conversation.
            ProcessActiveError: an execution runs or waits.
        """
        async with self.loops.turn():
            if self.state.project.is_main:
                raise errors.ValidationError("The main conversation of a project cannot be archived.")
            if archived:
                self._refuse_while_waiting("Archiving the conversation")
                await self._runner.close_process()
            await self.state.log.write(project={"archived": archived}, after=self.state.announce)

    def _refuse_while_waiting(self, what: str) -> None:
        if self.state.queue:
            raise errors.ProcessActiveError(f"{what} is not possible while prompts wait; withdraw them first.")
        self._refuse_while_running(what)

    async def close_for_deletion(self) -> None:
        """End the process, and start no other. Raises ProcessActiveError when an execution runs or waits."""
        async with self.loops.turn():
            what = "project" if self.state.project.is_main else "conversation"
            self._refuse_while_waiting(f"Deleting the {what}")
            await self._runner.close_process()
            self.loops.closed = True

    async def close_if_idle(self) -> None:
        """End an idle process; a process that works goes on without the server."""
        async with self.loops.turn():
            if not self.state.is_engaged:
                await self._runner.close_process()

    def release(self) -> None:
        """Stop watching the agent and leave it running."""
        self._agent.release()
