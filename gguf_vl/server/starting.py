"""The model that serves by default, loaded ahead of the first request, and whether it can answer now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gguf_vl.errors import GgufVlError
from gguf_vl.server.service import Service
from gguf_vl.types import Message, Request, Sampling

TELL_EVERY_S = 2.0
"""Seconds between two lines about one load."""
State = Literal["loading", "ready", "failed"]
_ONE_TOKEN = Request((Message("user", ("Hello",)),), Sampling(temperature=0, max_tokens=1))
"""What warms a model up: kernels are compiled and buffers touched with the first request."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a request would be answered at once. `fraction` of the model's weights is loaded, 0 to 1."""

    state: State
    fraction: float


class Start:
    """Loads the default model and warms it up. `tell` gets lines about loads, `on_ready` is called once it can answer,
    in a thread of its own.
    """

    def __init__(self, tell: Callable[[str], None], on_ready: Callable[[], object] = lambda: None) -> None:
        self._tell = tell
        self._on_ready = on_ready
        self._state: State = "loading"
        self._fraction = 0.0
        self._told_at = time.monotonic()

    def progress(self, name: str, fraction: float) -> None:
        """Take how far the load of a model is, and say it now and then."""
        self._fraction = fraction
        if time.monotonic() - self._told_at >= TELL_EVERY_S:
            self._told_at = time.monotonic()
            self._tell(f"Loading {name}: {fraction:.0%}")

    async def run(self, service: Service) -> None:
        """Do it. What goes wrong is told; the next request tries again."""
        name, began = service.models.default.name, time.monotonic()
        state: State = "failed"
        try:
            async with service.serving.using(name) as engine:
                async for _ in engine.generate(_ONE_TOKEN):
                    pass
            state = "ready"
        except GgufVlError as error:
            self._tell(f"{name} could not be loaded: {error.what} {error.fix}")
            return
        except Exception as error:  # noqa: BLE001  who waits for it must hear of it
            self._tell(f"{name} could not be loaded: {type(error).__name__}: {error}")
            return
        finally:
            self._state = state
        self._tell(f"{name} is ready, after {time.monotonic() - began:.1f} s.")
        await asyncio.to_thread(self._on_ready)

    def readiness(self, service: Service) -> Readiness:
        """How it is now. A model that was unloaded, or whose worker died, is loaded by the next request."""
        engine = service.serving.engine
        if engine and engine.connection and (engine.info is None or self._state == "loading"):
            return Readiness("loading", self._fraction)
        is_up = self._state == "ready" or (engine is not None and engine.info is not None)
        return Readiness("ready", 1.0) if is_up else Readiness(self._state, self._fraction)
