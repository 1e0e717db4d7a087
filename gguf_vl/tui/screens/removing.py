"""Asking before a model is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

if TYPE_CHECKING:
    from gguf_vl.store.remove import Removal


class RemoveScreen(ModalScreen[bool]):
    """Says what removing a model means, and gives back whether it is meant."""

    CSS_PATH = "../styles/models.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Remove"),
        Binding("n,escape", "dismiss(False)", "Keep"),
        Binding("left,right,up,down", "app.focus_next", show=False),
    ]

    def __init__(self, removal: Removal) -> None:
        super().__init__()
        self._removal = removal

    def compose(self) -> ComposeResult:
        """The question, and two answers, the harmless one first."""
        with Vertical():
            yield Static("\n".join(self._lines()), markup=False)
            with Horizontal():
                yield Button("Keep (n)", id="keep")
                yield Button("Remove (y)", id="remove", variant="error")

    def _lines(self) -> list[str]:
        from gguf_vl.gguf.wire import shown
        from gguf_vl.store.progress import size

        removal = self._removal
        begun = sum(each.n_bytes for each in removal.unfinished)
        lines = [f"Remove {shown(removal.name)}? That frees {size(removal.frees)}."]
        if begun:
            lines.append(f"{size(begun)} of that are what an unfinished pull has fetched.")
        if removal.busy:
            lines.append(removal.busy)
        lines += [f"{shown(path.name)} frees nothing: it is here under another name too." for path in removal.shared]
        lines += [f"{shown(path)} belongs to another program and stays." for path in removal.referenced]
        return lines

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """An answer by mouse, or by Enter."""
        self.dismiss(event.button.id == "remove")
