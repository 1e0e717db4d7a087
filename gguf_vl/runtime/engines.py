"""Starting an engine for a planned model, and holding it to its plan: the only place that makes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from gguf_vl.engine.client import Connect, Engine
from gguf_vl.engine.process import WorkerProcess
from gguf_vl.errors import DoesNotFit
from gguf_vl.runtime.models import Installed
from gguf_vl.runtime.planning import Planned, differences, tightened
from gguf_vl.types import EngineInfo, EngineSettings, Proof

ATTEMPTS = 3
"""A plan that runs out of memory is tightened and tried again, until so many have failed."""

Tell = Callable[[str], None]


class PlannedEngine(Engine):
    """An engine that loads as planned, and remembers what that took.

    It loads with its first use. Where memory does not suffice after all, the plan is tightened and tried again; `tell`
    gets a line about each step, and `planned` is what is in force. `prove` says when the largest picture is tried:
    the first time that a plan is loaded, at every load and by encoding it, or never. After `idle_s` seconds without a
    request the model is unloaded, with None never.
    """

    def __init__(
        self,
        installed: Installed,
        planned: Planned,
        *,
        on_progress: Callable[[float], None] | None = None,
        tell: Tell = lambda _: None,
        prove: Literal["first", "always", "never"] = "first",
        disk_cache: int = 0,
        idle_s: float | None = None,
        connect: Connect = WorkerProcess.start,
    ) -> None:
        self.planned = planned
        self._installed = installed
        self._tell = tell
        self._prove = prove
        self._disk_cache = disk_cache
        self._failures = 0
        self._remembered: EngineInfo | None = None
        super().__init__(
            self._as_planned(), on_progress=on_progress, smaller=self._tighten, connect=connect, idle_s=idle_s
        )

    async def start(self) -> EngineInfo:
        """Load the model, unless it is loaded, and remember what that took."""
        info = await super().start()
        self._failures = 0
        if self.settings.proof != "none" and info is not self._remembered:
            self.planned.remember(info.used)
            self._remembered = info
        return info

    def _tighten(self, _settings: EngineSettings, error: DoesNotFit) -> EngineSettings:
        self._failures += 1
        if self._failures == ATTEMPTS:
            self._failures = 0
            raise DoesNotFit(
                f"Memory ran out {ATTEMPTS} times while loading {self._installed.name}: {error.what}",
                "Close other programs, or ask for less: see `gguf-vl plan` for what takes how much.",
            ) from error
        before = self.planned
        try:
            self.planned = tightened(before, error)
        except DoesNotFit as nothing:
            what = f"Memory ran out while loading {self._installed.name}, and no smaller plan is left: {error.what}"
            raise DoesNotFit(what, nothing.fix) from error
        self._tell(f"{error.what} Trying with {differences(before.plan, self.planned.plan)}.")
        return self._as_planned()

    def _as_planned(self) -> EngineSettings:
        plan, local = self.planned.plan, self._installed.local
        return EngineSettings(
            model=local.model.absolute(),
            mmproj=local.mmproj and local.mmproj.absolute(),
            limits=plan.limits,
            n_ctx=plan.load.n_ctx,
            n_batch=plan.load.n_batch,
            n_seq_max=plan.load.n_seq_max,
            n_gpu_layers=plan.load.n_gpu_layers,
            split=plan.load.split,
            mmproj_offload=plan.mmproj_offload,
            map_weights=plan.map_weights,
            kv_type=plan.load.kv_type,
            embedding_budget=plan.embedding_budget,
            disk_budget=self._disk_cache,
            n_threads=plan.n_threads,
            n_cores=self.planned.machine.cores,
            proof=self._proof(),
        )

    def _proof(self) -> Proof:
        """On a GPU the largest picture's buffer is taken at every load, so that nobody else can take it; the first time
        the picture is encoded. On a CPU, where that may last minutes, it is allocated once, and encoded when asked.
        """
        if self._prove != "first":
            return "encode" if self._prove == "always" else "none"
        is_new = self.planned.used is None
        if self.planned.plan.mmproj_offload:
            return "encode" if is_new else "reserve"
        return "reserve" if is_new else "none"
