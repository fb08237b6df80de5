"""Settings of which no stack could be made: refused before anything is written, with the names of the settings."""

from pathlib import Path

import pytest

from pocket_agent.errors import ConfigurationError
from pocket_agent.monitoring import render
from tests.monitoring.stack_sample import settings_of

REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "the guide's own mistake": (
        {"monitoring__prometheus_port": 9090},
        "metrics.port is 9090 and monitoring.prometheus_port is 9090: each needs a port of its own",
    ),
    "two programs": (
        {"monitoring__loki_port": 3200},
        "monitoring.loki_port is 3200 and monitoring.tempo_port is 3200: each needs a port of its own",
    ),
    "the server's own port": (
        {"server__port": 9093},
        "server.port is 9093 and monitoring.alertmanager_port is 9093: each needs a port of its own",
    ),
    "its plain port": (
        {"server__plain_port": 9115},
        "server.plain_port is 9115 and monitoring.blackbox_port is 9115: each needs a port of its own",
    ),
    "a port that is fixed": (
        {"monitoring__grafana_port": 9096},
        "monitoring.grafana_port is 9096 and Loki's gRPC (9096, fixed): each needs a port of its own",
    ),
    "any free port for the metrics": (
        {"metrics__port": 0},
        "metrics.port: 0 is any free port, which Prometheus cannot know; give it a number",
    ),
    "any free port of the server": (
        {"server__port": 0},
        "server.port: 0 is any free port, which Prometheus cannot know; give it a number",
    ),
    "nothing to scrape": ({"metrics__enabled": False}, "metrics.enabled: off, so there is nothing to scrape"),
    "a name without a password": (
        {"monitoring__email_user": "me", "monitoring__email_to": "me@example.org"},
        "monitoring.email_user and monitoring.email_password_file: set both or neither",
    ),
    "a password without a name": (
        {"monitoring__email_password_file": "/run/password", "monitoring__email_to": "me@example.org"},
        "monitoring.email_user and monitoring.email_password_file: set both or neither",
    ),
    "a login for nobody": (
        {"monitoring__email_user": "me", "monitoring__email_password_file": "/run/password"},
        "monitoring.email_user and monitoring.email_to: a login without a recipient",
    ),
    "a mail server at no port": (
        {"monitoring__email_to": "me@example.org", "monitoring__email_smarthost": "localhost:99999"},
        "monitoring.email_smarthost: 99999 is not a port",
    ),
    "an address and its file": (
        {"monitoring__webhook_url": "http://127.0.0.1:8008/", "monitoring__webhook_url_file": "/run/webhook"},
        "monitoring.webhook_url and monitoring.webhook_url_file: set only one of them",
    ),
    "a part of a millisecond": (
        {"monitoring__retention": "0.0015s"},
        "monitoring.retention: Prometheus counts in whole milliseconds",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_by_name(tmp_path: Path, case: str) -> None:
    changed, says = REFUSED[case]
    with pytest.raises(ConfigurationError) as caught:
        render(settings_of(tmp_path, **changed))
    assert says in caught.value.details["problems"]  # type: ignore[operator]
    assert f"\n  {says}" in caught.value.message


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, metrics__enabled=False, server__port=0, monitoring__tempo_port=3000)
    with pytest.raises(ConfigurationError) as caught:
        render(settings)
    assert len(caught.value.message.splitlines()) == 1 + 3


def test_any_free_port_for_the_local_browser_is_fine(tmp_path: Path) -> None:
    assert render(settings_of(tmp_path, server__plain_port=0))


def test_two_servers_need_ports_and_a_directory_of_their_own(tmp_path: Path) -> None:
    first, second = settings_of(tmp_path), settings_of(tmp_path, server__port=9000, server__plain_port="off")
    with pytest.raises(ConfigurationError) as caught:
        render(first, [second])
    assert caught.value.details["problems"] == [
        "metrics.port is 9090 and metrics.port of server 2 is 9090: each needs a port of its own",
        f"data.dir of server 1 and of server 2: both are {tmp_path / 'data'}",
    ]


def test_what_the_stack_would_be_of_the_second_server_does_not_matter(tmp_path: Path) -> None:
    second = settings_of(
        tmp_path / "second", server__port=9000, server__plain_port="off", metrics__port=9001, monitoring__loki_port=3000
    )
    assert render(settings_of(tmp_path), [second])
