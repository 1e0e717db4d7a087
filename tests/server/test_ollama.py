"""Ollama's own client against a served `pocket`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from gguf_vl import paths
from gguf_vl.engine.fake import Waits, text
from gguf_vl.engine.protocol import Generate
from gguf_vl.errors import UsageError
from gguf_vl.server.dialects.ollama import seconds_of
from gguf_vl.types import (
    MAIN,
    Allocation,
    CallArguments,
    CallEnded,
    CallStarted,
    Finished,
    Text,
    Thinking,
    Timings,
    Usage,
    Used,
)
from tests.hub.content import Repo
from tests.hub.server import Hub
from tests.server.conftest import Serve, Start
from tests.server.inside import Inside, inside, until
from tests.server.shown import ANSWER, PAINT, QUESTION, RED_CIRCLE, encoded

ABOUT_RED: Any = [{"role": "user", "content": QUESTION, "images": [encoded(RED_CIRCLE)]}]

HELLO: dict[str, Any] = {"model": "pocket", "messages": [{"role": "user", "content": "Hello!"}], "stream": False}


def ollama_of(served: Inside) -> ollama.AsyncClient:
    """Ollama's own client for an application in this process."""
    return ollama.AsyncClient(host="http://localhost", transport=httpx.ASGITransport(served.app))


@pytest.fixture(scope="module")
def client(server: Serve) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url) as made:
        yield made


def test_a_picture_is_answered_about(client: ollama.Client) -> None:
    found = client.chat(model="pocket", messages=ABOUT_RED)
    assert (found.message.content, found.done_reason, found.eval_count) == (ANSWER, "stop", 1)
    assert found.prompt_eval_count
    assert client.generate(model="pocket", prompt=QUESTION, images=[RED_CIRCLE]).response == ANSWER


def test_streams_say_the_same(client: ollama.Client) -> None:
    *parts, end = client.chat(model="pocket:latest", messages=ABOUT_RED, stream=True)
    assert "".join(each.message.content or "" for each in parts) == ANSWER
    assert end.done
    said = client.generate(model="pocket", prompt=QUESTION, images=[RED_CIRCLE], stream=True)
    assert "".join(each.response for each in said) == ANSWER


def test_a_schema_and_options_are_followed(client: ollama.Client) -> None:
    schema = {"type": "object", "properties": {"shape": {"enum": [ANSWER]}}, "required": ["shape"]}
    schema["additionalProperties"] = False
    found = client.chat(model="pocket", messages=ABOUT_RED, format=schema, options={"num_predict": 200})
    assert ANSWER in (found.message.content or "")
    short = client.chat(model="pocket", messages=[{"role": "user", "content": "Hello!"}], options={"num_predict": 2})
    assert (short.done_reason, short.eval_count) == ("length", 2)


def test_models_are_told_of(client: ollama.Client) -> None:
    [model] = client.list().models
    assert model.model == "pocket"
    assert re.fullmatch("[0-9a-f]{64}", model.digest or "")
    shown = client.show("pocket")
    assert shown.capabilities
    assert "vision" in shown.capabilities
    client.chat(model="pocket", messages=ABOUT_RED)
    [loaded] = client.ps().models
    assert (loaded.model, loaded.digest, loaded.size_vram) == ("pocket", model.digest, 0)
    assert (loaded.size or 0) > 1 << 20
    assert loaded.expires_at
    assert 200 < loaded.expires_at.year - datetime.now(UTC).year < 300
    client.chat(model="pocket", messages=ABOUT_RED, keep_alive="2h")
    [loaded] = client.ps().models
    assert loaded.expires_at
    assert timedelta(hours=1) < loaded.expires_at - datetime.now(UTC) < timedelta(hours=3)
    client.chat(model="pocket", messages=ABOUT_RED, keep_alive=-1)
    assert len(client.embed(model="pocket", input=["a", "b"]).embeddings) == 2


