"""The web client in a real browser: a conversation of ten thousand entries, opened and scrolled through."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, CDPSession, Page
from tests.harness.browser import DESKTOP, PHONE, WAIT_MS, browsing, page_of
from tests.harness.screen import Screen, screen
from tests.harness.server import ServerProcess

from benchmarks.row import Row, median, percentile
from benchmarks.stage import fill
from pocket_agent.demo.scenario import MARKDOWN_TEXT
from pocket_agent.model import project_of

_ENTRIES = 10_000
_ROUNDS = 5
_FRAMES = 120
_STEP_PIXELS = 100
"""How far a frame scrolls: 6,000 pixels a second, a brisk flick of a finger."""
_PROJECT = project_of("00000000-0000-4000-8000-000000000001")

_FORGET_WORKER = """async () => {
    for (const worker of await navigator.serviceWorker.getRegistrations()) await worker.unregister();
}"""

_SCROLL = """async ([direction, frames, step]) => {
    const list = document.querySelector('.list');
    const times = [];
    await new Promise((done) => {
        let last;
        const frame = (now) => {
            if (last !== undefined) times.push(now - last);
            last = now;
            list.scrollTop += direction * step;
            if (times.length < frames) requestAnimationFrame(frame);
            else done();
        };
        requestAnimationFrame(frame);
    });
    return times;
}"""
"""Scrolls a little with each frame; how long each of them took, in milliseconds."""

OPEN = """([path, entry]) => new Promise((done) => {
    const began = performance.now();
    document.querySelector(`.projects a[href="${path}"]`).click();
    const look = () => {
        if (document.querySelector(entry) === null) requestAnimationFrame(look);
        else requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
    };
    look();
})"""
"""Opens a project by its link; how long it took until an entry was painted that a selector matches, in milliseconds."""

_THROUGH = """async (direction) => {
    const list = document.querySelector('.list');
    const times = [];
    let last;
    for (let still = 0; still < 40;) {
        const before = list.scrollTop;
        list.scrollTop += direction * list.clientHeight * 8;
        const now = await new Promise((done) => requestAnimationFrame(done));
        if (last !== undefined) times.push(now - last);
        last = now;
        still = Math.abs(list.scrollTop - before) < 1 ? still + 1 : 0;
        if (still === 0) continue;
        last = undefined;
        await new Promise((done) => setTimeout(done, 20));
    }
    return times;
}"""
"""Scrolls eight screens with each frame until the list ends; how long the frames took, in milliseconds."""

_EMPTY = "<div class='list' style='overflow: auto; height: 100vh'><div style='height: 100000px'></div></div>"


async def run(folder: Path, scale: float) -> list[Row]:
    """Measure what a person feels."""
    made = ServerProcess(folder, env={"PA_LOG_LEVEL": "info", "PA_CLAUDE_BINARY": "/nonexistent"})
    await fill(made, folder / "project", islice(_lines(), max(500, int(_ENTRIES * scale))))
    try:
        await made.start()
        async with browsing() as browser:
            return [*await _first_load(made, browser), *await _conversation(made, browser, scale)]
    finally:
        await made.clean_up()


async def _first_load(made: ServerProcess, browser: Browser) -> list[Row]:
    """From nothing to the list of projects, with an empty cache."""
    times = []
    for _ in range(_ROUNDS):
        async with screen(browser, made) as seen:
            session = await seen.page.context.new_cdp_session(seen.page)
            await session.send("Network.clearBrowserCache")
            await seen.page.evaluate(_FORGET_WORKER)
            await seen.go("/")
            await seen.page.wait_for_selector(".project", timeout=WAIT_MS)
            times.append(await seen.page.evaluate("performance.now()"))
    return [
        Row("web: first load until the projects are there", median(times), "ms", "below 1,000", median(times) < 1000)
    ]


async def _conversation(made: ServerProcess, browser: Browser, scale: float) -> list[Row]:
    rows = []
    for name, size in (("phone", PHONE), ("desktop", DESKTOP)):
        async with screen(browser, made, size=size) as seen:
            opened = await _opened(seen)
            rows.append(Row(f"web, {name}: a project until it is painted", opened, "ms", "below 1,000", opened < 1000))
            rows += await _scrolling(browser, seen, name, scale)
            if size is PHONE:
                rows += await _memory(seen, name)
    return rows


async def _opened(seen: Screen) -> float:
    times = []
    for _ in range(_ROUNDS):
        await seen.go("/")
        await seen.page.wait_for_selector(".project", timeout=WAIT_MS)
        times.append(float(await seen.page.evaluate(OPEN, [f"/p/{_PROJECT}", ".list-row"])))
    return median(times)


async def _scrolling(browser: Browser, seen: Screen, name: str, scale: float) -> list[Row]:
    """Frames of a brisk flick, up and down, each round next to a page on which there is nothing to do."""
    rates, shares = [], []
    frames: list[float] = []
    async with page_of(browser, "about:blank", seen.page.viewport_size or DESKTOP) as empty:
        await empty.set_content(_EMPTY)
        for direction in (-1, 1):
            for _ in range(_ROUNDS):
                possible = _rate(await _scrolled(empty, -direction, scale))
                taken = await _scrolled(seen.page, direction, scale)
                rates.append(_rate(taken))
                shares.append(rates[-1] / possible)
                frames += taken
    rate, share = median(rates), median(shares)
    return [
        Row(f"web, {name}: frames while scrolling", rate, "/s", "at least 50", rate >= 50),
        Row(f"web, {name}: the same against an empty page", share, "x", "at least 0.9", share >= 0.9),
        Row(f"web, {name}: the longest of a hundred frames", percentile(frames, 99), "ms"),
    ]


async def _scrolled(page: Page, direction: int, scale: float) -> list[float]:
    times: list[float] = await page.evaluate(_SCROLL, [direction, max(30, int(_FRAMES * scale)), _STEP_PIXELS])
    return times


def _rate(frames: list[float]) -> float:
    return 1000 * len(frames) / sum(frames)


async def _memory(seen: Screen, name: str) -> list[Row]:
    """What is held after the whole conversation was seen once, and again, its history read as it comes into sight."""
    session = await seen.page.context.new_cdp_session(seen.page)
    held = [await _held(session)]
    frames: list[float] = []
    for _ in range(2):
        for direction in (-1, 1):
            frames += await seen.page.evaluate(_THROUGH, direction)
        held.append(await _held(session))
    (begun, _), (once, few), (again, many) = held
    grown, more = again / once, many / few
    return [
        Row(f"web, {name}: frames through everything, eight screens each", _rate(frames), "/s"),
        Row(f"web, {name}: memory at the start", begun, "MB"),
        Row(f"web, {name}: after all was seen once", once, "MB"),
        Row(f"web, {name}: the same after it was seen again", grown, "x", "at most 1.2", grown <= 1.2),
        Row(f"web, {name}: nodes in the document", many, ""),
        Row(f"web, {name}: against those after the first time", more, "x", "at most 1.2", more <= 1.2),
    ]


async def _held(session: CDPSession) -> tuple[float, float]:
    """Megabytes of the heap and nodes, without what nothing refers to any more."""
    for _ in range(3):
        await session.send("HeapProfiler.collectGarbage")
        await asyncio.sleep(0.1)
    usage: dict[str, Any] = await session.send("Runtime.getHeapUsage")
    counters: dict[str, Any] = await session.send("Memory.getDOMCounters")
    return float(usage["usedSize"]) / 1e6, float(counters["nodes"])


def _lines() -> Iterator[tuple[str, dict[str, Any]]]:
    """Turns of a working day, for ever."""
    turn = 0
    while True:
        turn += 1
        prompt = f"Please look at part {turn} of the cart, and mend what is wrong with it."
        yield "prompt", {"execution_id": f"e{turn}", "prompt": prompt, "by": "phone"}
        yield "agent_message", _said({"type": "thinking", "thinking": f"I should look at part {turn} first. " * 8})
        for step in range(4):
            yield "agent_message", _said({"type": "text", "text": f"Step {step + 1}: I look at `cart_{turn}.py`."})
            name, given, answer = _TOOLS[step]
            call = f"t{turn}-{step}"
            yield "agent_message", _said({"type": "tool_use", "id": call, "name": name, "input": given})
            result = {"type": "tool_result", "tool_use_id": call, "content": answer}
            yield "agent_message", {"type": "user", "message": {"role": "user", "content": [result]}}
        yield "agent_message", _said({"type": "text", "text": MARKDOWN_TEXT})
        usage = {"input_tokens": 1000, "output_tokens": 500}
        yield "agent_message", {"type": "result", "is_error": False, "duration_ms": 12_345, "usage": usage}


def _said(block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "assistant", "message": {"role": "assistant", "content": [block]}, "parent_tool_use_id": None}


_CODE = "".join(f"    line_{number} = compute({number}, rounding=ROUND_HALF_EVEN)\n" for number in range(60))
_TOOLS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("Bash", {"command": "pytest -q tests/test_cart.py"}, "\x1b[32m.\x1b[0m" * 60 + "\n60 passed in 1.20s"),
    ("Read", {"file_path": "/project/cart.py"}, _CODE),
    ("Edit", {"file_path": "/project/cart.py", "old_string": _CODE, "new_string": _CODE.replace("_3", "_three")}, "ok"),
    ("Grep", {"pattern": "ROUND_HALF_EVEN", "path": "/project"}, "\n".join(f"cart.py:{n}" for n in range(40))),
)
