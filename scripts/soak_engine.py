#!/usr/bin/env python3
"""Loads the engine at random with `pocket`, and prints JSON: what was done, memory over time, and what is at fault.

    scripts/soak_engine.py [--minutes 10] [--clients 8] [--seed 1]

Clients ask, cancel, leave in mid-answer, prepare pictures and take them back, ask for what does not fit. Now and then
they rest, so that sequences go to disk; talks come back from there. In the first half of the time the worker is killed
too, or unloaded just as the clients come back, or the engine closed and made anew; in the second half one worker goes
on. A minute is enough for each of these to happen.

Exits with 1 where there are `faults`:

- a whole answer differs from that of an engine that was asked nothing at the same time, and has no disk;
- a request fails otherwise than by those troubles or for its length, or has no end within a minute;
- while nobody asks, something runs or waits, or an id of a sequence is neither free nor kept (also at the very end);
- memory has grown, the worker's in the second half or this program's: see `GROWTH`;
- a worker is left, nothing was answered, or something that is to be tried never happened.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from gguf_vl import paths
from gguf_vl.engine.client import Engine
from gguf_vl.engine.process import WorkerProcess
from gguf_vl.errors import GgufVlError, WorkerDied
from gguf_vl.types import (
    EngineSettings,
    EngineStats,
    Finished,
    Message,
    PictureLimits,
    Request,
    Sampling,
    Text,
    sequence_ids,
)

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.scenes import the_picture

SHAPES = ("red circle", "blue square", "green triangle", "yellow star", "purple square", "pink star", "black circle")
QUESTIONS = (
    "What colour is the shape?",
    "How many shapes are there?",
    "Describe the picture.",
    "List the shapes as JSON.",
)
SYSTEMS = tuple(f"{verb} well: " + "word " * 250 for verb in ("Look", "See", "Watch"))
"""Long enough for a talk to be worth reading from disk."""
TOO_LONG = (Message("user", ("much too long " * 3000,)),)
GREEDY = Sampling(temperature=0, max_tokens=64)
SEATS = 4
SPILL_AFTER_S = 0.1
PATIENCE_S = 60.0
"""Seconds that a request may take."""
SETTLES_S = 5.0
"""Seconds that a worker may take to come to rest once nobody asks."""
GROWTH = 1.08
"""The median of memory in the second half of its samples may be so many times that in the first half, whatever the
peaks. Warming up makes up to 1.04 of it; 1.08 are 7 MiB of `pocket`'s worker, in ten minutes 2 KB for each request.
"""
EXPECTED = re.compile(r"^The prompt takes |SIGKILL|^The engine (was|is) closed\.$")
"""What may go wrong with a request: it is too long, its worker was killed, its engine closed."""
MOST_FAULTS = 50
"""Different ones that are printed."""
TO_BE_TRIED = "answers cancelled prepared refused rests kills unloads closes spilled restored".split()
Talk = tuple[Message, ...]


@dataclass(slots=True)
class Report:
    """What is printed. Memory is in MiB: the worker's of the second half, and this program's."""

    answers: int = 0
    cancelled: int = 0
    prepared: int = 0
    refused: int = 0
    died: int = 0
    rests: int = 0
    kills: int = 0
    unloads: int = 0
    closes: int = 0
    spilled: int = 0
    restored: int = 0
    worker_mib: list[float] = field(default_factory=list)
    own_mib: list[float] = field(default_factory=list)
    workers_left: int = 0
    stats: dict[str, Any] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)


def engine(**others: Any) -> Engine:
    folder = paths.pocket_dir()
    limits = PictureLimits(16, 1024)
    settings: dict[str, Any] = {
        "n_ctx": 2048,
        "n_seq_max": SEATS,
        "n_gpu_layers": 0,
        "mmproj_offload": False,
        "disk_budget": 8 << 20,
        "embedding_budget": 1 << 20,
        "spill_s": 0.0,
        "spill_after_s": SPILL_AFTER_S,
    }
    return Engine(
        EngineSettings(folder / "pocket-F16.gguf", folder / "mmproj-pocket-F16.gguf", limits, **settings | others)
    )


def talk(rng: random.Random) -> Talk:
    messages: list[Message] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        picture = the_picture(*rng.sample(SHAPES, rng.choice((1, 2))), seed=rng.randrange(3))
        content = (picture, rng.choice(QUESTIONS)) if rng.random() < 0.8 else (rng.choice(QUESTIONS),)
        messages += [Message("user", content), Message("assistant", ("red",))]
    system = [Message("system", (rng.choice(SYSTEMS),))] if rng.random() < 0.4 else []
    return tuple(system + messages[:-1])


async def said(running: Engine, request: Request, leave_after: int | None = None) -> str | None:
    """The whole answer; None when it was left or cancelled."""
    text, n = "", 0
    async for event in running.generate(request):
        if isinstance(event, Text):
            text += event.text
        if isinstance(event, Finished):
            return text if event.finish_reason != "cancelled" else None
        n += 1
        if leave_after is not None and n >= leave_after:
            return None
    return None


def unsettled(stats: EngineStats) -> list[str]:
    """What is at fault with these figures where nobody asks for anything."""
    n_ids = sequence_ids(SEATS)
    n_lost = n_ids - stats.free_sequences - stats.kept_sequences
    counts = {
        "requests run": stats.running,
        "requests wait": stats.waiting,
        f"of {n_ids} ids of sequences are neither free nor kept": n_lost,
    }
    return [f"at rest {n} {what}" for what, n in counts.items() if n]


def grown(samples: list[float]) -> float:
    """How many times the first half's median that of the second half is."""
    half = len(samples) // 2
    return statistics.median(samples[half:]) / statistics.median(samples[:half]) if half else 1.0


