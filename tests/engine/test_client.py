"""The engine's promises at its edges, with scripted workers in the place of real ones."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gguf_vl.engine import process
from gguf_vl.engine.blocking import BlockingEngine
from gguf_vl.engine.client import Connect, Engine
from gguf_vl.engine.fake import LoadScript, Script, ScriptedWorker, Waits, WorkerDies, scripted, text
from gguf_vl.engine.process import WorkerProcess
from gguf_vl.engine.protocol import AskStats, Cancel, Command, Load, Loading
from gguf_vl.errors import DoesNotFit, EngineError, GgufVlError, InvalidModelFile, UsageError, WorkerDied
from gguf_vl.types import (
    EngineSettings,
    EngineStats,
    Event,
    Finished,
    Message,
    Picture,
    PictureLimits,
    Progress,
    Request,
    Sampling,
    Text,
)

SETTINGS = EngineSettings(Path("model.gguf"), None, PictureLimits(8, 64))
LOOK = Message("user", (Picture(b"\0" * 3 * 64 * 32, 64, 32, (64, 32), "digest"),))

pytestmark = pytest.mark.anyio


def ask(question: str = "?") -> Request:
    return Request((Message("user", (question,)),))


def engine(*scripts: Script, loading: GgufVlError | None = None) -> Engine:
    return Engine(SETTINGS, connect=scripted(*scripts, loading=[loading] if loading else []))


async def said(events: AsyncIterator[Event]) -> str:
    return "".join([event.text async for event in events if isinstance(event, Text)])


class Clock:
    """The loop's time, which passes only when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: self.now)

    async def passes(self, seconds: float) -> None:
        self.now += seconds
        await others_run()


async def others_run() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


class Lingering(ScriptedWorker):
    """A worker that ends only when it may, and hears nothing more as soon as it is to end."""

    def __init__(self, *scripts: Script) -> None:
        super().__init__(list(scripts))
        self.may_end = asyncio.Event()
        self._ends = False

    async def send(self, command: Command) -> None:
        if not self._ends:
            await super().send(command)

    async def close(self) -> str:
        self._ends = True
        await self.may_end.wait()
        return await super().close()


def one_by_one(*workers: ScriptedWorker) -> tuple[Connect, list[ScriptedWorker]]:
    """How to start these workers, and those that have been."""
    started: list[ScriptedWorker] = []

    async def connect() -> ScriptedWorker:
        started.append(workers[len(started)])
        return started[-1]

    return connect, started


async def test_an_answer_arrives_in_order_and_ends_with_finished() -> None:
    async with engine(text("r", "ed")) as running:
        events = [event async for event in running.generate(ask())]
    assert [type(event) for event in events] == [Text, Text, Finished]


async def test_several_requests_each_get_their_own_answer() -> None:
    async with engine(text("one"), text("two"), text("three")) as running:
        answers = await asyncio.gather(*(said(running.generate(ask())) for _ in range(3)))
    assert sorted(answers) == ["one", "three", "two"]


async def test_cancel_ends_the_stream_at_once_and_keeps_the_text_so_far() -> None:
    async with engine([Text("so far"), Waits()], text("next")) as running:
        request = ask()
        events = []
        async for event in running.generate(request):
            events.append(event)
            await running.cancel(request.id)
        assert [type(event) for event in events] == [Text, Finished]
        assert events[-1].finish_reason == "cancelled"  # type: ignore[union-attr]
        assert await said(running.generate(ask())) == "next"


async def test_cancelling_while_the_model_loads_ends_the_stream_at_once_and_asks_the_worker_nothing() -> None:
    may_load = asyncio.Event()
    connect = scripted(text("never said"), text("next"))

    async def slowly() -> ScriptedWorker:
        await may_load.wait()
        return await connect()

    running = Engine(SETTINGS, connect=slowly)
    request = ask()
    first = asyncio.ensure_future(anext(running.generate(request)))
    await asyncio.sleep(0)
    await running.cancel(request.id)
    end = await first
    assert isinstance(end, Finished)
    assert end.finish_reason == "cancelled"
    may_load.set()
    assert await said(running.generate(ask())) == "never said"
    await running.close()


async def test_a_caller_whose_progress_report_fails_gets_its_own_error() -> None:
    def fails(_: float) -> None:
        raise BrokenPipeError("nobody reads")

    running = Engine(SETTINGS, on_progress=fails, connect=scripted())
    with pytest.raises(BrokenPipeError):
        await running.start()
    await running.close()


