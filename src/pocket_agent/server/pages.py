"""Pages: the built web client, and the runbooks of docs/runbooks that alerts link to."""

import base64
import gzip
import hashlib
import html
import mimetypes
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pocket_agent import __version__

if TYPE_CHECKING:
    from markdown_it.token import Token

# ----------------------------------------------------------------------
# The web client: its built files, served from memory, or a page that says that they are missing.

BUILD: Final = Path(__file__).resolve().parents[1] / "web"
"""Where `scripts/web` and the build of a package put the client."""

PAGES: Final = ("/", "/pair", "/devices", "/dashboard", "/settings", "/p/{project}")
"""Paths that are pages of the client: its one HTML file routes by the path."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify worker"
)
"""Same origin only, no inline script or style; only two named policies can turn text into HTML or scripts."""

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


@dataclass(frozen=True)
class File:
    """One file of the client, with its body for each content encoding (empty: none).

    The plain body is decompressed from the `gzip` one, if there is one: no browser asks for it.
    """

    path: str
    type: str
    bodies: Mapping[str, bytes]
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, request: web.Request) -> web.Response:
        encoding = _chosen(request.headers.get("Accept-Encoding", ""), self.bodies)
        body = self.bodies[encoding] if encoding in self.bodies else gzip.decompress(self.bodies["gzip"])
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
    """The routes of the web client; no request reads the file system."""

    def __init__(self, build: Path = BUILD) -> None:
        """Read the built client; without one every page says so."""
        self._files = _read(build)
        page = self._files.pop("/index.html", None)
        self._page = page if page is not None else _absent()
        self.complete = page is not None

    def add_to(self, router: web.UrlDispatcher) -> None:
        for path in PAGES:
            router.add_get(path, self._shell)
        for path in self._files:
            router.add_get(path, self._file)
        router.add_get("/{elsewhere:.*}", self._missing)

    async def _shell(self, request: web.Request) -> web.StreamResponse:
        return self._page.answer(request)

    async def _missing(self, request: web.Request) -> web.StreamResponse:
        """An unknown path: a browser gets the client, which shows an error."""
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
        packed = {encoding: path.with_name(path.name + suffix) for encoding, suffix in _ENCODINGS.items()}
        bodies = {encoding: file.read_bytes() for encoding, file in packed.items() if file.is_file()}
        if "gzip" not in bodies:
            bodies[""] = path.read_bytes()
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
    style = _template("absent.css")
    page = string.Template(_template("absent.html")).substitute(style=style, version=__version__)
    policy = f"default-src 'none'; style-src {_source(style)}; base-uri 'none'; frame-ancestors 'none'"
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": policy}
    return File("/", "text/html; charset=utf-8", {"": page.encode()}, headers)


def _template(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text("utf-8")


def _source(style: str) -> str:
    """An inline style as a source of a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"


def _chosen(accepted: str, bodies: Mapping[str, bytes]) -> str:
    """The best content encoding that the client accepts and the file has (RFC 9110 section 12.5.3)."""
    taken = set()
    for part in accepted.lower().split(","):
        name, _, parameter = part.partition(";")
        if parameter.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            taken.add(name.strip())
    return next((encoding for encoding in _ENCODINGS if encoding in taken and encoding in bodies), "")


# ----------------------------------------------------------------------
# The runbooks of docs/runbooks as pages, which alerts link to.
#
# They require no token: the text is public and reveals nothing of this server, and the operator on call may have a
# device that is not paired.

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_PLACE: Final = "/docs/runbooks"
INDEX: Final = "README"  # the name of the index

_RUNBOOK_STYLE: Final = _template("runbook.css")
_RUNBOOK_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; "
    f"style-src {_source(_RUNBOOK_STYLE)}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
_COMMENT: Final = re.compile(r"<!--.*?-->\n*", re.DOTALL)
_UNKNOWN: Final = "# No such runbook\n\nThere is a runbook for every alert; see [all of them](README.md).\n"


def runbook_directory(package: Path = _PACKAGE) -> Path:
    """The directory of the texts: in the checkout that the code runs from, or in the installed package."""
    checkout = package.parents[1]
    return checkout / "docs" / "runbooks" if package == checkout / "src" / package.name else package / "runbooks"


def read_runbooks(directory: Path | None = None) -> dict[str, str]:
    """The texts in Markdown, by name, without comments; by default of `runbook_directory`."""
    found = sorted((directory or runbook_directory()).glob("*.md"))
    return {path.stem: _COMMENT.sub("", path.read_text("utf-8")) for path in found}


class Runbooks:
    """The runbook pages: the texts in Markdown by name, as found at the start, so that no name is a path."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._pages: dict[str, str] = {}

    def add_to(self, application: web.Application) -> None:
        application.router.add_get(_PLACE, self._index)
        application.router.add_get(f"{_PLACE}/", self._index)
        application.router.add_get(f"{_PLACE}/{{name}}", self._runbook)

    async def _index(self, _: web.Request) -> web.Response:
        return self._answer(INDEX)

    async def _runbook(self, request: web.Request) -> web.Response:
        return self._answer(request.match_info["name"])

    def _answer(self, name: str) -> web.Response:
        known = name in self._texts
        if known and name not in self._pages:
            self._pages[name] = render_page(self._texts[name])
        page = self._pages[name] if known else render_page(_UNKNOWN)
        return web.Response(status=200 if known else 404, text=page, content_type="text/html", headers=_RUNBOOK_HEADERS)


def render_page(text: str) -> str:
    """Render Markdown as a whole page; HTML in it is escaped."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    title = next((after.content for token, after in pairwise(tokens) if token.tag == "h1"), "")
    for token in tokens:
        if token.children:
            token.children = _linked(token.children)
    body = markdown.renderer.render(tokens, markdown.options, {})
    page = string.Template(_template("runbook.html"))
    return page.substitute(title=html.escape(title), style=_RUNBOOK_STYLE, place=_PLACE, body=body)


def _linked(tokens: "list[Token]") -> "list[Token]":
    """Rewrite links between runbooks to their pages; other documents are not served, so their links become text."""
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
