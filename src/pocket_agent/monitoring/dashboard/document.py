"""docs/dashboards.md, out of the dashboards."""

from collections.abc import Iterator
from typing import Final

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.dashboard import pages
from pocket_agent.monitoring.dashboard.page import Page
from pocket_agent.monitoring.dashboard.panel import Panel

_HEAD: Final = """# Dashboards

Generated from the code: change the code, then run `make generate`.

`pocket-agent monitoring render DIR` writes these dashboards for Grafana into `DIR/grafana/dashboards/`, with the
limits, thresholds and objectives of the server's own settings, the same bytes each time:
"""

_USE: Final = """
The server's own page `/dashboard` shows the main figures live, without Grafana or Prometheus.

## Grafana finds them by itself

The rendered `docker-compose.yml` starts Grafana with everything in place. For a Grafana that runs as a service, put the
files where it looks:

```bash
sudo cp DIR/grafana/provisioning/datasources/* /etc/grafana/provisioning/datasources/
sudo cp DIR/grafana/provisioning/dashboards/* /etc/grafana/provisioning/dashboards/
sudo mkdir -p /var/lib/grafana/dashboards
sudo cp DIR/grafana/dashboards/*.json /var/lib/grafana/dashboards/
sudo systemctl restart grafana-server
```

They are in the folder *Pocket Agent*. When you have rendered again, copy the dashboards again; Grafana sees it within
seconds. What you change in Grafana's pages is lost then: save it under another name.

The figures are those that Prometheus records by `DIR/prometheus/rules/`, so those rules must be loaded. Disks, the
network and the machine's processors come from the node exporter, probes from the blackbox exporter; without them their
lines are missing, and nothing else.

## Or import them

In a Grafana of yours: *Dashboards*, *New*, *Import*, and choose a file. Its data source is chosen at the top of the
dashboard. By the API:

```bash
for file in DIR/grafana/dashboards/*.json; do
  jq '{dashboard: ., overwrite: true}' "$file" |
    curl -sS -u admin -H 'Content-Type: application/json' --data @- http://127.0.0.1:3000/api/dashboards/db
done
```

Each has an address that never changes (`/d/UID`), so importing it again replaces it.

## At the top

- **Data source**, **Job**, **Server**: one server at a time. Two servers on a machine are two values of *Server*.
- **Machine**: whose disks, network and processors are shown.
- **Logs**, **Service**, **Environment**, **Level**, **Search**: on the log's dashboard.
- *Starts* (blue) and *Alerts* (red) mark the graphs; both can be switched off.
- Links lead to the other dashboards with the same server and time, to the server's live page and to the runbooks.
  The menu of a panel has the runbooks of the alerts that look at the same figures.
- A dashed red line is where an alert begins, or an objective; a dashed line of another colour is a limit.
- Where executions are traced (`traces.enabled`), diamonds are single executions; they lead to their traces in Tempo.

## How they are tested

Grafana itself does not run in the tests. Instead, the files are held against the types that Grafana 13 publishes of its
dashboards and panels, and are built with those of Grafana 11.6; the queries for Loki are held against Grafana's grammar
of LogQL. Every other query is sent to a real Prometheus with the rendered rules, which scrapes a real server under
load: each must give figures. On a server that is fresh, each panel must show a figure or say why there is none.
"""


def render_dashboards_document() -> str:
    """The whole document, with the default settings."""
    shown = pages(Settings())
    return "\n".join([_HEAD, *_overview(shown), _USE, *(line for page in shown for line in _panels(page))])


def _overview(shown: tuple[Page, ...]) -> Iterator[str]:
    yield "| dashboard | address | what for |"
    yield "|---|---|---|"
    for page in shown:
        yield f"| [{page.title}](#{page.title.lower().replace(' ', '-')}) | `/d/{page.uid}` | {page.description} |"


def _panels(page: Page) -> Iterator[str]:
    yield f"## {page.title}\n"
    for section in page.sections:
        if section.title is not None:
            yield f"### {section.title}\n"
        yield "| panel | what it shows | runbooks |"
        yield "|---|---|---|"
        for panel in section.panels:
            yield f"| {panel.title} | {panel.description} | {_runbooks(panel)} |"
        yield ""


def _runbooks(panel: Panel) -> str:
    return ", ".join(f"[{alert}](runbooks/{alert}.md)" for alert in panel.alerts)
