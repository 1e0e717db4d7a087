"""Real workers and the real `pocket`: answers are right, and nothing a worker does takes the caller down."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gguf_vl import paths
from gguf_vl.engine.client import Engine
from gguf_vl.engine.process import WorkerProcess
from gguf_vl.errors import DoesNotFit, GgufVlError, InvalidModelFile, UsageError, WorkerDied
from gguf_vl.types import (
    EngineSettings,
    Finished,
    Message,
    Picture,
    PictureLimits,
    Progress,
    Request,
    Sampling,
    Text,
)
from tests.scenes import the_picture

pytestmark = pytest.mark.anyio

LIMITS = PictureLimits(16, 1024)
GREEDY = Sampling(temperature=0)
BABBLE = Sampling(temperature=1000.0, top_k=0, top_p=1.0, seed=3)
"""Every token as likely as the next: an answer of hundreds of tokens."""


def settings(**changes: object) -> EngineSettings:
    folder = paths.pocket_dir()
    cpu = {"n_gpu_layers": 0, "mmproj_offload": False}  # as most who test have it: loop and encoder take turns
    values = {"limits": LIMITS, "n_ctx": 2048, "n_threads": 1} | cpu | changes
    return EngineSettings(folder / "pocket-F16.gguf", folder / "mmproj-pocket-F16.gguf", **values)  # type: ignore[arg-type]


def ask(*content: str | Picture, sampling: Sampling = GREEDY) -> Request:
    return Request((Message("user", content),), sampling)


async def answer(engine: Engine, request: Request) -> str:
    return "".join([event.text async for event in engine.generate(request) if isinstance(event, Text)])


def pid(engine: Engine) -> int:
    assert isinstance(engine.connection, WorkerProcess)
    return engine.connection.pid


async def test_pictures_are_seen_and_encoded_once() -> None:
    red, blue = the_picture("red circle"), the_picture("blue square")
    async with Engine(settings()) as engine:
        assert await answer(engine, ask(red, "What colour is the circle?")) == "red"
        assert await answer(engine, ask(blue, "What colour is the square?")) == "blue"
        assert await answer(engine, ask(red, "How many shapes are there?")) == "1"
        assert (await engine.stats()).pictures_reused == 0  # its cells were still there
        assert await answer(engine, ask("How many shapes are there?", red)) == "1"
        stats = await engine.stats()
    assert (stats.pictures_encoded, stats.pictures_reused) == (2, 1)
    assert stats.embedding_bytes > 0


async def test_a_prepared_picture_costs_its_question_no_encoding() -> None:
    async with Engine(settings()) as engine:
        await engine.prepare(Message("user", (the_picture("red circle"),)))
        assert await answer(engine, ask(the_picture("red circle"), "What colour is the circle?")) == "red"
        stats = await engine.stats()
    assert stats.pictures_encoded == 1
    assert stats.tokens_reused > the_picture("red circle").tokens


async def test_usage_and_progress_tell_what_was_done() -> None:
    picture = the_picture("red circle")
    async with Engine(settings()) as engine:
        events = [event async for event in engine.generate(ask(picture, "What shape is red?"))]
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.finish_reason == "stop"
    assert end.usage.image_tokens == picture.tokens < end.usage.prompt_tokens
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert stages[0] == "encode"
    assert stages[-1] == "prefill"
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert last.done == last.total == end.usage.prompt_tokens
    assert end.timings.encode_s > 0
    assert end.timings.ttft_s >= max(end.timings.encode_s, end.timings.prefill_s)


async def test_a_talk_too_long_for_the_context_is_refused_or_loses_its_oldest_turns_whole() -> None:
    red, blue = the_picture("red circle"), the_picture("blue square")
    question = Message("user", (blue, "What colour is the square?"))
    turn = (Message("user", (red, "What shape is red?")), Message("assistant", ("circle",)))
    talk = (Message("system", ("Be brief.",)), *turn * 40, question)
    async with Engine(settings(n_ctx=1024)) as engine:
        with pytest.raises(DoesNotFit, match=r"takes \d{4,} tokens .* the context holds 1024"):
            await answer(engine, Request(talk, GREEDY))
        assert (await engine.stats()).pictures_encoded == 0  # it was counted before anything was encoded
        events = [event async for event in engine.generate(Request(talk, GREEDY, drop_oldest=True))]
        alone = Request((Message("user", (blue, "square " * 2000)),), GREEDY, drop_oldest=True)
        with pytest.raises(DoesNotFit):
            await answer(engine, alone)
    end = events[-1]
    assert isinstance(end, Finished)
    assert "".join(event.text for event in events if isinstance(event, Text)) == "blue"
    assert 0 < end.dropped_messages < len(talk) - 2
    assert end.dropped_messages % len(turn) == 0
    assert end.usage.prompt_tokens <= 768


async def test_loading_reports_progress_up_to_the_whole() -> None:
    seen: list[float] = []
    async with Engine(settings(), on_progress=seen.append):
        pass
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


async def test_the_token_limit_and_the_context_end_an_answer() -> None:
    async with Engine(settings(n_ctx=256)) as engine:
        events = [
            e async for e in engine.generate(ask("hi", sampling=Sampling(temperature=1000.0, seed=3, max_tokens=5)))
        ]
        assert isinstance(events[-1], Finished)
        assert (events[-1].finish_reason, events[-1].usage.completion_tokens) == ("length", 5)
        with pytest.raises(DoesNotFit, match="256"):
            await answer(engine, ask("word " * 2000))
        assert await answer(engine, ask(the_picture("red circle"), "What colour is the circle?")) == "red"


async def test_the_same_seed_gives_the_same_answer() -> None:
    limited = Sampling(temperature=50.0, top_k=0, top_p=1.0, seed=11, max_tokens=40)
    async with Engine(settings()) as engine:
        first, second = [await answer(engine, ask("Tell me.", sampling=limited)) for _ in range(2)]
        other = await answer(engine, ask("Tell me.", sampling=replace(limited, seed=12)))
    assert first == second != other


async def test_a_penalty_changes_a_greedy_answer_only_when_asked_for() -> None:
    async with Engine(settings()) as engine:
        question = "What is the capital of France?"
        plain = await answer(engine, ask(question))
        punished = await answer(
            engine, ask(question, sampling=Sampling(temperature=0, repetition_penalty=100.0, max_tokens=60))
        )
    assert plain != punished


async def test_cancelling_mid_answer_keeps_the_text_and_frees_the_worker() -> None:
    async with Engine(settings()) as engine:
        request = ask("babble", sampling=BABBLE)
        events = []
        async for event in engine.generate(request):
            events.append(event)
            if isinstance(event, Text):
                await engine.cancel(request.id)
        assert isinstance(events[-1], Finished)
        assert events[-1].finish_reason == "cancelled"
        assert events[-1].usage.completion_tokens >= 1
        assert await answer(engine, ask(the_picture("red circle"), "What colour is the circle?")) == "red"


async def test_cancelling_while_a_picture_is_encoded_keeps_nothing_of_it() -> None:
    large = the_picture("red circle", size=1024)
    async with Engine(settings()) as engine:
        request = ask(large, "What colour is the circle?")
        async for event in engine.generate(request):
            if isinstance(event, Progress):
                await engine.cancel(request.id)
        assert await answer(engine, ask(large, "What colour is the circle?")) == "red"
        assert (await engine.stats()).pictures_reused == 0


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGABRT])
async def test_a_worker_killed_mid_answer_is_a_clear_error_and_the_next_request_is_right(
    ending: signal.Signals,
) -> None:
    async with Engine(settings()) as engine:
        killed = pid(engine)
        babble = engine.generate(ask("babble", sampling=BABBLE))
        while not isinstance(await anext(babble), Text):
            pass
        os.kill(killed, ending)
        with pytest.raises(WorkerDied, match=ending.name):
            [event async for event in babble]
        assert await answer(engine, ask(the_picture("blue square"), "What colour is the square?")) == "blue"
        assert pid(engine) != killed


@pytest.mark.parametrize(
    ("how", "error"),
    [(signal.SIGKILL, DoesNotFit), (signal.SIGABRT, WorkerDied)],  # the first is how the kernel says "out of memory"
)
async def test_a_worker_killed_while_loading_is_a_clear_error(how: signal.Signals, error: type[GgufVlError]) -> None:
    engine = Engine(settings())
    starting = asyncio.create_task(engine.start())
    while engine.connection is None:
        await asyncio.sleep(0)
    os.kill(pid(engine), how)
    with pytest.raises(error, match="loading"):
        await starting
    await engine.close()


async def test_closing_leaves_no_process() -> None:
    engine = Engine(settings())
    await engine.start()
    worker = psutil.Process(pid(engine))
    await engine.close()
    assert not worker.is_running()


@pytest.mark.parametrize("moment", ["loading", "idle", "encoding"])
def test_killing_the_parent_leaves_no_orphan(moment: str) -> None:
    words = [sys.executable, "-m", "tests.engine.doomed_parent", moment]
    root = Path(__file__).parents[2]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout
        worker = psutil.Process(json.loads(parent.stdout.readline()))
        parent.kill()
    gone, _ = psutil.wait_procs([worker], timeout=10)
    assert gone == [worker]


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64, b"<html>not found</html>"])
async def test_a_file_that_is_no_model_is_a_clear_error(content: bytes, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(content)
    engine = Engine(EngineSettings(bad, None, LIMITS))
    with pytest.raises(InvalidModelFile, match=r"bad\.gguf"):
        await engine.start()
    await engine.close()


async def test_a_file_that_is_no_projector_is_a_clear_error() -> None:
    text = settings().model
    engine = Engine(EngineSettings(text, text, LIMITS))
    with pytest.raises(InvalidModelFile, match="projector"):
        await engine.start()
    await engine.close()


async def test_a_model_without_projector_refuses_pictures_and_answers_text() -> None:
    async with Engine(EngineSettings(settings().model, None, LIMITS, n_ctx=1024)) as engine:
        assert not (await engine.start()).sees_pictures
        with pytest.raises(UsageError, match="text only"):
            await answer(engine, ask(the_picture("red circle"), "What colour is the circle?"))
        assert "pocket" in await answer(engine, ask("Hello!"))


async def test_a_picture_beyond_the_limits_is_refused_before_native_code_sees_it() -> None:
    odd = Picture(b"\0" * 3 * 33 * 32, 33, 32, (33, 32), "odd")
    huge = Picture(b"\0" * 3 * 2048 * 2048, 2048, 2048, (2048, 2048), "huge")
    tiny = Picture(b"\0" * 3 * 32 * 32, 32, 32, (32, 32), "tiny")
    short = Picture(b"\0" * 100, 256, 256, (256, 256), "short")
    async with Engine(settings(n_ctx=8192)) as engine:
        for picture in (odd, huge, tiny, short):
            with pytest.raises(UsageError, match="multiples of 32"):
                await answer(engine, ask(picture, "What?"))


async def test_llama_cpps_log_comes_to_our_logger_and_nothing_to_the_terminal(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level("DEBUG", logger="gguf_vl.llama"):
        async with Engine(settings()):
            pass
    assert any("general.architecture" in record.message for record in caplog.records)
    assert capfd.readouterr() == ("", "")


async def test_a_load_tells_that_it_gets_on_while_it_proves_that_the_largest_picture_has_room() -> None:
    told: list[float] = []
    async with Engine(settings(proof="encode"), on_progress=told.append):
        pass
    assert told.count(1.0) > 3


async def test_what_is_prepared_tells_how_many_image_tokens_are_encoded() -> None:
    red, blue, green = (the_picture(shape) for shape in ("red circle", "blue square", "green star"))
    n = red.tokens
    async with Engine(settings()) as engine:

        async def told(*content: str | Picture) -> list[Progress]:
            found: list[Progress] = []
            await engine.prepare(Message("user", content), on_progress=found.append)
            return found

        first = await told(red, blue)
        assert first[0] == Progress("encode", 0, 2 * n)
        assert first[-1] == Progress("encode", 2 * n, 2 * n)
        assert {each.done for each in first} <= {0, n, 2 * n}
        assert await told(red, blue) == [Progress("encode", 2 * n, 2 * n)]  # its cells are there
        assert await told("Look:", red) == [Progress("encode", n, n)]  # its embeddings are
        more = await told("Look:", red, green)
        assert (more[0].done, more[-1].done, more[-1].total) == (n, 2 * n, 2 * n)
        assert await told("What?") == []
