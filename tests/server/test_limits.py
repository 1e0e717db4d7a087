"""What becomes of requests that are too many, too slow, left alone, or cut off by the engine's end."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import httpx2
import pytest

from gguf_vl.config import Settings
from gguf_vl.engine.fake import Waits, WorkerDies, text
from gguf_vl.engine.protocol import Cancel, Embed, Generate
from gguf_vl.errors import DoesNotFit
from gguf_vl.server.gate import Gate
from gguf_vl.types import Text
from tests.server.inside import Inside, inside, listening, until

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}]}
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "?"},
    "/v1/responses": {"input": "?"},
    "/v1/messages": CHAT | {"max_tokens": 9},
    "/api/chat": CHAT,
    "/api/generate": {"prompt": "?"},
    "/api/v1/chat": {"question": "?"},
}
"""The least that each dialect's questions need."""
STREAMS = [path for path in ASKED if path != "/api/v1/chat"]


def told(path: str, body: Any) -> str:
    """The words of an error in a dialect's shape."""
    error = body["error"]
    if path.startswith("/v1/messages"):
        assert body["type"] == "error"
        assert error["type"] in ("rate_limit_error", "timeout_error", "overloaded_error")
    elif path.startswith("/v1/"):
        assert {"message", "type", "param", "code"} <= set(error)
    else:
        return str(error)
    return str(error["message"])


def told_in_stream(path: str, lines: list[str]) -> str:
    """The words of the error that a stream ends with."""
    if path.startswith("/api/"):
        return told(path, json.loads(lines[-1]))
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    if path == "/v1/responses":
        assert (events[-1]["type"], events[-1]["response"]["status"]) == ("response.failed", "failed")
        return str(events[-1]["response"]["error"]["message"])
    return told(path, events[-1])


async def streamed(served: Inside, path: str) -> tuple[int, list[str]]:
    """A stream, whole: its status and lines."""
    async with served.client.stream("POST", path, json=ASKED[path] | {"stream": True}) as response:
        return response.status_code, [line async for line in response.aiter_lines() if line]


async def until_sent(served: Inside, kind: type, n: int) -> None:
    """Wait until the engine has got so many commands of a kind."""
    await until(lambda: len(served.models.sent(kind)) >= n)


@pytest.mark.parametrize("path", ASKED)
async def test_who_comes_when_all_places_are_taken_is_told_its_place_and_when_to_come_again(path: str) -> None:
    async with inside([Waits()], most=2) as served:
        waiting = [asyncio.create_task(served.client.post(path, json=ASKED[path] | {"stream": False})) for _ in "ab"]
        await until_sent(served, Generate, 2)
        refused = await served.client.post(path, json=ASKED[path])
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert "number 3" in told(path, refused.json())
        error = refused.json()["error"]
        assert (error if isinstance(error, dict) else refused.json())["place"] == 3
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_place_is_free_again_when_its_request_has_ended() -> None:
    async with inside(text("yes"), most=1) as served:
        for _ in range(3):
            assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code == 200


def test_several_answers_take_several_places_and_one_request_is_let_in_whatever_it_wants() -> None:
    gate = Gate(3)
    with gate.entered(16), pytest.raises(Exception, match="number 17"), gate.entered():
        pass
    with gate.entered(2), gate.entered(), pytest.raises(Exception, match="number 4"), gate.entered():
        pass
    with gate.entered():
        pass


@pytest.mark.parametrize("path", ASKED)
async def test_a_request_that_takes_too_long_is_ended_and_its_slot_freed(path: str) -> None:
    gc.collect()  # which takes longer than the request may, and comes when it likes
    async with inside([Waits()], limit_s=0.05) as served:
        response = await served.client.post(path, json=ASKED[path] | {"stream": False})
        assert response.status_code == 504
        assert "0.05 s" in told(path, response.json())
        assert len(served.models.sent(Cancel)) == 1


@pytest.mark.parametrize("path", STREAMS)
async def test_a_stream_that_takes_too_long_ends_with_the_dialects_error(path: str) -> None:
    gc.collect()  # which takes longer than the request may, and comes when it likes
    async with inside([Text("be"), Text("gun"), Waits()], limit_s=0.1) as served:
        status, lines = await streamed(served, path)
        assert status == 200
        assert "be" in "".join(lines)
        assert "0.1 s" in told_in_stream(path, lines)
        assert len(served.models.sent(Cancel)) == 1
        assert json.loads(served.log[-1])["result"] == "timeout"


