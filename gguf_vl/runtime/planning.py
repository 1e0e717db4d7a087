"""Planning for this machine: the planner's choice, and llama.cpp's own word for it, until both agree."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from gguf_vl.config import Settings
from gguf_vl.errors import DoesNotFit
from gguf_vl.fit.choice import Chosen, choose
from gguf_vl.fit.explain import size
from gguf_vl.fit.layout import KEPT_EMBEDDINGS
from gguf_vl.fit.plan import plan
from gguf_vl.hardware.simulation import simulate
from gguf_vl.runtime import remembered
from gguf_vl.runtime.candidates import PUBLISHED, Candidate, here, of_name, published
from gguf_vl.runtime.models import Installed, best_first, wished, wished_name
from gguf_vl.types import MAIN, Learnt, Machine, Plan, Pool, Used, Wishes

_NOTHING: Mapping[str, int] = MappingProxyType({})
SLACK = 0.05
"""What is planned beyond a measured figure."""
_OF_A_GPU = re.compile(r"\b(cuda|hip|rocm|vulkan|metal|sycl)|device \d|OutOfDevice", re.IGNORECASE)
"""Words of a GPU's backend in a complaint about memory."""
TIGHTENED = 0.85
"""Of what a plan takes for the model, and has run out of memory with, the next may take this share."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what it was made of."""

    candidate: Candidate
    machine: Machine
    wishes: Wishes
    learnt: Learnt
    plan: Plan

    @property
    def used(self) -> Used | None:
        """What its last load took; None where it was never loaded like this."""
        return remembered.recall(self._key) if self.candidate.is_here else None

    def remember(self, used: Used) -> None:
        """Keep what its load has taken, for the next plan."""
        before = self.used
        remembered.remember(self._key, used if used.encode or not before else replace(used, encode=before.encode))
        device = self.plan.pools[1].device if self.plan.mmproj_offload else MAIN
        planned = next((n.n_bytes for n in self.plan.allocations if (n.device, n.purpose) == (device, "encode")), 0)
        # Other programs take and give memory meanwhile: what is far from the plan was not measured.
        if used.encode and self.candidate.mmproj and planned / 2 < used.encode < planned * 2:
            key = _encode_key(self.candidate, self.candidate.mmproj, self.machine)
            n_bytes = round(used.encode * (1 + SLACK))
            remembered.remember_encode(key, device, self.plan.limits.max_tokens, n_bytes)

    @property
    def _key(self) -> str:
        plan, files = self.plan, [self.candidate.key(path) for path in self.candidate.files]
        return remembered.key_of(files, _devices(self.machine), plan.load, plan.limits, plan.mmproj_offload)


def _devices(machine: Machine) -> list[tuple[str, str, int | None]]:
    return [(each.name, each.description, each.total) for each in machine.devices]


def _encode_key(candidate: Candidate, mmproj: Path, machine: Machine) -> str:
    return remembered.key_of(candidate.key(mmproj), _devices(machine))


def wishes_of(settings: Settings) -> Wishes:
    """What of the settings a plan must keep."""
    return Wishes(
        n_ctx=settings.ctx,
        kv_type=settings.kv_type,
        n_gpu_layers=settings.gpu_layers,
        image_max_tokens=settings.image_max_tokens,
        mmproj_offload=settings.mmproj_offload,
        n_threads=settings.threads,
        n_seq_max=settings.parallel,
        reserve=settings.reserve,
    )


def plan_here(candidate: Candidate, machine: Machine, wishes: Wishes, missing: Mapping[str, int] = _NOTHING) -> Planned:
    """The plan for this very machine. llama.cpp, in a child process, says what its buffers would take, and what earlier
    loads have really taken is known. Raises `DoesNotFit`.
    """
    encode = {}
    if candidate.is_here and candidate.mmproj:
        encode = remembered.recall_encode(_encode_key(candidate, candidate.mmproj, machine))
    learnt = Learnt(encode=encode, missing=missing)
    while True:
        found = plan(candidate.subject, machine, wishes, learnt)
        new = {}
        if found.load not in learnt.reserved:
            new = simulate(candidate.path, [found.load], f"{candidate.key(candidate.path)} {_devices(machine)}")
        if not new:
            return Planned(candidate, machine, wishes, learnt, found)
        learnt = replace(learnt, reserved={**learnt.reserved, **new})


