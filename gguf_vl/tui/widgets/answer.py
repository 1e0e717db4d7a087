"""An answer's Markdown, drawn while it grows: one widget for every thousand characters, not one for each block.

Textual's own Markdown makes a widget of each paragraph, cell and bullet, and lays all of them out with each frame; Rich
draws the same in one piece.
"""

from __future__ import annotations

from io import StringIO
from typing import ClassVar

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement, TableElement
from rich.style import Style as RichStyle
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme
from textual.app import App
from textual.color import Color
from textual.containers import Vertical
from textual.content import Content
from textual.css.styles import RulesMap
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual
from textual.widget import Widget

RUN = 1000
"""Characters behind which the next block begins another widget."""

_PARSER = MarkdownIt().enable("strikethrough").enable("table").disable(["html_block", "html_inline"])
"""HTML stays text: Rich would leave it out."""


class AnswerText(Vertical):
    """The text of an answer."""

    DEFAULT_CSS = """
    AnswerText {
        height: auto;

        _Passage {
            height: auto;
            margin-top: 1;
            text-wrap: nowrap;
        }

        _Passage:first-child {
            margin-top: 0;
        }
    }
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(*map(_Passage, runs(text)), classes="text")

    @property
    def _passages(self) -> list[_Passage]:
        return [child for child in self.children if isinstance(child, _Passage)]

    async def append(self, text: str) -> None:
        """Let it grow."""
        if passages := self._passages:
            grown, *further = runs(passages[-1].source + text)
            passages[-1].set(grown)
        else:
            further = runs(text)
        await self.mount_all(map(_Passage, further))

    async def set(self, text: str) -> None:
        """Have this instead."""
        passages = self._passages
        if text == "".join(passage.source for passage in passages):
            return
        sources = runs(text)
        for passage, source in zip(passages, sources, strict=False):
            passage.set(source)
        await self.remove_children(passages[len(sources) :])
        await self.mount_all(map(_Passage, sources[len(passages) :]))


def runs(text: str) -> list[str]:
    """Cut Markdown between blocks into pieces of little more than `RUN` characters; a longer block stays whole."""
    if len(text) <= RUN:
        return [text] if text else []
    lines = StringIO(text, newline="").readlines()
    starts = [token.map[0] for token in _PARSER.parse(text) if token.level == 0 and token.map and token.nesting >= 0]
    pieces = [""]
    for start, end in zip([0, *starts[1:]], [*starts[1:], len(lines)], strict=True):
        if len(pieces[-1]) > RUN:
            pieces.append("")
        pieces[-1] += "".join(lines[start:end])
    return pieces


class _Passage(Widget):
    """Some blocks of an answer."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self._drawn: _Drawn | None = None

    def set(self, source: str) -> None:
        if source != self.source:
            self.source = source
            self._drawn = None
            self.refresh(layout=True)

    def render(self) -> _Drawn:
        if self._drawn is None or self._drawn.theme != self.app.theme:
            self._drawn = _Drawn(self.source, self.app)
        return self._drawn

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        lines = self.render().at(self.content_size.width).plain.splitlines()
        return selection.extract("\n".join(line.rstrip() for line in lines)), "\n"


class _Drawn(Visual):
    """Markdown in lines, for whatever width there turns out to be."""

    def __init__(self, source: str, app: App[object]) -> None:
        self.theme = app.theme
        self._source = source
        self._app = app
        self._lines: dict[int, Content] = {}

    def at(self, width: int) -> Content:
        if width not in self._lines:
            self._lines[width] = draw(self._source, self._app, width)
        return self._lines[width]

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        return container_width

    def get_height(self, rules: RulesMap, width: int) -> int:
        return self.at(width).plain.count("\n") + 1

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        return self.at(width).render_strips(width, height, style, options)


# --- Rich


class _Heading(Heading):
    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = {}


class _Code(CodeBlock):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ground = console.get_style(self.style_name).bgcolor
        code = str(self.text).rstrip()
        colour = ground.name if ground else None
        yield Syntax(code, self.lexer_name, theme=self.theme, word_wrap=True, padding=(0, 1), background_color=colour)


class _Table(TableElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            if isinstance(table, Table):
                table.show_edge = False  # it would be two empty lines
            yield table


class _Markdown(Markdown):
    """Rich's, with headings at the left, tables without an edge, and HTML as it was written."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _Heading,
        "fence": _Code,
        "code_block": _Code,
        "table_open": _Table,
    }

    def __init__(self, source: str, code_theme: str) -> None:
        super().__init__("", code_theme=code_theme)
        self.parsed = _PARSER.parse(source)


def draw(source: str, app: App[object], width: int) -> Content:
    """Markdown in the colours of the app's theme, broken into lines of at most `width` cells."""
    first, second, panel = (
        Color.parse(app.theme_variables[name]).rich_color for name in ("text-primary", "text-accent", "surface")
    )
    styles: dict[str, str | RichStyle] = {
        "markdown.h1": RichStyle(color=first, bold=True, underline=True),
        "markdown.h2": RichStyle(color=first, bold=True),
        **{f"markdown.h{level}": "bold" for level in (3, 4, 5, 6)},
        "markdown.code": RichStyle(color=second, bold=True),
        "markdown.code_block": RichStyle(bgcolor=panel),
        "markdown.block_quote": "italic",
        "markdown.hr": "dim",
        "markdown.item.bullet": RichStyle(color=first, bold=True),
        "markdown.item.number": RichStyle(color=first),
        "markdown.link_url": "underline",
        "markdown.table.border": "dim",
        "markdown.table.header": "bold",
    }
    console = Console(
        file=StringIO(),
        width=max(1, width),
        color_system="truecolor",
        force_terminal=True,
        legacy_windows=False,
        theme=Theme(styles),
    )
    markdown = _Markdown(source, "github-dark" if app.current_theme.dark else "friendly")
    lines = console.render_lines(markdown, pad=False)
    text = Text("\n").join(Text.assemble(*[(part.text, part.style or "") for part in line]) for line in lines)
    return Content.from_rich_text(text, console=console)
