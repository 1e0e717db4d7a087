"""Starting an engine for a model: the only place that makes one."""

from __future__ import annotations

from collections.abc import Callable

from gguf_vl.config import Settings
from gguf_vl.engine.client import Engine
from gguf_vl.hardware.cores import physical_cores
from gguf_vl.runtime.models import Installed
from gguf_vl.types import EngineSettings

DEFAULT_CTX = 8192
"""Tokens of context where nothing is asked for: a picture of 4,096 tokens and a long talk about it."""

ONE_THREAD_BYTES = 64 * 1024**2
"""Weights below this take one thread: its answers need milliseconds, and on a busy machine llama.cpp's threads, which
spin while they wait for each other, made `pocket` a hundred times slower with two."""


def make_engine(installed: Installed, settings: Settings, on_progress: Callable[[float], None] | None = None) -> Engine:
    """An engine for this model under the person's settings. It loads with its first use.

    `on_progress` gets the loaded fraction, 0 to 1.
    """
    trained = installed.local.text.n_ctx_train
    return Engine(
        EngineSettings(
            model=installed.local.model.absolute(),
            mmproj=installed.local.mmproj and installed.local.mmproj.absolute(),
            limits=installed.limits,
            n_ctx=settings.ctx or min(DEFAULT_CTX, trained),
            n_gpu_layers=-1 if settings.gpu_layers is None else settings.gpu_layers,
            kv_type=settings.kv_type,
            n_threads=settings.threads or (1 if installed.local.n_bytes < ONE_THREAD_BYTES else physical_cores()),
        ),
        on_progress=on_progress,
    )
