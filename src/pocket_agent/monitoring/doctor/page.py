"""Asks programs on this machine for a page, within a bound, and never follows them elsewhere."""

import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

SECONDS: Final = 5.0
_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """An answer.

    Attributes:
        status: of HTTP; None when there was no answer.
        fault: why there was none.
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


class Browser:
    """Fetches pages.

    Args:
        ca_file: the certificate to trust beside the system's.
    """

    def __init__(self, ca_file: Path | None = None) -> None:
        self._context: ssl.SSLContext | None = None
        self._ca_file = ca_file

    def _trust(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context(cafile=self._ca_file)
        return self._context

    async def get(self, url: str, *, token: str | None = None, **parameters: str) -> Page:
        """What a URL gives."""
        return await self._ask("GET", url, token, parameters, None)

    async def post(self, url: str, value: object) -> Page:
        """What a URL answers to JSON."""
        return await self._ask("POST", url, None, {}, value)

    async def _ask(self, method: str, url: str, token: str | None, parameters: dict[str, str], value: object) -> Page:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        try:
            trust = self._trust() if url.startswith("https:") else True
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS), trust_env=False) as http,
                http.request(
                    method, url, params=parameters, headers=headers, json=value, ssl=trust, allow_redirects=False
                ) as answer,
            ):
                return Page(answer.status, await answer.content.read(_BYTES))
        except aiohttp.ClientConnectorCertificateError as error:
            return Page(None, fault=f"its certificate is not trusted: {error.certificate_error}")
        except aiohttp.ClientConnectorError as error:
            known = error.os_error.errno
            return Page(None, fault=os.strerror(known).lower() if known else str(error.os_error))
        except TimeoutError:
            return Page(None, fault=f"no answer within {SECONDS:.0f} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Page(None, fault=str(error) or type(error).__name__)
