"""The presets: tasks by their names, and done as tasks are as long as they are asked in their words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gguf_vl.chat import talk
from gguf_vl.chat.history import History
from gguf_vl.chat.presets import as_task, preset, presets
from gguf_vl.config import Settings
from gguf_vl.media.boxes import find_boxes
from gguf_vl.runtime.models import of_name
from gguf_vl.tasks.task import shipped
from gguf_vl.types import PictureLimits, Request, Sampling, Text
from tests.scenes import png, scene
from tests.tasks.asked import loaded_pocket

LIMITS = PictureLimits(8, 1024)
RED = png(scene("red circle"))


def asked(question: str, name: str, tmp_path: Path, *, picture: bytes = RED) -> Request:
    """What pocket is asked for a question that began with a preset."""
    with History(tmp_path / "history") as history:
        chat_id = history.new_chat().id
        history.set_preset(chat_id, name)
        if picture:
            history.attach(chat_id, picture, "scene.png", (256, 256))
        history.set_draft(chat_id, question)
        turn = history.ask(chat_id, None)
        return talk.request(history.chat(chat_id), history.path(turn.id), of_name("pocket"), Settings(), LIMITS)


def test_each_is_a_task_with_a_key_of_its_own() -> None:
    assert len({each.key for each in presets()}) == len({each.name for each in presets()}) == len(presets())
    for each in presets():
        assert re.fullmatch("[a-z]", each.key)
        assert each.title
        assert each.task is shipped()[each.task.name]
        assert (each.sampling, each.detail) == (each.task.sampling, each.task.detail)
        Sampling(**each.sampling)


def test_what_will_be_changed_is_in_the_question() -> None:
    boxes = preset("Find with boxes")
    assert boxes
    start, end = boxes.selected
    assert boxes.prompt[start:end] == "every object"
    describe = preset("Describe")
    assert describe
    assert describe.selected == (len(describe.prompt), len(describe.prompt))
    assert preset("no such") is None


def test_reading_invents_nothing() -> None:
    for name in ("Read the text", "Find with boxes", "Receipt to JSON", "Table"):
        each = preset(name)
        assert each
        assert each.sampling["temperature"] <= 0.1


def test_a_preset_with_another_thing_in_it_is_still_its_task_and_any_other_question_is_none() -> None:
    boxes = preset("Find with boxes")
    assert boxes
    found = as_task(boxes.prompt.replace("every object", "the red circle") + "\n")
    assert found == (shipped()["locate"], {"thing": "the red circle", "kind": "bbox"})
    for question in ("Where is the circle?", "", f"my words\n{boxes.prompt}", "Locate the circle."):
        assert as_task(question) is None
    for each in presets():
        assert bool(as_task(each.prompt)) == (each.name != "Table")


def test_a_preset_is_asked_in_the_models_words_and_held_to_its_schema(tmp_path: Path) -> None:
    boxes = preset("Find with boxes")
    assert boxes
    found = asked(boxes.prompt.replace("every object", "the red circle"), boxes.name, tmp_path)
    assert found.messages[-1].content[-1] == "Locate the red circle."
    assert "There is no red circle." in (found.grammar or "")
    assert found.sampling.temperature == 0


def test_a_receipt_is_held_to_its_schema(tmp_path: Path) -> None:
    receipt = preset("Receipt to JSON")
    assert receipt
    assert asked(receipt.prompt, receipt.name, tmp_path).schema == shipped()["receipt"].schema


@pytest.mark.parametrize("picture", [RED, b""], ids=["a picture", "none"])
def test_a_question_of_ones_own_is_held_to_nothing(tmp_path: Path, picture: bytes) -> None:
    boxes = preset("Find with boxes")
    assert boxes
    question = "What colour is it?" if picture else boxes.prompt
    found = asked(question, boxes.name, tmp_path, picture=picture)
    assert (found.schema, found.grammar) == (None, None)


def test_pocket_finds_what_is_there_and_nothing_where_it_is_not(tmp_path: Path) -> None:
    boxes = preset("Find with boxes")
    assert boxes
    with loaded_pocket() as pocket:
        for thing, found in (("red circle", 1), ("the green circle", 0), ("red square", 0)):
            question = asked(boxes.prompt.replace("every object", thing), boxes.name, tmp_path / thing)
            answer = "".join(event.text for event in pocket.engine.generate(question) if isinstance(event, Text))
            assert len(find_boxes(answer, (256, 256))) == found, answer
