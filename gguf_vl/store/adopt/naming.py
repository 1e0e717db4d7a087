"""What a model that is taken in is called: the catalogue's name where it is that model, else one of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from gguf_vl.catalogue import File, load_catalogue
from gguf_vl.store.known import models_of_sizes
from gguf_vl.store.place import foreign, name_from

from .candidates import SUFFIX
from .pairing import Pair

_SAYS_NOTHING = re.compile(r"(?:ggml-)?model(?:[-_.].*)?|(?:sha256[-:])?[0-9a-f]{64}|")


def name_for(pair: Pair, files: Sequence[File]) -> str:
    """The name of a pair, whose contents are `files`."""
    return _of_the_catalogue(pair, files) or _of_its_own(pair)


def _of_the_catalogue(pair: Pair, files: Sequence[File]) -> str | None:
    """The first name that the catalogue has for these very files. Another conversion of the same weights has none."""
    sized = models_of_sizes(pair.text.shape)
    for model in load_catalogue().values():
        for variant in model.variants:
            name = model.name if variant is model.default else f"{model.name}:{variant.quant}"
            if (variant.file.sha256 or model in sized) and not any(foreign(name, file) for file in files):
                return name
    return None


def _of_its_own(pair: Pair) -> str:
    """The file's name, which tells quantisations apart; where that says nothing, what the header says."""
    label = _stem(pair)
    if _SAYS_NOTHING.fullmatch(label.casefold()):
        label = f"{pair.text.shape.name or pair.text.shape.architecture}-{pair.text.shape.quantisation}"
    return name_from(label)


def _stem(pair: Pair) -> str:
    name = pair.text.file.name
    return PurePath(name).stem if name.casefold().endswith(SUFFIX) else name
