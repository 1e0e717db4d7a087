"""What a model that is taken in is called: the catalogue's name where it is that model, else one of its own."""

from __future__ import annotations

import re
from pathlib import PurePath

from gguf_vl.catalogue import Model, Variant, load_catalogue
from gguf_vl.store.known import models_of_sizes
from gguf_vl.store.place import name_from

from .candidates import SUFFIX
from .pairing import Pair

_SAYS_NOTHING = re.compile(r"(?:ggml-)?model(?:[-_.].*)?|(?:sha256[-:])?[0-9a-f]{64}|")
_OF_THE_MODEL = re.compile(r"qwen|qwen3(?:vl)?|3|vl|\d+b|instruct|thinking|gguf|ggml|model|")


def name_for(pair: Pair, sha256: str | None = None) -> str:
    """The name of a pair; `sha256` is its text model's, where it is known."""
    return _of_the_catalogue(pair, sha256) or _of_its_own(pair)


def _of_the_catalogue(pair: Pair, sha256: str | None) -> str | None:
    """By hash; else it has the sizes of a known model, and its file name, or what it says of itself, is a variant's."""
    file, text = pair.text.file, pair.text.shape
    every = [(model, variant) for model in load_catalogue().values() for variant in model.variants]
    for model, variant in every:
        if sha256 and variant.file.sha256 == sha256:
            return _called(model, variant)
    sized = models_of_sizes(text)
    every = [(model, variant) for model, variant in every if model in sized]
    for model, variant in every:
        if variant.file.name.casefold() == file.name.casefold():
            return _called(model, variant)
    thinking = pair.text.training == "Thinking"
    for model, variant in every:
        if model.thinking == thinking and variant.quant == text.quantisation.casefold() and not _is_derived(pair):
            return _called(model, variant)
    return None


def _called(model: Model, variant: Variant) -> str:
    return model.name if variant is model.default else f"{model.name}:{variant.quant}"


def _is_derived(pair: Pair) -> bool:
    """Whether its names have words that the published model's have not: a fine-tune has the same sizes."""
    said = [_stem(pair).casefold().replace(pair.text.shape.quantisation.casefold(), "")]
    said += [name.casefold() for name in (pair.text.shape.name, pair.text.finetune) if name]
    return not all(_OF_THE_MODEL.fullmatch(word) for name in said for word in re.split(r"[\W_]+", name))


def _of_its_own(pair: Pair) -> str:
    """The file's name, which tells quantisations apart; where that says nothing, what the header says."""
    label = _stem(pair)
    if _SAYS_NOTHING.fullmatch(label.casefold()):
        label = f"{pair.text.shape.name or pair.text.shape.architecture}-{pair.text.shape.quantisation}"
    return name_from(label)


def _stem(pair: Pair) -> str:
    name = pair.text.file.name
    return PurePath(name).stem if name.casefold().endswith(SUFFIX) else name
