"""Answers over HTTP: the headers that all of them bear, and how one refuses."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from aiohttp import web

from pocket_agent.errors import PocketAgentError, RateLimitedError
from pocket_agent.protocol.frame import encode_data
from pocket_agent.protocol.requests import CheckData

HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
    }
)

_STATUSES: Final = {
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "INVALID_MESSAGE": 400,
    "VALIDATION_FAILED": 400,
    "RATE_LIMITED": 429,
    "RESOURCE_LIMIT": 503,
}
"""The HTTP status of each code of an error; of any other it is 500."""


_ID: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


def without_ids(checks: Mapping[str, CheckData]) -> dict[str, CheckData]:
    """Health checks without the ids of projects and executions, for a client that may not know of them.

    The message of a healthy check is left out: it says what could be better (agents that are not confined, advisories
    of the CLI), which would tell an attacker what to try.
    """
    return {
        name: msgspec.structs.replace(
            check, message=None if check.status == "healthy" else _ID.sub("…", check.message or "") or None
        )
        for name, check in checks.items()
    }


def answer(data: object) -> web.Response:
    """What was asked for, as JSON."""
    return web.Response(body=encode_data(data), content_type="application/json", headers=HEADERS)


def refusal(error: PocketAgentError, status: int | None = None) -> web.Response:
    """An error, in the form that it has in a frame.

    Args:
        error: what is wrong.
        status: the HTTP status, if it is not the usual one of the error's code.
    """
    status = status or _STATUSES.get(error.code, 500)
    headers = dict(HEADERS)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(error.details.get("retry_after", 1))
    elif status == 503:
        headers["Retry-After"] = "5"
    data = {"code": error.code, "message": error.message, **({"details": error.details} if error.details else {})}
    body = msgspec.json.encode({"type": "error", "data": data})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
