"""Which of the files that lie together are a text model and its projector. Reads headers alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gguf_vl.errors import InvalidModelFile
from gguf_vl.gguf import Header, ProjectorShape, TextShape, projector_shape, read_header, text_shape
from gguf_vl.gguf.shape import PROJECTOR_ARCHITECTURE
from gguf_vl.gguf.wire import shown
from gguf_vl.store import belonging
from gguf_vl.store.belonging import Training, training_of
from gguf_vl.store.known import models_of_sizes

from .candidates import Candidate, Group, Refused

QWEN3VL = "qwen3vl"
QWEN3VL_PROJECTOR = "qwen3vl_merger"

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_OWN_PROJECTOR = "Use the projector that was published with this model"


@dataclass(frozen=True, slots=True)
class Text:
    """A text model. `training` is None where neither its header nor its name says it."""

    file: Candidate
    shape: TextShape
    training: Training | None
    finetune: str | None


@dataclass(frozen=True, slots=True)
class Mmproj:
    """A projector; `training` is that of the model it was made with."""

    file: Candidate
    shape: ProjectorShape
    training: Training | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A text model with its projector; without one it reads text only. `source` is words for a person."""

    source: str
    text: Text
    mmproj: Mmproj | None

    @property
    def files(self) -> tuple[Candidate, ...]:
        """The text model, then the projector."""
        return (self.text.file, self.mmproj.file) if self.mmproj else (self.text.file,)


def pairs_in(group: Group, *, only_qwen3vl: bool = False) -> Iterator[Pair | Refused]:
    """The group's text models, each with the projector that belongs to it, and what cannot be taken.

    With `only_qwen3vl` other models are left, and so is one without a projector; else any GGUF text model is taken.
    """
    opened = list(_opened(group.files, only_qwen3vl))
    texts = [item for item in opened if isinstance(item, Text)]
    mmprojs = [item for item in opened if isinstance(item, Mmproj)]
    refused = [item for item in opened if isinstance(item, Refused)]
    yield from refused
    spoilt = {item.path for item in refused} & {file.path for file in group.files if "mmproj" in file.name.casefold()}
    alone, claimed = [], set()
    for text in texts:
        if mmproj := _best(text, mmprojs):
            claimed.add(mmproj.file)
            yield Pair(group.source, text, mmproj)
        else:
            alone.append(text)
    left = [mmproj for mmproj in mmprojs if mmproj.file not in claimed]
    for text in alone:
        sees = bool(text.shape.n_deepstack) or len(texts) == 1  # so that one of the projectors was meant for it
        if left and sees:
            yield Refused(text.file.path, _does_not_belong(text, left[0]), broken=False)
        elif spoilt and sees:
            yield Refused(text.file.path, _projector_refused(text), broken=False)
        elif only_qwen3vl:
            yield Refused(text.file.path, _without_projector(text), broken=False)
        else:
            same_folder = [file for file in group.beside if file.path.parent == text.file.path.parent]
            beside = [item for item in _opened(same_folder, only_qwen3vl) if isinstance(item, Mmproj)]
            yield Pair(group.source, text, _best(text, beside))
    if len(mmprojs) == len(opened):
        for mmproj in mmprojs:
            yield Refused(mmproj.file.path, _without_text(mmproj), broken=False)


def _objection(text: Text, mmproj: Mmproj) -> str | None:
    return belonging.objection(text.shape, mmproj.shape, text.training, mmproj.training)


def _opened(files: Iterable[Candidate], only_qwen3vl: bool) -> Iterator[Text | Mmproj | Refused]:
    split: set[str] = set()
    for file in files:
        if part := _PART.fullmatch(file.name):
            whole = str(file.path.with_name(part[1]))
            if whole not in split:
                split.add(whole)
                yield Refused(file.path, _is_split(file, int(part[3])), broken=False)
            continue
        try:
            yield _read(file, only_qwen3vl)
        except InvalidModelFile as error:
            yield Refused(file.path, error)


def _read(file: Candidate, only_qwen3vl: bool) -> Text | Mmproj | Refused:
    header = read_header(file.path)
    training, finetune = training_of(header, file.name), header.metadata.get("general.finetune")
    architecture = header.metadata.get("general.architecture")
    if only_qwen3vl and (kind := _other_kind(header, architecture)):
        return Refused(file.path, InvalidModelFile(f"{shown(file.path)} is {kind}, not a Qwen3-VL.", ""), broken=False)
    if architecture == PROJECTOR_ARCHITECTURE:
        return Mmproj(file, projector_shape(header), training)
    shape = text_shape(header)
    if any(tensor.name.startswith("v.") for tensor in shape.tensors):
        fix = "Take the model as two files, text and mmproj, from its publisher or with `gguf-vl pull`."
        what = f"{shown(file.path)} has its vision tower inside, a form that only Ollama reads."
        return Refused(file.path, InvalidModelFile(what, fix), broken=False)
    return Text(file, shape, training, finetune if isinstance(finetune, str) else None)


def _other_kind(header: Header, architecture: object) -> str | None:
    """What a file is that is neither of a Qwen3-VL's two."""
    if architecture == QWEN3VL:
        return None
    if architecture != PROJECTOR_ARCHITECTURE:
        return f"a model of architecture {shown(architecture, 40)}"
    kind = header.metadata.get("clip.projector_type", header.metadata.get("clip.vision.projector_type"))
    return None if kind == QWEN3VL_PROJECTOR else f"a projector of type {shown(kind, 40)}"


def _best(text: Text, mmprojs: list[Mmproj]) -> Mmproj | None:
    """Of the projectors that nothing speaks against: the catalogue's for this file, else the one named most like it."""
    variants = (variant for model in models_of_sizes(text.shape) for variant in model.variants)
    published = {variant.mmproj.name for variant in variants if variant.file.name == text.file.name}

    def likeness(mmproj: Mmproj) -> tuple[bool, bool, int, str]:
        name, trained_alike = mmproj.file.name, mmproj.training == text.training
        return name in published, trained_alike, belonging.likeness(name, text.file.name), name

    return max((mmproj for mmproj in mmprojs if _objection(text, mmproj) is None), key=likeness, default=None)


def _does_not_belong(text: Text, mmproj: Mmproj) -> InvalidModelFile:
    return InvalidModelFile(
        f"{shown(mmproj.file.path)} does not belong to {shown(text.file.name)}: {_objection(text, mmproj)}.",
        f"{_OWN_PROJECTOR}, or import the model alone to read text.",
    )


def _without_projector(text: Text) -> InvalidModelFile:
    fix = "Import it by its path: with its projector's path, or alone to read text."
    return InvalidModelFile(f"{shown(text.file.path)} has no projector beside it.", fix)


def _projector_refused(text: Text) -> InvalidModelFile:
    fix = "Fetch the projector again, or give the text model's path alone to read text."
    return InvalidModelFile(f"{shown(text.file.path)} is left until its projector can be used.", fix)


def _without_text(mmproj: Mmproj) -> InvalidModelFile:
    fix = "Give its text model too, and both are taken in together."
    return InvalidModelFile(f"{shown(mmproj.file.path)} is a projector without its text model.", fix)


def _is_split(file: Candidate, parts: int) -> InvalidModelFile:
    fix = "Merge the parts with llama.cpp's `llama-gguf-split --merge`, or take the model as one file."
    return InvalidModelFile(f"{shown(file.path)} is one of {parts} parts of a split model.", fix)
