"""What agents use and cost: counted from the CLI's lines, by execution, and limited by the day."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from datetime import time as clock_time
from typing import Final, Literal, NamedTuple

import msgspec

from pocket_agent.claude.stream import (
    SYNTHETIC,
    ApiMessage,
    CliMessage,
    ContentBlock,
    Kind,
    ToolResultMeta,
    added,
    dollars,
    main_model,
    replaced,
    tokens_of,
    turn_usage,
)
from pocket_agent.errors import ResourceLimitError
from pocket_agent.events import BudgetExceeded, ExecutionFinished, Observer
from pocket_agent.model import Account, Execution, Milliseconds, ModelUsage, Project, Spending
from pocket_agent.session.project_log import now, tick
from pocket_agent.settings import CurrentSettings

# ----------------------------------------------------------------------
# The budget of a day, shared by all projects: counts spending, reports an excess, refuses new executions.

_KEPT_DAYS: Final = 7


def local_day(at: Milliseconds) -> str:
    """The local date of a time, YYYY-MM-DD."""
    return _local(at / 1000).date().isoformat()


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds).astimezone()


class Budget:
    """The budget of the present day, which is the machine's local one.

    Args:
        limits: `cost_usd_per_day` and `refuse_over_budget` count.
        observer: is told once for each day whose budget is used up, and again for another budget.
        clock: the present time, in seconds since the Unix epoch.
    """

    def __init__(self, settings: CurrentSettings, observer: Observer, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._observer = observer
        self._clock = clock
        # By day, so that a clock which is set back finds what it left.
        self._spent: dict[str, float] = {}
        self._told: tuple[str, float] | None = None

    @property
    def limit_usd(self) -> float:
        """What a day may cost; 0 is unlimited."""
        return self._settings.current.limits.cost_usd_per_day

    @property
    def today(self) -> str:
        """The local date, YYYY-MM-DD."""
        return local_day(Milliseconds(round(self._clock() * 1000)))

    @property
    def spent_usd(self) -> float:
        """What today's executions have cost so far."""
        return self._spent.get(self.today, 0.0)

    @property
    def refusing(self) -> bool:
        """Whether no execution may begin today."""
        return self._settings.current.limits.refuse_over_budget and self._is_used_up(self.spent_usd)

    @property
    def until(self) -> Milliseconds:
        """When the next day begins."""
        # A naive time is local, whatever the zone does that night (PEP 495); a midnight that is left out
        # is the moment at which the clocks leap over it.
        midnight = datetime.combine(_local(self._clock()).date() + timedelta(days=1), clock_time())
        return Milliseconds(round(midnight.timestamp() * 1000))

    def _is_used_up(self, spent: float) -> bool:
        return 0 < self.limit_usd <= spent

    def load(self, day: str, spent_usd: float) -> None:
        """Take over what is stored of a day; an excess was told of when it came."""
        self._spent[day] = spent_usd
        if self._is_used_up(spent_usd):
            self._told = day, self.limit_usd

    def spend(self, day: str, cost_usd: float) -> None:
        """Something was spent.

        Args:
            day: the local date, YYYY-MM-DD, under which it is stored.
            cost_usd: United States dollars.
        """
        after = self._spent.get(day, 0.0) + cost_usd
        others = [(name, spent) for name, spent in self._spent.items() if name != day]
        self._spent = dict([*others[-_KEPT_DAYS:], (day, after)])
        if self._is_used_up(after) and self._told != (day, self.limit_usd):
            self._told = day, self.limit_usd
            self._observer.emit(
                BudgetExceeded(after, self.limit_usd, self._settings.current.limits.refuse_over_budget, self.until)
            )

    def check(self) -> None:
        """Refuse an execution that is to begin.

        Raises:
            ResourceLimitError: the day's budget is used up.
        """
        if not self.refusing:
            return
        end = _local(self.until / 1000)
        raise ResourceLimitError(
            f"Today's budget is used up: ${self.spent_usd:.2f} of ${self.limit_usd:.2f} are spent "
            f"(limits.cost_usd_per_day). The next prompt may begin at {end:%Y-%m-%d %H:%M %Z}.",
            details={"spent_usd": self.spent_usd, "limit_usd": self.limit_usd, "until": self.until},
        )


# ----------------------------------------------------------------------
# The tool calls of an agent: which began, and how each ended.

Outcome = Literal["success", "error", "denied"]

_MAX_RUNNING: Final = 500
"""Calls whose result is awaited; the oldest are forgotten, since nobody tells of one that never ends."""
_NAME_CHARACTERS: Final = 200


class Completed(NamedTuple):
    """A tool call that is over."""

    tool: str
    outcome: Outcome


class ToolTrack:
    """Pairs the calls with their results.

    Attributes:
        running: the tools that run, by the id of the call.
        completed: the calls that ended, in order.
        changed: whether `running` is another one than it was.
    """

    def __init__(self, running: Mapping[str, str]) -> None:
        self.running = dict(running)
        self.completed: list[Completed] = []
        self.changed = False

    def called(self, message: ApiMessage) -> None:
        """The model calls tools."""
        for block in message.blocks:
            if block.type == "tool_use" and block.id:
                self.changed = True
                self.running[block.id] = (block.name or "")[:_NAME_CHARACTERS]
                if len(self.running) > _MAX_RUNNING:
                    del self.running[next(iter(self.running))]

    def returned(self, message: ApiMessage, meta: Sequence[ToolResultMeta] | None) -> None:
        """Tools gave their results; one whose call was not seen, or is over already, is nobody's."""
        for block in message.blocks:
            if block.type != "tool_result" or block.tool_use_id is None:
                continue
            tool = self.running.pop(block.tool_use_id, None)
            if tool is not None:
                self.changed = True
                self.completed.append(Completed(tool, _outcome(block, meta or ())))


def _outcome(block: ContentBlock, meta: Sequence[ToolResultMeta]) -> Outcome:
    """How a call ended; one that was stopped by an interrupt was denied its end, and did not fail."""
    if not block.is_error:
        return "success"
    stopped = any(about.id == block.tool_use_id and about.non_execution_kind for about in meta)
    return "denied" if stopped else "error"


# ----------------------------------------------------------------------
# The usage of a process, counted from its lines, and the event of an execution that has ended.
#
# The CLI's `result` has the exact usage of a turn. Until it comes, the usage in the lines is summed up, so that an
# execution which ends without a result does not appear to have used nothing.

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
