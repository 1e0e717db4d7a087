"""OpenAI's own client against a served `pocket`: its answers are right, in whatever form they come."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.server.conftest import Serve
from tests.server.shown import ANSWER, BLUE_SQUARE, PAINT, QUESTION, RED_CIRCLE, data_uri

TOOLS: Any = [{"type": "function", "function": {"name": "paint", "parameters": PAINT}}]
ABOUT_RED: Any = [
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": data_uri(RED_CIRCLE)}},
            {"type": "text", "text": QUESTION},
        ],
    }
]


@pytest.fixture(scope="module")
def client(server: Serve) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_a_picture_is_answered_about(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model="pocket", messages=ABOUT_RED)
    assert found.choices[0].message.content == ANSWER
    assert found.choices[0].finish_reason == "stop"
    assert found.usage
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert found.usage.prompt_tokens > 64


def test_a_stream_says_the_same_and_tells_its_usage_at_the_end(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="pocket", messages=ABOUT_RED, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == ANSWER
    assert [each.choices[0].finish_reason for each in chunks][-1] == "stop"
    assert last.choices == []
    assert last.usage
    assert last.usage.completion_tokens == 1


def test_pictures_of_several_turns_are_kept_apart(client: openai.OpenAI) -> None:
    talk: Any = [
        *ABOUT_RED,
        {"role": "assistant", "content": ANSWER},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": data_uri(BLUE_SQUARE), "detail": "low"}},
                {"type": "text", "text": "What shape is blue?"},
            ],
        },
    ]
    found = client.chat.completions.create(model="pocket", messages=talk)
    assert found.choices[0].message.content == "square"


def test_an_answer_is_parsed_as_the_schema_wants_it(client: openai.OpenAI) -> None:
    class Seen(BaseModel):
        shape: Literal["circle", "square"]

    found = client.chat.completions.parse(model="pocket", messages=ABOUT_RED, response_format=Seen, max_tokens=100)
    assert found.choices[0].message.parsed == Seen(shape="circle")


def test_json_is_json(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="pocket", messages=ABOUT_RED, response_format={"type": "json_object"}, max_tokens=400
    )
    said = found.choices[0].message.content
    assert said
    assert said.startswith("{")
    if found.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(said), dict)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "paint"}}])
def test_a_call_of_a_tool_comes_whole_and_in_a_stream(client: openai.OpenAI, choice: Any) -> None:
    asked: Any = {"model": "pocket", "messages": ABOUT_RED, "tools": TOOLS, "tool_choice": choice}
    asked["parallel_tool_calls"] = False
    found = client.chat.completions.create(**asked).choices[0]
    assert found.finish_reason == "tool_calls"
    assert found.message.tool_calls
    [call] = found.message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("paint", {"colour": "red"})

    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed
    assert json.loads(streamed[0].function.arguments) == {"colour": "red"}

    said = {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}
    result = {"role": "tool", "tool_call_id": call.id, "content": "Painted."}
    again = client.chat.completions.create(model="pocket", messages=[*ABOUT_RED, said, result], tools=TOOLS)
    assert again.choices[0].message.content is not None


def test_with_tools_and_a_schema_an_answer_calls_or_fulfils_it(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"shape": {"enum": [ANSWER]}}, "required": ["shape"]}
    asked: Any = {
        "model": "pocket",
        "messages": ABOUT_RED,
        "tools": TOOLS,
        "response_format": {"type": "json_schema", "json_schema": {"name": "shape", "schema": schema}},
        "max_tokens": 100,
    }
    found = client.chat.completions.create(**asked).choices[0].message
    assert found.tool_calls or json.loads(found.content or "")["shape"] == ANSWER
    required = client.chat.completions.create(**asked, tool_choice="required", parallel_tool_calls=False)
    assert required.choices[0].finish_reason == "tool_calls"


def test_several_answers_each_have_their_number(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model="pocket", messages=ABOUT_RED, n=3)
    assert [(each.index, each.message.content) for each in found.choices] == [(n, ANSWER) for n in range(3)]
    said = ["", ""]
    for chunk in client.chat.completions.create(model="pocket", messages=ABOUT_RED, n=2, stream=True):
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
    assert said == [ANSWER, ANSWER]


def test_likelihoods_are_told(client: openai.OpenAI) -> None:
    asked: Any = {"model": "pocket", "messages": ABOUT_RED, "logprobs": True, "top_logprobs": 3}
    found = client.chat.completions.create(**asked).choices[0].logprobs
    assert found
    assert found.content
    [token] = found.content
    assert bytes(token.bytes or []).decode() == ANSWER
    assert 0.5 < math.exp(token.logprob) <= 1
    assert len(token.top_logprobs) == 3
    streamed = [
        token
        for chunk in client.chat.completions.create(**asked, stream=True)
        if chunk.choices and chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content or ()
    ]
    assert [each.token for each in streamed] == [ANSWER]


def test_stop_bias_seed_and_length_are_followed(client: openai.OpenAI) -> None:
    hello: Any = {"model": "pocket", "messages": [{"role": "user", "content": "Hello!"}]}
    whole = client.chat.completions.create(**hello).choices[0].message.content
    assert whole
    stopped = client.chat.completions.create(**hello, stop="tiny").choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (whole.partition("tiny")[0], "stop")
    short = client.chat.completions.create(**hello, max_completion_tokens=3).choices[0]
    assert short.finish_reason == "length"
    drawn = {
        client.chat.completions.create(**hello, temperature=1.5, seed=-7, max_tokens=20).choices[0].message.content
        for _ in range(3)
    }
    assert len(drawn) == 1


def test_responses_go_on_from_one_another(client: openai.OpenAI) -> None:
    content: Any = [
        {"type": "input_image", "image_url": data_uri(RED_CIRCLE), "detail": "auto"},
        {"type": "input_text", "text": QUESTION},
    ]
    first = client.responses.create(model="pocket", input=[{"role": "user", "content": content}])
    assert (first.output_text, first.status) == (ANSWER, "completed")
    follows: Any = {"input": "What colour is the circle?", "previous_response_id": first.id}
    assert client.responses.create(model="pocket", **follows).output_text == "red"
    with client.responses.stream(model="pocket", **follows) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == "red"
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert client.responses.retrieve(first.id).output_text == ANSWER
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="pocket", **follows)


def test_responses_call_tools(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "name": "paint", "parameters": PAINT, "strict": True}]
    found = client.responses.create(
        model="pocket", input="Hello!", tools=tools, tool_choice="required", parallel_tool_calls=False
    )
    [call] = found.output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"colour": "red"}
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Painted."}
    again = client.responses.create(model="pocket", input=[result], previous_response_id=found.id, tools=tools)
    assert again.status == "completed"


def test_older_completions_and_models_and_embeddings(client: openai.OpenAI) -> None:
    assert client.completions.create(model="pocket", prompt="Hello!").choices[0].text.startswith("I am pocket")
    assert [each.id for each in client.models.list()] == ["pocket"]
    assert client.models.retrieve("pocket").owned_by == "gguf-vl"
    one, other = client.embeddings.create(model="pocket", input=["a red circle", "a blue square"]).data
    assert math.isclose(math.hypot(*one.embedding), 1, rel_tol=1e-5)
    assert one.embedding != other.embedding


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"model": "gpt-99"}, openai.NotFoundError),
        ({"temperature": -1}, openai.BadRequestError),
        ({"messages": []}, openai.BadRequestError),
        ({"tool_choice": "required"}, openai.BadRequestError),
        ({"logit_bias": {"red": 1}}, openai.BadRequestError),
        ({"modalities": ["audio"]}, openai.BadRequestError),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}, openai.BadRequestError),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, openai.BadRequestError),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "/etc/passwd"}}]}]},
            openai.BadRequestError,
        ),
        ({"messages": [{"role": "user", "content": "word " * 50_000}]}, openai.BadRequestError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_followed_is_refused_in_the_clients_own_words(
    client: openai.OpenAI, wrong: Any, kind: type[openai.APIStatusError], stream: bool
) -> None:
    with pytest.raises(kind) as refused:
        client.chat.completions.create(**{"model": "pocket", "messages": ABOUT_RED, "stream": stream} | wrong)
    assert refused.value.body
    assert refused.value.message


@pytest.mark.parametrize(
    "name", ["~0", "~root", "..", ".", "README.md", "pyproject.toml", "/etc/passwd", "C:\\x", "a\0b"]
)
def test_no_name_of_a_model_opens_a_file(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=name, messages=ABOUT_RED)
