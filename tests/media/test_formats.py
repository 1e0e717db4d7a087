"""Every format and pixel mode, from a real file to the colours that the model sees."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gguf_vl.media.pictures import load_picture
from gguf_vl.types import Picture, PictureLimits

from . import drawn
from .drawn import BLUE, GREEN, RED, SIDE, WHITE, WIDE, YELLOW, encoded, near, pixel, quarters

FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {"quality": 95, "subsampling": 0}),
    ("JPEG", {"quality": 95, "progressive": True, "subsampling": 0}),
    ("MPO", {"quality": 95, "subsampling": 0, "save_all": True, "append_images": [Image.new("RGB", SIDE)]}),
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"quality": 95}),
    ("GIF", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate", "big_tiff": True}),
    ("TIFF", {"compression": "jpeg", "quality": 95}),
    ("AVIF", {"quality": 95, "speed": 10}),
]


@pytest.mark.parametrize(("format", "options"), FORMATS, ids=[" ".join([f, *map(str, o)]) for f, o in FORMATS])
def test_a_file_of_every_format_is_read(format: str, options: dict[str, Any]) -> None:
    picture = load_picture(encoded(quarters(), format, **options), WIDE)
    assert (picture.width, picture.height) == picture.original_size == SIDE
    assert all(map(near, drawn.corners(picture), [RED, GREEN, BLUE, YELLOW]))


def test_a_lossless_picture_of_whole_patches_arrives_pixel_for_pixel() -> None:
    assert load_picture(encoded(quarters(), "PNG"), WIDE).rgb == quarters().tobytes()


def test_a_picture_is_resized_straight_with_pillows_bicubic() -> None:
    original = quarters((300, 200))
    picture = load_picture(encoded(original, "PNG"), PictureLimits(4, 24))
    assert (picture.width, picture.height, picture.original_size) == (192, 128, (300, 200))
    assert picture.tokens == 24
    assert picture.rgb == original.resize((192, 128), Image.Resampling.BICUBIC).tobytes()


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_or_page_is_the_one_that_is_read(format: str) -> None:
    later = Image.new("RGB", SIDE, BLUE)
    data = encoded(Image.new("RGB", SIDE, RED), format, save_all=True, append_images=[later, later])
    assert near(pixel(load_picture(data, WIDE), 48, 32), RED)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [RED, GREEN, BLUE, YELLOW]),
        (2, [GREEN, RED, YELLOW, BLUE]),
        (3, [YELLOW, BLUE, GREEN, RED]),
        (4, [BLUE, YELLOW, RED, GREEN]),
        (5, [RED, BLUE, GREEN, YELLOW]),
        (6, [BLUE, RED, YELLOW, GREEN]),
        (7, [YELLOW, GREEN, BLUE, RED]),
        (8, [GREEN, YELLOW, RED, BLUE]),
    ],
)
def test_the_picture_is_upright_whatever_its_orientation(
    format: str, orientation: int, expected: list[drawn.Colour]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if format in ("JPEG", "AVIF", "WEBP") else {}
    picture = load_picture(encoded(quarters(), format, exif=exif, **options), WIDE)
    assert picture.original_size == ((64, 96) if 5 <= orientation <= 8 else (96, 64))
    assert all(near(found, wished, 16) for found, wished in zip(drawn.corners(picture), expected, strict=True))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0no TIFF header here", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\1\3\0\1\0\0\0\x09\0\0\0"]
)
def test_a_picture_with_damaged_exif_or_an_unknown_orientation_is_shown_as_it_is_stored(exif: bytes) -> None:
    data = encoded(quarters(), "JPEG", quality=95, exif=exif)
    assert all(map(near, drawn.corners(load_picture(data, WIDE)), [RED, GREEN, BLUE, YELLOW]))


def test_a_heic_photo_is_read_upright() -> None:
    pytest.importorskip("pi_heif")
    picture = load_picture(Path(__file__).parent / "quarters_turned.heic", WIDE)
    assert picture.original_size == (128, 192)
    assert all(map(near, drawn.corners(picture), [BLUE, RED, YELLOW, GREEN]))


RAMP = [round(column * 65535 / 63) for column in range(64)]


def assert_ramp(picture: Picture, tolerance: int = 1) -> None:
    """The 16-bit ramp in 8 bits: from black to white without a jump, nothing clipped."""
    shown = [pixel(picture, x, 16) for x in range(64)]
    for (red, green, blue), value in zip(shown, RAMP, strict=True):
        assert red == green == blue
        assert abs(red - value / 257) <= tolerance


@pytest.mark.parametrize("channels", [1, 3, 2, 4], ids=["grey", "RGB", "grey and alpha", "RGBA"])
def test_a_png_of_16_bits_is_scaled_and_not_clipped(channels: int) -> None:
    colour = {1: 0, 3: 2, 2: 4, 4: 6}[channels]
    solid = channels in (2, 4)
    row = b"\0" + b"".join(
        struct.pack(f">{channels}H", *[value] * (channels - solid), *[65535] * solid) for value in RAMP
    )
    assert_ramp(load_picture(drawn.png(64, 32, 16, colour, row * 32), WIDE))


@pytest.mark.parametrize("big_endian", [False, True], ids=["little-endian", "big-endian"])
@pytest.mark.parametrize("channels", [1, 3, 4], ids=["grey", "RGB", "RGBA"])
def test_a_tiff_of_16_bits_is_scaled_and_not_clipped(channels: int, big_endian: bool) -> None:
    order = ">" if big_endian else "<"
    row = b"".join(
        struct.pack(f"{order}{channels}H", *[value] * min(channels, 3), *[65535] * (channels == 4)) for value in RAMP
    )
    photometric = 1 if channels == 1 else 2
    data = drawn.tiff(64, 32, row * 32, bits=(16,) * channels, photometric=photometric, big_endian=big_endian)
    assert_ramp(load_picture(data, WIDE))


def test_a_16_bit_tiff_whose_zero_is_white_is_not_shown_as_a_negative() -> None:
    row = struct.pack("<64H", *[65535 - value for value in RAMP])
    assert_ramp(load_picture(drawn.tiff(64, 32, row * 32, bits=(16,), photometric=0, big_endian=False), WIDE))


def test_a_12_bit_tiff_reaches_white() -> None:
    row = b"".join(bytes([0xFF, 0xFF, 0xFF]) if pair >= 16 else bytes(3) for pair in range(32))
    picture = load_picture(drawn.tiff(64, 32, row * 32, bits=(12,), photometric=1, big_endian=False), WIDE)
    assert [pixel(picture, x, 0) for x in (0, 63)] == [(0, 0, 0), WHITE]


@pytest.mark.parametrize(
    ("mode", "scale", "shift"),
    [("F", 1 / 65535, 0), ("F", 255 / 65535, 0), ("F", 1, 0), ("F", 20, -9e5), ("I", 1, 0), ("I", 20, -70000)],
    ids=["F to 1", "F to 255", "F to 65535", "F of any range", "I to 65535", "I of any range"],
)
def test_32_bit_grey_is_scaled_by_its_range(mode: str, scale: float, shift: float) -> None:
    picture = Image.new(mode, (64, 32))
    for x, value in enumerate(RAMP):
        stored = value * scale + shift
        picture.paste(stored if mode == "F" else round(stored), (x, 0, x + 1, 32))
    assert_ramp(load_picture(encoded(picture, "TIFF"), WIDE))


def test_32_bit_grey_of_one_single_value_is_no_error() -> None:
    load_picture(encoded(Image.new("F", (64, 32), -5.0), "TIFF"), WIDE)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
@pytest.mark.parametrize(
    ("ink", "seen"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 255, 0), (0, 255, 0)),
        ((255, 255, 0, 0), (0, 0, 255)),
    ],
    ids=["paper", "black", "red", "green", "blue"],
)
def test_cmyk_inks_come_out_as_their_colours(format: str, ink: tuple[int, ...], seen: drawn.Colour) -> None:
    data = encoded(Image.new("CMYK", SIDE, ink), format)
    if format == "JPEG":
        assert b"Adobe" in data, "the file is to be one of Adobe's inverted ones"
    assert near(pixel(load_picture(data, WIDE), 40, 30), seen, 30)


def half_transparent(mode: str) -> Image.Image:
    """Red (or its grey) on the left; on the right black, above wholly and below half transparent."""
    picture = Image.new("RGBA", SIDE, (0, 0, 0, 0))
    picture.paste((*RED, 255), (0, 0, 48, 64))
    picture.paste((0, 0, 0, 128), (48, 32, 96, 64))
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("mode", "format"),
    [("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("RGBA", "AVIF"), ("LA", "PNG"), ("LA", "TIFF")],
)
def test_what_is_transparent_is_seen_on_white(mode: str, format: str) -> None:
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    picture = load_picture(encoded(half_transparent(mode), format, **options), WIDE)
    left, right_above, right_below = pixel(picture, 20, 20), pixel(picture, 80, 10), pixel(picture, 80, 55)
    assert near(left, RED if mode == "RGBA" else (84, 84, 84))
    assert near(right_above, WHITE, 3)
    assert near(right_below, (127, 127, 127), 4)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_palettes_transparent_entry_is_seen_on_white(format: str) -> None:
    palette = quarters().quantize(4)
    red = palette.getpixel((0, 0))
    picture = load_picture(encoded(palette, format, transparency=red), WIDE)
    assert all(map(near, drawn.corners(picture), [WHITE, GREEN, BLUE, YELLOW]))


def test_a_palette_with_an_alpha_for_every_entry_is_blended_with_white() -> None:
    palette = Image.new("P", SIDE, 1)
    palette.putpalette([0, 0, 0, 0, 0, 0])
    assert near(pixel(load_picture(encoded(palette, "PNG", transparency=bytes([255, 128])), WIDE), 5, 5), (127,) * 3, 2)


def test_a_palette_without_transparency_keeps_its_colours() -> None:
    picture = load_picture(encoded(quarters().quantize(4), "PNG"), WIDE)
    assert all(map(near, drawn.corners(picture), [RED, GREEN, BLUE, YELLOW]))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("colour", [0, 2], ids=["grey", "RGB"])
def test_a_png_that_names_one_colour_transparent_shows_white_there(bits: int, colour: int) -> None:
    code = ">H" if bits == 16 else ">B"
    full = 65535 if bits == 16 else 255
    channels = 3 if colour == 2 else 1
    key, other = full * 2 // 3, full // 5
    pixels = [struct.pack(code, key) * channels] * 16 + [struct.pack(code, other) * channels] * 16
    transparent = drawn.png_chunk(b"tRNS", struct.pack(">H", key) * channels)
    picture = load_picture(drawn.png(32, 32, bits, colour, (b"\0" + b"".join(pixels)) * 32, transparent), WIDE)
    assert pixel(picture, 3, 3) == WHITE
    assert near(pixel(picture, 28, 3), (51, 51, 51), 1)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_black_and_white_and_grey_pictures_are_read(mode: str) -> None:
    grey = Image.new(mode, SIDE, 255)
    grey.paste(0, (0, 0, 48, 64))
    picture = load_picture(encoded(grey, "PNG"), WIDE)
    assert [pixel(picture, x, 10) for x in (10, 90)] == [(0, 0, 0), WHITE]


def test_reading_says_nothing_and_warns_of_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(quarters(), "TIFF", compression="tiff_lzw")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_picture(data, WIDE)
        load_picture(encoded(quarters(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"), WIDE)
    assert capfd.readouterr() == ("", "")
