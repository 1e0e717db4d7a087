"""GGUF files that lie elsewhere, grouped as they lie together. Opens none of them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gguf_vl.errors import GgufVlError, InvalidModelFile, ModelNotFound
from gguf_vl.gguf.wire import shown

MAX_DEPTH = 6
"""Folders below the one that is searched; Hugging Face's and Ollama's own layouts need three."""

SUFFIX = ".gguf"

_BLOB = re.compile(r"(?:sha256[-:])?([0-9a-f]{64})")
_READABLE = "Check the path and that you may read it."

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be a model's. `path` is absolute and may be a link; `name` is its publisher's, if it has one."""

    path: Path
    name: str

    def stat(self) -> os.stat_result:
        """What the system says of the file. `InvalidModelFile` when it is gone or no plain file."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise unreadable(self.path, error).error from error
        if not stat.S_ISREG(found.st_mode):
            raise unreadable(self.path, ValueError("it is not a file")).error
        return found

    def promised_sha256(self) -> str | None:
        """The hash that its place says: Hugging Face and Ollama name their blobs by it. Lower-case hex."""
        real = self.path.resolve()
        found = _BLOB.fullmatch(real.name) if real.parent.name == "blobs" else None
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Group:
    """Files that lie together, so that a text model finds its projector among them. `source` is words for a person.

    `beside` are projectors that nobody named but that lie in the same folder as a named text model.
    """

    source: str
    files: tuple[Candidate, ...]
    beside: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Something found that is not taken, and why. `broken`: it should have been usable and is not."""

    path: Path
    error: GgufVlError
    broken: bool = True


def found_in(paths: Iterable[Path]) -> Iterator[Group | Refused]:
    """What the given files and folders hold. Files that are named together are one group, as are those of a folder."""
    named: list[Candidate] = []
    for given in paths:
        path = Path(os.path.expanduser(given)).absolute()
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
            str(path).encode()  # a receipt must be able to hold it
        except FileNotFoundError:
            yield Refused(path, ModelNotFound(f"There is no file {shown(path)}.", "Check the path."))
        except (OSError, ValueError) as error:
            yield unreadable(path, error)
        else:
            if is_folder:
                yield from _found_in_folder(path)
            else:
                named.append(Candidate(path, path.name))
    if named:
        yield Group("given by path", tuple(named), _projectors_beside(named))


def gguf_files(folder: Path) -> Iterator[Path | Refused]:
    """Every .gguf file of a folder and of those below it, in a fixed order; hidden ones are passed over."""
    for found in files_below(folder):
        if isinstance(found, Refused) or found.suffix.casefold() == SUFFIX:
            yield found


def files_below(folder: Path) -> Iterator[Path | Refused]:
    """Every file that is not hidden, at most `MAX_DEPTH` folders down. Links to folders are followed, once each."""
    return _below(folder, MAX_DEPTH, set())


def grouped(
    found: Iterable[Path | Refused],
    key: Callable[[Path], Key],
    source: Callable[[Key], str],
    name: Callable[[Path], str] = lambda path: path.name,
) -> Iterator[Group | Refused]:
    """The files with the same key as one group each, and what could not be read as it is met."""
    groups: dict[Key, list[Candidate]] = {}
    for item in found:
        if isinstance(item, Refused):
            yield item
        else:
            groups.setdefault(key(item), []).append(Candidate(item, name(item)))
    for together, files in groups.items():
        yield Group(source(together), tuple(files))


def unreadable(path: Path, error: Exception) -> Refused:
    """A file or folder that the system does not let us read, or whose content makes no sense."""
    reason = getattr(error, "strerror", None) or error
    return Refused(path, InvalidModelFile(f"{shown(path)} cannot be read: {reason}.", _READABLE))


def _found_in_folder(folder: Path) -> Iterator[Group | Refused]:
    nothing = True
    for found in grouped(gguf_files(folder), lambda path: path.parent, lambda parent: "a folder given by path"):
        nothing = False
        yield found
    if nothing:
        fix = "Name the folder that holds the .gguf files, or the files themselves."
        yield Refused(folder, ModelNotFound(f"{shown(folder)} holds no GGUF file.", fix))


def _projectors_beside(named: list[Candidate]) -> tuple[Candidate, ...]:
    beside = []
    for parent in dict.fromkeys(file.path.parent for file in named):
        try:
            entries = sorted(parent.iterdir())
        except OSError:  # a folder may be closed and its files open
            continue
        beside += [path for path in entries if path.suffix.casefold() == SUFFIX and "mmproj" in path.name.casefold()]
    known = {file.path for file in named}
    return tuple(Candidate(path, path.name) for path in beside if path not in known)


def _below(folder: Path, depth: int, seen: set[tuple[int, int]]) -> Iterator[Path | Refused]:
    try:
        itself = os.stat(folder)
        if (itself.st_dev, itself.st_ino) in seen:
            return
        seen.add((itself.st_dev, itself.st_ino))
        with os.scandir(folder) as entries:
            listed = sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError as error:
        yield unreadable(folder, error)
        return
    for name, is_folder in listed:
        if name.startswith("."):
            continue
        path = folder / name
        if is_folder:
            if depth:
                yield from _below(path, depth - 1, seen)
        else:
            try:
                str(path).encode()
                yield path
            except UnicodeEncodeError:
                yield unreadable(path, ValueError("its name is not UTF-8"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
