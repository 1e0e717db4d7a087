"""The shape of a model, read off its header: what planning, prompting and the pictures need to know of it.

Key names follow llama.cpp (`llama-arch.cpp`, `clip-impl.h`). Where llama.cpp believes a tensor rather than a key, so
does this module: the DeepStack layers of a projector are those that have tensors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from .fields import Fields
from .header import Header, Tensor
from .quantisation import FILE_TYPES
from .wire import shown

PROJECTOR_ARCHITECTURE: Final = "clip"
MAX_LAYERS: Final = 512
"""llama.cpp's LLAMA_MAX_LAYERS."""

_M_ROPE_PROJECTORS: Final = ("qwen2vl_merger", "qwen2.5vl_merger", "qwen3vl_merger")
_TEXT_WANTED: Final = "Name a language model's GGUF file."
_PROJECTOR_WANTED: Final = "Name the model's own mmproj file; it is published beside the model."


@dataclass(frozen=True, slots=True)
class TextShape:
    """A language model. Sizes are counts unless they say bytes.

    `n_head_kv` and `layer_bytes` have one number per layer; `other_bytes` are the bytes of each tensor outside the
    layers, by name. `rope_sections` is empty without M-RoPE. `bos` and `eos` are token ids, None where the file names
    none that the vocabulary holds. `quantisation` is the file's label, such as Q4_K_M.
    """

    architecture: str
    name: str | None
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: tuple[int, ...] = field(repr=False)
    head_dim_k: int
    head_dim_v: int
    n_ff: int
    n_vocab: int
    n_ctx_train: int
    rope_base: float
    rope_sections: tuple[int, ...]
    n_deepstack: int
    tied_embeddings: bool
    quantisation: str
    tensors: tuple[Tensor, ...] = field(repr=False)
    layer_bytes: tuple[int, ...] = field(repr=False)
    other_bytes: Mapping[str, int] = field(repr=False)
    chat_template: str | None = field(repr=False)
    bos: int | None
    eos: int | None

    @property
    def n_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(self.layer_bytes) + sum(self.other_bytes.values())


@dataclass(frozen=True, slots=True)
class ProjectorShape:
    """A vision tower with its projector (an mmproj file). Sizes are counts unless they say bytes or pixels.

    `patch`, `image_size` and the limits are pixels; the limits count the pixels of a whole picture and are None where
    the file leaves them to llama.cpp. `deepstack` are the tower's layers that feed the first text layers. `mean` and
    `std` are for red, green and blue between 0 and 1.
    """

    type: str
    name: str | None
    n_embd: int
    n_layer: int
    n_head: int
    n_ff: int
    patch: int
    spatial_merge: int
    image_size: int
    min_pixels: int | None
    max_pixels: int | None
    deepstack: tuple[int, ...]
    projection_dim: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    quantisation: str
    tensors: tuple[Tensor, ...] = field(repr=False)

    @property
    def embedding_width(self) -> int:
        """Numbers per image token handed to the text model: one vector for its input, one for each DeepStack layer."""
        return self.projection_dim * (1 + len(self.deepstack))

    @property
    def n_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(tensor.n_bytes for tensor in self.tensors)


