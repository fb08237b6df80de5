"""Writes the documents and golden files that are made from the code; with --check, reports those out of date."""

import sys
from pathlib import Path

from golden import GOLDEN
from pocket_agent.monitoring import render_dashboards_document, render_runbook_index
from pocket_agent.observability.catalogue import render_metrics_document
from pocket_agent.protocol.codegen import render_protocol_document, render_typescript
from pocket_agent.settings.reference import render_settings_table

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = {
    "docs/settings.md": render_settings_table,
    "docs/protocol.md": render_protocol_document,
    "docs/metrics.md": render_metrics_document,
    "docs/dashboards.md": render_dashboards_document,
    "webui/src/wire/generated.ts": render_typescript,
    "docs/runbooks/README.md": render_runbook_index,
    **GOLDEN,
}


def main() -> int:
    """Write or check every document; returns the exit status."""
    check = "--check" in sys.argv[1:]
    stale = []
    for name, render in DOCUMENTS.items():
        path, text = ROOT / name, render()
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    for name in stale:
        print(f"{name} is out of date: run `make generate`" if check else f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
