"""The runbooks of docs/runbooks as pages: what an alert links to, read on a phone in the middle of the night.

They ask for no token: the text is public and the same on every server, tells nothing of this one, and who is
woken by an alert may hold a device that was never let in.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

from aiohttp import web
from markdown_it import MarkdownIt
from markdown_it.token import Token

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_PLACE: Final = "/docs/runbooks"
INDEX: Final = "README"
"""The name of the list of all."""

_STYLE: Final = """
:root{color-scheme:light dark}
body{font:1rem/1.6 system-ui,sans-serif;max-width:46rem;margin:0 auto;padding:1rem;overflow-wrap:break-word;
background:light-dark(#fff,#16181d);color:light-dark(#1c1e24,#e4e6eb)}
a{color:light-dark(#0b57d0,#8ab4f8)}
nav{display:flex;flex-wrap:wrap;gap:0 1.5rem}
nav a{padding:.5rem 0}
h1{font-size:1.5rem;line-height:1.25}
h2{font-size:1.15rem;margin-top:2rem}
code{font:.875em ui-monospace,monospace;background:light-dark(#f0f1f4,#24272e);padding:.1em .3em;border-radius:.25em}
pre{background:light-dark(#f0f1f4,#24272e);padding:.75rem;border-radius:.4rem;
white-space:pre-wrap;overflow-wrap:anywhere}
pre code{padding:0;background:none}
table{border-collapse:collapse}
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0}
tr{border-bottom:1px solid light-dark(#d5d8de,#3a3e47)}
@media(max-width:36rem){thead{display:none}tr,td{display:block}tr{padding:.5rem 0}td{padding:0}}
"""
_SHELL: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Pocket Agent Server</title>
<style>{style}</style>
</head>
<body>
<nav><a href="{place}">All runbooks</a><a href="/">Pocket Agent Server</a></nav>
<main>
{body}</main>
</body>
</html>
"""
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
_COMMENT: Final = re.compile(r"<!--.*?-->\n*", re.DOTALL)
_UNKNOWN: Final = "# No such runbook\n\nThere is a runbook for every alert; see [all of them](README.md).\n"


def runbook_directory(package: Path = _PACKAGE) -> Path:
    """Where the texts are: in the checkout that the code runs from, or in the installed package.

    Args:
        package: the directory of the package.
    """
    checkout = package.parents[1]
    return checkout / "docs" / "runbooks" if package == checkout / "src" / package.name else package / "runbooks"


def read_runbooks(directory: Path | None = None) -> dict[str, str]:
    """The texts in Markdown, by name, without comments.

    Args:
        directory: where they are, if it is not `runbook_directory`.
    """
    found = sorted((directory or runbook_directory()).glob("*.md"))
    return {path.stem: _COMMENT.sub("", path.read_text("utf-8")) for path in found}


class Runbooks:
    """The pages.

    A name is only ever looked up among those that were found at the start, so none leads anywhere else.

    Args:
        texts: in Markdown, by name.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._pages: dict[str, str] = {}

    def add_to(self, application: web.Application) -> None:
        """Serve the pages and their index."""
        application.router.add_get(_PLACE, self._index)
        application.router.add_get(f"{_PLACE}/", self._index)
        application.router.add_get(f"{_PLACE}/{{name}}", self._runbook)

    async def _index(self, _: web.Request) -> web.Response:
        return self._answer(INDEX)

    async def _runbook(self, request: web.Request) -> web.Response:
        return self._answer(request.match_info["name"])

    def _answer(self, name: str) -> web.Response:
        known = name in self._texts
        page = self._page(name) if known else render_page(_UNKNOWN)
        return web.Response(status=200 if known else 404, text=page, content_type="text/html", headers=_HEADERS)

    def _page(self, name: str) -> str:
        if name not in self._pages:
            self._pages[name] = render_page(self._texts[name])
        return self._pages[name]


def render_page(text: str) -> str:
    """A text in Markdown as a whole page; HTML in it is shown, not followed."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    title = next((after.content for token, after in pairwise(tokens) if token.tag == "h1"), "")
    for token in tokens:
        if token.children:
            token.children = _linked(token.children)
    body = markdown.renderer.render(tokens, markdown.options, {})
    return _SHELL.format(title=html.escape(title), style=_STYLE, place=_PLACE, body=body)


def _linked(tokens: list[Token]) -> list[Token]:
    """Links between runbooks lead to their pages; of those to other documents, which are not served, the text stays."""
    kept = []
    open_links: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            address = _address(str(token.attrGet("href") or ""))
            open_links.append(address is not None)
            if address is None:
                continue
            token.attrSet("href", address)
        elif token.type == "link_close" and not open_links.pop():
            continue
        kept.append(token)
    return kept


def _address(href: str) -> str | None:
    if href.startswith(("https://", "http://")):
        return href
    name, _, _ = href.partition("#")
    if "/" in name or not name.endswith(".md"):
        return None
    name = name.removesuffix(".md")
    return _PLACE if name == INDEX else f"{_PLACE}/{name}"