async def test_the_time_limit_counts_the_load_of_the_model() -> None:
    async with inside(text("yes"), loading=[[Waits()]], limit_s=0.05) as served:
        assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code == 504


@pytest.mark.parametrize("path", ASKED)
async def test_a_worker_that_dies_leaves_a_503_and_the_next_is_answered(path: str) -> None:
    async with inside([Text("half"), WorkerDies()], text("whole")) as served:
        died = await served.client.post(path, json=ASKED[path] | {"stream": False})
        assert (died.status_code, died.headers["retry-after"]) == (503, "5")
        assert "ended while working" in told(path, died.json())
        answered = await served.client.post(path, json=ASKED[path] | {"stream": False})
        assert answered.status_code == 200
        assert "whole" in answered.text
        assert "gguf_vl_worker_restarts_total 1.0" in (await served.client.get("/metrics")).text


@pytest.mark.parametrize("path", STREAMS)
async def test_a_worker_that_dies_in_mid_stream_leaves_the_dialects_error(path: str) -> None:
    async with inside([Text("half"), WorkerDies()], text("whole")) as served:
        status, lines = await streamed(served, path)
        assert status == 200
        assert "ended while working" in told_in_stream(path, lines)
        assert "whole" in "".join((await streamed(served, path))[1])
        assert [json.loads(line)["result"] for line in served.log] == ["unavailable", "ok"]


@pytest.mark.parametrize("path", ASKED)
async def test_a_model_that_does_not_fit_is_unavailable(path: str) -> None:
    async with inside(loading=[DoesNotFit("It takes 9 GB.", "Close others.")]) as served:
        response = await served.client.post(path, json=ASKED[path])
        assert response.status_code == 503
        assert "It takes 9 GB" in told(path, response.json())


async def test_a_model_that_no_longer_fits_when_it_is_wanted_again_is_unavailable_too() -> None:
    async with inside(text("yes"), loading=[(), DoesNotFit("It takes 9 GB.", "Close others.")]) as served:
        assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        await served.service.serving.unload()
        assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code == 503
        assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code == 200


@pytest.mark.parametrize("path", ASKED)
async def test_a_client_that_goes_away_frees_its_slot(path: str) -> None:
    async with listening([Waits()]) as served:
        asking = asyncio.create_task(served.client.post(path, json=ASKED[path] | {"stream": False}))
        await until_sent(served, Generate, 2)
        asking.cancel()
        await until_sent(served, Cancel, 1)
        [cancelled] = served.models.sent(Cancel)
        assert cancelled.id == served.models.sent(Generate)[-1].request.id
        await logged(served, "left")


@pytest.mark.parametrize("path", STREAMS)
async def test_a_client_that_goes_away_in_mid_stream_frees_its_slot(path: str) -> None:
    async with listening([Text("be"), Text("gun"), Waits()]) as served:
        async with served.client.stream("POST", path, json=ASKED[path] | {"stream": True}) as response:
            async for line in response.aiter_lines():
                if "be" in line:
                    break
        await until_sent(served, Cancel, 1)
        await logged(served, "left")


async def logged(served: Inside, result: str) -> None:
    """Wait until the log has a request that ended so."""
    await until(lambda: any(json.loads(line)["result"] == result for line in served.log))


async def test_a_client_that_goes_away_while_texts_are_embedded_frees_its_slot() -> None:
    async with listening() as served:
        body = {"input": ["a text"] * 40}
        asking = asyncio.create_task(served.client.post("/v1/embeddings", json=body))
        await until_sent(served, Embed, 16)
        asking.cancel()
        await until_sent(served, Cancel, 16)
        assert len(served.models.sent(Embed)) == 16


async def test_no_answer_is_longer_than_the_operator_allows() -> None:
    async with inside(text("yes"), settings=Settings(max_tokens=10)) as served:
        for asked in ({}, {"max_tokens": 5}, {"max_tokens": 5000}, {"max_completion_tokens": 5000}):
            await served.client.post("/v1/chat/completions", json=CHAT | asked)
        sent = [command.request.sampling.max_tokens for command in served.models.sent(Generate)]
        assert sent == [10, 5, 10, 10]


async def test_more_pictures_than_are_allowed_are_refused() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    async with inside(text("yes")) as served:
        body = {"messages": [{"role": "user", "content": [picture] * 5}]}
        response: httpx2.Response = await served.client.post("/v1/chat/completions", json=body)
        assert response.status_code == 400
        assert "5 pictures, and 4" in response.json()["error"]["message"]
