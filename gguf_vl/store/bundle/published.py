"""What the catalogue has to say of a bundle's models: here, and where it was packed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gguf_vl import __version__, catalogue, paths
from gguf_vl.catalogue import Model
from gguf_vl.errors import VerificationFailed
from gguf_vl.gguf import read_header, text_shape
from gguf_vl.store import place
from gguf_vl.store.bundle.manifest import KEPT_ENTRY, BundledModel, Manifest, ModelFile
from gguf_vl.store.disk import telling
from gguf_vl.store.known import models_of_sizes, published_files
from gguf_vl.store.receipt import Promise


def check(manifest: Manifest) -> None:
    """See that nothing in a bundle is called like a published file or model and is another: `VerificationFailed`.

    A model that is inside this package is not looked at: it is not installed from a bundle.
    """
    for model in manifest.models:
        for file in model.files:
            if why := unlike_published(model, file):
                raise VerificationFailed(
                    f"The bundle's {model.name} is not what it is called: {file.name} {why}.",
                    f"Don't install it, unless gguf-vl {manifest.program}, which packed it, is newer than this one "
                    f"({__version__}) and may know a newer file: then update gguf-vl first.",
                )


def unlike_published(model: BundledModel, file: ModelFile) -> str | None:
    """How a file differs from what it, or its model, is called in the catalogue, in words that follow its name.

    None when it does not.
    """
    if place.folder_of(model.name) == paths.pocket_dir():
        return None
    for known in published_files():
        if known.name.casefold() == file.name.casefold():
            if known.size not in (None, file.size):
                return f"has {file.size} bytes, and the published file of that name has {known.size}"
            if known.sha256 not in (None, file.sha256):
                return f"has the sha256 {file.sha256}, and the published file of that name has {known.sha256}"
    return place.foreign(model.name, file.content)


def promised_by(file: ModelFile) -> Promise:
    """Who vouches for a file of a bundle that `check` has passed."""
    return "catalogue" if any(known.sha256 == file.sha256 for known in published_files()) else "bundle"


def check_sizes(model: BundledModel, file: Path) -> None:
    """See that what has a catalogue model's name has a text model of its size, here in `file`: `VerificationFailed`."""
    known = catalogue.load_catalogue().get(_base(model))
    if not known or not known.shape:
        return
    text = text_shape(read_header(file))
    if known not in models_of_sizes(text):
        raise VerificationFailed(
            f"{model.name} is not what it is called: its text model has {text.n_layer} layers of width {text.n_embd}, "
            f"and {known.title} has {known.shape.text.n_layer} of {known.shape.text.n_embd}.",
            "Don't use it under that name: whoever packs it can import it under another.",
        )


def entries(models: Iterable[BundledModel]) -> dict[str, Any]:
    """What this catalogue says of the models, to go along with them; empty where it says nothing.

    The model inside this package is there already on the other side.
    """
    known = (_model(model, catalogue.load_catalogue()) for model in models)
    names = {each.name: None for each in known if each and not each.embedded}
    return catalogue.excerpt(names) if names else {}


def keep(model: BundledModel, manifest: Manifest, folder: Path) -> None:
    """Put what the packer's catalogue says of a model into its folder, where the catalogue here does not know it."""
    try:
        theirs = _model(model, catalogue.from_excerpt(manifest.catalogue))
    except ValueError:  # of another form than this gguf-vl knows: the model works without
        return
    if theirs and not _model(model, catalogue.load_catalogue()):
        entry = catalogue.cut(
            {**manifest.catalogue, "models": {theirs.name: manifest.catalogue["models"][theirs.name]}}
        )
        with telling(folder, "written"):
            (folder / KEPT_ENTRY).write_text(json.dumps(entry, ensure_ascii=False, indent=1), encoding="utf-8")


def kept(folder: Path) -> Model | None:
    """What the packer's catalogue said of the model in this folder; None where nothing was kept."""
    try:
        return next(iter(catalogue.from_excerpt(json.loads((folder / KEPT_ENTRY).read_bytes())).values()), None)
    except (OSError, ValueError, RecursionError):
        return None


def _model(model: BundledModel, models: Mapping[str, Model]) -> Model | None:
    """By its name, else by its text model's."""
    if found := models.get(_base(model)):
        return found
    file = model.model.name.casefold()
    return next(
        (each for each in models.values() for variant in each.variants if variant.file.name.casefold() == file), None
    )


def _base(model: BundledModel) -> str:
    """`8b` for `8b:q8_0`."""
    return model.name.casefold().partition(":")[0]