def test_a_model_is_unloaded_and_comes_back(client: ollama.Client) -> None:
    assert client.generate(model="pocket", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert client.chat(model="pocket", messages=ABOUT_RED).message.content == ANSWER


@pytest.mark.parametrize(
    "wrong", [{"model": "llama99"}, {"messages": [{"role": "user", "content": "?", "images": ["!"]}]}]
)
def test_what_cannot_be_followed_is_refused(client: ollama.Client, wrong: Any) -> None:
    with pytest.raises(ollama.ResponseError) as refused:
        client.chat(**{"model": "pocket", "messages": ABOUT_RED} | wrong)
    assert refused.value.status_code in (400, 404)
    assert refused.value.error


def test_a_model_is_fetched_where_the_operator_allows_it(serve: Start, client: ollama.Client, tmp_path: Path) -> None:
    files = {
        "tiny-text-F16.gguf": paths.pocket_dir() / "pocket-F16.gguf",
        "mmproj-tiny-F16.gguf": paths.pocket_dir() / "mmproj-pocket-F16.gguf",
    }
    with pytest.raises(ollama.ResponseError, match="--allow-pull") as refused:
        client.pull("hf.co/someone/tiny-GGUF")
    assert refused.value.status_code == 403
    with Hub({"someone/tiny-GGUF": Repo(files)}) as hub:
        allowed = serve("--allow-pull", GGUF_VL_HOME=str(tmp_path), HF_ENDPOINT=hub.url, NO_PROXY="127.0.0.1")
        with ollama.Client(host=allowed.url) as fetching:
            steps = list(fetching.pull("hf.co/someone/tiny-GGUF", stream=True))
            assert [steps[0].status, steps[-1].status] == ["pulling manifest", "success"]
            whole = {step.digest for step in steps if step.total and step.completed == step.total}
            assert len(whole) == len(files)
            assert fetching.pull("hf.co/someone/tiny-GGUF").status == "success"
            assert "tiny-text-f16" in [each.model for each in fetching.list().models]
            assert fetching.chat(model="tiny-text-f16", messages=ABOUT_RED).message.content == ANSWER
            with pytest.raises(ollama.ResponseError):
                fetching.pull("hf.co/someone/nothing")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wrong",
    [
        '{"stop": [1, 2]}',
        '{"stop": 5}',
        '{"stop": {"a": "b"}}',
        '{"temperature": NaN}',
        '{"temperature": -1}',
        '{"temperature": true}',
        '{"temperature": "0.5"}',
        '{"top_p": 7}',
        '{"top_k": -3}',
        '{"min_p": 3}',
        '{"repeat_penalty": -1}',
        '{"presence_penalty": Infinity}',
        '{"frequency_penalty": -Infinity}',
        '{"seed": 1.5}',
        '{"num_predict": 1e999}',
    ],
)
async def test_options_out_of_range_are_refused_before_the_engine_hears_of_them(wrong: str) -> None:
    async with inside(text("yes")) as served:
        body = json.dumps(HELLO)[:-1] + f', "options": {wrong}}}'
        for path in ("/api/chat", "/api/generate"):
            refused = await served.client.post(path, content=body)
            assert refused.status_code == 400
            assert "options." + wrong.split('"')[1] in refused.json()["error"]
        assert served.models.sent(Generate) == []


@pytest.mark.anyio
async def test_options_in_range_are_followed_and_those_about_loading_let_pass() -> None:
    async with inside(text("yes")) as served:
        options = {"seed": 1.0, "stop": ["a", "b"], "temperature": 1, "num_predict": -1, "num_ctx": 99, "top_p": None}
        assert (await served.client.post("/api/chat", json=HELLO | {"options": options})).status_code == 200
        options = {"stop": "a", "num_predict": 9, "repeat_penalty": 1.5, "min_p": 0.25, "top_k": 3}
        assert (await served.client.post("/api/chat", json=HELLO | {"options": options})).status_code == 200
        first, second = (each.request.sampling for each in served.models.sent(Generate))
        assert (first.seed, first.stop, first.temperature) == (1, ("a", "b"), 1)
        assert (second.stop, second.max_tokens, second.repetition_penalty) == (("a",), 9, 1.5)
        assert (second.min_p, second.top_k) == (0.25, 3)


@pytest.mark.anyio
async def test_a_streamed_line_has_nothing_that_ends_lines() -> None:
    pieces = ("a\u2028b", "\u2029", "c\x85d\x0b\x0c\x1c", "é漢😀")
    async with inside(text(*pieces)) as served:
        parts = await ollama_of(served).chat(model="pocket", messages=HELLO["messages"], stream=True)
        assert "".join([each.message.content or "" async for each in parts]) == "".join(pieces)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "text/plain; charset=utf-8"])
