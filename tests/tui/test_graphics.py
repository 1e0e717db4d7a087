"""Pixels as half blocks, Kitty's placeholders and sixels, read back by decoders of their own."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image
from rich.color import Color, ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from gguf_vl.tui import graphics


def drawing(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Red with a blue lower right quarter."""
    image = Image.new("RGB", size, "#ff0000")
    image.paste("#0000ff", (size[0] // 2, size[1] // 2, *size))
    return image


def pixels_of(sixels: str) -> Image.Image:
    """What a terminal draws for one sixel picture; black where it draws nothing."""
    match = re.fullmatch(r'\x1bP0;1;0q"1;1;(\d+);(\d+)(.*)\x1b\\', sixels, re.DOTALL)
    assert match
    image = Image.new("RGB", (int(match[1]), int(match[2])))
    colors: dict[int, tuple[int, ...]] = {}
    color, x, top = 0, 0, 0
    for token in re.finditer(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)(.)|([$-])|([?-~])", match[3]):
        if token[1]:
            colors[int(token[1])] = tuple(round(int(part) * 2.55) for part in token.groups()[1:4])
        elif token[5]:
            color = int(token[5])
        elif token[8]:
            x, top = 0, top + (6 if token[8] == "-" else 0)
        else:
            bits, times = ord(token[7] or token[9]) - 63, int(token[6] or 1)
            for bit in range(6):
                for column in range(x, x + times) if bits >> bit & 1 else ():
                    image.putpixel((column, top + bit), colors[color])  # raises outside the picture
            x += times
    return image


def test_half_blocks_show_two_pixels_a_cell() -> None:
    strips = graphics.half_blocks(drawing(), 8, 3)

    assert [strip.cell_length for strip in strips] == [8, 8, 8]
    assert [strip.text for strip in strips] == ["▀" * 8] * 3
    (red, mixed) = strips[1]
    assert red.style == Style(color="#ff0000", bgcolor="#ff0000")
    assert mixed.style == Style(color="#ff0000", bgcolor="#0000ff")


def test_sixels_are_the_picture_row_by_row() -> None:
    rows = graphics.sixel_rows(drawing((80, 60)), 8, 3, (10, 20))

    together = Image.new("RGB", (80, 60))
    for at, row in enumerate(rows):
        assert pixels_of(row).size == (80, 20)
        together.paste(pixels_of(row), (0, at * 20))
    assert together.getpixel((1, 1)) == together.getpixel((79, 1)) == together.getpixel((1, 59)) == (255, 0, 0)
    assert together.getpixel((79, 59)) == together.getpixel((41, 31)) == (0, 0, 255)


def test_sixels_of_many_colours_are_near_the_picture() -> None:
    picture = Image.merge("RGB", [Image.linear_gradient("L").resize((90, 54)).rotate(turn) for turn in (0, 90, 180)])

    rows = graphics.sixel_rows(picture, 9, 3, (10, 18))

    for at, row in enumerate(rows):
        shown = pixels_of(row)
        for x in range(0, 90, 7):
            for y in range(18):
                wanted = picture.getpixel((x, at * 18 + y))
                assert isinstance(wanted, tuple)
                assert all(abs(one - other) < 48 for one, other in zip(shown.getpixel((x, y)), wanted, strict=True))


def test_sixels_fall_off_a_strip_that_is_cut() -> None:
    strip = graphics.with_sixels(Strip([Segment("▀" * 6)], 6), "SIXELS", 4)

    assert strip.cell_length == 6
    assert "".join(segment.text for segment in strip) == "▀" * 6 + "\x1b7\x1b[5GSIXELS\x1b8"
    assert [piece.text for piece in strip.divide([2, 6])] == ["▀▀", "▀▀▀▀"]


@pytest.mark.parametrize("tmux", [False, True])
def test_kitty_is_given_the_picture_and_told_to_forget_it(monkeypatch: pytest.MonkeyPatch, tmux: bool) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    if tmux:
        monkeypatch.setenv("TMUX", "/tmp/tmux,1,0")
    noise = Image.effect_noise((200, 200), 90).convert("RGB")  # more than fits one message

    said = graphics.kitty_upload(77, noise, 20, 10)

    if tmux:
        wrapped = re.findall(r"\x1bPtmux;((?:\x1b\x1b|[^\x1b])*)\x1b\\", said)
        said = "".join(wrapped).replace("\x1b\x1b", "\x1b")
    messages = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", said)
    assert len(messages) > 1
    assert messages[0][0] == "a=T,U=1,f=100,q=2,i=77,c=20,r=10,m=1"
    assert {keys for keys, _ in messages[1:-1]} == {"q=2,m=1"}
    assert messages[-1][0] == "q=2,m=0"
    assert max(len(data) for _, data in messages) <= 4096
    arrived = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in messages))))
    assert arrived.tobytes() == noise.tobytes()
    assert "a=d,d=I,i=77" in graphics.kitty_delete(77)


def test_placeholders_name_their_row_and_column_and_can_be_cut() -> None:
    strips = graphics.kitty_rows(2 << 24 | 0x010203, "#010203", 5, 2)

    assert [strip.cell_length for strip in strips] == [5, 5]
    piece = strips[1].crop(1, 3)
    assert piece.text == "\U0010eeee\u030d\u030d\u030e\U0010eeee\u030d\u030e\u030e"  # row 1, columns 1 and 2, byte 2
    assert graphics.MOST_CELLS == 297


def test_the_colour_of_placeholders_says_the_number_as_it_arrives() -> None:
    for _ in range(50):
        number, color = graphics.kitty_number("truecolor") or (0, "")
        assert number & 0xFFFFFF == int(color[1:], 16)
        number, color = graphics.kitty_number("256") or (0, "")
        assert number & 0xFFFFFF == Color.parse(color).downgrade(ColorSystem.EIGHT_BIT).number
        assert number >> 24
    assert graphics.kitty_number("standard") is None
