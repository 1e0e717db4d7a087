"""What a published file holds, before it is here: its tensors by the catalogue's shapes, as a file without weights.

Types are those that llama.cpp's quantiser and converter give (`llama_tensor_get_type` in llama-quant.cpp,
convert_hf_to_gguf.py), so sizes are the published ones within 0.1 %.
"""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from gguf_vl import paths
from gguf_vl.catalogue import Model, Projector, Shape, Variant, VisionShape
from gguf_vl.catalogue import TextShape as TextTower
from gguf_vl.gguf.writing import TYPES, Described, Typed, write_skeleton
from gguf_vl.store.disk import telling

F32, F16, Q8_0, Q4_K, Q6_K = (TYPES[name] for name in ("F32", "F16", "Q8_0", "Q4_K", "Q6_K"))
EPSILON = 1e-6
"""Of every norm in both towers."""
_FILE_TYPES = {"f16": 1, "q8_0": 7, "q4_k_m": 15}


def text_tensors(shape: TextTower, quant: str) -> Iterator[Described]:
    """The text tower's tensors in the quantisation `f16`, `q8_0` or `q4_k_m`."""
    most, more = {"f16": (F16, F16), "q8_0": (Q8_0, Q8_0), "q4_k_m": (Q4_K, Q6_K)}[quant]
    n_embd = shape.n_embd
    yield Described("token_embd.weight", (n_embd, shape.n_vocab), more if shape.tied_embeddings else most)
    yield Described("output_norm.weight", (n_embd,), F32)
    if not shape.tied_embeddings:
        yield Described("output.weight", (n_embd, shape.n_vocab), more)
    n_q, n_kv = shape.n_head * shape.head_dim, shape.n_head_kv * shape.head_dim
    eighth = shape.n_layer // 8
    for layer in range(shape.n_layer):
        is_finer = layer < eighth or layer >= 7 * shape.n_layer // 8 or (layer - eighth) % 3 == 2  # `use_more_bits`
        finer = more if is_finer else most
        parts = {
            "attn_norm": ((n_embd,), F32),
            "attn_q": ((n_embd, n_q), most),
            "attn_k": ((n_embd, n_kv), most),
            "attn_v": ((n_embd, n_kv), finer),
            "attn_output": ((n_q, n_embd), most),
            "attn_q_norm": ((shape.head_dim,), F32),
            "attn_k_norm": ((shape.head_dim,), F32),
            "ffn_norm": ((n_embd,), F32),
            "ffn_gate": ((n_embd, shape.n_ff), most),
            "ffn_up": ((n_embd, shape.n_ff), most),
            "ffn_down": ((shape.n_ff, n_embd), finer),
        }
        for part, (size, type) in parts.items():
            yield Described(f"blk.{layer}.{part}.weight", size, type)


def projector_tensors(shape: VisionShape, quant: str) -> Iterator[Described]:
    """The vision tower's and the projector's tensors in the quantisation `f16` or `q8_0`."""
    n_embd, n_merged = shape.n_embd, shape.n_embd * shape.spatial_merge**2
    for end in ("", ".1"):
        kernel = (shape.patch_size, shape.patch_size, 3, n_embd)
        yield Described(f"v.patch_embd.weight{end}", kernel, F16 if quant == "f16" else F32)
    yield Described("v.patch_embd.bias", (n_embd,), F32)
    yield Described("v.position_embd.weight", (n_embd, shape.n_positions), F32)
    layers: dict[str, tuple[int, ...]] = {
        "v.post_ln": (n_embd,),
        "mm.0": (n_merged, n_merged),
        "mm.2": (n_merged, shape.n_out),
    }
    for layer in range(shape.n_layer):
        block = f"v.blk.{layer}"
        layers |= {
            f"{block}.ln1": (n_embd,),
            f"{block}.ln2": (n_embd,),
            f"{block}.attn_qkv": (n_embd, 3 * n_embd),
            f"{block}.attn_out": (n_embd, n_embd),
            f"{block}.ffn_up": (n_embd, shape.n_ff),
            f"{block}.ffn_down": (shape.n_ff, n_embd),
        }
    for layer in shape.deepstack_layers:
        block = f"v.deepstack.{layer}"
        layers |= {
            f"{block}.norm": (n_merged,),
            f"{block}.fc1": (n_merged, n_merged),
            f"{block}.fc2": (n_merged, shape.n_out),
        }
    for name, size in layers.items():
        if len(size) == 1:
            type = F32
        elif quant == "q8_0" and size[0] % Q8_0.block == 0:
            type = Q8_0
        else:
            type = F16
        yield Described(f"{name}.weight", size, type)
        yield Described(f"{name}.bias", size[-1:], F32)


