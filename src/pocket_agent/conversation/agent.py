"""The CLI process of one project: started when it is needed, kept warm, adopted, ended.

The agent reads the process's spool in batches. A batch stays the same until it is acknowledged,
so that a failed write can be tried again without losing or repeating a line.
"""

import asyncio
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pocket_agent.claude import control
from pocket_agent.claude.command_line import build_argv, build_environment, process_options, split_secrets
from pocket_agent.claude.confinement import Confinement
from pocket_agent.claude.installation import Installer
from pocket_agent.claude.process import ClaudeProcess, adopt, kill_leftovers, spawn
from pocket_agent.claude.spool import Spool, SpoolReader, SpoolWatcher, SpoolWriter
from pocket_agent.claude.stream import CliMessage, Line, LineFramer, Oversized
from pocket_agent.claude.transcripts import Keeping, Transcripts, configuration_directory, keeping
from pocket_agent.conversation.conversation_log import now
from pocket_agent.errors import ExecutionFailedError, ProcessNotFoundError
from pocket_agent.events import Observer, ProcessAdopted, ProcessExited, ProcessSpawned, Propagator
from pocket_agent.model import Account, ConversationRecord, ExecuteOptions, ExecutionContext, ProcessRecord, Work
from pocket_agent.settings import CurrentSettings

_CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class AgentContext:
    """The parts that all agents of a server share.

    Attributes:
        umask: of the files that they create (umask(2)); -1 for the server's own.
        confinement: the part of the machine that they can see.
        transcripts: the sessions that the CLI keeps for them; None when turns of terminals are not taken in.
    """

    settings: CurrentSettings
    installer: Installer
    spool_dir: Path
    watcher: SpoolWatcher
    environment: Mapping[str, str]
    observer: Observer
    propagator: Propagator = field(default_factory=Propagator)
    umask: int = -1
    confinement: Confinement = field(default_factory=Confinement)
    transcripts: Transcripts | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines to ingest together; `consumed` is the offset in the spool behind the last line."""

    lines: list[Line | Oversized]
    consumed: int


class Agent:
    """One project's CLI process and the stream it writes.

    Attributes:
        record: the stored data for the adoption of the process; None without a process.
        has_answered: whether the process answers control requests, as far as is known.
        is_starting: whether the process has not answered a control request or begun a turn yet, as while hooks run.
    """

    def __init__(self, project: ConversationRecord, context: AgentContext) -> None:
        self._conversation_id = project.id
        self._project_id = project.project_id
        self._cwd = project.real_path
        self._shared = (project.worktree.git_dir,) if project.worktree is not None else ()
        self._context = context
        self._opened = asyncio.Event()
        self._answers: dict[str, asyncio.Future[CliMessage]] = {}
        self._process: ClaudeProcess | None = None
        self._spool: Spool | None = None
        self._reader: SpoolReader | None = None
        self._writer: SpoolWriter | None = None
        self._framer = LineFramer(context.settings.current.claude.max_line)
        self._batch: Batch | None = None
        self.record: ProcessRecord | None = None
        self.has_answered = self.is_starting = False

    @property
    def open(self) -> bool:
        """Whether there is a process, or output of one that has not been ingested."""
        return self.record is not None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and not self._process.has_exited

    @property
    def deaf(self) -> bool:
        """Whether the process runs and cannot be written to, since its FIFO was removed while no server ran."""
        return self.alive and self._writer is None

    @property
    def exit_code(self) -> int | None:
        """The exit code of the process, where that can be known."""
        return self._process.exit_code if self._process is not None else None

    @property
    def spool_size(self) -> int:
        """Bytes that the process has written, also to a file that was removed."""
        return self._reader.size if self._reader is not None else 0

    def fits(self, options: ExecuteOptions) -> bool:
        """Whether the running process can run a prompt with these options."""
        if not self.alive or self.deaf:
            return False
        return self.record is not None and self.record.options == self._process_options(options)

    def _process_options(self, options: ExecuteOptions) -> bytes:
        context = self._context
        sources, mode = context.settings.current.claude.setting_sources, context.confinement.mode
        return process_options(options, context.propagator.mark, sources, mode)

    async def start(
        self, options: ExecuteOptions, *, resume: str | None, fork: bool, context: ExecutionContext, claims: str
    ) -> None:
        """Start a process for the execution of `context`.

        Args:
            options: of the execution.
            resume: the conversation to continue; None for a new one.
            fork: whether to continue a copy of it.
            claims: see `ProcessRecord`.

        Raises:
            ClaudeNotFoundError: there is no usable CLI.
            ExecutionFailedError: it could not be started.
        """
        shared, settings = self._context, self._context.settings.current.claude
        installation = await shared.installer.find()
        spool = Spool(shared.spool_dir, uuid.uuid4().hex)
        own = {**control.CHECKPOINTS, **shared.propagator.environment(context), **settings.environment}
        began = time.monotonic()
        spool.create()
        try:
            shown, files = split_secrets(options)
            sources = settings.setting_sources
            process = await spawn(
                build_argv(str(installation.path), shown, resume=resume, fork=fork, setting_sources=sources),
                cwd=Path(self._cwd),
                environment=build_environment(shared.environment, own),
                spool=spool,
                limits=settings.limits,
                umask=shared.umask,
                confinement=shared.confinement,
                directories=(*options.add_dirs, *self._shared),
                files=files,
            )
        except BaseException:
            spool.remove()
            raise
        record = ProcessRecord(
            id=spool.id,
            conversation_id=self._conversation_id,
            pid=process.pid,
            start_time=process.start_time,
            boot_id=process.boot_id,
            consumed=0,
            options=self._process_options(options),
            started_at=now(),
            # A resumed session continues a sum that the CLI does not report before its first result.
            account=Account(
                cost_usd=0.0 if resume is None else None,
                work=Work(requested_model=options.model, requested_mode=options.permission_mode),
            ),
            claims=claims,
        )
        try:
            self._open(record, spool, process)
        except BaseException:
            await process.terminate(idle=False)
            self.release()
            process.release()
            spool.remove()
            raise
        self._context.observer.emit(ProcessSpawned(self._project_id, context, process.pid, time.monotonic() - began))
        with suppress(ProcessNotFoundError):  # the tail notices a process that ended at once
            self.send(control.initialize(uuid.uuid4().hex))

    async def adopt(self, record: ProcessRecord) -> None:
        """Take over the process of an earlier run of the server, or the output and descendants of an ended one.

        Raises:
            ExecutionFailedError: its output is gone.
        """
        spool = Spool(self._context.spool_dir, record.id)
        process = adopt(record.pid, record.start_time, record.boot_id, record.id)
        if process is None:
            await kill_leftovers(record.pid, record.start_time, record.boot_id, record.id)
        try:
            self._open(record, spool, process, resync=True)
        except ExecutionFailedError:
            if process is not None:
                await process.terminate(idle=True)
            raise
        except BaseException:
            if process is not None:
                process.release()
            raise
        if process is not None:
            self._context.observer.emit(ProcessAdopted(self._project_id, process.pid))

    def _open(
        self, record: ProcessRecord, spool: Spool, process: ClaudeProcess | None, *, resync: bool = False
    ) -> None:
        self._reader = SpoolReader(spool, record.consumed, self._context.watcher)
        self._writer = None
        if process is not None:
            # The process ends just now (see `exited`), or its FIFO is gone (see `deaf`).
            with suppress(ProcessNotFoundError):
                # After a server that was killed within a line, the next line must not continue it.
                self._writer = SpoolWriter(spool, resync=resync, pid=process.pid)
        self.record, self._spool, self._process = record, spool, process
        self.has_answered = bool(record.consumed)
        self.is_starting = not self.has_answered
        self._framer = LineFramer(self._context.settings.current.claude.max_line, start=record.consumed)
        self._batch = None
        self._opened.set()

    async def activity(self) -> None:
        """Wait until there may be output to ingest, or the process has ended."""
        await self._opened.wait()
        if self._reader is None or self._batch is not None or not self.alive:
            return
        process = self._process
        assert process is not None
        await self._reader.wait_for_growth(process.exited)

    def next_batch(self) -> Batch | None:
        """The next lines, the same ones until `acknowledge`; None when there are none now."""
        if self._batch is not None or self._reader is None:
            return self._batch
        # Checked before reading, so that the process's last output is read before it counts as ended.
        alive = self.alive
        if self._reader.skip_truncated():
            self._framer = LineFramer(self._context.settings.current.claude.max_line, start=self._reader.offset)
        lines: list[Line | Oversized] = []
        while not lines and (data := self._reader.read(_CHUNK_BYTES)):
            lines = self._framer.feed(data)
        if not lines and not alive:
            lines = self._framer.finish()
        if lines:
            self._batch = Batch(lines, lines[-1].end)
        return self._batch

    def acknowledge(self, count: int) -> None:
        """The first `count` lines of the batch are in the log (or have no entry there); the others are the next one."""
        rest = self._batch.lines[count:] if self._batch is not None else []
        self._batch = Batch(rest, rest[-1].end) if rest else None

    @property
    def drained(self) -> bool:
        """Whether the process is gone and all its output was ingested."""
        return self.open and not self.alive and self.next_batch() is None

    def send(self, line: bytes) -> "asyncio.Future[None]":
        """Write a line to the process; see `SpoolWriter.write`. Raises ProcessNotFoundError when it is gone."""
        if self._writer is None or not self.alive:
            raise ProcessNotFoundError("The agent's process is not running.")
        return self._writer.write(line)

    def send_prompt(self, prompt: str, message_id: str, context: ExecutionContext) -> "asyncio.Future[None]":
        """Write a prompt, and before it the variables that make the process's telemetry part of the execution's trace.

        Args:
            prompt: the text.
            message_id: the uuid of the message, by which the CLI skips one that it has seen.
            context: of the execution.

        Raises:
            ProcessNotFoundError: the process is gone.
        """
        line = control.user_message(prompt, message_id)
        variables = self._context.propagator.prompt_environment(context)
        if variables:
            line = control.set_environment(uuid.uuid4().hex, variables) + line
        return self.send(line)

    def expect(self, request_id: str) -> asyncio.Future[CliMessage]:
        """The future answer to a control request that the caller sends next; `answered` resolves it."""
        answer: asyncio.Future[CliMessage] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        answer.add_done_callback(lambda _: self._answers.pop(request_id, None))
        return answer

    async def keeping(self, directory: str, session_id: str, message_id: str) -> Keeping:
        """Whether the CLI has stored a message of one of its sessions; see `transcripts.keeping`."""
        shared = self._context
        environment = {**shared.environment, **shared.settings.current.claude.environment}
        where = configuration_directory(environment)
        return await asyncio.to_thread(keeping, where, directory, session_id, message_id)

    def answered(self, message: CliMessage) -> None:
        """Resolve the future of a control response that was read."""
        answer = self._answers.get(message.request_id or "")
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def terminate(self, *, idle: bool) -> None:
        """End the process and all its children; returns when they are gone, within the grace periods."""
        if self._process is not None:
            grace = self._context.settings.current.claude.terminate_grace
            await self._process.terminate(interrupt_grace=grace, terminate_grace=grace, idle=idle)

    def error_output(self) -> str:
        """The end of the process's standard error, as text."""
        return self._spool.error_tail() if self._spool is not None else ""

    async def close(self) -> None:
        """Release a process that is gone, and delete its spool."""
        process, spool = self._process, self._spool
        self.release()
        if process is not None:
            await process.kill_group()
            self._context.observer.emit(ProcessExited(self._project_id, process.pid, process.exit_code))
        if spool is not None:
            spool.remove()

    def release(self) -> None:
        """Stop reading and writing, and leave the process running for the next server to adopt."""
        if self._reader is not None:
            self._reader.close()
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            self._process.release()
        self._opened.clear()
        self.record = self._process = self._spool = self._reader = self._writer = self._batch = None
        for answer in list(self._answers.values()):
            answer.cancel()
