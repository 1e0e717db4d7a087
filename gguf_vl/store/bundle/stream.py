"""One long stream of bytes in one file or in several (`FILE.001`, `FILE.002`, …) that a FAT stick takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from gguf_vl.errors import MissingOrInvalid, UsageError
from gguf_vl.store.disk import sync, telling

MAX_PARTS = 999
UNFINISHED = ".part"


def parts_of(path: Path) -> list[Path]:
    """The files of a bundle: `path` alone, or all its parts where it is the first of them or their common name.

    Raises `MissingOrInvalid` when there is none, `UsageError` for a part in the middle.
    """
    number = re.fullmatch(r"(.+)\.(\d{3})", path.name)
    if number and path.is_file():
        base = path.with_name(number[1])
        if number[2] != "001":
            raise UsageError(f"{path} is a later part of a bundle.", f"Give the first part, {base}.001.")
        return list(_numbered(base))
    if path.is_file():
        return [path]
    if parts := list(_numbered(path)):
        return parts
    if unfinished_name(path).is_file() or unfinished_name(path.with_name(f"{path.name}.001")).is_file():
        raise MissingOrInvalid(f"{path} is not finished.", "Run the same `gguf-vl bundle create` again: it goes on.")
    raise MissingOrInvalid(f"There is no file {path}.", "Check the path.")


def unfinished_name(path: Path) -> Path:
    """What a file is called until all of the bundle is written."""
    return path.with_name(path.name + UNFINISHED)


class Joined:
    """Reads files one after the other. `at` is the place in the whole, `size` the whole's bytes."""

    def __init__(self, parts: list[Path]) -> None:
        self._left = list(parts)
        self._stream: BinaryIO | None = None
        self.at = 0
        self.size = sum(part.stat().st_size for part in parts)

    def read(self, n: int) -> bytes:
        """Up to `n` bytes, which go over from one file to the next; fewer at the end alone."""
        pieces: list[bytes] = []
        while n:
            if self._stream is None:
                if not self._left:
                    break
                with telling(self._left[0], "read"):
                    self._stream = self._left[0].open("rb")
            with telling(Path(self._stream.name), "read"):
                piece = self._stream.read(n)
            if not piece:
                self.close()
                self._left.pop(0)
            pieces.append(piece)
            n -= len(piece)
        data = b"".join(pieces)
        self.at += len(data)
        return data

    def close(self) -> None:
        if self._stream:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Output:
    """Writes a stream to `path`, or to parts of it of `split` bytes. Until `finish` every file has `.part` at its end.

    `at` is the place in the whole. What an earlier process left can be read (`existing`), and from `truncate` on is
    continued. `beginning` is what tells the whole from every other.
    """

    def __init__(self, path: Path, split: int | None, beginning: bytes) -> None:
        self.path = path
        self.at = 0
        self._split = split
        self._beginning = beginning
        self._stream: BinaryIO | None = None

    def existing(self) -> list[Path]:
        """The unfinished files that are there."""
        for part in self._own_parts() if self._split else ():
            if part.suffix != UNFINISHED:
                part.replace(unfinished_name(part))
        found = []
        for number in range(1, MAX_PARTS + 1):
            part = unfinished_name(self._name(number))
            size = part.stat().st_size if part.is_file() else 0
            if not size or (self._split and size > self._split):  # the second was split otherwise
                break
            found.append(part)
            if size != self._split:
                break
        return found

    def in_the_way(self) -> Path | None:
        """A file of a part's name that no unfinished packing under this name has left."""
        own = self._own_parts()
        for number in range(1, MAX_PARTS + 1) if self._split else ():
            for path in (self._part(number), unfinished_name(self._part(number))):
                if path.exists() and path not in own:
                    return path
        return None

    def truncate(self, at: int) -> None:
        """Keep the first `at` bytes, throw away everything else unfinished under this name, and go on there."""
        self.close()
        self.at = at
        kept = {unfinished_name(self._name(number)) for number in range(1, self._number(at) + 1)}
        for stray in (unfinished_name(self.path), *reversed(self._own_parts())):
            if stray not in kept:
                stray.unlink(missing_ok=True)
        if at and (not self._split or at % self._split):
            with telling(self.path, "written"):
                os.truncate(unfinished_name(self._name(self._number(at))), at % self._split if self._split else at)

    def write(self, data: bytes) -> None:
        """Add bytes."""
        view = memoryview(data)
        while view:
            room = self._split - self.at % self._split if self._split else len(view)
            if self._split and room == self._split:
                self.close()
            path = unfinished_name(self._name(self._number(self.at + 1)))
            with telling(path, "written"):
                if self._stream is None:
                    self._stream = path.open("ab")
                self._stream.write(view[:room])
            self.at += len(view[:room])
            view = view[room:]

    def finish(self) -> list[Path]:
        """Give the files their names, the first one last: where it is, all are. Returns them."""
        self.close()
        names = [self._name(number) for number in range(1, self._number(self.at) + 1)]
        for name in reversed(names):
            with telling(name, "written"):
                unfinished_name(name).replace(name)
        sync(self.path.parent)
        return names

    def close(self) -> None:
        """Write through what is there."""
        if self._stream:
            stream, self._stream = self._stream, None
            with telling(Path(stream.name), "written"), stream:
                stream.flush()
                os.fsync(stream.fileno())

    def _name(self, number: int) -> Path:
        return self._part(number) if self._split else self.path

    def _part(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number:03}")

    def _number(self, at: int) -> int:
        """The part that the `at`-th byte is in, both counted from 1; 0 for no byte."""
        return -(-at // self._split) if self._split else min(at, 1)

    def _own_parts(self) -> list[Path]:
        """What a packing in parts has left; where that was this very one, some may have got their names already."""
        own: list[Path] = []
        is_this = self._is_begun()
        for number in range(1, MAX_PARTS + 1):
            final = self._part(number)
            if unfinished_name(final).is_file():
                own.append(unfinished_name(final))
            elif is_this and final.is_file():
                own.append(final)
            else:
                break
        return own

    def _is_begun(self) -> bool:
        first = unfinished_name(self._part(1))
        if not first.is_file():
            return False
        with telling(first, "read"), first.open("rb") as stream:
            return stream.read(len(self._beginning)) == self._beginning[: self._split]


def _numbered(base: Path) -> Iterator[Path]:
    for number in range(1, MAX_PARTS + 1):
        part = base.with_name(f"{base.name}.{number:03}")
        if not part.is_file():
            return
        yield part
