"""One look at the machine: memory, cores, and the devices llama.cpp can use."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import psutil

_PROBE_S = 30.0
"""Seconds the device probe may take before its driver counts as hung."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device llama.cpp can compute on. `kind` is cpu, gpu, igpu or accel; bytes are None where unknown."""

    name: str
    description: str
    kind: str
    free: int | None
    total: int | None


@dataclass(frozen=True, slots=True)
class Machine:
    """Plain facts; bytes for memory. `llama_cpp_python` is None when it cannot be run, and `trouble` says why.

    `gpu_seen` names a GPU that the system shows, whether or not llama.cpp can use it.
    """

    system: str
    python: str
    cores: int
    memory_total: int
    memory_available: int
    llama_cpp_python: str | None
    gpu_offload: bool
    gpu_seen: str | None
    devices: tuple[Device, ...]
    trouble: str | None


def physical_cores() -> int:
    """Cores this process may use, counting hyper-threads once: more threads than these make llama.cpp slower."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable))


def probe() -> Machine:
    """Look at the machine. Devices are asked in a child process, so that a broken driver cannot take us down."""
    memory = psutil.virtual_memory()
    native, trouble = _ask_llama_cpp()
    return Machine(
        system=platform.platform(),
        python=platform.python_version(),
        cores=physical_cores(),
        memory_total=memory.total,
        memory_available=memory.available,
        llama_cpp_python=native.get("llama_cpp_python"),
        gpu_offload=native.get("gpu_offload", False),
        gpu_seen=_gpu_seen(),
        devices=tuple(Device(**device) for device in native.get("devices", [])),
        trouble=trouble,
    )


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
    if done.returncode >= 0:
        return f"exit code {done.returncode}, {last}"
    if done.returncode == -signal.SIGILL:
        return "it was built for another processor (SIGILL)"
    return f"{signal.Signals(-done.returncode).name}, {last}"


def _gpu_seen() -> str | None:
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "Apple's GPU"
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().replace("\n", ", ") or None if done.returncode == 0 else None


def _ask_llama_cpp() -> tuple[dict[str, Any], str | None]:
    """(what the probe in a child printed, why it could not)"""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gguf_vl.native.devices"],
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return {}, f"asking llama.cpp for its devices took more than {_PROBE_S:.0f} s"
    if done.returncode != 0:
        return {}, f"llama-cpp-python does not run here: {_ending(done)}"
    return json.loads(done.stdout), None
