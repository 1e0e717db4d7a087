"""The server seen from outside: alive, ready, its figures, ids, and a log that tells nothing of what was said."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gguf_vl.engine.fake import Waits, text
from gguf_vl.engine.protocol import Generate, Loading
from gguf_vl.errors import DoesNotFit
from gguf_vl.hardware import nvidia
from gguf_vl.server.metrics import Metrics, Seen
from gguf_vl.server.record import Record
from gguf_vl.server.watching import Observer
from gguf_vl.types import Allocation, CallStarted, EngineStats, Progress, Text, Thinking, Used
from tests.server.inside import Inside, inside, listening, until

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "my own words"}]}


async def figures(served: Inside) -> dict[str, float]:
    """All of /metrics, each under its name and labels."""
    page = (await served.client.get("/metrics")).text
    return {
        sample.name + "".join(f"/{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def test_it_is_ready_once_the_model_is_loaded_and_warm_and_says_how_far_it_is() -> None:
    release, warm = asyncio.Event(), asyncio.Event()
    loading = [[Loading(0.25), Waits(release)]]
    async with inside([Waits(warm), *text("warm")], loading=loading) as served:
        assert (await served.client.get("/health")).json() == {"status": "alive"}
        starting = asyncio.create_task(served.start.run(served.service))

        async def state() -> tuple[int, str, float]:
            response = await served.client.get("/ready")
            return response.status_code, response.json()["status"], response.json()["fraction"]

        assert await state() == (503, "loading", 0)
        await until(lambda: served.start.readiness(served.service).fraction == 0.25)
        assert await state() == (503, "loading", 0.25)
        release.set()
        await until(lambda: served.models.sent(Generate))
        assert await state() == (503, "loading", 1)
        warm.set()
        await starting
        assert await state() == (200, "ready", 1)
        await served.service.serving.unload()
        assert await state() == (200, "ready", 1)
        assert "pocket is ready" in served.told[-1]


async def test_a_model_that_could_not_be_loaded_makes_it_unready_until_one_is() -> None:
    async with inside(text("yes"), loading=[DoesNotFit("It takes 9 GB.", "Close others.")]) as served:
        await served.start.run(served.service)
        response = await served.client.get("/ready")
        assert (response.status_code, response.json()["status"]) == (503, "failed")
        assert "9 GB" not in response.text
        assert served.told == ["pocket could not be loaded: It takes 9 GB. Close others."]
        assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        assert (await served.client.get("/ready")).status_code == 200


async def test_requests_that_come_while_the_model_loads_wait_for_it() -> None:
    release = asyncio.Event()
    async with listening(text("yes"), loading=[[Waits(release)]]) as served:
        asking = asyncio.create_task(served.client.post("/v1/chat/completions", json=CHAT))
        await until(lambda: served.service.gate.under_way)
        assert (await figures(served))["gguf_vl_requests_open"] == 2  # it, and this one
        assert not asking.done()
        release.set()
        assert (await asking).json()["choices"][0]["message"]["content"] == "yes"


async def test_requests_are_counted_by_dialect_and_result() -> None:
    async with inside(text("a", "b", "c")) as served:
        await served.client.post("/v1/chat/completions", json=CHAT)
        await served.client.post("/v1/chat/completions", json=CHAT | {"n": 2})
        await served.client.post("/v1/messages", json=CHAT)
        await served.client.post("/api/chat", json=CHAT)
        await served.client.post("/api/v1/chat", json={"question": "?"})
        await served.client.post("/v1/chat/completions", json={})
        await served.client.get("/nowhere")
        found = await figures(served)
        counted = {key: value for key, value in found.items() if key.startswith("gguf_vl_requests_total/")}
        assert counted == {
            "gguf_vl_requests_total/openai/ok": 2,
            "gguf_vl_requests_total/openai/refused": 1,
            "gguf_vl_requests_total/anthropic/ok": 1,
            "gguf_vl_requests_total/ollama/ok": 1,
            "gguf_vl_requests_total/plain/ok": 1,
            "gguf_vl_requests_total/page/refused": 1,
        }
        assert found["gguf_vl_time_to_first_token_seconds_count"] == 5
        assert found["gguf_vl_request_seconds_count/openai"] == 3
        assert (found["gguf_vl_prompt_tokens_total"], found["gguf_vl_answer_tokens_total"]) == (5, 18)
        assert found["gguf_vl_model_loaded/pocket"] == 1
        assert found["gguf_vl_requests_open"] == 1


def test_the_first_token_is_the_first_of_an_answer_or_its_thoughts_and_not_a_sign_of_progress() -> None:
    for event in (Text("a"), Thinking("b"), CallStarted(0, "call", "paint")):
        record = Record()
        record.take(Progress("encode", 1, 2))
        assert record.first_token_s is None
        record.take(event)
        first = record.first_token_s
        assert first is not None
        record.take(Text("more"))
        assert record.first_token_s == first


def test_what_the_engine_the_plan_and_the_gpus_say_is_told() -> None:
    stats = EngineStats(
        9, 2, 3, 4, 5, 600, pictures_from_disk=6, seats=8, cells=100, kept_cells=50, prompt_tokens=70, tokens_reused=30,
        answer_tokens=20, encode_s=1.5, prefill_s=2.5, decode_s=3.5, drafted=10, accepted=4, restored=7,
    )  # fmt: skip
    planned = [Allocation("CUDA0", "weights", 1000, ""), Allocation("CUDA0", "weights", 500, "")]
    used = Used((Allocation("CUDA0", "KV", 300, ""),), {"CUDA0": 1900}, None, 4000)
    gpus = [nvidia.Load("0000:01:00.0", "NVIDIA L4", 0.5, 10, 20), nvidia.Load("0000:02:00.0", "B", None, None, None)]
    page = Metrics().page(Seen("8b", 1, stats, planned, used, gpus)).decode()
    for line in (
        'gguf_vl_model_loaded{model="8b"} 1.0',
        "gguf_vl_worker_restarts_total 1.0",
        "gguf_vl_queue_length 3.0",
        "gguf_vl_slots 8.0",
        "gguf_vl_slots_busy 2.0",
        'gguf_vl_cache_hits_total{kind="prompt_token"} 30.0',
        'gguf_vl_cache_hits_total{kind="picture_memory"} 5.0',
        'gguf_vl_cache_hits_total{kind="picture_disk"} 6.0',
        'gguf_vl_cache_hits_total{kind="sequence_disk"} 7.0',
        'gguf_vl_cache_misses_total{kind="prompt_token"} 70.0',
        'gguf_vl_cache_misses_total{kind="picture"} 4.0',
        'gguf_vl_engine_seconds_total{stage="encode"} 1.5',
        'gguf_vl_engine_seconds_total{stage="prefill"} 2.5',
        'gguf_vl_engine_seconds_total{stage="decode"} 3.5',
        "gguf_vl_decoded_tokens_total 20.0",
        'gguf_vl_drafted_tokens_total{outcome="rejected"} 6.0',
        'gguf_vl_planned_bytes{device="CUDA0",purpose="weights"} 1500.0',
        'gguf_vl_used_bytes{device="CUDA0",purpose="KV"} 300.0',
        'gguf_vl_device_used_bytes{device="CUDA0"} 1900.0',
        "gguf_vl_worker_resident_bytes 4000.0",
        'gguf_vl_gpu_load_ratio{id="0000:01:00.0",name="NVIDIA L4"} 0.5',
    ):
        assert line in page
    assert "0000:02:00.0" not in page


async def test_gpus_are_asked_now_and_then_and_one_that_does_not_answer_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Any] = [(nvidia.Load("0000:01:00.0", "NVIDIA L4", 0.5, 10, 20),), OSError("no driver")]

    def loads() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(nvidia, "loads", loads)
    async with inside() as served:
        observer = Observer(served.service)
        assert [gpu.busy for gpu in (await observer.look()).gpus] == [0.5]
        assert [gpu.busy for gpu in (await observer.look()).gpus] == [0.5]
        assert [gpu.busy for gpu in (await Observer(served.service).look()).gpus] == []


@pytest.mark.parametrize("id", ["abc-123", "a" * 128, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])
async def test_a_sane_request_id_is_taken(id: str) -> None:
    async with inside(text("yes")) as served:
        response = await served.client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": id})
        assert response.headers["x-request-id"] == id
        assert json.loads(served.log[0])["id"] == id


@pytest.mark.parametrize("id", ["", "a" * 129, "a b", "a\x1b[31m", '"', "a\x7f", "ä"])
async def test_another_one_is_made_instead_of_one_that_is_not(id: str) -> None:
    async with inside(text("yes")) as served:
        given = [(b"x-request-id", id.encode("latin-1"))]
        for path in ("/v1/chat/completions", "/nowhere"):
            response = await served.client.post(path, json=CHAT, headers=given)
            assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


async def test_the_log_has_a_line_for_each_request_and_nothing_of_what_was_said() -> None:
    async with inside(text("an ", "answer")) as served:
        await served.client.post("/v1/chat/completions?key=my-own-secret", json=CHAT)
        [line] = map(json.loads, served.log)
        assert line["seconds"] >= line["first_token_s"] > 0
        for name in ("time", "id", "seconds", "first_token_s"):
            del line[name]
        assert line == {
            "client": "127.0.0.1",
            "key": None,
            "method": "POST",
            "path": "/v1/chat/completions",
            "dialect": "openai",
            "status": 200,
            "result": "ok",
            "model": "pocket",
            "prompt_tokens": 1,
            "answer_tokens": 2,
        }
        await served.client.get("/v1/pictures/pic_0123456789")
        await served.client.get("/v1/models/my%0aown%1b[31m")
        assert json.loads(served.log[1])["path"] == "/v1/pictures/{id}"
        assert all(line.isprintable() for line in served.log)
        assert not re.search("my own|secret|an answer|pic_0", "".join(served.log))


async def test_what_the_operators_tools_ask_leaves_no_line_while_all_is_well() -> None:
    async with inside() as served:
        for path in ("/health", "/metrics", "/ready"):
            await served.client.get(path)
        assert [json.loads(line)["path"] for line in served.log] == ["/ready"]


async def test_what_nobody_foresaw_is_a_500_and_its_words_are_in_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async with inside(text("yes")) as served:

        def find(_name: str) -> Any:
            raise ZeroDivisionError("my own words")

        monkeypatch.setattr(served.models, "find", find)
        response = await served.client.post("/v1/messages", json=CHAT)
        assert (response.status_code, response.json()["error"]["type"]) == (500, "api_error")
        assert json.loads(served.log[0])["result"] == "failed"
        [said] = map(json.loads, served.told)
        assert (said["unforeseen"], said["id"]) == ("ZeroDivisionError", response.headers["x-request-id"])
        assert said["at"][-1].endswith(" find")
        assert "my own" not in "".join(served.told + served.log) + response.text
