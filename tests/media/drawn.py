"""Pictures drawn for the tests of this room, and the bytes of real files that hold them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image

from gguf_vl.types import Picture, PictureLimits

WIDE = PictureLimits(1, 4096)
"""Limits that leave a picture of whole patches as it is."""

RED, GREEN, BLUE, YELLOW, WHITE = (230, 20, 30), (20, 160, 40), (30, 50, 220), (240, 220, 40), (255, 255, 255)
SIDE = (96, 64)
Colour = tuple[int, int, int]


def quarters(size: tuple[int, int] = SIDE) -> Image.Image:
    """Red and green above, blue and yellow below: every corner differs, so that a turn or a mirror shows."""
    width, height = size
    picture = Image.new("RGB", size, RED)
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    picture.paste(YELLOW, (width // 2, height // 2, width, height))
    return picture


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def pixel(picture: Picture, x: int, y: int) -> Colour:
    at = (y * picture.width + x) * 3
    red, green, blue = picture.rgb[at : at + 3]
    return red, green, blue


def corners(picture: Picture) -> list[Colour]:
    """Colours well inside the four quarters: left and right above, left and right below."""
    xs, ys = (picture.width // 4, picture.width * 3 // 4), (picture.height // 4, picture.height * 3 // 4)
    return [pixel(picture, x, y) for y in ys for x in xs]


def near(found: Colour, expected: Colour, tolerance: int = 12) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(found, expected, strict=True))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand, for what Pillow does not write: `rows` holds one filter byte before each row."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def tiff(
    width: int, height: int, samples: bytes, *, bits: tuple[int, ...], photometric: int, big_endian: bool
) -> bytes:
    """An uncompressed TIFF of one strip, written by hand, for what Pillow does not write."""
    order = ">" if big_endian else "<"
    values = {256: (width,), 257: (height,), 258: bits, 259: (1,), 262: (photometric,), 273: (0,)}
    values |= {277: (len(bits),), 278: (height,), 279: (len(samples),)}
    if len(bits) == 4 and photometric == 2:
        values[338] = (2,)  # the fourth sample is alpha
    after = 8 + 2 + 12 * len(values) + 4
    extra = struct.pack(f"{order}{len(bits)}H", *bits) if len(bits) > 2 else b""
    values[273] = (after + len(extra),)
    entries = b""
    for tag, numbers in sorted(values.items()):
        if len(numbers) > 2:
            entries += struct.pack(f"{order}HHII", tag, 3, len(numbers), after)
        elif tag in (273, 279):
            entries += struct.pack(f"{order}HHII", tag, 4, 1, numbers[0])
        else:
            entries += struct.pack(f"{order}HHI", tag, 3, len(numbers))
            entries += struct.pack(f"{order}{len(numbers)}H", *numbers).ljust(4, b"\0")
    start = b"MM\x00*" if big_endian else b"II*\x00"
    return start + struct.pack(f"{order}IH", 8, len(values)) + entries + b"\0" * 4 + extra + samples
