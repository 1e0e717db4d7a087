"""Takes models out of `models/`, and says beforehand what that frees."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from gguf_vl.errors import GgufVlError, InvalidModelFile, ModelNotFound, UsageError
from gguf_vl.store import place
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
    """What `remove` would do, each model once.

    Raises `ModelNotFound`, and `UsageError` for the model inside this package and for one of which another one, that
    is to stay, uses a file where it is.
    """
    removals = [_planned(name) for name in {folder_name(name).casefold(): name for name in names}.values()]
    going = {removal.folder for removal in removals}
    for removal in removals:
        for user, record in place.needed_elsewhere(removal.folder) if removal.folder else ():
            if user not in going:
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


def _planned(name: str) -> Removal:
    if name.casefold() == "pocket":
        raise UsageError("pocket is part of gguf-vl and stays.", "See `gguf-vl list` for what can be removed.")
    folder, begun = place.entry_of(name), _begun(name)
    if folder is None and not begun:
        raise ModelNotFound(f"There is no model {name} to remove.", "See `gguf-vl list`.")
    own = list(files_in(folder)) if folder and not folder.is_symlink() else []
    frees = sum(found.st_size for _, found in own if found.st_nlink == 1) + sum(each.n_bytes for each in begun)
    shared = tuple(path for path, found in own if found.st_nlink > 1)
    referenced = _referenced(folder) if folder and own else ()
    return Removal(name, folder, frees, shared, referenced, begun, _contents(folder, begun), _busy(name, begun))


def _contents(model: Path | None, begun: Sequence[Unfinished]) -> frozenset[tuple[Path, int, int, int]]:
    found = [item for each in begun for item in files_in(each.folder)]
    if model:
        found += [(model, model.lstat()), *(() if model.is_symlink() else files_in(model))]
    return frozenset((path, of.st_dev, of.st_ino, 0 if stat.S_ISDIR(of.st_mode) else of.st_size) for path, of in found)


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
