"""Tasks in chats: OpenAI's own client with our two fields, answered by `pocket`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.scenes import png, scene
from tests.server.conftest import Serve
from tests.server.shown import data_uri

SCENE = scene("red circle", "blue square", size=(384, 288), seed=3)
PICTURE = {"type": "image_url", "image_url": {"url": data_uri(png(SCENE))}}
RED: Any = {"task": "locate", "parameters": {"thing": "the red circle"}}
GREEN: Any = {"task": "locate", "parameters": {"thing": "green circle"}}


@pytest.fixture(scope="module")
def client(server: Serve) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def shown(*words: str, **more: Any) -> Any:
    """A message of the user's with a picture."""
    return {"role": "user", "content": [PICTURE, *({"type": "text", "text": each} for each in words)], **more}


def done(client: openai.OpenAI, *messages: Any, **more: Any) -> Any:
    """The first choice."""
    how: Any = {name: more.pop(name) for name in ("max_tokens", "response_format") if name in more}
    return client.chat.completions.create(model="pocket", messages=messages, extra_body=more, **how).choices[0]


def test_a_task_beside_the_messages_is_done_with_the_last_of_them(client: openai.OpenAI) -> None:
    found = done(client, shown(), boxes=True, **RED).message
    assert json.loads(found.content) == found.fields
    [box] = found.boxes
    [circle] = [shape for shape in SCENE.shapes if shape.kind == "circle"]
    assert box["label"] == "red circle"
    assert abs(box["x1"] - circle.box[0]) < 32
    assert found.points == []


def test_the_one_parameter_that_is_needed_may_be_the_text(client: openai.OpenAI) -> None:
    assert done(client, shown("blue square", task="locate")).message.fields[0]["label"] == "blue square"


def test_what_is_not_there_has_no_box(client: openai.OpenAI) -> None:
    found = done(client, shown(), boxes=True, **GREEN).message
    assert (found.content, found.fields, found.boxes) == ("There is no green circle.", [], [])


def test_a_chat_goes_on_behind_a_task_and_a_task_in_a_chat_is_about_its_picture(client: openai.OpenAI) -> None:
    talk = [shown(**RED), {"role": "assistant", "content": "[]"}]
    about = {"role": "user", "content": "What colour is the square?"}
    assert done(client, *talk, about).message.content == "blue"
    again = done(client, *talk, {"role": "user", "content": "", **RED}, boxes=True).message
    assert [box["label"] for box in again.boxes] == ["red circle"]
    assert done(client, *talk, {"role": "user", "task": "count"}).message.fields == 2


def test_a_stream_ends_with_what_the_answer_holds(client: openai.OpenAI) -> None:
    body: Any = {"task": "count", "parameters": {"things": "circles"}}
    chunks = list(client.chat.completions.create(model="pocket", messages=[shown()], stream=True, extra_body=body))
    last: Any = chunks[-1].choices[0]
    assert (last.finish_reason, last.delta.fields) == ("stop", 1)


def test_json_that_was_cut_off_is_never_taken_for_data(client: openai.OpenAI) -> None:
    found = done(client, shown(), max_tokens=12, **RED)
    assert (found.finish_reason, found.message.fields) == ("length", None)
    assert found.message.content.startswith("[{")


@pytest.mark.parametrize(
    ("messages", "more", "says"),
    [
        ([shown()], {"task": "lokate"}, "Did you mean locate"),
        ([shown()], {"task": "locate"}, "needs thing"),
        ([shown()], {"parameters": {"thing": "x"}}, "no task"),
        ([shown(**RED)], {"task": "count"}, "beside the messages"),
        ([shown()], {**RED, "response_format": {"type": "json_object"}}, "says itself"),
        ([{"role": "user", "content": "x"}], RED, "about one picture, and none"),
        ([shown(), {"role": "assistant", "content": "x", "task": "count"}], {}, "not the user's"),
    ],
)
def test_what_a_task_does_not_take_is_refused(
    client: openai.OpenAI, messages: list[Any], more: dict[str, Any], says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says):
        done(client, *messages, **more)
