"""Models: those that are here and the published ones, how each would do on this machine, and what is being fetched."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static
from textual.widgets.data_table import RowDoesNotExist

from gguf_vl.errors import GgufVlError, ModelNotFound
from gguf_vl.tui.screens.removing import RemoveScreen
from gguf_vl.tui.shelf import Entry, Outlook, entries, outlook, suits_best
from gguf_vl.tui.widgets.bars import PlanBars, progress_line

if TYPE_CHECKING:
    from gguf_vl.tui.app import GgufVlApp
    from gguf_vl.tui.downloads import Download
    from gguf_vl.types import Machine, Wishes

EVERY_S = 0.25
"""Seconds between two looks at the model in use and at the downloads."""
_COLUMNS = (
    ("name", "  Model", 13),
    ("quant", "Quant", 6),
    ("size", "Size", 8),
    ("fits", "Fits", 5),
    ("speed", "Tok/s", 5),
)
_STATE_WIDTH = 10


class ModelsScreen(Screen[None]):
    """Use, fetch, verify and remove models."""

    CSS_PATH = "../styles/models.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "use", "Use", key_display="⏎", priority=True),
        Binding("p", "pull", "Pull"),
        Binding("p", "pause", "Pause"),
        Binding("p", "resume", "Resume"),
        Binding("v", "verify", "Verify"),
        Binding("d,delete", "remove", "Remove", key_display="d"),
        Binding("escape", "app.pop_screen", "Back", key_display="esc"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, Entry] = {}
        self._outlooks: dict[str, Outlook] = {}
        self._best = ""
        self._is_planned = False
        self._old: set[str] = set()
        self._over: set[str] = set()
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        """The list, what there is to say of the highlighted one, and the downloads."""
        yield Static("Models", id="heading")
        yield DataTable(cursor_type="row")
        with VerticalScroll(id="about"):
            yield Static(id="title", markup=False)
            yield Static(id="why", markup=False)
            yield PlanBars()
        yield Static(id="downloads", classes="-none")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Begin to look."""
        for key, label, width in _COLUMNS:
            self._table.add_column(label, key=key, width=width)
        self._table.add_column("State", key="state", width=_STATE_WIDTH)
        self._old = {each.name for each in self._downloads if each.state == "done"}
        self._over = set(self._old)
        self.run_worker(self._list(), group="entries", exclusive=True)
        self.set_interval(EVERY_S, self._look)

    # --- what is looked at

    @property
    def _gguf_vl(self) -> GgufVlApp:
        return cast("GgufVlApp", self.app)

    @property
    def _table(self) -> DataTable[Text]:
        return cast("DataTable[Text]", self.query_one(DataTable))

    @property
    def _downloads(self) -> tuple[Download, ...]:
        return self._gguf_vl.downloads.states

    def _download(self, name: str) -> Download | None:
        found = self._gguf_vl.downloads.of(name)
        return None if found and found.name in self._old and found.state == "done" else found

    @property
    def highlighted(self) -> Entry | None:
        """The one that the keys are for."""
        table = self._table
        if not table.row_count:
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return self._entries.get(key or "")

    def _is_in_use(self, entry: Entry) -> bool:
        made = self._gguf_vl.model.made
        return made is not None and entry.file is not None and made.installed.local.model == entry.file

    # --- looking

    async def _list(self) -> None:
        try:
            found = {entry.name: entry for entry in await asyncio.to_thread(entries)}
        except GgufVlError as error:
            return self._complain(error)
        for each in self._downloads:  # of a repository, or begun in an earlier run
            if each.name not in found and each.state != "done":
                found[each.name] = Entry(each.name, "", "", each.total or None)
        if list(found) != list(self._entries):
            at = self.highlighted
            self._table.clear()
            for name in found:
                self._table.add_row(*[Text()] * (len(_COLUMNS) + 1), key=name)
            in_use = next((name for name, each in found.items() if self._is_in_use(each)), None)
            keep = at.name if at else in_use
            if keep in found:
                self._table.move_cursor(row=self._table.get_row_index(keep))
        changed = {name for name, each in found.items() if each != self._entries.get(name)}
        self._entries = found
        self._outlooks = {name: each for name, each in self._outlooks.items() if name in found and name not in changed}
        self._drawn = None
        self._is_planned = False
        self._look()

    def _look(self) -> None:
        """Draw what has changed, and see to it that the plans are made."""
        model, states = self._gguf_vl.model, self._downloads
        over = {each.name for each in states if each.state == "done"}
        unknown = {each.name for each in states if each.state != "done"} - set(self._entries)
        if self._entries and (over - self._over or unknown):
            self._over = over
            self.run_worker(self._list(), group="entries", exclusive=True)
        if self._entries and not self._is_planned and (model.made or model.state == "failed"):
            self._is_planned = True
            self.run_worker(self._plan(), group="plans", exclusive=True)
        snapshot = (model.state, model.name, model.made, states, self.size, len(self._outlooks), self._best)
        if snapshot != self._drawn:
            self._drawn = snapshot
            self._draw()

    async def _plan(self) -> None:
        """Plan for each of them, the installed ones last: llama.cpp is asked about those, which takes longer."""
        machine, wishes = await self._machine_and_wishes()
        self._best = self._best or await asyncio.to_thread(suits_best, machine, wishes)
        missing = [each for each in self._entries.values() if each.name not in self._outlooks]
        for entry in sorted(missing, key=lambda entry: entry.is_here):
            self._outlooks[entry.name] = await asyncio.to_thread(outlook, entry, machine, wishes)
            self._look()

    async def _machine_and_wishes(self) -> tuple[Machine, Wishes]:
        if made := self._gguf_vl.model.made:
            return made.planned.machine, made.planned.wishes
        from gguf_vl.hardware.machine import probe  # choosing a model has failed: here another can be taken
        from gguf_vl.runtime.planning import wishes_of

        return await asyncio.to_thread(probe), wishes_of(self._gguf_vl.settings)

    # --- drawing

    def _draw(self) -> None:
        widths = sum(width for _, _, width in _COLUMNS) + 2 * (len(_COLUMNS) + 1)
        state_width = max(_STATE_WIDTH, min(40, self.size.width - widths - 2))
        self._table.columns[next(key for key in self._table.columns if key.value == "state")].width = state_width
        for entry in self._entries.values():
            try:
                for key, text in self._cells(entry).items():
                    self._table.update_cell(entry.name, key, text)
            except RowDoesNotExist:  # the list is being made anew
                continue
        self._table.refresh(layout=True)
        self._draw_about()
        shown = [each for each in self._downloads if not (each.state == "done" and each.name in self._old)]
        strip = self.query_one("#downloads", Static)
        strip.set_class(not shown, "-none")
        strip.update(Content("\n").join([progress_line(each, self.size.width - 2) for each in shown]))
        self.query_one("#heading", Static).update(self._heading())
        self.refresh_bindings()

    def _heading(self) -> Content:
        from gguf_vl.fit.explain import size
        from gguf_vl.gguf.wire import shown

        made = self._gguf_vl.model.made
        if made is None:
            return Content.assemble(("Models", "bold"))
        machine = made.planned.machine
        about = f"{machine.chip or machine.system}, {size(machine.memory_total)} of memory"
        return Content.assemble(("Models", "bold"), "  on ", shown(about))

    def _cells(self, entry: Entry) -> dict[str, Text]:
        from gguf_vl.gguf.wire import shown
        from gguf_vl.store.progress import size

        found = self._outlooks.get(entry.name)
        n_bytes = entry.n_bytes or (found.n_bytes if found else None)
        in_use = self._is_in_use(entry)
        mark = "● " if in_use else "★ " if entry.name == self._best else "  "
        base = entry.name if entry.quant.casefold() not in entry.name.casefold() else entry.name.partition(":")[0]
        tps = found.plan.decode_tps if found and found.plan else None
        return {
            "name": Text(mark + shown(base), "bold" if entry.is_here else "", no_wrap=True, overflow="ellipsis"),
            "quant": Text(shown(entry.quant), no_wrap=True, overflow="ellipsis"),
            "size": Text(
                size(entry.n_bytes) if entry.n_bytes else f"≈{n_bytes / 1e9:.1f} GB" if n_bytes else "", justify="right"
            ),
            "fits": Text("" if entry.trouble else found.fits if found else "…"),
            "speed": Text(f"{tps:.0f}" if tps else "", justify="right"),
            "state": Text(self._state(entry, in_use), no_wrap=True, overflow="ellipsis"),
        }

    def _state(self, entry: Entry, in_use: bool) -> str:
        download = self._download(entry.name)
        if download and download.state not in ("done", "failed"):
            words = "asking" if download.state == "planning" else download.state
            percent = "" if download.fraction is None else f"{download.fraction:.0%}".replace("%", " %")
            return percent if download.state == "fetching" and percent else f"{words} {percent}".strip()
        if download and download.state == "failed":
            return "failed"
        if entry.trouble:
            return "damaged"
        if in_use:
            return "in use" if self._gguf_vl.model.state == "ready" else self._gguf_vl.model.state
        if entry.installed and entry.installed.local.receipt and entry.installed.local.receipt.is_damaged:
            return "damaged"
        if entry.is_here:
            return "here"
        return "suits best" if entry.name == self._best else ""

    def _draw_about(self) -> None:
        from gguf_vl.gguf.wire import shown

        entry = self.highlighted
        found = self._outlooks.get(entry.name) if entry else None
        name, title, quant = (entry.name, entry.title, entry.quant) if entry else ("", "", "")
        words = [name if not title.startswith(name) else "", title, quant]
        self.query_one("#title", Static).update("  ".join(shown(each) for each in words if each))
        why = found.why if found else entry.trouble if entry else ""
        self.query_one("#why", Static).update(shown(why, 500) if why else "Looking whether it fits …")
        self.query_one(PlanBars).plan = found.plan if found else None

    def on_data_table_row_highlighted(self) -> None:
        """Say what there is to say of it."""
        if self._entries:
            self._draw_about()
            self.refresh_bindings()

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click on the highlighted one."""
        self.action_use()

    def on_resize(self) -> None:
        """Draw for the new width."""
        self._look()

    # --- doing

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether it can be done to the highlighted one."""
        if action not in ("use", "pull", "pause", "resume", "verify", "remove") or not self.is_mounted:
            return True
        entry = self.highlighted
        if entry is None:
            return False
        download = self._download(entry.name)
        state = download.state if download else None
        is_active = download is not None and download.is_active
        return {
            "use": not entry.trouble and not is_active,
            "pull": not entry.is_here and state in (None, "done"),
            "pause": is_active,
            "resume": state in ("paused", "failed"),
            "verify": entry.is_here and not is_active,
            "remove": entry.name != "pocket" and (entry.is_here or state in ("paused", "failed")),
        }[action]

    def action_use(self) -> None:
        """Talk to it from now on; one that is not here is fetched first."""
        entry = self.highlighted
        if entry is None or not self.check_action("use", ()):
            return
        if not entry.is_here:
            self._gguf_vl.downloads.pull(entry.name)
            self._look()
            return
        if not self._is_in_use(entry):
            self._gguf_vl.switch_model(entry.name)
        self.app.pop_screen()

    def action_pull(self) -> None:
        """Fetch it."""
        if entry := self.highlighted:
            self._gguf_vl.downloads.pull(entry.name)
            self._look()

    def action_pause(self) -> None:
        """Stop fetching it for now."""
        if entry := self.highlighted:
            self._gguf_vl.downloads.pause(entry.name)
            self._look()

    def action_resume(self) -> None:
        """Go on fetching it."""
        if entry := self.highlighted:
            self._gguf_vl.downloads.resume(entry.name)
            self._look()

    def action_verify(self) -> None:
        """Hash its files again."""
        if entry := self.highlighted:
            self._old.discard(entry.name)
            self._over.discard(entry.name)
            self._gguf_vl.downloads.verify(entry.name)
            self._look()

    def action_remove(self) -> None:
        """Ask, and remove it."""
        if entry := self.highlighted:
            self.run_worker(self._remove(entry), group="removing", exclusive=True)

    async def _remove(self, entry: Entry) -> None:
        from gguf_vl.store.remove import plan_removals, remove

        if self._is_in_use(entry):
            self.notify("It is in use: switch to another model first.", severity="warning")
            return
        try:
            [removal] = await asyncio.to_thread(plan_removals, [entry.name])
            if await self.app.push_screen_wait(RemoveScreen(removal)):
                self._gguf_vl.downloads.cancel(entry.name)
                await asyncio.to_thread(remove, removal)
        except ModelNotFound:  # nothing of it has arrived
            self._gguf_vl.downloads.cancel(entry.name)
        except GgufVlError as error:
            self._complain(error)
        await self._list()

    def _complain(self, error: GgufVlError) -> None:
        self.notify(f"{error.what}\n{error.fix}", severity="error", timeout=15, markup=False)
