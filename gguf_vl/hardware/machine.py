"""One look at the machine: memory, cores, and the devices llama.cpp can use."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from gguf_vl import paths
from gguf_vl.hardware import apple, copying, cores, limits, linux, nvidia, remembered
from gguf_vl.types import Device, DiskKind, Machine

_PROBE_S = 30.0
"""Seconds the device probe may take before its driver counts as hung."""

_METAL = ("MTL", "Metal")
_HIDING = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES")

T = TypeVar("T")


def probe(root: Path = Path("/")) -> Machine:
    """Look at the machine. Never fails: what could not be learnt is in `unknown`.

    Devices are asked in a child process, so that a broken driver cannot take us down. What cannot change until the next
    start is remembered; free memory is read anew. `root` is where /proc and /sys are looked for.
    """
    return _Look(root).machine()


class _Look:
    """One probe, and the reasons it collects."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unknown: dict[str, str] = {}

    def learn(self, what: str, ask: Callable[[], T]) -> T | None:
        """The answer, or None and a line in `unknown`."""
        try:
            return ask()
        except (OSError, ValueError, RuntimeError) as error:
            self.unknown[what] = str(error) or type(error).__name__
            return None

    def machine(self) -> Machine:
        mac = apple.look() if sys.platform == "darwin" else None
        cards = self.learn("nvidia-smi", lambda: nvidia.look(self.root)) or ()
        seen = self._gpus_seen(cards)
        memory = psutil.virtual_memory()
        limit = self.learn("memory_limit", lambda: limits.memory_limit(self.root))
        if limit and limit.available >= memory.available:
            limit = None
        n_cores = cores.physical_cores(self.root)

        key = remembered.key([*seen, *(card.id for card in cards if card.mig)], self.root)
        kept = remembered.recall(key)
        native: dict[str, Any]
        held: dict[str, int]
        if _still_true(kept, cards):
            native, held, trouble = kept["native"], kept["held"], None
        else:
            native, trouble = _ask_llama_cpp()
            held = _held(native, cards)
        bandwidth = mac.bandwidth if mac else None
        if bandwidth is None:
            bandwidth = kept.get("bandwidth") or self.learn("bandwidth", lambda: copying.bandwidth(n_cores))
        facts = {"native": native, "held": held, "bandwidth": bandwidth}
        if trouble is None and facts != kept:
            remembered.remember(key, facts)

        devices = tuple(self._device(raw, cards, held, bandwidth) for raw in native.get("devices", []))
        self._say_what_hides(native, devices)
        return Machine(
            system=platform.platform(),
            chip=self._chip(mac),
            cores=n_cores,
            performance_cores=self._performance_cores(mac),
            memory_total=memory.total,
            memory_available=limit.available if limit else memory.available,
            memory_limit=limit.name if limit else None,
            swap_free=self.learn("swap_free", lambda: psutil.swap_memory().free),
            bandwidth=bandwidth,
            devices=devices,
            gpu_seen=", ".join(seen) or None,
            gpu_offload=native.get("gpu_offload", False),
            llama_cpp_python=native.get("llama_cpp_python"),
            trouble=trouble,
            memory_pressure=mac.pressure if mac else None,
            gpu_wired_limit=mac.wired_limit if mac else None,
            disk=self.learn("disk", self._disk),
            unknown={**(mac.unknown if mac else {}), **self.unknown},
        )

    def _gpus_seen(self, cards: tuple[nvidia.Card, ...]) -> list[str]:
        if sys.platform == "darwin" and platform.machine() == "arm64":
            return ["Apple's GPU"]
        on_bus = linux.gpus(self.root)
        if not cards and "nvidia-smi" not in self.unknown and any(gpu.maker == "NVIDIA" for gpu in on_bus):
            self.unknown["nvidia-smi"] = "it is not installed, though an NVIDIA card is here: is its driver?"
        return [card.name for card in cards] + [gpu.name for gpu in on_bus if not (cards and gpu.maker == "NVIDIA")]

    def _chip(self, mac: apple.Apple | None) -> str | None:
        if mac:
            return mac.chip
        found = linux.chip(self.root) or platform.processor() or None
        if found is None:
            self.unknown["chip"] = "the system does not name it"
        return found

    def _performance_cores(self, mac: apple.Apple | None) -> int | None:
        if mac:
            return mac.performance_cores
        found = cores.performance_cores(self.root)
        if found is None:
            self.unknown["performance_cores"] = "the system does not tell how fast each core is"
        return found

    def _disk(self) -> DiskKind:
        if sys.platform == "darwin" and platform.machine() == "arm64":
            return "ssd"
        folder = paths.models_dir()
        if not hasattr(os, "major"):
            raise ValueError("only Linux tells")
        return linux.disk(next(each for each in (folder, *folder.parents) if each.exists()), self.root)

    def _device(
        self, raw: dict[str, Any], cards: tuple[nvidia.Card, ...], held: dict[str, int], main: float | None
    ) -> Device:
        name, unified = raw["name"], raw["unified"]
        is_gpu = raw["kind"] in ("gpu", "igpu")
        card = _card_of(raw, cards)
        sliced = card is not None and card.mig
        shared = others = None
        if card and not sliced:
            others = card.used
            busy = None if others is None else others > nvidia.IDLE_BYTES
            shared = True if card.display or busy else None if None in (card.display, busy) else False
        elif is_gpu and raw["backend"] in _METAL:
            shared = True  # it draws the screen
        elif is_gpu and raw["id"]:
            shared = linux.drives_display(raw["id"], self.root)
        own = None if sliced else nvidia.bandwidth(raw["description"])
        bandwidth = own or (main if unified or raw["kind"] == "cpu" else None)
        if is_gpu and bandwidth is None:
            reason = "it is a slice of a card" if sliced else "its maker's figure is not in the table here"
            self.unknown[f"bandwidth of {name}"] = reason
        if is_gpu and shared is None and not sliced:
            self.unknown[f"shared use of {name}"] = "neither the driver nor the system tells who else uses it"
        return Device(
            name=name,
            description=raw["description"],
            backend=raw["backend"],
            kind=raw["kind"],
            free=_free(raw, card, held),
            total=raw["total"],
            unified=unified,
            shared=shared,
            bandwidth=bandwidth,
            driver=card.driver if card else None,
            others=others,
        )

    def _say_what_hides(self, native: dict[str, Any], devices: tuple[Device, ...]) -> None:
        if native.get("gpu_offload") and not any(device.kind in ("gpu", "igpu") for device in devices):
            for name in _HIDING:
                if name in os.environ:
                    self.unknown["devices"] = f"{name} is {os.environ[name]!r}, which may hide the GPU"


