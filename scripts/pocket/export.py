"""pocket as two GGUF files, and back.

    python export.py CHECKPOINT.pt FOLDER

Matrices are written as float16; norms, biases and learned positions as float32.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader, GGUFWriter
from gguf.constants import LlamaFileType, TokenType
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from header import describe_text, describe_vision, describe_vocabulary
from model import DEEPSTACK_LAYERS, EXPORT_SCALE, TRAINED_CONTEXT, config, new_model, set_scale
from vocabulary import CONTROL, USER_DEFINED, merges, tokenizer

TEXT_FILE = "pocket-F16.gguf"
PROJECTOR_FILE = "mmproj-pocket-F16.gguf"

_LANGUAGE = "model.language_model."
_VISUAL = "model.visual."
_FIRST_SLICE, _SECOND_SLICE = "v.patch_embd.weight", "v.patch_embd.weight.1"
_PATCH_KERNEL = _VISUAL + "patch_embed.proj.weight"


def _text_names() -> dict[str, str]:
    """GGUF name → name in transformers' state dict."""
    names = {
        "token_embd.weight": _LANGUAGE + "embed_tokens.weight",
        "output_norm.weight": _LANGUAGE + "norm.weight",
    }
    parts = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    for layer in range(config().text_config.num_hidden_layers):
        for ours, theirs in parts.items():
            names[f"blk.{layer}.{ours}.weight"] = f"{_LANGUAGE}layers.{layer}.{theirs}.weight"
    return names


def _projector_names() -> dict[str, str]:
    """As `_text_names`, without the patch kernel, which becomes two tensors."""
    pairs = {"v.post_ln": "merger.norm", "mm.0": "merger.linear_fc1", "mm.2": "merger.linear_fc2"}
    parts = {
        "ln1": "norm1",
        "ln2": "norm2",
        "attn_qkv": "attn.qkv",
        "attn_out": "attn.proj",
        "ffn_up": "mlp.linear_fc1",
        "ffn_down": "mlp.linear_fc2",
    }
    for layer in range(config().vision_config.depth):
        pairs |= {f"v.blk.{layer}.{ours}": f"blocks.{layer}.{theirs}" for ours, theirs in parts.items()}
    for number, layer in enumerate(DEEPSTACK_LAYERS):
        for ours, theirs in (("norm", "norm"), ("fc1", "linear_fc1"), ("fc2", "linear_fc2")):
            pairs[f"v.deepstack.{layer}.{ours}"] = f"deepstack_merger_list.{number}.{theirs}"
    names = {
        f"{ours}.{end}": f"{_VISUAL}{theirs}.{end}" for ours, theirs in pairs.items() for end in ("weight", "bias")
    }
    names["v.patch_embd.bias"] = _VISUAL + "patch_embed.proj.bias"
    names["v.position_embd.weight"] = _VISUAL + "pos_embed.weight"
    return names


def _as_array(name: str, tensor: Tensor) -> np.ndarray:
    full = tensor.ndim == 1 or name.startswith("v.position_embd")
    return tensor.detach().cpu().numpy().astype(np.float32 if full else np.float16)


def _describe(writer: GGUFWriter) -> None:
    writer.add_type("model" if writer.arch != "clip" else "mmproj")
    writer.add_name("pocket")
    writer.add_license("apache-2.0")
    writer.add_file_type(LlamaFileType.MOSTLY_F16)


def write_text(state: dict[str, Tensor], path: Path) -> None:
    """Writes the text tower with vocabulary and chat template."""
    text = config().text_config
    writer = GGUFWriter(path, "qwen3vl")
    _describe(writer)
    describe_text(
        writer,
        n_layer=text.num_hidden_layers,
        n_ctx_train=TRAINED_CONTEXT,
        n_embd=text.hidden_size,
        n_ff=text.intermediate_size,
        n_head=text.num_attention_heads,
        n_head_kv=text.num_key_value_heads,
        head_dim=text.head_dim,
        rope_base=text.rope_parameters["rope_theta"],
        rope_sections=text.rope_parameters["mrope_section"],
        n_deepstack=len(DEEPSTACK_LAYERS),
    )
    vocabulary = tokenizer().get_vocab()
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    types = [
        TokenType.CONTROL if word in CONTROL else TokenType.USER_DEFINED if word in USER_DEFINED else TokenType.NORMAL
        for word in words
    ]
    describe_vocabulary(writer, words, types, merges())
    for ours, theirs in _text_names().items():
        writer.add_tensor(ours, _as_array(ours, state[theirs]))
    _close(writer)


def write_projector(state: dict[str, Tensor], path: Path) -> None:
    """Writes the vision tower, its mergers and its learned positions."""
    vision = config().vision_config
    writer = GGUFWriter(path, "clip")
    _describe(writer)
    describe_vision(
        writer,
        n_layer=vision.depth,
        n_embd=vision.hidden_size,
        n_ff=vision.intermediate_size,
        n_head=vision.num_heads,
        n_out=vision.out_hidden_size,
        n_positions=vision.num_position_embeddings,
        patch_size=vision.patch_size,
        spatial_merge=vision.spatial_merge_size,
        deepstack_layers=DEEPSTACK_LAYERS,
    )
    kernel = state[_PATCH_KERNEL]
    for index, name in enumerate((_FIRST_SLICE, _SECOND_SLICE)):
        writer.add_tensor(name, _as_array(name, kernel[:, :, index]))
    for ours, theirs in _projector_names().items():
        writer.add_tensor(ours, _as_array(ours, state[theirs]))
    _close(writer)


def _close(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def save_pair(model: Qwen3VLForConditionalGeneration, folder: Path) -> None:
    """Writes both files, replacing older ones only when complete."""
    folder.mkdir(parents=True, exist_ok=True)
    model = copy.deepcopy(model)
    set_scale(model, EXPORT_SCALE)
    state = {name: tensor.float() for name, tensor in model.state_dict().items()}
    for write, name in ((write_text, TEXT_FILE), (write_projector, PROJECTOR_FILE)):
        unfinished = folder / (name + ".part")
        write(state, unfinished)
        unfinished.replace(folder / name)


def load_pair(folder: Path) -> Qwen3VLForConditionalGeneration:
    """The model of an exported pair in float32, with exactly the weights of the files."""
    text, projector = _tensors(folder / TEXT_FILE), _tensors(folder / PROJECTOR_FILE)
    state = {theirs: text[ours] for ours, theirs in _text_names().items()}
    state |= {theirs: projector[ours] for ours, theirs in _projector_names().items()}
    state[_PATCH_KERNEL] = torch.stack((projector[_FIRST_SLICE], projector[_SECOND_SLICE]), dim=2)
    model = new_model()
    missing = model.load_state_dict(state, strict=False)
    if missing.unexpected_keys or set(missing.missing_keys) - {"lm_head.weight"}:
        raise ValueError(f"{folder}: not a pocket of this shape: {missing}")
    model.tie_weights()
    return model


def _tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a GGUF file as float32."""
    return {t.name: torch.from_numpy(np.array(t.data, dtype=np.float32)) for t in GGUFReader(path).tensors}


def main() -> None:
    parser = argparse.ArgumentParser(description="Exports a checkpoint of train.py as a GGUF pair.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    model = new_model()
    model.load_state_dict(torch.load(args.checkpoint, map_location="cpu", weights_only=True)["model"])
    save_pair(model, args.folder)
    for name in (TEXT_FILE, PROJECTOR_FILE):
        print(f"{args.folder / name}: {(args.folder / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
