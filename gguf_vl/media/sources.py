"""From what a picture is given as (a path, bytes, a `data:` URI, a stream) to its bytes. Nothing is decoded here."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import IO, BinaryIO
from urllib.parse import unquote_to_bytes

from gguf_vl.errors import InvalidPicture

Source = str | os.PathLike[str] | bytes | BinaryIO
"""A path, a `data:` URI (as str), the file's bytes, or a stream of them; the stream need not seek."""

_CHUNK = 1 << 20
_SHOWN = 80
"""Characters of a name that are shown in a message."""


def read_source(source: Source, max_bytes: int) -> tuple[bytes, str]:
    """The bytes of `source`, and what to call it in a message. Never reads more than `max_bytes` + 1 bytes.

    Raises InvalidPicture for what cannot be read, is empty, or is larger than `max_bytes`.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name = bytes(source), "The picture data"
        _check_size(len(data), max_bytes, name)
    elif isinstance(source, str) and source[:5].lower() == "data:":
        name = "The data: URI"
        data = decode_data_uri(source, max_bytes)
    elif isinstance(source, str) and source[:8].lower().startswith(("http://", "https://")):
        raise InvalidPicture(
            f"{on_one_line(source)} is a URL, and pictures are not fetched from the network.",
            "Download it first and give the file.",
        )
    elif isinstance(source, (str, os.PathLike)):
        name = on_one_line(os.fspath(source))
        data = _read_path(Path(source), name, max_bytes)
    else:
        name = _stream_name(source)
        data = _read_stream(source, name, max_bytes)
    if not data:
        raise InvalidPicture(f"{name} is empty (0 bytes).", "Check that the file was written or downloaded completely.")
    return data, name


def decode_data_uri(uri: str, max_bytes: int) -> bytes:
    """The bytes that a `data:` URI carries, base64 or percent-encoded (RFC 2397); its media type is not believed.

    Raises InvalidPicture for a URI that is broken or carries more than `max_bytes`.
    """
    name = "The data: URI"
    fix = "Send data:image/png;base64, followed by the whole file in base64."
    head, comma, payload = uri.partition(",")
    if not comma:
        raise InvalidPicture(f"{name} has no comma, so it carries no data.", fix)
    if not head.lower().rstrip().endswith(";base64"):
        _check_size(len(payload) // 3, max_bytes, name)  # three characters per byte at most
        data = unquote_to_bytes(payload)
        _check_size(len(data), max_bytes, name)
        return data
    if "%" in payload:
        payload = unquote_to_bytes(payload).decode("latin-1")
    payload = "".join(payload.split()).rstrip("=").translate(_URL_SAFE)
    _check_size(len(payload) * 3 // 4, max_bytes, name)
    try:
        return base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True)
    except ValueError as error:
        raise InvalidPicture(f"{name} holds broken base64: {error}.", fix) from error


_URL_SAFE = str.maketrans("-_", "+/")


def _read_path(path: Path, name: str, max_bytes: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                _check_size(status.st_size, max_bytes, name)
            return _read_stream(file, name, max_bytes)
    except FileNotFoundError as error:
        raise InvalidPicture(f"There is no file {name}.", "Check the path; quote it if it holds spaces.") from error
    except PermissionError as error:
        if path.is_dir():  # Windows says this of a folder
            raise _is_folder(name) from error
        raise InvalidPicture(
            f"{name} may not be read: permission denied.", "Change its permissions, or copy it somewhere readable."
        ) from error
    except IsADirectoryError as error:
        raise _is_folder(name) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InvalidPicture(f"{name} cannot be opened: {reason}.", "Check the path.") from error


def _is_folder(name: str) -> InvalidPicture:
    return InvalidPicture(f"{name} is a folder and not a picture.", "Name a picture inside it.")


def _read_stream(stream: IO[bytes], name: str, max_bytes: int) -> bytes:
    data = bytearray()
    try:
        while len(data) <= max_bytes and (chunk := stream.read(min(_CHUNK, max_bytes + 1 - len(data)))):
            data += chunk
    except OSError as error:
        raise InvalidPicture(
            f"{name} cannot be read: {error.strerror or error}.", "Copy it to this machine's disk and try again."
        ) from error
    if len(data) > max_bytes:
        raise _too_large(name, max_bytes)
    return bytes(data)


def _check_size(size: int, max_bytes: int, name: str) -> None:
    if size > max_bytes:
        raise _too_large(name, max_bytes)


def _too_large(name: str, max_bytes: int) -> InvalidPicture:
    return InvalidPicture(
        f"{name} is larger than the {max_bytes / 2**20:g} MiB that one picture may have.", "Save it smaller or as JPEG."
    )


def _stream_name(stream: BinaryIO) -> str:
    name = getattr(stream, "name", None)
    if name == "<stdin>":
        return "Standard input"
    return on_one_line(name) if isinstance(name, str) else "The picture data"


def on_one_line(text: str) -> str:
    """A name or a foreign program's words, fit for a message: printable, and the middle left out when it is long."""
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN // 2]}…{text[-_SHOWN // 2 :]}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