async def test_a_body_is_json_whatever_it_is_called(kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    async with inside(text("yes")) as served:

        async def status(path: str, body: dict[str, Any], **more: str) -> int:
            content = json.dumps({"model": "pocket", "stream": False} | body)
            return (await served.client.post(path, content=content, headers=headers | more)).status_code

        assert await status("/api/chat", {"messages": HELLO["messages"]}) == 200
        assert await status("/api/generate", {"prompt": "Why is the sky blue?"}) == 200
        assert await status("/api/show", {}) == 200
        assert await status("/api/pull", {}) == 403
        assert await status("/api/embed", {"input": []}) == 200
        assert await status("/api/embeddings", {"prompt": {}}) == 400
        assert await status("/api/generate", {"prompt": "?"}, Origin="http://evil.example") == 403
        assert (await served.client.post("/api/show", content="no JSON", headers=headers)).status_code == 400


KEPT: dict[str, dict[str, Any]] = {
    "/api/chat": HELLO,
    "/api/generate": {"prompt": "Hello!", "stream": True},
    "/api/embed": {"input": []},
}


@pytest.mark.anyio
@pytest.mark.parametrize("path", KEPT)
@pytest.mark.parametrize("keep_alive", [0, "0s", 0.001, 1e-9, "1ms"])
async def test_a_model_is_unloaded_as_long_after_an_answer_as_is_asked(path: str, keep_alive: float | str) -> None:
    async with inside(text("yes")) as served:
        answer = await served.client.post(path, json=KEPT[path] | {"keep_alive": keep_alive})
        assert answer.status_code == 200
        await until(lambda: not served.service.serving.loaded)
        again = await served.client.post(path, json=KEPT[path])
        assert again.status_code == 200
        engine = served.service.serving.engine
        assert engine
        assert engine.info
        assert engine.idle_s is None


@pytest.mark.anyio
async def test_a_model_that_is_only_loaded_is_unloaded_after_its_time_too() -> None:
    async with inside() as served:
        loaded = await served.client.post("/api/generate", json={"keep_alive": "1h30m"})
        assert loaded.json()["done_reason"] == "load"
        engine = served.service.serving.engine
        assert engine
        assert (engine.info is not None, engine.idle_s) == (True, 5400)
        loaded = await served.client.post("/api/generate", json={"keep_alive": 0.01})
        assert loaded.json()["done_reason"] == "load"
        await until(lambda: not served.service.serving.loaded)


@pytest.mark.anyio
async def test_a_model_in_use_is_unloaded_when_its_last_answer_is_whole() -> None:
    release = asyncio.Event()
    async with inside([Text("a"), Waits(release), *text("b")]) as served:
        asked = asyncio.create_task(served.client.post("/api/chat", json=HELLO))
        await until(lambda: served.models.sent(Generate))
        unloaded = await served.client.post("/api/generate", json={"keep_alive": 0})
        assert unloaded.json()["done_reason"] == "unload"
        assert served.service.serving.loaded
        release.set()
        assert (await asked).json()["message"]["content"] == "ab"
        await until(lambda: not served.service.serving.loaded)


@pytest.mark.anyio
async def test_what_is_said_of_a_model_holds_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with inside(text("yes")) as served:
        pocket = served.models.default
        other = replace(pocket, local=replace(pocket.local, name="other"))
        monkeypatch.setattr(served.models, "find", {"pocket": pocket, "other": other}.__getitem__)
        await served.client.post("/api/chat", json=HELLO)
        async with served.service.serving.using("pocket") as first:
            swapping = asyncio.create_task(
                served.client.post("/api/chat", json=HELLO | {"model": "other", "keep_alive": 1000})
            )
            for _ in range(50):
                await asyncio.sleep(0)
            assert first.idle_s is None
        assert (await swapping).status_code == 200
        second = served.service.serving.engine
        assert second
        assert (served.service.serving.loaded, second.idle_s, first.idle_s) == ("other", 1000, None)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (300, 300),
        (0.5, 0.5),
        ("300", 300),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5m", 30),
        ("1m0.5s", 60.5),
        ("100ms", 0.1),
        ("1µs", 1e-6),
        ("0", 0),
        (-1, None),
        ("-1", None),
        ("-1m", None),
        ("1e3h", "wrong"),
        ("5 m", "wrong"),
        ("m", "wrong"),
        ("", "wrong"),
        ("1h30", "wrong"),
        (float("nan"), "wrong"),
        (float("inf"), None),
        pytest.param("9" * 400 + "h", None, id="very long"),
    ],
)
def test_durations_are_those_of_go(said: float | str, seconds: float | str | None) -> None:
    if seconds == "wrong":
        with pytest.raises(UsageError, match="keep_alive"):
            seconds_of(said)
    else:
        assert seconds_of(said) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.anyio
