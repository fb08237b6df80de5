"""pocket_agent.monitoring.doctor.examination: bounds, borders, and a machine without a stack."""

import asyncio
import dataclasses
import itertools
import json
import string
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiohttp import web

from pocket_agent.monitoring.doctor.checks import DoctorCheck, examine, run_check
from pocket_agent.monitoring.doctor.result import Context, Result, ok
from pocket_agent.monitoring.doctor.stack_checks import is_set_up
from pocket_agent.monitoring.files import read_mapping
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


DEEP = "[" * 100_000
DOUBLED = "".join(
    f"{name}: &{name} [*{before}, *{before}]\n" for before, name in itertools.pairwise(string.ascii_lowercase)
)
BOMB = f"a: &a [x, x]\n{DOUBLED}"
MERGES = f"a: &a {{x: 1}}\n{DOUBLED}".replace("[", "{<<: [").replace("]", "]}")


@pytest.mark.parametrize(
    "text",
    [DEEP, "x: " + "{a: " * 100_000, "? " * 100_000, BOMB, MERGES, "x: &x [*x]", "x: !!bool y", "x: !!int ''",
     "x: 2001-99-99", f"x: {'1' * 5000}", "x: !!timestamp y", 'x: "\\UFFFFFFFF"', "[]", ""],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_document_that_is_too_large_or_not_a_mapping_is_empty(text: str) -> None:
    assert read_mapping(text) == {}


def test_anchors_of_a_file_that_a_user_wrote_are_resolved() -> None:
    text = "a: &a {x: 1}\nb: {<<: *a, y: &two 2}\nc: [*two, *a]\n"
    assert read_mapping(text) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [2, {"x": 1}]}


def configured(text: str) -> bytes:
    """A reply of each program, with this configuration."""
    times = {
        "startTime": "2026-01-01T00:00:00Z",
        "result": [{"metric": {}, "value": [1, "x"]}],
        "version": "3",
        "groups": [],
    }
    data = {"yaml": text, "activeTargets": [], "activeAlertmanagers": [], **times}
    return json.dumps({"status": "success", "data": data, "config": {"original": text}}).encode()


@pytest.mark.parametrize(
    "answer",
    [
        DEEP.encode(),
        b'{"status": "success", "data": ' + DEEP.encode(),
        b'{"status": "\xff"}',
        json.dumps({"status": "success", "data": {"yaml": DEEP}, "config": {"original": DEEP}}).encode(),
        b"modules: " + DEEP.encode(),
        *map(configured, ("scrape_configs: [1]", "scrape_configs: [{job_name: x, static_configs: 1}]", "rule_files: 1",
                          "scrape_configs: [{job_name: [x]}]", "receivers: [x]", "route: []", "inhibit_rules: [x]",
                          "route: {routes: [1]}")),
        b"modules: [probe_success, 1]",
        b"modules: {probe_success: 1}",
        b"probe_success 1",
    ],
    ids=lambda answer: repr(answer[:12]),
)  # fmt: skip
async def test_nonsense_of_the_programs_is_a_fault_of_theirs(tmp_path: Path, answer: bytes) -> None:
    async def reply(_: web.Request) -> web.Response:
        return web.Response(body=answer)

    made = context(tmp_path)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", reply)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        for url in (made.prometheus, made.alertmanager, made.blackbox):
            await web.TCPSite(runner, "127.0.0.1", int(url.rpartition(":")[2])).start()
        found = Findings(await examine(made, time_state=in_time))
    finally:
        await runner.cleanup()
    assert not [finding for finding in found if "report it" in finding.fix]
    assert {"prometheus", "prometheus configuration", "websocket probe"} & found.failures
