"""This machine: its devices, what the model takes of them by plan and in truth, why, and what it is doing now."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Sparkline, Static

from gguf_vl.errors import GgufVlError
from gguf_vl.tui.widgets.bars import PlanBars

if TYPE_CHECKING:
    from gguf_vl.runtime.planning import Planned
    from gguf_vl.tui.app import GgufVlApp
    from gguf_vl.tui.model import Made
    from gguf_vl.types import EngineStats, Machine, Plan, Used

EVERY_S = 1.0
"""Seconds between two looks at the engine's counters."""
HISTORY = 120
"""Looks that the plot of tokens per second goes back."""


class MachineScreen(Screen[None]):
    """Devices, the plan against what is used, the reasons for each number, and the engine's counters."""

    CSS_PATH = "../styles/machine.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back", key_display="esc"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Planned, Used | None] | None = None
        self._rates: deque[float] = deque([0.0] * HISTORY, HISTORY)
        self._before: EngineStats | None = None

    def compose(self) -> ComposeResult:
        """One column of parts, the liveliest first."""
        yield Static("This machine", id="heading")
        with VerticalScroll():
            yield Static("No model yet.", id="nothing", markup=False)
            yield PlanBars()
            yield from _part("Now", "now")
            yield Sparkline(self._rates, id="rate", summary_function=max)
            yield from _part("Planned and used", "used")
            yield from _part("To fit", "gave-way")
            yield from _part("Settings", "settings")
            yield from _part("Devices", "devices")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Look now, and every second."""
        self.run_worker(self._watch(), group="stats")

    # --- looking

    @property
    def _gguf_vl(self) -> GgufVlApp:
        return cast("GgufVlApp", self.app)

    async def _watch(self) -> None:
        while True:
            made = self._gguf_vl.model.made
            if made is None:
                self._draw_nothing()
            else:
                self._draw_plan(made)
                try:
                    self._draw_now(await made.engine.stats())
                except GgufVlError:  # its worker has just ended: the next look finds another one
                    self._before = None
            await asyncio.sleep(EVERY_S)

    def _draw_nothing(self) -> None:
        model = self._gguf_vl.model
        words = "No model yet: it is being chosen."
        if model.error:
            words = f"No model: {model.error.what}\n{model.error.fix}"
        self.query_one("#nothing", Static).update(words)
        self._show(has_model=False)

    def _show(self, *, has_model: bool) -> None:
        for child in self.query_one(VerticalScroll).children:
            is_meant = (child.id == "nothing") != has_model
            if child.has_class("gave-way"):
                is_meant = has_model and self._shown is not None and bool(self._shown[0].plan.gave_way)
            child.set_class(not is_meant, "-none")

    def _draw_plan(self, made: Made) -> None:
        """Draw what stands still, when it differs."""
        from gguf_vl.runtime.engines import PlannedEngine

        planned = made.engine.planned if isinstance(made.engine, PlannedEngine) else made.planned  # it may be tightened
        used = made.engine.info.used if made.engine.info else None
        if self._shown == (planned, used):
            return
        self._shown = planned, used
        plan = planned.plan
        self.query_one("#heading", Static).update(_heading(made, planned))
        self.query_one(PlanBars).plan = plan
        self.query_one("#used", Static).update(_used(plan, used))
        self.query_one("#gave-way", Static).update(Text("\n".join(plan.gave_way)))
        self.query_one("#settings", Static).update(_settings(plan))
        self.query_one("#devices", Static).update(_devices(planned.machine))
        self._show(has_model=True)

    def _draw_now(self, stats: EngineStats) -> None:
        before, self._before = self._before, stats
        if before and stats.answer_tokens >= before.answer_tokens:  # a new worker counts from zero
            self._rates.append((stats.answer_tokens - before.answer_tokens) / EVERY_S)
        spark = self.query_one("#rate", Sparkline)
        spark.data = list(self._rates)
        spark.set_class(not any(self._rates), "-none")
        self.query_one("#now", Static).update(_now(stats, self._gguf_vl.model.state, list(self._rates)))


def _part(title: str, id: str) -> Iterator[Static]:
    yield Static(title, classes=f"part {id}")
    yield Static(id=id, classes=id, markup=False)


def _heading(made: Made, planned: Planned) -> Content:
    from gguf_vl.fit.explain import size
    from gguf_vl.gguf.wire import shown

    machine = planned.machine
    chip = machine.chip or machine.system
    about = f"{chip}, {machine.cores} cores, {size(machine.memory_total)} of memory"
    return Content.assemble((shown(made.installed.name, 24), "bold"), " on this machine: ", shown(about))


def _table(*columns: str, right: Iterable[str] = ()) -> Table:
    """A table with a dim head; the last column takes what room there is, and wraps."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", expand=False)
    for name in columns:
        is_last = name == columns[-1]
        table.add_column(name, justify="right" if name in right else "left", no_wrap=not is_last, overflow="fold")
    return table


