"""llama.cpp itself asks whether to stop, in the middle of a decode."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from llama_cpp import llama_cpp as llama

from gguf_vl import paths
from gguf_vl.native.context import Aborted, Context
from gguf_vl.native.model import Model


@pytest.fixture
def context() -> Iterator[Context]:
    model = Model(paths.pocket_dir() / "pocket-F16.gguf", n_gpu_layers=0, on_progress=lambda _: None)
    context = Context(model, n_ctx=1024, n_batch=512, n_threads=1, kv_type="f16")
    yield context
    context.close()
    model.close()


def test_llama_cpp_stops_by_itself_after_an_abort_and_goes_on_after_a_resume(context: Context) -> None:
    tokens = (llama.llama_token * 64)(*range(100, 164))
    batch = llama.llama_batch_get_one(tokens, 64)
    context.abort()
    assert llama.llama_decode(context.pointer, batch) == 2
    context.resume()
    context.cut(0, 0)
    assert llama.llama_decode(context.pointer, batch) == 0


def test_a_decode_after_an_abort_is_not_begun(context: Context) -> None:
    batch = context.batch()
    batch.add_tokens(0, np.array([100], np.int32), 0, n_outputs=1)
    context.abort()
    with pytest.raises(Aborted):
        context.decode(batch)
    context.resume()
    assert context.decode(batch)
