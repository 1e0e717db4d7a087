#!/usr/bin/env python3
"""Writes a GGUF pair with a published Qwen3-VL's exact tensor shapes and types, and random weights.

    scripts/make_synthetic.py 2b DIR [--quant Q4_K_M|Q8_0] [--mmproj F16|Q8_0]

For benchmarks and memory checks where the real files are out of reach: speed, memory and file sizes are those of the
published model, answers are noise. Every weight block is valid, and activations stay about as large as in a trained
model. The vocabulary has the published size and special tokens; its first entries are pocket's, so that questions
about pictures become words, and the rest is made up. Needs gguf-vl with its `test` extra.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.constants import LlamaFileType, TokenType
from pocket.header import describe_text, describe_vision, describe_vocabulary

from gguf_vl import catalogue
from gguf_vl.catalogue import File, Shape, VisionShape
from gguf_vl.gguf.writing import Described
from gguf_vl.store.blueprint import projector_tensors, text_tensors

POCKET = Path(__file__).parent / "pocket"
POOL_BLOCKS = (1 << 16) + 1
"""Different blocks per type of weight; tensors repeat them. A prime, so that no row comes twice."""
SPREAD = 0.02
"""Standard deviation of the weights."""
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
    "<think>", "</think>",
)  # fmt: skip
FIRST_SPECIAL = 151_643
"""Id of the first special token; ordinary ones lie below, unused ones above the special ones."""

Type = GGMLQuantizationType
_PLAIN: dict[Type, np.dtype[Any]] = {Type.F32: np.dtype(np.float32), Type.F16: np.dtype(np.float16)}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor to be written. `shape` is rows first, as numpy has it."""

    name: str
    shape: tuple[int, ...]
    type: Type


def _tensor(described: Described) -> Tensor:
    return Tensor(described.name, described.shape[::-1], Type[described.type.name])


