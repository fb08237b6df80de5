"""The cookie of a paired browser. No script can read it, and its value is no bearer token.

Browsers send a host's cookies to every port of it, so any program that listens on another port gets the value. The
cookie counts only together with a proof by a key that the browser keeps for this origin alone (`proof`).
"""

from typing import Final

from aiohttp import web

from pocket_agent.server.peer import Peer

_SECONDS: Final = 400 * 86400
"""The longest that browsers keep a cookie (draft-ietf-httpbis-rfc6265bis, section 5.5); each visit renews it."""


def cookie_name(instance: str, peer: Peer) -> str:
    """What the cookie is called.

    Browsers send a host's cookies to all of its ports, so each server has its own name. By TLS it has
    the prefix `__Host-`: then no other host and no plain connection can have set it (rfc6265bis,
    section 4.1.3.2). The plain listener needs another name anyhow, since it may not replace a Secure cookie.
    """
    return f"{'__Host-' if peer.secure else ''}pocket_agent_{instance}"


def read_cookies(header: str, name: str) -> list[str]:
    """The values of all cookies of this name in a `Cookie` header, each once."""
    parts = (part.strip().partition("=") for part in header.split(";"))
    return list(dict.fromkeys(value for key, _, value in parts if key == name))


def set_cookie(response: web.StreamResponse, instance: str, peer: Peer, token: str) -> None:
    """Let the browser keep a token."""
    response.set_cookie(
        cookie_name(instance, peer),
        token,
        path="/",
        max_age=_SECONDS,
        httponly=True,
        secure=peer.secure,
        samesite="Strict",
    )


def end_cookie(response: web.StreamResponse, instance: str, peer: Peer) -> None:
    """Let the browser forget the token."""
    response.del_cookie(cookie_name(instance, peer), path="/", secure=peer.secure, httponly=True, samesite="Strict")
