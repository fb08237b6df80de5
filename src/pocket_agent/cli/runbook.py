"""`pocket-agent runbook`: a runbook in the terminal, whether or not the server runs."""

from difflib import get_close_matches

from rich.console import Console
from rich.markdown import Markdown

from pocket_agent.errors import ValidationError
from pocket_agent.server.pages import INDEX, read_runbooks


def show_runbook(name: str | None, console: Console | None = None) -> None:
    """Print a runbook, or the list of all; formatted on a terminal, else as Markdown.

    Raises:
        ValidationError: there is none of that name.
    """
    console = console or Console()
    texts = read_runbooks()
    by_name = {known.lower(): known for known in texts}
    wanted = by_name.get((name or INDEX).lower())
    if wanted is None:
        near = [by_name[found] for found in get_close_matches(str(name).lower(), by_name, n=1)]
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ValidationError(f"There is no runbook {name!r}{hint} `pocket-agent runbook` lists all of them.")
    text = texts[wanted]
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        console.print(text, markup=False, highlight=False, soft_wrap=True, end="")
