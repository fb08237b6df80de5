"""The requests that clients make of one conversation: stop the agent, answer approvals, change options and sessions."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal

import msgspec
from msgspec.structs import replace

from pocket_agent import errors, model
from pocket_agent.claude import control
from pocket_agent.claude.stream import usage_report
from pocket_agent.claude.trust import Inspection, check_shown
from pocket_agent.conversation.agent import Agent
from pocket_agent.conversation.conversation_log import Draft, entry_draft, now, tick
from pocket_agent.conversation.ingest import waited_after
from pocket_agent.conversation.loops import ConversationLoops
from pocket_agent.conversation.prompt_queue import PromptQueue
from pocket_agent.conversation.state import (
    State,
    approval_event,
    changes_input,
    execution_data,
    permission_answer,
    queue_hold,
    resolved_data,
    session_data,
    suggestions,
    usage_windows_data,
)
from pocket_agent.events import Observer, ProjectTrusted
from pocket_agent.model import Execution, ExecutionId, ExecutionStatus, HoldReason
from pocket_agent.protocol.push import (
    AgentKillData,
    ApprovalResolvedData,
    SessionData,
    SessionResetData,
    SessionResumedData,
)
from pocket_agent.protocol.requests import (
    AgentInterruptData,
    AgentReportData,
    ApprovalRespond,
    ContextCategoryData,
    ContextUsageData,
    ExecutionListData,
    McpServerData,
    RewindFilesData,
)
from pocket_agent.settings import CurrentSettings
from pocket_agent.storage import Change, Store


class Conversation:
    """The operations of clients on one conversation; those on its prompts are in `prompts`."""

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
        self.prompts = PromptQueue(loops, state, store, settings, observer)
        # Reports wait here for each other, so that not all of them are before the next request in the mutex.
        self._reporting = asyncio.Lock()

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
            with suppress(errors.FileOperationError):  # a full disk must not keep the agent alive
                await self._request_stop(execution, model.StopRequest.KILL, hold_queue=hold_queue)
            await self._runner.end(ExecutionStatus.KILLED, killed=True)
            self.loops.wake.set()
            return AgentKillData(self.state.record.project_id, execution.id if execution is not None else None)

    async def interrupt(self, *, execution_id: str | None = None, hold_queue: bool = False) -> AgentInterruptData:
        """Ask the agent to stop its turn and its subagents; it is ended when it goes on after `claude.interrupt_grace`.

        The CLI lets commands in the background go on; when nothing else runs, they are stopped. The arguments and the
        errors are those of `kill`.
        """
        async with self.loops.turn():
            execution = self._running(execution_id)
            with suppress(errors.FileOperationError):
                await self._request_stop(execution, model.StopRequest.INTERRUPT, hold_queue=hold_queue)
            await self.loops.interrupt()
            return AgentInterruptData(self.state.record.project_id, execution.id if execution is not None else None)

    async def _request_stop(self, execution: Execution | None, stop: model.StopRequest, *, hold_queue: bool) -> None:
        """Store the request, so that a server that is killed now carries it out at its next start."""
        state = self.state
        stopped = replace(execution, stop=stop) if execution is not None else None
        # A prompt that the turn has not taken up is back in the queue when the process ends.
        hold = hold_queue and bool(state.queue or state.steering)

        def applied() -> list[Draft]:
            state.current = stopped
            return state.announce(queue=True) if hold else []

        project: dict[str, object] = {}
        if hold:
            reason = HoldReason.KILLED if stop is model.StopRequest.KILL else HoldReason.INTERRUPTED
            project["queue_hold"] = queue_hold(reason, "", now())
        if stopped is not None or hold:
            await state.log.write(
                change=Change(executions=(stopped,) if stopped is not None else ()),
                record=project,
                context=stopped.context if stopped is not None else None,
                after=applied,
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
            hold = self.state.record.queue_hold
            is_held = hold is not None and hold.reason is HoldReason.TRUST
            await self._runner.accept(found, {"queue_hold": None} if is_held else None)
            self._observer.emit(ProjectTrusted(self.state.record.project_id, correlation_id, found.new))
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
            reset = SessionResetData(self.state.record.project_id, self.state.record.session_id)

            def applied() -> list[Draft]:
                self.state.session = None
                return self.state.announce()

            await self.state.log.write(
                [entry_draft("session_reset", reset)],
                record={"session_id": None, "fork": False, "transcript": None, "state": model.ProjectState.IDLE},
                after=applied,
            )
            return reset

    async def release_process(self) -> str | None:
        """End the idle process, so that a terminal can continue the conversation, whose id is returned.

        Raises:
            ProcessActiveError: the agent is busy.
        """
        async with self.loops.turn():
            self._refuse_while_running("Going on in a terminal")
            await self._runner.close_process()
            return self.state.record.session_id

    async def resume(self, session_id: str, *, fork: bool, found: model.KeptSession | None = None) -> None:
        """Let the next prompt continue another conversation, or a copy of it.

        Args:
            session_id: the conversation.
            fork: continue a copy.
            found: the session of this id that the CLI keeps, if it does.

        Raises:
            ProcessActiveError: the agent is busy.
            ValidationError: the project has no such conversation.
        """
        async with self.loops.turn():
            self._refuse_while_running("Resuming another session")
            known = await self._store.session(self.state.record.project_id, session_id)
            conversation = known if known is not None or found is None else found.record
            if conversation is None:
                raise errors.ValidationError("This project has no such session (session_list).")
            await self._runner.close_process()
            is_same = session_id == self.state.record.session_id and not fork and not self.state.record.fork
            if is_same:
                await self._runner.take_in_terminal()
            end = found.end if found is not None else None
            position = end.position if end is not None else None
            resumed = entry_draft("session_resumed", SessionResumedData(session_id, fork, conversation.title, position))

            def applied() -> list[Draft]:
                self.state.session = conversation
                return self.state.announce()

            await self.state.log.write(
                [resumed],
                Change(sessions=(conversation,) if known is None else ()),
                record={
                    "session_id": session_id,
                    "fork": fork,
                    "transcript": self.state.record.transcript if is_same else None if fork else end,
                },
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
        project_id = self.state.record.project_id
        async with self._reporting, self.loops.turn():
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
                *(self.state.record.project_id, execution_id, found.can_rewind, found.files_changed),
                *(found.insertions, found.deletions, found.error),
            )

    async def sessions(self) -> list[SessionData]:
        """The conversations of this project, newest first."""
        current = self.state.record.session_id
        found = await self._store.sessions(self.state.record.project_id)
        return [session_data(value, current=value.id == current) for value in found]

    async def makers(self, session_id: str, ids: Sequence[str]) -> tuple[dict[str, str], str]:
        """The devices that gave these prompts of a session without a terminal, and the name for all others of them."""
        project_id = self.state.record.project_id
        is_own = await self._store.session(project_id, session_id) is not None
        return await self._store.makers(project_id, ids), "server" if is_own else "terminal"

    async def executions(self, *, before: str | None, limit: int) -> ExecutionListData:
        """At most `limit` executions of this project, newest first; only those from before the execution `before`."""
        key = ExecutionId(before) if before is not None else None
        project = self.state.record
        found = await self._store.executions(project.id, before=key, limit=limit + 1)
        shown = [execution_data(value) for value in found[:limit]]
        return ExecutionListData(project.project_id, shown, has_more=len(found) > limit)

    def changes_input(self, approval_id: str, updated_input: Mapping[str, msgspec.Raw]) -> bool:
        """Whether an answer changes the input that the agent asked for; answers to its questions do not."""
        approval = self.state.approvals.get(model.ApprovalId(approval_id))
        return approval is None or changes_input(approval, updated_input)

    async def respond(self, answer: ApprovalRespond, by: str) -> ApprovalResolvedData:
        """Answer a tool request, or a question of an MCP server; the first answer wins.

        Raises:
            ApprovalNotFoundError: no request of that id waits; details have its answer, if it was answered.
            ValidationError: the answer does not fit the request, which still waits.
            ForbiddenError, InvalidPathError: clients may not choose what would be remembered; the request still waits.
        """
        async with self.loops.turn():
            state = self.state
            while self._agent.open and not self._agent.alive:
                await self._runner.ingest_batch()  # no process reads the answer, and the request ends with the process
            approval = state.approvals.get(model.ApprovalId(answer.approval_id))
            if approval is None:
                raise await self._gone(answer.approval_id)
            allow = answer.behavior == "allow"
            line = permission_answer(approval, answer)
            suggested = suggestions(approval) if allow and answer.remember else None
            if suggested is not None:
                await self.loops.policy.check_remembered(suggested)
            at = now()
            status = model.ApprovalStatus.ALLOWED if allow else model.ApprovalStatus.DENIED
            resolved = replace(approval, status=status, resolved_at=at, by=by, answer=line)
            data = resolved_data(answer, by)
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
        past = await self._store.approval(self.state.record.id, model.ApprovalId(approval_id))
        if past is None:
            return errors.ApprovalNotFoundError("There is no such approval in this project.")
        if past.status is model.ApprovalStatus.CANCELLED:
            return errors.ApprovalNotFoundError("The agent withdrew this request.", details={"behavior": "cancelled"})
        return errors.ApprovalNotFoundError(
            f"This request was answered already ({past.status} by {past.by}).",
            details={"behavior": past.status, "by": past.by},
        )

    async def set_model(self, model: str | None) -> None:
        """Change the model, also of the running process. Raises ValidationError when that does not accept it."""
        async with self.loops.turn():
            if self._agent.alive and not await self._runner.set_model(model):
                raise errors.ValidationError("The running agent does not accept this model, or does not answer.")
            change = Change(process=self._agent.record)
            await self.state.log.write(change=change, record={"model": model}, after=self.state.announce)

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

            change = Change(process=self._agent.record)
            await self.state.log.write(change=change, record={"permission_mode": mode}, after=applied)

    async def rename(self, title: str | None) -> None:
        """Give the conversation a title; None shows its first prompt instead."""
        async with self.loops.turn():
            await self.state.log.write(record={"title": title}, after=self.state.announce)

    async def archive(self, *, archived: bool) -> None:
        """Leave the conversation out of lists, or show it again.

        Raises:
            ValidationError: the main conversation.
            ProcessActiveError: an execution runs or waits.
        """
        async with self.loops.turn():
            if self.state.record.is_main:
                raise errors.ValidationError("The main conversation of a project cannot be archived.")
            if archived:
                self._refuse_while_waiting("Archiving the conversation")
                await self._runner.close_process()
            await self.state.log.write(record={"archived": archived}, after=self.state.announce)

    def _refuse_while_waiting(self, what: str) -> None:
        if self.state.queue:
            raise errors.ProcessActiveError(f"{what} is not possible while prompts wait; withdraw them first.")
        self._refuse_while_running(what)

    async def close_for_deletion(self) -> None:
        """End the process, and start no other. Raises ProcessActiveError when an execution runs or waits."""
        async with self.loops.turn():
            what = "project" if self.state.record.is_main else "conversation"
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
