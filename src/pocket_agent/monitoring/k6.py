"""The load test for k6, with this server's address in it."""

import json
from importlib.resources import files
from typing import Final

from pocket_agent.monitoring.output import Head, RenderedFile, text_file
from pocket_agent.monitoring.target import Target

_USUAL: Final = "'wss://127.0.0.1:8443/ws'"
_HEAD: Final = Head(
    what="k6: a load test of the server, in the stages of the monitoring guide.",
    place="anywhere: k6 run --no-usage-report load-test.js",
    reload="is read at each run",
)


def k6_file(target: Target) -> RenderedFile:
    """`k6/load-test.js`."""
    script = files(__package__).joinpath("templates", "load-test.js").read_text("utf-8")
    if script.count(_USUAL) != 1:
        raise AssertionError("the script names its usual address once")
    body = script.replace(_USUAL, json.dumps(target.socket).replace('"', "'"))
    return text_file("k6/load-test.js", _HEAD, body, mark="//")
