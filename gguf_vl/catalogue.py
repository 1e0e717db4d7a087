"""The models this program knows by name: `models.toml` as frozen dataclasses.

Says what a model is and where it is published. Does not know which models are on this disk.
"""

from __future__ import annotations

import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

from gguf_vl import paths
from gguf_vl.errors import MissingOrInvalid, ModelNotFound
from gguf_vl.types import PictureLimits, Sampling

SCHEMA = 1
"""The form of `models.toml` that this module reads."""
_LONGEST_TEXT = 500
_LARGEST = 1 << 53


@dataclass(frozen=True, slots=True)
class File:
    """One published file. `size` is bytes, `sha256` lower-case hex; None is not known."""

    name: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Projector:
    """A model's vision tower and projector in one quantisation."""

    quant: str
    file: File


@dataclass(frozen=True, slots=True)
class Variant:
    """A model in one quantisation: its text file, and the projector that goes with it unless another is wished for."""

    quant: str
    file: File
    mmproj: File


@dataclass(frozen=True, slots=True)
class TextShape:
    """The text tower. Sizes are elements; `rope_sections` are the interleaved M-RoPE's time, height and width."""

    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_ff: int
    n_vocab: int
    tied_embeddings: bool
    rope_base: float
    rope_sections: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VisionShape:
    """The vision tower. Sizes are elements, `patch_size` pixels, `temporal_patch` frames.

    `deepstack_layers` count from 0; `n_out` is the width of one embedding, before DeepStack's are put beside it.
    """

    n_embd: int
    n_layer: int
    n_head: int
    n_ff: int
    deepstack_layers: tuple[int, ...]
    n_out: int
    patch_size: int
    spatial_merge: int
    temporal_patch: int
    n_positions: int


@dataclass(frozen=True, slots=True)
class Shape:
    """Both towers of a network."""

    text: TextShape
    vision: VisionShape


@dataclass(frozen=True, slots=True)
class Model:
    """A model with all its published files.

    `name` is the catalogue's (`2b`, `2b-thinking`). `sampling_with_pictures` and `sampling_text_alone` are what its
    makers recommend. `n_ctx_train` is tokens. `shape` is None where only the files' own headers say it.
    `huggingface` and `modelscope` are repositories, both None for the model inside this package; `revision` is the
    Hugging Face commit that has these files, None where it is not known.
    """

    name: str
    title: str
    licence: str
    thinking: bool
    shape: Shape | None
    n_ctx_train: int
    picture_limits: PictureLimits
    sampling_with_pictures: Sampling
    sampling_text_alone: Sampling
    huggingface: str | None
    modelscope: str | None
    revision: str | None
    variants: tuple[Variant, ...]
    projectors: tuple[Projector, ...]
    default: Variant

    @property
    def embedded(self) -> bool:
        """Whether the files are inside this package."""
        return self.huggingface is None and self.modelscope is None

    def sampling(self, *, pictures: bool) -> Sampling:
        """The recommended sampling for a conversation with pictures in it, or of text alone."""
        return self.sampling_with_pictures if pictures else self.sampling_text_alone


@cache
def load_catalogue() -> Mapping[str, Model]:
    """Every known model by name, in the order of `models.toml`. Read once.

    Raises `MissingOrInvalid` when this installation has no readable catalogue.
    """
    data = _data()
    return MappingProxyType({name: _model(name, entry, data) for name, entry in data["models"].items()})


def excerpt(names: Iterable[str]) -> dict[str, Any]:
    """The catalogue of these models alone, as plain data that `from_excerpt` takes on another machine."""
    data = _data()
    return cut({**data, "models": {name: data["models"][name] for name in names}})


def cut(data: Mapping[str, Any]) -> dict[str, Any]:
    """A catalogue without what its models do not refer to."""
    models = data["models"].values()
    return {
        "schema": data["schema"],
        "sampling": {entry["sampling"]: data["sampling"][entry["sampling"]] for entry in models},
        "shapes": {entry["shape"]: data["shapes"][entry["shape"]] for entry in models if "shape" in entry},
        "models": dict(data["models"]),
    }


def from_excerpt(data: object) -> Mapping[str, Model]:
    """The models of a catalogue that anybody may have made; `ValueError` when it is none."""
    try:
        if not isinstance(data, dict) or data["schema"] != SCHEMA or isinstance(data["schema"], bool):
            raise ValueError(f"it is not of the form {SCHEMA}")
        models = {name: _model(name, entry, data) for name, entry in data["models"].items()}
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("something in it is missing or of the wrong type") from error
    if not all(_is_of_type(model, Model) for model in models.values()):
        raise ValueError("something in it is of the wrong type")
    return MappingProxyType(models)


