"""Which files a batch is about: folders, globs, lists and names, in a natural order."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from gguf_vl.errors import MissingOrInvalid
from gguf_vl.media.endings import PICTURES, VIDEOS
from gguf_vl.media.pdf import split_pages
from gguf_vl.media.sources import on_one_line


class Inputs:
    """What was given: folders are searched to the bottom for pictures and documents, and with `clips` for videos; globs
    (`**` too) are matched here where the shell has not done so; `listed` are names from lists, which may be all of that
    too.

    Links to files are followed, links to folders are not; what begins with a dot is passed over.
    """

    def __init__(self, words: Sequence[str], listed: Sequence[str] = (), *, clips: bool = False) -> None:
        self._words = words
        self._listed = listed
        self._suffixes = PICTURES | VIDEOS if clips else PICTURES

    @property
    def can_grow(self) -> bool:
        """Whether new files may come: there is a folder or a glob."""
        return any(os.path.isdir(word) or _is_glob(word) for word in (*self._words, *self._listed))

    def check(self) -> None:
        """Raise `MissingOrInvalid` for a word that names nothing. A list may: its line is a failure like any other."""
        for word in self._words:
            if not (os.path.exists(word) or _is_glob(word) or _has_pages(word)):
                raise MissingOrInvalid(
                    f"There is no file or folder {on_one_line(word)}.", "Check the path; quote it if it holds spaces."
                )

    def files(self) -> list[str]:
        """Every file once, the words in their order and what each means in natural order. Looks at the disk."""
        found: dict[str, str] = {}
        for word in (*self._words, *self._listed):
            for file in self._meant(word):
                found.setdefault(os.path.abspath(file), file)
        return list(found.values())

    def _meant(self, word: str) -> Iterator[str]:
        if os.path.isdir(word):
            yield from self._inside(word)
        elif _is_glob(word):
            for found in _matched(word):
                if os.path.isdir(found):
                    yield from self._inside(found)
                else:
                    yield found
        else:
            yield word

    def _inside(self, folder: str) -> Iterator[str]:
        for place, folders, files in os.walk(folder):
            folders[:] = sorted((each for each in folders if not each.startswith(".")), key=natural)
            for name in sorted(files, key=natural):
                if not name.startswith(".") and os.path.splitext(name)[1].casefold() in self._suffixes:
                    yield os.path.join(place, name)


def read_list(data: bytes) -> list[str]:
    """The names in a list, one on each line, or with zero bytes between them as `find -print0` writes them."""
    ends = b"\0" if b"\0" in data else b"\n"
    lines = data.removeprefix(b"\xef\xbb\xbf").split(ends)
    return [os.fsdecode(line) for each in lines if (line := each.removesuffix(b"\r") if ends == b"\n" else each)]


def read_list_file(path: Path) -> list[str]:
    """The names in a file. Raises `MissingOrInvalid`."""
    try:
        return read_list(path.read_bytes())
    except OSError as error:
        raise MissingOrInvalid(f"The list {path} cannot be read: {error.strerror}.", "Check the path.") from error


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """A key to sort by as people count: `page 2` before `page 10`."""
    parts = re.split(r"(\d+)", name.casefold())
    return tuple((1, int(part)) if part.isascii() and part.isdecimal() else (0, part) for part in parts)


def _matched(word: str) -> list[str]:
    """What a glob matches. `**` goes through links to folders, so that a loop shows each file many times."""
    shortest: dict[tuple[str, str], str] = {}
    for found in sorted(glob.iglob(word, recursive=True), key=lambda found: found.count(os.sep)):
        folder, name = os.path.split(found)
        shortest.setdefault((os.path.realpath(folder), name), found)
    return sorted(shortest.values(), key=natural)


def _is_glob(word: str) -> bool:
    return glob.has_magic(word) and not (os.path.exists(word) or _has_pages(word))


def _has_pages(word: str) -> bool:
    """Whether it names pages of a document that is there: `report.pdf#3`, `scan.tif#2-5`."""
    return split_pages(word)[1] is not None
