"""The table of checks, which run at the same time, each within a time limit."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from pocket_agent.monitoring.doctor.delivery import ALERTS_SECONDS, check_delivery
from pocket_agent.monitoring.doctor.in_force import with_suffix
from pocket_agent.monitoring.doctor.machine_checks import (
    check_agent,
    check_certificate,
    check_clock,
    check_directory,
    check_log,
    kernel_time_state,
)
from pocket_agent.monitoring.doctor.result import Context, Result, failed, ok
from pocket_agent.monitoring.doctor.server_checks import check_collector, check_metrics, check_server
from pocket_agent.monitoring.doctor.stack_checks import (
    absence,
    check_alertmanager,
    check_probe,
    check_prometheus,
    check_secrets,
    is_set_up,
)
from pocket_agent.observability.health import in_thread

_SECONDS: Final = 20.0
"""Limit of a check; the CLI alone may take eleven seconds to give up."""
_DISK_SECONDS: Final = 5.0

Results = Result | Iterable[Result]


class DoctorCheck(NamedTuple):
    """A row of the table.

    Attributes:
        name: of its result when it fails or takes too long.
        run: returns one result or several.
        seconds: how long it may take.
    """

    name: str
    run: Callable[[], Awaitable[Results]]
    seconds: float = _SECONDS


async def examine(
    context: Context,
    *,
    alerts: bool = False,
    time_state: Callable[[], int | None] = kernel_time_state,
) -> list[Result]:
    """Run all checks.

    Args:
        context: the server.
        alerts: send a test alert to the receivers of alerts as well.
        time_state: returns the state of the clock.
    """
    found = await asyncio.gather(*(run_check(check) for check in _table(context, alerts, time_state)))
    if alerts:  # afterwards, since its rules and alerts are in none of the settings
        found.append(
            await run_check(
                DoctorCheck("alert delivery", partial(check_delivery, context), ALERTS_SECONDS + 2 * _SECONDS)
            )
        )
    return [result for results in found for result in results]


def _table(context: Context, alerts: bool, time_state: Callable[[], int | None]) -> list[DoctorCheck]:
    settings = context.settings
    on_disk = partial(_on_disk, "doctor-disk")
    return [
        DoctorCheck("settings", partial(_settings, context)),
        DoctorCheck("data directory", on_disk(partial(check_directory, context)), _DISK_SECONDS),
        DoctorCheck("log", on_disk(partial(check_log, settings.logging)), _DISK_SECONDS),
        DoctorCheck("clock", on_disk(lambda: check_clock(time_state()))),
        DoctorCheck("claude", partial(check_agent, context)),
        DoctorCheck("certificate", partial(check_certificate, settings, context.target)),
        DoctorCheck("server", partial(check_server, context)),
        DoctorCheck("metrics", partial(check_metrics, context)),
        DoctorCheck("traces", partial(check_collector, context)),
        DoctorCheck("receiver file", on_disk(lambda: list(check_secrets(settings.monitoring))), _DISK_SECONDS),
        DoctorCheck("monitoring", partial(_stack, context, wanted=alerts), 3 * _SECONDS),
    ]


async def run_check(check: DoctorCheck) -> Sequence[Result]:
    """The results of a check; no failure of it ends the others."""
    try:
        async with asyncio.timeout(check.seconds):
            found = await check.run()
    except TimeoutError:
        fix = "Something that it asks hangs: a disk, or a program. The other results may show which."
        return [failed(check.name, f"could not be examined within {check.seconds:g} s", fix)]
    except Exception as error:  # noqa: BLE001 - the border of a check
        what = f"could not be examined: {type(error).__name__}: {error}"
        return [failed(check.name, what, "This is a fault of pocket-agent doctor: please report it.")]
    return [found] if isinstance(found, Result) else list(found)


def _on_disk(name: str, work: Callable[[], Results]) -> Callable[[], Awaitable[Results]]:
    """In a thread that is abandoned when its disk hangs."""
    return lambda: in_thread(work, name)


async def _settings(context: Context) -> Result:
    loaded = context.loaded
    chosen = len(context.chosen(""))
    return ok("settings", f"{loaded.file or 'no file'}; {chosen} of {len(loaded.sources)} are not the default")


async def _stack(context: Context, *, wanted: bool) -> list[Result]:
    """The monitoring stack, if there is one."""
    if not wanted and not await is_set_up(context):
        return [absence()]
    context = await with_suffix(context)
    checks = (
        DoctorCheck("prometheus", partial(check_prometheus, context)),
        DoctorCheck("alertmanager", partial(check_alertmanager, context)),
        DoctorCheck("websocket probe", partial(check_probe, context)),
    )
    found = await asyncio.gather(*(run_check(check) for check in checks))
    return [result for results in found for result in results]
