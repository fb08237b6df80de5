"""Bad input over a real WebSocket: an error that helps, and the connection lives on."""

import contextlib
import itertools
import json
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocket_agent.conversation.conversation import Conversation
from pocket_agent.events import ConnectionClosed, RequestFaulted
from pocket_agent.protocol.requests import MAX_REQUEST_ID, REQUESTS, Options
from tests.server.room import Room, Wire, open_room, until

MESSAGE_SIZE = 2**20
DEEP = 100_000


async def refused(wire: Wire, frame: object, code: str, *, says: str = "", request_id: str | None = None) -> None:
    """The frame gets this error, and the connection lives on."""
    await wire.send(frame)
    answer = await wire.answer(request_id)
    assert answer["type"] == "error", answer
    assert answer["data"]["code"] == code, answer
    assert says in answer["data"]["message"]
    assert len(answer["data"]["message"]) > 10, "it should help a person"
    assert "Traceback" not in answer["data"]["message"]
    await wire.works()


NO_MESSAGES: list[str | bytes] = [
    "",
    " ",
    "{",
    "}",
    "[]",
    "null",
    "1",
    '"text"',
    "nonsense",
    "{'type':'project_list'}",
    '{"type":"project_list"',
    '{"type":"project_list"}}',
    '{"type":"project_list"}{"type":"project_list"}',
    '{"type":"project_list",}',
    '{"type":NaN}',
    '{"type":"project_list","data":{"x":NaN}',
    "{}",
    '{"type":null}',
    '{"type":5}',
    '{"type":["project_list"]}',
    '{"type":{}}',
    '{"data":{}}',
    '{"Type":"project_list"}',
    '{"type":""}',
    '{"type":"PROJECT_LIST"}',
    '{"type":"project_list "}',
    '{"type":"project_list\\u0000"}',
    '{"type":"no_such_thing"}',
    '{"type":"__class__"}',
    '{"type":"project_state"}',
    '{"type":"\\ud800"}',
    '{"type":"' + "x" * 10_000 + '"}',
    '{"type":"project_list","request_id":5}',
    '{"type":"project_list","request_id":{}}',
    '{"type":"project_list","request_id":"\\udcff"}',
    '{"type":"project_list","project_id":5}',
    '{"type":"project_list","project_id":"' + "x" * 201 + '"}',
    b'{"type":"project_\xff"}',
    b'{"type":"project_list","request_id":"\xc3\x28"}',
    b"\xff\xfe",
    b"\x00",
    "\ufeff" + '{"type":"project_list"}',
    "[" * DEEP,
    '{"type":' + "[" * DEEP,
    '{"a":' * DEEP,
    '{"type":"project_list","data":' + '{"a":' * DEEP + "1" + "}" * DEEP + "}",
    '{"type":"project_list","x":' + "[" * DEEP + "]" * DEEP + "}",
]
"""Frames that are no messages of the protocol."""


async def test_what_is_no_message(room: Room, subtests: pytest.Subtests) -> None:
    for message in NO_MESSAGES:
        with subtests.test(message=message[:60]):
            async with room.wire() as wire:
                await refused(wire, message, "INVALID_MESSAGE")
    assert room.seen.of(RequestFaulted) == []


async def test_binary_frames(room: Room) -> None:
    async with room.wire() as wire:
        await wire.socket.send_bytes(b'{"type":"project_list"}')
        assert "Binary" in (await wire.answer(None))["data"]["message"]
        await wire.works()


async def test_a_message_in_fragments_is_one_message(room: Room) -> None:
    async with room.wire() as wire:
        writer = wire.socket._writer
        for opcode, part in ((0x01, b'{"type":"proj'), (0x00, b'ect_list","request_id"'), (0x80, b':"f"}')):
            # RFC 6455 section 5.4; the highest bit says that it is the last one.
            header = bytes([opcode, 0x80 | len(part)]) + bytes(4)
            writer.transport.write(header + part)
        assert (await wire.answer("f"))["type"] == "project_list_response"


async def test_unknown_fields_are_ignored(room: Room) -> None:
    async with room.wire() as wire:
        answer = await wire.ask(
            "project_list", {"x": {"y": [1, None]}, "project_id": 5}, version=3, token="secret", offset=-1
        )
        assert answer["type"] == "project_list_response"
        assert (await wire.ask("project_list", None))["type"] == "project_list_response"
        await wire.send('{"type":"project_list","request_id":"no data"}')
        assert (await wire.answer("no data"))["type"] == "project_list_response"


