"""From pixels to what a terminal draws: half blocks, Kitty's placeholders, sixels. Knows no widget.

All three are made row by row, so that a picture can scroll, be cut by the edge of a pane or lie under a window like any
other text. Half blocks are always made: the other two are laid over them, and where they cannot be, half blocks show.

textual-image is not used for this: it asks the terminal when it is imported, sends a whole sixel picture from the last
of its rows, which then covers what lies above it, and deletes Kitty's pictures by a number they do not have.
"""

from __future__ import annotations

import base64
import io
import os
import re
from typing import TYPE_CHECKING

from rich.color import Color, ColorSystem
from rich.segment import ControlType, Segment
from rich.style import Style
from textual.strip import Strip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

_PLACEHOLDER = "\U0010eeee"

# https://sw.kovidgoyal.net/kitty/_downloads/f0a0de9ec8d9ff4456206db8e0814937/rowcolumn-diacritics.txt, as ranges
_DIACRITICS = """
305 30d-30e 310 312 33d-33f 346 34a-34c 350-352 357 35b 363-36f 483-487 592-595 597-599 59c-5a1 5a8-5a9 5ab-5ac 5af 5c4
610-617 657-65b 65d-65e 6d6-6dc 6df-6e2 6e4 6e7-6e8 6eb-6ec 730 732-733 735-736 73a 73d 73f-741 743 745 747 749-74a
7eb-7f1 7f3 816-819 81b-823 825-827 829-82d 951 953-954 f82-f83 f86-f87 135d-135f 17dd 193a 1a17 1a75-1a7c 1b6b
1b6d-1b73 1cd0-1cd2 1cda-1cdb 1ce0 1dc0-1dc1 1dc3-1dc9 1dcb-1dcc 1dd1-1de6 1dfe 20d0-20d1 20d4-20d7 20db-20dc 20e1 20e7
20e9 20f0 2cef-2cf1 2de0-2dff a66f a67c-a67d a6f0-a6f1 a8e0-a8f1 aab0 aab2-aab3 aab7-aab8 aabe-aabf aac1 fe20-fe26
10a0f 10a38 1d185-1d189 1d1aa-1d1ad 1d242-1d244
"""
_MARKS = [
    chr(code)
    for first, _, last in (span.partition("-") for span in _DIACRITICS.split())
    for code in range(int(first, 16), int(last or first, 16) + 1)
]

MOST_CELLS = len(_MARKS)
"""Most columns and rows that a picture may have: Kitty's protocol has no more marks to number them."""

_BAND = 6
_SIXEL_COLORS = 128  # of 256 that there may be: half as much to send, and hard to tell apart

_CONTROL = ((ControlType.CURSOR_FORWARD, 0),)  # takes no cell; Rich and Textual leave the text as it is


def half_blocks(image: Image, columns: int, rows: int) -> list[Strip]:
    """`image` in RGB as `rows` strips of `columns` cells, each showing two pixels one above the other."""
    from PIL.Image import Resampling

    pixels = image.resize((columns, rows * 2), Resampling.BOX).tobytes()
    line = columns * 3
    return [_half_block_row(pixels[at : at + line], pixels[at + line : at + 2 * line]) for at in _every(2 * line, rows)]


def _every(step: int, times: int) -> range:
    return range(0, step * times, step)


