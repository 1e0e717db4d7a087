"""What llama.cpp says a load would take to compute, asked in a child process and remembered."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gguf_vl import paths
from gguf_vl.types import Load, Reserved

_CHILD_S = 60.0
"""Seconds a simulation may take before its driver counts as hung; it takes some tenths."""
_LARGEST_CTX = 1 << 21
"""Tokens; far beyond, llama.cpp is busy for long with what cannot be."""
_SCHEMA = 3


def simulate(path: Path, loads: Iterable[Load], fingerprint: str) -> dict[Load, Reserved]:
    """What llama.cpp would reserve for each load of the model at `path`; those it has no answer to are left out.

    `fingerprint` names what the file is and which devices it would meet; with llama-cpp-python's version it is what an
    answer is remembered by.
    """
    wanted = [load for load in loads if load.n_ctx <= _LARGEST_CTX]
    memory = paths.cache_dir() / "simulated" / f"{_key(fingerprint)}.json"
    known = _remembered(memory)
    for n_gpu_layers, split in sorted({(load.n_gpu_layers, load.split) for load in wanted if load not in known}):
        new = [
            load for load in wanted if load not in known and (load.n_gpu_layers, load.split) == (n_gpu_layers, split)
        ]
        known |= _asked(path, n_gpu_layers, split, new)
        _remember(memory, known)
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


def _key(fingerprint: str) -> str:
    return hashlib.sha256(f"{_SCHEMA} {version('llama-cpp-python')} {fingerprint}".encode()).hexdigest()[:24]


def _remembered(memory: Path) -> dict[Load, Reserved]:
    try:
        rows: list[list[dict[str, Any]]] = json.loads(memory.read_bytes())
        return {Load(**load | {"split": tuple(load["split"])}): Reserved(**answer) for load, answer in rows}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _remember(memory: Path, known: dict[Load, Reserved]) -> None:
    unfinished = memory.with_suffix(f".{os.getpid()}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps([[asdict(load), asdict(answer)] for load, answer in known.items()]))
        unfinished.replace(memory)
    except OSError:  # it is asked again next time
        unfinished.unlink(missing_ok=True)