def text_shape(header: Header) -> TextShape:
    """The shape of a language model of any architecture. `InvalidModelFile` when the header is not of one."""
    fields = Fields(header)
    arch = fields.text("general.architecture")
    if arch == PROJECTOR_ARCHITECTURE:
        raise header.invalid("is a projector (mmproj), not a language model", _TEXT_WANTED)
    if (kind := fields.text("general.type", "model")) != "model":
        raise header.invalid(f"holds {shown(kind)!r}, not a language model", _TEXT_WANTED)
    if (parts := fields.count("split.count", 0, least=0)) > 1:  # a merged file says 0
        fix = "Merge the parts with llama.cpp's `llama-gguf-split --merge`, or take the model as one file."
        raise header.invalid(f"is one of {parts} parts of a split model", fix)
    n_layer = fields.count(f"{arch}.block_count", most=MAX_LAYERS)
    n_embd = fields.count(f"{arch}.embedding_length")
    n_head = max(fields.per_layer(f"{arch}.attention.head_count", n_layer))
    if not n_head:
        raise header.invalid("has no attention heads, which this program cannot run", _TEXT_WANTED)
    head_size = max(n_embd // n_head, 1)
    n_vocab = fields.array_length("tokenizer.ggml.tokens") or fields.count(f"{arch}.vocab_size")
    _check_shape(header, "token_embd.weight", (n_embd, n_vocab))
    layer_bytes, other_bytes = _bytes_by_place(header, n_layer)
    return TextShape(
        architecture=arch,
        name=fields.text("general.name", None),
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=fields.per_layer(f"{arch}.attention.head_count_kv", n_layer, n_head),
        head_dim_k=fields.count(f"{arch}.attention.key_length", head_size),
        head_dim_v=fields.count(f"{arch}.attention.value_length", head_size),
        n_ff=max(fields.per_layer(f"{arch}.feed_forward_length", n_layer, 0)),
        n_vocab=n_vocab,
        n_ctx_train=fields.count(f"{arch}.context_length"),
        rope_base=fields.number(f"{arch}.rope.freq_base", 10000.0),
        rope_sections=_without_trailing_zeros(fields.counts(f"{arch}.rope.dimension_sections")),
        n_deepstack=fields.count(f"{arch}.n_deepstack_layers", 0, least=0, most=n_layer),
        tied_embeddings="output.weight" not in other_bytes,
        quantisation=_label(fields, header),
        tensors=header.tensors,
        layer_bytes=layer_bytes,
        other_bytes=other_bytes,
        chat_template=fields.text("tokenizer.chat_template", None),
        bos=_token(fields, "tokenizer.ggml.bos_token_id", n_vocab),
        eos=_token(fields, "tokenizer.ggml.eos_token_id", n_vocab),
    )


def projector_shape(header: Header) -> ProjectorShape:
    """The shape of a `clip` file that sees pictures. `InvalidModelFile` when the header is not of one."""
    fields = Fields(header)
    if (arch := fields.text("general.architecture")) != PROJECTOR_ARCHITECTURE:
        raise header.invalid(f"is a model of architecture {shown(arch)!r}, not a projector", _PROJECTOR_WANTED)
    if not fields.truth("clip.has_vision_encoder", False):
        raise header.invalid("has no vision tower: with it, no picture can be seen", _PROJECTOR_WANTED)
    kind = fields.text("clip.projector_type", "") or fields.text("clip.vision.projector_type")
    n_layer = fields.count("clip.vision.block_count", most=MAX_LAYERS)
    projection_dim = fields.count("clip.vision.projection_dim")
    deepstack = _deepstack(header, n_layer)
    if kind == "qwen3vl_merger":  # llama.cpp takes the width from these tensors
        for name in ("mm.2.weight", *(f"v.deepstack.{layer}.fc2.weight" for layer in deepstack)):
            _check_shape(header, name, (None, projection_dim))
    std = fields.colours("clip.vision.image_std")
    if 0.0 in std:
        raise header.invalid("is damaged: clip.vision.image_std is zero")
    return ProjectorShape(
        type=kind,
        name=fields.text("general.name", None),
        n_embd=fields.count("clip.vision.embedding_length"),
        n_layer=n_layer,
        n_head=fields.count("clip.vision.attention.head_count"),
        n_ff=fields.count("clip.vision.feed_forward_length"),
        patch=fields.count("clip.vision.patch_size"),
        spatial_merge=fields.count("clip.vision.spatial_merge_size", 2 if kind in _M_ROPE_PROJECTORS else 1),
        image_size=fields.count("clip.vision.image_size"),
        min_pixels=fields.count("clip.vision.image_min_pixels", None),
        max_pixels=fields.count("clip.vision.image_max_pixels", None),
        deepstack=deepstack,
        projection_dim=projection_dim,
        mean=fields.colours("clip.vision.image_mean"),
        std=std,
        quantisation=_label(fields, header),
        tensors=header.tensors,
    )


def mismatch(text: TextShape, projector: ProjectorShape) -> str | None:
    """Why llama.cpp could not use `projector` with `text`, as a clause for a message; None when it can.

    It cannot tell an Instruct projector from a Thinking one of the same size: their shapes are the same.
    """
    if projector.projection_dim != text.n_embd:
        return f"the projector makes vectors of {projector.projection_dim} numbers and the model takes {text.n_embd}"
    if len(projector.deepstack) != text.n_deepstack:
        made, wanted = len(projector.deepstack), text.n_deepstack
        return f"the projector feeds {made} DeepStack layers and the model has {wanted}"
    if projector.type in _M_ROPE_PROJECTORS and not text.rope_sections:
        return f"the projector {projector.type} needs a model with M-RoPE, and {shown(text.architecture)} has none"
    return None


def _bytes_by_place(header: Header, n_layer: int) -> tuple[tuple[int, ...], Mapping[str, int]]:
    """Bytes of each layer, and of each tensor outside the layers."""
    layers, others = [0] * n_layer, {}
    for tensor in header.tensors:
        if (layer := _index(tensor.name, r"blk\.(\d+)\.")) is None:
            others[tensor.name] = tensor.n_bytes
        elif layer < n_layer:
            layers[layer] += tensor.n_bytes
        else:
            raise header.invalid(f"is damaged: it has {n_layer} layers and the tensor {shown(tensor.name)!r}")
    if 0 in layers:
        raise header.invalid(f"is damaged: its layer {layers.index(0)} of {n_layer} has no weights")
    return tuple(layers), MappingProxyType(others)


def _deepstack(header: Header, n_layer: int) -> tuple[int, ...]:
    """The tower's layers with a DeepStack merger."""
    found = (_index(tensor.name, r"v\.deepstack\.(\d+)\.fc1\.weight$") for tensor in header.tensors)
    layers = tuple(sorted(layer for layer in found if layer is not None))
    if layers and layers[-1] >= n_layer:
        raise header.invalid(f"is damaged: it has {n_layer} vision layers and DeepStack behind layer {layers[-1]}")
    return layers


def _index(name: str, pattern: str) -> int | None:
    found = re.match(pattern, name, re.ASCII)
    return int(found[1]) if found else None


def _check_shape(header: Header, name: str, expected: tuple[int | None, int]) -> None:
    """Hold a matrix to the sizes that the metadata gives; None is any."""
    tensor = next((tensor for tensor in header.tensors if tensor.name == name), None)
    if tensor is None:
        raise header.invalid(f"is damaged or unfinished: it has no tensor {name}")
    if len(tensor.shape) != 2 or any(e not in (None, n) for e, n in zip(expected, tensor.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        raise header.invalid(f"is damaged: {name} has the shape {list(tensor.shape)}, expected [{wanted}]")


def _label(fields: Fields, header: Header) -> str:
    """The file's quantisation: what it says itself, else the type that holds most of its bytes."""
    said = FILE_TYPES.get(fields.count("general.file_type", -1, least=0))
    if said is not None:
        return said
    held: Counter[str] = Counter()
    for tensor in header.tensors:
        held[tensor.type.name] += tensor.n_bytes
    return held.most_common(1)[0][0] if held else "none"


def _token(fields: Fields, key: str, n_vocab: int) -> int | None:
    """A special token's id. Like llama.cpp, one beyond the vocabulary (-1 is written by some) counts as none."""
    token = fields.count(key, None, least=-1, most=(1 << 32) - 1)
    return token if token is not None and 0 <= token < n_vocab else None


def _without_trailing_zeros(sections: tuple[int, ...]) -> tuple[int, ...]:
    """Files always hold four sections; the last one of Qwen's three is 0."""
    while sections and not sections[-1]:
        sections = sections[:-1]
    return sections
