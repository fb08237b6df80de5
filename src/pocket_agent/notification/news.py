"""What there is to tell, and the words for it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

_LONGEST_NAME: Final = 60
_LONGEST_DETAIL: Final = 200
_LISTED: Final = 5
"""Projects that a message names; it counts the others."""

Urgency = Literal["info", "success", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Wish:
    """A tool request that waits; `detail` says what the tool is to do, where that may be told."""

    tool: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """The end of an execution; `code` is the error's, None for a success; `detail` as of a `Wish`."""

    seconds: float
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What is new in one project.

    Attributes:
        name: the project's.
        wishes: tool requests that wait.
        ends: the latest executions that ended.
        finished, failed: how many there were in all.
    """

    project_id: str
    name: str
    wishes: tuple[Wish, ...] = ()
    ends: tuple[End, ...] = ()
    finished: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent."""

    title: str
    body: str
    urgency: Urgency


def compose(news: Sequence[News], base_url: str) -> Message:
    """One message of all that is new, with a link to where it is.

    Args:
        news: one for each project, at least one.
        base_url: the address of the web client, without a slash at its end.
    """
    alone = news[0] if len(news) == 1 else None
    link = f"{base_url}/p/{alone.project_id}" if alone is not None else f"{base_url}/"
    where = _name(alone.name) if alone is not None else f"{len(news)} projects"
    lines = [line for one in news[:_LISTED] for line in _lines(one, named=alone is None)]
    if len(news) > _LISTED:
        lines.append(f"And {len(news) - _LISTED} more projects.")
    return Message(f"{_headline(news)}: {where}", "\n".join([*lines, link]), _urgency(news))


def trial(base_url: str) -> Message:
    """What shows that messages arrive."""
    body = f"Notifications of Pocket Agent Server arrive here.\n{base_url}/"
    return Message("Pocket Agent: a test", body, "info")


def _headline(news: Sequence[News]) -> str:
    wishes = sum(len(one.wishes) for one in news)
    failed, finished = (sum(getattr(one, kind) for one in news) for kind in ("failed", "finished"))
    if wishes + failed + finished == 1:
        return "Approval wanted" if wishes else "Failed" if failed else "Finished"
    parts = [
        f"{wishes} approval{'s wait' if wishes > 1 else ' waits'}" if wishes else "",
        f"{failed} failed" if failed else "",
        f"{finished} finished" if finished else "",
    ]
    return ", ".join(part for part in parts if part)


def _urgency(news: Iterable[News]) -> Urgency:
    if any(one.wishes for one in news):
        return "warning"
    return "failure" if any(one.failed for one in news) else "success"


def _lines(news: News, *, named: bool) -> list[str]:
    prefix = f"{_name(news.name)}: " if named else ""
    lines = []
    if news.wishes:
        tools = list(dict.fromkeys(_clean(wish.tool, _LONGEST_NAME) for wish in news.wishes))
        verb = "wait" if len(news.wishes) > 1 else "waits"
        lines.append(f"{prefix}{', '.join(tools[:_LISTED])} {verb} for your answer.")
        lines += [_clean(wish.detail, _LONGEST_DETAIL) for wish in news.wishes[:_LISTED] if wish.detail]
    for end in news.ends:
        how = (
            f"Failed after {_duration(end.seconds)} ({end.code})"
            if end.code
            else f"Finished after {_duration(end.seconds)}"
        )
        lines.append(f"{prefix}{how}.")
        lines += [_clean(end.detail, _LONGEST_DETAIL)] if end.detail else []
    more = news.finished + news.failed - len(news.ends)
    if more > 0:
        lines.append(f"{prefix}{more} more ended.")
    return lines


def _name(name: str) -> str:
    return _clean(name, _LONGEST_NAME) or "a project"


def _clean(text: str, longest: int) -> str:
    """A text as part of a line: no control characters, no line ends, not too long."""
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return words if len(words) <= longest else f"{words[:longest]}…"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
