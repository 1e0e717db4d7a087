"""What the free bytes of a device go to under a plan, in the order in which it is told, and how wide each is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

from gguf_vl.types import Plan, Pool, Purpose


class Part(NamedTuple):
    """A share of a device's free bytes: a `Purpose`, the margin, or what is still free."""

    purpose: str
    n_bytes: int


def parts(plan: Plan, pool: Pool) -> list[Part]:
    """What the pool's free bytes go to; none of them is empty."""
    found = [Part(purpose, plan.taken(pool.device, purpose)) for purpose in get_args(Purpose)]
    found.append(Part("margin", pool.free - pool.usable))
    found.append(Part("free", max(0, pool.usable - plan.taken(pool.device))))
    return [part for part in found if part.n_bytes]


def cells(sizes: Sequence[int], width: int) -> list[int]:
    """How many characters each size gets of a bar: at least one, `width` altogether."""
    total = sum(sizes)
    found = [max(1, round(n_bytes * width / total)) for n_bytes in sizes]
    found[found.index(max(found))] += width - sum(found)
    return found
