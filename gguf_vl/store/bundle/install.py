"""Takes the models of a bundle over: all of them when every byte is right, none otherwise.

One pass over the bundle: what is read is verified and written to a hidden folder beside the models at once, and that
is renamed into place at the end. So a damaged bundle changes nothing, and no model is on the disk twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gguf_vl import paths
from gguf_vl.errors import InvalidModelFile
from gguf_vl.store import disk, library, place
from gguf_vl.store.bundle import published
from gguf_vl.store.bundle.manifest import MODELS, BundledModel
from gguf_vl.store.bundle.reading import Verified, reading
from gguf_vl.store.disk import telling
from gguf_vl.store.hashing import sha256_of
from gguf_vl.store.progress import Progress
from gguf_vl.store.receipt import FileRecord, Receipt, now, read_receipt

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
    little disk and `UsageError` for a model that is here with other content; then nothing has changed.
    """
    with reading(path, progress, trust) as bundle:
        states = {model.folder: _state(model, progress) for model in bundle.verified.manifest.models}
        wanted = [model for model in bundle.verified.manifest.models if states[model.folder] == "installed"]
        disk.need(sum(model.n_bytes for model in wanted), paths.models_dir(), "The bundle's models")
        with place.staging() if wanted else nullcontext() as staging:
            targets = {f"{MODELS}/{model.folder}/{file.name}" for model in wanted for file in model.files}
            for member, pieces in bundle.files():
                if staging and member.path in targets:
                    _write(staging / member.path.removeprefix(f"{MODELS}/"), pieces)
            if staging:
                for model in wanted:
                    _check(model, staging / model.folder)
                    published.keep(model, bundle.verified.manifest, staging / model.folder)
                _take_over(wanted, staging, path.name, progress)
    outcomes = [Outcome(model, states[model.folder], _folder(model)) for model in bundle.verified.manifest.models]
    return Installation(bundle.verified, tuple(outcomes))


def _folder(model: BundledModel) -> Path:
    return place.folder_of(model.name) or paths.models_dir() / model.folder


def _state(model: BundledModel, progress: Progress) -> State:
    """What is to become of a model. `UsageError` when something else is in its place."""
    folder = _folder(model)
    if folder == paths.pocket_dir():
        return "embedded"
    if folder.is_dir() and _hashes(folder, model, progress) == [file.sha256 for file in model.files]:
        return "already here"
    files = [file.content for file in model.files]
    fix = f"Nothing was changed. Remove it first, if you want the bundle's: gguf-vl rm {model.name}"
    place.check_may_have(model.name, files, fix=fix)
    return "installed"


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
        if not path.is_file() or (promised and not (promised.verified and path.stat().st_size == promised.size)):
            return None
        found.append(promised.sha256 if promised else sha256_of(path, progress, str(path)))
    return found


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


def _check(model: BundledModel, folder: Path) -> None:
    """See that what was unpacked is a model, and the one that it is called."""
    text, *more = (folder / file.name for file in model.files)
    library.open_file(text, mmproj=more[0] if more else None)
    published.check_sizes(model, text)


def _take_over(models: list[BundledModel], staging: Path, bundle: str, progress: Progress) -> None:
    """Give the models their places, all or none; one that has come in the meantime keeps its own."""
    taken = list[Path]()
    with ExitStack() as locks:
        for model in sorted(models, key=lambda model: model.folder):  # in one order, so that two installs never cross
            locks.enter_context(place.locked(model.name, progress))
        missing = [model for model in models if _state(model, progress) == "installed"]
        try:
            for model in missing:
                taken.append(place.take_over(staging / model.folder, model.name, _receipt(model, bundle)))
        except BaseException:
            for folder in taken:
                folder.rename(staging / folder.name)
            raise


def _receipt(model: BundledModel, bundle: str) -> Receipt:
    at = now()
    text, *more = (FileRecord(f.name, f.size, f.sha256, published.promised_by(f), at) for f in model.files)
    return Receipt(model.name, f"{model.source} (bundle {bundle})", text, more[0] if more else None)
