"""`/metrics`: the answer to a scrape, rendered in a thread so that it does not delay clients."""

import asyncio
import hmac
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest, gzip_accepted
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics

from pocket_agent.errors import ConfigurationError
from pocket_agent.observability.health import in_thread
from pocket_agent.observability.metrics import CoreCollector, CoreValues, core_families
from pocket_agent.settings import Settings, is_loopback

_TOKEN_FILE: Final = "metrics-token"  # noqa: S105 - the name of a file
_TOKEN_BYTES: Final = 32  # 256 bits
_YIELD_SECONDS: Final = 0.0001
"""How long the rendering thread sleeps after each family, which releases the GIL: without it the event loop would
wait for it up to 5 ms each time (sys.getswitchinterval)."""


class ScrapeFormat(NamedTuple):
    """The format that a scrape asks for."""

    openmetrics: bool
    gzip: bool

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        content_type = openmetrics.CONTENT_TYPE_LATEST if self.openmetrics else CONTENT_TYPE_PLAIN_0_0_4
        encoding = {"Content-Encoding": "gzip"} if self.gzip else {}
        return {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding", **encoding}


class Exposition:
    """Renders the metrics that events feed and those of the core, one rendering at a time."""

    def __init__(self, registry: CollectorRegistry, core: CoreCollector) -> None:
        self._registry = registry
        self._core = core
        self._turn = asyncio.Lock()
        self._begun = 0
        self._last: dict[ScrapeFormat, tuple[int, bytes]] = {}

    async def render(self, form: ScrapeFormat) -> bytes:
        """The metrics at this call or later; requests that arrive during a rendering share the next one."""
        asked = self._begun
        async with self._turn:
            number, text = self._last.get(form, (0, b""))
            if number <= asked:
                self._begun = number = self._begun + 1
                values = await self._core.collect()
                text = await in_thread(lambda: self._text(form, values), "metrics")
                self._last[form] = (number, text)
            return text

    def _text(self, form: ScrapeFormat, values: CoreValues) -> bytes:
        encode = openmetrics.generate_latest if form.openmetrics else generate_latest
        text = encode(_YieldingCollector(self._registry, values))
        return zlib.compress(text, wbits=16 + zlib.MAX_WBITS) if form.gzip else text


class _YieldingCollector:
    """Yields all families, and sleeps after each."""

    def __init__(self, registry: CollectorRegistry, values: CoreValues) -> None:
        self._registry = registry
        self._values = values

    def collect(self) -> Iterator[Family]:
        for source in (self._registry.collect(), core_families(self._values)):
            for family in source:
                yield family
                time.sleep(_YIELD_SECONDS)


def application(exposition: Exposition, token: str | None) -> web.Application:
    """The application of the metrics listener; with a token, a scrape must send it."""

    async def metrics(request: web.Request) -> web.Response:
        if token is not None and not _is_authorized(request, token):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        form = _scrape_format(request)
        return web.Response(body=await exposition.render(form), headers=form.headers)

    made = web.Application()
    made.router.add_get("/metrics", metrics)
    return made


def _scrape_format(request: web.Request) -> ScrapeFormat:
    try:
        _, content_type = choose_encoder(request.headers.get("Accept", ""))
    except (TypeError, ValueError):  # raised by the library for a version that is not a number
        content_type = ""
    return ScrapeFormat(
        content_type.startswith("application/openmetrics-text"),
        gzip_accepted(request.headers.get("Accept-Encoding", "")),
    )


def _is_authorized(request: web.Request, token: str) -> bool:
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        shown.strip().encode("utf-8", "surrogateescape"), token.encode()
    )


class ScrapeToken(NamedTuple):
    """The bearer token of scrapes, and the file that holds it."""

    text: str
    file: Path


def scrape_token(settings: Settings) -> ScrapeToken | None:
    """The token of the metrics listener, created if necessary; None for a listener on loopback without a setting.

    Raises:
        ConfigurationError: the file cannot be read or created, or does not hold a token.
    """
    file = settings.metrics.token_file
    if file is None:
        if is_loopback(settings.metrics.host):
            return None
        file = settings.data.dir / _TOKEN_FILE
        with suppress(FileExistsError), _refused(file):
            _create_token(file)
    with _refused(file):
        text = file.read_text("utf-8").strip()
    if not text.isascii() or not text.isprintable() or not text or " " in text:
        raise ConfigurationError(f"The file {file} (metrics.token_file) does not hold a token.")
    return ScrapeToken(text, file)


def _create_token(file: Path) -> None:
    """Write a new token atomically, readable by the owner only; raises FileExistsError if there is one already."""
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
        os.link(draft, file)
    finally:
        draft.unlink()


@contextmanager
def _refused(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileExistsError):
            raise
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"The file {file} (metrics.token_file) cannot be used: {reason}.") from error
