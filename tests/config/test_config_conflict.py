"""pocket_agent.config.conflict: combinations that cannot be."""

import pytest

from pocket_agent.config import Settings, is_loopback
from pocket_agent.config.conflict import find_conflicts


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "127.1", "localhost.example", "my-laptop", "128.0.0.1"]
)
def test_other_hosts_do_not_count_as_loopback(host: str) -> None:
    assert not is_loopback(host)


OPEN = {"host": "0.0.0.0"}
CLAUDE = {"permission_mode": "bypassPermissions"}


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({}, []),
        ({"server": OPEN}, []),
        ({"server": {"auth": False, "tls": {"enabled": False}}, "demo": True}, []),
        ({"server": OPEN | {"auth": False}}, [("server.auth", "server.host")]),
        ({"server": OPEN | {"tls": {"enabled": False}}}, [("server.tls.enabled", "server.host")]),
        ({"server": OPEN, "demo": True}, [("demo", "server.host")]),
        ({"server": {"port": 8080}}, [("server.port", "server.plain_port")]),
        ({"server": {"plain_port": 9090}}, [("server.plain_port", "metrics.port")]),
        ({"metrics": {"port": 8443}}, [("server.port", "metrics.port")]),
        (
            {"server": {"port": 7, "plain_port": 7}, "metrics": {"port": 7}},
            [("server.port", "server.plain_port"), ("server.port", "metrics.port")],
        ),
        ({"server": {"port": 9090}, "metrics": {"enabled": False}}, []),
        ({"server": {"port": 0, "plain_port": 0}, "metrics": {"port": 0}}, []),
        ({"server": {"plain_port": None}}, []),
        ({"server": {"tls": {"cert": "/c"}}}, [("server.tls.cert", "server.tls.key")]),
        ({"server": {"tls": {"key": "/k"}}}, [("server.tls.cert", "server.tls.key")]),
        ({"server": {"tls": {"cert": "/c", "key": "/k"}}}, []),
        ({"claude": {"max_line": "2MiB", "max_spool": "1MiB"}}, [("claude.max_line", "claude.max_spool")]),
        ({"claude": {"max_line": "1MiB", "max_spool": "1MiB"}}, []),
        ({"claude": CLAUDE}, [("claude.permission_mode", "claude.allow_dangerously_skip_permissions")]),
        ({"claude": CLAUDE | {"allow_dangerously_skip_permissions": True}}, []),
    ],
)
def test_impossible_combinations(values: dict[str, object], keys: list[tuple[str, ...]]) -> None:
    conflicts = list(find_conflicts(Settings.model_validate(values)))
    assert [conflict.keys for conflict in conflicts] == keys
    assert all(conflict.reason for conflict in conflicts)
