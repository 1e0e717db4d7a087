"""When nothing fits: what lacks how much, which wish is in the way, and the nearest that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from gguf_vl.errors import DoesNotFit
from gguf_vl.fit.explain import MIB, size
from gguf_vl.fit.layout import Layout, Subject
from gguf_vl.fit.memory import CELLS, cells
from gguf_vl.fit.pools import MAIN_MEMORY, pools_of
from gguf_vl.fit.search import least, search
from gguf_vl.types import MAIN, Learnt, Machine, Pool, Wishes

_LEAST_CTX = 1024
"""Tokens; nobody is helped by less."""
_FLAGS = {
    "n_ctx": "--ctx {}",
    "kv_type": "--kv-type {}",
    "n_gpu_layers": "--gpu-layers {}",
    "image_max_tokens": "--image-max-tokens {}",
    "mmproj_offload": "--mmproj-offload",
    "reserve": "--reserve {}",
    "n_seq_max": "--parallel {}",
}


def shortfall(subject: Subject, machine: Machine, wishes: Wishes, learnt: Learnt) -> DoesNotFit:
    """The error to raise: no plan for the subject here keeps all of these wishes."""
    pools = pools_of(machine, wishes.reserve, learnt.missing)

    def fits(changed: Wishes) -> bool:
        return search(subject, pools_of(machine, changed.reserve, learnt.missing), changed, learnt) is not None

    layouts = (Layout(subject, setting, pools, learnt) for setting in least(subject, pools, wishes))
    lacking = filter(None, (layout.overdrawn(pools) for layout in layouts))
    pool, n_bytes = min(lacking, key=lambda each: each[1])  # there is one, or the search would have found it
    wished = " ".join(_flag(name, getattr(wishes, name)) for name in _FLAGS if _is_set(wishes, name))
    what = (
        f"{'It' if not wished else f'With {wished} it'} does not fit: at the least it takes "
        f"{size(pool.free - pool.margin + n_bytes)} of {_named(pool)}, {size(_up(n_bytes))} more than it has to give"
        f"{_left(pool)}."
    )
    nearest = [_flag(name, value) for name, value in _nearest(subject, pools, wishes, fits)]
    if nearest:
        return DoesNotFit(what, f"This would fit: {', or '.join(f'`{each}`' for each in nearest)}.")
    if wished and fits(Wishes()):
        return DoesNotFit(what, "Without these wishes it fits; together they ask for too much.")
    return DoesNotFit(
        what,
        "Take a smaller model or quantisation (`gguf-vl plan 2b` tells what it takes), or close other programs.",
    )


def _named(pool: Pool) -> str:
    is_limited = pool.device == MAIN and pool.description != MAIN_MEMORY
    return f"{pool.device} ({pool.description})" if is_limited else pool.device


def _up(n_bytes: int) -> int:
    """To whole MiB: what lacks little does not lack nothing."""
    return -(-n_bytes // MIB) * MIB


def _left(pool: Pool) -> str:
    margin = f", less a margin of {size(pool.margin)}" if pool.margin else ""
    return f" ({size(pool.free)} free{margin})"


def _is_set(wishes: Wishes, name: str) -> bool:
    return bool(getattr(wishes, name) != getattr(Wishes(), name))


def _flag(name: str, value: object) -> str:
    if name == "mmproj_offload" and value is False:
        return "--no-mmproj-offload"
    if name == "reserve" and isinstance(value, int):
        value = f"{value / (1 << 30):.1f}G" if value >= 1 << 30 or not value else f"{value >> 20}M"
    return _FLAGS[name].format(value)


def _nearest(
    subject: Subject, pools: Sequence[Pool], wishes: Wishes, fits: Callable[[Wishes], bool]
) -> Iterator[tuple[str, object]]:
    """For each wish that is in the way by itself, the nearest value that fits."""
    if wishes.n_ctx:
        least = max(_LEAST_CTX, cells((wishes.image_max_tokens or 0) + 1))  # a wished picture stands in it
        steps = range(least // CELLS, cells(wishes.n_ctx) // CELLS)
        n = _largest(steps, lambda n: fits(replace(wishes, n_ctx=n * CELLS)))
        if n is not None:
            yield "n_ctx", n * CELLS
    for kv_type in ("q8_0", "q4_0"):
        if wishes.kv_type and wishes.kv_type != kv_type and fits(replace(wishes, kv_type=kv_type)):
            yield "kv_type", kv_type
            break
    if wishes.n_gpu_layers is not None:  # too many are too much for the GPU, too few for main memory
        all_layers = subject.all_layers
        wished = wishes.n_gpu_layers if 0 <= wishes.n_gpu_layers <= all_layers else all_layers
        others = sorted(range(all_layers + 1), key=lambda n: abs(n - wished))
        n = next((n for n in others if fits(replace(wishes, n_gpu_layers=n))), None)
        if n is not None:
            yield "n_gpu_layers", n
    if wishes.image_max_tokens:
        steps = range(1, -(-wishes.image_max_tokens // 64))
        n = _largest(steps, lambda n: fits(replace(wishes, image_max_tokens=n * 64)))
        if n is not None:
            yield "image_max_tokens", n * 64
    if wishes.mmproj_offload is not None and fits(replace(wishes, mmproj_offload=not wishes.mmproj_offload)):
        yield "mmproj_offload", not wishes.mmproj_offload
    if wishes.n_seq_max and wishes.n_seq_max > 1:
        n = _largest(range(1, wishes.n_seq_max), lambda n: fits(replace(wishes, n_seq_max=n)))
        if n is not None:
            yield "n_seq_max", n
    if wishes.reserve:
        tenths = range(wishes.reserve * 10 // (1 << 30) + 1)
        n = _largest(tenths, lambda n: fits(replace(wishes, reserve=n * (1 << 30) // 10)))
        if n is not None:
            yield "reserve", n * (1 << 30) // 10


def _largest(among: range, fits: Callable[[int], bool]) -> int | None:
    """The largest that fits, where everything below fits too; None when none does."""
    low, high = -1, len(among) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if fits(among[middle]):
            low = middle
        else:
            high = middle - 1
    return among[low] if low >= 0 else None
