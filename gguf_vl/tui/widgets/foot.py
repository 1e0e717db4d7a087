"""The keys of a screen, on as many lines as they need; each can be clicked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textual.content import Content
from textual.css.styles import RulesMap
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual
from textual.widgets import Static

GAP = "   "


class Hint(NamedTuple):
    """A key as a person reads it, what it does in a word or two, and the action that a click calls ("": none)."""

    key: str
    title: str
    action: str = ""


class Packed(Visual):
    """Pieces beside each other, none of them broken between lines."""

    def __init__(self, pieces: Sequence[Content]) -> None:
        self._pieces = pieces

    def __str__(self) -> str:
        return GAP.join(piece.plain for piece in self._pieces)

    def _lines(self, width: int) -> list[Content]:
        lines: list[Content] = []
        for piece in self._pieces:
            if lines and lines[-1].cell_length + len(GAP) + piece.cell_length <= width:
                lines[-1] = Content.assemble(lines[-1], GAP, piece)
            else:
                lines.append(piece)
        return lines

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """Cells for all of them on one line."""
        return sum(piece.cell_length + len(GAP) for piece in self._pieces)

    def get_minimal_width(self, rules: RulesMap) -> int:
        """Any width will do."""
        return 1

    def get_height(self, rules: RulesMap, width: int) -> int:
        """As many lines as that width asks for."""
        return len(self._lines(width))

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        """Line by line."""
        return [line.render_strips(width, 1, style, options)[0] for line in self._lines(width)[:height]]


class Foot(Static):
    """The last lines of a screen."""

    DEFAULT_CSS = """
    Foot {
        dock: bottom;
        height: auto;
        padding: 0 1;
        background: $panel;
        color: $foreground;
        link-color: $foreground;
        link-style: none;
    }
    """

    def __init__(self, *hints: Hint) -> None:
        super().__init__()
        self.show(*hints)

    def show(self, *hints: Hint) -> None:
        """Show other keys from now on."""
        pieces = [_piece(hint) for hint in hints]
        self.update(Packed(pieces))


def _piece(hint: Hint) -> Content:
    piece = Content.assemble((hint.key, "bold"), " ", hint.title)
    return piece.stylize(Style.from_meta({"@click": hint.action})) if hint.action else piece