async def test_what_a_model_takes_of_the_gpus_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [Allocation(device, "weights", n, "") for device, n in ((MAIN, 1), ("CUDA0", 20), ("CUDA1", 300))]
    monkeypatch.setattr("gguf_vl.engine.fake.NOTHING_USED", Used(tuple(parts), {}, None, 0))
    async with inside(text("yes")) as served:
        assert (await ollama_of(served).ps()).models == []
        await served.client.post("/api/chat", json=HELLO)
        [loaded] = (await ollama_of(served).ps()).models
        assert (loaded.size, loaded.size_vram, loaded.context_length) == (321, 320, 8192)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_null_is_the_same_as_nothing(path: str) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    body = {
        "model": None,
        "stream": None,
        "options": None,
        "think": None,
        "keep_alive": None,
        "prompt": "Hello!",
        "messages": [*HELLO["messages"], called, {"role": "tool", "content": "1", "images": None}],
    }
    async with inside(text("y", "es")) as served:
        answer = await served.client.post(path, json=body)
        assert answer.status_code == 200
        assert len(answer.text.splitlines()) == 3  # a stream, as where nothing is said
        if path == "/api/chat":
            [sent] = served.models.sent(Generate)
            assert [(each.role, each.content) for each in sent.request.messages[1:]] == [
                ("assistant", ()),
                ("tool", ("1",)),
            ]


PAINT_TOOL: Any = [{"type": "function", "function": {"name": "paint", "description": "Paints.", "parameters": PAINT}}]
CALLS: list[Any] = [
    Thinking("Which "),
    Thinking("colours?"),
    Text("I paint."),
    CallStarted(0, "call_a", "paint"),
    CallArguments(0, '{"colour": '),
    CallArguments(0, '"rot\u2028"}'),
    CallEnded(0, complete=True),
    CallStarted(1, "call_b", "paint"),
    CallArguments(1, '{"colour": "blue", "coats": [1, {"of": 2.5}]}'),
    CallEnded(1, complete=True),
    Finished("stop", Usage(7, 0, 9), Timings(0.0, 0.0, 0.0, None)),
]
"""An answer that thinks, says something and calls twice."""
ARGUMENTS = [{"colour": "rot\u2028"}, {"colour": "blue", "coats": [1, {"of": 2.5}]}]


@pytest.mark.anyio
async def test_calls_are_told_whole_and_answered() -> None:
    async with inside(CALLS, text("Painted.")) as served:
        talk: list[Any] = [{"role": "user", "content": "Paint!"}]
        found = await ollama_of(served).chat(model="pocket", messages=talk, tools=PAINT_TOOL, think=True)
        said = found.message
        assert (said.thinking, said.content, found.done_reason) == ("Which colours?", "I paint.", "stop")
        assert (found.prompt_eval_count, found.eval_count) == (7, 9)
        assert [(each.function.name, each.function.arguments) for each in said.tool_calls or ()] == [
            ("paint", each) for each in ARGUMENTS
        ]
        results = [{"role": "tool", "tool_name": "paint", "content": each} for each in ("done", "done too")]
        again = await ollama_of(served).chat(model="pocket", messages=[*talk, said, *results], tools=PAINT_TOOL)
        assert again.message.content == "Painted."
        first, second = (each.request for each in served.models.sent(Generate))
        [tool] = first.tools
        assert (tool.name, tool.description, tool.parameters["properties"]) == ("paint", "Paints.", PAINT["properties"])
        _, called, *given = second.messages
        assert [(each.name, json.loads(each.arguments)) for each in called.calls] == [
            ("paint", each) for each in ARGUMENTS
        ]
        assert [(each.role, each.content) for each in given] == [("tool", ("done",)), ("tool", ("done too",))]


@pytest.mark.anyio
async def test_calls_are_streamed_each_when_it_is_whole() -> None:
    async with inside(CALLS) as served:
        parts = await ollama_of(served).chat(
            model="pocket", messages=HELLO["messages"], tools=PAINT_TOOL, think=True, stream=True
        )
        *told, end = [each async for each in parts]
        assert [
            (each.message.thinking, each.message.content, [call.function for call in each.message.tool_calls or ()])
            for each in told
        ] == [
            ("Which ", "", []),
            ("colours?", "", []),
            (None, "I paint.", []),
            *((None, "", [ollama.Message.ToolCall.Function(name="paint", arguments=each)]) for each in ARGUMENTS),
        ]
        assert (end.done, end.done_reason, end.eval_count) == (True, "stop", 9)
        assert not end.message.tool_calls


@pytest.mark.anyio
async def test_calls_have_their_ids_and_places_and_arguments_that_were_cut_off_are_none() -> None:
    cut = [*CALLS[:8], CallArguments(1, '{"col'), CallEnded(1, complete=False), CALLS[-1]]
    async with inside(CALLS, cut) as served:
        for arguments in (ARGUMENTS, [ARGUMENTS[0], {}]):
            found = await served.client.post("/api/chat", json=HELLO | {"tools": PAINT_TOOL})
            assert found.json()["message"]["tool_calls"] == [
                {"id": id, "function": {"index": index, "name": "paint", "arguments": arguments[index]}}
                for index, id in enumerate(("call_a", "call_b"))
            ]
