"""The list of all runbooks, which is what the alerts say of themselves."""

from collections.abc import Iterable
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.alert import find_alerts
from pocket_agent.monitoring.objective import burn_alerts
from pocket_agent.monitoring.rule import Alert, Severity

_HEAD: Final = """\
# Runbooks

<!-- Generated from the code: change the code, then run `make generate`. -->

What to do when an alert fires: a page for each. The server shows them at `/docs/runbooks/NAME`, without a token, and
every alert links to its own; `pocket-agent runbook NAME` shows them in a terminal, whether or not the server runs.

- `pocket-agent doctor` looks at everything at once and says how to mend what it finds; begin with it. Give it the
  settings that the server has (`--config`, `--data-dir`, the same `PA_*` variables).
- Queries go into Prometheus (`http://127.0.0.1:9091/graph`), or `promtool query instant http://127.0.0.1:9091 QUERY`.
- The log is the journal of a service, `journalctl -u pocket-agent -o cat`; of a server with `logging.output: FILE` it
  is that file: put `cat FILE` in its place. [Its messages](../logging.md) are lines of JSON.
- Addresses are the usual ones; `pocket-agent config` shows yours. The data directory is
  `~/.local/share/pocket-agent`, of a service `/var/lib/pocket-agent`.
- Most settings count from SIGHUP on (`systemctl reload pocket-agent`), the others when the server is started again
  ([which](../settings.md)). Starting it again is harmless: agents that work go on, the next server takes them over,
  and clients catch up.

Conditions and thresholds below are those of the default settings.
"""
_ORDER: Final[dict[Severity, str]] = {
    "critical": "Somebody is woken",
    "warning": "Somebody looks at it today",
    "info": "Good to know",
    "none": "Always fires",
}


def render_runbook_index() -> str:
    """`docs/runbooks/README.md`."""
    settings = Settings()
    alerts = (*find_alerts(settings), *burn_alerts(settings))
    parts = [_HEAD]
    for severity, title in _ORDER.items():
        rows = _rows(alert for alert in alerts if alert.severity == severity)
        parts.append(f"## {title} (`{severity}`)\n\n| alert | after | when |\n|---|---|---|\n{rows}")
    return "\n".join(parts)


def _rows(alerts: Iterable[Alert]) -> str:
    """A line for each alert; those of several objectives share a page, and a line."""
    lines: dict[str, str] = {}
    for alert in alerts:
        meaning = _OBJECTIVES if alert.constants else alert.meaning
        lines.setdefault(alert.name, f"| [{alert.name}]({alert.name}.md) | {alert.hold} | {meaning} |\n")
    return "".join(lines.values())


_OBJECTIVES: Final = "Too much of what an objective allows in 30 days was used up within hours or days."
