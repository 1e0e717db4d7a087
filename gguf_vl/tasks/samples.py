"""A picture of its own for every task, drawn here: to try the task on, and to see whether what comes is right."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image, ImageDraw, ImageFont

from gguf_vl.media.pictures import load_picture
from gguf_vl.media.shown import Shown
from gguf_vl.media.video import Clip, Step
from gguf_vl.tasks.task import Task
from gguf_vl.types import PictureLimits

_RED, _BLUE, _YELLOW, _GREEN, _PURPLE = (225, 30, 40), (35, 80, 220), (250, 225, 40), (40, 160, 60), (120, 40, 160)
_INK, _GREY, _PALE = (30, 30, 36), (120, 120, 130), (236, 238, 242)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a task is tried on: pictures as PNG, parameters, and what the pictures show. With `times` the pictures are
    a video's, each seen from such a second to the next, the last for as long as the one before.
    """

    pictures: tuple[bytes, ...] = field(repr=False)
    given: Mapping[str, str]
    shows: str
    times: tuple[float, ...] = ()

    def show(self, limits: PictureLimits) -> Shown:
        """What a model sees of it."""
        pictures = tuple(load_picture(each, limits) for each in self.pictures)
        if not self.times:
            return Shown(pictures)
        steps = tuple(Step((time,), picture) for time, picture in zip(self.times, pictures, strict=True))
        duration = 2 * self.times[-1] - self.times[-2]
        content = tuple(part for step in steps for part in (step.caption, step.picture))
        return Shown(content, clips=(Clip("The sample", duration, steps),))


def sample_of(task: Task) -> Sample:
    """The task's own sample; for a task of a person's, drawn shapes and any value for what must be given. A task that
    some model does frame by frame is tried on a video.
    """
    if task.name in _SAMPLES:
        return _SAMPLES[task.name]()
    needed = {each.name: "red circle" for each in task.parameters if each.default is None}
    if task.by_frame:
        return replace(_timeline(), given=needed)
    scene = _png(_scene())
    return Sample((scene,) * max(task.n_pictures[0], min(1, task.n_pictures[1])), needed, _SCENE)


_SCENE = "a red circle on the left, a blue square on the right, a yellow star below"


