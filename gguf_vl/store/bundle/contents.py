"""What goes into a bundle: the files of the models that were named, and what the manifest says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gguf_vl import catalogue
from gguf_vl.errors import InvalidModelFile, UsageError
from gguf_vl.gguf import read_header
from gguf_vl.store import library, place
from gguf_vl.store.bundle.manifest import BundledModel, ModelFile, check_file_name
from gguf_vl.store.hashing import sha256_of
from gguf_vl.store.library import LocalModel
from gguf_vl.store.progress import Progress


@dataclass(frozen=True, slots=True)
class Packed:
    """A model of this machine as a bundle has it, and where its files are, in the same order."""

    model: BundledModel
    files: tuple[Path, ...]


def packed(name: str, progress: Progress) -> Packed:
    """The model of that name (`2b`, `8b:q8_0`, `pocket`, a folder's). Files that no receipt knows are hashed.

    Raises `ModelNotFound` when it is not here, `InvalidModelFile` when it is broken or its files have names that not
    every system takes.
    """
    local = library.installed(name)
    known = catalogue.load_catalogue().get(local.name.casefold().partition(":")[0])
    metadata = read_header(local.model).metadata
    files = (local.model, local.mmproj) if local.mmproj else (local.model,)
    _check_names(local, files)
    described = [_model_file(local, file, progress) for file in files]
    model = BundledModel(
        name=local.name,
        title=known.title if known else _line(metadata.get("general.name")) or local.name,
        licence=known.licence if known else _line(metadata.get("general.license")) or "unknown",
        quantisation=_line(local.text.quantisation) or "unknown",
        source=_source(local),
        model=described[0],
        mmproj=described[1] if len(described) > 1 else None,
    )
    return Packed(model, files)


def _model_file(local: LocalModel, path: Path, progress: Progress) -> ModelFile:
    size = path.stat().st_size
    for record in local.receipt.files if local.receipt else ():
        if record.at(path.parent) == path and record.size == size:
            return ModelFile(path.name, size, record.sha256, record.promised_by)
    return ModelFile(path.name, size, sha256_of(path, progress, f"{path.name}: hashing"), "none")


def _source(local: LocalModel) -> str:
    if local.receipt:
        return _line(local.receipt.source.partition(" (bundle ")[0]) or "unknown"
    return f"gguf-vl itself, {local.name}" if local.name == "pocket" else "unknown"


def _line(text: object) -> str:
    """Text from a file, as one line that the manifest takes."""
    return "".join(char for char in text if char.isprintable()).strip()[:200] if isinstance(text, str) else ""


def _check_names(local: LocalModel, files: tuple[Path, ...]) -> None:
    try:
        place.check_name(local.name)
        for file in files:
            check_file_name(file.name)
        if len({file.name.casefold() for file in files}) < len(files):
            raise ValueError("its two files have the same name")
    except (UsageError, ValueError) as error:
        what = str(error).rstrip(".")
        raise InvalidModelFile(
            f"{local.name} cannot go into a bundle: {what} on every system.", "Rename it, and import it again."
        ) from error
