"""The same names, awaited."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gguf_vl import AsyncModel, load_async
from gguf_vl.errors import GgufVlError
from tests.api.given import COLOUR, SHAPES, TWO, workers


@pytest.mark.anyio
async def test_asyncio_has_all_of_it(home: Path) -> None:
    before = workers()
    async with load_async("pocket") as model:
        assert isinstance(model, AsyncModel)
        assert [str(each) for each in await asyncio.gather(*(model.ask(p, COLOUR) for p in (SHAPES, TWO)))] == [
            "red",
            "purple",
        ]
        async with model.stream(SHAPES, "Describe the picture.") as stream:
            async for _ in stream:
                break
        assert stream.answer.finish_reason == "cancelled"
        chat = model.chat()
        await chat.say(COLOUR, SHAPES)
        assert "".join([piece async for piece in chat.stream("And the square?")]) == "blue"
        assert len(chat.messages) == 4
        assert [box.label for box in await model.locate(SHAPES, "the red circle")] == ["red circle"]
        assert (await model.run("count", TWO, things="shapes")).fields == 2
        assert sorted([each.index async for each in model.batch([TWO] * 12, COLOUR)]) == list(range(12))
    assert workers() == before


@pytest.mark.anyio
async def test_an_async_model_may_be_awaited_and_closed_and_its_questions_cancelled(home: Path) -> None:
    before = workers()
    model = await load_async("pocket")
    asking = asyncio.create_task(model.ask(SHAPES, "Describe the picture."))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert str(await model.ask(SHAPES, COLOUR)) == "red"
    await model.close()
    assert workers() == before
    with pytest.raises(GgufVlError):
        await model.ask(SHAPES, COLOUR)


@pytest.mark.anyio
async def test_a_forgotten_async_model_ends_with_a_warning(home: Path) -> None:
    before, tasks = workers(), asyncio.all_tasks()
    model = await load_async("pocket")
    with pytest.warns(ResourceWarning, match="unclosed <AsyncModel pocket>"):
        del model
    while asyncio.all_tasks() - tasks:
        await asyncio.sleep(0)
    assert workers() == before
