"""A chat written to files, and files read as chats."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList, Static
from textual.widgets.option_list import Option

from gguf_vl.chat.export import files
from gguf_vl.chat.export.files import Form
from gguf_vl.chat.history import History
from gguf_vl.chat.turns import Chat
from gguf_vl.errors import GgufVlError, UsageError

if TYPE_CHECKING:
    from gguf_vl.tui.app import GgufVlApp

_FORMS = {
    Form.MARKDOWN: ("Markdown", "text, with the pictures in a folder beside it"),
    Form.HTML: ("HTML", "one page, pictures inside, for any browser"),
    Form.JSON: ("JSON", "everything, all branches too; can be imported here"),
}


def usual_folder() -> Path:
    """Where exports go unless another folder is typed: ~/Downloads, else the working directory."""
    downloads = Path.home() / "Downloads"
    return downloads if downloads.is_dir() else Path.cwd()


def read_chats(history: History, text: str) -> list[Chat]:
    """Add the chats of a JSON file to the history, its path as a person types or drops it. Raises `GgufVlError`."""
    from gguf_vl.chat.export import importing

    typed = text.strip().strip("'\"")
    if not typed:
        raise UsageError("No file is named.", "Type the path of a JSON file, or drop it here.")
    return importing.load(history, importing.read(Path(os.path.expanduser(typed))))


class ExportScreen(ModalScreen[Path | None]):
    """Asks as what and where to. It ends with the file written, None for none."""

    CSS_PATH = "../styles/exporting.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", show=False)]

    def __init__(self, chat: Chat) -> None:
        super().__init__()
        self._exported = chat

    def compose(self) -> ComposeResult:
        """The ways, and the folder."""
        with Vertical(id="export"):
            yield Label(Content(f"Export “{self._exported.title}”").truncate(52, ellipsis=True), id="export-title")
            yield OptionList(
                *(
                    Option(Content.assemble((f"{name:<10}", "bold"), " ", about), id=form)
                    for form, (name, about) in _FORMS.items()
                ),
                compact=True,
            )
            yield Label("To the folder", id="export-folder")
            yield Input(str(usual_folder()), compact=True, select_on_focus=False)
            yield Static("Enter export   Tab folder   Esc back", id="export-note", markup=False)

    @on(OptionList.OptionSelected)
    @on(Input.Submitted)
    async def _export(self) -> None:
        option = self.query_one(OptionList).highlighted_option
        form = Form((option and option.id) or Form.MARKDOWN)
        folder = Path(os.path.expanduser(self.query_one(Input).value.strip() or "."))
        history = cast("GgufVlApp", self.app).history
        try:
            path = await asyncio.to_thread(files.write, history, self._exported.id, form, folder.absolute())
        except GgufVlError as error:
            note = self.query_one("#export-note", Static)
            note.update(f"✗ {error.what} {error.fix}")
            note.add_class("-wrong")
        else:
            self.dismiss(path)
