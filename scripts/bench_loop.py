#!/usr/bin/env python3
"""Measures the engine's loop, and prints JSON: what Python takes of a step, and how long a stream stands still.

    scripts/bench_loop.py MODEL [--mmproj FILE] [--image-tokens 256 1024 4096] [--threads N] [--sequences 1 2 4 8 16]

`python`: microseconds of a step in which so many sequences each get a token, with decoding and sampling replaced by
nothing: scheduling, filling the batch, taking the tokens, and packing the one message that leaves the worker. Beside it
the goal, 150 and 30 for each sequence.

`gaps`: an answer streams while a picture that was never seen is encoded beside it. Seconds of the longest gap between
two tokens of that stream before the picture came, while it was encoded, and while it was read; the stream's tokens per
second meanwhile; and the picture's own encoding and first token, beside the stream and alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from gguf_vl import paths
from gguf_vl.engine.choosing import Chooser
from gguf_vl.engine.client import Engine
from gguf_vl.engine.loaded import blank_picture
from gguf_vl.engine.protocol import Step, dumps
from gguf_vl.engine.runner import Runner
from gguf_vl.hardware.machine import probe
from gguf_vl.native.context import Batch
from gguf_vl.runtime.candidates import here
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import named
from gguf_vl.runtime.planning import plan_here
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
    Thinking,
    Wishes,
)

STEPS = 1000
BABBLE = Sampling(temperature=1000.0, top_k=0, top_p=1.0, seed=1)
"""Every token as likely as the next: a long answer."""


def python_cost(n_sequences: int) -> float:
    """Microseconds of one step."""
    folder = paths.pocket_dir()
    files = (folder / "pocket-F16.gguf", folder / "mmproj-pocket-F16.gguf")
    settings = EngineSettings(
        *files, PictureLimits(16, 64), n_ctx=32_768, n_seq_max=n_sequences, disk_budget=0, speculate=False
    )
    with Runner(settings, lambda _: None) as runner:
        for n in range(n_sequences):
            talk = (Message("user", (f"Number {n}: go on.",)),)
            runner.submit(Request(talk, BABBLE, loop_guard=False), arrived=time.perf_counter())
        token = runner._model.tokenize("word")[0]
        for _ in range(8):
            runner.step()
        choose, decode = Chooser.choose, type(runner._context).decode
        Chooser.choose = lambda *_: token  # type: ignore[method-assign]
        type(runner._context).decode = _nothing  # type: ignore[method-assign, assignment]
        try:
            for _ in range(100):
                runner.step()
            began = time.perf_counter()
            for _ in range(STEPS):
                dumps(Step(tuple(runner.step())))
            return (time.perf_counter() - began) / STEPS * 1e6
        finally:
            Chooser.choose, type(runner._context).decode = choose, decode  # type: ignore[method-assign]


def _nothing(_context: object, batch: Batch) -> bool:
    batch.struct()
    return True


def shade(n_tokens: int, colour: int) -> Picture:
    """A picture that was never seen."""
    blank = blank_picture(n_tokens)
    rgb = bytes([colour, 90, 160]) * (blank.width * blank.height)
    return Picture(rgb, blank.width, blank.height, blank.original_size, f"{n_tokens} {colour} {time.time_ns()}")


async def looked(engine: Engine, picture: Picture) -> tuple[Finished, float, float]:
    """How a question about a picture ends, and when its encoding ended and the answer began."""
    encoded = first = 0.0
    request = Request((Message("user", (picture, "What is this?")),), Sampling(temperature=0, max_tokens=2))
    async for event in engine.generate(request):
        if isinstance(event, Progress) and event.stage == "prefill" and event.done:
            encoded = encoded or time.perf_counter()
        if isinstance(event, Text | Thinking | Finished):
            first = first or time.perf_counter()
        if isinstance(event, Finished):
            return event, encoded or first, first
    raise RuntimeError("no end")


async def gap(engine: Engine, n_tokens: int) -> dict[str, Any]:
    """One row of `gaps`."""
    alone, _, _ = await looked(engine, shade(n_tokens, 1))
    tokens: list[float] = []

    async def stream() -> None:
        while True:
            request = Request((Message("user", ("Tell me a story.",)),), BABBLE, loop_guard=False)
            async for event in engine.generate(request):
                if isinstance(event, Text | Thinking):
                    tokens.append(time.perf_counter())

    streaming = asyncio.create_task(stream())
    while len(tokens) < 50:
        await asyncio.sleep(0.05)
    began = time.perf_counter()
    beside, encoded, first = await looked(engine, shade(n_tokens, 2))
    streaming.cancel()
    await asyncio.gather(streaming, return_exceptions=True)
    return {
        "image_tokens": n_tokens,
        "encode_alone_s": alone.timings.encode_s,
        "first_token_alone_s": alone.timings.ttft_s,
        "encode_s": beside.timings.encode_s,
        "first_token_s": beside.timings.ttft_s,
        "stream_alone": told(tokens, 0.0, began),
        "stream_while_encoding": told(tokens, began, encoded),
        "stream_while_reading": told(tokens, encoded, first),
    }


def told(tokens: list[float], start: float, end: float) -> dict[str, float]:
    """The longest gap that lies in a time at least in part, and tokens per second in it."""
    gaps = [(one, other) for one, other in pairwise(tokens) if other > start and one < end]
    whole = [other for _, other in gaps if other <= end]
    since = max(start, tokens[0])
    return {"worst_gap_s": max(other - one for one, other in gaps), "tps": len(whole) / (end - since)}


async def gaps(args: argparse.Namespace) -> list[dict[str, Any]]:
    installed = named(str(args.model), mmproj=args.mmproj)
    most = max(args.image_tokens)
    wishes = Wishes(n_threads=args.threads, n_ctx=2 * most + 2048, image_max_tokens=most)
    planned = plan_here(here(installed), probe(), wishes)
    async with PlannedEngine(installed, planned, prove="never") as engine:
        return [await gap(engine, n_tokens) for n_tokens in args.image_tokens]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the engine's loop.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--mmproj", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--image-tokens", type=int, nargs="*", default=[256, 1024])
    parser.add_argument("--sequences", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    args = parser.parse_args()
    cost = [{"sequences": n, "us": python_cost(n), "goal_us": 150 + 30 * n} for n in args.sequences]
    print(json.dumps({"python": cost, "gaps": asyncio.run(gaps(args)) if args.image_tokens else []}, indent=1))


if __name__ == "__main__":
    main()