async def test_closing_while_the_worker_starts_leaves_none_behind() -> None:
    may_start = asyncio.Event()
    connect = scripted()

    async def slowly() -> ScriptedWorker:
        await may_start.wait()
        return await connect()

    running = Engine(SETTINGS, connect=slowly)
    starting = asyncio.ensure_future(running.start())
    await asyncio.sleep(0)
    await running.close()
    may_start.set()
    with pytest.raises(EngineError, match="closed"):
        await starting
    assert running.connection is None


async def test_leaving_the_loop_early_cancels_the_request_in_the_worker() -> None:
    async with engine([Text("so far"), Waits()]) as running:
        request = ask()
        stream = running.generate(request)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        assert isinstance(running.connection, ScriptedWorker)
        assert Cancel(request.id) in running.connection.commands


async def test_a_finished_request_is_not_cancelled_afterwards() -> None:
    async with engine(text("done")) as running:
        await said(running.generate(ask()))
        assert isinstance(running.connection, ScriptedWorker)
        assert not any(isinstance(command, Cancel) for command in running.connection.commands)


async def test_every_request_of_a_dead_worker_gets_a_clear_error_and_the_next_one_a_fresh_worker() -> None:
    async with engine([Text("so"), Waits()], [WorkerDies()], text("fine again")) as running:
        first, second = running.generate(ask()), running.generate(ask())
        await anext(first)
        with pytest.raises(WorkerDied, match="process ended"):
            await anext(second)
        with pytest.raises(WorkerDied):
            await anext(first)
        assert await said(running.generate(ask())) == "fine again"


async def test_a_refused_request_raises_its_own_error_and_harms_no_other() -> None:
    async with engine([DoesNotFit("too long", "shorten it")], text("fine")) as running:
        with pytest.raises(DoesNotFit, match="too long"):
            await said(running.generate(ask()))
        assert await said(running.generate(ask())) == "fine"


async def test_a_model_that_cannot_be_loaded_says_why_and_can_be_tried_again() -> None:
    running = engine(text("loaded"), loading=InvalidModelFile("truncated", "fetch it again"))
    with pytest.raises(InvalidModelFile, match="truncated"):
        await running.start()
    assert await said(running.generate(ask())) == "loaded"
    await running.close()


async def test_a_closed_engine_ends_its_requests_and_takes_no_more() -> None:
    running = engine([Text("so far"), Waits()])
    stream = running.generate(ask())
    await anext(stream)
    await running.close()
    with pytest.raises(EngineError, match="closed"):
        await anext(stream)
    with pytest.raises(EngineError, match="closed"):
        await running.start()


def test_the_blocking_engine_gives_the_same_answers_and_errors() -> None:
    with BlockingEngine(engine(text("r", "ed"), [WorkerDies()], text("again"))) as running:
        assert [type(event) for event in running.generate(ask())] == [Text, Text, Finished]
        with pytest.raises(WorkerDied):
            list(running.generate(ask()))
        assert Text("again") in list(running.generate(ask()))
    running.close()


NO_ROOM = DoesNotFit("No room.", "Take less.")


