"""Which model: the best that runs well on this machine, and what the next better one would need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gguf_vl.errors import DoesNotFit
from gguf_vl.fit.layout import Subject
from gguf_vl.fit.plan import plan
from gguf_vl.fit.search import CONTEXT
from gguf_vl.types import Machine, Plan, Wishes

LEAST_TPS = 8.0
"""Tokens per second below which waiting for an answer is tiresome: people read four or five words a second."""
CAREFUL_BANDWIDTH = 20e9
"""Bytes per second of main memory, where that is unknown: half of what two channels of DDR4 give."""
LEAST_IMAGE_TOKENS = 1024
"""Smaller pictures lose what is printed in them, and boxes become coarse (llama.cpp #16842)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model to take. `plan` is None where not even that one fits, and `trouble` says why; `why` and `better` are
    clauses for a person, `better` empty where there is no better one.
    """

    name: str
    plan: Plan | None
    why: str
    better: str
    trouble: str = ""

    @property
    def reasons(self) -> str:
        """`why` and `better` as sentences."""
        return f"{self.why}." + (f" The next better one is {self.better}." if self.better else "")


def choose(candidates: Sequence[tuple[str, Subject]], machine: Machine, wishes: Wishes = Wishes()) -> Chosen:  # noqa: B008
    """The first of the candidates, the best first, that runs well; else the last, if it fits at all."""
    better = ""
    machine = replace(machine, bandwidth=machine.bandwidth or CAREFUL_BANDWIDTH)
    for name, subject in candidates:
        found: Plan | None = None
        try:
            found = plan(subject, machine, wishes)
            trouble = _drawback(found, subject, wishes)
            if not trouble:
                return Chosen(name, found, _praise(found), better)
        except DoesNotFit as error:
            trouble = error.what[0].lower() + error.what[1:].rstrip(".")
        if name == candidates[-1][0]:
            return Chosen(name, found, f"it is the smallest, though {trouble}", better, trouble)
        better = f"{name}: {trouble}"
    raise ValueError("no candidates")


def _drawback(found: Plan, subject: Subject, wishes: Wishes) -> str:
    """Why it would not run well; empty when it does."""
    if found.decode_tps is not None and found.decode_tps < LEAST_TPS:
        return f"it would write some {found.decode_tps:.1f} tokens a second"
    if not wishes.n_ctx and found.load.n_ctx < min(CONTEXT, subject.text.n_ctx_train):
        return f"it would have room for {found.load.n_ctx:,} tokens of context"
    if subject.projector and not wishes.image_max_tokens and found.limits.max_tokens < LEAST_IMAGE_TOKENS:
        return f"it would have room for pictures of {found.limits.max_tokens} image tokens"
    if subject.projector and len(found.pools) > 1 and not found.mmproj_offload and wishes.mmproj_offload is None:
        return "its projector would have no room on the GPU, and pictures would take long"
    return ""


def _praise(found: Plan) -> str:
    where = "GPU" if found.load.n_gpu_layers else "CPU"
    rate = f" at some {found.decode_tps:.0f} tokens a second" if found.decode_tps else ""
    return f"it runs on the {where}{rate}, with {found.load.n_ctx:,} tokens of context"
