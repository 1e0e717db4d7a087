#!/usr/bin/env python3
"""Draws what the engine does with eight mixed requests at once: time across, requests down.

    scripts/trace_engine.py OUT.png [MODEL] [--mmproj FILE] [--parallel 4] [--threads N]

The picture is made of the engine's own events alone, as a client gets them: grey is waiting for a seat, orange waiting
for pictures to be encoded, blue the prompt, green the answer, a darker line for every step that brought tokens of it.
Without a MODEL it is `pocket`. Prints the requests' timings as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gguf_vl.engine.client import Engine
from gguf_vl.engine.loaded import blank_picture
from gguf_vl.hardware.machine import probe
from gguf_vl.runtime.candidates import here
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import named
from gguf_vl.runtime.planning import plan_here
from gguf_vl.types import Event, Finished, Message, Picture, Progress, Request, Sampling, Text, Thinking, Wishes

COLOURS = {"queue": "#c9c9c9", "encode": "#f0a030", "prefill": "#5b8def", "decode": "#8fd19e"}
NAMES = {"queue": "waits", "encode": "pictures", "prefill": "prompt", "decode": "answer"}
INK, TICK = "#222222", "#2e7d4f"
WIDTH, ROW, LEFT, RIGHT, TOP = 1500, 44, 330, 150, 70


@dataclass(slots=True)
class Traced:
    """One request: what it asks, when it comes, and its events with their seconds since the first request."""

    name: str
    content: tuple[str | Picture, ...]
    n_tokens: int
    comes: float
    events: list[tuple[float, Event]] = field(default_factory=list)

    @property
    def end(self) -> Finished:
        """How it ended."""
        event = self.events[-1][1]
        assert isinstance(event, Finished)
        return event

    def spans(self) -> list[tuple[str, float, float]]:
        """(what, from, to): an event says what goes on from then, until another says otherwise."""
        marks = [(self.comes, "queue")]
        for at, event in self.events:
            what = event.stage if isinstance(event, Progress) else "decode"
            if what != marks[-1][1]:
                marks.append((at, what))
        ends = [at for at, _ in marks[1:]] + [self.events[-1][0]]
        return [(what, at, until) for (at, what), until in zip(marks, ends, strict=True)]


def shade(n_tokens: int, colour: int) -> Picture:
    """A picture of one colour, of so many image tokens."""
    blank = blank_picture(n_tokens)
    rgb = bytes([colour, 255 - colour, 90]) * (blank.width * blank.height)
    return Picture(rgb, blank.width, blank.height, blank.original_size, f"traced {n_tokens} {colour} {time.time_ns()}")


def requests(unit: float, largest: int) -> list[Traced]:
    """Eight of them. `unit` is the time between two, seconds."""
    small, large = shade(min(64, largest), 10), shade(min(1024, largest), 200)
    return [
        Traced("a short text", ("Tell me about llamas.",), 60, 0),
        Traced("a picture", (small, "What is this?"), 40, 0.5 * unit),
        Traced("a long text", ("The quick brown fox jumps over the lazy dog. " * 60,), 30, unit),
        Traced("the same picture, another question", (small, "Which colour has it?"), 40, 1.5 * unit),
        Traced("a large picture", (large, "What is this?"), 30, 2 * unit),
        Traced("the long text again", ("The quick brown fox jumps over the lazy dog. " * 60 + "Why?",), 30, 3 * unit),
        Traced("the large picture behind other words", ("Look at this:", large), 30, 4 * unit),
        Traced("another short text", ("And what is a GGUF file?",), 40, 5 * unit),
    ]


async def run(engine: Engine, traced: list[Traced]) -> None:
    """Ask all of them, each when it comes."""
    began = time.perf_counter()

    async def ask(each: Traced) -> None:
        await asyncio.sleep(each.comes)
        each.comes = time.perf_counter() - began
        sampling = Sampling(temperature=1.0, seed=1, max_tokens=each.n_tokens)
        request = Request((Message("user", each.content),), sampling, loop_guard=False)
        async for event in engine.generate(request):
            each.events.append((time.perf_counter() - began, event))

    await asyncio.gather(*map(ask, traced))


def draw(traced: list[Traced], title: str) -> Image.Image:
    """The picture."""
    font, small = ImageFont.load_default(17), ImageFont.load_default(14)
    height = TOP + ROW * len(traced) + 50
    image = Image.new("RGB", (WIDTH, height), "white")
    pen = ImageDraw.Draw(image)
    longest = max(each.events[-1][0] for each in traced)
    scale = (WIDTH - LEFT - RIGHT) / longest
    pen.text((16, 12), title, INK, font)
    at = LEFT
    for what, colour in COLOURS.items():
        pen.rectangle((at, 42, at + 18, 56), colour)
        pen.text((at + 26, 40), NAMES[what], INK, small)
        at += 120
    step = next(size for size in (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 500) if longest / size < 14)
    for n in range(int(longest / step) + 1):
        x = LEFT + n * step * scale
        pen.line((x, TOP, x, TOP + ROW * len(traced)), "#eeeeee")
        pen.text((x, TOP + ROW * len(traced) + 6), f"{n * step:g} s", INK, small, anchor="ma")
    for row, each in enumerate(traced):
        top = TOP + row * ROW
        pen.text((16, top + 12), each.name, INK, small)
        for what, start, end in each.spans():
            pen.rectangle((LEFT + start * scale, top + 8, LEFT + end * scale, top + ROW - 8), COLOURS[what])
        for moment, event in each.events:
            if isinstance(event, Text | Thinking):
                x = LEFT + moment * scale
                pen.line((x, top + 8, x, top + ROW - 8), TICK)
        note = f"{each.end.timings.tokens_reused} of {each.end.usage.prompt_tokens} reused"
        pen.text((LEFT + each.events[-1][0] * scale + 8, top + 13), note, INK, small)
    return image


async def main_async(args: argparse.Namespace) -> None:
    installed = named(args.model, mmproj=args.mmproj)
    wishes = Wishes(n_threads=args.threads, n_seq_max=args.parallel, n_ctx=8192 if args.model != "pocket" else None)
    planned = plan_here(here(installed), probe(), wishes)
    async with PlannedEngine(installed, planned, prove="never") as engine:
        alone = requests(0, installed.limits.max_tokens)[:1]
        await run(engine, alone)
        traced = requests(alone[0].events[-1][0], installed.limits.max_tokens)
        await run(engine, traced)
    title = f"{installed.name}: eight requests, {args.parallel} seats, {planned.plan.n_threads} threads"
    draw(traced, title).save(args.out)
    rows = [{"name": each.name, "comes": each.comes, **asdict(each.end.timings)} for each in traced]
    json.dump(rows, sys.stdout, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws what the engine does with eight mixed requests.")
    parser.add_argument("out", type=Path)
    parser.add_argument("model", nargs="?", default="pocket")
    parser.add_argument("--mmproj", type=Path)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--threads", type=int)
    asyncio.run(main_async(parser.parse_args()))


if __name__ == "__main__":
    main()
