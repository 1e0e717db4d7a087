"""What can be planned for: a model that is here, or a published one of which the catalogue knows the shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gguf_vl import catalogue
from gguf_vl.errors import MissingOrInvalid, ModelNotFound
from gguf_vl.fit.layout import Subject
from gguf_vl.gguf import projector_shape, read_header, text_shape
from gguf_vl.runtime.models import Installed, named
from gguf_vl.store.blueprint import projector_skeleton, text_skeleton

PUBLISHED = ("8b:q8_0", "8b", "4b:q8_0", "4b", "2b:q8_0", "2b")
"""To choose from, the best first: a larger model in four bits answers better than a smaller one in eight."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to plan for. `path` is its text model and `mmproj` its projector, or stand-ins without weights where it
    `is_here` not.
    """

    name: str
    subject: Subject
    path: Path
    mmproj: Path | None
    is_here: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, the text model first."""
        return (self.path, self.mmproj) if self.mmproj else (self.path,)

    def key(self, path: Path) -> str:
        """What a remembered answer about one of its files holds for."""
        stat = path.stat()
        return f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns}" if self.is_here else path.name


def here(installed: Installed) -> Candidate:
    """A model on this machine."""
    local = installed.local
    subject = Subject(local.text, local.projector, installed.limits)
    return Candidate(installed.name, subject, local.model, local.mmproj, is_here=True)


def published(name: str) -> Candidate:
    """A published model, by the shape and types the catalogue has for it.

    Raises `ModelNotFound` for an unknown name, `MissingOrInvalid` where the catalogue does not know the shape.
    """
    model, variant = catalogue.find(name)
    if model.shape is None:
        what = f"{name} is not here, and the catalogue does not know its shape."
        raise MissingOrInvalid(what, f"Fetch it first: `gguf-vl pull {name}`.")
    projector = next(each for each in model.projectors if each.file == variant.mmproj)
    path, mmproj = text_skeleton(model, variant), projector_skeleton(model, projector)
    subject = Subject(text_shape(read_header(path)), projector_shape(read_header(mmproj)), model.picture_limits)
    return Candidate(name.strip().casefold(), subject, path, mmproj, is_here=False)


def of_name(name: str, mmproj: Path | None = None) -> Candidate:
    """The model of that name or path, if it is here; else the published one of that name, with its own projector.

    Raises `ModelNotFound`, and what `models.named` raises.
    """
    try:
        return here(named(name, mmproj=mmproj))
    except ModelNotFound:
        if mmproj or not _is_published(name):
            raise
        return published(name)


def _is_published(name: str) -> bool:
    try:
        model, _ = catalogue.find(name)
    except ModelNotFound:
        return False
    return not model.embedded
