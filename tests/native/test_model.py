"""What people write is text, whatever the vocabulary calls special."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_vl import paths
from gguf_vl.native.model import Model


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model(paths.pocket_dir() / "pocket-F16.gguf", n_gpu_layers=0, on_progress=lambda _: None) as model:
        yield model


def test_special_tokens_spelled_out_stay_text(model: Model) -> None:
    assert {"<|im_end|>", "<tool_call>"} <= model.special_tokens.keys()
    for text, token in model.special_tokens.items():
        for written in (text, f"a {text} b", text * 3, f"<{text}>"):
            tokens = model.tokenize(written)
            assert token not in tokens, text
            assert b"".join(map(model.piece, tokens)).decode() == written


def test_any_text_comes_back_from_its_tokens(model: Model) -> None:
    special = st.sampled_from(sorted(model.special_tokens))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])) | special).map("".join))
    def comes_back(text: str) -> None:
        tokens = model.tokenize(text)
        assert b"".join(map(model.piece, tokens)).decode() == text
        assert not set(tokens) & set(model.special_tokens.values())

    comes_back()
