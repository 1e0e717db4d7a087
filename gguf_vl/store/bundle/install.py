"""Takes the models of a bundle over: all of them when every byte is right, none otherwise.

One pass over the bundle: what is read is verified and written to a hidden folder beside the models at once, and that
is renamed into place at the end. So a damaged bundle changes nothing, and no model is on the disk twice.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from gguf_vl import paths
from gguf_vl.errors import GgufVlError, InvalidModelFile
from gguf_vl.store import library
from gguf_vl.store.bundle import published
from gguf_vl.store.bundle.manifest import MODELS, BundledModel
from gguf_vl.store.bundle.reading import Verified, reading
from gguf_vl.store.bundle.stream import sync_folder, telling
from gguf_vl.store.hashing import sha256_of
from gguf_vl.store.progress import Progress
from gguf_vl.store.receipt import FileRecord, Receipt, now, read_receipt, write_receipt

SPARE_BYTES = 64 << 20
"""Disk to be left over."""
_STAGING = ".installing-"

State = Literal["installed", "already here", "embedded"]
"""What became of a model. Embedded: it is the one inside this package, which is not replaced."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A bundled model and where it is now."""

    model: BundledModel
    state: State
    folder: Path


@dataclass(frozen=True, slots=True)
class Installation:
    """What an install has done."""

    bundle: Verified
    outcomes: tuple[Outcome, ...]


def install(path: Path, progress: Progress, trust: Path | None = None) -> Installation:
    """Install the models of the bundle at `path`, a tar or the first of its parts.

    A model that is here with the same hashes stays as it is. Raises what `reading.verify` does, `GgufVlError` for too
    little disk and for a model that is here with other content; then nothing has changed.
    """
    with reading(path, progress, trust) as bundle:
        states = {model.folder: _state(model, progress) for model in bundle.verified.manifest.models}
        wanted = [model for model in bundle.verified.manifest.models if states[model.folder] == "installed"]
        _check_disk(wanted)
        with _staging() if wanted else _nowhere() as staging:
            targets = {f"{MODELS}/{model.folder}/{file.name}" for model in wanted for file in model.files}
            for member, pieces in bundle.files():
                if staging and member.path in targets:
                    _write(staging / member.path.removeprefix(f"{MODELS}/"), pieces)
            if staging:
                for model in wanted:
                    published.keep(model, bundle.verified.manifest, staging / model.folder)
                    _finish(model, staging / model.folder, path.name)
                _take_over(wanted, staging, progress)
    outcomes = [Outcome(model, states[model.folder], _folder(model)) for model in bundle.verified.manifest.models]
    return Installation(bundle.verified, tuple(outcomes))


def _folder(model: BundledModel) -> Path:
    return library.folder_of(model.name) or paths.models_dir() / model.folder


def _state(model: BundledModel, progress: Progress) -> State:
    """What is to become of a model. `GgufVlError` when something else is in its place."""
    folder = _folder(model)
    if folder == paths.pocket_dir():
        return "embedded"
    if not os.path.lexists(folder):
        return "installed"
    if _hashes(folder, model, progress) == [file.sha256 for file in model.files]:
        return "already here"
    raise GgufVlError(
        f"A model {model.name} is here with other content than the bundle's, in {folder}; nothing was changed.",
        f"Remove it first, if you want the bundle's: gguf-vl rm {model.name}",
    )


def _hashes(folder: Path, model: BundledModel, progress: Progress) -> list[str] | None:
    """The hashes of the files of a model here; those of its receipt, where the files have its sizes."""
    try:
        receipt = read_receipt(folder)
    except InvalidModelFile:
        return None
    found = []
    for path, promised in (
        [(record.at(folder), record) for record in receipt.files]
        if receipt
        else [(folder / file.name, None) for file in model.files]
    ):
        if not path.is_file() or (promised and path.stat().st_size != promised.size):
            return None
        found.append(promised.sha256 if promised else _hash(path, progress))
    return found


def _hash(path: Path, progress: Progress) -> str:
    progress.start(str(path), path.stat().st_size)
    try:
        return sha256_of(path, lambda done: progress.at(str(path), done))
    finally:
        progress.end(str(path))


def _check_disk(models: list[BundledModel]) -> None:
    place = paths.models_dir()
    needed = sum(model.n_bytes for model in models)
    free = shutil.disk_usage(next(each for each in (place, *place.parents) if each.is_dir())).free
    if models and needed + SPARE_BYTES > free:
        raise GgufVlError(
            f"The bundle's models need {needed / 1e9:.2f} GB, and {place} has {free / 1e9:.2f} GB free.",
            "Free some space (`gguf-vl rm`), or set GGUF_VL_HOME to a larger disk.",
        )


@contextmanager
def _nowhere() -> Iterator[None]:
    yield None


@contextmanager
def _staging() -> Iterator[Path]:
    """A hidden folder beside the models, locked: one that is not is left over from a process that died."""
    place = paths.models_dir()
    with telling(place, "written"):
        place.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(place)
        folder = Path(tempfile.mkdtemp(prefix=_STAGING, dir=place))
    lock = FileLock(folder / ".lock")
    lock.acquire()
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(place: Path) -> None:
    for folder in place.glob(f"{_STAGING}*"):
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue  # another install is at work in it
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    """Write a file through to the disk. What reading raises passes as it is."""
    with telling(path, "written"):
        path.parent.mkdir(exist_ok=True)
        stream = path.open("xb")
    with stream:
        for piece in pieces:
            with telling(path, "written"):
                stream.write(piece)
        with telling(path, "written"):
            stream.flush()
            os.fsync(stream.fileno())


def _finish(model: BundledModel, folder: Path, bundle: str) -> None:
    """Give the unpacked model its receipt, and see that it is a model."""
    at = now()
    records = [FileRecord(file.name, file.size, file.sha256, published.promised_by(file), at) for file in model.files]
    source = f"{model.source} (bundle {bundle})"
    write_receipt(folder, Receipt(model.name, source, records[0], records[1] if len(records) > 1 else None))
    library.open_folder(folder)
    published.check_sizes(model, folder / model.model.name)
    sync_folder(folder)


def _take_over(models: list[BundledModel], staging: Path, progress: Progress) -> None:
    """Rename the models into place, all or none."""
    place, moved = paths.models_dir(), list[BundledModel]()
    try:
        for model in models:
            with _lock(model, progress):
                if _state(model, progress) == "installed":
                    with telling(place / model.folder, "written"):
                        (staging / model.folder).rename(place / model.folder)
                    moved.append(model)
    except BaseException:
        for model in moved:
            (place / model.folder).rename(staging / model.folder)
        raise
    sync_folder(place)


@contextmanager
def _lock(model: BundledModel, progress: Progress) -> Iterator[None]:
    """Keep `pull` away from the model's place, which holds the same lock."""
    lock = FileLock(paths.models_dir() / f".{model.folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.note(f"Another gguf-vl is fetching {model.name}: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
