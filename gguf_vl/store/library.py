"""Which models are here: the embedded one, those in our folder, and any GGUF file a person points at.

Before it looks, a swap that was interrupted is put right: else a power cut would hide the model that is whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from gguf_vl import catalogue, paths
from gguf_vl.errors import GgufVlError, InvalidModelFile, ModelNotFound
from gguf_vl.gguf import Header, ProjectorShape, TextShape, projector_shape, read_header, text_shape
from gguf_vl.gguf.shape import PROJECTOR_ARCHITECTURE
from gguf_vl.store.belonging import Training, likeness, objection, training_of
from gguf_vl.store.disk import telling
from gguf_vl.store.place import folder_name, folder_of, folders, sweep
from gguf_vl.store.receipt import Receipt, read_receipt

__all__ = [
    "Broken",
    "LocalModel",
    "find",
    "folder_meant",
    "folder_name",
    "folder_of",
    "installed",
    "open_file",
    "open_folder",
    "scan",
]


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A text model on disk, with its projector where there is one. `n_bytes` is both files'."""

    name: str
    model: Path
    mmproj: Path | None
    text: TextShape
    projector: ProjectorShape | None
    n_bytes: int
    folder: Path | None = None
    """The one of `models/` that it is in, or pocket's."""
    receipt: Receipt | None = None
    """Where its folder has one."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A folder of models that cannot be used, and why."""

    name: str
    folder: Path
    trouble: str


def scan() -> list[LocalModel | Broken]:
    """The embedded model, then every folder of `models/` by name. A broken one never hides the others.

    Raises `GgufVlError` when `models/` cannot be read.
    """
    sweep()
    return [_entry("pocket", paths.pocket_dir()), *(_entry(folder.name, folder) for folder in folders())]


def find(name: str) -> LocalModel | None:
    """The model in the folder of that name, case ignored; None where there is none. `InvalidModelFile` if broken."""
    sweep()
    folder = folder_of(name)
    return open_folder(folder, name.casefold()) if folder else None


def installed(name: str) -> LocalModel:
    """The model of that name, else the one with the file that a catalogue name such as `8b:q8_0` means.

    Raises `ModelNotFound`, and `InvalidModelFile` when it is broken.
    """
    if local := find(name):
        return local
    model, variant = catalogue.find(name)
    local = find(model.name)
    if local and local.model.name == variant.file.name:
        return local
    here = f"{model.name} is here as {local.model.name}," if local else f"{model.name} is"
    raise ModelNotFound(
        f"{here} not on this machine as {variant.file.name}.",
        f"Fetch it with `gguf-vl pull {name}`; where there is no network, see `gguf-vl bundle --help`.",
    )


def folder_meant(name: str) -> Path | None:
    """The folder of the model that `installed` means; it may be broken where it has that very name. None for none."""
    sweep()
    if folder := folder_of(name):
        return folder
    try:
        return installed(name).folder
    except ModelNotFound:
        return None


def open_folder(folder: Path, name: str | None = None) -> LocalModel:
    """The model of a folder: what its receipt says, else its one text model with the projector beside it.

    Raises `InvalidModelFile` when there is not just one, or a file of it is gone.
    """
    try:
        return _opened(folder, name)
    except ModelNotFound as error:
        raise InvalidModelFile(error.what, f"See how to get it again: gguf-vl verify {folder.name}") from error


def _opened(folder: Path, name: str | None) -> LocalModel:
    if not os.path.isdir(folder):
        what = f"{folder} is a link to {os.path.realpath(folder)}, and no folder is there."
        raise InvalidModelFile(what, f"Mend it, or take it away: gguf-vl rm {folder.name}")
    receipt = read_receipt(folder)
    if receipt:
        mmproj = receipt.mmproj.at(folder) if receipt.mmproj else None
        local = open_file(receipt.model.at(folder), mmproj=mmproj, name=receipt.name)
        return replace(local, folder=folder, receipt=receipt)
    texts = [path for path in _listing(folder) if path.suffix == ".gguf" and not _is_projector(path)]
    if len(texts) != 1:
        raise InvalidModelFile(
            f"{folder} holds {len(texts)} text models where one is expected.", "Give the file itself with --model."
        )
    return replace(open_file(texts[0], name=name or folder.name), folder=folder)


def open_file(model: Path, *, mmproj: Path | None = None, name: str | None = None) -> LocalModel:
    """A GGUF text model with the given projector, or the one beside it that belongs to it.

    Raises `ModelNotFound` when a file is not there, `InvalidModelFile` when one is not what it should be.
    """
    for path in filter(None, (model, mmproj)):
        if not os.path.isfile(path):  # also false for a name that is too long
            raise ModelNotFound(f"There is no file {path}.", "Check the path, or see `gguf-vl list`.")
    header = read_header(model)
    if _is_projector_header(header):
        raise InvalidModelFile(
            f"{model.name} is a projector, not a text model.", "Give the text model, and this file with --mmproj."
        )
    text, trained = text_shape(header), training_of(header, model.name)
    projector = mmproj or _projector_beside(model, text, trained)
    shape = None
    if projector:
        shape, reason = _examined(projector, text, trained)
        if reason:
            raise InvalidModelFile(
                f"{projector.name} does not belong to {model.name}: {reason}.",
                "Use the projector that was published with this model.",
            )
    n_bytes = model.stat().st_size + (projector.stat().st_size if projector else 0)
    return LocalModel(name or model.stem, model, projector, text, shape, n_bytes)


def _entry(name: str, folder: Path) -> LocalModel | Broken:
    try:
        return open_folder(folder, name)
    except GgufVlError as error:
        return Broken(name, folder, error.what)
    except OSError as error:
        return Broken(name, folder, f"it cannot be read: {error.strerror}")


def _examined(projector: Path, text: TextShape, trained: Training | None) -> tuple[ProjectorShape, str | None]:
    """A projector's shape, and why it does not belong to the text model."""
    header = read_header(projector)
    shape = projector_shape(header)
    return shape, objection(text, shape, trained, training_of(header, projector.name))


def _projector_beside(model: Path, text: TextShape, trained: Training | None) -> Path | None:
    """Of the projectors in the model's folder that belong to it, the one whose name is most like the model's."""
    fitting = []
    for path in _listing(model.parent):
        if path.suffix != ".gguf" or path == model or "mmproj" not in path.name.casefold():
            continue
        try:
            if _examined(path, text, trained)[1] is None:
                fitting.append(path)
        except InvalidModelFile:
            continue
    return max(fitting, key=lambda path: (likeness(path.name, model.name), path.name), default=None)


def _is_projector(path: Path) -> bool:
    """Whether a GGUF file is a projector, by its name, else by its header."""
    if "mmproj" in path.name.casefold():
        return True
    try:
        return _is_projector_header(read_header(path))
    except InvalidModelFile:
        return False


def _is_projector_header(header: Header) -> bool:
    return header.metadata.get("general.architecture") == PROJECTOR_ARCHITECTURE


def _listing(folder: Path) -> list[Path]:
    with telling(folder, "read"):
        return sorted(folder.iterdir()) if folder.is_dir() else []
