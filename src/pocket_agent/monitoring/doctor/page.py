"""Asks programs for a page, within a bound, and never follows them elsewhere."""

import json
import os
import ssl
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

SECONDS: Final = 5.0
"""How long a program may take to answer."""
_BYTES: Final = 8 * 1024 * 1024

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class Page:
    """An answer.

    Attributes:
        status: of HTTP; None when there was no answer.
        fault: why there was none, as the end of a sentence.
    """

    status: int | None
    body: bytes = b""
    fault: str = ""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def value(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def said(self) -> str:
        """What it says when it is not what was wanted: the fault, or the status and the first line."""
        if self.status is None:
            return self.fault
        lines = self.text.strip().splitlines()
        return f"status {self.status}" + (f", {lines[0][:160]}" if lines else "")

    def read(self, kind: type[Reply]) -> Reply | None:
        """The body as JSON of a form; None when it has another one."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.MsgspecError:
            return None


async def _body(content: aiohttp.StreamReader) -> bytes:
    """All that was sent, up to a limit: a single read gives what happens to be there."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) >= _BYTES:
            break
    return bytes(body[:_BYTES])


def _careless() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Browser:
    """Fetches pages."""

    async def get(
        self,
        url: str,
        query: dict[str, str] | None = None,
        *,
        token: str | None = None,
        trusting: bool = False,
        seconds: float = SECONDS,
    ) -> Page:
        """What a URL gives.

        Args:
            url: where.
            query: the parameters of the URL.
            token: shown as a bearer token.
            trusting: take any certificate. Only for what sends no secret and believes nothing that matters: the
                server's own certificate is examined by itself.
            seconds: how long it may take.
        """
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return await self._ask("GET", url, headers, query or {}, None, trusting, seconds)

    async def post(
        self, url: str, body: bytes, content_type: str = "application/json", headers: dict[str, str] | None = None
    ) -> Page:
        """What a URL answers to a body."""
        return await self._ask("POST", url, {**(headers or {}), "Content-Type": content_type}, {}, body, False, SECONDS)

    async def _ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        query: dict[str, str],
        body: bytes | None,
        trusting: bool,
        seconds: float,
    ) -> Page:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds), trust_env=False) as http,
                http.request(
                    method,
                    url,
                    params=query,
                    headers=headers,
                    data=body,
                    ssl=_careless() if trusting and url.startswith("https:") else True,
                    allow_redirects=False,
                ) as answer,
            ):
                return Page(answer.status, await _body(answer.content))
        except aiohttp.ClientConnectorCertificateError as error:
            return Page(None, fault=f"its certificate is not trusted: {error.certificate_error}")
        except aiohttp.ClientConnectorError as error:
            known = error.os_error.errno
            return Page(None, fault=os.strerror(known).lower() if known else str(error.os_error))
        except TimeoutError:
            return Page(None, fault=f"no answer within {seconds:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Page(None, fault=str(error) or type(error).__name__)
