"""Takes models out of `models/`, and says beforehand what that frees."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from gguf_vl.errors import GgufVlError, InvalidModelFile, ModelNotFound, UsageError
from gguf_vl.store import library, place
from gguf_vl.store.disk import telling
from gguf_vl.store.place import Unfinished, files_in, folder_name
from gguf_vl.store.progress import Progress, Silent
from gguf_vl.store.receipt import read_receipt


@dataclass(frozen=True, slots=True)
class Removal:
    """What removing a model means.

    `folder` is None where only pulls were begun, which are `unfinished`; where it is a link, only that goes. `frees` is
    bytes. `shared` are its files that stay on the disk under another name, a second model's or another program's;
    `referenced` those that belong to another program and are not touched. `busy` says that another process is at work
    on it just now.
    """

    name: str
    folder: Path | None
    frees: int
    shared: tuple[Path, ...]
    referenced: tuple[Path, ...]
    unfinished: tuple[Unfinished, ...]
    contents: frozenset[tuple[Path, int, int, int]]
    """Every file that goes: where, on which device, its inode and its size in bytes."""
    busy: str | None


def plan_removals(names: Sequence[str]) -> list[Removal]:
    """What `remove` would do, each model once. A file that several of them have counts for the first.

    Raises `ModelNotFound`, and `UsageError` for the model inside this package and for one of which another one, that
    is to stay, uses a file where it is.
    """
    place.sweep()
    wanted = {folder_name(name).casefold(): name for name in map(_name_here, names)}.values()
    places = {name: (place.entry_of(name), _begun(name)) for name in wanted}
    going = Counter(_inode(of) for found in places.values() for _, of in _files(*found))
    removals = [_planned(name, folder, begun, going) for name, (folder, begun) in places.items()]
    for removal in removals:
        for user, record in place.needed_elsewhere(removal.folder) if removal.folder else ():
            if user not in {removal.folder for removal in removals}:
                what = f"{user.name} uses {Path(record.path).name} of {removal.name} where it is."
                raise UsageError(what, f"Remove both, or {user.name} alone: gguf-vl rm {user.name}")
    return removals


def remove(removal: Removal, progress: Progress | None = None) -> None:
    """Remove the model, after waiting for another process that is at it; nothing where that has removed it.

    Raises `GgufVlError` where more would go now than the removal says.
    """
    with place.locked(removal.name, progress or Silent()):
        model, begun = place.entry_of(removal.name), _begun(removal.name)
        if not _contents(model, begun) <= removal.contents:
            what = f"{removal.name} has changed since it was looked at, and was not removed."
            raise GgufVlError(what, f"See `gguf-vl list`; if it is to go as it is now: gguf-vl rm {removal.name}")
        for folder in (*([model] if model else ()), *(each.folder for each in begun)):
            with telling(folder, "removed"):
                if folder.is_symlink() or not folder.is_dir():
                    folder.unlink()
                else:
                    place.discard(folder)


def _name_here(name: str) -> str:
    if place.entry_of(name) or _begun(name):
        return name
    meant = library.folder_meant(name)
    return meant.name if meant else name


def _planned(name: str, folder: Path | None, begun: tuple[Unfinished, ...], going: Counter[tuple[int, int]]) -> Removal:
    """`going` are the names that go of every file, and is emptied of those counted here."""
    if name.casefold() == "pocket":
        raise UsageError("pocket is part of gguf-vl and stays.", "See `gguf-vl list` for what can be removed.")
    if folder is None and not begun:
        raise ModelNotFound(f"There is no model {name} to remove.", "See `gguf-vl list`.")
    own = list(files_in(folder)) if folder and not folder.is_symlink() else []
    shared = tuple(path for path, of in own if of.st_nlink > going.get(_inode(of), of.st_nlink))
    frees = 0
    for _, of in _files(folder, begun):
        if going.get(_inode(of)) == of.st_nlink:
            frees += of.st_size
            del going[_inode(of)]
    referenced = _referenced(folder) if folder and own else ()
    return Removal(name, folder, frees, shared, referenced, begun, _contents(folder, begun), _busy(name, begun))


def _files(folder: Path | None, begun: Sequence[Unfinished]) -> Iterator[tuple[Path, os.stat_result]]:
    for each in (*([folder] if folder and not folder.is_symlink() else ()), *(each.folder for each in begun)):
        yield from files_in(each)


def _inode(of: os.stat_result) -> tuple[int, int]:
    return of.st_dev, of.st_ino


def _contents(folder: Path | None, begun: Sequence[Unfinished]) -> frozenset[tuple[Path, int, int, int]]:
    files = {(path, *_inode(of), of.st_size) for path, of in _files(folder, begun)}
    return frozenset(files | ({(folder, *_inode(folder.lstat()), 0)} if folder else set()))


def _busy(name: str, begun: Sequence[Unfinished]) -> str | None:
    """That a pull of it is running, in a sentence."""
    try:
        with place.locked(name, Silent(), wait=False) if begun else nullcontext():
            return None
    except GgufVlError as error:
        return error.what


def _begun(name: str) -> tuple[Unfinished, ...]:
    wanted = folder_name(name).casefold()
    return tuple(each for each in place.unfinished() if folder_name(each.name).casefold() == wanted)


def _referenced(folder: Path) -> tuple[Path, ...]:
    try:
        receipt = read_receipt(folder)
    except InvalidModelFile:
        return ()
    return tuple(Path(r.path) for r in receipt.files if os.path.isabs(r.path)) if receipt else ()
