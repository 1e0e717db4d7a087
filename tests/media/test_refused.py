"""What is no picture, or one that is not read here, is refused with its reason and a next step."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.decode import decode
from gguf_vl.media.pictures import load_picture

from . import drawn
from .drawn import WIDE, encoded, quarters

HEIC = (Path(__file__).parent / "quarters_turned.heic").read_bytes()


def refusal(data: bytes, **options: int) -> InvalidPicture:
    with pytest.raises(InvalidPicture) as caught:
        load_picture(data, WIDE, **options)
    return caught.value


@pytest.mark.parametrize(
    ("data", "what", "fix"),
    [
        (b"hello, I am a text file", "not a picture", "JPEG, PNG"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF", "file.pdf#2"),
        (b"\n\n junk %PDF-1.4", "PDF", "file.pdf#2"),
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "SVG", "PNG"),
        (b'<?xml version="1.0"?>\n<!-- drawn -->\n<!DOCTYPE svg PUBLIC "x">\n<svg width="3">', "SVG", "PNG"),
        (b"\xef\xbb\xbf<svg>", "SVG", "PNG"),
        (b"<!doctype html><html><body>404", "web page", "screenshot"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "video", "gguf-vl ask"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "video", "gguf-vl ask"),
        (b"\x1aE\xdf\xa3\x9fB\x86", "video", "gguf-vl ask"),
        (b"RIFF\x10\0\0\0AVI LIST", "video", "gguf-vl ask"),
        (b"8BPS\0\1", "Photoshop", "PNG"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", "PNG"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL", "PNG"),
        (b"\0\0\1\0\1\0", "icon", "PNG"),
        (b"PK\x03\x04\x14\0", "ZIP", "inside it"),
        (b"GGUF\x03\0\0\0", "GGUF", "--model"),
    ],
)
def test_what_people_have_is_called_by_its_name(data: bytes, what: str, fix: str) -> None:
    error = refusal(data)
    assert what in error.what
    assert fix in error.fix


@pytest.mark.parametrize("format", ["PPM", "TGA", "PCX", "ICO", "SGI", "JPEG2000", "QOI", "DDS", "EPS"])
def test_formats_that_pillow_could_read_and_we_do_not_never_reach_a_parser(
    format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(quarters(), format)
    monkeypatch.setattr(ImageFile.ImageFile, "__init__", lambda *_: pytest.fail("a parser was started"))
    refusal(data)


def test_a_comment_without_end_takes_no_time_to_refuse() -> None:
    assert "not a picture" in refusal(b"<!---->" * 200).what


def test_heic_without_its_reader_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    monkeypatch.setitem(sys.modules, "pi_heif.as_plugin", None)
    with pytest.raises(InvalidPicture) as caught:
        decode(HEIC, "HEIC", "photo.heic", WIDE, 10_000)
    assert "photo.heic is a HEIC photo" in caught.value.what
    assert '-m pip install "pi-heif' in caught.value.fix


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_picture_cut_in_half_is_refused_as_cut_off_or_damaged(format: str) -> None:
    data = encoded(Image.effect_noise((200, 200), 80).convert("RGB"), format)
    error = refusal(data[: len(data) // 2])
    assert "cut off, damaged" in error.what
    assert "again" in error.fix


def patched(format: str, width: int, height: int) -> bytes:
    """A real file whose header promises another size than its pixels have."""
    data = bytearray(
        HEIC if format == "HEIC" else encoded(quarters(), format.split()[0], lossless="lossless" in format)
    )
    if format == "PNG":
        return drawn.png(width, height, 8, 2, b"")
    if format == "GIF":
        struct.pack_into("<HH", data, 6, width, height)
        struct.pack_into("<HH", data, data.index(b"\x2c\0\0\0\0") + 5, width, height)
    elif format == "BMP":
        struct.pack_into("<ii", data, 18, width, height)
    elif format == "JPEG":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    elif format == "TIFF":
        return drawn.tiff(width, height, b"", bits=(8, 8, 8), photometric=2, big_endian=False)
    elif format == "WEBP lossless":
        struct.pack_into("<I", data, 21, (width - 1) | (height - 1) << 14)
    elif format == "WEBP":
        struct.pack_into("<HH", data, 26, width, height)
    else:  # AVIF, HEIC
        struct.pack_into(">II", data, data.index(b"ispe") + 8, width, height)
    return bytes(data)


def most_memory() -> int:
    """The most memory this process ever held, in bytes."""
    resource = pytest.importorskip("resource")
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@pytest.mark.parametrize("side", [12_000, 16_383], ids=["144 megapixels", "more than Pillow's own limit"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "WEBP lossless", "GIF", "BMP", "TIFF", "AVIF", "HEIC"])
def test_a_decompression_bomb_is_refused_from_its_header(
    format: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if format == "HEIC":
        pytest.importorskip("pi_heif")
    data = patched(format, side, side)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    before = most_memory()
    error = refusal(data)
    assert "megapixels" in error.what
    assert most_memory() - before < 40_000_000


def test_the_largest_size_a_header_can_name_is_refused() -> None:
    assert "2147483647 x 2147483647 pixels" in refusal(patched("PNG", 2**31 - 1, 2**31 - 1)).what


def test_the_limit_of_pixels_itself_is_allowed() -> None:
    data = encoded(quarters((96, 64)), "PNG")
    load_picture(data, WIDE, max_pixels=96 * 64)
    assert "96 x 64 pixels" in refusal(data, max_pixels=96 * 64 - 1).what


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("size", [(0, 64), (96, 0), (0, 0)])
def test_a_picture_of_no_pixels_is_refused(format: str, size: tuple[int, int]) -> None:
    assert "0 pixels" in refusal(patched(format, *size)).what


def test_floating_point_grey_without_a_finite_range_is_refused() -> None:
    assert "not finite" in refusal(encoded(Image.new("F", (64, 32), float("nan")), "TIFF")).what


def test_running_out_of_memory_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", out_of_memory)
    assert "not enough memory" in refusal(encoded(quarters(), "PNG")).what


def test_finding_boxes_loads_no_pillow() -> None:
    code = "import sys, gguf_vl.media.boxes, gguf_vl.media.resize; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