class Weights:
    """Random valid data for tensors of any type."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._pools: dict[Type, np.ndarray] = {}

    def data(self, tensor: Tensor) -> np.ndarray:
        """The bytes of a tensor [rows, bytes per row], or its elements where they are plain numbers."""
        if len(tensor.shape) == 1:
            return np.full(tensor.shape, 0.0 if tensor.name.endswith("bias") else 1.0, np.float32)
        if tensor.type not in self._pools:
            self._pools[tensor.type] = self._pool(tensor.type)
        pool = self._pools[tensor.type]
        block, width = GGML_QUANT_SIZES[tensor.type]
        blocks = int(np.prod(tensor.shape)) // block
        start = int(self._rng.integers(len(pool)))
        data = np.resize(np.roll(pool, start, axis=0), (blocks, pool.shape[1]))
        rows = tensor.shape if pool.dtype != np.uint8 else (*tensor.shape[:-1], tensor.shape[-1] // block * width)
        return data.reshape(rows)

    def _pool(self, type_: Type) -> np.ndarray:
        rng, n = self._rng, POOL_BLOCKS
        if type_ in _PLAIN:
            return rng.normal(0, SPREAD, (32 * n, 1)).astype(_PLAIN[type_])
        # Below, each scale is SPREAD over the deviation of what it multiplies: of uniform int8 73, of uniform 6 bits
        # 18.5, of uniform 4 bits 4.6, and of the inner scales, 32 to 63, some 48.
        if type_ is Type.Q8_0:  # scale, 32 int8
            quants = rng.integers(-127, 128, (n, 32), dtype=np.int8)
            return _blocks(_scales(rng, n, SPREAD / 73), quants)
        if type_ is Type.Q6_K:  # 192 bytes of quants, 16 int8 scales, scale: d · scale · (q - 32)
            quants = rng.integers(0, 256, (n, 192), dtype=np.uint8)
            scales = rng.choice(np.array([-1, 1], np.int8), (n, 16)) * rng.integers(32, 64, (n, 16), dtype=np.int8)
            return _blocks(quants, scales, _scales(rng, n, SPREAD / (18.5 * 48)))
        # Q4_K: scale, least, eight 6-bit pairs of them in 12 bytes, 128 bytes of quants: d · scale · q - dmin · least.
        # Equal pairs and dmin = 7.5 d make the mean zero, for 7.5 is the mean of q.
        d = _scales(rng, n, SPREAD / (4.6 * 48)).view(np.float16)
        pairs = rng.integers(32, 64, (n, 8), dtype=np.uint8)
        low, high = pairs[:, :4], pairs[:, 4:]
        packed = [low | (high >> 4 << 6), low | (high >> 4 << 6), (high & 15) | ((high & 15) << 4)]
        return _blocks(d, d * np.float16(7.5), *packed, rng.integers(0, 256, (n, 128), dtype=np.uint8))


def _scales(rng: np.random.Generator, n: int, size: float) -> np.ndarray:
    return (size * rng.uniform(0.8, 1.2, (n, 1))).astype(np.float16)


def _blocks(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts], axis=1)


def vocabulary(size: int) -> tuple[list[str], list[TokenType], list[str]]:
    """Tokens, their types and the merges: pocket's first, then made-up words of ASCII letters."""
    kept = json.loads((POCKET / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    special = set(SPECIAL)
    tokens = [token for token, _ in sorted(kept["vocab"].items(), key=lambda item: item[1]) if token not in special]
    merges = [rule if isinstance(rule, str) else " ".join(rule) for rule in kept["merges"]]
    rng = random.Random(0)
    known = set(tokens)
    words = [token for token in tokens if token.lstrip("Ġ") and set(token.lstrip("Ġ")) <= set(string.ascii_letters)]
    while len(tokens) < FIRST_SPECIAL:
        left, right = rng.choice(words), rng.choice(words)
        made = left + right
        if made not in known and len(made) <= 13 and not right.startswith("Ġ"):
            known.add(made)
            tokens.append(made)
            merges.append(f"{left} {right}")
            if len(made) <= 8:
                words.append(made)
    types = [TokenType.NORMAL] * len(tokens) + [TokenType.CONTROL] * len(SPECIAL)
    tokens += SPECIAL
    unused = size - len(tokens)
    return tokens + [f"[PAD{len(tokens) + i}]" for i in range(unused)], types + [TokenType.UNUSED] * unused, merges


def write_text(shape: Shape, quant: str, n_ctx_train: int, path: Path) -> None:
    """Writes the text tower."""
    text = shape.text
    writer = GGUFWriter(path, "qwen3vl")
    writer.add_type("model")
    writer.add_name("synthetic Qwen3-VL: random weights")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0 if quant == "Q8_0" else LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_quantization_version(2)
    describe_text(
        writer,
        n_layer=text.n_layer,
        n_ctx_train=n_ctx_train,
        n_embd=text.n_embd,
        n_ff=text.n_ff,
        n_head=text.n_head,
        n_head_kv=text.n_head_kv,
        head_dim=text.head_dim,
        rope_base=text.rope_base,
        rope_sections=text.rope_sections,
        n_deepstack=len(shape.vision.deepstack_layers),
    )
    describe_vocabulary(writer, *vocabulary(text.n_vocab))
    _write(writer, list(map(_tensor, text_tensors(text, quant.lower()))))


def write_projector(shape: VisionShape, quant: str, path: Path) -> None:
    """Writes the vision tower and its projector."""
    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name("synthetic Qwen3-VL: random weights")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0 if quant == "Q8_0" else LlamaFileType.MOSTLY_F16)
    describe_vision(
        writer,
        n_layer=shape.n_layer,
        n_embd=shape.n_embd,
        n_ff=shape.n_ff,
        n_head=shape.n_head,
        n_out=shape.n_out,
        n_positions=shape.n_positions,
        patch_size=shape.patch_size,
        spatial_merge=shape.spatial_merge,
        deepstack_layers=shape.deepstack_layers,
    )
    _write(writer, list(map(_tensor, projector_tensors(shape, quant.lower()))))


def _write(writer: GGUFWriter, tensors: list[Tensor]) -> None:
    """Writes header and tensors, one tensor in memory at a time."""
    for tensor in tensors:
        block, width = GGML_QUANT_SIZES[tensor.type]
        n_bytes = int(np.prod(tensor.shape)) // block * width
        plain = _PLAIN.get(tensor.type)
        raw = (*tensor.shape[:-1], tensor.shape[-1] // block * width)
        writer.add_tensor_info(
            tensor.name,
            tensor.shape if plain else raw,
            plain or np.dtype(np.uint8),
            n_bytes,
            raw_dtype=None if plain else tensor.type,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    weights = Weights(seed=len(tensors))
    for tensor in tensors:
        writer.write_tensor_data(weights.data(tensor))
    writer.close()


def _made(published: File, folder: Path, write: Callable[[Path], None]) -> dict[str, Any]:
    """Writes one file whole or not at all, and says how its size compares with the published one's."""
    path = folder / f"synthetic-{published.name}"
    unfinished = path.with_name(path.name + ".part")
    write(unfinished)
    unfinished.replace(path)
    size = path.stat().st_size
    return {"file": str(path), "bytes": size, "of_published": published.size and round(size / published.size, 5)}


def main() -> None:
    """Writes both files and says on stdout, as JSON, where they are and how far their sizes are from the published."""
    parser = argparse.ArgumentParser(
        description="Writes a GGUF pair with a published model's shapes and random weights."
    )
    parser.add_argument("model", choices=("2b", "4b", "8b"))
    parser.add_argument("folder", type=Path, metavar="DIR", help="where both files go")
    parser.add_argument("--quant", choices=("Q4_K_M", "Q8_0"), default="Q4_K_M", help="of the text tower")
    parser.add_argument("--mmproj", choices=("F16", "Q8_0"), default="Q8_0", help="of the projector")
    args = parser.parse_args()
    model, variant = catalogue.find(f"{args.model}:{args.quant.lower()}")
    projector = next(p for p in model.projectors if p.quant == args.mmproj.lower())
    if model.shape is None:
        raise SystemExit(f"The catalogue has no shape of {model.name}.")
    shape = model.shape
    args.folder.mkdir(parents=True, exist_ok=True)
    made = [
        _made(variant.file, args.folder, lambda path: write_text(shape, args.quant, model.n_ctx_train, path)),
        _made(projector.file, args.folder, lambda path: write_projector(shape.vision, args.mmproj, path)),
    ]
    json.dump(made, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
