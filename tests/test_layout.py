"""Names in src: one file and one class for each, and no circle of imports, so that a search finds one place."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parents[1] / "src"
EVERY_PACKAGE: Final = {"__init__.py", "__main__.py"}


def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {}
    for path in (SOURCE / "pocket_agent").rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def repeated(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The names that have more than one place, with their places."""
    places = defaultdict(list)
    for name, place in pairs:
        places[name].append(place)
    return {name: sorted(found) for name, found in places.items() if len(found) > 1}


def imported(tree: ast.Module, known: Mapping[str, object]) -> Iterator[str]:
    """The modules of the product that a module imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in known else str(node.module)


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The modules of one circle of imports; empty when there is none."""
    try:
        TopologicalSorter({name: set(others) for name, others in graph.items()}).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def test_no_file_name_is_used_twice() -> None:
    files = ((path.name, name) for name, path in modules().items() if path.name not in EVERY_PACKAGE)
    assert repeated(files) == {}


def test_no_class_name_is_used_twice() -> None:
    classes = (
        (node.name, name)
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert repeated(classes) == {}


def listed(page: str) -> dict[str, str]:
    """The directory of each module in the first block of code of a page, by the module's name.

    A line names a directory (`claude/`) or a module; lines that are indented further describe it and what is in it.
    """
    found: dict[str, str] = {}
    folders: dict[int, str] = {}
    for line in page.split("```")[1].splitlines():
        indent = len(line) - len(line.lstrip())
        if indent <= 4:
            folders = {depth: folder for depth, folder in folders.items() if depth < indent}
            if match := re.match(r" *([\w/]+)/(?= |$)", line):
                folders[indent] = match[1]
        if folders.get(0) == "src/pocket_agent":
            found.update(dict.fromkeys(re.findall(r"\w+\.py\b", line), "/".join(folders.values())))
    return found


def test_the_page_on_the_architecture_lists_each_module() -> None:
    """In the directory that it is in; `__init__` and `__main__` are in every package."""
    page = (SOURCE.parent / "docs" / "architecture.md").read_text("utf-8")
    present = {
        path.name: str(path.parent.relative_to(SOURCE.parent))
        for path in modules().values()
        if path.name not in EVERY_PACKAGE
    }
    assert listed(page) == present


def test_no_imports_form_a_circle() -> None:
    known = modules()
    graph = {name: set(imported(ast.parse(path.read_text("utf-8")), known)) for name, path in known.items()}
    assert circle(graph) == []


def test_repetitions_and_circles_are_found() -> None:
    assert repeated([("a", "x"), ("b", "x"), ("a", "y")]) == {"a": ["x", "y"]}
    known = {"p": 0, "p.a": 0, "p.b": 0}
    sources = {
        "p.a": "from p import b, value",
        "p.b": "def lazily():\n    import p.a\n    import os",
    }
    graph = {name: set(imported(ast.parse(text), known)) for name, text in sources.items()}
    assert graph == {"p.a": {"p", "p.b"}, "p.b": {"p.a"}}
    assert set(circle(graph)) == {"p.a", "p.b"}
    assert circle({"p.a": {"p"}, "p.b": {"p.a"}}) == []
