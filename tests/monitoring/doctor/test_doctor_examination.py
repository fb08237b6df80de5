"""pocket_agent.monitoring.doctor.examination: bounds, borders, and a machine without a stack."""

import asyncio
import dataclasses
import threading
from collections.abc import Mapping
from pathlib import Path

from pocket_agent.monitoring.doctor.checks import DoctorCheck, examine, run_check
from pocket_agent.monitoring.doctor.result import Context, Result, ok
from pocket_agent.monitoring.doctor.stack_checks import is_set_up
from pocket_agent.observability.health import in_thread
from pocket_agent.settings import DEFAULT, load_settings
from tests.harness.clinic import NOWHERE, Findings, in_time, one
from tests.harness.server import free_port


def unused_ports() -> dict[str, int]:
    """Free ports for the stack."""
    return {f"monitoring.{name}_port": free_port() for name in ("prometheus", "alertmanager", "blackbox", "node")}


def context(tmp_path: Path, flags: Mapping[str, object] | None = None) -> Context:
    """A server that does not run, with a stack that is not there."""
    ports = {"server.port": free_port(), "metrics.port": free_port(), **unused_ports()}
    given = {"data.dir": tmp_path, **ports, **(flags or {})}
    return Context(load_settings(config=None, environ={"HOME": "/"}, flags=given), {"PATH": ""}, installed=NOWHERE)


def unmonitored(tmp_path: Path, flags: Mapping[str, object] | None = None) -> Context:
    """The same where nobody has chosen these ports: they stand for the usual ones, which others may have here."""
    made = context(tmp_path, flags)
    sources = {key: DEFAULT if key.startswith("monitoring.") else source for key, source in made.loaded.sources.items()}
    return dataclasses.replace(made, loaded=dataclasses.replace(made.loaded, sources=sources))


async def test_a_part_that_hangs_is_given_up() -> None:
    async def hang() -> list[Result]:
        await asyncio.Event().wait()
        return []

    finding = one(await run_check(DoctorCheck("a part", hang, 0.05)))
    assert (finding.name, finding.status) == ("a part", "failed")
    assert finding.message == "could not be examined within 0.05 s"


async def test_a_disk_that_hangs_keeps_nobody() -> None:
    release = threading.Event()

    async def hang() -> list[Result]:
        await in_thread(release.wait, "a-disk")
        return []

    assert one(await run_check(DoctorCheck("disk", hang, 0.05))).status == "failed"
    release.set()


async def test_a_fault_of_the_doctor_is_told_and_ends_nothing() -> None:
    async def fail() -> list[Result]:
        raise KeyError("what")

    finding = one(await run_check(DoctorCheck("a part", fail)))
    assert finding.message == "could not be examined: KeyError: 'what'"
    assert "report" in finding.fix


async def test_a_part_may_find_one_thing_or_several() -> None:
    async def single() -> Result:
        return ok("one", "is well")

    async def several() -> list[Result]:
        return [ok("one", "is well"), ok("two", "is well")]

    assert len(await run_check(DoctorCheck("a part", single))) == 1
    assert len(await run_check(DoctorCheck("a part", several))) == 2


async def test_who_has_no_stack_is_told_how_to_get_one_and_nothing_else(tmp_path: Path) -> None:
    found = Findings(await examine(unmonitored(tmp_path), time_state=in_time))
    finding = found.of("monitoring")
    assert (finding.status, "monitoring up" in finding.fix) == ("skipped", True)
    names = {finding.name for finding in found}
    assert names.isdisjoint({"prometheus", "alertmanager", "websocket probe", "alert delivery"})


async def test_a_stack_that_somebody_has_chosen_is_looked_at(tmp_path: Path) -> None:
    found = Findings(await examine(context(tmp_path), time_state=in_time))
    assert {"prometheus", "alertmanager"} <= found.failures
    assert found.of("websocket probe").status == "warning"


async def test_who_asks_for_an_alert_wants_a_stack(tmp_path: Path) -> None:
    found = Findings(await examine(unmonitored(tmp_path), alerts=True, time_state=in_time))
    assert {"prometheus", "alertmanager", "alert delivery"} <= found.failures


async def test_what_counts_as_a_stack(tmp_path: Path) -> None:
    assert not await is_set_up(unmonitored(tmp_path))
    assert await is_set_up(context(tmp_path)), "somebody has chosen its ports"
    config = tmp_path / "prometheus.yml"
    made = dataclasses.replace(unmonitored(tmp_path), installed=config)
    config.write_text("scrape_configs:\n- job_name: node\n", "utf-8")
    assert not await is_set_up(made), "a Prometheus that is for something else"
    config.write_text("scrape_configs:\n- job_name: pocket-agent\n", "utf-8")
    assert await is_set_up(made)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await is_set_up(unmonitored(tmp_path, {"monitoring.blackbox_port": port}))
