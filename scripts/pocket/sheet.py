"""Draws a sheet of held-out drawings with what pocket says about them.

    python sheet.py PAIR SHEET.png [--font FILE]

Under each drawing stand a question and pocket's answer; a box in an answer is drawn on the picture. A wrong answer is
in red, with the right one under it. Needs gguf_vl, and a font with Chinese characters for the Chinese questions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from draw import Scene
from evaluate import Asker, Chat, examples, gguf_vl_asker, iou
from gguf_vl.media.boxes import find_boxes
from questions import Exchange

ROWS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("colour", "en"), ("shape", "en"), ("count", "en"), ("place", "en")),
    (("box", "en"), ("box", "zh"), ("text", "en"), ("text", "zh")),
    (("describe", "en"), ("list", "en"), ("absent", "en"), ("follow-up", "zh")),
    (("which", "en"), ("describe", "zh"), ("else", "en"), ("box", "en")),
)
"""Kind and language of every drawing's question."""
CELL = (330, 250)
CAPTION = 116
"""Pixels: what one drawing may take, and the text under it."""
LINE = 16
RIGHT, WRONG, PLAIN = (0, 110, 60), (190, 0, 30), (60, 60, 60)


def _example(kind: str, language: str, skip: int) -> tuple[list[Scene], Exchange]:
    """The first held-out example that is easy to see on a sheet, after `skip` of them."""
    fitting = [
        found
        for found in examples(kind, language, 60, None)
        if len(found[0][0].shapes) >= 2 and 60 <= _tokens(found[0][0]) <= 300
    ]
    return fitting[skip]


def _tokens(scene: Scene) -> int:
    return scene.picture.width * scene.picture.height // 1024


def _is_right(answer: str, wanted: str) -> bool:
    """Whether an answer is right; a box by its label and an IoU of 0.75 or more."""
    found, right = (find_boxes(text, (1000, 1000)) for text in (answer, wanted))
    if not (found and right):
        return answer == wanted
    edges = [(box.x1, box.y1, box.x2, box.y2) for box in (found[0], right[0])]
    return found[0].label == right[0].label and iou(*edges) >= 0.75


def _draw_cell(sheet: Image.Image, corner: tuple[int, int], scenes: list[Scene], answer: str) -> None:
    """Puts the pictures of one cell side by side, with the boxes of the answer."""
    each = CELL[0] // len(scenes) - 10
    for number, scene in enumerate(scenes):
        picture = scene.picture
        scale = min(each / picture.width, (CELL[1] - 10) / picture.height)
        shown = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
        pen = ImageDraw.Draw(shown)
        for box in find_boxes(answer, shown.size):
            pen.rectangle((box.x1, box.y1, box.x2 - 1, box.y2 - 1), outline=(255, 0, 160), width=3)
        left, top = corner[0] + number * (each + 10), corner[1]
        sheet.paste(shown, (left, top))
        ImageDraw.Draw(sheet).rectangle((left, top, left + shown.width, top + shown.height), outline=(200, 200, 200))


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in text.replace(" ", " \0").split("\0") if " " in text else list(text):
        if font.getlength(lines[-1] + word) > width and lines[-1]:
            lines.append("")
        lines[-1] += word
    return lines


def make_sheet(asker: Asker, font_file: str | None) -> Image.Image:
    """Asks every question and draws the sheet."""
    large, small = _font(font_file, 15), _font(font_file, 13)
    width, height = CELL[0] + 14, CELL[1] + CAPTION
    sheet = Image.new("RGB", (14 + width * len(ROWS[0]), 14 + height * len(ROWS)), "white")
    pen = ImageDraw.Draw(sheet)
    seen: dict[tuple[str, str], int] = {}
    for row, kinds in enumerate(ROWS):
        for column, (kind, language) in enumerate(kinds):
            skip = seen.get((kind, language), 0)
            seen[kind, language] = skip + 1
            scenes, exchange = _example(kind, language, skip)
            chat: Chat = [(turn.question, turn.answer) for turn in exchange.turns[:-1]]
            last = exchange.turns[-1]
            answer = asker([scene.picture for scene in scenes], last.question, chat, False)
            left, top = 14 + column * width, 14 + row * height
            _draw_cell(sheet, (left, top), scenes, answer)
            asked = " … ".join([*(turn.question for turn in exchange.turns[:-1]), last.question])
            right = _is_right(answer, last.answer)
            lines = [(line, large, PLAIN) for line in _wrapped(asked, large, CELL[0])]
            lines += [(line, small, RIGHT if right else WRONG) for line in _wrapped(answer, small, CELL[0])]
            if not right:
                lines += [(line, small, PLAIN) for line in _wrapped(f"(right: {last.answer})", small, CELL[0])]
            for number, (line, font, colour) in enumerate(lines[: CAPTION // LINE]):
                pen.text((left, top + CELL[1] + LINE * number), line, colour, font=font)
    return sheet


def _font(file: str | None, size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(file, size) if file else ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws a sheet of drawings with pocket's answers.")
    parser.add_argument("folder", type=Path, help="folder of the exported pair")
    parser.add_argument("sheet", type=Path, help="PNG to write")
    parser.add_argument("--font", help="font file for the captions; Pillow's own has no Chinese")
    args = parser.parse_args()
    with gguf_vl_asker(args.folder) as asker:
        make_sheet(asker, args.font).save(args.sheet, optimize=True)


if __name__ == "__main__":
    main()
