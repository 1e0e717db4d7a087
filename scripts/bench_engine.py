#!/usr/bin/env python3
"""Measures one model through the engine, beside a bare `llama_decode` loop, and prints JSON.

    scripts/bench_engine.py MODEL [--mmproj FILE] [--size 512x512] [--tokens 64] [--rounds 5] [--threads N] [--kept 0]

Seconds of loading, encoding and prefill of one picture, decode rate and the worker's peak memory; then the decode rate
of a loop around `llama_decode` alone, in a process of its own with as large a context, as many threads and as many
cells behind it. Engine and loop take turns, so that both meet the same machine: `ratio` is the middle one of the
rounds' ratios. A round is one answer of `--tokens` tokens, none of them guessed ahead. With `--kept` the engine has
read a text of so many tokens before, as a used one has, and the loop is measured with an empty cache and behind as many
cells. Peak memory is the worker's resident set at its highest, mapped weights among it.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from peers.loop import Loop
from PIL import Image

from gguf_vl.engine.blocking import BlockingEngine
from gguf_vl.hardware.machine import probe
from gguf_vl.media.pictures import load_picture
from gguf_vl.runtime.bench import peak_resident
from gguf_vl.runtime.candidates import here
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import Installed, named
from gguf_vl.runtime.planning import plan_here
from gguf_vl.types import Finished, Message, Picture, Request, Sampling, Wishes


def picture(size: tuple[int, int], installed: Installed) -> Picture:
    """A picture of noise, as the engine takes it; pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return load_picture(file.getvalue(), installed.limits)


def answer(engine: BlockingEngine, seen: Picture, n_tokens: int) -> Finished:
    """Asks about the picture for `n_tokens` tokens."""
    sampling = Sampling(temperature=0.0, max_tokens=n_tokens)
    request = Request((Message("user", (seen, "Describe the picture.")),), sampling)
    done = [event for event in engine.generate(request) if isinstance(event, Finished)][-1]
    if done.usage.completion_tokens != n_tokens:
        raise SystemExit(
            f"The model ended its answer after {done.usage.completion_tokens} tokens: give fewer --tokens."
        )
    return done


def fill(engine: BlockingEngine, n_cells: int) -> None:
    """Let the engine read, and keep, a text of so many tokens."""
    text = " ".join("word" for _ in range(n_cells))
    list(engine.generate(Request((Message("user", (text,)),), Sampling(max_tokens=1))))


def worker_peak() -> int:
    """The highest resident memory of the engine's process so far, bytes."""
    worker = next(child for child in psutil.Process().children() if "gguf_vl.engine.worker" in child.cmdline())
    return peak_resident(worker.pid)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed."""
    installed = named(str(args.model), mmproj=args.mmproj)
    planned = plan_here(here(installed), probe(), Wishes(n_threads=args.threads))
    planned_engine = PlannedEngine(installed, planned)
    planned_engine.settings = replace(planned_engine.settings, speculate=False)
    engine = BlockingEngine(planned_engine)
    with engine:
        loaded = engine.start()
        seen = picture(args.size, installed)
        first = answer(engine, seen, args.tokens)
        peak = worker_peak()
        fill(engine, args.kept)
        kept = engine.stats().kept_cells
        rounds = []
        with Loop(engine.settings) as loop:
            for _ in range(args.rounds):
                done = answer(engine, seen, args.tokens)
                bare = loop.rate(1, done.usage.prompt_tokens, args.tokens)
                behind = loop.rate(1, done.usage.prompt_tokens, args.tokens, kept) if args.kept else bare
                rounds.append((done.timings.decode_tps or 0.0, bare, behind))
    return {
        "model": args.model.name,
        "threads": engine.settings.n_threads,
        "n_ctx": engine.settings.n_ctx,
        "image_tokens": first.usage.image_tokens,
        "prompt_tokens": first.usage.prompt_tokens,
        "completion_tokens": first.usage.completion_tokens,
        "kept_cells": kept,
        "load_s": round(loaded.load_s, 3),
        "encode_s": round(first.timings.encode_s, 3),
        "prefill_s": round(first.timings.prefill_s, 3),
        "peak_bytes": peak,
        "decode_tps": round(statistics.median(rate for rate, _, _ in rounds), 3),
        "bare_decode_tps": round(statistics.median(bare for _, bare, _ in rounds), 3),
        "ratio": round(statistics.median(rate / bare for rate, bare, _ in rounds), 4),
        "ratio_behind_kept": round(statistics.median(rate / behind for rate, _, behind in rounds), 4),
        "rounds": [[round(each, 3) for each in rates] for rates in rounds],
    }


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures a model through the engine, beside a bare loop.")
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--mmproj", type=Path, help="its projector, where it is not beside it")
    parser.add_argument("--size", type=_size, default=(512, 512), help="of the picture, pixels")
    parser.add_argument("--tokens", type=int, default=64, help="per answer, at least 2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of both; default the engine's")
    parser.add_argument("--kept", type=int, default=0, help="tokens of a talk that the engine read before")
    json.dump(measure(parser.parse_args()), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