def _add(table: Table, *cells: str | Text, style: str = "") -> None:
    """A row, with no cell taken for markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), style=style)


def _used(plan: Plan, used: Used | None) -> Table:
    """What was planned beside what the load took, and why so much was planned."""
    from gguf_vl.fit.explain import size

    table = _table("device", "for", "planned", "used", "why so planned", right=("planned", "used"))
    for each in plan.allocations:
        _add(
            table,
            each.device,
            each.purpose,
            size(each.n_bytes),
            _taken(plan, used, each.device, each.purpose),
            each.why,
        )
    for pool in plan.pools:
        _add(table, pool.device, "margin", size(pool.margin), "", pool.margin_why)
    for pool in plan.pools:
        total = used.devices.get(pool.device) if used and pool.device != plan.pools[0].device else None
        if used and pool.device == plan.pools[0].device:
            total = used.resident
        words = "" if total is None else size(total)
        why = "resident in the worker" if pool.device == plan.pools[0].device else "less is free since the load"
        _add(table, pool.device, "in all", size(plan.taken(pool.device)), words, why if words else "", style="bold")
    return table


def _taken(plan: Plan, used: Used | None, device: str, purpose: str) -> str:
    from gguf_vl.fit.explain import size

    if used is None:
        return ""
    if purpose == "encode":
        return "unmeasured" if used.encode is None else size(used.encode)
    found = [each.n_bytes for each in used.buffers if (each.device, each.purpose) == (device, purpose)]
    return size(sum(found)) if found else ""


def _settings(plan: Plan) -> Table:
    table = _table("setting", "value", "why")
    for each in plan.choices:
        _add(table, each.name, Text(each.value, "bold"), each.why)
    return table


def _devices(machine: Machine) -> Table:
    from gguf_vl.fit.explain import size
    from gguf_vl.gguf.wire import shown

    table = _table("device", "memory", "free", "GB/s", "what it is", right=("memory", "free", "GB/s"))
    memory = size(machine.memory_available)
    rate = f"{machine.bandwidth / 1e9:.0f}" if machine.bandwidth else "?"
    limit = f", within {machine.memory_limit}" if machine.memory_limit else ""
    _add(table, "RAM", size(machine.memory_total), memory, rate, shown(f"main memory{limit}"))
    for device in machine.devices:
        sizes = [size(each) if each is not None else "?" for each in (device.total, device.free)]
        rate = f"{device.bandwidth / 1e9:.0f}" if device.bandwidth else "?"
        what = f"{device.description} ({device.backend})" if device.backend != device.name else device.description
        what += ", computes in main memory" if device.unified and device.kind != "cpu" else ""
        if device.kind == "cpu":
            sizes = ["", ""]
            rate = ""
            what += f", {machine.cores} cores"
        _add(table, device.name, *sizes, rate, shown(what))
    return table


def _now(stats: EngineStats, state: str, rates: Sequence[float]) -> Table:
    """The counters that tell something, in pairs."""
    from gguf_vl.fit.explain import size

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    *_, now = rates
    _add(table, "model", {"ready": "loaded"}.get(state, state))
    _add(table, "requests", f"{stats.running} answered now, {stats.waiting} waiting, {stats.requests} in all")
    _add(table, "prompts", f"{stats.prompt_tokens:,} tokens read, {stats.tokens_reused:,} reused")
    reused = stats.pictures_reused + stats.pictures_from_disk
    _add(table, "pictures", f"{stats.pictures_encoded} encoded, {reused} reused")
    if stats.cells:
        sequences = "1 sequence" if stats.kept_sequences == 1 else f"{stats.kept_sequences} sequences"
        _add(table, "context", f"{stats.kept_cells:,} of {stats.cells:,} tokens kept in {sequences}")
    kept = f"{size(stats.embedding_bytes)} of pictures, {size(stats.disk_bytes)} on disk"
    _add(table, "kept besides", kept)
    answered = f"{stats.answer_tokens:,} tokens"
    if stats.decode_s:
        answered += f", {stats.answer_tokens / stats.decode_s:,.0f} a second while one was written"
    _add(table, "answers", answered)
    more = f" now; below, the last {HISTORY} s" if any(rates) else " now"
    _add(table, "tokens/s", Text.assemble((f"{now:,.0f}", "bold"), (more, "dim")))
    return table