async def test_data_is_an_object(room: Room, subtests: pytest.Subtests) -> None:
    values: list[object] = [[], "x", 5, True, [[]]]
    for data in values:
        with subtests.test(data=data):
            async with room.wire() as wire:
                answer = await wire.ask("project_list", data)
                assert answer["data"]["code"] == "VALIDATION_FAILED"
                await wire.works()


def request_of(size: int) -> bytes:
    """A valid request of exactly so many bytes."""
    frame = '{"type":"project_list","request_id":"big","data":{"pad":"%s"}}'
    return (frame % ("x" * (size - len(frame) + 2))).encode()


async def test_a_frame_may_be_as_large_as_the_setting_says(room: Room) -> None:
    async with room.wire() as wire:
        frame = request_of(MESSAGE_SIZE)
        assert len(frame) == MESSAGE_SIZE
        await wire.send(frame)
        assert (await wire.answer("big"))["type"] == "project_list_response"


@pytest.mark.parametrize("size", [MESSAGE_SIZE + 1, 4 * MESSAGE_SIZE])
async def test_a_frame_that_is_too_large_ends_only_its_own_connection(room: Room, size: int) -> None:
    async with room.wire() as other:
        async with room.wire() as wire:
            # The server hangs up before it has all of a larger one, so what its client sees may be a reset.
            with contextlib.suppress(ConnectionError):
                await wire.send(request_of(size))
            code = await wire.closed()
            assert size > MESSAGE_SIZE + 1 or code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        await other.works()
        assert (await room.eventually(ConnectionClosed)).code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        async with room.wire() as again:
            await again.works()


