"""Answers kept as JSON in the cache folder. A file that cannot be read or written costs time and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gguf_vl import paths


def key_of(*what: object) -> str:
    """A file's name for what an answer holds for; llama.cpp's version always belongs to it."""
    return hashlib.sha256(f"{version('llama-cpp-python')} {what}".encode()).hexdigest()[:24]


def read(name: str) -> Any:
    """What `write` has kept under a name such as "simulated/…"; None where it cannot be had."""
    try:
        return json.loads(_file(name).read_bytes())
    except (OSError, ValueError):
        return None


def write(name: str, plain: Any) -> None:
    """Keep it for the next process, in place of what was there."""
    file = _file(name)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_text(json.dumps(plain), encoding="utf-8")
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)


def _file(name: str) -> Path:
    return paths.cache_dir() / f"{name}.json"
