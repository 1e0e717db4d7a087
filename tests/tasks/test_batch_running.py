"""Batches at the edges that a real model seldom reaches, with scripted workers."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from gguf_vl.engine.client import Engine
from gguf_vl.engine.fake import ScriptedWorker, Waits, WorkerDies, scripted, text
from gguf_vl.engine.protocol import Command, Generate
from gguf_vl.errors import DoesNotFit, EngineError, InvalidModelFile
from gguf_vl.media.pictures import load_picture
from gguf_vl.tasks.batch.formats import JsonLines
from gguf_vl.tasks.batch.inputs import Inputs
from gguf_vl.tasks.batch.line import Line
from gguf_vl.tasks.batch.output import Output
from gguf_vl.tasks.batch.running import AHEAD, answered
from gguf_vl.tasks.batch.watching import arriving
from gguf_vl.tasks.batch.working import Terminated, work
from gguf_vl.types import EngineSettings, Picture, PictureLimits
from tests.tasks.batches import draw, each, fake_engine, job

SETTINGS = EngineSettings(Path("model.gguf"), None, PictureLimits(8, 64))

pytestmark = pytest.mark.anyio


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    draw(tmp_path / "in", 8)
    return [tmp_path / "in" / f"{n}.png" for n in range(8)]


async def all_lines(engine: Engine, files: list[Path], in_flight: int | None = None, **of_job: object) -> list[Line]:
    try:
        async with aclosing(answered(engine, job(**of_job), each(files), in_flight=in_flight)) as lines:
            return [line async for line in lines]
    finally:
        await engine.close()


async def test_a_worker_that_dies_once_costs_nothing(files: list[Path]) -> None:
    lines = await all_lines(fake_engine([WorkerDies()], text("fine")), files)
    assert sorted(line.file for line in lines) == sorted(map(str, files))
    assert {(line.answer, line.error) for line in lines} == {("fine", None)}


async def test_a_picture_that_kills_the_worker_twice_has_failed_and_the_others_go_on(files: list[Path]) -> None:
    engine = fake_engine([WorkerDies()], [WorkerDies()], text("fine"))
    lines = await all_lines(engine, files, in_flight=1)
    assert [line.file for line in lines] == list(map(str, files))
    assert [line.error is None for line in lines] == [False] + [True] * 7
    assert "worker" in (lines[0].error or "").lower() or "process" in (lines[0].error or "").lower()


async def test_a_deadly_picture_takes_none_of_those_beside_it_along(files: list[Path]) -> None:
    """All that are under way die with it; on the second try each is alone."""
    deadly = load_picture(files[3], SETTINGS.limits).digest
    met: list[str] = []

    class Worker(ScriptedWorker):
        async def send(self, command: Command) -> None:
            if isinstance(command, Generate):
                digest = next(part.digest for part in command.request.messages[-1].content if isinstance(part, Picture))
                met.append(digest)
                before = [Waits()] if deadly not in met else []
                self._scripts = [[WorkerDies()] if digest == deadly else [*before, *text("fine")]]
            await super().send(command)

    async def connect() -> Worker:
        return Worker([])

    lines = await all_lines(Engine(replace(SETTINGS, n_seq_max=6), connect=connect), files)
    assert [line.file for line in lines if line.error] == [str(files[3])]
    assert len(lines) == 8
    assert met.count(deadly) == 2


async def test_a_request_that_is_refused_is_its_pictures_error_alone(files: list[Path]) -> None:
    refused = [DoesNotFit("The prompt takes 900 tokens.", "Use a larger `--ctx`.")]
    lines = await all_lines(fake_engine(refused, text("fine")), files, in_flight=1)
    assert [line.error for line in lines] == ["The prompt takes 900 tokens. Use a larger `--ctx`."] + [None] * 7


async def test_an_answer_that_is_no_whole_json_is_an_error_with_its_text(files: list[Path]) -> None:
    lines = await all_lines(fake_engine(text('{"a": ')), files[:1], schema={"type": "object"})
    assert (lines[0].answer, lines[0].fields) == ('{"a": ', None)
    assert "JSON" in (lines[0].error or "")


async def test_a_model_that_cannot_be_loaded_ends_the_batch_and_no_picture_is_blamed(files: list[Path]) -> None:
    broken = Engine(SETTINGS, connect=scripted(loading=[InvalidModelFile("It is cut off.", "Fetch it again.")]))
    with pytest.raises(InvalidModelFile):
        await all_lines(broken, files)


async def test_workers_that_die_over_everything_end_the_batch_before_every_picture_is_spent(files: list[Path]) -> None:
    engine = fake_engine([WorkerDies()])
    lines, seen = answered(engine, job(), each(files)), 0

    async def all_of_them() -> None:
        nonlocal seen
        async for _ in lines:
            seen += 1

    with pytest.raises(EngineError, match="in a row"):
        await all_of_them()
    await engine.close()
    assert seen <= 3


async def test_no_more_pictures_are_taken_than_are_answered_at_once_and_a_few_ahead(files: list[Path]) -> None:
    release = asyncio.Event()
    engine = fake_engine([Waits(release), *text("fine")], n_seq_max=2)
    taken = []

    async def counted() -> AsyncIterator[str]:
        for file in files:
            taken.append(file)
            yield str(file)

    lines = answered(engine, job(), counted())
    first = asyncio.ensure_future(anext(lines))
    while (await engine.stats()).requests < 2 + AHEAD:
        await asyncio.sleep(0)
    assert len(taken) == 2 + AHEAD
    release.set()
    rest = [await first, *[line async for line in lines]]
    assert len(rest) == 8
    await engine.close()


def held() -> set[int]:
    """The pictures in memory, by their ids."""
    return {id(each) for each in gc.get_objects() if isinstance(each, Picture) and each.width > 32}


async def test_no_more_pictures_are_in_memory_than_are_under_way(tmp_path: Path) -> None:
    draw(tmp_path, 60, size=64)

    class Forgets(ScriptedWorker):
        async def send(self, command: Command) -> None:
            await super().send(command)
            self.commands.clear()

    async def connect() -> Forgets:
        return Forgets([text("fine")])

    engine = Engine(replace(SETTINGS, n_seq_max=2), connect=connect)
    one, of_others = load_picture(tmp_path / "0.png", SETTINGS.limits), held()
    assert id(one) in of_others
    most = n_told = 0
    async for _ in answered(engine, job(), each(tmp_path / f"{n}.png" for n in range(60))):
        n_told += 1
        if n_told % 10 == 0:  # looking through the whole memory takes a while
            most = max(most, len(held() - of_others))
    await engine.close()
    assert most <= 20  # a few under way, and those that were told of a moment ago; never all 60


@pytest.mark.parametrize(("sent", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_an_interruption_waits_for_no_answer_that_is_under_way(
    files: list[Path], tmp_path: Path, sent: signal.Signals, raised: type[BaseException]
) -> None:
    asked = job()
    with Output(tmp_path / "out.jsonl", {}, JsonLines(), resume=False) as output:
        with pytest.raises(raised):
            work(
                lambda: fake_engine(text("fine"), [Waits()]),
                asked,
                output,
                list(map(str, files)),
                tell=lambda _: signal.raise_signal(sent),
            )
        assert len(output.done) == 1


async def test_a_file_is_taken_when_it_stands_still_and_never_twice(tmp_path: Path) -> None:
    draw(tmp_path, 2)
    growing = tmp_path / "growing.png"
    growing.touch()
    coming = arriving(Inputs([str(tmp_path)]), {str(tmp_path / "0.png")}, poll_s=0.0)
    assert await anext(coming) == str(tmp_path / "1.png")
    following = asyncio.ensure_future(anext(coming))
    for n in range(1, 20):
        growing.write_bytes(b"x" * n)
        await asyncio.sleep(0)
    assert await asyncio.wait_for(following, 20) == str(growing)
    assert growing.stat().st_size == 19
    await coming.aclose()
