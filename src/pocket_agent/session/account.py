"""What a process uses, counted from its lines, and what is told of an execution that is over.

The CLI's `result` has the exact figures of a turn. Until it comes, what the lines tell is summed up, so that
an execution which ends without a result is not told to have used nothing.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from pocket_agent.claude.stream import (
    SYNTHETIC,
    ApiMessage,
    CliMessage,
    Kind,
    added,
    dollars,
    main_model,
    replaced,
    tokens_of,
    turn_usage,
)
from pocket_agent.events import ExecutionFinished
from pocket_agent.model import Account, Execution, Milliseconds, ModelUsage, Project, Spending
from pocket_agent.session.budget import local_day
from pocket_agent.session.log import now, tick
from pocket_agent.session.tool import ToolTrack

_MAX_THREADS: Final = 500
"""Subagents whose messages are told apart; the oldest are forgotten."""


class Meter:
    """Follows the lines of one process, from an `Account` to the next.

    Attributes:
        tools: follows its tool calls.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._cost_usd = account.cost_usd
        self._usage = account.usage
        self._current = account.current
        self._messages = dict(account.messages)
        self.model = account.model
        self.tools = ToolTrack(account.tools)
        self._changed = False

    @property
    def account(self) -> Account:
        """What is to be remembered after these lines."""
        if not self._changed and not self.tools.changed:
            return self._account
        return Account(
            self._cost_usd, self.model, self._usage, self._current, dict(self._messages), dict(self.tools.running)
        )

    def see(self, message: CliMessage, kind: Kind) -> None:
        """Take note of a line that is no `result`."""
        match kind:
            case Kind.STREAM_EVENT:
                event = message.event
                if event is None or message.parent_tool_use_id is not None:
                    return
                if event.message is not None:
                    self._begin("", event.message)
                elif event.usage is not None and self._current is not None:
                    self._current = replaced(self._current, event.usage)
                    self._changed = True
            case Kind.ASSISTANT if message.message is not None:
                self._begin(message.parent_tool_use_id or "", message.message)
                self.tools.called(message.message)
            case Kind.USER if message.message is not None:
                self.tools.returned(message.message, message.tool_result_meta)
            case Kind.INIT:
                self.model = message.model or self.model
                self._changed = True

    def _begin(self, thread: str, message: ApiMessage) -> None:
        """Count a message once: the CLI prints a line, with the same figures, for each of its blocks."""
        if message.id is None or message.model == SYNTHETIC or self._messages.get(thread) == message.id:
            return
        self._changed = True
        self._messages.pop(thread, None)
        self._messages[thread] = message.id
        if len(self._messages) > _MAX_THREADS:
            del self._messages[next(key for key in self._messages if key)]
        counted = tokens_of(self._name(message.model), message.usage)
        if thread:
            self._usage = added(self._usage, [counted])
        else:
            self._usage, self._current = self.seen(), counted

    def _name(self, model: str | None) -> str:
        """The model as `system/init` and results name it: the API leaves out which context it was asked for."""
        own = self.model or ""
        return own if model is None or own.partition("[")[0] == model else model

    def seen(self) -> tuple[ModelUsage, ...]:
        """What the lines since the last result tell; a lower bound, without dollars."""
        return added(self._usage, [self._current] if self._current is not None else [])

    def settle(self, message: CliMessage) -> tuple[ModelUsage, ...]:
        """What was used since the result before, by what this `result` tells, which replaces what was seen."""
        used = turn_usage(message)
        if used is None:
            used = self._without_models(message)
        total = dollars(message.total_cost_usd)
        self._cost_usd = total if total is not None else self._cost_usd
        self._forget()
        return used

    def _without_models(self, message: CliMessage) -> tuple[ModelUsage, ...]:
        """The same for a CLI that does not tell by model: the turn's tokens, and by what the session's cost grew."""
        told = added((), [tokens_of(self.model or "", message.usage)])
        used = told or self.seen()
        total = dollars(message.total_cost_usd)
        if total is None or self._cost_usd is None:
            return used
        # A session that was cleared begins at 0 again, so a lower sum is no gain.
        model = main_model(used) or self.model or ""
        return added(used, [ModelUsage(model, cost_usd=max(0.0, total - self._cost_usd))])

    def give_up(self) -> tuple[ModelUsage, ...]:
        """What was used since the last result, now that no other will come; see `seen`."""
        used = self.seen()
        self._forget()
        return used

    def _forget(self) -> None:
        # The ids stay: a message may have further lines after the result, when a subagent goes on.
        self._usage, self._current = (), None
        self._changed = True


def charged(execution: Execution, usage: Iterable[ModelUsage], model: str | None) -> Execution:
    """The execution after it used something more.

    Args:
        execution: as it was.
        usage: what it used, by model.
        model: its model, if none of those answered.
    """
    total = added(execution.usage, usage)
    answered = main_model(used for used in total if used.output_tokens) or model or execution.model
    return msgspec.structs.replace(execution, usage=total, model=answered)


def spending(
    project: Project, usage: Iterable[ModelUsage], at: Milliseconds, *, ended: Execution | None
) -> tuple[Spending, ...]:
    """Rows for the history of spending.

    Args:
        project: who used it.
        usage: what was used, by model.
        at: when it became known.
        ended: the execution that is over with it, which is counted under its main model.
    """
    day = local_day(at)
    main = (ended.model or "") if ended is not None else None
    models = {used.model: used for used in usage}
    if main is not None:
        models.setdefault(main, ModelUsage(main))
    return tuple(
        Spending(
            day=day,
            project_id=project.id,
            project_name=project.name,
            model=used.model,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cache_read_tokens=used.cache_read_tokens,
            cache_creation_tokens=used.cache_creation_tokens,
            cost_usd=used.cost_usd,
            executions=int(used.model == main),
        )
        for used in models.values()
    )


def duration(execution: Execution) -> float:
    """Seconds since an execution began, by the monotonic clock where its start was measured by that."""
    if execution.started_tick is not None:
        return max(0, tick() - execution.started_tick) / 1000
    return max(0, now() - execution.started_at) / 1000 if execution.started_at is not None else 0.0


def execution_event(execution: Execution) -> ExecutionFinished:
    """The event of the end of an execution, which has ended just now."""
    finished_at = execution.finished_at if execution.finished_at is not None else now()
    return ExecutionFinished(
        context=execution.context,
        status=execution.status,
        created_at=execution.created_at,
        started_at=execution.started_at,
        finished_at=finished_at,
        duration=duration(execution),
        waited=execution.waited_ms / 1000,
        code=execution.code,
        session_id=execution.session_id,
        model=execution.model,
        usage=execution.usage,
        requested_model=execution.options.model,
    )
