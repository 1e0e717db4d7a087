"""How fast a model is here: the times a person waits for, measured through the engine as everything else uses it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from gguf_vl.engine.blocking import BlockingEngine
from gguf_vl.engine.loaded import blank_picture
from gguf_vl.engine.process import WorkerProcess
from gguf_vl.errors import UsageError
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import Installed
from gguf_vl.runtime.planning import Planned
from gguf_vl.types import Finished, Message, Picture, Request, Sampling

WORDS = "The quick brown fox jumps over the lazy dog. " * 20
"""Some two hundred tokens of text."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured `n` times: the middle value and the two ends, in `unit`."""

    name: str
    unit: str
    middle: float
    least: float
    most: float
    n: int


def bench(
    installed: Installed, planned: Planned, *, repeats: int, image_tokens: int, tell: Callable[[str], None]
) -> list[Row]:
    """Load the model, ask it with and without pictures, and say how long that took. Raises what loading raises."""
    limits = planned.plan.limits
    if installed.local.mmproj and not limits.min_tokens <= image_tokens <= limits.max_tokens:
        raise UsageError(
            f"{image_tokens} image tokens, where this model takes {limits.min_tokens} to {limits.max_tokens} here.",
            "Give another `--image-tokens`.",
        )
    engine = PlannedEngine(installed, planned, tell=tell)
    with BlockingEngine(engine) as running:
        info = running.start()
        rows = [_row("load", "s", [info.load_s])]
        text = [_ask(running, f"{n} {WORDS}", tell=tell) for n in range(repeats)]
        rows += _rows("text", text)
        if info.sees_pictures:
            fresh = [_picture(image_tokens, shade) for shade in range(repeats)]
            rows += _rows("a new picture", [_ask(running, picture, "What is this?", tell=tell) for picture in fresh])
            again = [_ask(running, picture, "And what else?", tell=tell) for picture in fresh]
            rows += [_row("first token, a picture asked about again", "s", [each.timings.ttft_s for each in again])]
        if isinstance(engine.connection, WorkerProcess):
            rows.append(
                _row("memory of the worker at its peak", "MiB", [peak_resident(engine.connection.pid) / (1 << 20)])
            )
    return rows


def _rows(what: str, ends: list[Finished]) -> Iterator[Row]:
    yield _row(f"first token, {what}", "s", [each.timings.ttft_s for each in ends])
    if any(each.timings.encode_s for each in ends):
        yield _row("  of which encoding", "s", [each.timings.encode_s for each in ends])
    prefill = [each.usage.prompt_tokens / each.timings.prefill_s for each in ends if each.timings.prefill_s]
    if prefill:
        yield _row(f"reading, {what}", "tokens/s", prefill)
    decode = [each.timings.decode_tps for each in ends if each.timings.decode_tps]
    if decode:
        yield _row(f"writing, {what}", "tokens/s", decode)
        yield _row("  of which each token", "s", [1 / each for each in decode])


def _row(name: str, unit: str, values: list[float]) -> Row:
    return Row(name, unit, statistics.median(values), min(values), max(values), len(values))


def _ask(engine: BlockingEngine, *content: str | Picture, tell: Callable[[str], None]) -> Finished:
    tell("asking …")
    sampling = Sampling(temperature=0, max_tokens=64)
    request = Request((Message("user", content),), sampling, loop_guard=False)
    *_, end = engine.generate(request)
    assert isinstance(end, Finished)
    return end


def _picture(image_tokens: int, shade: int) -> Picture:
    """A picture that was never seen, so that nothing of it is kept."""
    blank = blank_picture(image_tokens)
    rgb = bytes([200, shade % 256, 40]) * (blank.width * blank.height)
    return Picture(
        rgb, blank.width, blank.height, blank.original_size, f"bench {psutil.Process().create_time()} {shade}"
    )


def peak_resident(pid: int) -> int:
    """The highest resident memory of a process so far, bytes; what it is now where the system does not tell more."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    memory = psutil.Process(pid).memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))
