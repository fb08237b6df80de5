"""The blackbox exporter: whether clients get in, seen from outside."""

from collections.abc import Sequence
from typing import Any, Final

from pocket_agent.monitoring.output import Head, RenderedFile, yaml_file
from pocket_agent.monitoring.target import Target
from pocket_agent.protocol.frame import PROBE

_HEAD: Final = Head(
    what="Blackbox exporter: a WebSocket upgrade up to its 101, and /livez over HTTP.",
    place="/etc/prometheus/blackbox.yml",
    reload="blackbox_exporter --config.check --config.file=FILE, then SIGHUP or POST /-/reload",
    notes=("The files of ca_file must be readable by the exporter's user.",),
)


def blackbox_file(targets: Sequence[Target]) -> RenderedFile:
    """`blackbox/blackbox.yml`; a second server has modules of its own, named with its number."""
    modules: dict[str, Any] = {}
    for number, target in enumerate(targets):
        suffix = "" if number == 0 else f"_{number + 1}"
        modules[f"websocket_check{suffix}"] = _websocket(target)
        modules[f"http_check{suffix}"] = _http(target)
    return yaml_file("blackbox/blackbox.yml", _HEAD, {"modules": modules})


def _tls(target: Target) -> dict[str, Any]:
    return {
        "insecure_skip_verify": False,
        **({"ca_file": str(target.ca_file)} if target.ca_file else {}),
        **({"server_name": target.server_name} if target.server_name else {}),
    }


def _websocket(target: Target) -> dict[str, Any]:
    # The key is the example of RFC 6455, section 1.2: nothing depends on it.
    asked = [
        "GET /ws HTTP/1.1",
        f"Host: {target.server_name or target.address}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Sec-WebSocket-Protocol: {PROBE}",
        "",
    ]
    # The exporter ends each line that it sends with a line feed of its own.
    steps: list[dict[str, str]] = [{"send": line + "\r"} for line in asked]
    return {
        "prober": "tcp",
        "timeout": "5s",
        "tcp": {
            "tls": target.tls,
            **({"tls_config": _tls(target)} if target.tls else {}),
            "query_response": [*steps, {"expect": "^HTTP/1.1 101 "}],
        },
    }


def _http(target: Target) -> dict[str, Any]:
    return {
        "prober": "http",
        "timeout": "5s",
        "http": {
            "valid_status_codes": [200],
            "valid_http_versions": ["HTTP/1.1", "HTTP/2.0"],
            "method": "GET",
            "fail_if_not_ssl": target.tls,
            **({"tls_config": _tls(target)} if target.tls else {}),
        },
    }
