"""Boxes that can be seen and read on any picture, and thumbnails of any."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.boxes import Box, Point
from gguf_vl.media.drawing import COLOURS, draw_boxes, original, thumbnail
from gguf_vl.media.lettering import Lettering
from gguf_vl.types import PictureLimits

from .documents import pdf
from .drawn import BLUE, RED, encoded, near, quarters

GREY = (128, 128, 128)
HEIC = (Path(__file__).parent / "quarters_turned.heic").read_bytes()


def ground(size: tuple[int, int] = (640, 480)) -> Image.Image:
    return Image.new("RGB", size, GREY)


def colours_of(picture: Image.Image) -> set[tuple[int, int, int]]:
    counted = picture.getcolors(1 << 20)
    assert counted
    return {colour for _, colour in counted if colour in COLOURS}  # type: ignore[misc]


def changed(picture: Image.Image) -> tuple[int, int, int, int] | None:
    return ImageChops.difference(picture, Image.new("RGB", picture.size, GREY)).getbbox()


def test_the_picture_itself_stays_as_it_is() -> None:
    picture = ground()
    drawn = draw_boxes(picture, [Box("cat", 10, 50, 200, 200)])
    assert changed(picture) is None
    assert changed(drawn)
    assert draw_boxes(picture, []) == picture


def test_a_box_is_drawn_on_its_own_edges_and_its_inside_is_left() -> None:
    drawn = draw_boxes(ground(), [Box("cat", 100, 150, 300, 350)])
    assert drawn.getpixel((200, 250)) == GREY
    assert drawn.getpixel((100, 250)) != GREY
    assert drawn.getpixel((299, 250)) != GREY
    assert drawn.getpixel((99, 250)) == drawn.getpixel((300, 250)) == drawn.getpixel((200, 350)) == GREY


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_pictures_of_any_mode_become_rgb(mode: str) -> None:
    assert draw_boxes(Image.new(mode, (64, 48)), [Box("cat", 5, 20, 40, 40)]).mode == "RGB"


def test_labels_have_a_colour_each_and_equal_ones_the_same() -> None:
    def boxes(*labels: str) -> list[Box]:
        return [Box(label, 10 + 70 * at, 60, 70 + 70 * at, 120) for at, label in enumerate(labels)]

    assert len(colours_of(draw_boxes(ground(), boxes("cat", "dog", "cat")))) == 2
    assert len(colours_of(draw_boxes(ground(), boxes("cat", "cat", "cat")))) == 3
    assert len(colours_of(draw_boxes(ground(), boxes(*"abcdefg")))) == 7


@pytest.mark.parametrize("colour", [*COLOURS, (0, 0, 0), (255, 255, 255), GREY])
def test_a_box_is_seen_on_a_ground_of_any_colour(colour: tuple[int, int, int]) -> None:
    drawn = draw_boxes(Image.new("RGB", (640, 480), colour), [Box("", 100, 150, 300, 350)])
    across = {drawn.getpixel((x, 250)) for x in range(100, 110)}
    lightness = [sum(each) for each in across]  # type: ignore[arg-type]
    assert max(lightness) - min(lightness) > 400


def test_lines_are_thin_on_small_objects() -> None:
    for side in (3, 8, 20, 60):
        drawn = draw_boxes(ground((1600, 1200)), [Box("", 700, 600, 700 + side, 600 + side)])
        inside = [drawn.getpixel((x, y)) for x in range(700, 700 + side) for y in range(600, 600 + side)]
        assert inside.count(GREY) >= len(inside) // 9


def test_a_label_stands_above_its_box_where_there_is_room_and_else_below_or_inside() -> None:
    above = changed(draw_boxes(ground(), [Box("cat", 100, 200, 300, 400)]))
    below = changed(draw_boxes(ground(), [Box("cat", 100, 0, 300, 300)]))
    inside = changed(draw_boxes(ground(), [Box("cat", 0, 0, 640, 480)]))
    assert above
    assert above[1] < 200
    assert above[3] == 400
    assert below
    assert below[3] > 300
    assert inside == (0, 0, 640, 480)


def test_labels_of_boxes_on_one_place_stand_apart() -> None:
    def label(drawn: Image.Image, colour: tuple[int, int, int]) -> int:
        drawn.paste(GREY, (100, 200, 200, 300))  # the boxes themselves
        return sum(count for count, found in drawn.getcolors(1 << 20) or () if found == colour)

    one, two = Box("one word", 100, 200, 200, 300), Box("another", 100, 200, 200, 300)
    both = draw_boxes(ground(), [one, two])
    for colour, box in zip(COLOURS, (one, two), strict=False):
        alone = draw_boxes(ground(), [box])
        assert label(both, colour) == label(alone, COLOURS[0]) > 100


sides = st.integers(1, 300)
near_it = st.integers(-50, 350)


@settings(max_examples=60)
@given(
    size=st.tuples(sides, sides),
    boxes=st.lists(st.builds(Box, st.text(max_size=30), near_it, near_it, near_it, near_it), max_size=5),
)
def test_any_boxes_on_a_picture_of_any_size_are_drawn(size: tuple[int, int], boxes: list[Box]) -> None:
    ordered = []
    for box in boxes:
        (x1, x2), (y1, y2) = sorted((box.x1, box.x2)), sorted((box.y1, box.y2))
        ordered.append(Box(box.label, x1, y1, x2, y2))
    assert draw_boxes(ground(size), ordered).size == size


def test_a_long_label_is_cut_to_the_picture() -> None:
    lettering = Lettering(20)
    short = lettering.shortened("a very long label of something " * 5, 150)
    assert short.endswith("..")
    assert lettering.width(short) <= 150
    assert lettering.shortened("cat", 150) == "cat"


def test_a_label_keeps_the_letters_that_can_be_written() -> None:
    lettering = Lettering(20)
    assert lettering.writable("a\n cat \N{CAT FACE}\uffff") in ("a cat", "a cat \N{CAT FACE}")
    assert lettering.writable("café") in ("café", "cafe")


@pytest.mark.skipif(not Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf").exists(), reason="needs its font")
def test_letters_of_another_script_come_from_a_font_of_the_system() -> None:
    lettering = Lettering(20)
    assert lettering.writable("кошка") == "кошка"
    assert lettering.font("кошка").getname() != lettering.font("cat").getname()


def test_a_label_that_no_font_can_write_is_the_boxs_number() -> None:
    unwritable = Box("\uffff\uffff", 100, 200, 300, 400)
    number = Box("1", 100, 200, 300, 400)
    assert draw_boxes(ground(), [unwritable]) == draw_boxes(ground(), [number])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_a_thumbnail_fits_and_keeps_its_shape(format: str, tmp_path: Path) -> None:
    data = encoded(quarters((1200, 600)), format)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for source in (data, path, str(path)):
        small = thumbnail(source, (100, 100))
        assert (small.mode, small.size) == ("RGB", (100, 50))
    assert near(small.getpixel((10, 10)), RED)  # type: ignore[arg-type]
    assert thumbnail(data, (1000, 20)).size == (40, 20)


def test_a_thumbnail_is_never_larger_than_the_picture() -> None:
    assert thumbnail(encoded(quarters((96, 64)), "PNG"), (500, 500)).size == (96, 64)
    assert thumbnail(encoded(quarters((1000, 2)), "PNG"), (50, 50)).size == (50, 1)


def test_a_thumbnail_is_upright_and_on_white() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = thumbnail(encoded(quarters((1200, 600)), "JPEG", exif=exif), (100, 100))
    assert turned.size == (50, 100)
    assert near(turned.getpixel((10, 10)), BLUE)  # type: ignore[arg-type]
    clear = encoded(Image.new("RGBA", (64, 64)), "PNG")
    assert thumbnail(clear, (10, 10)).getpixel((5, 5)) == (255, 255, 255)


def test_a_thumbnail_of_a_phones_photo_is_made_apart() -> None:
    pytest.importorskip("pi_heif")
    small = thumbnail(HEIC, (30, 30))
    assert max(small.size) == 30


def test_a_thumbnail_of_a_document_is_its_first_page(tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf((RED, BLUE)))
    small = thumbnail(path, (50, 50))
    assert small.size == (25, 50)
    assert near(small.getpixel((10, 10)), RED)  # type: ignore[arg-type]


def test_what_is_no_picture_has_no_thumbnail() -> None:
    for data in (b"", b"hello", encoded(quarters(), "PNG")[:60], pdf()):
        with pytest.raises(InvalidPicture):
            thumbnail(data, (50, 50))


def test_a_point_is_a_disc_with_its_label() -> None:
    drawn = draw_boxes(ground(), [], [Point("nose", 320, 240)])
    assert drawn.getpixel((320, 240)) == COLOURS[0]
    assert drawn.getpixel((320, 300)) == GREY
    assert colours_of(drawn) == {COLOURS[0]}


def test_points_stand_above_boxes_and_have_the_colour_of_their_label() -> None:
    drawn = draw_boxes(ground(), [Box("face", 200, 100, 440, 400)], [Point("nose", 320, 240), Point("face", 300, 300)])
    assert drawn.getpixel((320, 240)) == COLOURS[1]
    assert drawn.getpixel((300, 300)) == COLOURS[0]


@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 90), st.integers(0, 90))
def test_a_point_at_any_edge_of_any_picture_is_seen(width: int, height: int, x: int, y: int) -> None:
    drawn = draw_boxes(ground((width, height)), [], [Point("p", min(x, width), min(y, height))])
    assert drawn.size == (width, height)
    assert changed(drawn)


def test_the_original_is_upright_and_in_its_own_size() -> None:
    assert original(HEIC, PictureLimits(1, 1)).size == thumbnail(HEIC, (9999, 9999)).size
    assert original(encoded(quarters((90, 60)), "PNG"), PictureLimits(1, 1)).size == (90, 60)
