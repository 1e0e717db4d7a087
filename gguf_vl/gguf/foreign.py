"""What a file is that should have been GGUF and is not: people get error pages and pointers under a model's name."""

from __future__ import annotations

from typing import Final

MAGIC: Final = b"GGUF"
LOOK: Final = 512
"""Bytes from the file's start that `describe` wants to see."""

_FETCH: Final = "Download the model again from its publisher."
_PAGE: Final = 'Delete it and fetch the file itself: a "resolve" link, not a "blob" one.'
_CONVERT: Final = "Take a GGUF file of the model, or convert it with llama.cpp's convert_hf_to_gguf.py."
_WRONG: Final = "Name the model's .gguf file instead."

_STARTS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the model", "Run `git lfs pull` beside it."),
    (b"\x89PNG", "is a PNG picture", _WRONG),
    (b"\xff\xd8\xff", "is a JPEG picture", _WRONG),
    (b"%PDF", "is a PDF document", _WRONG),
    (b"PK\x03\x04", "is a zip archive (PyTorch weights are too)", "Unpack it, or take a GGUF file of the model."),
    (b"\x1f\x8b", "is a gzip archive", "Unpack it first."),
    (b"\x28\xb5\x2f\xfd", "is a zstd archive", "Unpack it first."),
    (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive", "Unpack it first."),
    (b"lmgg", "is a GGML file, the format before GGUF", _CONVERT),
    (b"fmgg", "is a GGML file, the format before GGUF", _CONVERT),
    (b"tjgg", "is a GGML file, the format before GGUF", _CONVERT),
)


def describe(start: bytes) -> tuple[str, str]:
    """What a file is whose first bytes, not `MAGIC`, are `start`, and what to do about it."""
    if not start:
        return "is empty", _FETCH
    if MAGIC.startswith(start):
        return f"ends after {len(start)} bytes: the download is incomplete", _FETCH
    for prefix, what, fix in _STARTS:
        if start.startswith(prefix):
            return what, fix
    if start[8:10] == b'{"':
        return "is a safetensors file, not GGUF", _CONVERT
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "is a web page saved under a model's name", _PAGE
    if text.startswith((b"<?xml", b"<error", b'{"', b"{\n")):
        return "is a server's message saved under a model's name", _PAGE
    if not any(start):
        return "begins with zeros: space was set aside for a download that never came", _FETCH
    return "is not a GGUF file", _WRONG
