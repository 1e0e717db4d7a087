"""Streams, chats, what is located, tasks and batches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gguf_vl import Model, PictureSource
from gguf_vl.errors import InvalidPicture, UsageError
from tests.api.given import COLOUR, SHAPE_SCHEMA, SHAPES, TWO


def test_a_stream_gives_the_pieces_and_then_the_answer(model: Model) -> None:
    stream = model.stream(SHAPES, "Describe the picture.")
    with pytest.raises(UsageError):
        _ = stream.answer
    pieces = list(stream)
    assert len(pieces) > 5
    assert "".join(pieces) == stream.text == stream.answer.text
    assert stream.read() == stream.answer


def test_a_stream_that_is_left_keeps_what_came(model: Model) -> None:
    with model.stream(SHAPES, "Describe the picture.") as stream:
        first = next(stream)
    assert stream.answer.finish_reason == "cancelled"
    assert stream.answer.text.startswith(first)
    with model.stream(SHAPES, "List the shapes as JSON.", schema=SHAPE_SCHEMA) as stream:
        next(stream)
    assert stream.answer.fields is None


def test_a_chat_remembers_what_was_said_and_nothing_that_failed(model: Model) -> None:
    chat = model.chat(system="Be brief.")
    assert str(chat.say(COLOUR, SHAPES)) == "red"
    with pytest.raises(InvalidPicture):
        chat.say("And this?", "nowhere.png")
    with chat.stream("And the square?") as stream:
        assert "".join(stream) == "blue"
    assert [message.role for message in chat.messages] == ["user", "assistant"] * 2
    assert chat.messages[-1].content == ("blue",)
    assert chat.say("And the star?").timings.tokens_reused > 100


def test_a_box_in_a_chat_is_in_its_last_picture(model: Model) -> None:
    chat = model.chat()
    chat.say(COLOUR, TWO)
    chat.say(COLOUR, SHAPES)
    (box,) = chat.say("Locate the red circle.").boxes
    assert abs(box.x2 - 373) <= 32


def test_things_are_located_or_not_there(model: Model) -> None:
    (box,) = model.locate(SHAPES, "the red circle")
    assert (box.label, abs(box.x1 - 309) <= 32, abs(box.y2 - 282) <= 32) == ("red circle", True, True)
    assert model.locate(SHAPES, "a green circle") == ()


def test_a_task_gives_its_fields(model: Model) -> None:
    assert model.run("count", SHAPES, things="shapes").fields == 3
    with pytest.raises(UsageError, match="There is no task 'cuont'"):
        model.run("cuont", SHAPES)


def test_a_batch_gives_every_result_and_reads_its_pictures_as_it_goes(model: Model) -> None:
    read = 0

    def pictures() -> Iterator[PictureSource]:
        nonlocal read
        for picture in (SHAPES, "nowhere.png", *[TWO] * 48):
            read += 1
            yield picture

    results = model.batch(pictures(), COLOUR)
    first = next(results)
    assert read < 20
    found = {each.index: each for each in (first, *results)}
    assert sorted(found) == list(range(50))
    assert str(found[0].answer) == "red"
    assert isinstance(found[1].error, InvalidPicture)
    assert {str(found[n].answer) for n in range(2, 50)} == {"purple"}


def test_a_batch_may_be_left_and_its_pictures_may_be_asked_about_in_between(model: Model) -> None:
    pictures = (each for each in (SHAPES, TWO) * 20 if str(model.ask(each, "How many shapes are there?")) == "2")
    for result in model.batch(pictures, COLOUR):
        assert str(result.answer) == "purple"
        break
    assert str(model.ask(SHAPES, COLOUR)) == "red"
