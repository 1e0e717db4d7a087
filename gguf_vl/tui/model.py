"""The model that people talk to: chosen, planned and loaded behind the first screen, and swapped for another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from gguf_vl.config import Settings
from gguf_vl.errors import GgufVlError
from gguf_vl.tui.background import begin

if TYPE_CHECKING:
    from gguf_vl.engine.client import Engine
    from gguf_vl.fit.choice import Chosen
    from gguf_vl.runtime.models import Installed
    from gguf_vl.runtime.planning import Planned
    from gguf_vl.runtime.serving import Serving
    from gguf_vl.types import Machine

State = Literal["choosing", "loading", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class Made:
    """A model, its plan, and the engine that will load it so."""

    installed: Installed
    planned: Planned
    engine: Engine


OnProgress = Callable[[float], None]
Tell = Callable[[str], None]
Make = Callable[[Settings, OnProgress, Tell], Made]
"""Chooses the model of the settings, plans it, and makes its engine. It may take a second: it is called in a thread."""


def make_planned(settings: Settings, on_progress: OnProgress, tell: Tell) -> Made:
    """The model of the settings, else the best that is here, planned for this machine."""
    from gguf_vl.hardware.machine import probe
    from gguf_vl.runtime.engines import PlannedEngine
    from gguf_vl.runtime.planning import plan_chosen

    installed, planned = plan_chosen(settings, probe())
    engine = PlannedEngine(
        installed,
        planned,
        on_progress=on_progress,
        tell=tell,
        prove="first" if settings.proof else "never",
        disk_cache=settings.disk_cache,
        idle_s=settings.idle_unload or None,
    )
    return Made(installed, planned, engine)


def _serving() -> type[Serving]:
    from gguf_vl.runtime import planning, serving  # noqa: F401  planning comes next

    return serving.Serving


class Model:
    """The one model in use, for the loop of the terminal UI. `on_change` is called whenever something here differs.

    `state` and `fraction` say how far it is, `error` why it is not there; `made` is None until one was chosen.
    """

    def __init__(
        self, settings: Settings, on_change: Callable[[], None], tell: Tell, make: Make = make_planned
    ) -> None:
        self._settings = settings
        self._on_change = on_change
        self._tell = tell
        self._make = make
        self._serving: Serving | None = None
        self._wish = settings.model or ""
        self._loading: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.state: State = "choosing"
        self.fraction = 0.0
        self.error: GgufVlError | None = None
        self.made: Made | None = None
        self._all: dict[str, Made] = {}  # by what was wished for; of each the one made last

    @property
    def name(self) -> str:
        """What the model is called; of one that is not chosen yet, what was asked for."""
        return self.made.installed.name if self.made else self._wish

    @property
    def n_ctx(self) -> int | None:
        """Its context in tokens, None until it is planned."""
        return self.made.engine.settings.n_ctx if self.made else None

    def load(self, name: str = "") -> None:
        """Begin to load that model, or the same again; it is there when `state` is "ready"."""
        if name and name != self.name:
            self._wish, self.made = name, None
        self.state, self.fraction, self.error = "choosing" if self.made is None else "loading", 0.0, None
        self._on_change()
        if self._loading:
            self._loading.cancel()
        self._loading = begin(self._load())

    async def _load(self) -> None:
        try:
            async with self.using():
                pass
        except GgufVlError:
            pass  # it is in `error`, and `on_change` was told

    @asynccontextmanager
    async def using(self) -> AsyncIterator[Made]:
        """The loaded model, for as long as the block lasts. Waits for it; raises what choosing and loading it raise."""
        serving = await self._served()
        wish = self._wish
        try:
            async with serving.using(wish) as engine:
                if wish == self._wish and self.state != "ready":
                    self._set("loading")
                await engine.start()
                made = self._all[wish]
                if wish == self._wish:
                    self.made = made
                    self._set("ready")
                yield made
        except GgufVlError as error:
            if wish == self._wish and self._is_gone:
                self.error = error
                self._set("failed")
            raise

    async def _served(self) -> Serving:
        """What the engine needs is imported beside the loop: that takes longer than the first screen."""
        if self._serving is None:
            make = await asyncio.to_thread(_serving)
            self._loop = asyncio.get_running_loop()
            self._serving = self._serving or make(self._made)
        return self._serving

    @property
    def _is_gone(self) -> bool:
        """Whether no model is loaded after an error: of a request alone it says nothing about the model."""
        return self.made is None or self.made.engine.info is None

    def _made(self, name: str) -> Engine:
        """In a thread."""
        made = self._make(replace(self._settings, model=name or self._settings.model), self._at, self._tell_loop)
        self._all[name] = made
        self._in_loop(lambda: self._take(made, name))
        return made.engine

    def _take(self, made: Made, name: str) -> None:
        if name == self._wish:
            self.made = made
            self._set("loading")

    def _at(self, fraction: float) -> None:
        self.fraction = fraction
        self._on_change()

    def _tell_loop(self, line: str) -> None:
        self._in_loop(lambda: self._tell(line))

    def _in_loop(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            same = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            same = False
        if same:
            call()
        else:
            self._loop.call_soon_threadsafe(call)

    def _set(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._on_change()

    async def recommended(self) -> Chosen | None:
        """The published model that suits this machine; None where a downloaded one is in use already."""
        if self.made is None or self.name != "pocket":
            return None
        from gguf_vl.runtime.planning import recommend, wishes_of

        machine: Machine = self.made.planned.machine
        return await asyncio.to_thread(recommend, machine, wishes_of(self._settings))

    async def close(self) -> None:
        """Unload it, and serve nobody any more."""
        if self._loading:
            self._loading.cancel()
        if self._serving:
            await self._serving.close()
