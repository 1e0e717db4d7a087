from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.media.resize import fit_size, limits_for
from gguf_vl.types import PATCH, PictureLimits

LLAMA_CPP = PictureLimits(8, 4096)

sides = st.integers(1, 20_000)
limits = st.builds(lambda least, room: PictureLimits(least, least + room), st.integers(1, 300), st.integers(0, 4000))


def smart_resize(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The reference, as it stands in transformers' image_processing_qwen2_vl.py."""
    h_bar = round(height / factor) * factor
    w_bar = round(width / factor) * factor
    if h_bar * w_bar > max_pixels:
        beta = math.sqrt((height * width) / max_pixels)
        h_bar = max(factor, math.floor(height / beta / factor) * factor)
        w_bar = max(factor, math.floor(width / beta / factor) * factor)
    elif h_bar * w_bar < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        h_bar = math.ceil(height * beta / factor) * factor
        w_bar = math.ceil(width * beta / factor) * factor
    return h_bar, w_bar


def tokens(size: tuple[int, int]) -> int:
    return size[0] // PATCH * (size[1] // PATCH)


@given(sides, sides, limits)
def test_every_size_is_whole_patches_within_the_limits(width: int, height: int, limits: PictureLimits) -> None:
    size = fit_size(width, height, limits)
    assert [side % PATCH for side in size] == [0, 0]
    assert limits.min_tokens <= tokens(size) <= limits.max_tokens


@given(sides, sides, limits)
def test_it_is_the_reference_wherever_the_reference_keeps_to_the_limits(
    width: int, height: int, limits: PictureLimits
) -> None:
    area = PATCH * PATCH
    rows, columns = smart_resize(height, width, PATCH, limits.min_tokens * area, limits.max_tokens * area)
    if limits.min_tokens <= tokens((columns, rows)) <= limits.max_tokens:
        assert fit_size(width, height, limits) == (columns, rows)


@given(st.integers(64, 8000), st.integers(64, 8000))
def test_an_ordinary_picture_keeps_its_aspect_to_within_a_patch_on_each_side(width: int, height: int) -> None:
    shown = fit_size(width, height, LLAMA_CPP)
    least = max((shown[0] - PATCH) / width, (shown[1] - PATCH) / height)
    most = min((shown[0] + PATCH) / width, (shown[1] + PATCH) / height)
    assert least <= most, "no one scale explains both sides"


@given(st.integers(1, 64), st.integers(1, 64))
def test_a_picture_that_already_fits_is_not_resized(columns: int, rows: int) -> None:
    size = (columns * PATCH, rows * PATCH)
    if 8 <= columns * rows <= 4096:
        assert fit_size(*size, LLAMA_CPP) == size


@pytest.mark.parametrize(
    ("original", "shown"),
    [
        ((640, 480), (640, 480)),
        ((1920, 1080), (1920, 1088)),
        ((100, 100), (96, 96)),
        ((4000, 3000), (2336, 1760)),
        ((5000, 8), (2272, 32)),
        ((1, 4000), (32, 5728)),
    ],
)
def test_known_sizes(original: tuple[int, int], shown: tuple[int, int]) -> None:
    assert fit_size(*original, LLAMA_CPP) == shown


def test_a_strip_longer_than_the_limits_gets_its_whole_length_of_tokens_in_one_row() -> None:
    assert fit_size(1_000_000, 1, PictureLimits(8, 1024)) == (1024 * PATCH, PATCH)
    assert fit_size(1, 1_000_000, PictureLimits(8, 1024)) == (PATCH, 1024 * PATCH)


def test_limits_that_allow_one_number_only_give_the_shape_of_nearest_aspect() -> None:
    assert fit_size(300, 300, PictureLimits(12, 12)) in {(4 * PATCH, 3 * PATCH), (3 * PATCH, 4 * PATCH)}
    assert fit_size(900, 100, PictureLimits(7, 7)) == (7 * PATCH, PATCH)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_a_picture_without_pixels_has_no_size(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        fit_size(*size, LLAMA_CPP)


@pytest.mark.parametrize("limits", [PictureLimits(0, 8), PictureLimits(9, 8)])
def test_limits_that_nothing_can_meet_are_refused(limits: PictureLimits) -> None:
    with pytest.raises(ValueError, match="min_tokens"):
        fit_size(100, 100, limits)


def test_detail_caps_the_tokens_and_high_is_the_models_own_maximum() -> None:
    assert limits_for("low", LLAMA_CPP) == PictureLimits(8, 256)
    assert limits_for("auto", LLAMA_CPP) == PictureLimits(8, 1024)
    assert limits_for("high", LLAMA_CPP) == LLAMA_CPP


@given(limits)
def test_detail_never_leaves_what_the_model_accepts(limits: PictureLimits) -> None:
    low, auto, high = (limits_for(detail, limits) for detail in ("low", "auto", "high"))
    assert limits.min_tokens <= low.max_tokens <= auto.max_tokens <= high.max_tokens == limits.max_tokens
    assert {low.min_tokens, auto.min_tokens, high.min_tokens} == {limits.min_tokens}
