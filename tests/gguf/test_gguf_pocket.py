"""The model inside the package is read like any other."""

from __future__ import annotations

from pathlib import Path

import gguf_vl.gguf
from gguf_vl.gguf import mismatch, projector_shape, read_header, text_shape

FILES = sorted((Path(gguf_vl.gguf.__file__).parents[1] / "pocket").glob("*.gguf"))


def test_pocket_is_a_text_model_and_the_projector_that_belongs_to_it() -> None:
    headers = {header.metadata["general.architecture"]: header for header in map(read_header, FILES)}
    assert headers.keys() == {"qwen3vl", "clip"}

    text, projector = text_shape(headers["qwen3vl"]), projector_shape(headers["clip"])

    assert mismatch(text, projector) is None
    assert projector.type == "qwen3vl_merger"
    assert projector.embedding_width == text.n_embd * (1 + text.n_deepstack)
    assert (projector.patch, projector.spatial_merge) == (16, 2)
    assert text.n_deepstack > 0
    assert len(text.rope_sections) == 3
    assert text.head_dim_k == 64
    assert text.chat_template
    assert "<|im_start|>" in text.chat_template
    assert text.eos is not None
    assert sum(header.file_size for header in headers.values()) <= 8_000_000
