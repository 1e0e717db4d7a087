"""Rows of lists: lines with something at the left, cut where it does not fit, and something at the right."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.css.styles import RulesMap
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual

GAP = 2
"""Cells between the left part and the right one."""


class Row(Visual):
    """Lines of (left, right). It follows the width it is drawn in, and knows its height without being drawn, so that a
    list of thousands opens at once.
    """

    def __init__(self, *lines: tuple[Content | str, Content | str]) -> None:
        self._lines = tuple((_content(left), _content(right)) for left, right in lines)

    def __str__(self) -> str:
        return "\n".join(f"{left.plain}  {right.plain}".rstrip() for left, right in self._lines)

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """Cells in which nothing is cut."""
        return max(left.cell_length + GAP + right.cell_length for left, right in self._lines)

    def get_minimal_width(self, rules: RulesMap) -> int:
        """Any width will do."""
        return 1

    def get_height(self, rules: RulesMap, width: int) -> int:
        """As many as were given."""
        return len(self._lines)

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        """One strip for each line."""
        strips: list[Strip] = []
        for left, right in self._lines[:height]:
            room = width - right.cell_length - GAP if right.plain else width
            if room < width // 3:  # as a path, which is known by its end
                right = _end(right, width - width // 3 - GAP)
                room = width - right.cell_length - GAP
            line = left.truncate(max(room, 1), ellipsis=True)
            line = Content.assemble(line, " " * (width - line.cell_length - right.cell_length), right)
            strips += line.render_strips(width, 1, style, options)
        return strips


def _end(content: Content, width: int) -> Content:
    """The last cells of a text, with … before them."""
    skipped = 0
    while content[skipped:].cell_length >= max(width, 1) and skipped < len(content):
        skipped += 1
    return Content.assemble("…", content[skipped:])


def _content(given: Content | str) -> Content:
    return given if isinstance(given, Content) else Content(given)


def marked(text: str, marks: tuple[tuple[int, int], ...], lead: int = 24) -> Content:
    """A text on one line with its [start, end) `marks` bold and underlined. What is more than about `lead` characters
    before the first of them is left out, so that it is seen in narrow lines too.
    """
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    skipped = 0
    if marks and marks[0][0] > lead:
        skipped = text.rfind(" ", 0, marks[0][0] - lead // 2) + 1
        if marks[0][0] - skipped > lead:  # writing without spaces, or one long word
            skipped = marks[0][0] - lead // 2
    spread = Content(text[skipped:])
    for start, end in marks:
        spread = spread.stylize("bold underline", start - skipped, end - skipped)
    return Content("…") + spread if skipped else spread


class Keyed(Visual):
    """Lines of a key and what it does, in two columns; what is long goes on below itself."""

    def __init__(self, rows: Sequence[tuple[str, str]], key_width: int) -> None:
        self._rows = [(key, Content(text)) for key, text in rows]
        self._key_width = key_width

    def __str__(self) -> str:
        return "\n".join(f"{key}  {text.plain}" for key, text in self._rows)

    def _lines(self, width: int) -> list[Content]:
        lines: list[Content] = []
        for key, text in self._rows:
            wrapped = text.wrap(max(width - self._key_width, 12))
            held = Content.styled(key, "bold")
            if held.cell_length >= self._key_width:
                lines.append(held)
                held = Content("")
            for line in wrapped:
                lines.append(Content.assemble(held, " " * (self._key_width - held.cell_length), line))
                held = Content("")
        return lines

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """Cells in which nothing is broken."""
        return max(self._key_width + text.cell_length for _, text in self._rows)

    def get_minimal_width(self, rules: RulesMap) -> int:
        """Any width will do."""
        return 1

    def get_height(self, rules: RulesMap, width: int) -> int:
        """As many lines as that width asks for."""
        return len(self._lines(width))

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        """Line by line."""
        return [line.render_strips(width, 1, style, options)[0] for line in self._lines(width)[:height]]
