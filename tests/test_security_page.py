"""docs/security.md and SECURITY.md: every setting, command, test and link in them is there, and none is forgotten."""

import json
import re
from pathlib import Path
from typing import Final

import pytest

from pocket_agent.claude.installation import ADVISORIES, MINIMUM_VERSION
from pocket_agent.settings import load_settings
from pocket_agent.settings.sections import SETTINGS
from tests.harness import manual
from tests.harness.tool import ROOT

PAGE: Final = ROOT / "docs" / "security.md"
POLICY: Final = ROOT / "SECURITY.md"
TEXT: Final = PAGE.read_text("utf-8")
BOUNDARIES: Final = (
    *("server.", "projects.allowed_roots", "claude.allow_dangerously_skip_permissions", "claude.permission_mode"),
    *("claude.client_tools", "claude.disallowed_tools", "claude.setting_sources", "claude.inherit"),
    *(
        "claude.environment",
        "claude.confinement",
        "claude.limits.",
        "metrics.host",
        "metrics.token_file",
        "audit.enabled",
    ),
    *("limits.connections_", "limits.requests_", "limits.messages_", "limits.bytes_", "limits.exempt_addresses"),
    *("limits.max_", "limits.message_size"),
)
"""Beginnings of the settings of who gets in, and of what an agent may do."""
NO_BOUNDARIES: Final = {"server.port"}
ADVICE: Final = {
    "devices.md": {
        "A phone must be able to reach the address.",
        "[Reverse proxies](deployment/proxy.md) and [TLS](deployment/tls.md) have examples.",
        "Where watching is enough, pair it as view only.",
        "To change it, pair the device again and revoke the old entry.",
        "Revoke a device that is lost or unknown.",
        "Rotate a secret that may have been copied.",
    },
    "audit.md": set[str](),
}
"""The sentences of the pages that say nothing about the server."""


def named() -> set[str]:
    """The settings that the page names."""
    return {key for key in SETTINGS if re.search(rf"`{re.escape(key)}(?:: [a-z]+)?`", TEXT)}


@pytest.mark.parametrize("path", [PAGE, POLICY], ids=lambda path: path.name)
def test_what_they_name_is_there(path: Path) -> None:
    text = path.read_text("utf-8")
    assert manual.wrong_commands(text) == []
    assert manual.unknown_settings(text) == []
    assert manual.broken_links(path) == []
    assert [target for target in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE) if not _is_target(target)] == []


def test_every_test_that_it_names_is_there_and_tests_something() -> None:
    files = set(re.findall(r"tests/[a-z0-9_/]+\.py", TEXT))
    assert len(files) > 30
    for file in files:
        assert re.search(r"^(?:async )?def test_", (ROOT / file).read_text("utf-8"), re.MULTILINE), file


@pytest.mark.parametrize("name", sorted(ADVICE))
def test_every_sentence_of_the_pages_on_devices_and_the_audit_log_has_a_test(name: str) -> None:
    path = PAGE.parent / name
    text = path.read_text("utf-8")
    found = manual.claims(text)
    assert len(found) > 40
    assert {claim.text for claim in found if not claim.tests} == ADVICE[name]
    assert manual.wrong_notes(text) == []
    assert [test for claim in found for test in claim.tests if not manual.is_test(test)] == []
    assert manual.wrong_commands(text) == []
    assert manual.unknown_settings(text) == []
    assert manual.broken_links(path) == []


def test_a_sentence_without_a_test_is_found_wherever_it_is() -> None:
    held = "tests/test_security_page.py::test_it_is_linked"
    note = f"\n\n[^1]: {held},\n    {held}\n"
    cases = {
        "A claim.[^1] Another.": ["Another."],
        "A `file.md`, held.[^1]": [],
        "First. Second.[^1]": ["First."],
        "**Bold.**[^1]\nNext.": ["Next."],
        "- One.[^1]\n- Two,\n  in two lines.": ["Two, in two lines."],
        "Commands:\n\n```sh\nx. y\n```": ["Commands:"],
        "| a | b |\n|---|---|\n| c | d |\n| e | f[^1] |": ["c   d"],
        "# Heading\n\nNo end[^1]": [],
        "Unknown.[^2]": ["Unknown."],
    }
    for text, without in cases.items():
        assert [claim.text for claim in manual.claims(text + note) if not claim.tests] == without, text
    assert manual.claims(f"A.[^1]{note}")[0].tests == (held, held)
    assert manual.wrong_notes(f"A.[^2]{note}") == ["1", "2"]
    assert manual.is_test(held)
    for wrong in ("tests/test_security_page.py", "tests/none.py::test_x", f"{held}_more", f"{held[:-4]}"):
        assert not manual.is_test(wrong), wrong


def test_every_sentence_of_the_pages_to_pair_and_manage_devices_has_a_test() -> None:
    """That the list has each of them is a test of the web client, webui/test/view/sentences.test.ts."""
    listed = json.loads((ROOT / "webui" / "test" / "view" / "sentences.json").read_text("utf-8"))
    assert len(listed) > 50
    assert {
        text: wrong for text, tests in listed.items() if (wrong := [one for one in tests if not manual.is_test(one)])
    } == {}


def test_every_setting_of_who_gets_in_and_what_agents_may_do_is_on_it() -> None:
    wanted = {key for key in SETTINGS if key.startswith(BOUNDARIES)} - NO_BOUNDARIES
    assert len(wanted) > 30
    assert wanted - named() == set()


def test_every_row_of_an_attack_says_what_stops_it_and_where_that_is_tested() -> None:
    rows = [row for row in TEXT.splitlines() if row.startswith("| ") and row.count("|") == 5]
    attacks = [row.split("|")[1:5] for row in rows if row.split("|")[1].strip() != "attack"]
    assert len(attacks) > 30
    for attack, stopped, _, tested in attacks:
        assert stopped.strip(), attack
        assert "tests/" in tested, attack


def test_the_hardened_settings_can_be_used(tmp_path: Path) -> None:
    (block,) = manual.blocks(TEXT, "yaml")
    file = tmp_path / "config.yaml"
    file.write_text(block.text)
    settings = load_settings(config=file, environ={"HOME": str(tmp_path)}, flags={}).settings
    assert settings.claude.setting_sources == ("user",)
    assert settings.projects.allowed_roots == (tmp_path / "code",)


def test_the_page_lists_the_advisories_of_the_cli_that_are_checked() -> None:
    rows = [f"| {one.id} ({one.cve}) | {'.'.join(map(str, one.fixed))} | {one.what} |" for one in ADVISORIES]
    assert re.findall(r"^\| GHSA.*", TEXT, re.MULTILINE) == rows
    assert f"older than {'.'.join(map(str, MINIMUM_VERSION))} is refused" in TEXT
    excluded = re.findall(r"\bGHSA[-0-9a-z]+, ([0-9.]+[0-9])", TEXT)
    assert excluded
    assert all(tuple(map(int, fixed.split("."))) < MINIMUM_VERSION for fixed in excluded)


def test_where_to_report_is_nobodys_address() -> None:
    policy = POLICY.read_text("utf-8")
    assert not re.search(r"[\w.]+@[\w.]+|https?://", policy)
    assert "Report a vulnerability" in policy


@pytest.mark.parametrize("path", ["README.md", "docs/architecture.md"])
def test_it_is_linked(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert "security.md)" in text


def _is_target(name: str) -> bool:
    return re.search(rf"^{name}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE) is not None
