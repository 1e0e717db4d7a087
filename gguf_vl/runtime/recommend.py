"""Which model to fetch for this machine: a simple rule over its memory."""

from __future__ import annotations

from gguf_vl.catalogue import find
from gguf_vl.types import Machine

CANDIDATES = ("8b:q8_0", "8b", "4b:q8_0", "4b", "2b:q8_0", "2b")
"""From the best to the smallest: a larger model in four bits answers better than a smaller one in eight."""
OVERHEAD = 2.5e9
"""Bytes beside the weights: context, buffers and the encoding of a large picture, at f16 and 8,192 tokens."""
SHARE = 0.75
"""Of the free memory: the person has other programs too."""


def recommend(machine: Machine) -> tuple[str, str]:
    """The best catalogue model that fits the GPU's free memory, or the system's where there is none; and why."""
    gpus = [device for device in machine.devices if device.kind in ("gpu", "igpu") and device.free]
    if gpus:
        best = max(gpus, key=lambda device: device.free or 0)
        free, where = best.free or 0, best.description
    else:
        free, where = machine.memory_available, "main memory"
    for name in CANDIDATES:
        needs = _weights(name) + OVERHEAD
        if needs <= SHARE * free:
            return name, f"it needs some {needs / 1e9:.0f} GB, and {where} has {free / 1e9:.0f} GB free"
    return CANDIDATES[-1], f"it is the smallest, though {where} has only {free / 1e9:.1f} GB free"


def _weights(name: str) -> int:
    _, variant = find(name)
    return (variant.file.size or 0) + (variant.mmproj.size or 0)
