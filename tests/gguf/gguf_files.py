"""GGUF files for tests, written by the `gguf` package: any metadata and tensors, and Qwen3-VL's real shapes.

The weights are a hole in a sparse file: 8B has its true size and takes no space.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

Kind = gguf.GGUFValueType
Quant = gguf.GGMLQuantizationType
Entries = Mapping[str, Any]
"""Key → value, whose kind the package guesses, or → (value, kind) or (values, ARRAY, kind of the elements)."""
Tensors = Mapping[str, tuple[Sequence[int], Quant]]
"""Name → shape, row length first, and type."""


def write(path: Path, arch: str, entries: Entries, tensors: Tensors, *, big_endian: bool = False) -> Path:
    """Write a whole file; what is not header is zeros."""
    endian = gguf.GGUFEndian.BIG if big_endian else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, arch, endianess=endian)
    for key, value in entries.items():
        if key == "general.alignment":
            writer.add_custom_alignment(value)
        elif isinstance(value, tuple):
            writer.add_key_value(key, *value)
        else:
            writer.add_key_value(key, value, _guessed(value))
    n_data = 0
    for name, (shape, quant) in tensors.items():
        block, block_bytes = gguf.GGML_QUANT_SIZES[quant]
        n_bytes = int(np.prod(shape, dtype=object)) // block * block_bytes
        writer.add_tensor_info(name, tuple(reversed(shape)), np.dtype(np.float32), n_bytes, raw_dtype=quant)
        n_data += gguf.GGUFWriter.ggml_pad(n_bytes, writer.data_alignment)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(gguf.GGUFWriter.ggml_pad(path.stat().st_size, writer.data_alignment) + n_data)
    return path


def _guessed(value: object) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, int):
        return Kind.UINT32
    return Kind.ARRAY if isinstance(value, list) else Kind.get_type(value)


def text(value: str | bytes) -> bytes:
    """A string as the format has it."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def raw(entries: Sequence[bytes] = (), tensors: Sequence[bytes] = (), *, version: int = 3) -> bytes:
    """A header from the bytes of its entries: for what no honest writer writes."""
    start = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries))
    return start + b"".join(entries) + b"".join(tensors)


@dataclass(frozen=True)
class Size:
    """One column of FACTS' table of Qwen3-VL."""

    n_embd: int
    layers: int
    heads: int
    n_ff: int
    tied: bool
    vision_hidden: int
    vision_depth: int
    vision_feed_forward: int
    deepstack: tuple[int, ...]


SIZES = {
    "2B": Size(2048, 28, 16, 6144, True, 1024, 24, 4096, (5, 11, 17)),
    "4B": Size(2560, 36, 32, 9728, True, 1024, 24, 4096, (5, 11, 17)),
    "8B": Size(4096, 36, 32, 12288, False, 1152, 27, 4304, (8, 16, 24)),
}
KV_HEADS, HEAD_SIZE, VOCABULARY, MERGES = 8, 128, 151936, 151387
TEMPLATE = "{%- for message in messages %}<|im_start|>{{ message.role }}\n{%- endfor %}"


def qwen3vl_entries(size: Size, n_vocab: int = VOCABULARY, n_merges: int = MERGES) -> dict[str, Any]:
    """The metadata of a published Qwen3-VL text model in Q4_K_M."""
    return {
        "general.type": "model",
        "general.name": "Qwen3 VL",
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_Q4_K_M),
        "qwen3vl.block_count": size.layers,
        "qwen3vl.context_length": 262144,
        "qwen3vl.embedding_length": size.n_embd,
        "qwen3vl.feed_forward_length": size.n_ff,
        "qwen3vl.attention.head_count": size.heads,
        "qwen3vl.attention.head_count_kv": KV_HEADS,
        "qwen3vl.attention.key_length": HEAD_SIZE,
        "qwen3vl.attention.value_length": HEAD_SIZE,
        "qwen3vl.attention.layer_norm_rms_epsilon": 1e-6,
        "qwen3vl.rope.freq_base": 5e6,
        "qwen3vl.rope.dimension_sections": ([24, 20, 20, 0], Kind.ARRAY, Kind.INT32),
        "qwen3vl.n_deepstack_layers": len(size.deepstack),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": ([f"Ġtok{i}" for i in range(n_vocab)], Kind.ARRAY, Kind.STRING),
        "tokenizer.ggml.token_type": ([1] * n_vocab, Kind.ARRAY, Kind.INT32),
        "tokenizer.ggml.merges": ([f"Ġtok {i}" for i in range(n_merges)], Kind.ARRAY, Kind.STRING),
        "tokenizer.ggml.eos_token_id": min(151645, n_vocab - 1),
        "tokenizer.ggml.bos_token_id": min(151643, n_vocab - 2),
        "tokenizer.chat_template": TEMPLATE,
    }


