"""What earlier loads have really taken, kept in the cache folder by what was loaded.

A file that cannot be read or written costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gguf_vl import paths
from gguf_vl.types import Allocation, Used

_SCHEMA = 1


def key_of(*what: object) -> str:
    """A name for what a figure holds for; llama.cpp's version always belongs to it."""
    return hashlib.sha256(f"{_SCHEMA} {version('llama-cpp-python')} {what}".encode()).hexdigest()[:24]


def remember(key: str, used: Used) -> None:
    """Keep what a load has taken."""
    _write(f"load-{key}", asdict(used))


def recall(key: str) -> Used | None:
    """What a load has taken; None where none was remembered."""
    plain = _read(f"load-{key}")
    try:
        return Used(tuple(Allocation(**each) for each in plain.pop("buffers")), **plain)
    except (TypeError, KeyError, AttributeError):
        return None


def remember_encode(key: str, device: str, image_tokens: int, n_bytes: int) -> None:
    """Keep what encoding a picture has taken on a device."""
    known = recall_encode(key) | {(device, image_tokens): n_bytes}
    _write(f"encode-{key}", [[*where, taken] for where, taken in known.items()])


def recall_encode(key: str) -> dict[tuple[str, int], int]:
    """What encoding pictures has taken, by (device, image tokens)."""
    try:
        return {(device, tokens): n_bytes for device, tokens, n_bytes in _read(f"encode-{key}") or []}
    except (TypeError, ValueError):
        return {}


def _read(name: str) -> Any:
    try:
        return json.loads(_file(name).read_bytes())
    except (OSError, ValueError):
        return None


def _write(name: str, plain: Any) -> None:
    file = _file(name)
    unfinished = file.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(plain), encoding="utf-8")
        unfinished.replace(file)


def _file(name: str) -> Path:
    return paths.cache_dir() / "measured" / f"{name}.json"
