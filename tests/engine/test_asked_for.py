"""What a request can ask for: a form, likelihoods, calls, and an end of repetition."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace

import pytest

from gguf_vl.engine.client import Engine
from gguf_vl.errors import UsageError
from gguf_vl.types import (
    Call,
    CallArguments,
    CallStarted,
    Event,
    Finished,
    Likely,
    Message,
    Request,
    Sampling,
    Text,
    Tool,
)
from tests.engine.grammar.grammars import pocket
from tests.engine.test_worker import GREEDY, ask, settings
from tests.scenes import the_picture

pytestmark = pytest.mark.anyio

COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue", "green"]}, "n": {"type": "integer", "maximum": 9, "minimum": 0}},
    "required": ["colour", "n"],
    "additionalProperties": False,
}


def newline() -> int:
    [token] = pocket().tokenize("\n")
    return token


async def events_of(request: Request) -> list[Event]:
    async with Engine(settings()) as engine:
        return [event async for event in engine.generate(request)]


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


async def test_an_answer_is_held_to_a_schema_whatever_the_model_would_rather_say() -> None:
    asked = ask(the_picture("red circle"), "Describe the picture.")
    for sampling in (GREEDY, Sampling(temperature=5.0, top_k=0, top_p=1.0, seed=1)):
        events = await events_of(replace(asked, schema=COLOUR, sampling=sampling))
        found = json.loads(said(events))
        assert set(found) == {"colour", "n"}
        assert found["colour"] in ("red", "blue", "green")


async def test_an_answer_is_held_to_a_grammar() -> None:
    asked = ask(the_picture("red circle"), "What colour is the circle?")
    events = await events_of(replace(asked, grammar='root ::= "blue" | "green"'))
    assert said(events) in ("blue", "green")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"grammar": "root ::= ("}, "grammar"),
        ({"schema": {"type": "object", "minProperties": 2}}, "minProperties"),
        ({"schema": COLOUR, "grammar": 'root ::= "x"'}, "a grammar, and for a schema"),
        ({"tools": (Tool("now"),), "tool_choice": "then"}, "no tool 'then'"),
        ({"schema": {"type": "string", "pattern": "^(.{1,999}){1,999}$"}}, "too many ways"),
        ({"n_likely": -1}, "-1 other tokens"),
        ({"n_likely": 21}, "21 other tokens"),
        ({"sampling": Sampling(logit_bias=((-1, 1.0),))}, "-1, which is no token"),
        ({"sampling": Sampling(logit_bias=((1_000_000, 1.0),))}, "no token"),
        ({"sampling": Sampling(logit_bias=((1.5, 1.0),))}, "no token"),  # type: ignore[arg-type]
        ({"sampling": Sampling(logit_bias=((1, math.nan),))}, "is nan"),
        ({"sampling": Sampling(logit_bias=((1, math.inf),))}, "is inf"),
        ({"sampling": Sampling(logit_bias=((1, 1e39),))}, "is 1e"),
        ({"sampling": Sampling(logit_bias=((1, "1"),))}, "is '1'"),  # type: ignore[arg-type]
    ],
)
async def test_what_cannot_be_is_an_error_of_that_request_alone(asked: dict[str, object], says: str) -> None:
    async with Engine(settings()) as engine:
        with pytest.raises(UsageError, match=says):
            _ = [event async for event in engine.generate(replace(ask("Hello!"), **asked))]  # type: ignore[arg-type]
        events = [event async for event in engine.generate(ask(the_picture("red circle"), "What shape is red?"))]
    assert said(events) == "circle"


async def test_likelihoods_come_with_each_token_and_add_up() -> None:
    asked = ask(the_picture("red circle"), "What colour is the circle?")
    events = await events_of(replace(asked, n_likely=5))
    found = [event for event in events if isinstance(event, Likely)]
    assert b"".join(event.token[0] for event in found) == b"red"
    for event in found:
        assert len(event.others) == 5
        assert event.others[0] == event.token  # greedy takes the likeliest
        assert sum(math.exp(likelihood) for _, likelihood in event.others) <= 1 + 1e-6
    assert not [event for event in await events_of(asked) if isinstance(event, Likely)]


async def test_a_bias_changes_what_is_chosen() -> None:
    asked = ask(the_picture("red circle"), "What colour is the circle?")
    [likely] = [each for each in await events_of(replace(asked, n_likely=3)) if isinstance(each, Likely)][:1]
    biased = Sampling(temperature=0, logit_bias=tuple((token, -100.0) for token in range(900)))
    assert said(await events_of(replace(asked, sampling=replace(biased, max_tokens=4)))) != "red"
    assert likely.token[0]


async def test_a_forced_call_comes_as_a_call() -> None:
    tool = Tool("paint", {"type": "object", "properties": {"c": {"enum": ["red"]}}, "required": ["c"]})
    asked = replace(ask("Hello!"), tools=(tool,), tool_choice="required")
    events = await events_of(asked)
    assert [event.name for event in events if isinstance(event, CallStarted)] == ["paint"]


async def test_without_a_choice_of_tools_there_is_no_call_however_likely() -> None:
    async with Engine(settings()) as engine:
        likely_call = (pocket().special_tokens["<tool_call>"], 100.0)
        said_so = Sampling(temperature=0, max_tokens=40, logit_bias=(likely_call,))
        for choice, n_calls in (("auto", 1), ("none", 0)):
            asked = replace(ask("Hello!"), tools=(Tool("now"),), tool_choice=choice, sampling=said_so, id=choice)
            events = [event async for event in engine.generate(asked)]
            assert sum(isinstance(event, CallStarted) for event in events) == n_calls


async def test_without_a_choice_of_tools_a_text_that_spells_a_call_is_a_text() -> None:
    spelled = "<tool_call>now</tool_call>"
    asked = replace(ask("Hello!"), tools=(Tool("now"),), tool_choice="none", grammar=f'root ::= "{spelled}"')
    assert said(await events_of(asked)) == spelled


async def test_a_call_written_back_is_met_again() -> None:
    tool = Tool("paint", {"type": "object", "properties": {"c": {"enum": ["red"]}}, "required": ["c"]})
    asked = replace(ask("Hello!"), tools=(tool,), tool_choice="required")
    async with Engine(settings()) as engine:
        events = [event async for event in engine.generate(asked)]
        [begun] = [event for event in events if isinstance(event, CallStarted)][:1]
        arguments = "".join(event.text for event in events if isinstance(event, CallArguments) and not event.index)
        said = Message("assistant", (), (Call(begun.id, begun.name, arguments),))
        turns = (*asked.messages, said, Message("tool", ("Done.",)))
        end = [event async for event in engine.generate(replace(asked, id="again", messages=turns))][-1]
    assert isinstance(end, Finished)
    assert isinstance(events[-1], Finished)
    assert end.timings.tokens_reused > events[-1].usage.prompt_tokens + 10


async def test_calls_one_after_the_other_can_be_ruled_out() -> None:
    asked = replace(ask("Hello!"), tools=(Tool("now"),), tool_choice="required")
    likely_again = Sampling(temperature=0, max_tokens=200, logit_bias=((newline(), 50.0),))
    many, one = [
        await events_of(replace(asked, id=f"{parallel}", sampling=likely_again, parallel_tool_calls=parallel))
        for parallel in (True, False)
    ]
    assert sum(isinstance(event, CallStarted) for event in many) > 1
    assert sum(isinstance(event, CallStarted) for event in one) == 1


async def test_an_answer_that_only_repeats_itself_ends_and_says_so() -> None:
    forever = replace(ask("Hello!"), grammar='root ::= "ha "{1000}', sampling=Sampling(temperature=0, max_tokens=4000))
    async with Engine(settings(n_ctx=8192)) as engine:
        guarded = [event async for event in engine.generate(forever)][-1]
        free = [event async for event in engine.generate(replace(forever, id="free", loop_guard=False))][-1]
    assert isinstance(guarded, Finished)
    assert isinstance(free, Finished)
    assert guarded.finish_reason == "loop"
    assert free.finish_reason != "loop"
    assert guarded.usage.completion_tokens < free.usage.completion_tokens


async def test_the_same_seed_gives_the_same_answer_alone_and_beside_others() -> None:
    warm = Sampling(temperature=3.0, top_k=0, top_p=1.0, seed=7, max_tokens=24)
    asked = [ask(the_picture(what), "Describe the picture.", sampling=warm) for what in ("red circle", "blue star")]
    async with Engine(settings(n_seq_max=1)) as engine:
        alone = [said([event async for event in engine.generate(each)]) for each in asked]
    async with Engine(settings(n_seq_max=4)) as engine:

        async def answer(request: Request) -> str:
            return said([event async for event in engine.generate(request)])

        again = await asyncio.gather(*(answer(replace(each, id=f"{n}")) for n, each in enumerate(asked)))
    assert alone == again


def test_a_request_says_nothing_of_this_by_default() -> None:
    plain = Request((Message("user", ("?",)),))
    assert (plain.grammar, plain.schema, plain.tools, plain.n_likely, plain.thinking_budget) == (
        None,
        None,
        (),
        None,
        None,
    )


async def test_a_prompt_is_counted_without_being_run_however_long_it_is() -> None:
    asked = ask(the_picture("red circle"), "What shape is red?")
    async with Engine(settings()) as engine:
        counted = await engine.count(asked)
        long = await engine.count(ask("much too long " * 5000))
        assert (await engine.stats()).prompt_tokens == 0
        end = [event async for event in engine.generate(asked)][-1]
    assert isinstance(end, Finished)
    assert counted == replace(end.usage, completion_tokens=0)
    assert long.prompt_tokens > 10_000
