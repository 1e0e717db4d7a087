"""pocket's shape: transformers' own Qwen3-VL with small numbers, and how a picture becomes its patches.

Head size 64 in both towers, because smaller heads have no flash-attention kernel on CUDA and a quantised V cache
needs one.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from vocabulary import SIZE, token_id

PATCH = 16
MERGE = 2
DEEPSTACK_LAYERS = (1, 3)
"""Vision layers whose output is added to the first text layers."""
TRAINED_CONTEXT = 8192

_TEXT = {
    "vocab_size": SIZE,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": TRAINED_CONTEXT,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "initializer_range": 0.05,
    # Sections that cover all 32 frequencies, so that llama.cpp and transformers interleave them alike.
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [11, 11, 10],
        "mrope_interleaved": True,
    },
}
_VISION = {
    "depth": 6,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_heads": 2,
    "patch_size": PATCH,
    "spatial_merge_size": MERGE,
    "temporal_patch_size": 2,
    "out_hidden_size": 128,
    "num_position_embeddings": 256,
    "deepstack_visual_indexes": list(DEEPSTACK_LAYERS),
    "initializer_range": 0.05,
}


def config() -> Qwen3VLConfig:
    """The configuration of every pocket."""
    return Qwen3VLConfig(
        text_config=dict(_TEXT),
        vision_config=dict(_VISION),
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def new_model(seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """An untrained pocket in float32. The learned positions start large: at 0.02 they are lost beside the patches."""
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config())
    torch.nn.init.normal_(model.model.visual.pos_embed.weight, std=0.3)
    return model


EXPORT_SCALE = 0.0125
TRAINING_SCALE = 0.1
"""Root mean square of the token embeddings: what `set_scale` brings a model to."""


@torch.no_grad()
def set_scale(model: Qwen3VLForConditionalGeneration, scale: float) -> None:
    """Scales the whole residual stream of the text tower by a power of two, which changes no answer.

    Every layer normalises what it reads, so only the size of the embeddings changes. Small ones keep llama.cpp's
    float16 rounding of picture embeddings small in absolute terms; larger ones suit the learning rate.
    """
    current = float(model.model.language_model.embed_tokens.weight.pow(2).mean().sqrt())
    factor = 2.0 ** round(math.log2(scale / current))
    for name, parameter in model.named_parameters():
        writes = name.endswith(("embed_tokens.weight", "o_proj.weight", "down_proj.weight"))
        if writes or ("merger" in name and "linear_fc2" in name):
            parameter *= factor
    model.model.language_model.norm.weight /= factor


def patches(picture: Image.Image) -> np.ndarray:
    """A picture with sides that are multiples of 32 as uint8 patches [patches, 3 * 16 * 16].

    In Qwen's order: the four patches of a merged token one after the other, tokens by rows. Values are colour, row,
    column.
    """
    pixels = np.asarray(picture.convert("RGB"), np.uint8)
    rows, columns = pixels.shape[0] // PATCH, pixels.shape[1] // PATCH
    cut = pixels.reshape(rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3)
    return np.ascontiguousarray(cut.transpose(0, 3, 1, 4, 6, 2, 5)).reshape(rows * columns, 3 * PATCH * PATCH)


def normalise(uint8_patches: torch.Tensor) -> torch.Tensor:
    """Patches as the vision tower sees them: mean and deviation 0.5, float32."""
    return uint8_patches.float() / 127.5 - 1.0
