"""Usage and cost of agents, counted from the CLI's lines: tokens, tool calls, spending, the budget of a day."""

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from datetime import time as clock_time
from typing import Final, Literal, NamedTuple

from msgspec.structs import asdict, replace

from pocket_agent.claude import stream
from pocket_agent.claude.stream import ApiMessage, CliMessage, Kind
from pocket_agent.conversation.conversation_log import now, tick
from pocket_agent.errors import ResourceLimitError
from pocket_agent.events import BudgetExceeded, ExecutionFinished, Observer
from pocket_agent.model import Account, ConversationRecord, Execution, Milliseconds, ModelUsage, Spending, UsageWindow
from pocket_agent.settings import CurrentSettings

# ----------------------------------------------------------------------
# The budget of a day, shared by all projects: counts spending, reports an excess, refuses new executions.

KEPT_DAYS: Final = 7


def local_day(at: Milliseconds) -> str:
    """The local date of a time, YYYY-MM-DD."""
    return _local(at / 1000).date().isoformat()


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds).astimezone()


class Budget:
    """The budget of the machine's local day.

    Args:
        settings: `limits.cost_usd_per_day` and `limits.refuse_over_budget`.
        observer: gets one event for each day whose budget is used up, and again after the budget has changed.
        clock: the wall clock, in seconds since the Unix epoch.
    """

    def __init__(self, settings: CurrentSettings, observer: Observer, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._observer = observer
        self._clock = clock
        # By day, so that the sums are right after the clock was set back.
        self._spent: dict[str, float] = {}
        self._reported: tuple[str, float] | None = None

    @property
    def limit_usd(self) -> float:
        """The budget of a day; 0 is unlimited."""
        return self._settings.current.limits.cost_usd_per_day

    @property
    def today(self) -> str:
        """The local date, YYYY-MM-DD."""
        return local_day(Milliseconds(round(self._clock() * 1000)))

    @property
    def spent_usd(self) -> float:
        """The cost of today's executions so far."""
        return self._spent.get(self.today, 0.0)

    @property
    def refusing(self) -> bool:
        """Whether no execution may start today."""
        return self._settings.current.limits.refuse_over_budget and self._is_used_up(self.spent_usd)

    @property
    def until(self) -> Milliseconds:
        """The start of the next day."""
        # A naive time is local, whatever the zone does that night (PEP 495); a midnight that does not exist
        # is the moment at which the clocks skip it.
        midnight = datetime.combine(_local(self._clock()).date() + timedelta(days=1), clock_time())
        return Milliseconds(round(midnight.timestamp() * 1000))

    def _is_used_up(self, spent: float) -> bool:
        return 0 < self.limit_usd <= spent

    def load(self, day: str, spent_usd: float) -> None:
        """Take over the stored sum of a day; an excess was reported when it happened."""
        self._spent[day] = spent_usd
        if self._is_used_up(spent_usd):
            self._reported = day, self.limit_usd

    def spend(self, day: str, cost_usd: float) -> None:
        """Add United States dollars to a day (local date, YYYY-MM-DD), and report when its budget is used up."""
        after = self._spent.get(day, 0.0) + cost_usd
        others = [(name, spent) for name, spent in self._spent.items() if name != day]
        self._spent = dict([*others[-KEPT_DAYS:], (day, after)])
        if self._is_used_up(after) and self._reported != (day, self.limit_usd):
            self._reported = day, self.limit_usd
            refuse = self._settings.current.limits.refuse_over_budget
            self._observer.emit(BudgetExceeded(after, self.limit_usd, refuse, self.until))

    def check(self) -> None:
        """Raise ResourceLimitError when the day's budget is used up and new executions are refused."""
        if not self.refusing:
            return
        end = _local(self.until / 1000)
        raise ResourceLimitError(
            f"Today's budget is used up: ${self.spent_usd:.2f} of ${self.limit_usd:.2f} are spent "
            f"(limits.cost_usd_per_day). The next prompt may begin at {end:%Y-%m-%d %H:%M %Z}.",
            details={"spent_usd": self.spent_usd, "limit_usd": self.limit_usd, "until": self.until},
        )


# ----------------------------------------------------------------------
# The usage limits of the account, shared by all projects since all agents use the same account.

_MAX_JITTER_SECONDS: Final = 60.0
_JITTER_SHARE: Final = 0.1
_BACKOFF_SECONDS: Final = 5.0
"""Pause after a refusal whose reset is over already, as when the clocks of the API and the machine differ."""
_MAX_BACKOFF_SECONDS: Final = 3600.0


class UsageLimits:
    """The usage limits that the API reported last.

    Args:
        settings: `limits.resume_after_reset`; None for the defaults.
        clock: the wall clock, in milliseconds since the Unix epoch.
        note: called with all windows when one has changed.
    """

    def __init__(
        self,
        settings: CurrentSettings | None = None,
        clock: Callable[[], Milliseconds] = now,
        note: Callable[[tuple[UsageWindow, ...]], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._note = note
        self._windows: dict[str, UsageWindow] = {}

    @property
    def windows(self) -> tuple[UsageWindow, ...]:
        """The windows that have not been reset since they were reported."""
        at = self._clock()
        return tuple(window for window in self._windows.values() if window.resets_at > at)

    @property
    def resumes(self) -> bool:
        """Whether executions that wait for a reset continue by themselves."""
        return self._settings is None or self._settings.current.limits.resume_after_reset

    def load(self, windows: Iterable[UsageWindow]) -> None:
        """Take over stored windows."""
        self._windows = {window.window: window for window in windows}

    def report(self, windows: Iterable[UsageWindow]) -> bool:
        """Replace the windows that the API has reported just now; returns whether one has changed."""
        before = dict(self._windows)
        at = self._clock()
        self._windows = {name: window for name, window in before.items() if window.resets_at > at}
        self._windows |= {window.window: window for window in windows}
        if self._windows == before:
            return False
        self._note(tuple(self._windows.values()))
        return True

    def resumes_at(self, reset: Milliseconds, continuations: int) -> Milliseconds | None:
        """When an execution continues that a limit with this reset has stopped; None when a client has to resume it.

        Some time after the reset, a different one for each, so that not all projects begin at the same moment.
        """
        if not self.resumes:
            return None
        at = self._clock()
        if reset <= at:
            reset = Milliseconds(
                at + round(1000 * min(_MAX_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2 ** min(continuations, 10)))
            )
        jitter = min(1000 * _MAX_JITTER_SECONDS, _JITTER_SHARE * (reset - at)) * random.random()  # noqa: S311 - no secret
        return Milliseconds(reset + round(jitter))


# ----------------------------------------------------------------------
# The tool calls of an agent and their outcomes.

Outcome = Literal["success", "error", "denied"]
Decision = Literal["accept", "reject"]

_MAX_RUNNING: Final = 500
"""Calls without a result yet; the oldest are dropped, since a call that never ends is not reported."""
_NAME_CHARACTERS: Final = 200
_MAX_THREADS: Final = 500
"""Subagents whose messages and calls are distinguished; the oldest are dropped."""


class Completed(NamedTuple):
    """A finished tool call.

    Attributes:
        seconds: its duration without the wait for its approval; 0 when its start is not known.
        decision: whether it was permitted.
    """

    tool: str
    outcome: Outcome
    seconds: float = 0.0
    decision: Decision = "accept"


class ToolTrack:
    """Pairs the calls with their results, and counts repeated calls.

    Attributes:
        running, ticks, repeats: see `tools`, `tool_ticks` and `repeats` of `Account`.
        completed: the finished calls, in order.
        changed: whether one of the first three has changed.
    """

    def __init__(self, account: Account) -> None:
        self.running = dict(account.tools)
        self.ticks = dict(account.tool_ticks)
        self.repeats = dict(account.repeats)
        self.completed: list[Completed] = []
        self.changed = False
        self._tick = tick()

    def called(self, message: ApiMessage, thread: str = "") -> None:
        """Record the tool calls of a message; `thread` as in `Account.messages`."""
        for block in message.blocks:
            if block.type == "tool_use" and block.id:
                self.changed = True
                self.running[block.id] = (block.name or "")[:_NAME_CHARACTERS]
                self.ticks[block.id] = self._tick
                self._repeat(thread, block)
                if len(self.running) > _MAX_RUNNING:
                    oldest = next(iter(self.running))
                    del self.running[oldest]
                    self.ticks.pop(oldest, None)

    def _repeat(self, thread: str, block: stream.ContentBlock) -> None:
        call = (block.name or "").encode("utf-8", "replace") + b"\0" + bytes(block.input)
        digest = hashlib.blake2b(call, digest_size=8).hexdigest()
        before, count = self.repeats.pop(thread, ("", 0))
        self.repeats[thread] = (digest, count + 1 if digest == before else 1)
        if len(self.repeats) > _MAX_THREADS:
            del self.repeats[next(iter(self.repeats))]

    def turn_ended(self) -> None:
        """Count repeated calls from 1 again."""
        self.changed = self.changed or bool(self.repeats)
        self.repeats = {}

    def returned(self, message: ApiMessage, meta: Sequence[stream.ToolResultMeta] | None) -> None:
        """Record the tool results of a message; a result without a running call is ignored."""
        for block in message.blocks:
            if block.type != "tool_result" or block.tool_use_id is None:
                continue
            tool = self.running.pop(block.tool_use_id, None)
            started = self.ticks.pop(block.tool_use_id, self._tick)
            if tool is not None:
                self.changed = True
                about = next((found for found in meta or () if found.id == block.tool_use_id), stream.ToolResultMeta())
                outcome, decided = _outcome(block, about), about.permission_decision
                rejected = decided.decision == "reject" if decided is not None else outcome == "denied"
                seconds = max(0, self._tick - started) / 1000
                self.completed.append(Completed(tool, outcome, seconds, "reject" if rejected else "accept"))


def _outcome(block: stream.ContentBlock, about: stream.ToolResultMeta) -> Outcome:
    """How a call ended; a call that an interrupt stopped counts as denied, not as an error."""
    if not block.is_error:
        return "success"
    return "denied" if about.non_execution_kind else "error"


# ----------------------------------------------------------------------
# The usage of a process, counted from its lines, and the event of an execution that has ended.
#
# The CLI's `result` has the exact usage of a turn. Until it comes, the usage in the lines is summed up, so that an
# execution which ends without a result does not appear to have used nothing.


class Meter:
    """Follows the lines and the tool calls (`tools`) of one process, from an `Account` to the next.

    `requests` are the durations of the answered API requests of the main thread in seconds, in order.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._cost_usd = account.cost_usd
        self._usage = account.usage
        self._current = account.current
        self._messages = dict(account.messages)
        self.model = account.model
        self.tools = ToolTrack(account)
        self.requests: list[float] = []
        self._requested = account.requested_tick
        self._changed = False

    @property
    def account(self) -> Account:
        """The account after these lines."""
        if not self._changed and not self.tools.changed:
            return self._account
        return Account(
            self._cost_usd,
            self.model,
            self._usage,
            self._current,
            dict(self._messages),
            dict(self.tools.running),
            tool_ticks=dict(self.tools.ticks),
            repeats=dict(self.tools.repeats),
            requested_tick=self._requested,
        )

    def see(self, message: CliMessage, kind: Kind) -> None:
        """Count a line that is not a `result`."""
        match kind:
            case Kind.STREAM_EVENT:
                event = message.event
                if event is None or message.parent_tool_use_id is not None:
                    return
                if event.message is not None:
                    self._begin("", event.message)
                elif event.type == "message_stop" and self._requested is not None:
                    self.requests.append(max(0, tick() - self._requested) / 1000)
                    self._requested, self._changed = None, True
                elif event.usage is not None and self._current is not None:
                    self._current = stream.replaced(self._current, event.usage)
                    self._changed = True
            case Kind.ASSISTANT if message.message is not None:
                self._begin(message.parent_tool_use_id or "", message.message)
                self.tools.called(message.message, message.parent_tool_use_id or "")
            case Kind.USER if message.message is not None:
                self.tools.returned(message.message, message.tool_result_meta)
            case Kind.INIT:
                self.model = message.model or self.model
                self._changed = True
            case Kind.OTHER if message.subtype == "status" and message.status == "requesting":
                self._requested, self._changed = tick(), True

    def _begin(self, thread: str, message: ApiMessage) -> None:
        """Count a message once: the CLI prints a line, with the same usage, for each of its blocks."""
        if message.id is None or message.model == stream.SYNTHETIC or self._messages.get(thread) == message.id:
            return
        self._changed = True
        self._messages.pop(thread, None)
        self._messages[thread] = message.id
        if len(self._messages) > _MAX_THREADS:
            del self._messages[next(key for key in self._messages if key)]
        counted = stream.tokens_of(self._name(message.model), message.usage)
        if thread:
            self._usage = stream.added(self._usage, [counted])
        else:
            self._usage, self._current = self.seen(), counted

    def _name(self, model: str | None) -> str:
        """The model as `system/init` and results name it: the API leaves out the context variant, as in `[1m]`."""
        own = self.model or ""
        return own if model is None or own.partition("[")[0] == model else model

    def seen(self) -> tuple[ModelUsage, ...]:
        """The usage in the lines since the last result; a lower bound, without dollars."""
        return stream.added(self._usage, [self._current] if self._current is not None else [])

    def settle(self, message: CliMessage) -> tuple[ModelUsage, ...]:
        """The usage since the previous result, as this `result` reports it; replaces `seen`."""
        total = stream.dollars(message.total_cost_usd)
        used = stream.turn_usage(message)
        if used is None:
            used = self._without_models(message, total)
        self._cost_usd = total if total is not None else self._cost_usd
        self._requested = None  # a request that failed has no answer
        self.tools.turn_ended()
        self._forget()
        return used

    def _without_models(self, message: CliMessage, total: float | None) -> tuple[ModelUsage, ...]:
        """The usage when the CLI reports none by model: the turn's tokens, and the growth of the session's cost."""
        used = stream.added((), [stream.tokens_of(self.model or "", message.usage)]) or self.seen()
        if total is None or self._cost_usd is None:
            return used
        # A session that was cleared starts at 0 again, so a lower sum counts as 0.
        model = stream.main_model(used) or self.model or ""
        return stream.added(used, [ModelUsage(model, cost_usd=max(0.0, total - self._cost_usd))])

    def give_up(self) -> tuple[ModelUsage, ...]:
        """The usage since the last result when no other result will come; see `seen`."""
        used = self.seen()
        self._forget()
        return used

    def _forget(self) -> None:
        # The ids stay: a message may have further lines after the result, when a subagent goes on.
        self._usage, self._current = (), None
        self._changed = True


def charged(execution: Execution, usage: Iterable[ModelUsage], model: str | None) -> Execution:
    """The execution with more usage; `model` is its model if none of the used models answered."""
    total = stream.added(execution.usage, usage)
    answered = stream.main_model(used for used in total if used.output_tokens) or model or execution.model
    return replace(execution, usage=total, model=answered)


def spending(
    project: ConversationRecord, usage: Iterable[ModelUsage], at: Milliseconds, *, ended: Execution | None
) -> tuple[Spending, ...]:
    """Rows for the history of spending at a time; the execution `ended`, if any, is counted under its main model."""
    day = local_day(at)
    main = (ended.model or "") if ended is not None else None
    models = {used.model: used for used in usage}
    if main is not None:
        models.setdefault(main, ModelUsage(main))
    return tuple(
        Spending(day, project.project_id, project.name, **asdict(used), executions=int(used.model == main))
        for used in models.values()
    )


def duration(execution: Execution) -> float:
    """Seconds since the start of an execution, by the monotonic clock where that measured its start."""
    if execution.started_tick is not None:
        return max(0, tick() - execution.started_tick) / 1000
    return max(0, now() - execution.started_at) / 1000 if execution.started_at is not None else 0.0


def execution_event(execution: Execution) -> ExecutionFinished:
    """The event of an execution that has ended just now."""
    return ExecutionFinished(
        context=execution.context,
        status=execution.status,
        created_at=execution.created_at,
        started_at=execution.started_at,
        finished_at=execution.finished_at if execution.finished_at is not None else now(),
        duration=duration(execution),
        waited=execution.waited_ms / 1000,
        code=execution.code,
        session_id=execution.session_id,
        model=execution.model,
        usage=execution.usage,
        requested_model=execution.options.model,
    )
