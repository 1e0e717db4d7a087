"""Whether a projector belongs to a text model, as far as headers and names tell.

a, b = read_header(text_file), read_header(projector_file)
objection(text_shape(a), projector_shape(b), training_of(a, text_file.name), training_of(b, projector_file.name))
"""

from __future__ import annotations

from itertools import takewhile
from pathlib import PurePath
from typing import Literal

from gguf_vl.gguf import Header, ProjectorShape, TextShape, mismatch
from gguf_vl.store.known import models_of_sizes

Training = Literal["Instruct", "Thinking"]


def training_of(header: Header, file_name: str) -> Training | None:
    """How a model was trained, or the one a projector was made with: what its header says, else its file's name."""
    said = (header.metadata.get(f"general.{key}") for key in ("finetune", "name", "basename"))
    return first_telling(*said, file_name)


def first_telling(*said: object) -> Training | None:
    """What the first of these texts says that says one of the two alone."""
    for text in said:
        words = text.casefold() if isinstance(text, str) else ""
        if ("instruct" in words) != ("thinking" in words):
            return "Instruct" if "instruct" in words else "Thinking"
    return None


def objection(
    text: TextShape, projector: ProjectorShape, trained: Training | None, trained_with: Training | None
) -> str | None:
    """Why this is not the model's own projector, as a clause for a message; None when nothing speaks against it.

    Shapes tell sizes apart. Instruct and Thinking have the same: what `training_of` says of both files tells them.
    """
    if reason := mismatch(text, projector):
        return reason
    known = next((model.shape.vision for model in models_of_sizes(text) if model.shape), None)
    found = (projector.n_layer, projector.n_embd)
    if known and found != (known.n_layer, known.n_embd):
        return (
            f"its vision tower has {found[0]} layers of {found[1]} where this model's has {known.n_layer} of "
            f"{known.n_embd}"
        )
    if trained and trained_with and trained != trained_with:
        return f"the projector is of a {trained_with} model, and the model is {trained}"
    return None


def likeness(projector: str, text: str) -> int:
    """How many letters two files' names have in common from their beginnings on, `mmproj` and suffixes aside."""
    first, second = (
        PurePath(name).stem.casefold().replace("mmproj-", "").replace("-mmproj", "") for name in (projector, text)
    )
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))))