def halved(settings: EngineSettings, error: DoesNotFit) -> EngineSettings:
    if settings.n_ctx <= 1024:
        raise error
    return replace(settings, n_ctx=settings.n_ctx // 2)


async def test_what_does_not_fit_is_loaded_smaller_and_requests_that_wait_never_notice() -> None:
    started = Engine(SETTINGS, smaller=halved, connect=scripted(text("red"), loading=[NO_ROOM, NO_ROOM]))
    answers = await asyncio.gather(*(said(started.generate(ask())) for _ in range(3)))
    assert answers == ["red", "red", "red"]
    assert started.settings.n_ctx == SETTINGS.n_ctx // 4
    assert (await started.start()).n_ctx == SETTINGS.n_ctx // 4
    await started.close()


async def test_where_nothing_smaller_is_left_every_waiting_request_is_told_and_the_next_one_tries_again() -> None:
    started = Engine(SETTINGS, smaller=halved, connect=scripted(text("red"), loading=[NO_ROOM] * 4))
    answers = await asyncio.gather(*(said(started.generate(ask())) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in answers] == [DoesNotFit] * 3
    assert await said(started.generate(ask())) == "red"
    await started.close()


async def test_a_failure_of_another_kind_is_not_tried_smaller() -> None:
    broken = InvalidModelFile("Not a model.", "Fetch it.")
    started = Engine(SETTINGS, smaller=halved, connect=scripted(loading=[broken]))
    with pytest.raises(InvalidModelFile):
        await started.start()
    assert started.settings == SETTINGS
    await started.close()


async def test_a_worker_that_hangs_is_ended_and_the_next_request_gets_a_fresh_one() -> None:
    connect = scripted([Text("so far"), Waits()], text("red"), stuck_s=1.0)
    async with Engine(SETTINGS, hung_s=0.01, connect=connect) as running:
        with pytest.raises(WorkerDied, match=r"got no further for 0\.01 s"):
            await said(running.generate(ask()))
    async with Engine(SETTINGS, hung_s=60, connect=connect) as patient:
        assert await said(patient.generate(ask())) == "red"


class Deaf(ScriptedWorker):
    """A worker that takes nothing more once it is loaded: its pipe is full."""

    async def send(self, command: Command) -> None:
        if not isinstance(command, Load):
            await asyncio.Event().wait()
        await super().send(command)


async def test_a_worker_that_takes_nothing_more_is_ended_too() -> None:
    connect, _ = one_by_one(Deaf([text("never")]), ScriptedWorker([text("red")]))
    async with Engine(SETTINGS, hung_s=0.01, connect=connect) as running:
        with pytest.raises(WorkerDied, match="got no further"):
            await said(running.generate(ask()))
        assert await said(running.generate(ask())) == "red"


async def test_a_worker_that_gets_on_is_left_alone_however_long_a_request_lasts() -> None:
    release = asyncio.Event()
    async with Engine(SETTINGS, hung_s=0.001, connect=scripted([Waits(release), *text("red")])) as running:
        answered = asyncio.create_task(said(running.generate(ask())))
        for _ in range(20):
            await running.stats()
        release.set()
        assert await answered == "red"


async def test_an_idle_worker_is_unloaded_and_comes_back_with_the_next_request() -> None:
    workers = []

    async def connect() -> ScriptedWorker:
        workers.append(await scripted(text("red"))())
        return workers[-1]

    async with Engine(SETTINGS, idle_s=0.001, connect=connect) as running:
        assert await said(running.generate(ask())) == "red"
        while running.connection is not None:
            await asyncio.sleep(0)
        assert await said(running.generate(ask())) == "red"
    assert len(workers) == 2


async def test_a_worker_with_work_is_not_unloaded() -> None:
    release = asyncio.Event()
    async with Engine(SETTINGS, idle_s=0.0001, connect=scripted([Waits(release), *text("red")])) as running:
        answered = asyncio.create_task(said(running.generate(ask())))
        for _ in range(50):
            await asyncio.sleep(0.0001)
        await running.unload()
        assert running.connection is not None
        release.set()
        assert await answered == "red"


async def test_workers_that_die_one_after_the_other_are_not_started_for_ever() -> None:
    running = Engine(SETTINGS, connect=scripted([WorkerDies()]), rest_s=1e9)
    for _ in range(3):
        with pytest.raises(WorkerDied):
            await said(running.generate(ask()))
    for _ in range(2):
        with pytest.raises(EngineError, match="3 times in a row"):
            await said(running.generate(ask()))
    await running.close()


async def test_after_a_rest_another_worker_is_tried() -> None:
    scripts = [*[[WorkerDies()]] * 3, text("fine again")]
    running = Engine(SETTINGS, connect=scripted(*scripts), rest_s=0.0)
    for _ in range(3):
        with pytest.raises(WorkerDied):
            await said(running.generate(ask()))
    assert await said(running.generate(ask())) == "fine again"
    await running.close()


async def test_a_worker_that_answered_before_it_died_is_no_part_of_a_row() -> None:
    scripts = [text("fine"), [Text("so far"), WorkerDies()]] * 4
    running = Engine(SETTINGS, connect=scripted(*scripts, text("the last")), rest_s=1e9)
    for _ in range(4):
        assert await said(running.generate(ask())) == "fine"
        with pytest.raises(WorkerDied):
            await said(running.generate(ask()))
    await running.close()


async def test_a_worker_in_use_is_not_idle_however_short_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    async with Engine(SETTINGS, idle_s=100, hung_s=1e9, connect=scripted(text("red"))) as running:
        worker = running.connection
        for _ in range(30):
            assert await said(running.generate(ask())) == "red"
            await clock.passes(10)
        assert running.connection is worker
        for _ in range(10):
            await running.stats()  # no use of the model
            await clock.passes(10)
        assert running.connection is None


async def test_how_long_an_idle_worker_stays_can_be_set_while_it_is_idle_and_holds_for_this_one() -> None:
    async with Engine(SETTINGS, connect=scripted(text("red"))) as running, asyncio.timeout(10):
        for idle_s in (0.001, 0.0):
            assert await said(running.generate(ask())) == "red"
            assert (running.idle_s, running.idle_left_s) == (None, None)
            running.idle_s = 1000
            await others_run()
            assert 900 < (running.idle_left_s or 0) <= 1000
            running.idle_s = idle_s
            while running.connection is not None:
                await asyncio.sleep(0)


async def test_the_shortest_time_is_not_watched_for_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    worker = ScriptedWorker([[Waits()]])
    connect, _ = one_by_one(worker)
    async with Engine(SETTINGS, idle_s=1e-9, hung_s=1e9, connect=connect) as running:
        answering = asyncio.create_task(said(running.generate(ask())))
        await others_run()
        for _ in range(9):
            await clock.passes(0.01)
        assert [each for each in worker.commands if isinstance(each, AskStats)] == []
        await clock.passes(0.02)
        assert len([each for each in worker.commands if isinstance(each, AskStats)]) == 1
        answering.cancel()


async def test_a_request_that_comes_while_the_worker_is_unloaded_gets_a_fresh_one_after_it() -> None:
    old, new = Lingering(), ScriptedWorker([text("red")])
    connect, workers = one_by_one(old, new)
    running = Engine(SETTINGS, connect=connect)
    await running.start()
    unloading = asyncio.create_task(running.unload())
    await others_run()
    answered = asyncio.create_task(said(running.generate(ask())))
    await others_run()
    assert workers == [old]
    old.may_end.set()
    assert await answered == "red"
    assert workers == [old, new]
    await unloading
    await running.close()


async def test_only_what_was_asked_for_and_done_ends_a_row_of_deaths() -> None:
    scripts: list[Script] = [[DoesNotFit("too long", "shorten it")], [Waits()], [WorkerDies()]]
    running = Engine(SETTINGS, connect=scripted(*scripts, *scripts, *scripts), rest_s=1e9)
    for _ in range(3):
        with pytest.raises(DoesNotFit):
            await said(running.generate(ask()))
        await running.stats()
        await running.count(ask())
        left = asyncio.create_task(said(running.generate(request := ask())))
        await others_run()
        await running.cancel(request.id)
        await left
        with pytest.raises(WorkerDied):
            await said(running.generate(ask()))
    with pytest.raises(EngineError, match="3 times in a row"):
        await said(running.generate(ask()))
    await running.close()


async def test_what_is_prepared_tells_how_far_its_pictures_are() -> None:
    release = asyncio.Event()
    half = Progress("encode", 1, 2)
    running = Engine(SETTINGS, connect=scripted(preparing=[half, Waits(release), WorkerDies()]))
    told: list[Progress] = []
    preparing = asyncio.create_task(running.prepare(LOOK, on_progress=told.append))
    await others_run()
    assert told == [half]
    assert not preparing.done()
    release.set()
    with pytest.raises(WorkerDied):
        await preparing
    await running.close()


async def test_pictures_of_no_script_are_encoded_at_once() -> None:
    told: list[Progress] = []
    async with engine() as running:
        await running.prepare(LOOK)
        await running.prepare(LOOK, on_progress=told.append)
        await running.prepare(Message("user", ("?",)), on_progress=told.append)
    assert told == [Progress("encode", 0, 2), Progress("encode", 2, 2)]


def test_the_blocking_engine_tells_how_far_it_has_prepared() -> None:
    told: list[Progress] = []
    with BlockingEngine(engine()) as running:
        running.prepare(LOOK, on_progress=told.append)
    assert [each.done for each in told] == [0, 2]


async def test_leaving_what_is_prepared_takes_it_back() -> None:
    async with Engine(SETTINGS, connect=scripted(preparing=[Waits()])) as running:
        preparing = asyncio.create_task(running.prepare(LOOK))
        await others_run()
        preparing.cancel()
        await others_run()
        assert isinstance(running.connection, ScriptedWorker)
        assert isinstance(running.connection.commands[-1], Cancel)


async def test_a_prepared_beginning_ends_a_row_of_deaths() -> None:
    running = Engine(SETTINGS, connect=scripted([WorkerDies()]), rest_s=1e9)
    for _ in range(5):
        await running.prepare(Message("user", ("?",)))
        with pytest.raises(WorkerDied):
            await said(running.generate(ask()))
    await running.close()


async def test_counters_of_no_model_are_zeros_and_load_none() -> None:
    release = asyncio.Event()
    running = Engine(SETTINGS, connect=scripted(loading=[[Waits(release)]]))
    zeros = EngineStats(0, 0, 0, 0, 0, 0)
    assert await running.stats() == zeros
    assert running.connection is None
    starting = asyncio.create_task(running.start())
    await others_run()
    assert await running.stats() == zeros  # while it loads
    release.set()
    await starting
    await running.unload()
    assert await running.stats() == zeros
    assert running.connection is None
    await running.close()


async def test_an_id_that_is_under_way_is_refused_and_the_first_request_is_answered() -> None:
    release = asyncio.Event()
    async with engine([Text("r"), Waits(release), *text("ed")]) as running:
        request = ask()
        first = running.generate(request)
        assert await anext(first) == Text("r")
        with pytest.raises(UsageError, match=request.id):
            await said(running.generate(request))
        release.set()
        assert await said(first) == "ed"
        assert await said(running.generate(request)) == "red"  # it is over: the id is free


async def test_a_request_that_is_running_can_be_counted() -> None:
    release = asyncio.Event()
    async with engine([Text("r"), Waits(release), *text("ed")]) as running:
        request = ask()
        stream = running.generate(request)
        assert await anext(stream) == Text("r")
        assert (await running.count(request)).prompt_tokens == 1
        release.set()
        assert await said(stream) == "ed"


def test_the_blocking_engine_too_refuses_an_id_under_way_and_lets_the_first_request_be() -> None:
    with BlockingEngine(started := engine([Text("so far"), Waits()])) as running:
        request = ask()
        first = running.generate(request)
        assert next(first) == Text("so far")
        with pytest.raises(UsageError, match=request.id):
            list(running.generate(request))
        assert isinstance(started.connection, ScriptedWorker)
        assert Cancel(request.id) not in started.connection.commands
        first.close()  # type: ignore[attr-defined]
        assert Cancel(request.id) in started.connection.commands


async def test_what_cannot_reach_the_worker_is_refused_and_harms_no_other_request() -> None:
    release = asyncio.Event()
    async with engine([Text("r"), Waits(release), *text("ed")]) as running:
        first = running.generate(ask())
        assert await anext(first) == Text("r")
        with pytest.raises(UsageError, match="integer of 65 bits"):
            await said(running.generate(replace(ask(), sampling=Sampling(seed=2**64))))
        release.set()
        assert await said(first) == "ed"


async def test_a_load_that_tells_nothing_any_more_is_ended_with_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    release = asyncio.Event()
    loading: LoadScript = [Loading(0.25), Waits(release), Loading(0.5), Waits()]
    running = Engine(SETTINGS, hung_s=100, connect=scripted(text("red"), loading=[loading]))
    answered = asyncio.create_task(said(running.generate(ask())))
    await others_run()
    for _ in range(9):
        await clock.passes(10)
    release.set()  # it gets on
    for _ in range(9):
        await clock.passes(10)
    assert not answered.done()
    for _ in range(3):
        await clock.passes(10)
    with pytest.raises(WorkerDied, match=r"while loading the model \(it got no further for 100 s\)"):
        await answered
    assert await said(running.generate(ask())) == "red"
    await running.close()


@pytest.mark.skipif(sys.platform == "win32", reason="nothing can stop a process there")
async def test_a_worker_that_does_not_end_by_itself_is_ended_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process.BY_ITSELF_S + process.TERMINATED_S < 1
    monkeypatch.setattr(process, "BY_ITSELF_S", 0)
    monkeypatch.setattr(process, "TERMINATED_S", 0)
    worker = await WorkerProcess.start()
    os.kill(worker.pid, signal.SIGSTOP)
    impatient = asyncio.create_task(worker.close())
    await asyncio.sleep(0)
    impatient.cancel()
    assert "SIGKILL" in await worker.close()
