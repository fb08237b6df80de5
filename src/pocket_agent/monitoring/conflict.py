"""Settings that are fine for a server, and of which no stack could be made that works."""

from collections.abc import Iterator, Sequence

from pocket_agent.config.settings import MonitoringSettings, Settings
from pocket_agent.errors import ConfigurationError
from pocket_agent.monitoring.port import Listener, listeners


def refuse_conflicts(settings: Settings, others: Sequence[Settings] = ()) -> None:
    """Check before anything is rendered.

    Raises:
        ConfigurationError: with every problem, one a line; each names the settings.
    """
    problems = [
        *_unreachable(settings, others),
        *_clashes(listeners(settings, others)),
        *_shared(settings, others),
        *_receivers(settings.monitoring),
        *_durations(settings.monitoring),
    ]
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigurationError(
            f"No monitoring stack can be made of these settings:{listed}", details={"problems": problems}
        )


def _unreachable(settings: Settings, others: Sequence[Settings]) -> Iterator[str]:
    for number, server in enumerate((settings, *others), start=1):
        if not server.metrics.enabled:
            whose = "" if number == 1 else f" of server {number}"
            yield f"metrics.enabled{whose}: off, so there is nothing to scrape"


def _clashes(found: Iterator[Listener]) -> Iterator[str]:
    """Ports that are not known beforehand, and ports that two would listen on."""
    taken: dict[int, Listener] = {}
    for listener in found:
        first = taken.setdefault(listener.number, listener)
        if listener.number == 0:
            yield f"{listener.name}: 0 is any free port, where nobody would find it; give it a number"
        elif first is not listener and not (first.fixed and listener.fixed):
            yield f"{first} and {listener}: each needs a port of its own"


def _shared(settings: Settings, others: Sequence[Settings]) -> Iterator[str]:
    seen = {settings.data.dir: 1}
    for number, other in enumerate(others, start=2):
        first = seen.setdefault(other.data.dir, number)
        if first != number:
            yield f"data.dir of server {first} and of server {number}: both are {other.data.dir}"


def _receivers(stack: MonitoringSettings) -> Iterator[str]:
    for name, url, file in (
        ("webhook_url", stack.webhook_url, stack.webhook_url_file),
        ("watchdog_url", stack.watchdog_url, stack.watchdog_url_file),
    ):
        if url is not None and file is not None:
            yield f"monitoring.{name} and monitoring.{name}_file: one address, given in one way"
    if (stack.email_user is None) != (stack.email_password_file is None):
        yield "monitoring.email_user and monitoring.email_password_file: a name and its password go together"
    if stack.email_to is None:
        if stack.email_user is not None:
            yield "monitoring.email_user and monitoring.email_to: a login, and nobody to write to"
        return
    port = stack.email_smarthost.rpartition(":")[2]
    if not 0 < int(port) <= 65535:
        yield f"monitoring.email_smarthost: {port} is no port"


def _durations(stack: MonitoringSettings) -> Iterator[str]:
    """Prometheus counts in milliseconds (model.Duration)."""
    for key, seconds in (("scrape_interval", stack.scrape_interval), ("retention", stack.retention)):
        if round(seconds * 1000) < 1 or abs(seconds * 1000 - round(seconds * 1000)) > 1e-6:
            yield f"monitoring.{key}: Prometheus counts in whole milliseconds"
