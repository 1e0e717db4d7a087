"""Pages of a document as a person writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gguf_vl.tui.screens.pages import pages
from gguf_vl.tui.widgets.chips import Chip
from tests.tui.talking import playing, talking


@pytest.mark.parametrize(
    ("text", "found"),
    [("1", [1]), ("1-3, 5", [1, 2, 3, 5]), (" 2 – 4 ", [2, 3, 4]), ("5 1 5", [5, 1]), ("3,2-4", [3, 2, 4])],
)
def test_pages_are_written_as_for_a_printer(text: str, found: list[int]) -> None:
    assert pages(text, 9) == found


@pytest.mark.parametrize("text", ["", "x", "0", "10", "3-2", "1-99999", "-3", "1.5"])
def test_what_is_no_page_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="page"):
        pages(text, 9)
    with pytest.raises(ValueError, match="At most 20"):
        pages("1-21", 99)


@pytest.mark.anyio
async def test_of_a_document_of_several_pages_it_asks_which(tmp_path: Path) -> None:
    from PIL import Image

    document = tmp_path / "three.pdf"
    sheets = [Image.new("RGB", (300, 400), colour) for colour in ("red", "green", "blue")]
    sheets[0].save(document, save_all=True, append_images=sheets[1:])
    async with talking(playing()) as stage:
        stage.app.chat.bring(document)
        await stage.until(lambda: "has 3 pages" in stage.text())
        await stage.pilot.press("backspace", *"2-3", "enter")
        await stage.until(lambda: len(stage.app.chat.query(Chip)) == 2)
        names = [each.name for each in stage.app.history.draft(stage.app.chat.chat_id).attachments]
        assert names == ["three.pdf#2", "three.pdf#3"]
