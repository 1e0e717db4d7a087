"""What the header of a Qwen3-VL pair says: the same keys for a trained pocket and for random weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from gguf import GGUFWriter
from gguf.constants import TokenType, VisionProjectorType

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
EPSILON = 1e-6
"""Of every norm in both towers."""


def describe_text(
    writer: GGUFWriter,
    *,
    n_layer: int,
    n_ctx_train: int,
    n_embd: int,
    n_ff: int,
    n_head: int,
    n_head_kv: int,
    head_dim: int,
    rope_base: float,
    rope_sections: Sequence[int],
    n_deepstack: int,
) -> None:
    """Adds the shape of a text tower; `rope_sections` has three."""
    writer.add_block_count(n_layer)
    writer.add_context_length(n_ctx_train)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_head_kv)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_freq_base(rope_base)
    writer.add_rope_dimension_sections([*rope_sections, 0])
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_num_deepstack_layers(n_deepstack)


def describe_vocabulary(
    writer: GGUFWriter, tokens: Sequence[str], types: Sequence[TokenType], merges: Sequence[str]
) -> None:
    """Adds a vocabulary in order of its ids, and the chat template."""
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE.read_text(encoding="utf-8").rstrip("\n"))


def describe_vision(
    writer: GGUFWriter,
    *,
    n_layer: int,
    n_embd: int,
    n_ff: int,
    n_head: int,
    n_out: int,
    n_positions: int,
    patch_size: int,
    spatial_merge: int,
    deepstack_layers: Collection[int],
) -> None:
    """Adds the shape of a vision tower; `n_out` is the text tower's width."""
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(VisionProjectorType.QWEN3VL)
    writer.add_vision_projection_dim(n_out)
    writer.add_vision_image_size(round(n_positions**0.5) * patch_size)
    writer.add_vision_patch_size(patch_size)
    writer.add_vision_embedding_length(n_embd)
    writer.add_vision_feed_forward_length(n_ff)
    writer.add_vision_block_count(n_layer)
    writer.add_vision_head_count(n_head)
    writer.add_vision_attention_layernorm_eps(EPSILON)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    writer.add_vision_spatial_merge_size(spatial_merge)
    writer.add_vision_use_gelu(True)
    writer.add_vision_is_deepstack_layers([layer in deepstack_layers for layer in range(n_layer)])
