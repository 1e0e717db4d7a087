"""An answer that thinks, speaks and calls twice, as the real clients of each dialect read it."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from gguf_vl.engine.fake import NO_TIME
from gguf_vl.types import CallArguments, CallEnded, CallStarted, Event, Finished, Text, Thinking, Usage
from tests.server.inside import Inside, listening

pytestmark = pytest.mark.anyio

THOUGHT = "Two colours."
SAID = "I paint."
CALLED = [("call_a", {"colour": "red"}), ("call_b", {"colour": "blue"})]


def calling() -> list[Event]:
    """The engine's events, in pieces."""
    events: list[Event] = [Thinking("Two "), Thinking("colours."), Text("I "), Text("paint.")]
    for index, (id, arguments) in enumerate(CALLED):
        whole = json.dumps(arguments)
        pieces = [CallArguments(index, whole[:8]), CallArguments(index, whole[8:])]
        events += [CallStarted(index, id, "paint"), *pieces, CallEnded(index, complete=True)]
    return [*events, Finished("stop", Usage(5, 0, 20), NO_TIME)]


def openais(served: Inside) -> openai.AsyncOpenAI:
    """OpenAI's client."""
    return openai.AsyncOpenAI(base_url=str(served.client.base_url.join("/v1")), api_key="none", max_retries=0)


def anthropics(served: Inside) -> anthropic.AsyncAnthropic:
    """Anthropic's client."""
    return anthropic.AsyncAnthropic(base_url=str(served.client.base_url), api_key="none", max_retries=0)


CHAT: Any = {
    "model": "pocket",
    "messages": [{"role": "user", "content": "Paint!"}],
    "tools": [{"type": "function", "function": {"name": "paint", "parameters": {"type": "object"}}}],
}
RESPONSES: Any = {
    "model": "pocket",
    "input": "Paint!",
    "tools": [{"type": "function", "name": "paint", "parameters": {"type": "object"}, "strict": False}],
}
MESSAGES: Any = {
    "model": "pocket",
    "max_tokens": 99,
    "messages": [{"role": "user", "content": "Paint!"}],
    "tools": [{"name": "paint", "input_schema": {"type": "object"}}],
}


PROMPT: Any = {"model": "pocket", "prompt": "Paint!"}
WITH_USAGE: Any = {"stream": True, "stream_options": {"include_usage": True}}


def check_chat(choice: Any) -> None:
    """A chat's answer is the one that was scripted."""
    assert choice.finish_reason == "tool_calls"
    assert (choice.message.reasoning_content, choice.message.content) == (THOUGHT, SAID)
    assert [each.function.name for each in choice.message.tool_calls] == ["paint", "paint"]
    assert [(each.id, json.loads(each.function.arguments)) for each in choice.message.tool_calls] == CALLED


async def test_a_chat_comes_whole() -> None:
    async with listening(calling()) as served, openais(served) as client:
        found = await client.chat.completions.create(**CHAT)
        check_chat(found.choices[0])
        assert found.usage
        assert found.usage.completion_tokens == 20


async def test_a_chat_comes_in_a_stream() -> None:
    async with (
        listening(calling()) as served,
        openais(served) as client,
        client.chat.completions.stream(**CHAT) as stream,
    ):
        deltas = [event.chunk.choices[0].delta async for event in stream if event.type == "chunk"]
        check_chat((await stream.get_final_completion()).choices[0])
    pieces = [call for delta in deltas for call in delta.tool_calls or ()]
    assert [each.index for each in pieces] == [0, 0, 0, 1, 1, 1]
    assert [each.id for each in pieces] == ["call_a", None, None, "call_b", None, None]
    assert "".join(getattr(each, "reasoning_content", None) or "" for each in deltas) == THOUGHT


def check_response(response: Any) -> None:
    """A response is the one that was scripted."""
    assert response.status == "completed"
    reasoning, message, *calls = response.output
    assert (reasoning.type, reasoning.content[0].type, reasoning.content[0].text) == (
        "reasoning",
        "reasoning_text",
        THOUGHT,
    )
    assert (message.type, message.content[0].text, response.output_text) == ("message", SAID, SAID)
    assert [(each.type, each.name) for each in calls] == [("function_call", "paint")] * 2
    assert [(each.call_id, json.loads(each.arguments)) for each in calls] == CALLED
    assert {each.status for each in response.output} == {"completed"}


async def test_a_response_comes_whole() -> None:
    async with listening(calling()) as served, openais(served) as client:
        found = await client.responses.create(**RESPONSES)
        check_response(found)
        check_response(await client.responses.retrieve(found.id))


async def test_a_response_comes_in_a_stream() -> None:
    async with (
        listening(calling()) as served,
        openais(served) as client,
        client.responses.stream(**RESPONSES) as stream,
    ):
        events: list[Any] = [event async for event in stream]
        check_response(await stream.get_final_response())
    assert [each.sequence_number for each in events] == list(range(len(events)))
    added = [each for each in events if each.type == "response.output_item.added"]
    done = [each for each in events if each.type == "response.output_item.done"]
    kinds = ["reasoning", "message", "function_call", "function_call"]
    assert [each.item.type for each in added] == kinds
    assert [each.item.type for each in done] == kinds
    assert [each.output_index for each in added] == [0, 1, 2, 3]
    arguments = dict.fromkeys((each.item.id for each in added[2:]), "")
    for each in events:
        if each.type == "response.function_call_arguments.delta":
            arguments[each.item_id] += each.delta
    assert [json.loads(each) for each in arguments.values()] == [each for _, each in CALLED]
    thought = [each.delta for each in events if each.type == "response.reasoning_text.delta"]
    assert "".join(thought) == THOUGHT


def check_message(message: Any) -> None:
    """A message is the one that was scripted."""
    assert message.stop_reason == "tool_use"
    thinking, said, *calls = message.content
    assert (thinking.type, thinking.thinking) == ("thinking", THOUGHT)
    assert (said.type, said.text) == ("text", SAID)
    assert [(each.type, each.name) for each in calls] == [("tool_use", "paint")] * 2
    assert [(each.id, each.input) for each in calls] == CALLED
    assert message.usage.output_tokens == 20
    assert message.usage.input_tokens == 5


async def test_a_message_comes_whole() -> None:
    async with listening(calling()) as served, anthropics(served) as client:
        check_message(await client.messages.create(**MESSAGES))


async def test_a_message_comes_in_a_stream() -> None:
    async with (
        listening(calling()) as served,
        anthropics(served) as client,
        client.messages.stream(**MESSAGES) as stream,
    ):
        events: list[Any] = [event async for event in stream]
        check_message(await stream.get_final_message())
    begun = [each for each in events if each.type == "content_block_start"]
    assert [(each.index, each.content_block.type) for each in begun] == [
        (0, "thinking"),
        (1, "text"),
        (2, "tool_use"),
        (3, "tool_use"),
    ]
    assert [each.index for each in events if each.type == "content_block_stop"] == [0, 1, 2, 3]


async def test_an_older_completion_is_read_as_openais_own_loop_reads_it() -> None:
    async with listening(calling()) as served, openais(served) as client:
        said = [each.choices[0].text async for each in await client.completions.create(**PROMPT, stream=True)]
        assert "".join(said) == SAID
        told = [each async for each in await client.completions.create(**PROMPT, **WITH_USAGE)]
        assert told[-1].usage
        assert told[-1].usage.completion_tokens == 20
