"""A model in memory with its projector and its context, as its settings say, and what that has taken."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from gguf_vl.native.context import Context
from gguf_vl.native.model import Model
from gguf_vl.native.owned import Owned
from gguf_vl.native.usage import Meter
from gguf_vl.native.vision import Vision
from gguf_vl.types import PATCH, EngineInfo, EngineSettings, Picture


class Loaded(Owned):
    """Loads with its making. `on_progress` gets the loaded fraction of the weights, 0 to 1.

    Raises `InvalidModelFile` for files that cannot be loaded, `DoesNotFit` when memory does not suffice.
    """

    def __init__(self, settings: EngineSettings, on_progress: Callable[[float], None]) -> None:
        began = time.perf_counter()
        with Meter() as meter:
            self.model = Model(
                settings.model,
                n_gpu_layers=settings.n_gpu_layers,
                split=settings.split,
                map_weights=settings.map_weights,
                on_progress=on_progress,
            )
            self.context = Context(
                self.model,
                n_ctx=settings.n_ctx,
                n_batch=settings.n_batch,
                n_threads=settings.n_threads,
                kv_type=settings.kv_type,
                n_seq_max=settings.n_seq_max,
                offload=settings.n_gpu_layers != 0,
            )
            self.vision = self._vision(settings, settings.mmproj) if settings.mmproj else None
            if self.vision:
                self.vision.between_nodes = lambda: on_progress(1.0)  # a sign of life: it may last for minutes
                _prove(self.vision, settings, meter)
                self.vision.between_nodes = None
            used = meter.used()
        self.info = EngineInfo(self.context.n_ctx, self.vision is not None, time.perf_counter() - began, used)

    def _vision(self, settings: EngineSettings, mmproj: Path) -> Vision:
        return Vision(
            mmproj,
            self.model,
            limits=settings.limits,
            n_threads=settings.n_threads,
            use_gpu=settings.mmproj_offload,
        )

    def close(self) -> None:
        """Release everything, in the order llama.cpp needs."""
        if self.vision:
            self.vision.close()
        self.context.close()
        self.model.close()


def _prove(vision: Vision, settings: EngineSettings, meter: Meter) -> None:
    """Take what the largest picture will need, or encode one, before anybody relies on it."""
    largest = blank_picture(settings.limits.max_tokens)
    if settings.proof == "reserve":
        vision.reserve(largest)
    elif settings.proof == "encode":
        with meter.encoding():
            vision.encode(largest)


def blank_picture(max_tokens: int) -> Picture:
    """A white picture of as many image tokens as that allows, near a square."""
    side = math.isqrt(max_tokens)
    rows = max(range(side, side // 2, -1), key=lambda rows: max_tokens // rows * rows)
    width, height = max_tokens // rows * PATCH, rows * PATCH
    return Picture(b"\xff" * (3 * width * height), width, height, (width, height), "")
