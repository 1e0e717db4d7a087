"""What the catalogue knows of files and of towers that are met on a disk."""

from __future__ import annotations

from collections.abc import Iterator

from gguf_vl.catalogue import File, Model, load_catalogue
from gguf_vl.gguf import TextShape


def published_files() -> Iterator[File]:
    """Every file of the catalogue."""
    for model in load_catalogue().values():
        yield from (variant.file for variant in model.variants)
        yield from (projector.file for projector in model.projectors)


def models_of_sizes(text: TextShape) -> tuple[Model, ...]:
    """The catalogue's models with a text tower of those sizes: a size's Instruct and its Thinking."""
    if text.architecture != "qwen3vl":
        return ()
    sizes = (text.n_embd, text.n_layer, text.n_ff, text.n_vocab)
    with_shapes = ((model, model.shape.text) for model in load_catalogue().values() if model.shape)
    return tuple(
        model for model, known in with_shapes if sizes == (known.n_embd, known.n_layer, known.n_ff, known.n_vocab)
    )
