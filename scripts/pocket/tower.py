"""The forward pass for training: the same modules as transformers', in batches of pictures of one size.

transformers runs a vision tower picture by picture and derives positions in Python; here a batch is [pictures,
patches, width] throughout. `compare.py` holds `see` against transformers' own vision tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import rotate_half
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

from model import normalise

EARLY = 2
"""Layers of the text tower after the place where answers are learnt a first time."""


@dataclass(slots=True)
class Seen:
    """What the vision tower makes of a batch of pictures."""

    tokens: Tensor
    """[pictures, tokens, text width]"""
    deepstack: list[Tensor]
    """As `tokens`, one per DeepStack layer."""


@lru_cache(maxsize=512)
def _geometry(rows: int, columns: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Patch positions [patches, 2], and the taps [patches, 4] and weights into the grid of learned positions."""
    grid = torch.tensor([[1, rows, columns]])
    taps, weights = get_vision_interpolation_indices_and_weights(
        grid, num_grid_per_side=side, mode="bilinear", align_corners=True, spatial_merge_size=2, kwargs={}
    )
    return get_vision_position_ids(grid, 2, kwargs={}), taps, weights


def see(model: Qwen3VLForConditionalGeneration, patches: Tensor, rows: int, columns: int) -> Seen:
    """Encodes pictures of one size: uint8 `patches` [pictures, rows * columns, 768]."""
    visual = model.model.visual
    positions, taps, weights = (t.to(patches.device) for t in _geometry(rows, columns, visual.num_grid_per_side))
    # Both temporal slices see the same still picture, so their kernels add up; a convolution without overlap is a
    # product.
    kernel = visual.patch_embed.proj.weight.sum(2).flatten(1)
    x = F.linear(normalise(patches), kernel, visual.patch_embed.proj.bias)
    x = x + (visual.pos_embed(taps) * weights[:, :, None]).sum(1)
    cos, sin = visual.rotary_pos_emb(x, positions)
    deepstack = []
    for number, block in enumerate(visual.blocks):
        x = _see_block(block, x, cos, sin)
        if number in visual.deepstack_visual_indexes:
            merger = visual.deepstack_merger_list[len(deepstack)]
            deepstack.append(merger(x).view(x.shape[0], -1, merger.linear_fc2.out_features))
    tokens = visual.merger(x).view(x.shape[0], -1, visual.merger.linear_fc2.out_features)
    return Seen(tokens, deepstack)


# Compiled, because most of the time in eager mode goes into elementwise work on small matrices; without the pattern
# matcher, which would put flash attention back where `_mix` avoids it.
_compiled = torch.compile(dynamic=True, options={"pattern_matcher": False})
_LONG = 1100
"""Sequences above this take flash attention: on a processor it needs twice the time below, and less memory above."""


@_compiled
def _see_block(block: torch.nn.Module, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    x = x + _attend(block.attn, block.norm1(x), cos, sin)
    return x + block.mlp(block.norm2(x))


def _attend(attention: torch.nn.Module, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Every patch of a picture attends to every other; `x` [pictures, patches, width]."""
    n, length, width = x.shape
    q, k, v = attention.qkv(x).view(n, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    cos, sin = cos.to(q.dtype), sin.to(q.dtype)
    q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
    out = _mix(q, k, v, None)
    return attention.proj(out.transpose(1, 2).reshape(n, length, width))


def read(
    model: Qwen3VLForConditionalGeneration,
    ids: Tensor,
    positions: Tensor,
    allowed: Tensor,
    seen: Seen | None,
) -> tuple[Tensor, Tensor]:
    """Runs the text tower: `ids` [batch, length], `positions` [3, batch, length], `allowed` [batch, 1, length, length].

    The image tokens in `ids` are filled from `seen` in order. Returns the hidden states [batch, length, width] after
    the last layer and `EARLY` layers before it, both normalised.
    """
    text = model.model.language_model
    x = text.embed_tokens(ids)
    where = None
    if seen is not None:
        where = (ids == model.config.image_token_id)[..., None]
        x = _put(x, where, seen.tokens)
    cos, sin = text.rotary_emb(x.float(), positions)
    half = torch.is_autocast_enabled(x.device.type)
    cos, sin = (t[:, None].to(torch.bfloat16 if half else t.dtype) for t in (cos, sin))
    bias = torch.zeros_like(allowed, dtype=cos.dtype).masked_fill_(~allowed, float("-inf"))
    early = x
    for number, layer in enumerate(text.layers):
        if number == len(text.layers) - EARLY:
            early = x
        x = _read_layer(layer, x, cos, sin, bias)
        if seen is not None and where is not None and number < len(seen.deepstack):
            x = x + _put(torch.zeros_like(x), where, seen.deepstack[number])
    return text.norm(x), text.norm(early)


def _put(x: Tensor, where: Tensor, tokens: Tensor) -> Tensor:
    return x.masked_scatter(where, tokens.to(x.dtype))


@_compiled
def _read_layer(layer: torch.nn.Module, x: Tensor, cos: Tensor, sin: Tensor, bias: Tensor) -> Tensor:
    x = x + _read_attention(layer.self_attn, layer.input_layernorm(x), cos, sin, bias)
    return x + layer.mlp(layer.post_attention_layernorm(x))


def _read_attention(attention: torch.nn.Module, x: Tensor, cos: Tensor, sin: Tensor, bias: Tensor) -> Tensor:
    n, length, _ = x.shape
    q = attention.q_norm(attention.q_proj(x).view(n, length, -1, attention.head_dim)).transpose(1, 2)
    k = attention.k_norm(attention.k_proj(x).view(n, length, -1, attention.head_dim)).transpose(1, 2)
    v = attention.v_proj(x).view(n, length, -1, attention.head_dim).transpose(1, 2)
    q, k = q.to(v.dtype), k.to(v.dtype)
    q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
    out = _mix(q, k, v, bias)
    return attention.o_proj(out.transpose(1, 2).reshape(n, length, -1))


def _mix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of queries [batch, heads, length, size] over keys and values, which may have fewer heads."""
    n, heads, length, size = q.shape
    if length > _LONG or q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=bias is not None)
    groups = k.shape[1]
    scores = q.reshape(n, groups, -1, size) @ k.transpose(-1, -2)
    scores = scores.view(n, groups, heads // groups, length, length) * size**-0.5
    if bias is not None:
        scores = scores + bias[:, :, None]
    return (scores.softmax(-1).to(v.dtype).view(n, groups, -1, length) @ v).view(n, heads, length, size)
