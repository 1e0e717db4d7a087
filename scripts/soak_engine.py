#!/usr/bin/env python3
"""Loads the engine at random with `pocket`, and prints JSON: answers that were wrong, what leaked, memory over time.

    scripts/soak_engine.py [--minutes 10] [--clients 8] [--seed 1]

Clients ask, cancel, leave in mid-answer, prepare pictures and take them back, ask for what does not fit; now and then
the worker is killed, or the engine closed and made anew. Every whole answer is held against that of an engine that was
asked nothing else. At the end nothing may run or wait, and no worker may be left. Exits with 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from gguf_vl import paths
from gguf_vl.engine.client import Engine
from gguf_vl.engine.process import WorkerProcess
from gguf_vl.errors import GgufVlError, WorkerDied
from gguf_vl.types import EngineSettings, Finished, Message, PictureLimits, Request, Sampling, Text

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.scenes import the_picture

SHAPES = ("red circle", "blue square", "green triangle", "yellow star", "purple square", "pink star", "black circle")
QUESTIONS = (
    "What colour is the shape?",
    "How many shapes are there?",
    "Describe the picture.",
    "List the shapes as JSON.",
)
GREEDY = Sampling(temperature=0, max_tokens=64)
Talk = tuple[Message, ...]


@dataclass(slots=True)
class Report:
    """What is printed."""

    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    cancelled: int = 0
    prepared: int = 0
    refused: int = 0
    kills: int = 0
    died: int = 0
    unloads: int = 0
    resident_mib: list[int] = field(default_factory=list)
    left: dict[str, Any] = field(default_factory=dict)


def engine() -> Engine:
    folder = paths.pocket_dir()
    limits = PictureLimits(16, 1024)
    return Engine(
        EngineSettings(
            folder / "pocket-F16.gguf",
            folder / "mmproj-pocket-F16.gguf",
            limits,
            n_ctx=2048,
            n_seq_max=4,
            n_gpu_layers=0,
            mmproj_offload=False,
            disk_budget=4 << 20,
            embedding_budget=1 << 20,
        )
    )


def talk(rng: random.Random) -> Talk:
    messages: list[Message] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        picture = the_picture(*rng.sample(SHAPES, rng.choice((1, 2))), seed=rng.randrange(3))
        content = (picture, rng.choice(QUESTIONS)) if rng.random() < 0.8 else (rng.choice(QUESTIONS),)
        messages += [Message("user", content), Message("assistant", ("red",))]
    return tuple(messages[:-1])


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


async def client(number: int, holder: list[Engine], right: dict[Talk, str], report: Report, until: float) -> None:
    rng = random.Random(number * 1000 + report.kills)
    while time.monotonic() < until:
        running, what = holder[0], rng.random()
        asked = rng.choice(list(right))
        request = Request(asked, GREEDY)
        try:
            if what < 0.6:
                answer = await said(running, request)
                report.answers += answer is not None
                if answer is not None and answer != right[asked]:
                    report.wrong.append(f"{answer!r} for {right[asked]!r}")
            elif what < 0.75:
                await said(running, request, leave_after=rng.randrange(1, 12))
                report.cancelled += 1
            elif what < 0.85:
                asking = asyncio.create_task(said(running, request))
                for _ in range(rng.randrange(20)):
                    await asyncio.sleep(0)
                await running.cancel(request.id)
                await asking
                report.cancelled += 1
            elif what < 0.95:
                preparing = asyncio.create_task(running.prepare(asked[0]))
                if rng.random() < 0.5:
                    await asyncio.sleep(rng.random() / 100)
                    preparing.cancel()
                with suppress(asyncio.CancelledError):
                    await preparing
                report.prepared += 1
            else:
                await said(running, Request((Message("user", ("much too long " * 3000,)),), GREEDY))
        except WorkerDied:
            report.died += 1
        except GgufVlError:
            report.refused += 1


async def trouble(holder: list[Engine], report: Report, until: float, rng: random.Random) -> None:
    """Kills workers, unloads, and looks at the memory."""
    while time.monotonic() < until:
        await asyncio.sleep(rng.uniform(1, 4))
        connection = holder[0].connection
        if not isinstance(connection, WorkerProcess):
            continue
        with suppress(psutil.Error):
            report.resident_mib.append(psutil.Process(connection.pid).memory_info().rss >> 20)
        if rng.random() < 0.15:
            with suppress(ProcessLookupError):
                os.kill(connection.pid, signal.SIGKILL)
            report.kills += 1
        elif rng.random() < 0.1:
            old, holder[0] = holder[0], engine()
            await old.close()
            report.unloads += 1


async def soak(minutes: float, n_clients: int, seed: int) -> Report:
    rng, report = random.Random(seed), Report()
    right: dict[Talk, str] = {}
    async with engine() as alone:
        for _ in range(24):
            asked = talk(rng)
            right[asked] = await said(alone, Request(asked, GREEDY)) or ""
    until = time.monotonic() + 60 * minutes
    holder = [engine()]
    clients = (client(number, holder, right, report, until) for number in range(n_clients))
    await asyncio.gather(*clients, trouble(holder, report, until, rng))
    with suppress(WorkerDied):  # killed at the very end
        await holder[0].stats()
    stats = await holder[0].stats()
    report.left = {"running": stats.running, "waiting": stats.waiting, "kept": stats.kept_sequences}
    report.left["stats"] = {name: getattr(stats, name) for name in stats.__slots__}
    await holder[0].close()
    report.left["workers"] = sum("gguf_vl.engine.worker" in child.cmdline() for child in psutil.Process().children())
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description="Loads the engine at random and looks for what goes wrong.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    report = asyncio.run(soak(args.minutes, args.clients, args.seed))
    print(json.dumps({name: getattr(report, name) for name in report.__slots__}, indent=1, ensure_ascii=False))
    clean = not report.wrong and not any(report.left[name] for name in ("running", "waiting", "workers"))
    sys.exit(0 if clean and report.answers else 1)


if __name__ == "__main__":
    main()
