"""Who alerts are sent to: stand-ins for Slack's webhook, PagerDuty's Events API and a dead man's switch."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from aiohttp import web

from tests.harness.follow import eventually
from tests.harness.server import free_port

ROUTING_KEY = "0123456789abcdef0123456789abcdef"


class Note(NamedTuple):
    """What Slack was asked to show."""

    title: str
    text: str


class Page(NamedTuple):
    """What PagerDuty was told (Events API v2).

    Attributes:
        action: trigger or resolve.
        key: what a resolution is matched by.
        links: the addresses that are shown with it.
    """

    action: str
    key: str
    summary: str
    severity: str
    details: dict[str, Any]
    links: tuple[str, ...]


class Receivers:
    """Records what comes.

    Attributes:
        url: where they are.
        notes: of Slack.
        pages: of PagerDuty.
        beats: of the dead man's switch, as Alertmanager's webhook sends them.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.notes: list[Note] = []
        self.pages: list[Page] = []
        self.beats: list[dict[str, Any]] = []

    @property
    def slack_url(self) -> str:
        """The address of the webhook."""
        return f"{self.url}/services/T0/B0/secret"

    @property
    def pagerduty_url(self) -> str:
        """The address of the Events API."""
        return f"{self.url}/v2/enqueue"

    @property
    def watchdog_url(self) -> str:
        """The address of the dead man's switch."""
        return f"{self.url}/watchdog"

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        return [
            web.post("/services/T0/B0/secret", self._slack),
            web.post("/v2/enqueue", self._pagerduty),
            web.post("/watchdog", self._watchdog),
        ]

    async def _slack(self, request: web.Request) -> web.Response:
        for shown in (await request.json())["attachments"]:
            self.notes.append(Note(shown["title"], shown["text"]))
        return web.Response(text="ok")

    async def _pagerduty(self, request: web.Request) -> web.Response:
        told = await request.json()
        if told["routing_key"] != ROUTING_KEY:
            return web.json_response({"status": "invalid event", "message": "no such key"}, status=400)
        payload = told.get("payload") or {}
        self.pages.append(
            Page(
                told["event_action"],
                told["dedup_key"],
                payload.get("summary", ""),
                payload.get("severity", ""),
                payload.get("custom_details", {}),
                tuple(link["href"] for link in told.get("links", ())),
            )
        )
        return web.json_response(
            {"status": "success", "message": "Event processed", "dedup_key": told["dedup_key"]}, status=202
        )

    async def _watchdog(self, request: web.Request) -> web.Response:
        self.beats.append(await request.json())
        return web.Response()

    async def note(self, alert: str, instance: str, *, resolved: bool = False) -> Note:
        """Wait for what Slack is told of an alert of a server."""
        beginning = f"Pocket Agent {'RESOLVED' if resolved else 'FIRING'}: {alert} ("
        found: list[Note] = []

        def came() -> bool:
            found[:] = [note for note in self.notes if note.title.startswith(beginning) and instance in note.text]
            return bool(found)

        await eventually(came, f"Slack is told: {beginning}…) of {instance}")
        return found[0]

    async def page(self, alert: str, instance: str, *, action: str = "trigger") -> Page:
        """Wait for what PagerDuty is told of an alert of a server."""
        found: list[Page] = []

        def came() -> bool:
            known = {page.key for page in self.pages if alert in page.summary and instance in str(page.details)}
            found[:] = [page for page in self.pages if page.action == action and page.key in known]
            return bool(found)

        await eventually(came, f"PagerDuty is told: {action} {alert} of {instance}")
        return found[0]


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receivers]:
    """Stand-ins that are there."""
    port = free_port()
    receivers = Receivers(f"http://127.0.0.1:{port}")
    application = web.Application()
    application.add_routes(receivers.routes())
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield receivers
    finally:
        await runner.cleanup()