def plan_elsewhere(candidate: Candidate, machine: Machine, wishes: Wishes) -> Planned:
    """The plan for a machine that cannot be asked: it stands on formulas. Raises `DoesNotFit`."""
    return Planned(candidate, machine, wishes, Learnt(), plan(candidate.subject, machine, wishes))


def tightened(planned: Planned, error: DoesNotFit) -> Planned:
    """The plan to try when this one has run out of memory. Raises `DoesNotFit` when nothing smaller is left."""
    missing = dict(planned.learnt.missing)
    for pool in _short(error, planned.plan.pools):
        program, embeddings = (planned.plan.taken(pool.device, each) for each in ("program", "embeddings"))
        model = planned.plan.taken(pool.device) - program - embeddings
        target = program + min(embeddings, KEPT_EMBEDDINGS) + TIGHTENED * model
        missing[pool.device] = missing.get(pool.device, 0) + max(0, pool.usable - round(target))
    return plan_here(planned.candidate, planned.machine, planned.wishes, missing)


def _short(error: DoesNotFit, pools: Sequence[Pool]) -> Sequence[Pool]:
    """The memory that ran out, as far as the complaint tells: a device by name, any GPU, else main memory."""
    named = [pool for pool in pools[1:] if re.search(rf"\b{re.escape(pool.device)}\b", error.what)]
    return named or (pools[1:] if _OF_A_GPU.search(error.what) else ()) or pools[:1]


def differences(before: Plan, after: Plan) -> str:
    """What a tightened plan does otherwise, in words."""
    old = {each.name: each.value for each in before.choices}
    changed = [f"{each.name} {each.value}" for each in after.choices if old.get(each.name) != each.value]
    return ", ".join(changed) or f"{size(before.taken(MAIN) - after.taken(MAIN))} less"


def plan_chosen(settings: Settings, machine: Machine) -> tuple[Installed, Planned]:
    """The model of the settings and its plan; without one the largest installed model that fits, else `pocket`.

    Raises `DoesNotFit`, and what `models.wished` raises.
    """
    wishes = wishes_of(settings)
    if installed := wished(settings):
        return installed, plan_here(here(installed), machine, wishes)
    *larger, last = best_first()
    passed_over = ""
    for installed in larger:
        try:
            planned = plan_here(here(installed), machine, wishes)
        except DoesNotFit as error:
            passed_over = passed_over or f"; {installed.name} is here too. {error.what}"
        else:
            return replace(installed, why=f"{installed.why}{passed_over and ' that fits'}{passed_over}"), planned
    why = f"the embedded model: it knows drawn shapes only{passed_over}"
    return replace(last, why=why), plan_here(here(last), machine, wishes)


def plan_for(settings: Settings, machine: Machine) -> tuple[Planned, str]:
    """The plan to show for the settings: of their model; without one of what would be used, or fetched where that is
    `pocket`. With it comes a line about the choice, empty where there was none.
    """
    if (name := wished_name(settings)) is not None:
        return plan_here(of_name(name, settings.mmproj), machine, wishes_of(settings)), ""
    installed, planned = plan_chosen(settings, machine)
    chosen = recommend(machine, wishes_of(settings)) if installed.name == "pocket" else None
    if chosen is None:
        return planned, ""
    if chosen.plan is None:
        return planned, f"No published model fits this machine: {chosen.trouble}."
    planned = plan_here(published(chosen.name), machine, wishes_of(settings))
    return planned, f"{chosen.name} suits this machine: {chosen.reasons}"


def plan_elsewhere_for(settings: Settings, machine: Machine) -> tuple[Planned, str]:
    """The same for another machine, of which it is not known what models it has."""
    if (name := wished_name(settings)) is not None:
        return plan_elsewhere(of_name(name, settings.mmproj), machine, wishes_of(settings)), ""
    chosen = recommend(machine, wishes_of(settings))
    planned = plan_elsewhere(published(chosen.name), machine, wishes_of(settings))
    return planned, f"{chosen.name} suits that machine: {chosen.reasons}"


def recommend(machine: Machine, wishes: Wishes) -> Chosen:
    """The published model that suits this machine, with these wishes kept."""
    return choose([(name, published(name).subject) for name in PUBLISHED], machine, wishes)
