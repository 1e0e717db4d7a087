"""The bytes of a GGUF header: a cursor over them, and the values it reads. Knows no key and no model.

Format: ggml's `gguf.h`. Everything is bounded before it is read, so that a hostile length costs neither time nor
memory; the bounds are far above any published model (a vocabulary of 262,144 makes a header of about 16 MiB).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from gguf_vl.errors import InvalidModelFile

ByteOrder = Literal["little", "big"]
Scalar = int | float | bool | str
Kind = Literal["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "u64", "i64", "f64"]

MAX_HEADER: Final = 64 << 20
"""Bytes; a header that goes on beyond this is refused."""
MAX_ELEMENTS: Final = 1 << 21
"""Elements of one array."""
MAX_STRING: Final = 4 << 20
"""Bytes of one string; chat templates are some 10 KiB."""
WINDOW: Final = 64 << 10
"""Bytes per read, and so the most that is read past the header's end."""
KEPT: Final = 4 << 10
"""Bytes of a numeric array up to which it is kept instead of being left in the file."""

FETCH_AGAIN: Final = "Download it again from its publisher, and compare its size with the published one."

_ARRAY: Final = 9
_KINDS: Final[dict[int, Kind]] = {
    0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool", 8: "string", 10: "u64", 11: "i64",
    12: "f64",
}  # fmt: skip
KIND_CODES: Final[dict[str, int]] = {kind: code for code, kind in _KINDS.items()} | {"array": _ARRAY}
NUMBER_CODES: Final[dict[Kind, str]] = {
    "u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "bool": "?", "u64": "Q",
    "i64": "q", "f64": "d",
}  # fmt: skip


def shown(text: object, most: int = 200) -> str:
    """Text out of a file, or a path, as one harmless line of a message."""
    line = "".join(c if c.isprintable() else "?" for c in str(text))
    return line if len(line) <= most else line[: most - 1] + "…"


@contextmanager
def system_errors_named(path: Path) -> Iterator[None]:
    """Turn what the system says of a file into an `InvalidModelFile`."""
    try:
        yield
    except OSError as error:
        raise InvalidModelFile(
            f"{shown(path)} cannot be read: {error.strerror or error}.",
            "Check the path and that you may read the file.",
        ) from error
    except ValueError as error:  # a NUL in the path
        raise InvalidModelFile(f"{shown(path)} cannot be read: {error}.", "Check the path.") from error


@dataclass(frozen=True, slots=True)
class Source:
    """One file as it was when its header was read."""

    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Source:
        """Look at a file. `InvalidModelFile` when there is none."""
        with system_errors_named(path):
            found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for its writer
            raise InvalidModelFile(f"{shown(path)} is not a file.", "Name the model's .gguf file itself.")
        return cls(path, found.st_size, found.st_mtime_ns)

    def invalid(self, what: str, fix: str = FETCH_AGAIN) -> InvalidModelFile:
        """The error that says `what` of this file."""
        return InvalidModelFile(f"{shown(self.path)} {what}.", fix)


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the metadata. Left in the file until `values` asks for it, unless it is small."""

    kind: Kind
    count: int
    offset: int
    """Bytes from the file's start to the first element."""
    _source: Source = field(repr=False)
    _byte_order: ByteOrder = field(repr=False)
    _kept: tuple[Scalar, ...] | None = field(default=None, repr=False)

    def values(self) -> tuple[Scalar, ...]:
        """All elements. Reads the file again: `InvalidModelFile` if it is gone, changed or not UTF-8."""
        if self._kept is not None:
            return self._kept
        with Cursor(self._source, self._byte_order, self.offset) as cursor:
            if Source.of(self._source.path) != self._source:
                raise self._source.invalid("changed while it was in use", "Start again with the file as it is now.")
            return cursor.elements(self.kind, self.count)


Value = Scalar | Array


