#!/usr/bin/env python3
"""Measures a batch: pictures a second with many under way, and the same one at a time.

    scripts/bench_batch.py [MODEL] [--mmproj FILE] [--pictures 100] [--side 768] [--rounds 4] [--parallel N]
                           [--threads N] [--prompt TEXT] [--max-tokens N] [--patience 60]

Without a model it is `pocket`; of a synthetic one (`make_synthetic.py`) the answers mean nothing, so give --max-tokens.
The pictures are drawn scenes, each seen once, cut in `rounds` parts; half of a part goes through `tasks/batch` one at a
time, and half as many at once as the engine was planned for. Who begins changes with the round, so that a machine whose
speed drifts does so for both. Nothing is kept on disk. Loading is not measured: one engine serves all.

JSON goes to standard output. `ratio` is all pictures' time of the one by that of the other; `others` the share of this
machine's processors that other programs took meanwhile, which makes either slower.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "pocket"))

from peers.process import Others

from draw import HELD_OUT_SEEDS, draw_scene
from gguf_vl.config import Settings
from gguf_vl.engine.client import Engine
from gguf_vl.engine.process import WorkerProcess
from gguf_vl.hardware.machine import probe
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.planning import plan_chosen
from gguf_vl.tasks.batch.job import Job
from gguf_vl.tasks.batch.running import answered
from gguf_vl.tasks.task import free

ALONE, TOGETHER = "one at a time", "in flight"


def draw(folder: Path, n: int, side: int) -> list[str]:
    """Pictures that no model of ours has seen."""
    files = [folder / f"{number}.png" for number in range(n)]
    for number, file in enumerate(files):
        draw_scene(HELD_OUT_SEEDS[800_000_000 + number], size=(side, side)).picture.save(file)
    return list(map(str, files))


async def _each(files: Sequence[str]) -> AsyncIterator[str]:
    for file in files:
        yield file


async def seconds(engine: Engine, job: Job, files: Sequence[str], in_flight: int | None) -> tuple[float, int]:
    """How long the files take, and the tokens of their answers. Raises for a picture that was not answered."""
    began, tokens = time.perf_counter(), 0
    async with aclosing(answered(engine, job, _each(files), in_flight=in_flight)) as lines:
        async for line in lines:
            if line.error or line.usage is None:
                raise SystemExit(f"{line.file}: {line.error}")
            tokens += line.usage.completion_tokens
    return time.perf_counter() - began, tokens


async def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that is printed."""
    settings = Settings(
        model=args.model, mmproj=args.mmproj, parallel=args.parallel, threads=args.threads, max_tokens=args.max_tokens
    )
    installed, planned = plan_chosen(settings, probe())
    job = Job(free(), installed, settings, extra=args.prompt)
    engine = PlannedEngine(installed, planned, prove="never")
    files = draw(folder, args.pictures + 1, args.side)
    took: dict[str, float] = dict.fromkeys((ALONE, TOGETHER), 0.0)
    answers: dict[str, int] = dict.fromkeys(took, 0)
    rounds, shares = [], []
    try:
        await engine.start()
        await seconds(engine, job, files[-1:], 1)  # warms up
        assert isinstance(engine.connection, WorkerProcess)
        others = Others(engine.connection.pid)
        for number in range(args.rounds):
            part = files[number : args.pictures : args.rounds]
            halves = {ALONE: part[0::2], TOGETHER: part[1::2]}
            others.wait(args.patience)
            row = {}
            for way in (ALONE, TOGETHER) if number % 2 == 0 else (TOGETHER, ALONE):
                spent, tokens = await seconds(engine, job, halves[way], 1 if way == ALONE else None)
                took[way] += spent
                answers[way] += tokens
                row[way] = round(len(halves[way]) / spent, 3)
            shares.append(others.share())
            rounds.append({**row, "others": round(shares[-1], 2)})
            print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr, flush=True)
    finally:
        await engine.close()
    counts = {
        way: sum(len(files[n : args.pictures : args.rounds][at::2]) for n in range(args.rounds))
        for at, way in enumerate(took)
    }
    rates = {way: counts[way] / took[way] for way in took}
    return {
        "model": installed.name,
        "pictures": counts,
        "side": args.side,
        "processors": psutil.cpu_count(),
        "threads": engine.settings.n_threads,
        "parallel": engine.settings.n_seq_max,
        "pictures_per_s": {way: round(rate, 3) for way, rate in rates.items()},
        "ratio": round(rates[TOGETHER] / rates[ALONE], 3),
        "tokens_per_answer": {way: round(answers[way] / counts[way], 1) for way in took},
        "rounds": rounds,
        "others": round(sum(shares) / len(shares), 3),
        "load_average": [round(each, 2) for each in os.getloadavg()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures a batch, many at once and one at a time.")
    parser.add_argument("model", nargs="?", default="pocket", help="a name, or a GGUF file")
    parser.add_argument("--mmproj", type=Path, help="its projector, where it is not beside it")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--side", type=int, default=768, help="pixels of a picture's width and height")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--parallel", type=int, help="answered at once; default as planned")
    parser.add_argument("--threads", type=int, help="default as planned")
    parser.add_argument("--prompt", default="Describe the picture.")
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine before a round")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(args, Path(folder)))
    json.dump(found, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
