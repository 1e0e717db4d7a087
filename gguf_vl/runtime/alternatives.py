"""What would change with other wishes, or another quantisation: planned on formulas, without asking llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gguf_vl import catalogue
from gguf_vl.errors import DoesNotFit, GgufVlError, UsageError
from gguf_vl.fit.plan import plan
from gguf_vl.runtime.candidates import Candidate, published
from gguf_vl.runtime.planning import Planned
from gguf_vl.types import KvType, Learnt, Plan, Wishes


@dataclass(frozen=True, slots=True)
class Alternative:
    """A flag or a model's name to give instead. `plan` is None where that cannot be, and `trouble` says why."""

    wish: str
    plan: Plan | None
    trouble: str = ""


def alternatives(planned: Planned) -> list[Alternative]:
    """The contexts, cache types and quantisations around a plan."""
    load, wishes = planned.plan.load, planned.wishes
    found = []
    trained = planned.candidate.subject.text.n_ctx_train
    for n_ctx in (load.n_ctx // 2, load.n_ctx * 2, load.n_ctx * 4):
        if 2048 <= n_ctx <= trained:
            found.append(_other(f"--ctx {n_ctx}", planned.candidate, planned, replace(wishes, n_ctx=n_ctx)))
    kv_types: tuple[KvType, ...] = ("f16", "q8_0", "q4_0")
    for kv_type in kv_types:
        if kv_type != load.kv_type:
            found.append(_other(f"--kv-type {kv_type}", planned.candidate, planned, replace(wishes, kv_type=kv_type)))
    found += [_other(each.name, each, planned, wishes) for each in _siblings(planned.candidate)]
    return found


def _other(wish: str, candidate: Candidate, planned: Planned, wishes: Wishes) -> Alternative:
    try:
        # What llama.cpp said and what was measured is about the planned files alone.
        learnt = planned.learnt if candidate is planned.candidate else Learnt(missing=planned.learnt.missing)
        return Alternative(wish, plan(candidate.subject, planned.machine, wishes, learnt))
    except (DoesNotFit, UsageError) as error:
        return Alternative(wish, None, error.what)


def _siblings(candidate: Candidate) -> Iterator[Candidate]:
    """The other quantisations of a published model."""
    try:
        model, variant = catalogue.find(candidate.name)
    except GgufVlError:
        return
    for other in model.variants:
        if other != variant and model.shape:
            yield published(f"{model.name}:{other.quant}")
