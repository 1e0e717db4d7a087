"""What does not change until the machine starts anew, kept in the cache folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import psutil

from gguf_vl.hardware import kept, reading
from gguf_vl.native import devices

_NAME = "machine"
_FORMAT = 1
"""Of the facts: to be raised when they change their shape."""

_ENVIRONMENT = tuple(
    "CUDA_ GGML_ GPU_ HIP_ HSA_ LD_LIBRARY_PATH LLAMA_ MESA_ MTL_ NVIDIA_ ONEAPI_ ROCR_ SYCL_ VK_ ZE_ DYLD_".split()
)
"""Variables that begin so decide which devices a backend shows."""


def key(gpus: list[str], root: Path = Path("/")) -> dict[str, Any]:
    """What the devices depend on: this start of the machine, the GPUs the system shows, llama.cpp's libraries, and the
    environment variables that its backends read."""
    library = devices.library()
    files = sorted(library.parent.iterdir()) if library and library.exists() else []
    return {
        "format": _FORMAT,
        "boot": reading.text(root / "proc/sys/kernel/random/boot_id") or str(int(psutil.boot_time())),
        "python": sys.prefix,
        "gpus": gpus,
        "libraries": [[str(file), file.stat().st_mtime_ns, file.stat().st_size] for file in files],
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_ENVIRONMENT)},
    }


def recall(key: dict[str, Any]) -> dict[str, Any]:
    """What `remember` kept under the same key; empty otherwise."""
    found = kept.read(_NAME)
    return found["facts"] if isinstance(found, dict) and found.get("key") == key and "facts" in found else {}


def remember(key: dict[str, Any], facts: dict[str, Any]) -> None:
    """Keep the facts for the next process."""
    kept.write(_NAME, {"key": key, "facts": facts})
