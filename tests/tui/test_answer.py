"""An answer's Markdown: the same whether it came in pieces or at once, and nothing of it lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from gguf_vl.tui.widgets.answer import RUN, AnswerText, draw, runs

BLOCKS = (
    "# Heading",
    "Some **bold** words, `code`, 中文 and an emoji 🦊.",
    "- first\n- second\n  - below",
    "1. one\n2. two",
    "| Item | Price |\n|---|---:|\n| Tea | 2 |\n| 蛋糕 | 13 |",
    "```python\ndef area(width, height):\n    return width * height\n\n\n# end\n```",
    "> quoted\n> on two lines",
    "---",
    '<div class="a">kept</div>',
    "    indented",
    "A long one. " * 60,
)
ANSWER = "\n\n".join(BLOCKS * 4)


class Small(App[None]):
    """An answer and nothing else."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.answer = AnswerText(text)

    def compose(self) -> ComposeResult:
        yield self.answer

    @property
    def lines(self) -> list[str]:
        """What is drawn, from top to bottom, also what is below the screen."""
        drawn = (passage.render_lines(passage.size.region) for passage in self.answer.children)
        lines = [line.text.rstrip() for passage in drawn for line in passage]
        return [line for line in lines if line]


@given(st.lists(st.sampled_from(BLOCKS), max_size=40).map("\n\n".join))
@settings(deadline=None)
def test_cut_into_runs_nothing_is_lost_and_none_is_much_longer_than_it_may_be(text: str) -> None:
    pieces = runs(text)
    assert "".join(pieces) == text
    assert all(len(piece) <= RUN + max(map(len, BLOCKS)) + 2 for piece in pieces)


@given(st.text(st.sampled_from("ab#-*`|>1. \t\n\r\x0b\x85\u2028<&é中"), min_size=RUN, max_size=3 * RUN))
@settings(deadline=None, max_examples=50)
def test_whatever_the_characters_nothing_is_lost(text: str) -> None:
    assert "".join(runs(text)) == text


@pytest.mark.parametrize("step", [1, 7, 300])
@pytest.mark.anyio
async def test_in_pieces_it_ends_as_it_is_at_once(step: int) -> None:
    whole = Small(ANSWER)
    async with whole.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        at_once = whole.lines
    grown = Small()
    async with grown.run_test(size=(80, 24)) as pilot:
        for start in range(0, len(ANSWER), step):
            await grown.answer.append(ANSWER[start : start + step])
        await pilot.pause()
        assert grown.lines == at_once
    assert len(at_once) > 100


@pytest.mark.anyio
async def test_another_text_takes_the_place_of_a_longer_one() -> None:
    app = Small(ANSWER)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.answer.set("Only this.")
        await pilot.pause()
        assert app.lines == ["Only this."]


@pytest.mark.parametrize("theme", App[None]().available_themes)
@pytest.mark.anyio
async def test_every_word_of_it_is_drawn_in_any_theme_at_any_width(theme: str) -> None:
    app = Small()
    async with app.run_test() as pilot:
        app.theme = theme
        await pilot.pause()
        for width in (1, 7, 80, 200):
            drawn = draw("\n\n".join(BLOCKS), app, width)
            assert all(line.cell_length <= max(2, width) for line in drawn.split("\n"))
    letters = re.sub(r"\s", "", drawn.plain)
    for word in (
        "Heading",
        "bold",
        "code",
        "second",
        "two",
        "Price",
        "returnwidth*height",
        "quoted",
        "kept",
        "indented",
    ):
        assert word in letters


@pytest.mark.anyio
async def test_what_the_mouse_marks_can_be_copied() -> None:
    app = Small("# Title\n\nSome **bold** words.")
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.mouse_down(app.answer, offset=(0, 0))
        await pilot.hover(app.answer, offset=(8, 2))
        await pilot.mouse_up(app.answer, offset=(8, 2))
        assert app.screen.get_selected_text() == "Title\n\nSome bold"
