"""Where a conversation is shown: a terminal with a prompt at its foot, or the output of a script."""

import sys
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_STYLES = {True: "dim italic", False: ""}


class Screen:
    """A terminal whose last lines belong to the prompt: whole lines go above it, what is unfinished into it.

    Attributes:
        tail: the unfinished line of the text that is being written.
    """

    def __init__(self, console: Console) -> None:
        self.tail = ""
        self._console = console
        self._thinking = False

    def show(self, *lines: Text) -> None:
        """Show whole lines."""
        self.end_live()
        for line in lines:
            self._print(line)

    def live(self, text: str, *, thinking: bool) -> None:
        """Go on with the text that is being written; what fills a line is shown above the prompt."""
        if thinking is not self._thinking:
            self.end_live()
        self._thinking = thinking
        *whole, self.tail = (self.tail + text).split("\n")
        for line in whole:
            self._print(Text(line, _STYLES[thinking]))
        while cell_len(self.tail) >= self._console.width:
            cut = self._cut()
            self._print(Text(self.tail[:cut].rstrip(), _STYLES[thinking]))
            self.tail = self.tail[cut:]

    def end_live(self) -> None:
        """The text that was being written is whole."""
        if self.tail:
            self._print(Text(self.tail, _STYLES[self._thinking]))
        self.tail = ""

    def _cut(self) -> int:
        """How many characters of the tail fill a line, up to the last blank if there is one."""
        width, fits = 0, 0
        for character in self.tail:
            width += cell_len(character)
            if width >= self._console.width:
                break
            fits += 1
        blank = self.tail.rfind(" ", 0, fits)
        return max(1, blank + 1 if blank > 0 else fits)

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


class Script:
    """Standard output gets what the agent says, standard error all the rest."""

    def __init__(self, out: TextIO | None = None, notes: Console | None = None) -> None:
        self._out = out or sys.stdout
        self._notes = notes or Console(stderr=True)
        self._open = False

    def show(self, *lines: Text) -> None:
        """Show whole lines."""
        self.end_live()
        for line in lines:
            self._notes.print(line, soft_wrap=True)

    def live(self, text: str, *, thinking: bool) -> None:
        """Go on with the text that is being written; thinking is left out."""
        if text and not thinking:
            self._out.write(text)
            self._out.flush()
            self._open = not text.endswith("\n")

    def end_live(self) -> None:
        """The text that was being written is whole."""
        if self._open:
            self._out.write("\n")
            self._out.flush()
            self._open = False
