"""What to expect of a layout: every token reads all weights and the cache once, as fast as memory gives them."""

from __future__ import annotations

from collections import defaultdict

from gguf_vl.fit.layout import Subject
from gguf_vl.types import MAIN, Allocation, Machine

EFFICIENCY = 0.7
"""Of a memory's bandwidth: what llama.cpp's decoding gets. 0.77 on two cores of a server with the 2B (measured); some
0.7 by published figures of an RTX 4090 and 0.8 of an M2."""
READ_CONTEXT = 2048
"""Tokens of context that an ordinary answer reads again for each of its tokens."""
CLASSES = (
    (40, "very fast"),
    (15, "fast"),
    (8, "faster than one reads"),
    (4, "about as fast as one reads"),
    (0, "slow"),
)
"""Tokens per second, and what that feels like."""


def decode_tps(
    subject: Subject, allocations: tuple[Allocation, ...], n_gpu_layers: int, n_ctx: int, machine: Machine
) -> float | None:
    """Expected tokens per second of one answer; None where a bandwidth is unknown."""
    read: defaultdict[str, float] = defaultdict(float)
    for each in allocations:
        if each.purpose == "weights":
            read[each.device] += each.n_bytes
        elif each.purpose == "KV":
            read[each.device] += each.n_bytes * min(1.0, READ_CONTEXT / n_ctx)
    if n_gpu_layers or not subject.text.tied_embeddings:  # of the embeddings a token reads one row
        read[MAIN] -= subject.text.other_bytes["token_embd.weight"]
    bandwidth = {device.name: device.bandwidth for device in machine.devices} | {MAIN: machine.bandwidth}
    seconds = 0.0
    for device, n_bytes in read.items():
        if n_bytes > 0:
            rate = bandwidth.get(device)
            if not rate:
                return None
            seconds += n_bytes / (rate * EFFICIENCY)
    return 1 / seconds if seconds else None


def speed_class(tps: float) -> str:
    """What a rate feels like."""
    return next(words for least, words in CLASSES if tps >= least)
