"""Anthropic's own client against a served `pocket`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.server.conftest import Serve
from tests.server.shown import ANSWER, PAINT, QUESTION, RED_CIRCLE, encoded

IMAGE: Any = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": encoded(RED_CIRCLE)},
}
ABOUT_RED: Any = [{"role": "user", "content": [IMAGE, {"type": "text", "text": QUESTION}]}]
TOOLS: Any = [{"name": "paint", "description": "Paints.", "input_schema": PAINT}]


@pytest.fixture(scope="module")
def client(server: Serve) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def test_a_picture_is_answered_about(client: anthropic.Anthropic) -> None:
    found = client.messages.create(model="pocket", max_tokens=50, messages=ABOUT_RED, system="Be brief.")
    [block] = found.content
    assert block.type == "text"
    assert (block.text, found.stop_reason) == (ANSWER, "end_turn")
    assert found.usage.output_tokens == 1


def test_a_stream_says_the_same(client: anthropic.Anthropic) -> None:
    asked: Any = {"model": "pocket", "messages": ABOUT_RED}
    with client.messages.stream(**asked, max_tokens=50) as stream:
        events = list(stream)
        assert "".join(event.text for event in events if event.type == "text") == ANSWER
        found = stream.get_final_message()
    assert found.stop_reason == "end_turn"
    assert events[0].type == "message_start"
    assert events[0].message.usage.input_tokens == client.messages.count_tokens(**asked).input_tokens


def test_why_an_answer_ended_is_told(client: anthropic.Anthropic) -> None:
    hello: Any = {"model": "pocket", "messages": [{"role": "user", "content": "Hello!"}]}
    assert client.messages.create(**hello, max_tokens=2).stop_reason == "max_tokens"
    stopped = client.messages.create(**hello, max_tokens=50, stop_sequences=["tiny"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "tiny")


def test_an_answer_that_was_begun_is_continued(client: anthropic.Anthropic) -> None:
    def said(max_tokens: int, *more: Any) -> str:
        hello: Any = [{"role": "user", "content": "Hello!"}, *more]
        [block] = client.messages.create(model="pocket", max_tokens=max_tokens, messages=hello).content
        assert block.type == "text"
        return block.text

    begun = said(3)
    assert begun + said(50, {"role": "assistant", "content": begun}) == said(50)


def test_a_tool_is_called_and_its_result_read(client: anthropic.Anthropic) -> None:
    asked: Any = {"model": "pocket", "max_tokens": 200, "messages": ABOUT_RED, "tools": TOOLS}
    asked["tool_choice"] = {"type": "tool", "name": "paint"}
    found = client.messages.create(**asked)
    [call] = found.content
    assert call.type == "tool_use"
    assert (call.name, call.input, found.stop_reason) == ("paint", {"colour": "red"}, "tool_use")
    with client.messages.stream(**asked) as stream:
        [streamed] = stream.get_final_message().content
    assert streamed.type == "tool_use"
    assert streamed.input == {"colour": "red"}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Painted."}]}
    talk: Any = [
        *ABOUT_RED,
        {"role": "assistant", "content": [call.model_dump(include={"type", "id", "name", "input"})]},
    ]
    again = client.messages.create(model="pocket", max_tokens=50, messages=[*talk, result], tools=TOOLS)
    assert again.content


def test_tokens_are_counted_without_an_answer(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="pocket", messages=ABOUT_RED).input_tokens
    used = client.messages.create(model="pocket", max_tokens=5, messages=ABOUT_RED).usage
    assert counted == used.input_tokens + (used.cache_read_input_tokens or 0)


def test_models_are_listed_as_anthropics_are(client: anthropic.Anthropic) -> None:
    assert [each.id for each in client.models.list()] == ["pocket"]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"model": "claude-99"}, anthropic.NotFoundError),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, anthropic.BadRequestError),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, anthropic.BadRequestError),
        ({"max_tokens": 0}, anthropic.BadRequestError),
    ],
)
def test_what_cannot_be_followed_is_refused(
    client: anthropic.Anthropic, wrong: Any, kind: type[anthropic.APIStatusError]
) -> None:
    with pytest.raises(kind) as refused:
        client.messages.create(**{"model": "pocket", "max_tokens": 5, "messages": ABOUT_RED} | wrong)
    body: Any = refused.value.body
    assert body["type"] == "error"
    assert body["error"]["message"]
