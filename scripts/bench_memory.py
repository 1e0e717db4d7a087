#!/usr/bin/env python3
"""Measures the resident memory of the engine's worker, step by step beside what is planned, and prints JSON.

    scripts/bench_memory.py MODEL [--mmproj FILE] [--ctx 8192] [--image-tokens 64 256 1024 2116 4096] [--threads N]

Steps: Python with llama.cpp's libraries and nothing loaded; the worker after its load; after a picture of each size, in
the given order; after a context that is as good as full. Bytes of each: `resident`, of it `anonymous` memory and what
is `mapped` from the model's file, which the system can take back; `peak`, the most that was resident during the step;
`embeddings`, what the engine keeps of pictures. `planned` are the parts that exist by then, `beside` is what is
resident beyond them; pixels and the buffers of matrix products are among that. With the weights mapped, and with the
weights read. Linux only. The 2B needs half an hour on two cores: nearly all of it goes into the largest picture.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from gguf_vl.engine.blocking import BlockingEngine
from gguf_vl.engine.client import Engine
from gguf_vl.errors import DoesNotFit
from gguf_vl.fit import memory
from gguf_vl.hardware.cores import physical_cores
from gguf_vl.runtime.models import Installed, named
from gguf_vl.types import PATCH, EngineSettings, Message, Picture, PictureLimits, Request, Sampling, Used, sequence_ids

IDLE = """
import sys
from llama_cpp import llama_cpp
import gguf_vl.engine.runner
llama_cpp.llama_backend_init()
print(flush=True)
sys.stdin.read()
"""
FULL = 0.97
"""Share of the context that counts as full."""


def resident(pid: int, model: Path) -> dict[str, int]:
    """What a process holds, in bytes, and the most it held since this was last asked."""
    root = Path(f"/proc/{pid}")
    rollup = numbers((root / "smaps_rollup").read_text())
    found = {
        "resident": rollup["Rss"],
        "anonymous": rollup["Anonymous"],
        "mapped": mapped((root / "smaps").read_text(), model),
        "peak": numbers((root / "status").read_text())["VmHWM"],
    }
    (root / "clear_refs").write_text("5")  # the peak begins anew
    return found


def numbers(text: str) -> dict[str, int]:
    """The lines `Name:  12 kB` of a file in /proc, in bytes."""
    rows = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3}


def mapped(smaps: str, file: Path) -> int:
    """Resident bytes of the mappings of a file, from /proc/PID/smaps."""
    total, is_it = 0, False
    for line in smaps.splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):  # 7f1c-7f2d r--p 0000 fe:00 12 /the/file
            is_it = line.endswith(f" {file}")
        elif is_it and first == "Rss:":
            total += int(rest[0]) * 1024
    return total


def idle() -> dict[str, int]:
    """A process like the worker before it loads anything."""
    words = [sys.executable, "-P", "-c", IDLE]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        found = resident(process.pid, Path("nothing"))
        process.stdin.close()
    return found


def picture(tokens: int) -> Picture:
    """A picture of noise, as near to a square as its number of tokens allows."""
    rows = next(n for n in range(int(tokens**0.5), 0, -1) if tokens % n == 0)
    width, height = tokens // rows * PATCH, rows * PATCH
    rgb = np.random.default_rng(tokens).integers(0, 256, (height, width, 3), dtype=np.uint8).tobytes()
    return Picture(rgb, width, height, (width, height), hashlib.sha256(rgb).hexdigest())


def fill(engine: BlockingEngine, seen: Picture | None, n_ctx: int) -> int:
    """Ask something that takes all of the context but a few cells. Returns the tokens that it took.

    A prompt that is too long is refused before any work, so the first that is taken is as good as full.
    """
    words = n_ctx
    while True:
        content = (*((seen,) if seen else ()), "a " * words)
        request = Request((Message("user", content),), Sampling(temperature=0.0, max_tokens=1))
        try:
            done = [*engine.generate(request)][-1]
        except DoesNotFit:
            words -= max(1, n_ctx // 200)
            continue
        used: int = done.usage.prompt_tokens  # type: ignore[union-attr]
        if used < FULL * n_ctx:
            raise SystemExit(f"Only {used} of {n_ctx} tokens were filled: please mend scripts/bench_memory.py")
        return used


def allocated(used: Used) -> dict[str, int]:
    """Bytes that llama.cpp says it has allocated for each purpose; of mapped weights, those of which it made copies
    that its processor multiplies faster count twice.
    """
    found: dict[str, int] = {}
    for each in used.buffers:
        found[each.purpose] = found.get(each.purpose, 0) + each.n_bytes
    return found


def steps(settings: EngineSettings, installed: Installed, sizes: list[int]) -> Iterator[dict[str, Any]]:
    """One step after the other."""
    text, projector = installed.local.text, installed.local.projector
    planned = {
        "weights": sum(memory.weights(text, 0)),
        "kv": memory.kv(text, settings.n_ctx, settings.kv_type),
    }
    if projector:
        planned["projector"] = projector.n_bytes

    with BlockingEngine(Engine(settings)) as engine:
        worker = next(child for child in psutil.Process().children() if "gguf_vl.engine.worker" in child.cmdline())

        def step(what: str, **more: int) -> dict[str, Any]:
            found = resident(worker.pid, settings.model)
            kept = engine.stats().embedding_bytes
            parts = planned | ({"embeddings": kept} if kept else {})
            return {"step": what, **more, **found, "planned": parts, "beside": found["resident"] - sum(parts.values())}

        yield step("loaded") | {"allocated": allocated(engine.start().used)}
        seen = None
        for tokens in sizes if projector else []:
            seen = picture(tokens)
            engine.prepare(seen)
            assert projector
            planned["encode"] = max(planned.get("encode", 0), memory.encode(projector, tokens))
            yield step("picture", image_tokens=tokens)
        planned["compute"] = memory.compute(text, settings.n_ctx, settings.n_batch)
        planned["output"] = memory.output(text, sequence_ids(1))
        yield step("full context", tokens=fill(engine, seen, settings.n_ctx))


def measure(wishes: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed."""
    installed = named(str(wishes.model), mmproj=wishes.mmproj)
    settings: dict[str, Any] = {
        "model": installed.local.model.absolute(),
        "mmproj": installed.local.mmproj and installed.local.mmproj.absolute(),
        "limits": PictureLimits(8, max(wishes.image_tokens)),
        "n_ctx": wishes.ctx,
        "n_batch": wishes.batch,
        "n_gpu_layers": 0,
        "n_threads": wishes.threads or physical_cores(),
    }
    rows: list[dict[str, Any]] = [{"step": "libraries", **idle()}]
    for map_weights in (True, False):
        for row in steps(EngineSettings(**settings, map_weights=map_weights), installed, wishes.image_tokens):
            rows.append({"map_weights": map_weights} | row)
            print(json.dumps(rows[-1]), file=sys.stderr)
    return {"model": wishes.model.name, "n_ctx": wishes.ctx, "n_batch": wishes.batch, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the resident memory of the engine's worker, step by step.")
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--mmproj", type=Path, help="its projector, where it is not beside it")
    parser.add_argument("--ctx", type=int, default=8192, help="tokens")
    parser.add_argument("--batch", type=int, default=512, help="tokens computed at once")
    parser.add_argument("--image-tokens", nargs="+", type=int, default=[64, 256, 1024, 2116, 4096])
    parser.add_argument("--threads", type=int, help="default: one for each core")
    json.dump(measure(parser.parse_args()), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
