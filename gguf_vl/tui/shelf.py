"""Which models there are, here and published, and what planning says of each. Everything here takes a moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gguf_vl.errors import DoesNotFit, GgufVlError

if TYPE_CHECKING:
    from pathlib import Path

    from gguf_vl.runtime.models import Installed
    from gguf_vl.types import Machine, Plan, Wishes


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that is here, or one that could be fetched. `n_bytes` is None where nobody says.

    `installed` is None for one that is not here or, with `trouble`, that cannot be used as it is.
    """

    name: str
    title: str
    quant: str
    n_bytes: int | None
    installed: Installed | None = None
    trouble: str = ""

    @property
    def is_here(self) -> bool:
        """Whether something of that name is installed, be it damaged."""
        return self.installed is not None or bool(self.trouble)

    @property
    def file(self) -> Path | None:
        """The text model's file, of one that can be used."""
        return self.installed.local.model if self.installed else None


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a model would do on this machine. `plan` is None where it would not fit, or where that is not `known`; `why`
    is one line of reasons. `n_bytes` are its files', as far as its shape tells.
    """

    plan: Plan | None
    why: str
    n_bytes: int | None = None
    known: bool = True

    @property
    def fits(self) -> str:
        """In a word."""
        if self.plan is None:
            return "no" if self.known else "?"
        return "tight" if self.plan.gave_way else "yes"


def entries() -> list[Entry]:
    """Every model here, `pocket` first, then the published ones that are not. Raises `GgufVlError`."""
    from gguf_vl import catalogue
    from gguf_vl.runtime.models import all_here
    from gguf_vl.store.library import Broken, scan

    here = [_of_installed(each) for each in all_here()]
    here += [Entry(each.name, "", "", None, trouble=each.trouble) for each in scan() if isinstance(each, Broken)]
    files = {entry.file.name for entry in here if entry.file}
    published = []
    for model in catalogue.load_catalogue().values():
        for variant in model.variants if not model.embedded else ():
            if variant.file.name not in files:
                name = model.name if variant == model.default else f"{model.name}:{variant.quant}"
                sizes = variant.file.size, variant.mmproj.size
                n_bytes = sum(filter(None, sizes)) if all(sizes) else None
                published.append(Entry(name, model.title, variant.quant.upper(), n_bytes))
    return [*here, *published]


def _of_installed(installed: Installed) -> Entry:
    local = installed.local
    title = installed.known.title if installed.known else local.text.name or local.model.name
    return Entry(installed.name, title, local.text.quantisation, local.n_bytes, installed)


def outlook(entry: Entry, machine: Machine, wishes: Wishes) -> Outlook:
    """What planning says of a model: asked of llama.cpp for one that is here, else by formulas."""
    from gguf_vl.runtime import candidates
    from gguf_vl.runtime.planning import plan_elsewhere, plan_here

    if entry.trouble:
        return Outlook(None, entry.trouble, known=False)
    n_bytes = entry.n_bytes
    try:
        if entry.installed:
            plan = plan_here(candidates.here(entry.installed), machine, wishes).plan
        else:
            candidate = candidates.published(entry.name)
            subject = candidate.subject
            n_bytes = n_bytes or subject.text.n_bytes + (subject.projector.n_bytes if subject.projector else 0)
            plan = plan_elsewhere(candidate, machine, wishes).plan
    except DoesNotFit as error:
        return Outlook(None, f"{error.what} {error.fix}", n_bytes)
    except GgufVlError as error:  # its shape is not known, or llama.cpp refuses it
        return Outlook(None, error.what, n_bytes, known=False)
    return Outlook(plan, _why(plan), n_bytes)


def _why(plan: Plan) -> str:
    from gguf_vl.fit.speed import speed_class

    where = "the GPU" if plan.load.n_gpu_layers else "the CPU"
    rate = f" at some {plan.decode_tps:.0f} tokens a second, {speed_class(plan.decode_tps)}," if plan.decode_tps else ""
    line = f"It runs on {where}{rate} with {plan.load.n_ctx:,} tokens of context."
    return line + "".join(f" To fit, {lowered}." for lowered in plan.gave_way)


def suits_best(machine: Machine, wishes: Wishes) -> str:
    """The published model that suits this machine; empty where none fits."""
    from gguf_vl.runtime.planning import recommend

    chosen = recommend(machine, wishes)
    return chosen.name if chosen.plan else ""
