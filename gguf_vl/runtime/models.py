"""From what a person calls a model to its files, its limits and its recommended sampling."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from gguf_vl import catalogue
from gguf_vl.catalogue import Model
from gguf_vl.config import Settings
from gguf_vl.errors import ModelNotFound, UsageError
from gguf_vl.store import library
from gguf_vl.store.bundle import published
from gguf_vl.store.known import models_of_sizes
from gguf_vl.store.library import LocalModel
from gguf_vl.types import PictureLimits, Sampling

DEFAULT_LIMITS = PictureLimits(8, 4096)
"""llama.cpp's own range of image tokens for a Qwen3-VL (FACTS)."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A model that can be started: its files, what the catalogue knows of it, and why it was chosen."""

    local: LocalModel
    known: Model | None
    why: str

    @property
    def name(self) -> str:
        """What it is called here: the catalogue's name, the folder's, or the file's."""
        return self.local.name

    @property
    def limits(self) -> PictureLimits:
        """Image tokens one picture may take."""
        return self.known.picture_limits if self.known else DEFAULT_LIMITS

    def sampling(self, settings: Settings, *, pictures: bool) -> Sampling:
        """The recommended sampling, with pictures or for text alone, and the person's settings over it.

        At temperature 0 no penalty applies, since nobody asked for one.
        """
        recommended = Sampling()
        if self.known:
            recommended = self.known.sampling(pictures=pictures)
        wishes = {
            name: value
            for name in ("temperature", "top_p", "top_k", "seed", "max_tokens")
            if (value := getattr(settings, name)) is not None
        }
        chosen = replace(recommended, **wishes)
        if chosen.temperature == 0:
            chosen = replace(chosen, presence_penalty=0.0, frequency_penalty=0.0, repetition_penalty=1.0)
        return chosen


def wished(settings: Settings) -> Installed | None:
    """The model of the settings; None where they name none.

    Raises `ModelNotFound` for a name or path that is not here, `InvalidModelFile` for a file that is no such model,
    `UsageError` for a projector without a model.
    """
    name = wished_name(settings)
    return None if name is None else named(name, mmproj=settings.mmproj)


def wished_name(settings: Settings) -> str | None:
    """The name or path of the model in the settings, if any. Raises `UsageError` for a projector without a model."""
    if settings.model is None and settings.mmproj is not None:
        raise UsageError("A projector is chosen, but no model to use it with.", "Give the model too.")
    return settings.model


def best_first() -> list[Installed]:
    """Every model here that sees, the largest first and `pocket` last. Raises `ModelNotFound` when not even that is."""
    seeing = [entry for entry in library.scan() if isinstance(entry, LocalModel) and entry.projector]
    if not seeing:
        raise ModelNotFound("Not even the embedded model is here: the installation is damaged.", "Install it again.")
    return [
        Installed(entry, _known(entry), "the largest model installed")
        for entry in sorted(seeing, key=lambda entry: (entry.name != "pocket", entry.n_bytes), reverse=True)
    ]


def all_here() -> list[Installed]:
    """Every model that is here and whole. A broken one never hides the others."""
    return [Installed(each, _known(each), "as asked") for each in library.scan() if isinstance(each, LocalModel)]


def of_name(name: str) -> Installed:
    """The installed model of that name, never a file by its path. Raises `ModelNotFound`, `InvalidModelFile`."""
    local = library.installed(name)
    return Installed(local, _known(local), "as asked")


def named(name: str, *, mmproj: Path | None = None) -> Installed:
    """The model of that name, or in the GGUF file of that path. Raises like `wished`."""
    path = Path(name).expanduser()
    if path.suffix == ".gguf" or os.path.isfile(path):
        local = library.open_file(path, mmproj=mmproj)
    else:
        local = library.installed(name)
        if mmproj:
            local = library.open_file(local.model, mmproj=mmproj, name=local.name)
    return Installed(local, _known(local), "as asked")


def _known(local: LocalModel) -> Model | None:
    """What the catalogue knows of a model: by its name, by its publisher's file name, else by its sizes."""
    for model in catalogue.load_catalogue().values():
        if local.name == model.name or local.model.name in {variant.file.name for variant in model.variants}:
            return model
    if local.folder and (kept := published.kept(local.folder)):
        return kept
    thinking = "thinking" in f"{local.text.name} {local.model.name}".casefold()
    return next((model for model in models_of_sizes(local.text) if model.thinking == thinking), None)