def faults(report: Report) -> list[str]:
    """What is at fault, in words."""
    found = [f"{n} times: {what}" for what, n in report.faults.items()]
    for whose, samples in (("the worker", report.worker_mib), ("this program", report.own_mib)):
        if (times := grown(samples)) > GROWTH:
            found.append(f"{whose} takes {times:.2f} times the memory in the second half of its samples")
    if report.workers_left:
        found.append(f"{report.workers_left} workers are left")
    if never := [name for name in TO_BE_TRIED if not getattr(report, name)]:
        found.append(f"never happened: {', '.join(never)}")
    return found


class Soak:
    """The engine of the moment, what is asked of it, and what came of that."""

    def __init__(self, right: dict[Talk, str], n_clients: int, rng: random.Random) -> None:
        self.report = Report()
        self.engine = engine()
        self._right = right
        self._n_clients = n_clients
        self._rng = rng
        self._turns = asyncio.Semaphore(n_clients)
        self._latest: dict[int, EngineStats] = {}

    async def client(self, rng: random.Random, until: float) -> None:
        """Ask one thing after the other."""
        while time.monotonic() < until:
            async with self._turns:
                await self._judged(self._something(rng))

    async def _judged(self, doing: Any) -> None:
        """Await it; what goes wrong otherwise than expected is a fault."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await doing
        except TimeoutError:
            self.report.faults[f"no end within {PATIENCE_S:g} s"] += 1
        except GgufVlError as error:
            if isinstance(error, WorkerDied):
                self.report.died += 1
            else:
                self.report.refused += 1
            if not EXPECTED.search(error.what):
                self.report.faults[f"{type(error).__name__}: {error.what}"] += 1

    async def _something(self, rng: random.Random) -> None:
        running, what = self.engine, rng.random()
        asked = rng.choice(list(self._right))
        request = Request(asked, GREEDY)
        if what < 0.6:
            await self._answer(asked)
        elif what < 0.75:
            await said(running, request, leave_after=rng.randrange(1, 12))
            self.report.cancelled += 1
        elif what < 0.85:
            asking = asyncio.create_task(said(running, request))
            for _ in range(rng.randrange(20)):
                await asyncio.sleep(0)
            await running.cancel(request.id)
            await asking
            self.report.cancelled += 1
        elif what < 0.95:
            preparing = asyncio.create_task(running.prepare(*asked[:2]))
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() / 100)
                preparing.cancel()
            await asyncio.wait([preparing])
            if not preparing.cancelled():
                preparing.result()
            self.report.prepared += 1
        else:
            await said(running, Request(TOO_LONG, GREEDY))

    async def _answer(self, asked: Talk) -> None:
        answer = await said(self.engine, Request(asked, GREEDY))
        self.report.answers += answer is not None
        if answer is not None and answer != self._right[asked]:
            self.report.faults[f"{answer!r} was answered for {self._right[asked]!r}"] += 1

    async def trouble(self, calm: float, until: float) -> None:
        """Have the clients rest now and then; before the time `calm` do to the worker what can be done to one."""
        befalls: list[Callable[[], Awaitable[None]]] = []
        while time.monotonic() < until:
            await asyncio.sleep(self._rng.uniform(0.5, 2.5))
            is_calm = time.monotonic() >= calm
            await self._judged(self._look(is_calm))
            if is_calm:
                befalls = [self._rest]
            elif not befalls:
                befalls = [self._rest, self._rest, self._unload, self._kill, self._close]
                self._rng.shuffle(befalls)
            await self._judged(befalls.pop()())

    async def _look(self, is_calm: bool) -> None:
        self.report.own_mib.append(_mib(os.getpid()))
        if isinstance(worker := self.engine.connection, WorkerProcess):
            if is_calm:
                with suppress(psutil.NoSuchProcess):
                    self.report.worker_mib.append(_mib(worker.pid))
            self._latest[worker.pid] = await self.engine.stats()

    @asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        """No client asks inside."""
        async with AsyncExitStack() as turns:
            for _ in range(self._n_clients):
                await turns.enter_async_context(self._turns)
            yield

    async def settle(self) -> None:
        """Ask once, so that a model is loaded; then the worker is to come to rest. Nobody else may ask."""
        await self._answer(self._rng.choice(list(self._right)))
        end = time.monotonic() + SETTLES_S
        while (left := unsettled(stats := await self.engine.stats())) and time.monotonic() < end:
            await asyncio.sleep(0.01)
        self.report.faults.update(left)
        self.report.stats = asdict(stats)

    async def _rest(self) -> None:
        async with self._quiet():
            await self.settle()
            await asyncio.sleep(self._rng.uniform(0, 4 * SPILL_AFTER_S))
        self.report.rests += 1

    async def _unload(self) -> None:
        await self.engine.unload()  # does nothing where anything is asked for
        async with self._quiet():
            await self.settle()
        worker = self.engine.connection
        await self.engine.unload()  # just as the clients come back
        self.report.unloads += self.engine.connection is not worker

    async def _kill(self) -> None:
        if isinstance(worker := self.engine.connection, WorkerProcess):
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
            self.report.kills += 1

    async def _close(self) -> None:
        old, self.engine = self.engine, engine()
        await old.close()
        self.report.closes += 1

    async def end(self) -> None:
        """Look for the last time, and close the engine."""
        await self._judged(self.settle())
        await self._judged(self._look(is_calm=True))
        await self._judged(self.engine.close())
        children = psutil.Process().children()
        self.report.workers_left = sum("gguf_vl.engine.worker" in child.cmdline() for child in children)
        self.report.spilled = sum(stats.spilled for stats in self._latest.values())
        self.report.restored = sum(stats.restored for stats in self._latest.values())


def _mib(pid: int) -> float:
    """Resident memory of a process."""
    return round(psutil.Process(pid).memory_info().rss / 2**20, 1)


async def soak(minutes: float, n_clients: int, seed: int) -> Report:
    rng = random.Random(seed)
    right: dict[Talk, str] = {}
    async with engine(disk_budget=0) as alone:
        for _ in range(24):
            asked = talk(rng)
            right[asked] = await said(alone, Request(asked, GREEDY)) or ""
    running = Soak(right, n_clients, rng)
    now, seconds = time.monotonic(), 60 * minutes
    clients = (running.client(random.Random(rng.random()), now + seconds) for _ in range(n_clients))
    await asyncio.gather(*clients, running.trouble(now + seconds / 2, now + seconds))
    await running.end()
    return running.report


def main() -> None:
    parser = argparse.ArgumentParser(description="Loads the engine at random and looks for what goes wrong.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as home:
        os.environ["GGUF_VL_HOME"] = home
        os.environ["MALLOC_ARENA_MAX"] = "1"  # glibc's own heaps, one for each thread, grow a worker by 20 MiB at first
        report = asyncio.run(soak(args.minutes, args.clients, args.seed))
    found = faults(report)
    printed = {name: getattr(report, name) for name in report.__slots__} | {"faults": found[:MOST_FAULTS]}
    print(json.dumps(printed, indent=1, ensure_ascii=False))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
