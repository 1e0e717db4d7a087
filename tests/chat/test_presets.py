"""Tasks as questions in a chat: done as tasks are as long as they are asked in their words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gguf_vl import paths
from gguf_vl.chat import talk
from gguf_vl.chat.history import History
from gguf_vl.chat.presets import presets, question, read, task_of, tasks
from gguf_vl.config import Settings
from gguf_vl.errors import UsageError
from gguf_vl.media.boxes import find_boxes
from gguf_vl.runtime.models import of_name
from gguf_vl.tasks.task import shipped
from gguf_vl.types import Message, PictureLimits, Request, Sampling, Text
from tests.scenes import png, scene
from tests.tasks.asked import loaded_pocket

ROOM = talk.Room(PictureLimits(8, 1024), 4096)
RED = png(scene("red circle"))
LOCATE = shipped()["locate"]


def asked(text: str, task: str | None, tmp_path: Path, *, picture: bytes = RED) -> Request:
    """What pocket is asked for a question that began with a task."""
    with History(tmp_path / "history") as history:
        chat_id = history.new_chat().id
        history.set_preset(chat_id, task)
        if picture:
            history.attach(chat_id, picture, "scene.png", (256, 256))
        history.set_draft(chat_id, text)
        turn = history.ask(chat_id, None)
        assert turn.task == task
        found = talk.request(history.chat(chat_id), history.path(turn.id), of_name("pocket"), Settings(), ROOM)
        assert isinstance(found, Request)
        return found


def test_each_preset_is_a_task_with_a_key_of_its_own() -> None:
    assert len({each.key for each in presets()}) == len({each.name for each in presets()}) == len(presets())
    for each in presets():
        assert re.fullmatch("[a-z]", each.key)
        assert each.title
        assert each.task is shipped()[each.task.name]
        Sampling(**each.task.sampling)


def test_what_will_be_changed_is_selected_in_the_words_for_the_model() -> None:
    for model, text, selected in (
        ("8b", 'matches the description "every object"', "every object"),
        ("pocket", "Locate the {thing}.", "{thing}"),
    ):
        found = question(LOCATE, model)
        assert text in found.text
        assert found.text[slice(*found.selected)] == selected
    describe = question(shipped()["describe"], "pocket")
    assert (describe.text, describe.selected) == ("Describe the picture.", (21, 21))
    elements = question(shipped()["gui"], "8b")
    assert elements.text[slice(*elements.selected)] == "elements"


def test_words_are_what_a_task_asks_for_or_stand_behind_it() -> None:
    assert question(LOCATE, "pocket", "the red circle").text == "Locate the red circle."
    behind = question(shipped()["describe"], "8b", "in French").text
    assert behind.endswith("\nin French")
    assert read(shipped()["describe"], behind) == ({}, "in French")


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("model", ["pocket", "8b"])
def test_every_task_is_known_again_by_its_words(name: str, model: str) -> None:
    task = shipped()[name]
    begun = question(task, model)
    found = read(task, begun.text)
    assert found
    assert not found[1]
    start, end = begun.selected
    changed = f"{begun.text[:start]}the old one{begun.text[end:]}" if start < end else begun.text
    again = read(task, f"{changed}\nand more")
    assert again
    assert (list(again[0].values()), again[1]) == (["the old one"] if start < end else [], "and more")


def test_parameters_that_the_words_do_not_show_are_remembered() -> None:
    begun = question(LOCATE, "pocket", "red circle", {"kind": "point"})
    assert (begun.text, begun.begun_with) == ("Locate the red circle.", "locate kind=point")
    assert task_of(begun.begun_with) is LOCATE
    assert read(LOCATE, begun.text, begun.begun_with) == ({"thing": "red circle", "kind": "point"}, "")
    shown = question(LOCATE, "8b", "red circle", {"kind": "point"})
    assert shown.begun_with == "locate"
    in_boxes = shown.text.replace("Report point", "Report bbox")
    assert read(LOCATE, in_boxes, begun.begun_with) == ({"thing": "red circle"}, "")
    with pytest.raises(UsageError, match="no parameter 'knd'"):
        question(LOCATE, "pocket", "", {"knd": "point"})


def test_other_words_are_a_question_of_ones_own() -> None:
    for text in ("Where is the circle?", "", "my words\nLocate the circle."):
        assert read(LOCATE, text) is None


def test_a_task_is_asked_in_the_models_words_and_held_to_its_schema(tmp_path: Path) -> None:
    for at, text in enumerate(("Locate the red circle.", question(LOCATE, "8b", "the red circle").text)):
        found = asked(text, "locate", tmp_path / str(at))
        assert found.messages[-1].content[-1] == "Locate the red circle."
        assert "There is no red circle." in (found.grammar or "")
        assert found.sampling.temperature == 0


def test_a_receipt_is_held_to_its_schema(tmp_path: Path) -> None:
    receipt = shipped()["receipt"]
    assert asked(question(receipt, "pocket").text, "receipt", tmp_path).schema == receipt.schema


def test_a_task_brings_its_system_prompt(tmp_path: Path) -> None:
    found = asked(question(shipped()["support"], "8b").text, "support", tmp_path)
    assert found.messages[0].role == "system"
    assert "customers of this software" in str(found.messages[0].content[0])


@pytest.mark.parametrize(
    ("text", "task", "picture"),
    [
        ("What colour is it?", "locate", RED),
        ("Locate the red circle.", "locate", b""),
        ("Locate the red circle.", None, RED),
        ("Locate the red circle.", "gone", RED),
    ],
    ids=["other words", "no picture", "no task", "a task that is gone"],
)
def test_a_question_of_ones_own_is_held_to_nothing(tmp_path: Path, text: str, task: str | None, picture: bytes) -> None:
    found = asked(text, task, tmp_path, picture=picture)
    assert (found.schema, found.grammar) == (None, None)
    assert found.messages[-1].content[-1] == text


def test_a_persons_own_task_is_one_and_a_broken_file_leaves_the_shipped_ones(home: Path, tmp_path: Path) -> None:
    file = paths.config_file().with_name("tasks.toml")
    file.parent.mkdir(parents=True, exist_ok=True)
    mood = 'purpose = "Its mood"\nprompt = "What is the mood of {who}?"\nparameters.who = { help = "of whom" }'
    file.write_text(f"[mood]\n{mood}")
    assert task_of("mood")
    found = asked("What is the mood of it?", "mood", tmp_path / "mood")
    assert found.messages[-1] == Message("user", (*found.messages[-1].content[:-1], "What is the mood of it?"))
    file.write_text("[mood")
    there, trouble = tasks()
    assert there == shipped()
    assert "tasks.toml" in trouble
    assert task_of("locate") is LOCATE
    with pytest.raises(UsageError, match=r"tasks\.toml"):
        task_of("mood")


def test_pocket_finds_what_is_there_and_nothing_where_it_is_not(tmp_path: Path) -> None:
    with loaded_pocket() as pocket:
        for thing, found in (("red circle", 1), ("the green circle", 0), ("red square", 0)):
            request = asked(question(LOCATE, "pocket", thing).text, "locate", tmp_path / thing)
            answer = "".join(event.text for event in pocket.engine.generate(request) if isinstance(event, Text))
            assert len(find_boxes(answer, (256, 256))) == found, answer
