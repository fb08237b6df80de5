"""The message that the agent is writing, so that who joins in the middle sees its beginning."""

from collections.abc import Iterable

from pocket_agent.protocol.requests import PartialData


class Partial:
    """Collects the text and the thinking of stream events until the complete message comes."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._thinking: list[str] = []

    def add(self, kind: str, text: str) -> None:
        """Take a delta of `kind` "text" or "thinking"; others are not shown."""
        if kind == "text":
            self._text.append(text)
        elif kind == "thinking":
            self._thinking.append(text)

    def take(self, steps: Iterable[tuple[str, str]]) -> None:
        """Take deltas and ("clear", "") in order."""
        for kind, text in steps:
            if kind == "clear":
                self.clear()
            else:
                self.add(kind, text)

    def after(self, steps: Iterable[tuple[str, str]]) -> PartialData | None:
        """What `value` is once `take` has taken these steps; nothing changes."""
        copy = Partial()
        copy.take(("text", part) for part in self._text)
        copy.take(("thinking", part) for part in self._thinking)
        copy.take(steps)
        return copy.value()

    def clear(self) -> None:
        """The complete line has come, or the message was given up."""
        self._text.clear()
        self._thinking.clear()

    def value(self) -> PartialData | None:
        """What is known so far; None when no message is being written."""
        if not self._text and not self._thinking:
            return None
        return PartialData(text="".join(self._text), thinking="".join(self._thinking))
