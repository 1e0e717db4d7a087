"""Takes a model out of `models/`, and says beforehand what that frees."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from gguf_vl import paths
from gguf_vl.errors import InvalidModelFile, ModelNotFound, UsageError
from gguf_vl.store import library
from gguf_vl.store.receipt import read_receipt


@dataclass(frozen=True, slots=True)
class Removal:
    """What removing a model means.

    `frees` is bytes. `shared` are its files that stay on the disk under another name, a second model's or another
    program's; `referenced` those that belong to another program and are not touched.
    """

    name: str
    folder: Path
    frees: int
    shared: tuple[Path, ...]
    referenced: tuple[Path, ...]


def plan_removal(name: str) -> Removal:
    """What `remove` would do. Raises `ModelNotFound`, and `UsageError` for the model inside this package."""
    if name.casefold() == "pocket":
        raise UsageError("pocket is part of gguf-vl and stays.", "See `gguf-vl list` for what can be removed.")
    folder = library.folder_of(name)
    if folder is None:
        raise ModelNotFound(f"There is no model {name} to remove.", "See `gguf-vl list`.")
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    shared = tuple(path for path in files if path.stat().st_nlink > 1)
    frees = sum(path.stat().st_size for path in files if path not in shared)
    return Removal(name, folder, frees, shared, _referenced(folder))


def remove(removal: Removal) -> None:
    """Remove the model's folder: first out of sight in one step, then its files."""
    doomed = paths.models_dir() / f".removing-{removal.folder.name}"
    shutil.rmtree(doomed, ignore_errors=True)
    removal.folder.rename(doomed)
    shutil.rmtree(doomed)


def _referenced(folder: Path) -> tuple[Path, ...]:
    try:
        receipt = read_receipt(folder)
    except InvalidModelFile:
        return ()
    return tuple(Path(r.path) for r in receipt.files if Path(r.path).is_absolute()) if receipt else ()
