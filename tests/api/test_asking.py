"""What may be given, what may be set, and what comes back."""

from __future__ import annotations

import base64
import io
import threading
from pathlib import Path

import numpy
import pytest
from PIL import Image

from gguf_vl import AskSettings, Model, PictureSource, load
from gguf_vl.errors import CutOff, InvalidPicture, ModelNotFound, UsageError
from tests.api.given import COLOUR, SHAPE_SCHEMA, SHAPES, TWO, workers


def turned(path: Path) -> Image.Image:
    """The picture lying on its side, with an EXIF orientation that says so."""
    image = Image.open(path).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    image.getexif()[0x0112] = 6
    return image


def as_data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


@pytest.mark.parametrize(
    "make",
    [
        str,
        Path,
        Path.read_bytes,
        as_data_uri,
        lambda path: io.BytesIO(path.read_bytes()),
        Image.open,
        lambda path: Image.open(path).convert("RGBA"),
        turned,
        lambda path: numpy.asarray(Image.open(path).convert("RGB")),
    ],
    ids=["str", "Path", "bytes", "data URI", "stream", "Pillow", "RGBA", "turned", "NumPy"],
)
def test_a_picture_may_be_given_in_many_ways(model: Model, make: object) -> None:
    assert callable(make)
    picture: PictureSource = make(SHAPES)
    answer = model.ask(picture, "Locate the red circle.")
    (box,) = answer.boxes
    assert all(abs(a - b) <= 32 for a, b in zip((box.x1, box.y1, box.x2, box.y2), (309, 217, 373, 282), strict=True))


@pytest.mark.parametrize(
    "picture",
    [3.5, None, numpy.zeros((3, 5, 5)), Image.new("RGB", (0, 5)), b"", "nowhere.png"],
    ids=["number", "None", "an array of another shape", "without pixels", "no bytes", "no file"],
)
def test_what_is_no_picture_is_refused_in_two_sentences(model: Model, picture: PictureSource) -> None:
    with pytest.raises(InvalidPicture) as caught:
        model.ask(picture, COLOUR)
    assert caught.value.fix


def test_an_answer_says_how_it_ended_and_what_it_took(model: Model) -> None:
    answer = model.ask(SHAPES, TWO, "Which picture has the star?")
    assert (str(answer), answer.text, answer.finish_reason) == ("first", "first", "stop")
    assert answer.usage.image_tokens > 108
    assert answer.timings.ttft_s > 0


def test_the_question_may_be_given_by_name_and_needs_no_picture(model: Model) -> None:
    assert str(model.ask(SHAPES, question=COLOUR)) == "red"
    assert model.ask("Hello").finish_reason == "stop"


@pytest.mark.parametrize("given", [(), (SHAPES,), (str(SHAPES),)], ids=["nothing", "a path", "a text"])
def test_pictures_without_a_question_are_wrong_usage(model: Model, given: tuple[PictureSource, ...]) -> None:
    with pytest.raises(UsageError):
        model.ask(*given)


def test_a_schema_gives_fields_and_a_cut_off_answer_is_an_error_with_what_came(model: Model) -> None:
    answer = model.ask(SHAPES, "List the shapes as JSON.", schema=SHAPE_SCHEMA)
    assert [each["color"] for each in answer.fields] == ["yellow", "blue", "red"]
    with pytest.raises(CutOff) as caught:
        model.ask(SHAPES, "List the shapes as JSON.", schema=SHAPE_SCHEMA, max_tokens=5)
    assert caught.value.partial.startswith("[{")


def test_settings_of_a_question_go_before_those_of_the_model(home: Path) -> None:
    with load("pocket", max_tokens=2) as short:
        assert short.ask(SHAPES, "Describe the picture.").usage.completion_tokens == 2
        assert short.ask(SHAPES, "Describe the picture.", max_tokens=3).usage.completion_tokens == 3
        assert short.ask(SHAPES, "Describe the picture.", max_tokens=99, stop="star").text == "A yellow "
        few = short.ask(SHAPES, "Describe the picture.", detail="low").usage.image_tokens
        assert few <= short.ask(SHAPES, "Describe the picture.", detail="high").usage.image_tokens


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ({"frames": 4}, "frames is 4, which says of no video what is shown."),
        ({"temprature": 1}, "There is no setting 'temprature' here."),
        ({"top_k": -1}, "top_k is -1, which is not a whole number from 0 to 1000000."),
    ],
)
def test_a_setting_that_cannot_be_is_wrong_usage(model: Model, how: AskSettings, what: str) -> None:
    for call in (
        lambda: model.ask(SHAPES, COLOUR, **how),
        lambda: model.stream(SHAPES, COLOUR, **how).read(),
        lambda: model.batch([SHAPES], COLOUR, **how),
        lambda: model.chat(**how),
        lambda: model.chat().say(COLOUR, **how),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.what == what


def test_a_model_that_cannot_be_loaded_says_why_and_leaves_nothing(home: Path, model: Model) -> None:
    before, threads = workers(), threading.active_count()
    with pytest.raises(ModelNotFound):
        load("no-such-model")
    with pytest.raises(UsageError, match="ctx is 3"):
        load(ctx=3)
    assert (workers(), threading.active_count()) == (before, threads)


def test_a_model_says_its_name_and_why_it_was_taken(home: Path) -> None:
    seen: list[float] = []
    with load(on_progress=seen.append) as chosen:
        assert chosen.name == "pocket"
        assert chosen.notes[0].startswith("Using pocket (")
    assert seen[-1] == 1.0