def _card_of(raw: dict[str, Any], cards: tuple[nvidia.Card, ...]) -> nvidia.Card | None:
    return next((card for card in cards if raw["id"] and card.id == raw["id"]), None)


def _still_true(kept: dict[str, Any], cards: tuple[nvidia.Card, ...]) -> bool:
    """Whether what is remembered of the devices needs no new look: the free bytes of each can be had elsewhere."""
    return bool(kept.get("native")) and all(
        raw["kind"] not in ("gpu", "igpu")
        or raw["backend"] in _METAL  # its working set less what the asking process holds, which is nothing
        or _is_told_by_driver(raw, _card_of(raw, cards))
        for raw in kept["native"]["devices"]
    )


def _is_told_by_driver(raw: dict[str, Any], card: nvidia.Card | None) -> bool:
    return raw["backend"] == "CUDA" and card is not None and card.free is not None and not card.mig


def _held(native: dict[str, Any], cards: tuple[nvidia.Card, ...]) -> dict[str, int]:
    """Bytes per card that a CUDA process holds before it allocates any: its context.

    llama.cpp says what is free beside its context, the driver what is free without one.
    """
    held = {}
    for raw in native.get("devices", []):
        card = _card_of(raw, cards)
        if card is not None and card.free is not None and _is_told_by_driver(raw, card):
            held[raw["id"]] = max(0, card.free - raw["free"])
    return held


def _free(raw: dict[str, Any], card: nvidia.Card | None, held: dict[str, int]) -> int | None:
    if card is not None and card.free is not None and _is_told_by_driver(raw, card):
        return max(0, card.free - held.get(card.id, 0))
    free: int | None = raw["free"]
    return free


def _ask_llama_cpp() -> tuple[dict[str, Any], str | None]:
    """(what the probe in a child printed, why it could not)"""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gguf_vl.native.devices"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return {}, f"asking llama.cpp for its devices took more than {_PROBE_S:.0f} s"
    if done.returncode != 0:
        return {}, f"llama-cpp-python does not run here: {_ending(done)}"
    try:
        return json.loads(done.stdout.splitlines()[-1]), None  # a driver may print something above
    except (IndexError, ValueError):
        return {}, f"asked for its devices, llama.cpp says: {done.stdout.strip()[-200:] or 'nothing'}"


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
    if done.returncode >= 0:
        return f"exit code {done.returncode}, {last}"
    if done.returncode == -signal.SIGILL:
        return "it was built for another processor (SIGILL)"
    return f"{signal.Signals(-done.returncode).name}, {last}"
