"""The README of a rendered directory: what each file is, where it goes, and what a person has to do."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from pocket_agent.config.settings import MonitoringSettings, Settings
from pocket_agent.monitoring.output import RenderedFile
from pocket_agent.monitoring.target import Target

_TEXT: Final = """\
<!-- Written by `pocket-agent monitoring render`; change the server's settings and render again. -->

# The monitoring stack of {servers}

Everything here is made from the settings of the server. Render again after you have changed them: files that you
changed yourself are left alone and named, unless you give `--force`.

```sh
pocket-agent monitoring check .    # ask the installed programs whether they accept their files
pocket-agent monitoring up .       # run the installed programs until Ctrl-C
docker compose up -d               # or run all of it in containers
```

As services: each file goes to its place (below), then `systemctl daemon-reload` and `systemctl enable --now UNIT`.
The units have Debian's names, so that they replace those of the packages; run one of each only.

## Addresses

{addresses}

## Files that are read and are not here

{further}
## Files

Each begins with a comment that says the same. JSON can hold none: of the files that end in `json` it stands only here.

| file | what it is | where it goes | how it is taken up |
|---|---|---|---|
{files}
"""
_SECRETS: Final = """\
Secrets stand in files of their own: one line each, and only for who needs it. As services Prometheus and Alertmanager
run as `prometheus` (`chgrp prometheus FILE; chmod 640 FILE`), in containers as uid 65534.

| file | what it holds | who must be able to read it |
|---|---|---|
"""
_TESTS: Final = "prometheus/tests"
_TESTS_ROW: Final = (
    f"{_TESTS}/*.yml",
    "Tests of the rules, a file for each alert: what makes it fire, and what must not.",
    "beside rules/, wherever that is; Prometheus does not read them",
    "nothing to take up: promtool test rules FILE",
)


def index_file(files: Sequence[RenderedFile], settings: Settings, targets: Sequence[Target]) -> RenderedFile:
    """`README.md`."""
    listed = sorted(files, key=lambda file: file.path)
    rows = [_row(file) for file in listed if not file.path.startswith(f"{_TESTS}/")]
    if len(rows) < len(listed):
        rows.append(_TESTS_ROW)
    text = _TEXT.format(
        servers=", ".join(target.url for target in targets),
        addresses=_addresses(settings, targets),
        further=_further(settings.monitoring, targets),
        files="\n".join(f"| `{path}` | {_cells(cells)} |" for path, *cells in sorted(rows)),
    )
    return RenderedFile("README.md", text)


def _row(file: RenderedFile) -> tuple[str, str, str, str]:
    """What a file is, where it goes, and how it is taken up; a dashboard says no more of itself than its title."""
    if file.head is not None:
        return file.path, file.head.what, file.head.place, file.head.reload
    title = json.loads(file.text)["title"]
    place = f"/var/lib/grafana/dashboards/{PurePosixPath(file.path).name}"
    return file.path, f"A dashboard of Grafana: {title}.", place, "is taken up by itself"


def _cells(texts: Sequence[str]) -> str:
    return " | ".join(text.replace("|", "\\|") for text in texts)


def _addresses(settings: Settings, targets: Sequence[Target]) -> str:
    stack = settings.monitoring
    rows = [(f"{target.service}, its metrics", f"http://{target.metrics}/metrics") for target in targets]
    rows += [
        (name, f"http://127.0.0.1:{port}")
        for name, port in (
            ("Prometheus", stack.prometheus_port),
            ("Alertmanager", stack.alertmanager_port),
            ("node exporter", stack.node_port),
            ("blackbox exporter", stack.blackbox_port),
            ("Grafana", stack.grafana_port),
            ("Loki", stack.loki_port),
            ("Tempo", stack.tempo_port),
            ("OpenTelemetry collector (OTLP over HTTP)", stack.otlp_port),
        )
    ]
    return "\n".join(f"- {name}: {address}" for name, address in rows)


def _further(stack: MonitoringSettings, targets: Sequence[Target]) -> str:
    """Files that the programs read and that are not rendered."""
    secrets = [
        *_row_of("the URL of the Slack webhook", "Alertmanager", stack.slack_url_file),
        *_row_of("the integration key of PagerDuty", "Alertmanager", stack.pagerduty_key_file),
        *_row_of("the password for the mail server", "Alertmanager", stack.email_password_file),
    ]
    for target in targets:
        secrets += _row_of("the token of the server's metrics", "Prometheus, and the server itself", target.token_file)
    parts = [_SECRETS + "\n".join(dict.fromkeys(secrets)) + "\n"] if secrets else ["There are no secrets.\n"]
    for target in targets:
        if target.own_certificate:
            parts.append(
                f"The blackbox exporter trusts `{target.ca_file}`, which the server makes at its first start.\n"
            )
        elif target.ca_file is not None:
            parts.append(f"The blackbox exporter trusts `{target.ca_file}`, which it must be able to read.\n")
    return "\n".join(parts)


def _row_of(what: str, who: str, file: Path | None) -> list[str]:
    return [] if file is None else [f"| {_cells((f'`{file}`', what, who))} |"]
