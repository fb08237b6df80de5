"""How much a browser has to load; a figure of the build, the same on every machine."""

from typing import Final

import pytest
from tests.harness.screen import BUILD

MOST_BYTES: Final = 150_000
FIRST_BYTES: Final = 90_000
"""What it takes until something is shown: the page, its style and the main script."""


@pytest.fixture(scope="module")
def sizes() -> dict[str, int]:
    """The bytes that are sent for each file but the icons for home screens, in its best compression."""
    if not BUILD.exists():
        pytest.fail("the web client is not built: run scripts/web")
    files = [path for path in BUILD.parent.rglob("*") if path.is_file() and path.suffix not in {".br", ".gz", ".png"}]
    assert any(path.with_name(f"{path.name}.br").exists() for path in files), "nothing is compressed"
    return {path.name: min(one.stat().st_size for one in (path, *path.parent.glob(f"{path.name}.*"))) for path in files}


def test_the_whole_client_is_small(sizes: dict[str, int]) -> None:
    assert sum(sizes.values()) < MOST_BYTES, sorted(sizes.items(), key=lambda item: -item[1])[:12]


def test_what_comes_first_is_smaller(sizes: dict[str, int]) -> None:
    first = {name: size for name, size in sizes.items() if name.startswith("index")}
    assert set(first) >= {"index.html"}
    assert sum(first.values()) < FIRST_BYTES


def test_the_policy_of_the_page_needs_nothing_inline() -> None:
    page = BUILD.read_text("utf-8")
    assert "<style" not in page
    assert "style=" not in page
    assert all("src=" in tag for tag in page.split("<script")[1:])
    assert "http" not in page.replace("http-equiv", "")
