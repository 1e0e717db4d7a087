"""How large a picture is shown to the model: Qwen's own rule, as pure functions."""

from __future__ import annotations

import math

from gguf_vl.types import PATCH, Detail, PictureLimits

DETAIL_TOKENS: dict[Detail, int] = {"low": 256, "auto": 1024}
"""The most image tokens a picture takes at each `--detail`; `high` has no cap but the model's own."""


def limits_for(detail: Detail, limits: PictureLimits) -> PictureLimits:
    """The model's `limits` with the cap that `detail` asks for; never below the model's minimum."""
    cap = DETAIL_TOKENS.get(detail, limits.max_tokens)
    return PictureLimits(limits.min_tokens, max(limits.min_tokens, min(cap, limits.max_tokens)))


def fit_size(width: int, height: int, limits: PictureLimits) -> tuple[int, int]:
    """The (width, height) in pixels to which a picture of `width` by `height` pixels is resized, without padding.

    Both sides are multiples of `PATCH` and the image tokens lie within `limits`, always. Where the reference
    (`smart_resize` of transformers' Qwen2-VL image processor, which Qwen3-VL uses) stays within the limits, this is its
    result. Where it does not (very long strips, limits very close together), the allowed shape of the nearest aspect is
    taken. The reference refuses a longer side over 200 times the shorter; here such a strip is squeezed like any other.

    Raises ValueError for a side or a limit below 1, and for a minimum above the maximum.
    """
    if width < 1 or height < 1:
        raise ValueError(f"a picture has at least one pixel on each side, not {width} x {height}")
    if not 1 <= limits.min_tokens <= limits.max_tokens:
        raise ValueError(f"limits must have 1 <= min_tokens <= max_tokens: {limits}")
    columns, rows = _reference(width, height, limits)
    if not limits.min_tokens <= columns * rows <= limits.max_tokens:
        columns, rows = _nearest_aspect(width, height, limits)
    return columns * PATCH, rows * PATCH


def _reference(width: int, height: int, limits: PictureLimits) -> tuple[int, int]:
    """`smart_resize` in image tokens per side. Its product may leave the limits; `fit_size` looks after that."""
    columns, rows = round(width / PATCH), round(height / PATCH)
    natural = width * height / PATCH**2
    if columns * rows > limits.max_tokens:
        beta = math.sqrt(natural / limits.max_tokens)
        return max(1, math.floor(width / beta / PATCH)), max(1, math.floor(height / beta / PATCH))
    if columns * rows < limits.min_tokens:
        beta = math.sqrt(limits.min_tokens / natural)
        return math.ceil(width * beta / PATCH), math.ceil(height * beta / PATCH)
    return columns, rows


def _nearest_aspect(width: int, height: int, limits: PictureLimits) -> tuple[int, int]:
    """Of all shapes within the limits, in tokens per side, the one of the nearest aspect; of equals, the largest."""
    aspect = math.log(width) - math.log(height)

    def rank(shape: tuple[int, int]) -> tuple[float, int]:
        columns, rows = shape
        return abs(math.log(columns / rows) - aspect), -columns * rows

    shapes = []
    for rows in range(1, limits.max_tokens + 1):
        fewest, most = -(-limits.min_tokens // rows), limits.max_tokens // rows
        if fewest <= most:
            wished = round(rows * width / height)
            shapes.append((min(max(wished, fewest), most), rows))
    return min(shapes, key=rank)
