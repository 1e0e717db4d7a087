"""Documents, videos and tasks about them, wherever a picture may stand."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gguf_vl import Frames, Model, PictureSource, load
from gguf_vl.errors import InvalidPicture, UsageError, WorkerDied
from tests.api.given import COLOUR, SHAPES, TWO, workers
from tests.media.clips import clip, steady
from tests.scenes import scene

RED, BLUE = (scene(thing).picture for thing in ("red circle", "blue star"))
WHICH = "Which picture has the blue star?"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A red circle for a second, then a blue star for one."""
    return clip(tmp_path / "clip.mp4", steady([RED, BLUE], 1.0))


@pytest.fixture(params=["PDF", "TIFF"])
def report(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Two pages: a red circle, a blue star."""
    path = tmp_path / f"report.{request.param.lower()}"
    RED.copy().save(path, request.param, save_all=True, append_images=[BLUE.copy()])
    return path


def test_a_document_is_shown_by_its_pages_from_a_path_and_from_bytes(model: Model, report: Path) -> None:
    assert str(model.ask(report, WHICH)) == "second"
    assert str(model.ask(f"{report}#2,1", WHICH)) == "first"
    assert str(model.ask(report.read_bytes(), WHICH)) == "second"
    assert str(model.ask(f"{report}#2", "What colour is the star?")) == "blue"
    with pytest.raises(InvalidPicture):
        model.ask(f"{report}#7", WHICH)
    assert str(model.run("compare", report, thing="blue star")) == "second"
    with pytest.raises(UsageError, match="about 2 pictures, and 1 is"):
        model.run("compare", SHAPES, thing="blue star")


def test_a_video_is_shown_by_its_frames_those_that_are_asked_for(model: Model, film: Path) -> None:
    answer = model.ask(film, WHICH)
    assert (str(answer), answer.usage.image_tokens) == ("second", 2 * 64)  # four frames in pairs
    assert model.ask(film.read_bytes(), WHICH, frames=Frames(every=0.25)).usage.image_tokens == 4 * 64
    assert str(model.ask(film, COLOUR, frames=Frames(number=1))) == "red"
    with pytest.raises(UsageError, match="no video is given"):
        model.ask(SHAPES, COLOUR, frames=Frames(number=1))


def test_what_has_no_room_is_said(model: Model, film: Path) -> None:
    answer = model.ask(film, WHICH, frames=Frames(every=0.1), max_tokens=4)
    assert answer.notes == ()
    with load("pocket", ctx=1024) as small:
        answer = small.ask(film, film, film, WHICH, frames=Frames(every=0.1))
    assert len(answer.notes) == 3
    assert all("frames fit the context" in note for note in answer.notes)


def test_a_chat_keeps_a_document_and_makes_room_for_a_video(model: Model, report: Path, film: Path) -> None:
    chat = model.chat()
    assert str(chat.say(WHICH, report)) == "second"
    captions = [part for part in chat.messages[0].content if isinstance(part, str)]
    assert captions == ["Page 1:", "Page 2:", WHICH]
    chat.say("Is there a red circle?", film)
    assert [part for part in chat.messages[2].content if isinstance(part, str)][:-1] == [
        "<0.2 seconds>",
        "<1.2 seconds>",
    ]
    assert str(model.chat().say(WHICH, film, frames=Frames(scenes=True))) == "second"


def test_a_task_that_is_done_frame_by_frame_is_done_so(model: Model, film: Path) -> None:
    answer = model.run("timeline", film, frames=Frames(every=0.5))
    assert [(each["start"], each["end"]) for each in answer.fields] == [(0.0, 1.0), (1.0, 2.0)]
    assert json.loads(answer.text) == answer.fields
    assert answer.usage.image_tokens > 64
    first, second = model.run("timeline", film, events="blue star").fields
    assert (first["event"], second["start"]) == ("There is no blue star.", 1.0)
    with pytest.raises(UsageError, match="one video"):
        model.run("timeline", SHAPES)


def test_a_batch_may_be_a_task_about_pictures_documents_and_videos(model: Model, film: Path) -> None:
    found = {each.index: each for each in model.batch([film, SHAPES, film], task="timeline")}
    assert [event["start"] for event in found[2].answer.fields] == [0.0, 1.0]  # type: ignore[union-attr]
    assert found[0].answer is not None
    assert isinstance(found[1].error, UsageError)
    [one] = model.batch([SHAPES], task="count", parameters={"things": "circles"})
    assert one.answer
    assert one.answer.fields == 1
    [one] = model.batch([SHAPES], "red circle", task="locate")
    assert one.answer
    assert [box.label for box in one.answer.boxes] == ["red circle"]
    for wrong in ({}, {"task": "cuont"}, {"question": " "}, {"parameters": {"things": "x"}}):
        with pytest.raises(UsageError):
            model.batch([SHAPES], **wrong)  # type: ignore[arg-type]


def test_a_picture_of_a_batch_under_which_the_process_died_is_asked_about_once_more(model: Model) -> None:
    died = 0

    def pictures() -> Iterator[PictureSource]:
        nonlocal died
        yield from [SHAPES] * 6
        for pid in workers():
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
                died += 1
        yield from [TWO] * 6

    found = {each.index: each for each in model.batch(pictures(), COLOUR)}
    assert died
    assert not [each.error for each in found.values() if isinstance(each.error, WorkerDied)]
    assert [str(found[n].answer) for n in range(12)] == ["red"] * 6 + ["purple"] * 6
