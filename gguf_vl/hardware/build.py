"""A llama-cpp-python that was built without the GPU that is here, and the command that mends it."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from gguf_vl import paths
from gguf_vl.types import Machine

_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl"
"""Prebuilt wheels, one index per backend (llama-cpp-python's own documentation)."""

_INDEXES = {"cuda": "cu124", "vulkan": "vulkan"}
"""CUDA 12.4 runs on every driver from 525 on (NVIDIA's minor version compatibility)."""


@dataclass(frozen=True, slots=True)
class UnusedGpu:
    """A GPU that stays idle: what is so, and a command or advice that mends it."""

    what: str
    fix: str


def unused_gpu(machine: Machine) -> UnusedGpu | None:
    """What to do for a GPU that the system shows and llama.cpp does not use; None where all is well.

    An integrated GPU of a PC is no finding: it shares the processor's memory, and is seldom faster than it.
    """
    if machine.trouble or not machine.gpu_seen or any(device.kind in ("gpu", "igpu") for device in machine.devices):
        return None
    if machine.gpu_offload:
        reason = machine.unknown.get("devices") or machine.unknown.get("nvidia-smi")
        return UnusedGpu(
            f"{machine.gpu_seen} is here, but llama.cpp, which was built for a GPU, finds none.",
            f"{reason}." if reason else "See that its driver is installed and that this user may open it.",
        )
    backend = _backend(machine.gpu_seen)
    if backend is None:
        return None
    return UnusedGpu(f"{machine.gpu_seen} is here, but llama-cpp-python was built without it.", rebuild(backend))


def rebuild(backend: str | None = None) -> str:
    """The command that installs llama-cpp-python for a backend, "cuda", "metal" or "vulkan", or anew as it was.

    It builds where a compiler for the backend is here, and takes a prebuilt wheel otherwise.
    """
    index = None if backend == "cuda" and shutil.which("nvcc") else _INDEXES.get(backend or "")
    if (paths.PACKAGE.parent / "scripts" / "setup").is_file():
        return f"scripts/setup --prebuilt {index}" if index else "scripts/setup --rebuild"
    command = f"{shlex.quote(sys.executable)} -m pip install --force-reinstall --no-deps --no-cache-dir"
    command += f" {_requirement()}"
    if index:
        return f"{command} --extra-index-url {_WHEELS}/{index}"
    return f"CMAKE_ARGS=-DGGML_CUDA=on {command}" if backend == "cuda" else command


def _requirement() -> str:
    try:
        return f"llama-cpp-python=={version('llama-cpp-python')}"
    except PackageNotFoundError:
        return "llama-cpp-python"


def _backend(gpu_seen: str) -> str | None:
    if gpu_seen.startswith("Apple"):
        return "metal"
    if "NVIDIA" in gpu_seen or "Tesla" in gpu_seen:
        return "cuda"
    return "vulkan" if "AMD GPU" in gpu_seen or "Intel GPU" in gpu_seen else None