async def test_fragments_count_together(room: Room) -> None:
    async with room.wire() as wire:
        part = b"x" * (MESSAGE_SIZE // 2)
        header = bytes([0x01, 0x80 | 127]) + len(part).to_bytes(8) + bytes(4)
        wire.socket._writer.transport.write(header + part)
        wire.socket._writer.transport.write(bytes([0x00]) + header[1:] + part)
        wire.socket._writer.transport.write(bytes([0x80, 0x81]) + bytes(4) + b"x")
        assert await wire.closed() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_a_setting_decides_how_large(tmp_path: Path) -> None:
    async with open_room(tmp_path, limits__message_size=2048) as small, small.wire() as wire:
        await wire.send(request_of(2048))
        assert (await wire.answer("big"))["type"] == "project_list_response"
        await wire.send(request_of(2049))
        assert await wire.closed() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


# Request ids


ODD_IDS = ["", " ", "a\nb", "\x1b[31m", '"', "\\", "</script>", "\0", "ä€😀", "\u2028", "x" * MAX_REQUEST_ID]


async def test_a_request_id_comes_back_as_it_was(room: Room, subtests: pytest.Subtests) -> None:
    for request_id in ODD_IDS:
        with subtests.test(request_id=request_id):
            async with room.wire() as wire:
                await wire.send({"type": "project_list", "request_id": request_id})
                assert (await wire.answer(request_id))["type"] == "project_list_response"
                for frame in (
                    {"type": "no_such_thing", "request_id": request_id},
                    {"type": "project_create", "data": {"path": 5}, "request_id": request_id},
                    {"type": "project_create", "data": {"path": "relative"}, "request_id": request_id},
                    {"type": "execute", "project_id": "nobody", "data": {"prompt": "x"}, "request_id": request_id},
                    {"type": 5, "request_id": request_id},
                ):
                    await wire.send(frame)
                    assert (await wire.answer(request_id))["type"] == "error", frame


async def test_a_request_id_that_is_too_long_is_refused_and_not_sent_back(room: Room) -> None:
    async with room.wire() as wire:
        for size in (MAX_REQUEST_ID + 1, 500_000):
            frame = {"type": "project_list", "request_id": "x" * size}
            await refused(wire, frame, "INVALID_MESSAGE", says="request_id")


async def test_a_name_in_an_error_cannot_break_its_frame(room: Room, subtests: pytest.Subtests) -> None:
    for project_id in ('a"b', 'x","type":"project_state', "a\nb", "\\", "\x1b[31m", "ä"):
        with subtests.test(project_id=project_id):
            async with room.wire() as wire:
                for kind, data in (
                    ("project_create", {"path": "relative"}),
                    ("get_messages", {}),
                    ("project_list", {}),
                ):
                    answer = await wire.ask(kind, data, project_id=project_id)
                    assert answer["type"] in {"error", "project_list_response"}
                await wire.works()


# Wrong values in every field, generated from the types


NOT_OF_TYPE: dict[object, list[object]] = {
    str: [5, 1.5, True, [], {}, ["x"]],
    int: ["1", 1.5, True, [], {}, 2**64, -(2**70), 1e300],
    float: ["1", True, [], {}],
    bool: ["true", 0, 1, [], {}],
    dict: ["x", 5, [], True],
    tuple: ["x", 5, True, {}, [5], [None], [[]]],
}


def wrong_values(kind: Any) -> Iterator[object]:
    """Values that a field of this type does not take."""
    parts = list(_parts(kind))
    bases = {base for base, _ in parts}
    if type(None) not in bases:
        yield None
    for base in bases - {type(None)}:
        for value in NOT_OF_TYPE.get(base, []):
            if not any(_fits(value, other) for other in bases):
                yield value
    for base, meta in parts:
        if isinstance(base, type) and issubclass(base, msgspec.Struct):
            yield from ("x" * 3, [1]) if str not in bases else ([1],)
        if meta is None:
            continue
        if meta.ge is not None:
            yield meta.ge - 1
        if meta.le is not None:
            yield meta.le + 1
        if meta.min_length == 1 and base is str:
            yield ""
        if meta.max_length is not None:
            yield ["x"] * (meta.max_length + 1) if base is tuple else "x" * (meta.max_length + 1)
        if meta.pattern is not None:
            yield "x"
            yield "../../etc/passwd"
            yield "--resume=x"
    for base, _ in parts:
        if typing.get_origin(base) is Literal:
            yield from ("", "no such value", 5, [], {}, True)


def _parts(kind: Any, meta: msgspec.Meta | None = None) -> Iterator[tuple[Any, msgspec.Meta | None]]:
    origin = typing.get_origin(kind)
    if origin is Annotated:
        yield from _parts(kind.__origin__, next((one for one in kind.__metadata__), None))
    elif origin is types.UnionType or origin is typing.Union:
        for part in typing.get_args(kind):
            yield from _parts(part)
    elif origin in (tuple, dict):
        yield origin, meta
    else:
        yield kind, meta


def _fits(value: object, base: Any) -> bool:
    if base is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        return isinstance(value, dict)
    if base is tuple:
        return isinstance(value, list)
    return isinstance(base, type) and isinstance(value, base) and (base is not int or not isinstance(value, bool))


def valid(kind: str) -> dict[str, object]:
    """The least data that the request takes."""
    minimal: dict[str, object] = {
        "path": "/",
        "prompt": "x",
        "approval_id": "a",
        "behavior": "deny",
        "execution_id": "e",
        "model": "opus",
        "mode": "plan",
        "session_id": "11111111-2222-4333-8444-555555555555",
        "device_id": "d",
        "pairing_id": "p",
        "name": "phone",
        "hash": "0" * 64,
        "title": "x",
        "report": "usage",
        "task_id": "t",
    }
    fields = msgspec.structs.fields(REQUESTS[kind])
    return {field.name: minimal[field.name] for field in fields if field.required}


def wrong_requests(kind: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Requests with one wrong field each, by the field's name."""
    hints = typing.get_type_hints(REQUESTS[kind], include_extras=True)
    for field in msgspec.structs.fields(REQUESTS[kind]):
        if field.required:
            yield field.name, {name: value for name, value in valid(kind).items() if name != field.name}
        for value in wrong_values(hints[field.name]):
            yield field.name, {**valid(kind), field.name: value}
        for part, _ in _parts(hints[field.name]):
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                inner = typing.get_type_hints(part, include_extras=True)
                for name, annotation in inner.items():
                    needed = {"offset": 1} if "offset" in inner else {}
                    for value in wrong_values(annotation):
                        yield name, {**valid(kind), field.name: {**needed, name: value}}


async def test_a_wrong_value_in_any_field_is_named_and_changes_nothing(room: Room, subtests: pytest.Subtests) -> None:
    session = await room.project()
    project_id = session.state.record.id
    for kind in REQUESTS:
        with subtests.test(kind=kind):
            async with room.wire() as wire:
                sent = 0
                for field, data in wrong_requests(kind):
                    sent += 1
                    answer = await wire.ask(kind, data, project_id=project_id)
                    what = f"{kind} with {json.dumps(data)[:200]}: {answer}"
                    assert answer["type"] == "error", what
                    assert answer["data"]["code"] == "VALIDATION_FAILED", what
                    assert field in answer["data"]["message"], what
                assert sent or not msgspec.structs.fields(REQUESTS[kind])
                await wire.works()
            assert session.state.record.head == 0
            assert len(room.projects) == 1
            assert room.seen.of(RequestFaulted) == []


NUMBERS = [
    "-1",
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "-Infinity",
    "1" * 5000,
    "0x10",
    "1.5",
    "01",
    "+1",
    "1e2",
    "-0.5",
]


NUMBER_FIELDS = [
    ("get_messages", "since"),
    ("get_messages", "before"),
    ("get_messages", "limit"),
    ("project_join", "since"),
    ("server_stats", "interval"),
]


async def test_numbers_that_are_none_or_too_large(room: Room, subtests: pytest.Subtests) -> None:
    session = await room.project(entries=2)
    for (kind, field), number in itertools.product(NUMBER_FIELDS, NUMBERS):
        with subtests.test(kind=kind, field=field, number=number[:20]):
            await number_is_checked(room, session, kind, field, number)


async def number_is_checked(room: Room, conversation: Conversation, kind: str, field: str, number: str) -> None:
    """A valid number gets a reply, any other an error, and the connection stays open."""
    async with room.wire() as wire:
        await wire.send(
            f'{{"type":"{kind}","project_id":"{conversation.state.record.id}",'
            f'"request_id":"n","data":{{"{field}":{number}}}}}'
        )
        frame = await wire.frame()
        if (field, number) in {
            ("limit", "1e2"),
            ("since", "1e2"),
            ("before", "1e2"),
            ("interval", "1e2"),
            ("interval", "1.5"),
        }:
            assert frame["type"] in {"error", "messages_response", "project_join", "server_stats"}
        else:
            assert frame["type"] == "error", frame
            assert frame["data"]["code"] in {"INVALID_MESSAGE", "VALIDATION_FAILED"}
        await wire.works()


# Paths


async def test_paths_that_lead_elsewhere(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside / "project", outside):
        folder.mkdir(parents=True)
    (inside / "link").symlink_to(outside)
    (inside / "loop").symlink_to(inside / "loop")
    (inside / "file").write_text("x")
    async with open_room(tmp_path, projects__allowed_roots=[str(inside)]) as room, room.wire() as wire:
        bad = [
            "project",
            "./project",
            "~",
            "$HOME",
            "file:///tmp",
            f"{inside}/project/../../outside",
            f"{inside}/link",
            f"{inside}/link/../outside",
            f"{inside}/loop",
            f"{inside}/file",
            f"{inside}/file/",
            f"{inside}/missing",
            f"{inside}/project\0",
            f"{inside}/project\0/../..",
            "/",
            "/etc/passwd",
            "/proc/self/root",
            f"{inside}/" + "x" * 300,
            f"{inside}/" + "x/" * 1500,
            "--flag=/tmp",
        ]
        for path in bad:
            answer = await wire.ask("project_create", {"path": path})
            assert answer["type"] == "error", path
            assert answer["data"]["code"] == "INVALID_PATH", path
            assert str(outside) not in answer["data"]["message"], "it tells nothing about what lies elsewhere"
        too_long = await wire.ask("project_create", {"path": "/" + "x" * 5000})
        assert too_long["data"]["code"] == "VALIDATION_FAILED"
        await wire.send('{"type":"project_create","data":{"path":"/\\udcff"},"request_id":"s"}')
        assert (await wire.answer("s"))["type"] == "error"
        assert len(room.projects) == 0
        good = await wire.ask("project_create", {"path": f"{inside}/project/../project"})
        assert good["type"] == "project_state"


async def test_directories_to_add_follow_the_same_rules(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside / "project", inside / "more", outside):
        folder.mkdir(parents=True)
    (inside / "link").symlink_to(outside)
    async with open_room(tmp_path, projects__allowed_roots=[str(inside)]) as room, room.wire() as wire:
        project_id = (await wire.ask("project_create", {"path": f"{inside}/project"}))["data"]["id"]
        for path in ("../more", "--dangerously-skip-permissions", f"{inside}/link", f"{inside}/../outside", "/"):
            data = {"prompt": "x", "options": {"add_dirs": [f"{inside}/more", path]}}
            answer = await wire.ask("execute", data, project_id=project_id)
            assert answer["data"]["code"] == "INVALID_PATH", path
            assert "add_dirs" in answer["data"]["message"]


# Options


FLAG_LIKE = [
    "--dangerously-skip-permissions",
    "-p",
    "--",
    "-",
    "=",
    "--model=x",
    "a b",
    "'",
    '"; ls',
    "$(id)",
    "\n--x",
    "ä😀",
]


def text_options() -> dict[str, type]:
    """The options whose text the client chooses, one or several each, out of the protocol's own type."""
    found = {}
    for name, hint in typing.get_type_hints(Options, include_extras=True).items():
        for base, _ in _parts(hint):
            if base in (str, tuple):
                found[name] = base
            else:
                assert base in (bool, type(None)) or typing.get_origin(base) is Literal, name
    return found


TEXT_OPTIONS = text_options()


async def argv_of(wire: Wire, conversation: Conversation, options: Mapping[str, object]) -> list[str]:
    """The arguments with which the stand-in was started for these options."""
    project_id = conversation.state.record.id
    answer = await wire.ask("execute", {"prompt": "hello", "options": options}, project_id=project_id)
    assert answer["type"] == "execute", answer
    await until(lambda: conversation.state.current is None)
    messages = (await wire.ask("get_messages", {"limit": 1000}, project_id=project_id))["data"]["messages"]
    init = [message["message"] for message in messages if message["message"].get("subtype") == "init"][-1]
    argv: list[str] = init["argv"]
    return argv


async def test_a_value_that_looks_like_a_flag_stays_a_value(room: Room, subtests: pytest.Subtests) -> None:
    session = await room.project()
    for value in FLAG_LIKE:
        with subtests.test(value=value):
            await value_stays_a_value(room, session, value)


async def value_stays_a_value(room: Room, conversation: Conversation, value: str) -> None:
    """Each option with this text becomes one argument, or one file."""
    async with room.wire() as wire:
        await wire.ask("agent_new_session", project_id=conversation.state.record.id)
        plain = await argv_of(wire, conversation, {})
        options = {name: [value, value + "2"] if kind is tuple else value for name, kind in TEXT_OPTIONS.items()}
        options["mcp_config"] = '{"mcpServers":{}}' + value  # which is a file otherwise
        del options["add_dirs"]  # which have to exist: see below
        hidden = {"append_system_prompt": "--append-system-prompt-file=", "mcp_config": "--mcp-config="}
        await wire.ask("agent_new_session", project_id=conversation.state.record.id)
        argv = await argv_of(wire, conversation, options)
        given_ = [
            f"--{name.replace('_', '-')}={one}"
            for name, chosen in options.items()
            if name not in hidden
            for one in (chosen if isinstance(chosen, list) else [chosen])
        ]
        by_file = [one for one in argv if one.startswith(tuple(f"{flag}/dev/fd/" for flag in hidden.values()))]
        assert len(by_file) == len(hidden), "secrets go by files, not by arguments"
        assert sorted(set(argv) - set(plain) - set(by_file)) == sorted(given_)
        assert len(argv) == len(plain) + len(given_) + len(hidden), "each value is one argument"


async def test_directories_become_one_argument_each(room: Room, tmp_path: Path) -> None:
    session = await room.project()
    odd = [tmp_path / "--model=x", tmp_path / "a b", tmp_path / "new\nline"]
    for folder in odd:
        folder.mkdir()
    async with room.wire() as wire:
        argv = await argv_of(wire, session, {"add_dirs": [str(folder) for folder in odd]})
        assert [one for one in argv if one.startswith("--add-dir")] == [f"--add-dir={folder}" for folder in odd]


async def test_no_option_holds_a_nul(room: Room) -> None:
    session = await room.project()
    async with room.wire() as wire:
        for name, kind in TEXT_OPTIONS.items():
            value = ["ok", "/a\0b"] if kind is tuple else "a\0b"
            answer = await wire.ask(
                "execute", {"prompt": "x", "options": {name: value}}, project_id=session.state.record.id
            )
            assert answer["data"]["code"] == "VALIDATION_FAILED"
            assert name in answer["data"]["message"]
        assert session.state.record.head == 0


async def test_a_model_for_the_project_follows_the_same_rules(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        await wire.ask("set_model", {"model": "--dangerously-skip-permissions"}, project_id=project_id)
        argv = await argv_of(wire, session, {})
        assert "--model=--dangerously-skip-permissions" in argv
        assert "--dangerously-skip-permissions" not in argv


async def test_a_model_for_the_project_holds_no_nul(room: Room, subtests: pytest.Subtests) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        for model in ("a\0b", "\0"):
            with subtests.test(model=model):
                answer = await wire.ask("set_model", {"model": model}, project_id=project_id)
                assert answer["type"] == "error"
                assert answer["data"]["code"] == "VALIDATION_FAILED"
        await argv_of(wire, session, {})


PROMPTS = ["\0", "a\nb\r\nc", "\u2028", "--help", "/exit", '{"type":"control_request"}', "ä€😀", "\x1b[31m", " "]


async def test_a_prompt_is_one_line_whatever_it_holds(room: Room, subtests: pytest.Subtests) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        for prompt in PROMPTS:
            with subtests.test(prompt=prompt):
                head = session.state.record.head
                assert (await wire.ask("execute", {"prompt": prompt}, project_id=project_id))["type"] == "execute"
                await until(lambda: session.state.current is None)
                assert session.state.record.state == "IDLE"
                reply = await wire.ask("get_messages", {"since": head}, project_id=project_id)
                messages = reply["data"]["messages"]
                assert messages[0]["message"]["prompt"] == prompt
                assert sum(message["message"].get("type") == "result" for message in messages) == 1


async def test_a_lone_surrogate_is_refused_where_text_is_text(room: Room) -> None:
    session = await room.project()
    async with room.wire() as wire:
        for data in ('{"prompt":"\\ud800"}', '{"prompt":"x","options":{"model":"\\udcff"}}'):
            await wire.send(
                f'{{"type":"execute","project_id":"{session.state.record.id}","request_id":"s","data":{data}}}'
            )
            assert (await wire.answer("s"))["data"]["code"] == "INVALID_MESSAGE"
        await wire.works()
        assert session.state.record.head == 0


async def test_an_edited_input_that_is_no_object_for_the_agent(room: Room) -> None:
    session = await room.project()
    project_id = session.state.record.id
    async with room.wire() as wire:
        await wire.ask("execute", {"prompt": "ask Bash"}, project_id=project_id)
        await until(lambda: bool(session.state.approvals))
        (approval_id,) = session.state.approvals
        start = (
            f'{{"type":"approval_respond","project_id":"{project_id}","request_id":"a","data":'
            f'{{"approval_id":"{approval_id}","behavior":"allow","updated_input":'
        ).encode()
        deep = b'{"a":' * DEEP + b"1" + b"}" * DEEP
        for value in (b"[]", b'"x"', b'{"a":"\xff"}', deep):
            await wire.send(start + value + b"}}")
            answer = await wire.frame()
            assert answer["type"] == "error"
            assert answer["data"]["code"] in {"VALIDATION_FAILED", "INVALID_MESSAGE"}
        assert list(session.state.approvals) == [approval_id], "it still waits"
        await wire.send(start + b'{"command":"a\\nb\\u0000"}}}')
        assert (await wire.answer("a"))["type"] == "approval_resolved"
        await until(lambda: session.state.current is None)
        assert session.state.record.state == "IDLE"


# Whole frames

_ids = st.none() | st.text(max_size=20)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_fields = st.sampled_from(sorted({field.name for kind in REQUESTS.values() for field in msgspec.structs.fields(kind)}))
_frames = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.builds(
        lambda kind, project, request, data: json.dumps(
            {"type": kind, "project_id": project, "request_id": request, "data": data}
        ).encode(),
        st.sampled_from(sorted(REQUESTS)) | st.text(max_size=10),
        _ids | _json,
        _ids | _json,
        st.dictionaries(_fields, _json, max_size=3) | _json,
    ),
)


async def test_whatever_comes_the_connection_lives_and_nothing_is_a_fault(room: Room) -> None:
    """Hypothesis chooses the frames; they go over one connection, each followed by a valid request."""
    chosen: list[bytes] = []

    @settings(max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(_frames)
    def choose(frame: bytes) -> None:
        chosen.append(frame)

    choose()
    await room.project(entries=3)
    async with room.wire() as wire:
        for number, frame in enumerate(chosen):
            await wire.send(frame)
            await wire.send({"type": "project_list", "request_id": f"check {number}"})
            answers: list[dict[str, Any]] = []
            while True:
                answer = await wire.frame()
                answers.append(answer)
                if answer.get("request_id") == f"check {number}":
                    break
            assert answers[-1]["type"] == "project_list_response", frame
            faults = [one for one in answers if one["type"] == "error" and one["data"]["code"] == "INTERNAL_ERROR"]
            assert not faults, frame
    assert room.seen.of(RequestFaulted) == []