def find(name: str) -> tuple[Model, Variant]:
    """The model and variant that a name like `2b`, `8b:q8_0` or `pocket` means; case is ignored.

    Without a quantisation it is the model's default. Raises `ModelNotFound`, with the nearest names.
    """
    catalogue = load_catalogue()
    base, colon, quant = name.strip().casefold().partition(":")
    model = catalogue.get(base)
    if model is None:
        known = _either(list(catalogue))
        raise ModelNotFound(
            f"There is no model {name!r} in the catalogue.", _suggest(base, catalogue) or f"Take {known}."
        )
    if not colon:
        return model, model.default
    for variant in model.variants:
        if variant.quant == quant:
            return model, variant
    published = [f"{model.name}:{variant.quant}" for variant in model.variants]
    what = f"{model.title} is not in the catalogue as {quant!r}." if quant else f"{name!r} names no quantisation."
    raise ModelNotFound(what, f"Take {_either(published)}.")


def _data() -> Mapping[str, Any]:
    path = _catalogue_file()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(f"The catalogue {path} cannot be read: {error}.") from error
    if data.get("schema") != SCHEMA:
        raise _broken(f"The catalogue {path} has the form {data.get('schema')!r} where {SCHEMA} is expected.")
    return data


def _catalogue_file() -> Path:
    """A wheel carries the catalogue inside the package; in a checkout it is one folder up."""
    inside = paths.PACKAGE / "models.toml"
    return inside if inside.is_file() else paths.PACKAGE.parent / "models.toml"


def _broken(what: str) -> MissingOrInvalid:
    return MissingOrInvalid(what, "Install gguf-vl again: pip install --force-reinstall --no-deps gguf-vl")


def _suggest(base: str, catalogue: Mapping[str, Model]) -> str | None:
    from difflib import get_close_matches

    near = get_close_matches(base, catalogue, n=3, cutoff=0.5)
    return f"Did you mean {_either(near)}?" if near else None


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" or {names[-1]}"


def _model(name: str, entry: Mapping[str, Any], data: Mapping[str, Any]) -> Model:
    projectors = {quant: Projector(quant, _file(found)) for quant, found in entry["projectors"].items()}
    variants = {
        quant: Variant(quant, _file(found), projectors[found["mmproj"]].file)
        for quant, found in entry["variants"].items()
    }
    sampling = data["sampling"][entry["sampling"]]
    return Model(
        name=name,
        title=entry["title"],
        licence=entry["licence"],
        thinking=entry["thinking"],
        shape=_shape(data["shapes"][entry["shape"]]) if "shape" in entry else None,
        n_ctx_train=entry["n_ctx_train"],
        picture_limits=PictureLimits(entry["image_tokens"]["min"], entry["image_tokens"]["max"]),
        sampling_with_pictures=Sampling(**sampling["with_pictures"]),
        sampling_text_alone=Sampling(**sampling["text_alone"]),
        huggingface=entry.get("huggingface"),
        modelscope=entry.get("modelscope"),
        revision=entry.get("revision"),
        variants=tuple(variants.values()),
        projectors=tuple(projectors.values()),
        default=variants[entry["default"]],
    )


def _file(entry: Mapping[str, Any]) -> File:
    return File(entry["name"], entry.get("size"), entry.get("sha256"))


def _shape(entry: Mapping[str, Any]) -> Shape:
    text, vision = entry["text"], entry["vision"]
    return Shape(
        TextShape(**text | {"rope_sections": tuple(text["rope_sections"])}),
        VisionShape(**vision | {"deepstack_layers": tuple(vision["deepstack_layers"])}),
    )


def _is_of_type(value: object, hint: Any) -> bool:
    """Whether a value, and all that is in it, is what its dataclass says, and such as a terminal can take."""
    if is_dataclass(hint) and isinstance(hint, type):
        fields = get_type_hints(hint).items()
        return isinstance(value, hint) and all(_is_of_type(getattr(value, name), each) for name, each in fields)
    if isinstance(hint, types.UnionType):
        return any(_is_of_type(value, each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_of_type(each, get_args(hint)[0]) for each in value)
    if hint is str:
        return isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST_TEXT
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool) and abs(value) < _LARGEST
    return isinstance(value, hint)
