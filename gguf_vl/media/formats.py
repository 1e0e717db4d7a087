"""What a file is by its first bytes: formats read here, each with the one parser that sees it, and those refused."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from typing import IO, Any

from gguf_vl.errors import InvalidPicture

READ_HERE = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"

_PARSERS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIC": ("pi_heif.as_plugin", "HeifImageFile"),
}

_CONVERT = "Save or export it as PNG or JPEG and give that file."
_SCREENSHOT = "Give a screenshot of the page, or the picture's own file."
_PDF = "Export the page as PNG or JPEG. Of a file on this machine, page 2 is given as file.pdf#2."
_VIDEO = "Give its file to `gguf-vl ask`, which reads videos; or save the frame as PNG or JPEG."
_UNKNOWN = f"Give a picture in {READ_HERE}."

_VIDEOS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), demuxer)
    for pattern, demuxer in (
        (rb".{4}(?:ftyp|moov)|[\x00-\x1f].{3}(?:mdat|wide|free|skip|pnot)", "mov"),
        (rb"RIFF.{4}AVI ", "avi"),
        (rb"\x1aE\xdf\xa3", "matroska"),
        (rb"\x00\x00\x01\xba", "mpeg"),
        (rb"\x00\x00\x01\xb3", "mpegvideo"),
        (rb"G.{187}G.{187}G", "mpegts"),
        (rb"FLV\x01", "flv"),
        (rb"OggS", "ogg"),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    )
)

_PDF_HEAD = rb".{0,1000}%PDF-"
# Possessive: nothing to backtrack into.
_BEFORE_ROOT = rb"(?i:(?:\xef\xbb\xbf)?\s*+(?:(?:<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE svg[^>]*>)\s*+)*+)"
_REFUSED: tuple[tuple[re.Pattern[bytes], str, str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), what, fix)
    for pattern, what, fix in (
        (_PDF_HEAD, "a PDF document", _PDF),
        (_BEFORE_ROOT + rb"(?i:<svg[\s>])", "an SVG drawing, which has no pixels", _CONVERT),
        (_BEFORE_ROOT + rb"(?i:<(?:!DOCTYPE html|html|head|body)[\s>])", "a web page and not a picture", _SCREENSHOT),
        (rb"8BPS", "a Photoshop file", _CONVERT),
        (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture, which is not read here", _CONVERT),
        (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "a JPEG XL picture, which is not read here", _CONVERT),
        (rb"\x00\x00[\x01\x02]\x00", "an icon or cursor, which is not read here", _CONVERT),
        (rb"PK\x03\x04", "a ZIP archive or office document and not a picture", "Give a picture from inside it."),
        (rb"GGUF", "a GGUF model file and not a picture", "Name the model with --model, and give a picture."),
    )
)


def kind_of(data: bytes, name: str) -> str:
    """The format of `data`, a key of the formats read here.

    Raises InvalidPicture, speaking of `name`, for anything else; formats that people often have are called by name.
    """
    head = data[:1024]
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"BM"):
        return "BMP"
    if is_tiff(head):
        return "TIFF"
    if kind := _still_of_isobmff(head):
        return kind
    if video_in(head):
        raise InvalidPicture(f"{name} is a video.", _VIDEO)
    for pattern, what, fix in _REFUSED:
        if pattern.match(head):
            raise InvalidPicture(f"{name} is {what}.", fix)
    raise InvalidPicture(f"{name} is not a picture in a format that is read here.", _UNKNOWN)


def is_pdf(data: bytes) -> bool:
    """Whether `data` starts like a PDF document, as PDF readers see it: some junk may stand before."""
    return bool(re.match(_PDF_HEAD, data[:1024], re.DOTALL))


def is_tiff(data: bytes) -> bool:
    """Whether `data` starts like a TIFF, which may have several pages."""
    return data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"))


def video_in(head: bytes) -> str | None:
    """FFmpeg's name for the container of a video that begins with `head` (1,024 bytes); None for anything else."""
    if _still_of_isobmff(head):
        return None
    return next((demuxer for pattern, demuxer in _VIDEOS if pattern.match(head)), None)


def _still_of_isobmff(head: bytes) -> str | None:
    """AVIF or HEIC by the brands of an ISO base media file; None for its videos and for all other files."""
    if head[4:8] != b"ftyp":
        return None
    box = head[: int.from_bytes(head[:4], "big")]
    brands = {box[8:12], *(box[at : at + 4] for at in range(16, len(box), 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}:
        return "HEIC"
    return None


def parser_of(kind: str, name: str) -> Callable[[IO[bytes]], Any]:
    """The class of Pillow (or, for HEIC, of pi-heif) that parses `kind`, given an open file. Only its module is loaded.

    It is called straight and not through `Image.open`, so that no other parser ever sees the bytes, and Pillow's
    process-wide registry and pixel limit stay as they are for whoever else uses Pillow in this process.
    Raises InvalidPicture, speaking of `name`, where this installation lacks it.
    """
    module_name, class_name = _PARSERS[kind]
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if kind != "HEIC":
            raise
        raise InvalidPicture(
            f"{name} is a HEIC photo, and the reader for HEIC is not installed.",
            f'Run: {sys.executable} -m pip install "pi-heif>=1.4"  (or save the photo as JPEG).',
        ) from error
    if not getattr(module, "SUPPORTED", True):
        raise InvalidPicture(
            f"{name} is {kind}, which this installation of Pillow cannot read.", "Run: pip install --upgrade pillow"
        )
    parser: Callable[[IO[bytes]], Any] = getattr(module, class_name)
    return parser