def text_skeleton(model: Model, variant: Variant) -> Path:
    """A header-only stand-in for a published text model that is not here. Raises `GgufVlError` for a full disk.

    It has no vocabulary: llama.cpp loads it in milliseconds, and nobody can talk with it.
    """
    shape = _shape(model)
    text = shape.text
    metadata: dict[str, Typed] = {
        "general.architecture": ("string", "qwen3vl"),
        "general.type": ("string", "model"),
        "general.name": ("string", model.title),
        "general.file_type": ("u32", _FILE_TYPES[variant.quant]),
        "qwen3vl.block_count": ("u32", text.n_layer),
        "qwen3vl.context_length": ("u32", model.n_ctx_train),
        "qwen3vl.embedding_length": ("u32", text.n_embd),
        "qwen3vl.feed_forward_length": ("u32", text.n_ff),
        "qwen3vl.attention.head_count": ("u32", text.n_head),
        "qwen3vl.attention.head_count_kv": ("u32", text.n_head_kv),
        "qwen3vl.attention.key_length": ("u32", text.head_dim),
        "qwen3vl.attention.value_length": ("u32", text.head_dim),
        "qwen3vl.attention.layer_norm_rms_epsilon": ("f32", EPSILON),
        "qwen3vl.rope.freq_base": ("f32", text.rope_base),
        "qwen3vl.rope.dimension_sections": ("i32", (*text.rope_sections, 0)),
        "qwen3vl.n_deepstack_layers": ("u32", len(shape.vision.deepstack_layers)),
        "qwen3vl.vocab_size": ("u32", text.n_vocab),
        "tokenizer.ggml.model": ("string", "none"),
    }
    return _written(variant.file.name, metadata, list(text_tensors(text, variant.quant)))


def projector_skeleton(model: Model, projector: Projector) -> Path:
    """The same for a published projector."""
    shape = _shape(model).vision
    metadata: dict[str, Typed] = {
        "general.architecture": ("string", "clip"),
        "general.type": ("string", "mmproj"),
        "general.name": ("string", model.title),
        "general.file_type": ("u32", _FILE_TYPES[projector.quant]),
        "clip.has_vision_encoder": ("bool", True),
        "clip.projector_type": ("string", "qwen3vl_merger"),
        "clip.use_gelu": ("bool", True),
        "clip.vision.projection_dim": ("u32", shape.n_out),
        "clip.vision.image_size": ("u32", round(shape.n_positions**0.5) * shape.patch_size),
        "clip.vision.patch_size": ("u32", shape.patch_size),
        "clip.vision.embedding_length": ("u32", shape.n_embd),
        "clip.vision.feed_forward_length": ("u32", shape.n_ff),
        "clip.vision.block_count": ("u32", shape.n_layer),
        "clip.vision.attention.head_count": ("u32", shape.n_head),
        "clip.vision.attention.layer_norm_epsilon": ("f32", EPSILON),
        "clip.vision.spatial_merge_size": ("u32", shape.spatial_merge),
        "clip.vision.image_mean": ("f32", (0.5, 0.5, 0.5)),
        "clip.vision.image_std": ("f32", (0.5, 0.5, 0.5)),
    }
    return _written(projector.file.name, metadata, list(projector_tensors(shape, projector.quant)))


def _shape(model: Model) -> Shape:
    if model.shape is None:
        raise ValueError(f"the catalogue has no shape of {model.name}")
    return model.shape


def _written(name: str, metadata: dict[str, Typed], tensors: Sequence[Described]) -> Path:
    """The skeleton among temporary files, where there are any, else in the cache folder: the models may lie on a stick
    whose file system keeps no holes, and gigabytes of zeros would be written to it.
    """
    try:
        path = _temporary() / name
        write_skeleton(path, metadata, tensors)
    except OSError:
        path = paths.cache_dir() / "skeletons" / name
        with telling(path, "written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_skeleton(path, metadata, tensors)
    return path


@cache
def _temporary() -> Path:
    folder = mkdtemp(prefix="gguf-vl-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
