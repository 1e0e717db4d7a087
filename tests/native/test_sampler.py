"""At temperature 0 the likeliest token is taken without llama.cpp's chain, and is the one that the chain takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from llama_cpp import llama_cpp as llama

from gguf_vl import paths
from gguf_vl.native.context import Context
from gguf_vl.native.model import Model
from gguf_vl.native.sampler import Sampler
from gguf_vl.types import Sampling


@pytest.fixture(scope="module")
def decoded() -> Iterator[tuple[Model, Context]]:
    """A context with the logits of one row."""
    model = Model(paths.pocket_dir() / "pocket-F16.gguf", n_gpu_layers=0, on_progress=lambda _: None)
    context = Context(model, n_ctx=256, n_batch=64, n_threads=1, kv_type="f16")
    batch = context.batch()
    batch.add_tokens(0, np.array(model.tokenize("What shape is red?"), np.int32), 0, n_outputs=1)
    assert context.decode(batch)
    yield model, context
    context.close()
    model.close()


@pytest.mark.parametrize("n_biased", [0, 1, 40])
def test_the_likeliest_token_is_the_one_that_the_chain_takes(decoded: tuple[Model, Context], n_biased: int) -> None:
    model, context = decoded
    ranked = [int(token) for token in np.argsort(-context.logits(-1))]
    for biases in (
        tuple((token, -1e9) for token in ranked[:n_biased]),
        tuple((token, 1e9) for token in ranked[-n_biased:]) if n_biased else (),
        ((ranked[0], -5.0), (ranked[0], 4.0), (ranked[1], 0.5)),
    ):
        with Sampler(model, Sampling(temperature=0, logit_bias=biases), window=64) as sampler:
            chain = int(llama.llama_sampler_sample(sampler.chain, context.pointer, -1))
            assert sampler.sample(context, -1) == chain
    assert [int(token) for token in np.argsort(-context.logits(-1))] == ranked  # others may read them
