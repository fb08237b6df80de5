"""The scripted model over HTTP."""

import asyncio
import io
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from tests.harness import DEADLINE_SECONDS

from pocket_agent.demo.scripted_model import RequestRecord, ScriptedModel
from pocket_agent.errors import ConfigurationError


def body(prompt: str, **fields: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "max_tokens": 100,
        "tools": [{"name": "Bash"}],
        "messages": [{"role": "user", "content": prompt}],
        **fields,
    }


async def status(answer: Awaitable[aiohttp.ClientResponse]) -> int:
    response = await answer
    await response.read()
    return response.status


async def test_a_streamed_answer(model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = await model.start()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    async with http.post(f"{url}/v1/messages?beta=true", json=body("demo:text", stream=True)) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        text = await response.text()
    assert text.startswith("event: message_start\n")
    assert text.endswith('event: message_stop\ndata: {"type": "message_stop"}\n\n')
    assert model.requests == [RequestRecord("/v1/messages", "m", "text", stream=True)]


async def test_an_answer_in_one_piece(model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = await model.start()
    async with http.post(f"{url}/v1/messages", json=body("hello")) as response:
        answer = await response.json()
    assert answer["type"] == "message"
    assert "hello" in answer["content"][0]["text"]
    assert answer["usage"]["cache_read_input_tokens"] > 0
    assert model.requests[0].scenario == "greeting"


async def test_a_side_request_disturbs_nothing(model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = await model.start()
    side = body("demo:error", tools=[], metadata={"user_id": "s"})
    async with http.post(f"{url}/v1/messages", json=side) as response:
        assert (await response.json())["content"] == [{"type": "text", "text": "Demo"}]
    assert model.requests[0].scenario == "side"


async def test_an_error_of_the_api(model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = await model.start()
    async with http.post(f"{url}/v1/messages", json=body("demo:error", stream=True)) as response:
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_an_overload_clears_for_each_prompt_on_its_own(model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = f"{await model.start()}/v1/messages"
    one, other = (body("demo:overload=2", metadata={"user_id": session}) for session in "ab")
    assert [await status(http.post(url, json=one)) for _ in range(3)] == [529, 529, 200]
    assert [await status(http.post(url, json=other)) for _ in range(3)] == [529, 529, 200]
    assert await status(http.post(url, json=one)) == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_answer_ends_when_its_client_goes_away(
    stream: bool,
    model: ScriptedModel,
    http: aiohttp.ClientSession,
    eventually: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]],
) -> None:
    async def asked() -> bool:
        return bool(model.requests)

    async def idle() -> bool:
        return model.idle_seconds > 0.0

    url = await model.start()
    slow = asyncio.ensure_future(http.post(f"{url}/v1/messages", json=body("demo:slow=20m", stream=stream)))
    await eventually(asked)
    assert model.idle_seconds == 0.0
    if stream:
        (await slow).close()
    slow.cancel()
    await eventually(idle)


async def test_stopping_ends_a_slow_answer(model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = await model.start()
    async with http.post(f"{url}/v1/messages", json=body("demo:slow=20m", stream=True)) as response:
        await response.content.readline()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await model.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(url)


async def test_what_else_the_cli_asks_for(model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = await model.start()
    assert await status(http.head(f"{url}/")) == 200
    assert await status(http.head(f"{url}/api/hello")) == 200
    assert await status(http.get(f"{url}/v1/whatever")) == 200
    assert await status(http.post(f"{url}/v1/whatever", json={})) == 404
    async with http.post(f"{url}/v1/messages/count_tokens?beta=true", json=body("x" * 4000)) as response:
        assert (await response.json())["input_tokens"] > 1000
    assert [record.path for record in model.requests][-1] == "/v1/messages/count_tokens"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"model":"m"}', b"\xff\xfe", b'{"model":"m","messages":1}'])
async def test_a_body_that_is_no_request(data: bytes, model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = await model.start()
    async with http.post(f"{url}/v1/messages", data=data) as response:
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_any_text_comes_back(model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = await model.start()
    data = json.dumps(body("lone \ud800 nul \x00 emoji \U0001f600")).encode()
    async with http.post(f"{url}/v1/messages", data=data) as response:
        answer = json.loads(await response.read())
    assert "lone \ud800 nul \x00 emoji \U0001f600" in answer["content"][0]["text"]


async def test_a_large_conversation_is_taken(model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = await model.start()
    data = io.BytesIO(json.dumps(body("x" * 4_000_000)).encode())
    assert await status(http.post(f"{url}/v1/messages", data=data)) == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_huge_answer_is_sent_whole(stream: bool, model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = await model.start()
    async with http.post(f"{url}/v1/messages", json=body("demo:huge=3MiB", stream=stream)) as response:
        assert len(await response.read()) > 3 * 2**20


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "", "localhost.example.org"])
async def test_only_loopback_is_listened_on(host: str, model: ScriptedModel) -> None:
    with pytest.raises(ConfigurationError, match="loopback"):
        await model.start(host)


async def test_it_starts_once_and_stops_twice(model: ScriptedModel) -> None:
    await model.start()
    with pytest.raises(ConfigurationError, match="already"):
        await model.start()
    await model.stop()
    await model.stop()
    await model.start()


async def test_a_taken_port_is_refused_and_another_try_works(model: ScriptedModel) -> None:
    url = await model.start()
    port = int(url.rpartition(":")[2])
    second = ScriptedModel()
    with pytest.raises(OSError, match="address already in use"):
        await second.start(port=port)
    assert await second.start() != url
    await second.stop()


async def test_its_identity_is_told_and_random(model: ScriptedModel, http: aiohttp.ClientSession) -> None:
    url = await model.start()
    async with http.get(f"{url}/demo/identity") as response:
        assert await response.json() == {"instance": model.instance}
    assert ScriptedModel().instance != model.instance
    assert model.requests == []
