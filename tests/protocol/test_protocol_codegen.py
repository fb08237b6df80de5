"""pocket_agent.protocol.codegen: the declarations of the web client in TypeScript."""

import re
from pathlib import Path

from pocket_agent.protocol.codegen import render_typescript
from pocket_agent.protocol.json_schema import ENTRY_TYPES, error_codes
from pocket_agent.protocol.requests import FRAMES, REQUESTS

FILE = Path(__file__).parents[2] / "webui" / "src" / "wire" / "generated.ts"
TEXT = render_typescript()


def declared(name: str) -> str:
    """The declaration of a type, from its name to the end of it."""
    found = re.search(rf"^export (?:interface|type) {name}\b.*?^(?=$|/\*\*)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[0]


def test_the_file_is_up_to_date() -> None:
    assert FILE.read_text("utf-8") == TEXT, "run `make generate`"


def test_every_request_and_push_is_declared_once() -> None:
    requests, replies, pushes = declared("Requests"), declared("Replies"), declared("Pushes")
    for name, kind in REQUESTS.items():
        assert f"readonly {name}: {kind.__name__};" in requests
        assert f"readonly {name}: {FRAMES[kind.spec.reply].__name__};" in replies
    for name, data in FRAMES.items():
        assert f"readonly {name}: {data.__name__};" in pushes
        assert TEXT.count(f"export interface {data.__name__} ") == 1


def test_requests_that_change_something_are_not_sent_again() -> None:
    (names,) = re.findall(r"REPEATABLE: .*\[\n([^\]]*)\]", TEXT)
    repeatable = set(re.findall(r'"(\w+)"', names))
    assert {name for name in repeatable if REQUESTS[name].spec.audited} == set()
    assert repeatable == {name for name, kind in REQUESTS.items() if kind.spec.repeatable}
    assert "get_messages" in names
    assert "execute" not in names


def test_every_name_that_is_used_is_declared() -> None:
    code = re.sub(r"/\*\*.*?\*/|\"[^\"\n]*\"|^//[^\n]*", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    names = set(re.findall(r"\b([A-Z][A-Za-z_]+)\b", code))
    declarations = set(re.findall(r"^export (?:interface|type|const) (\w+)", TEXT, re.MULTILINE))
    assert names - {"Readonly", "ReadonlySet", "Record", "Set"} == declarations


def test_what_may_be_left_out_or_null_says_so() -> None:
    execute = declared("Execute")
    assert "readonly prompt: string;" in execute
    assert "readonly prompt_id?: string | null;" in execute
    assert "readonly session_id: string | null;" in declared("ProjectStateData")
    assert "readonly input: unknown;" in declared("ApprovalRequestedData")
    assert "readonly queue: readonly QueuedPrompt[];" in declared("QueueStateData")
    assert "readonly qr: readonly (readonly string[])[];" in declared("PairingStartData")
    assert "readonly checks: Readonly<Record<string, CheckData>>;" in declared("HealthCheckData")


def test_closed_sets_are_unions() -> None:
    assert declared("ProjectState").strip().endswith('"ERROR" | "EXECUTING" | "IDLE";')
    for code in error_codes():
        assert f'| "{code}"' in declared("ErrorCode")
    for entry in ENTRY_TYPES:
        assert f'| "{entry}"' in declared("EntryType")
