"""pocket_agent.settings.combinations: settings that exclude one another."""

from pocket_agent.settings import Settings, is_loopback
from pocket_agent.settings.combinations import find_conflicts

OPEN: dict[str, object] = {"host": "0.0.0.0"}
CLAUDE: dict[str, object] = {"permission_mode": "bypassPermissions"}
SSO: dict[str, object] = {"header": "X-User", "users": ["ada"]}
PROXIED: dict[str, object] = {"trusted_proxies": ["10.0.0.1"]}


def test_loopback_hosts() -> None:
    assert [host for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost") if not is_loopback(host)] == []


def test_other_hosts_are_not_loopback() -> None:
    others = ("0.0.0.0", "::", "192.168.1.5", "127.1", "localhost.example", "my-laptop", "128.0.0.1")
    assert [host for host in others if is_loopback(host)] == []


def test_without_a_setting_only_this_machine_reaches_the_server() -> None:
    assert is_loopback(Settings().server.host)


def test_refused_combinations() -> None:
    cases: list[tuple[dict[str, object], list[tuple[str, ...]]]] = [
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
        ({"server": PROXIED | {"sso": SSO}}, []),
        ({"server": {"sso": SSO}}, [("server.sso.header", "server.trusted_proxies")]),
        ({"server": PROXIED | {"sso": {"header": "X-User"}}}, [("server.sso.header", "server.sso.users")]),
        ({"server": {"sso": {"viewers": ["ada"]}}}, [("server.sso.header", "server.sso.users")]),
        ({"server": PROXIED | {"sso": SSO, "auth": False}}, [("server.sso.header", "server.auth")]),
        ({"claude": {"limits": {"by": "systemd", "cpu_time": 5}}}, [("claude.limits.by", "claude.limits.cpu_time")]),
        ({"claude": {"limits": {"cpus": 2}}}, [("claude.limits.by", "claude.limits.cpus")]),
        ({"claude": {"max_line": "2MiB", "max_spool": "1MiB"}}, [("claude.max_line", "claude.max_spool")]),
        ({"claude": {"max_line": "1MiB", "max_spool": "1MiB"}}, []),
        ({"claude": CLAUDE}, [("claude.permission_mode", "claude.allow_dangerously_skip_permissions")]),
        ({"claude": CLAUDE | {"allow_dangerously_skip_permissions": True}}, []),
        ({"data": {"dir": "/d"}, "projects": {"worktrees": "/d/trees"}}, [("projects.worktrees", "data.dir")]),
        ({"data": {"dir": "/d"}, "projects": {"worktrees": "/d-trees"}}, []),
    ]
    wrong = []
    for values, keys in cases:
        conflicts = list(find_conflicts(Settings.model_validate(values)))
        if [conflict.keys for conflict in conflicts] != keys or not all(conflict.reason for conflict in conflicts):
            wrong.append((values, conflicts))
    assert wrong == []
