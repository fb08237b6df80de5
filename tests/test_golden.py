"""What clients, scripts and stored data rely on changes only together with its golden file, where a review sees it."""

from difflib import unified_diff

from scripts.golden import GOLDEN

from tests.harness.tool import ROOT


def test_contracts_are_those_of_the_golden_files() -> None:
    """A change that is meant is written with `make generate`."""
    changed: list[str] = []
    for name, render in GOLDEN.items():
        before, now = (ROOT / name).read_text("utf-8"), render()
        changed += unified_diff(before.splitlines(), now.splitlines(), name, "now", n=1, lineterm="")
    assert not changed, "\n".join(changed)
