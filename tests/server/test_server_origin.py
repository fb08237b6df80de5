"""Which pages may talk to the server."""

import pytest

from pocket_agent.errors import ForbiddenError
from pocket_agent.server.peer import Origins, Peer
from pocket_agent.settings import ServerSettings, Settings

PEER = Peer("192.0.2.7", secure=True, host="box.local:8443")
ORIGINS = [
    # origin, allowed with tokens, allowed without
    ("https://box.local:8443", True, False),
    ("HTTPS://BOX.LOCAL:8443", True, False),
    ("https://box.local:8443/", True, False),
    ("http://box.local:8443", False, False),
    ("https://box.local", False, False),
    ("https://box.local:8444", False, False),
    ("https://evil.example", False, False),
    ("https://box.local:8443.evil.example", False, False),
    ("https://evil.example/box.local:8443", False, False),
    ("https://box.local:8443@evil.example", False, False),
    ("null", False, False),
    ("", False, False),
    ("file://", False, False),
    ("box.local:8443", False, False),
    ("http://[", False, False),
    ("http://[::1", False, False),
    ("https://app.example", True, True),
    ("https://APP.example/", True, True),
    ("https://app.example.evil.example", False, False),
    ("http://app.example", False, False),
    ("https://agent.example", True, True),
]


def origins(*, auth: bool = True) -> Origins:
    """With a page of another site that may connect, and an address beside those that are listened on."""
    server = ServerSettings(auth=auth, allowed_origins=("https://app.example",), public_url="https://agent.example")
    return Origins(Settings(server=server))


@pytest.mark.parametrize("auth", [True, False])
@pytest.mark.parametrize(("origin", "with_tokens", "without"), ORIGINS)
def test_pages_of_other_sites_are_kept_out(origin: str, with_tokens: bool, without: bool, auth: bool) -> None:
    known = origins(auth=auth)
    if with_tokens if auth else without:
        known.check(PEER, {"Origin": origin})
    else:
        with pytest.raises(ForbiddenError, match="allowed_origins"):
            known.check(PEER, {"Origin": origin})
    known.check(PEER, {})


@pytest.mark.parametrize("host", ["127.0.0.1:8443", "[::1]:8443", "localhost:8443"])
def test_without_tokens_only_literal_loopback_is_the_servers_own(host: str) -> None:
    """A name that an attacker makes point at 127.0.0.1 (DNS rebinding) is not."""
    known = origins(auth=False)
    known.check(Peer("127.0.0.1", secure=False, host=host), {"Origin": f"http://{host}"})
    rebound = Peer("127.0.0.1", secure=False, host="rebound.example:8443")
    with pytest.raises(ForbiddenError):
        known.check(rebound, {"Origin": "http://rebound.example:8443"})


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, True),
        ({"Origin": "https://box.local:8443"}, True),
        ({"Origin": "https://agent.example"}, True),
        ({"Origin": "https://box.local:8443", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "https://app.example"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "https://box.local:8443", "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_what_makes_cookies_is_for_the_servers_own_pages(headers: dict[str, str], own: bool) -> None:
    if own:
        origins().check_own(PEER, headers)
    else:
        with pytest.raises(ForbiddenError):
            origins().check_own(PEER, headers)
