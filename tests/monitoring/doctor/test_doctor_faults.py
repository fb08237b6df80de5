"""Faults that are planted in a running stack: doctor names each of them, says how to mend it, and nothing else.

Each row changes a rendered file, which the real program loads. `make test` plants those that are marked `quick`.
"""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import yaml

from pocket_agent.monitoring.doctor.probes import get
from tests.harness.clinic import Clinic, open_clinic
from tests.harness.follow import eventually
from tests.harness.tool import GENERATIONS, require_tool

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROGRAMS = {"prometheus": "prometheus", "alertmanager": "alertmanager", "blackbox": "blackbox_exporter"}
RESULTS = {"prometheus": "prometheus configuration", "alertmanager": "alertmanager configuration"}


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of a rendered file and the result that names it.

    Attributes:
        name: what is wrong.
        path: of the file.
        changes: the values by their place.
        result: the name of the result.
        texts: words of its message.
        quick: whether `make test` plants it.
    """

    name: str
    path: str
    changes: dict[str, Any]
    texts: list[str]
    result: str = ""
    quick: bool = False

    @property
    def program(self) -> str:
        """The program that loads the file."""
        return PROGRAMS[self.path.partition("/")[0]]


FAULTS = msgspec.convert(yaml.safe_load(Path(__file__).with_name("faults.yml").read_text("utf-8")), list[Fault])


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=GENERATIONS.values(), ids=list(GENERATIONS))
async def clinic(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clinic]:
    for name in ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter", "prometheus-blackbox-exporter"):
        require_tool(name, request.param)
    async with open_clinic(tmp_path_factory.mktemp("clinic"), request.param) as opened:
        await opened.recovers()
        yield opened


def plant(file: Path, changes: Mapping[str, Any], metrics_port: str) -> None:
    """Change values of a YAML file."""
    tree = yaml.safe_load(file.read_text("utf-8"))
    for place, value in changes.items():
        filled = yaml.safe_load(json.dumps(value).replace("${metrics}", metrics_port))
        *parents, last = place.split("/")
        node = tree
        for key in parents:
            node = node[position(node, key)]
        if last in {"+", "0+"}:
            node.insert(len(node) if last == "+" else 0, filled)
        elif value is None:
            del node[position(node, last)]
        else:
            node[position(node, last)] = filled
    file.write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")


def position(node: Any, key: str) -> Any:
    if isinstance(node, dict):
        return key
    kind, _, name = key.rpartition("=")
    if not kind:
        return int(key)
    keys = {"job": ("job_name",), "name": ("name", "alert", "record"), "receiver": ("receiver",)}[kind]
    return next(i for i, item in enumerate(node) if name in {item.get(one) for one in keys})


async def named(clinic: Clinic, fault: Fault) -> None:
    """Plant a fault, and wait until doctor names it."""
    result = fault.result or RESULTS[fault.program]
    plant(clinic.stack.folder / fault.path, fault.changes, clinic.environment["PA_METRICS_PORT"])
    seen: list[str] = []
    try:
        await clinic.stack.reload(fault.program)

        async def found() -> bool:
            results = [item for item in await clinic.look() if item.status in {"warning", "failed"}]
            seen[:] = [f"{item.name}: {item.message}" for item in results]
            assert "hush" not in str(results)
            assert "secret@" not in str(results)
            return any(item.name == result and item.fix and all(text in item.message for text in fault.texts)
                       for item in results)  # fmt: skip

        try:
            await eventually(found, f"doctor names {fault.name!r}")
        except AssertionError as error:
            raise AssertionError(f"{fault.name}: {fault.texts} is not in {seen}") from error
    finally:
        await clinic.put_back(fault.program)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.quick], ids=lambda fault: fault.name)
async def test_a_planted_fault_is_named(clinic: Clinic, fault: Fault) -> None:
    await named(clinic, fault)


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_every_planted_fault_is_named(clinic: Clinic) -> None:
    missed = []
    for fault in FAULTS:
        if not fault.quick:
            try:
                await named(clinic, fault)
            except AssertionError as error:
                missed.append(str(error))
    assert not missed, "\n".join(missed)


async def test_another_notation_of_a_condition_is_no_change(clinic: Clinic) -> None:
    path = "prometheus/rules/pocket-agent-availability.yml"
    one = 'changes(process_start_time_seconds{job="pocket-agent"}[30m]) >= 3'
    other = "((changes(process_start_time_seconds{job='pocket-agent'}[1800s]) >= (3)))"
    two = "pocket_agent_tls_not_after_timestamp_seconds > 0"
    parsed = (await get(f"{clinic.stack.url('prometheus')}/api/v1/parse_query", {"query": "up"})).status == 200
    async with clinic.changed("prometheus", path, (one, other), (two, f"({two})")):
        found = [(item.status, item.message) for item in await clinic.look() if item.name == "rules"]
    assert [status for status, _ in found] == (["ok"] if parsed else ["warning", "warning"]), found


async def test_nothing_is_found_when_all_is_put_back(clinic: Clinic) -> None:
    await clinic.recovers()