def _half_block_row(upper: bytes, lower: bytes) -> Strip:
    segments: list[Segment] = []
    begun, pair = 0, (upper[:3], lower[:3])
    for at in range(3, len(upper) + 3, 3):
        following = (upper[at : at + 3], lower[at : at + 3])
        if following != pair:  # also behind the last pixel, where both are empty
            style = Style(color=Color.from_rgb(*pair[0]), bgcolor=Color.from_rgb(*pair[1]))
            segments.append(Segment("▀" * ((at - begun) // 3), style))
            begun, pair = at, following
    return Strip(segments, len(upper) // 3)


def kitty_number(colors: str) -> tuple[int, str] | None:
    """A number for a picture, by chance, and the colour "#rrggbb" that says it where there are as many `colors`.

    The colour carries its lower 24 bits, and Rich rounds colours to what the terminal has: the number is that of the
    colour which arrives. `colors` is what Rich calls them; None for too few to tell pictures apart.
    """
    red, green, blue, highest = (part or 1 for part in os.urandom(4))
    color = Color.from_rgb(red, green, blue)
    if colors == "truecolor":
        return highest << 24 | red << 16 | green << 8 | blue, color.name
    if colors == "256":
        return highest << 24 | (color.downgrade(ColorSystem.EIGHT_BIT).number or 0), color.name
    return None


def kitty_upload(number: int, image: Image, columns: int, rows: int) -> str:
    """What gives the terminal `image` as picture `number`, to be shown at its placeholders on columns x rows cells."""
    held = io.BytesIO()
    image.save(held, "PNG", compress_level=1)
    data = base64.b64encode(held.getvalue()).decode()
    pieces = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    first = f"a=T,U=1,f=100,q=2,i={number},c={columns},r={rows},"
    last = len(pieces) - 1
    return "".join(_kitty(f"{'q=2,' if at else first}m={int(at < last)};{piece}") for at, piece in enumerate(pieces))


def kitty_delete(number: int) -> str:
    """What makes the terminal forget picture `number`."""
    return _kitty(f"a=d,d=I,i={number},q=2")


def _kitty(message: str) -> str:
    command = f"\x1b_G{message}\x1b\\"
    if "TMUX" in os.environ:  # handed on to the terminal around it
        return f"\x1bPtmux;{command.replace(chr(27), chr(27) * 2)}\x1b\\"
    return command


def kitty_rows(number: int, color: str, columns: int, rows: int) -> list[Strip]:
    """The placeholders at which picture `number` is shown; `color` is what came with it."""
    style, highest = Style(color=color), _MARKS[number >> 24]
    return [
        Strip([Segment("".join(_PLACEHOLDER + mark + other + highest for other in _MARKS[:columns]), style)], columns)
        for mark in _MARKS[:rows]
    ]


def sixel_rows(image: Image, columns: int, rows: int, cell: tuple[int, int]) -> list[str]:
    """`image` in RGB as one sixel picture for each row of cells, with the colours that this row needs."""
    import numpy as np
    from PIL.Image import Quantize

    width, height = columns * cell[0], rows * cell[1]
    reduced = image.resize((width, height)).quantize(_SIXEL_COLORS, method=Quantize.FASTOCTREE)
    indices = np.frombuffer(reduced.tobytes(), np.uint8).reshape(height, width)
    palette = reduced.getpalette() or []
    registers = [
        f"#{at // 3};2;" + ";".join(str(round(part * 100 / 255)) for part in palette[at : at + 3])
        for at in range(0, len(palette), 3)
    ]
    said = []
    for top in range(0, height, cell[1]):
        row = indices[top : top + cell[1]]
        bands = "-".join(_band(row[at : at + _BAND]) for at in range(0, cell[1], _BAND))
        needed = "".join(registers[index] for index in np.unique(row))
        said.append(f'\x1bP0;1;0q"1;1;{width};{cell[1]}{needed}{bands}\x1b\\')
    return said


def _band(indices: NDArray[np.uint8]) -> str:
    """Up to six lines of pixels, [lines, width], one colour after the other."""
    import numpy as np

    colors = np.unique(indices)
    pixels = indices == colors[:, None, None]
    columns = np.packbits(pixels, axis=1, bitorder="little")[:, 0]
    return "$".join(f"#{color}{_sixels(bits.tobytes())}" for color, bits in zip(colors, columns, strict=True))


_TO_SIXEL = bytes(min(value + 63, 126) for value in range(256))
_RUN = re.compile(r"(.)\1{3,}")


def _sixels(columns: bytes) -> str:
    """A band of one colour: a character for six pixels, runs shortened, what is empty at the end left out."""
    text = columns.rstrip(b"\0").translate(_TO_SIXEL).decode()
    return _RUN.sub(lambda run: f"!{len(run[0])}{run[1]}", text)


def with_sixels(strip: Strip, sixels: str, column: int) -> Strip:
    """`strip`, and once it is drawn `sixels` over it, from the screen's `column` (from 0) on.

    They hang on the strip's end: where something covers its right part, Textual cuts it and they fall off.
    """
    return Strip([*strip, Segment(f"\x1b7\x1b[{column + 1}G{sixels}\x1b8", Style.null(), _CONTROL)], strip.cell_length)
