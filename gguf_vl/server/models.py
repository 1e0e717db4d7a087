"""The models that are served: from a client's name for one to its engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from gguf_vl.config import Settings
from gguf_vl.engine.client import Engine
from gguf_vl.errors import ModelNotFound
from gguf_vl.hardware.machine import probe
from gguf_vl.runtime.candidates import here
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import Installed, all_here, of_name
from gguf_vl.runtime.planning import plan_chosen, plan_here, wishes_of

_FAMILY = re.compile(
    r"(?:qwen/)?qwen3[-_.]?vl(?:[:-](?P<size>\d+b(?:-a\d+b)?))?(?:-(?P<kind>instruct|thinking))?(?:-gguf)?"
    r"(?:[:-](?P<quant>[a-z]*q\d\w*|bf16|f16))?"
)
"""How other programs and hubs call these models: `qwen3-vl:8b-thinking-q8_0`, `Qwen/Qwen3-VL-2B-Instruct`, …"""


class Models:
    """What is installed, by name, and the one that serves who names none.

    `on_progress` gets the name of a model that is being loaded, and the loaded fraction. Raises what planning the
    default raises.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        tell: Callable[[str], None] = lambda _: None,
        on_progress: Callable[[str, float], None] = lambda _name, _fraction: None,
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._on_progress = on_progress
        self.default, self._planned = plan_chosen(settings, probe())

    @property
    def n_ctx(self) -> int:
        """The context that is planned for the default, in tokens."""
        return self._planned.plan.load.n_ctx

    def find(self, name: str) -> Installed:
        """The installed model that a client means; a name of the family alone, or none, means the default.

        Raises `ModelNotFound`: a client must not be able to open a file by its path.
        """
        wanted = short_name(name)
        if wanted in ("", "default", self.default.name.casefold()):
            return self.default
        if "/" in wanted or "\\" in wanted or wanted.endswith(".gguf"):
            raise ModelNotFound(f"There is no model {name!r} here.", self._those_here())
        try:
            return of_name(wanted)
        except ModelNotFound as error:
            raise ModelNotFound(f"There is no model {name!r} here.", self._those_here()) from error

    def installed(self) -> list[Installed]:
        """All that can be asked for, the default first. Reads files."""
        return [self.default, *(each for each in all_here() if each.name != self.default.name)]

    def make(self, name: str) -> Engine:
        """An engine for a model, planned for what is free now. Raises `DoesNotFit`."""
        installed, planned = self.default, self._planned
        if name != installed.name:
            installed = of_name(name)
            planned = plan_here(here(installed), probe(), wishes_of(self._settings))
        return PlannedEngine(
            installed,
            planned,
            on_progress=partial(self._on_progress, name),
            tell=self._tell,
            prove="first" if self._settings.proof else "never",
            disk_cache=self._settings.disk_cache,
            idle_s=self._settings.idle_unload or None,
        )

    def _those_here(self) -> str:
        return "Ask for one of: " + ", ".join(each.name for each in self.installed()) + "."


def short_name(name: str) -> str:
    """Our name for a model of the family: `2b`, `8b-thinking:q8_0`; any other name as it is, but for its case."""
    plain = name.strip().casefold().removesuffix(":latest")
    if not (found := _FAMILY.fullmatch(plain)):
        return plain
    size, kind, quant = found.group("size", "kind", "quant")
    thinking = "-thinking" if kind == "thinking" else ""
    return f"{size}{thinking}{':' + quant if quant else ''}" if size else ""
