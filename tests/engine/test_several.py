"""Several answers to one request, and embeddings of text: what they share is computed once."""

from __future__ import annotations

import asyncio
import math
import struct
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from gguf_vl.engine.client import Engine
from gguf_vl.engine.several import answers
from gguf_vl.errors import DoesNotFit, UsageError
from gguf_vl.types import Embedding, Finished, Message, Request, Sampling, Text
from tests.engine.test_worker import settings
from tests.scenes import the_picture

pytestmark = pytest.mark.anyio

WARM = Sampling(temperature=1000.0, top_k=0, top_p=1.0, seed=7, max_tokens=24)


def asked(sampling: Sampling) -> Request:
    return Request((Message("user", (the_picture("red circle"), "Describe the picture.")),), sampling)


async def all_answers(engine: Engine, request: Request, n: int) -> list[tuple[str, Finished]]:
    texts, ends = [""] * n, dict[int, Finished]()
    async for number, event in answers(engine, request, n):
        if isinstance(event, Text):
            texts[number] += event.text
        if isinstance(event, Finished):
            ends[number] = event
    return [(texts[number], ends[number]) for number in range(n)]


async def test_each_answer_has_a_seed_of_its_own_and_is_the_same_again() -> None:
    async with Engine(settings(n_seq_max=4)) as engine:
        first, again = [await all_answers(engine, asked(WARM), 3) for _ in range(2)]
        (third,) = await all_answers(engine, asked(replace(WARM, seed=9)), 1)
    texts = [text for text, _ in first]
    assert texts == [text for text, _ in again]
    assert len(set(texts)) > 1
    assert third[0] == texts[2]


async def test_what_they_begin_with_is_computed_once() -> None:
    request = asked(Sampling(temperature=0, max_tokens=40))
    async with Engine(settings(n_seq_max=4)) as engine:
        found = await all_answers(engine, request, 4)
        stats = await engine.stats()
    assert len({text for text, _ in found}) == 1
    picture = the_picture("red circle").tokens
    first, *others = sorted(end.timings.tokens_reused for _, end in found)
    assert first == 0
    assert min(others) >= picture
    assert stats.prompt_tokens < 2 * picture + 4 * 40
    assert stats.pictures_encoded == 1


async def test_all_end_with_the_first_that_fails() -> None:
    async with Engine(settings(n_seq_max=2)) as engine:
        with pytest.raises(UsageError, match="grammar"):
            await all_answers(engine, replace(asked(WARM), grammar="root ::= nothing"), 3)
        assert (await engine.stats()).running == 0


async def test_all_end_when_they_are_left() -> None:
    async with Engine(settings(n_seq_max=2)) as engine:
        endless = asked(replace(WARM, max_tokens=None, logit_bias=()))
        async for _ in (stream := answers(engine, endless, 4)):
            break
        await stream.aclose()
        await engine.count(endless)  # taken behind the cancellations
        stats = await engine.stats()
        assert (stats.running, stats.waiting) == (0, 0)


async def test_an_embedding_is_the_hidden_state_behind_the_last_token() -> None:
    texts = ["Hello!", "What colour is the circle?", "word " * 300]
    async with Engine(settings(n_seq_max=2)) as engine:
        talking = asyncio.create_task(all_answers(engine, asked(Sampling(temperature=0, max_tokens=40)), 1))
        found = await asyncio.gather(*map(engine.embed, texts))
        alone = [await engine.embed(text) for text in texts]
        ((answer, _),) = await talking
    assert "circle" in answer
    for text, beside, by_itself in zip(texts, found, alone, strict=True):
        expected = of_llama_cpp_python(text)
        assert by_itself.n_tokens == beside.n_tokens == len(expected[1])
        assert math.hypot(*beside.values) == pytest.approx(1)
        for each in (beside, by_itself):
            assert np.dot(each.values, expected[0]) == pytest.approx(1, abs=1e-4)
    assert abs(np.dot(found[0].values, found[1].values)) < 0.999


def of_llama_cpp_python(text: str) -> tuple[list[float], list[int]]:
    """The normalised embedding and the tokens, by llama-cpp-python's own way."""
    model = llama_cpp.Llama(
        str(settings().model), embedding=True, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_LAST, verbose=False, n_ctx=512
    )
    tokens = model.tokenize(text.encode(), add_bos=False, special=False)
    values = np.array(model.embed(text))
    model.close()
    return list(values / np.linalg.norm(values)), tokens


async def test_a_model_made_for_embeddings_gives_the_same(tmp_path: Path) -> None:
    """One whose file says how it is to be pooled: by the last token."""
    raw = settings().model.read_bytes()
    added = b"".join(
        struct.pack("<Q", len(key)) + key + struct.pack("<II", 4, value)
        for key, value in ((b"qwen3vl.pooling_type", 3), (b"test.padding", 0))
    )
    assert len(added) % 32 == 0  # tensors stay aligned
    n_keys = int.from_bytes(raw[16:24], "little")
    pooled = tmp_path / "pooled.gguf"
    pooled.write_bytes(raw[:16] + struct.pack("<Q", n_keys + 2) + added + raw[24:])
    async with Engine(replace(settings(), model=pooled)) as engine, Engine(settings()) as plain:
        assert await engine.embed("Hello!") == await plain.embed("Hello!")
        ((answer, _),) = await all_answers(engine, asked(Sampling(temperature=0, max_tokens=40)), 1)
    assert "circle" in answer


async def test_what_has_no_embedding_is_refused() -> None:
    async with Engine(settings()) as engine:
        with pytest.raises(UsageError, match="empty"):
            await engine.embed("")
        with pytest.raises(DoesNotFit, match="context"):
            await engine.embed("word " * 5000)
        assert isinstance(await engine.embed("still here"), Embedding)
