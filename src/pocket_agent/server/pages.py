"""The pages that the server has: the built web client, and the runbooks of docs/runbooks that alerts link to."""

import base64
import hashlib
import html
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from aiohttp import web
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pocket_agent import __version__

# ----------------------------------------------------------------------
# The web client: its built files, served from memory, and the page that is shown when there are none.

BUILD: Final = Path(__file__).resolve().parents[1] / "web"
"""Where `scripts/web` and the build of a package put the client."""

PAGES: Final = ("/", "/pair", "/devices", "/dashboard", "/settings", "/p/{project}")
"""Paths that are pages of the client: each is answered with its one HTML file, which finds its way by the path."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify worker"
)
"""Nothing from elsewhere, no inline script or style; and only two named places can make anything of text."""

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_ENCODINGS: Final = {"br": ".br", "gzip": ".gz"}
"""Content encodings in the order of preference, and the endings of the files that hold them."""
_FOREVER: Final = "public, max-age=31536000, immutable"
_TYPES: Final = {".js": "text/javascript", ".webmanifest": "application/manifest+json", ".svg": "image/svg+xml"}
_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;overflow-wrap:anywhere}"
)
_ABSENT: Final = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Pocket Agent Server</title>
<style>{_STYLE}</style>
<h1>Pocket Agent Server</h1>
<p>Version {__version__} is running. The web client is missing from this installation: it was made without Node, or
npm could not be reached. Everything else works.</p>
<p>In a checkout <code>scripts/web</code> builds it, with Node 20.19 or newer; start the server again then.</p>
<p>Meanwhile use the terminal client on this machine, <code>pocket-agent chat</code>, or connect a program to
<code>/ws</code> with a token (<code>pocket-agent devices add NAME --print-token</code>).</p>
<p>Health: <a href="/health">/health</a>.</p>
</html>
"""


@dataclass(frozen=True)
class File:
    """One file of the client: what is sent for it, by content encoding (empty: as it is)."""

    path: str
    type: str
    bodies: Mapping[str, bytes]
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, request: web.Request) -> web.Response:
        """The response to a request for it."""
        encoding = _chosen(request.headers.get("Accept-Encoding", ""), self.bodies)
        body = self.bodies[encoding]
        etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
        headers = {**_HEADERS, **self.headers, "ETag": etag, "Vary": "Accept-Encoding"}
        asked = request.headers.get("If-None-Match", "")
        if etag in (tag.strip().removeprefix("W/") for tag in asked.split(",")):
            return web.Response(status=304, headers=headers)
        if encoding:
            headers["Content-Encoding"] = encoding
        response = web.Response(body=body, headers=headers)
        response.headers["Content-Type"] = self.type
        return response


class Site:
    """The routes of the web client; no request leads to the file system."""

    def __init__(self, build: Path = BUILD) -> None:
        """Read the built client in `build`; where there is none, every page says so."""
        self._files = _read(build)
        page = self._files.pop("/index.html", None)
        self._page = page if page is not None else _absent()
        self.complete = page is not None

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add a route for each page and each file."""
        for path in PAGES:
            router.add_get(path, self._shell)
        for path in self._files:
            router.add_get(path, self._file)
        router.add_get("/{elsewhere:.*}", self._missing)

    async def _shell(self, request: web.Request) -> web.StreamResponse:
        return self._page.answer(request)

    async def _missing(self, request: web.Request) -> web.StreamResponse:
        """A path that leads nowhere: who reads pages gets the client, which says so."""
        if "text/html" not in request.headers.get("Accept", ""):
            raise web.HTTPNotFound
        response = self._page.answer(request)
        response.set_status(404)
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._files[request.path].answer(request)


def _read(build: Path) -> dict[str, File]:
    files: dict[str, File] = {}
    if not build.is_dir():
        return files
    for path in sorted(build.rglob("*")):
        if path.suffix in _ENCODINGS.values() or path.name.startswith(".") or not path.is_file():
            continue
        name = f"/{path.relative_to(build).as_posix()}"
        bodies = {"": path.read_bytes()}
        for encoding, suffix in _ENCODINGS.items():
            packed = path.with_name(path.name + suffix)
            if packed.is_file():
                bodies[encoding] = packed.read_bytes()
        files[name] = File(name, _type(path), bodies, _caching(name))
    return files


def _type(path: Path) -> str:
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith(("text/", "image/svg", "application/manifest")) else kind


def _caching(name: str) -> dict[str, str]:
    if name.startswith("/assets/"):  # their names change with their content
        return {"Cache-Control": _FOREVER}
    return {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY}


def _absent() -> File:
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": policy}
    return File("/", "text/html; charset=utf-8", {"": _ABSENT.encode()}, headers)


def _chosen(accepted: str, bodies: Mapping[str, bytes]) -> str:
    """The best content encoding that the client takes and the file has (RFC 9110 section 12.5.3)."""
    taken = set()
    for part in accepted.lower().split(","):
        name, _, parameter = part.partition(";")
        if parameter.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            taken.add(name.strip())
    return next((encoding for encoding in _ENCODINGS if encoding in taken and encoding in bodies), "")


# ----------------------------------------------------------------------
# The runbooks of docs/runbooks as pages, which alerts link to.
#
# They require no token: the text is public, the same on every server and reveals nothing of this one, and the
# operator on call may have a device that is not paired.

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_PLACE: Final = "/docs/runbooks"
INDEX: Final = "README"
"""The name of the list of all."""

_RUNBOOK_STYLE: Final = """
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
_RUNBOOK_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_RUNBOOK_STYLE.encode()).digest()).decode()}'; "
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
        return web.Response(status=200 if known else 404, text=page, content_type="text/html", headers=_RUNBOOK_HEADERS)

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
    return _SHELL.format(title=html.escape(title), style=_RUNBOOK_STYLE, place=_PLACE, body=body)


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
