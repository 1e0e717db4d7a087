"""An app of one screen, with what screens use of the real one; its model is planned, and played by a script."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import App
from textual.screen import Screen

from gguf_vl.config import Settings
from gguf_vl.engine.client import Engine
from gguf_vl.engine.fake import scripted
from gguf_vl.runtime.candidates import here
from gguf_vl.runtime.models import named
from gguf_vl.runtime.planning import plan_elsewhere, wishes_of
from gguf_vl.tui.downloads import Downloads
from gguf_vl.tui.model import Made, Make, Model, OnProgress, Tell
from gguf_vl.types import EngineSettings, Machine
from tests.fit.given import GIB, card, machine

LAPTOP = machine(6 * GIB, card(4 * GIB, bandwidth=300e9), bandwidth=40e9)
SIZES = ((80, 24), (60, 20), (160, 50))


def planned_on(here_is: Machine, connect: Callable[[], object] | None = None) -> Make:
    """Plans on formulas for that machine, and makes a scripted engine."""

    def make(settings: Settings, on_progress: OnProgress, tell: Tell) -> Made:
        installed = named(settings.model or "pocket")
        planned = plan_elsewhere(here(installed), here_is, wishes_of(settings))
        plan = planned.plan
        engine = Engine(
            EngineSettings(installed.local.model, installed.local.mmproj, plan.limits, n_ctx=plan.load.n_ctx),
            connect=connect or scripted(),  # type: ignore[arg-type]
        )
        return Made(installed, planned, engine)

    return make


class SmallApp(App[None]):
    """Shows a screen over an empty one."""

    def __init__(self, shown: Callable[[], Screen[None]], make: Make | None = None, *, theme: str = "") -> None:
        super().__init__()
        self.settings = Settings()
        self.model = Model(self.settings, lambda: None, lambda _: None, make or planned_on(LAPTOP))
        self.switched: list[str] = []
        self._shown = shown
        self._theme_name = theme
        self._downloads: Downloads | None = None

    @property
    def downloads(self) -> Downloads:
        if self._downloads is None:
            self._downloads = Downloads(lambda: None)
        return self._downloads

    def switch_model(self, name: str) -> None:
        self.switched.append(name)
        self.model.load(name)

    def on_mount(self) -> None:
        if self._theme_name:
            self.theme = self._theme_name
        self.push_screen(self._shown())
        self.model.load()

    async def on_unmount(self) -> None:
        self.downloads.close()
        await self.model.close()