class Cursor:
    """Walks through one file's header, a window at a time. Every read is bounded by the file and by `MAX_HEADER`."""

    def __init__(self, source: Source, byte_order: ByteOrder = "little", offset: int = 0) -> None:
        self._source = source
        self._end = min(source.size, MAX_HEADER)
        with system_errors_named(source.path):
            self._file = open(source.path, "rb", buffering=0)  # noqa: SIM115
        self._window = b""
        self._start = offset
        self._at = 0
        self.byte_order = byte_order

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def byte_order(self) -> ByteOrder:
        return self._byte_order

    @byte_order.setter
    def byte_order(self, order: ByteOrder) -> None:
        self._byte_order: ByteOrder = order
        self._prefix = "<" if order == "little" else ">"
        self._u32 = struct.Struct(self._prefix + "I")
        self._u64 = struct.Struct(self._prefix + "Q")

    @property
    def offset(self) -> int:
        """Bytes from the file's start to the next byte."""
        return self._start + self._at

    def u32(self) -> int:
        value: int = self._u32.unpack(self.take(4))[0]
        return value

    def u64(self) -> int:
        value: int = self._u64.unpack(self.take(8))[0]
        return value

    def string(self) -> str:
        """A length and that many bytes of UTF-8."""
        where, length = self.offset, self.u64()
        self._within(length)
        if length > MAX_STRING:
            raise self._source.invalid(f"is damaged: it holds a text of {length} bytes at byte {where}")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise self._source.invalid(f"is damaged: the text at byte {where} is not UTF-8") from error

    def value(self, key: str) -> Value:
        """A metadata value with its type before it. `key` is for the message when that is no type."""
        code = self.u32()
        if code == _ARRAY:
            return self._array(key)
        return self.elements(self._kind(key, code), 1)[0]

    def elements(self, kind: Kind, count: int) -> tuple[Scalar, ...]:
        """`count` values of one kind."""
        if kind == "string":
            return tuple(self.string() for _ in range(count))
        numbers = struct.Struct(f"{self._prefix}{count}{NUMBER_CODES[kind]}")
        return numbers.unpack(self.take(numbers.size))

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if self._at + count > len(self._window):
            self._within(count)
            self._fill(count)
        at = self._at
        self._at = at + count
        return self._window[at : self._at]

    def _array(self, key: str) -> Array:
        code = self.u32()
        if code == _ARRAY:
            raise self._source.invalid(f"nests arrays under {shown(key)!r}, which llama.cpp does not read")
        kind, count = self._kind(key, code), self.u64()
        where = self.offset
        width = 8 if kind == "string" else struct.calcsize("<" + NUMBER_CODES[kind])
        self._within(count * width)
        if count > MAX_ELEMENTS:
            raise self._source.invalid(f"is damaged: {shown(key)!r} counts {count} values")
        if kind == "string":
            self._skip_strings(count)
            return Array(kind, count, where, self._source, self.byte_order)
        if count * width > KEPT:
            self._at += count * width
            return Array(kind, count, where, self._source, self.byte_order)
        return Array(kind, count, where, self._source, self.byte_order, self.elements(kind, count))

    def _skip_strings(self, count: int) -> None:
        """Step over strings by their lengths alone: 300,000 of them are walked in some 30 ms."""
        length_at = self._u64.unpack_from
        while count:
            if self._at + 8 > len(self._window):
                self._within(8)
                self._fill(8)
            window, at, last = self._window, self._at, len(self._window) - 8
            while count and at <= last:
                at += 8 + length_at(window, at)[0]
                count -= 1
            self._at = at
            self._within(0)

    def _kind(self, key: str, code: int) -> Kind:
        try:
            return _KINDS[code]
        except KeyError:
            raise self._source.invalid(f"is damaged: {shown(key)!r} has the unknown value type {code}") from None

    def _within(self, count: int) -> None:
        """Refuse to go on when the next `count` bytes are not all there."""
        if self.offset + count <= self._end:
            return
        if self._end < self._source.size:
            raise self._source.invalid(f"is damaged: its header goes on beyond {MAX_HEADER >> 20} MiB")
        raise self._source.invalid(
            f"has {self._source.size} bytes and its header goes on beyond them: the download is incomplete or damaged"
        )

    def _fill(self, count: int) -> None:
        """Move the window to begin at the next byte and hold at least `count`."""
        start = self.offset
        parts, missing = [], min(max(count, WINDOW), self._end - start)
        with system_errors_named(self._source.path):
            self._file.seek(start)
            while missing and (part := self._file.read(missing)):
                parts.append(part)
                missing -= len(part)
        self._window, self._start, self._at = b"".join(parts), start, 0
        if len(self._window) < count:
            raise self._source.invalid("became shorter while it was read")
