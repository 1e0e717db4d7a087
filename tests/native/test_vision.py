"""Two frames of a video become one step of time, in llama.cpp itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from gguf_vl import paths
from gguf_vl.native.model import Model
from gguf_vl.native.vision import Vision
from tests.scenes import POCKET_LIMITS, the_picture


@pytest.fixture
def vision() -> Iterator[Vision]:
    folder = paths.pocket_dir()
    model = Model(folder / "pocket-F16.gguf", n_gpu_layers=0, on_progress=lambda _: None)
    vision = Vision(folder / "mmproj-pocket-F16.gguf", model, limits=POCKET_LIMITS, n_threads=1, use_gpu=False)
    yield vision
    vision.close()
    model.close()


def test_a_pair_of_one_frame_is_that_frame_and_a_pair_of_two_is_neither(vision: Vision) -> None:
    one, other = the_picture("red circle", size=128), the_picture("blue star", size=128)
    alone = vision.encode(one)
    assert np.array_equal(vision.encode(replace(one, rgb=one.rgb * 2, frames=2)), alone)
    pair = vision.encode(replace(one, rgb=one.rgb + other.rgb, frames=2))
    back = vision.encode(replace(one, rgb=other.rgb + one.rgb, frames=2))
    assert pair.shape == alone.shape  # two frames for the tokens of one
    assert np.abs(pair - alone).max() > 0.1
    assert np.abs(pair - back).max() > 0.01  # their order counts
