"""Models with real shapes and random weights: the published sizes, valid blocks, and a pair that answers."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf.quants import dequantize

from gguf_vl import catalogue
from gguf_vl.gguf.header import read_header
from tests.cli.command import gguf_vl
from tests.scenes import png, scene
from tests.store.test_blueprint import PUBLISHED_HEADER

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from make_synthetic import SPREAD, Tensor, Type, Weights, write_projector, write_text


@pytest.mark.parametrize("type_", [Type.Q4_K, Type.Q6_K, Type.Q8_0, Type.F16, Type.F32])
def test_weights_of_every_type_are_centred_and_of_one_size(type_: Type) -> None:
    data = Weights(seed=1).data(Tensor("x.weight", (300, 2048), type_))
    values = dequantize(data, type_) if data.dtype == np.uint8 else data.astype(np.float32)
    assert values.shape == (300, 2048)
    assert abs(values.mean()) < SPREAD / 100
    assert values.std() == pytest.approx(SPREAD, rel=0.05)


def test_a_pair_with_few_layers_loads_and_answers_about_a_picture(tmp_path: Path) -> None:
    shape = catalogue.find("2b")[0].shape
    assert shape is not None
    small = replace(
        shape,
        text=replace(shape.text, n_embd=256, n_layer=4, n_head=2, n_head_kv=1, n_ff=256),
        vision=replace(shape.vision, n_embd=128, n_layer=3, n_head=2, n_ff=256, deepstack_layers=(0, 1), n_out=256),
    )
    write_text(small, "Q4_K_M", 4096, tmp_path / "small.gguf")
    write_projector(small.vision, "Q8_0", tmp_path / "mmproj-small.gguf")
    picture = tmp_path / "picture.png"
    picture.write_bytes(png(scene("red circle")))
    model = str(tmp_path / "small.gguf")
    done = gguf_vl("ask", "-m", model, "--json", "--max-tokens", "8", str(picture), "What is this?")
    assert done.returncode == 0, done.stderr
    usage = json.loads(done.stdout)["usage"]
    assert (usage["image_tokens"], usage["completion_tokens"]) == (64, 8)
    written = read_header(tmp_path / "small.gguf")
    # Half a percent of the smallest published text file, the 2B in Q4_K_M.
    assert abs(written.data_offset - PUBLISHED_HEADER.start) < 0.005 * 1_107_409_952
