"""What one client, or many, may have the server hold and do: bounded, whatever they send."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from typing import Any

import pytest

from gguf_vl.engine.fake import Waits, text
from gguf_vl.engine.protocol import Embed, Generate, Prepare
from gguf_vl.server.uploads import Uploads
from gguf_vl.types import Text
from tests.scenes import png, scene
from tests.server.inside import OPEN, inside, listening, until

pytestmark = pytest.mark.anyio
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}]}


async def test_who_takes_nothing_of_an_answer_is_cut_off_and_frees_its_place() -> None:
    long = [Text("x" * 65_536)] * 400
    async with listening(long, text("red"), rules=replace(OPEN, stall_s=0.2)) as served:
        port = served.client.base_url.port
        assert port
        with socket.create_connection(("127.0.0.1", port)) as stalled:
            body = json.dumps(CHAT | {"stream": True}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            stalled.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            await until(lambda: any('"result": "left"' in line for line in served.log))
        assert served.service.gate.under_way == 0
        assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_bodies_have_one_room_together_and_give_it_back() -> None:
    rules = replace(OPEN, max_bodies=3000)
    async with inside([Waits()], rules=rules) as served:
        body = CHAT | {"user": "x" * 1800}
        first = asyncio.create_task(served.client.post("/v1/chat/completions", json=body))
        await until(lambda: served.models.sent(Generate))
        assert (await served.client.post("/v1/chat/completions", json=body)).status_code == 429
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert (await served.client.post("/v1/tokenize", json={"text": 5, "more": "x" * 2000})).status_code == 400


async def test_a_text_far_longer_than_the_context_is_refused_unread() -> None:
    async with inside(text("red")) as served:
        for path, body in (
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "long " * 200_000}]}),
            ("/v1/messages", {"max_tokens": 5, "messages": [{"role": "user", "content": "long " * 200_000}]}),
            ("/v1/tokenize", {"text": "long " * 60_000}),
            ("/v1/embeddings", {"input": ["a"] * 2049}),
        ):
            refused = await served.client.post(path, json=body)
            assert refused.status_code == 400, path
        assert not served.models.sent(Generate)
        assert not served.models.sent(Embed)


async def test_many_texts_are_embedded_some_at_a_time() -> None:
    async with inside(text("red")) as served:
        asked = asyncio.create_task(served.client.post("/v1/embeddings", json={"input": ["a"] * 100}))
        await until(lambda: served.models.sent(Embed) or asked.done())
        assert len(served.models.sent(Embed)) <= 16
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def test_uploads_wait_as_they_came_and_are_given_up_when_they_go() -> None:
    pictures = [png(scene("red circle", seed=seed)) for seed in range(6)]
    async with inside(text("red")) as served:
        served.service.pictures.uploads._budget = sum(map(len, pictures[-4:]))
        headers = {"content-type": "image/png"}
        ids = [
            (await served.client.post("/v1/pictures", content=each, headers=headers)).json()["id"] for each in pictures
        ]
        await until(lambda: served.models.sent(Prepare))
        assert (await served.client.get(f"/v1/pictures/{ids[0]}")).status_code == 404
        assert (await served.client.get(f"/v1/pictures/{ids[-1]}")).json()["state"] in ("waiting", "encoding", "ready")


def test_an_upload_that_comes_again_is_kept_longer_and_one_that_goes_is_told() -> None:
    gone: list[str] = []
    uploads = Uploads(20)
    uploads.on_drop = gone.append
    first, second = uploads.put(b"a" * 8), uploads.put(b"b" * 8)
    assert uploads.put(b"a" * 8) == first
    uploads.put(b"c" * 8)
    assert gone == [second]