def _scene() -> Image.Image:
    picture = Image.new("RGB", (384, 288), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((30, 100, 120, 190), fill=_RED)
    draw.rectangle((270, 90, 350, 170), fill=_BLUE)
    star = [(192, 190), (203, 222), (237, 222), (210, 242), (220, 274), (192, 255), (164, 274), (174, 242), (147, 222)]
    draw.polygon([*star, (181, 222)], fill=_YELLOW)
    return picture


def _other_scene() -> Image.Image:
    picture = Image.new("RGB", (320, 320), "white")
    draw = ImageDraw.Draw(picture)
    draw.polygon([(80, 60), (140, 160), (20, 160)], fill=_GREEN)
    draw.ellipse((180, 180, 280, 280), fill=_PURPLE)
    return picture


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _page(lines: Sequence[str], *, size: tuple[int, int], letter: int = 22, margin: int = 32) -> Image.Image:
    """Lines of text on white; a line that begins with # is a heading."""
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    y = margin
    for line in lines:
        body = round(letter * 1.5) if line.startswith("# ") else letter
        draw.text((margin, y), line.removeprefix("# "), fill=_INK, font=_font(body))
        y += round(body * 1.5)
    return picture


def _columns(rows: Sequence[Sequence[str]], *, widths: Sequence[int], letter: int = 20) -> Image.Image:
    """A ruled table whose first row is its head."""
    height = letter * 2
    picture = Image.new("RGB", (sum(widths) + 40, height * len(rows) + 40), "white")
    draw = ImageDraw.Draw(picture)
    for row, cells in enumerate(rows):
        x = 20
        for cell, width in zip(cells, widths, strict=True):
            box = (x, 20 + row * height, x + width, 20 + (row + 1) * height)
            draw.rectangle(box, outline=_GREY, fill=_PALE if row == 0 else None)
            draw.text((x + 10, box[1] + letter // 2), cell, fill=_INK, font=_font(letter))
            x += width
    return picture


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _of(shows: str, *pictures: Image.Image, **given: str) -> Sample:
    return Sample(tuple(map(_png, pictures)), given, shows)


def _word() -> Sample:
    picture = Image.new("RGB", (256, 160), "white")
    ImageDraw.Draw(picture).text((60, 40), "CAT", fill=(0, 0, 0), font=_font(72))
    return _of("the word CAT", picture)


def _lines() -> Sample:
    return _of("three lines", _page(["# OPEN", "Monday to Friday", "9:00 - 17:30"], size=(480, 200)))


def _receipt() -> Sample:
    lines = [
        "# GREEN MARKET", "12 Mill Lane, Leeds", "2026-03-14   10:42", "", "Apples  1.5 kg x 2.40      3.60",
        "Bread                      2.95", "Milk  2 x 1.20             2.40", "",
        "TOTAL GBP                  8.95", "Paid by card",
    ]  # fmt: skip
    return _of("a total of 8.95 GBP for three items, on 2026-03-14", _page(lines, size=(480, 480)))


def _invoice() -> Sample:
    lines = [
        "# INVOICE 2026-0117", "Date 2026-02-01     Due 2026-03-03", "From: Nord Paper GmbH, Hafenweg 3, Kiel",
        "VAT DE123456789", "To: Lena Books, 4 Quay St, Cork", "", "10 boxes  Paper A4   a 21.00     210.00",
        " 2 pcs    Stapler    a  9.50      19.00", "", "Net EUR  229.00", "VAT 19 %  43.51", "Total EUR  272.51",
    ]  # fmt: skip
    return _of("invoice 2026-0117 over 272.51 EUR, two lines", _page(lines, size=(620, 560)))


def _table() -> Sample:
    rows = (
        ("City", "People", "Area"),
        ("Leeds", "812,000", "552"),
        ("Cork", "224,000", "187"),
        ("Kiel", "247,000", ""),
    )
    return _of("three cities in three columns, one cell empty", _columns(rows, widths=(140, 160, 120)))


def _chart() -> Sample:
    picture = _page(["Cups of tea sold"], size=(520, 380), letter=24)
    draw = ImageDraw.Draw(picture)
    draw.line((60, 90, 60, 320, 490, 320), fill=_INK, width=2)
    for at, (day, value) in enumerate((("Mon", 40), ("Tue", 65), ("Wed", 25), ("Thu", 80))):
        x = 90 + at * 100
        draw.rectangle((x, 320 - value * 2.5, x + 60, 319), fill=_BLUE)
        draw.text((x + 12, 328), day, fill=_INK, font=_font(18))
        draw.text((x + 18, 296 - value * 2.5), str(value), fill=_INK, font=_font(18))
    return _of("bars of 40, 65, 25 and 80 for Mon to Thu", picture)


def _window(title: str, lines: Sequence[str], buttons: Sequence[str]) -> Image.Image:
    picture = _page(["", *lines], size=(560, 300), letter=20)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 559, 40), fill=(60, 70, 90))
    draw.text((16, 9), title, fill="white", font=_font(20))
    for at, name in enumerate(buttons):
        x = 420 - at * 140
        draw.rounded_rectangle((x, 240, x + 120, 280), 8, fill=_BLUE if at == 0 else _PALE, outline=_GREY)
        draw.text((x + 20, 249), name, fill="white" if at == 0 else _INK, font=_font(20))
    draw.rectangle((0, 0, 559, 299), outline=_GREY)
    return picture


def _gui() -> Sample:
    picture = _window("Sign in", ["E-mail", "", "Password"], ["Sign in", "Cancel"])
    draw = ImageDraw.Draw(picture)
    for y in (55, 115):
        draw.rectangle((160, y, 520, y + 36), outline=_GREY, width=2)
    return _of("a window with two fields and the buttons Sign in and Cancel", picture)


def _support() -> Sample:
    lines = ["The file report.docx cannot be saved.", "Error 112: the disk is full.", "0 bytes of 256 GB are free."]
    return _of("an error 112, the disk is full", _window("Writer", lines, ["Retry", "Cancel"]))


def _product() -> Sample:
    picture = _page(
        [
            "# Trail Mug 400 ml",
            "Steel, keeps warm for 6 hours",
            "Blue or red",
            "",
            "EUR 18.90",
            "2 for 30 until Sunday",
        ],
        size=(620, 320),
    )
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((440, 110, 540, 250), 12, fill=_BLUE)
    draw.arc((510, 140, 590, 220), 270, 90, fill=_BLUE, width=16)
    return _of("a steel mug for 18.90 EUR, 2 for 30", picture)


def _homework() -> Sample:
    return _of("a linear equation; x is 4", _page(["Exercise 3", "Solve for x:", "# 3x + 5 = 17"], size=(420, 200)))


def _handwriting() -> Sample:
    note = _page(["Dear Ann,", "the key is under", "the blue pot.", "Tom"], size=(420, 240), letter=30)
    slanted = note.transform(note.size, Image.Transform.AFFINE, (1, 0.25, -40, 0, 1, 0), fillcolor="white")
    return _of("a note of four lines (slanted print, no real handwriting)", slanted)


def _html() -> Sample:
    picture = Image.new("RGB", (640, 400), _PALE)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 640, 64), fill=(30, 60, 110))
    draw.text((24, 18), "Quiet Cafe", fill="white", font=_font(28))
    for at, name in enumerate(("Tea", "Coffee", "Cake")):
        x = 24 + at * 204
        draw.rounded_rectangle((x, 100, x + 184, 300), 12, fill="white", outline=(200, 204, 212))
        draw.text((x + 20, 120), name, fill=_INK, font=_font(24))
        draw.rectangle((x + 20, 165, x + 164, 280), fill=(205, 190, 160))
    draw.text((24, 345), "Open every day, 8 to 18", fill=_GREY, font=_font(20))
    return _of("a dark blue header, three white cards in a row, a line below", picture)


