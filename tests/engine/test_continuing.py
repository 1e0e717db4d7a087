"""An answer goes on where it ended, as if it had never been stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gguf_vl.engine.client import Engine
from gguf_vl.errors import UsageError
from gguf_vl.types import Event, Finished, Likely, Message, Request, Sampling, Text, Thinking, Tool
from tests.engine.test_worker import GREEDY, settings
from tests.scenes import the_picture

pytestmark = pytest.mark.anyio

PICTURE = the_picture("red circle", "blue square", "green star")
ASKED = (Message("user", (PICTURE, "List the shapes as JSON.")),)
CHINESE = (Message("user", (PICTURE, "描述这张图片。")),)


async def events_of(engine: Engine, request: Request) -> list[Event]:
    return [event async for event in engine.generate(request)]


def said(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def end_of(events: Sequence[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def go_on(talk: tuple[Message, ...], text: str, sampling: Sampling = GREEDY) -> Request:
    return Request((*talk, Message("assistant", (text,))), sampling)


PENALISED = replace(GREEDY, repetition_penalty=1.3, presence_penalty=1.0, frequency_penalty=0.3)


@pytest.mark.parametrize(
    ("talk", "sampling"),
    [(ASKED, GREEDY), (CHINESE, GREEDY), (ASKED, PENALISED)],
    ids=["json", "chinese", "penalties"],
)
async def test_the_parts_are_the_whole_wherever_it_was_cut_and_nothing_is_computed_twice(
    talk: tuple[Message, ...], sampling: Sampling
) -> None:
    async with Engine(settings()) as engine:
        for n in (1, 2, 3, 5, 8, 13, 17):
            first = await events_of(engine, Request(talk, replace(sampling, max_tokens=n)))
            assert end_of(first).finish_reason == "length"
            rest = await events_of(engine, go_on(talk, said(first), replace(sampling, max_tokens=40 - n)))
            whole = await events_of(engine, Request(talk, replace(sampling, max_tokens=40)))
            end = end_of(rest)
            assert said(first) + said(rest) == said(whole)
            assert end.usage.prompt_tokens - end.timings.tokens_reused == 1  # the last token, never computed before
            assert end.usage.completion_tokens == end_of(whole).usage.completion_tokens - n
            assert end.finish_reason == end_of(whole).finish_reason


async def test_an_answer_that_was_cut_in_the_midst_of_a_character_goes_on_before_it() -> None:
    async with Engine(settings()) as engine:
        first = await events_of(engine, Request(CHINESE, replace(GREEDY, max_tokens=16)))
        assert said(first).endswith("蓝色")  # the token ends with two bytes of the next character
        rest = await events_of(engine, go_on(CHINESE, said(first)))
    assert said(rest).endswith("。")
    assert end_of(rest).timings.tokens_reused == end_of(first).usage.prompt_tokens + 15


async def test_an_answer_may_go_on_again_and_again_and_is_known_whole_afterwards() -> None:
    async with Engine(settings()) as engine:
        whole = said(await events_of(engine, Request(ASKED, GREEDY)))
    async with Engine(settings()) as engine:
        bit = replace(GREEDY, max_tokens=7)
        text, reused, end = "", 0, None
        while end is None or end.finish_reason == "length":
            events = await events_of(engine, go_on(ASKED, text, bit))
            end = end_of(events)
            assert end.timings.tokens_reused >= reused
            text, reused = text + said(events), end.usage.prompt_tokens
        assert text == whole
        follow_up = (*ASKED, Message("assistant", (text,)), Message("user", ("How many shapes are there?",)))
        asked_on = end_of(await events_of(engine, Request(follow_up, bit)))
    assert asked_on.timings.tokens_reused >= reused


async def test_an_answer_of_which_no_word_was_said_is_a_new_one() -> None:
    async with Engine(settings()) as engine:
        fresh = await events_of(engine, Request(ASKED, GREEDY))
        for content in (("",), ()):
            again = await events_of(engine, Request((*ASKED, Message("assistant", content)), GREEDY))
            assert said(again) == said(fresh)
            assert end_of(again).usage == end_of(fresh).usage


async def test_an_answer_that_somebody_else_began_goes_on_too() -> None:
    asked = (Message("user", (the_picture("red circle"), "What colour is the circle?")),)
    async with Engine(settings()) as engine:
        whole = said(await events_of(engine, Request(asked, GREEDY)))
        assert said(await events_of(engine, go_on(asked, whole))) == ""  # it was all
        begun = '{"shapes": [{"'
        events = await events_of(engine, go_on(ASKED, begun, replace(GREEDY, max_tokens=20)))
        counted = await engine.count(go_on(ASKED, begun))
    assert said(events)
    assert not said(events).startswith(begun)
    assert counted == replace(end_of(events).usage, completion_tokens=0)


async def test_a_begun_answer_that_was_prepared_is_read_already() -> None:
    begun = "The picture shows"
    async with Engine(settings()) as engine:
        await engine.prepare(*ASKED, Message("assistant", (begun,)))
        end = end_of(await events_of(engine, go_on(ASKED, begun, replace(GREEDY, max_tokens=4))))
    assert end.usage.prompt_tokens - end.timings.tokens_reused == 1


async def test_likelihoods_are_of_what_is_new() -> None:
    async with Engine(settings()) as engine:
        request = replace(go_on(ASKED, "The picture", replace(GREEDY, max_tokens=4)), n_likely=0)
        events = await events_of(engine, request)
    assert b"".join(each.token[0] for each in events if isinstance(each, Likely)).decode() == said(events)


@pytest.mark.parametrize(
    "held",
    [
        {"grammar": 'root ::= "red"'},
        {"schema": {"type": "string"}},
        {"tools": (Tool("now"),), "tool_choice": "required"},
        {"tools": (Tool("now"),), "schema": {"type": "string"}},
    ],
)
async def test_what_has_begun_is_held_to_no_form(held: dict[str, object]) -> None:
    async with Engine(settings()) as engine:
        with pytest.raises(UsageError, match="has begun"):
            await events_of(engine, replace(go_on(ASKED, "The"), **held))  # type: ignore[arg-type]
        free = replace(go_on(ASKED, "The"), tools=(Tool("now"),))
        assert not [event for event in await events_of(engine, free) if isinstance(event, Thinking)]
