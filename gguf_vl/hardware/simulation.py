"""What llama.cpp says a load would take to compute, asked in a child process and remembered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from gguf_vl.hardware import kept
from gguf_vl.types import Load, Reserved

_CHILD_S = 60.0
"""Seconds a simulation may take before its driver counts as hung; it takes some tenths."""
_LARGEST_CTX = 1 << 21
"""Tokens; far beyond, llama.cpp is busy for long with what cannot be."""
_SCHEMA = 4


def simulate(path: Path, loads: Iterable[Load], fingerprint: str) -> dict[Load, Reserved]:
    """What llama.cpp would reserve for each load of the model at `path`; those it has no answer to are left out.

    `fingerprint` names what the file is and which devices it would meet; with llama-cpp-python's version it is what an
    answer is remembered by.
    """
    wanted = [load for load in loads if load.n_ctx <= _LARGEST_CTX]
    memory = f"simulated/{kept.key_of(_SCHEMA, fingerprint)}"
    known = _remembered(memory)
    for n_gpu_layers, split in sorted({(load.n_gpu_layers, load.split) for load in wanted if load not in known}):
        new = [
            load for load in wanted if load not in known and (load.n_gpu_layers, load.split) == (n_gpu_layers, split)
        ]
        known |= _asked(path, n_gpu_layers, split, new)
        kept.write(memory, [[asdict(load), asdict(answer)] for load, answer in known.items()])
    return {load: known[load] for load in wanted if load in known}


def _asked(path: Path, n_gpu_layers: int, split: tuple[int, ...], loads: list[Load]) -> dict[Load, Reserved]:
    names = ("n_ctx", "n_batch", "n_seq_max", "kv_type")
    contexts = [{name: getattr(load, name) for name in names} for load in loads]
    question = {"model": str(path.absolute()), "n_gpu_layers": n_gpu_layers, "split": split, "contexts": contexts}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gguf_vl.native.simulate"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=_CHILD_S,
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},
        )
        answers = list(zip(loads, json.loads(done.stdout), strict=True))
    except (OSError, ValueError, subprocess.TimeoutExpired):  # also what a driver has printed into it
        return {}
    return {load: Reserved(answer["compute"], answer["output"]) for load, answer in answers if "compute" in answer}


def _remembered(memory: str) -> dict[Load, Reserved]:
    try:
        rows = kept.read(memory) or []
        return {Load(**load | {"split": tuple(load["split"])}): Reserved(**answer) for load, answer in rows}
    except (ValueError, TypeError, KeyError):
        return {}