def _document() -> Sample:
    lines = [
        "# Water report", "The spring was measured twice in May.", "", "1. Clear, 9 degrees", "2. Cloudy, 11 degrees",
        "", "Both samples are fit to drink.", "", "                    - 7 -",
    ]  # fmt: skip
    return _of("a heading, two sentences, a list of two, a page number to leave out", _page(lines, size=(560, 440)))


def _timeline() -> Sample:
    empty = Image.new("RGB", (256, 256), "white")
    first, second = empty.copy(), empty.copy()
    ImageDraw.Draw(first).ellipse((40, 90, 110, 160), fill=_RED)
    ImageDraw.Draw(second).ellipse((40, 90, 110, 160), fill=_RED)
    ImageDraw.Draw(second).rectangle((150, 90, 220, 160), fill=_BLUE)
    pictures = tuple(map(_png, (empty, first, second)))
    return Sample(pictures, {}, "nothing, from 1 s a red circle, from 2 s a blue square too", (0.0, 1.0, 2.0))


_SAMPLES: Mapping[str, Callable[[], Sample]] = {
    "describe": lambda: _of(_SCENE, _scene()),
    "ocr": _word,
    "ocr-layout": _lines,
    "receipt": _receipt,
    "invoice": _invoice,
    "table": _table,
    "chart": _chart,
    "gui": _gui,
    "locate": lambda: _of(_SCENE, _scene(), thing="red circle"),
    "count": lambda: _of(_SCENE, _scene(), things="shapes"),
    "compare": lambda: _of(
        f"first {_SCENE}; second a green triangle and a purple circle", _scene(), _other_scene(), thing="blue square"
    ),
    "spatial": lambda: _of(_SCENE, _scene(), thing="yellow star"),
    "product": _product,
    "support": _support,
    "homework": _homework,
    "moderate": lambda: _of(f"{_SCENE}: nothing to object to", _scene()),
    "handwriting": _handwriting,
    "html": _html,
    "document": _document,
    "timeline": _timeline,
}