def qwen3vl_tensors(size: Size, n_vocab: int = VOCABULARY) -> dict[str, tuple[tuple[int, ...], Quant]]:
    """The tensors, with llama.cpp's mixture of types for Q4_K_M (`use_more_bits`)."""
    tensors: dict[str, tuple[tuple[int, ...], Quant]] = {}
    if not size.tied:
        tensors["output.weight"] = (size.n_embd, n_vocab), Quant.Q6_K
    tensors["token_embd.weight"] = (size.n_embd, n_vocab), Quant.Q6_K if size.tied else Quant.Q4_K
    tensors["output_norm.weight"] = (size.n_embd,), Quant.F32
    for layer in range(size.layers):
        eighth = size.layers // 8
        more = layer < eighth or layer >= 7 * size.layers // 8 or (layer - eighth) % 3 == 2
        better = Quant.Q6_K if more else Quant.Q4_K
        heads, kv = size.heads * HEAD_SIZE, KV_HEADS * HEAD_SIZE
        for name, shape, quant in (
            ("attn_norm", (size.n_embd,), Quant.F32),
            ("ffn_norm", (size.n_embd,), Quant.F32),
            ("attn_q_norm", (HEAD_SIZE,), Quant.F32),
            ("attn_k_norm", (HEAD_SIZE,), Quant.F32),
            ("attn_q", (size.n_embd, heads), Quant.Q4_K),
            ("attn_k", (size.n_embd, kv), Quant.Q4_K),
            ("attn_v", (size.n_embd, kv), better),
            ("attn_output", (heads, size.n_embd), Quant.Q4_K),
            ("ffn_gate", (size.n_embd, size.n_ff), Quant.Q4_K),
            ("ffn_up", (size.n_embd, size.n_ff), Quant.Q4_K),
            ("ffn_down", (size.n_ff, size.n_embd), better),
        ):
            tensors[f"blk.{layer}.{name}.weight"] = shape, quant
    return tensors


def projector_entries(size: Size) -> dict[str, Any]:
    """The metadata of a published Qwen3-VL projector in F16."""
    return {
        "general.type": "mmproj",
        "general.name": "Qwen3 VL",
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_F16),
        "clip.has_vision_encoder": True,
        "clip.projector_type": "qwen3vl_merger",
        "clip.use_gelu": True,
        "clip.vision.projection_dim": size.n_embd,
        "clip.vision.image_size": 768,
        "clip.vision.patch_size": 16,
        "clip.vision.spatial_merge_size": 2,
        "clip.vision.embedding_length": size.vision_hidden,
        "clip.vision.feed_forward_length": size.vision_feed_forward,
        "clip.vision.block_count": size.vision_depth,
        "clip.vision.attention.head_count": 16,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.image_mean": ([0.5, 0.5, 0.5], Kind.ARRAY, Kind.FLOAT32),
        "clip.vision.image_std": ([0.5, 0.5, 0.5], Kind.ARRAY, Kind.FLOAT32),
        "clip.vision.is_deepstack_layers": [i in size.deepstack for i in range(size.vision_depth)],
    }


def projector_tensors(size: Size) -> dict[str, tuple[tuple[int, ...], Quant]]:
    """The tensors, F16 with F32 norms and biases."""
    n_embd, merged = size.vision_hidden, size.vision_hidden * 4
    tensors: dict[str, tuple[tuple[int, ...], Quant]] = {}

    def linear(name: str, rows: int, columns: int) -> None:
        tensors[f"{name}.weight"] = (rows, columns), Quant.F16
        tensors[f"{name}.bias"] = (columns,), Quant.F32

    def norm(name: str, width: int) -> None:
        tensors[f"{name}.weight"] = (width,), Quant.F32
        tensors[f"{name}.bias"] = (width,), Quant.F32

    linear("mm.0", merged, merged)
    linear("mm.2", merged, size.n_embd)
    tensors["v.patch_embd.weight"] = (16, 16, 3, n_embd), Quant.F16
    tensors["v.patch_embd.weight.1"] = (16, 16, 3, n_embd), Quant.F16
    tensors["v.patch_embd.bias"] = (n_embd,), Quant.F32
    tensors["v.position_embd.weight"] = (n_embd, 2304), Quant.F32
    norm("v.post_ln", n_embd)
    for layer in range(size.vision_depth):
        linear(f"v.blk.{layer}.attn_qkv", n_embd, 3 * n_embd)
        linear(f"v.blk.{layer}.attn_out", n_embd, n_embd)
        linear(f"v.blk.{layer}.ffn_up", n_embd, size.vision_feed_forward)
        linear(f"v.blk.{layer}.ffn_down", size.vision_feed_forward, n_embd)
        norm(f"v.blk.{layer}.ln1", n_embd)
        norm(f"v.blk.{layer}.ln2", n_embd)
    for layer in size.deepstack:
        norm(f"v.deepstack.{layer}.norm", merged)
        linear(f"v.deepstack.{layer}.fc1", merged, merged)
        linear(f"v.deepstack.{layer}.fc2", merged, size.n_embd)
    return tensors
