"""Tasks as data: those shipped, and a person's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gguf_vl.engine.grammar.schema import grammar_of
from gguf_vl.errors import UsageError
from gguf_vl.tasks.samples import sample_of
from gguf_vl.tasks.task import PLACEHOLDER, Task, find, load, person_file

ALL = list(load().values())
NAMES = (
    "describe ocr ocr-layout receipt invoice table chart gui locate count compare spatial product support homework "
    "moderate handwriting html document timeline"
)
READING = "ocr ocr-layout receipt invoice table chart handwriting document".split()


@pytest.fixture
def own() -> Path:
    person_file().parent.mkdir(parents=True, exist_ok=True)
    return person_file()


def test_all_that_are_promised_are_there() -> None:
    assert [task.name for task in ALL] == NAMES.split()


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_every_task_says_in_two_languages_what_it_is_for_and_can_be_held_to_its_schema(task: Task) -> None:
    assert task.purpose
    assert re.search("[\u4e00-\u9fff]", task.purpose_zh)
    assert all(each.help for each in task.parameters)
    if task.schema is not None:
        assert "root" in grammar_of(task.schema)
    used = set(PLACEHOLDER.findall(task.prompt + task.system))
    assert {each.name for each in task.parameters} == used


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_every_task_has_a_sample_that_it_takes(task: Task) -> None:
    from gguf_vl.tasks.asking import check

    sample = sample_of(task)
    n_pictures = len(sample.pictures)
    check(task, n_pictures, sample.given)
    assert sample.shows


def test_reading_and_extraction_are_never_sampled_warmly() -> None:
    for task in ALL:
        if task.name in READING or task.schema is not None:
            assert task.sampling["temperature"] <= 0.1, task.name


def test_what_locates_gets_enough_image_tokens() -> None:
    assert [task.name for task in ALL if (task.min_tokens or 0) >= 1024] == ["ocr-layout", "gui", "locate", "count"]


def test_an_unknown_task_is_told_the_nearest_names() -> None:
    with pytest.raises(UsageError, match="no task 'reciept'") as error:
        find("reciept")
    assert "receipt" in error.value.fix
    with pytest.raises(UsageError) as error:
        find("zzzz")
    assert "describe" in error.value.fix


def test_a_persons_own_task_is_there_and_goes_before_a_shipped_one(own: Path) -> None:
    own.write_text(
        """
[plant]
prompt = "Which plant is this, {detail} please? Answer as JSON."
sampling = { temperature = 0.1, max_tokens = 200 }
detail = "high"
n_pictures = [1, 3]
schema = '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}'
parameters.detail = { help = "how exactly", default = "roughly" }
wordings."2b" = "Plant?"
by_frame.pocket = ["Is there a plant?"]

[describe]
purpose = "Mine"
prompt = "Say it in one word."

[by-table]
prompt = "x"
[by-table.schema]
type = "array"
items = { type = "integer" }
""",
        encoding="utf-8",
    )
    plant = find("plant")
    assert (plant.purpose, plant.shown, plant.n_pictures) == ("plant", "json", (1, 3))
    assert plant.schema["required"] == ["name"]
    assert not plant.is_beyond("pocket")  # it has words for it, of a video
    assert plant.by_frame == {"pocket": ("Is there a plant?",)}
    assert find("describe").purpose == "Mine"
    assert find("by-table").schema == {"type": "array", "items": {"type": "integer"}}
    assert find("receipt").schema
    assert sample_of(plant).pictures


def test_tasks_of_ones_own_are_read_again_once_they_have_changed(own: Path) -> None:
    own.write_text("[plant]\nprompt = 'Which plant is this?'", encoding="utf-8")
    assert find("plant") is find("plant")
    own.write_text("[plant]\nprompt = 'What plant is this, and how old?'", encoding="utf-8")
    assert find("plant").prompt == "What plant is this, and how old?"
    own.unlink()
    with pytest.raises(UsageError):
        find("plant")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prompt = 'x'", "prompt in .* stands outside"),
        ("[a]\npurpose = 'x'", "a in .* has no prompt"),
        ("[a]\nprompt = 'x'\nnothing.pocket = 'no'", "a.nothing in .* stands for an empty list"),
        ("[a]\nprompt = ''", "a.prompt in .* is not text"),
        ("[a]\nprompt = 'x'\nprompts = 'y'", "a.prompts in .* does not exist"),
        ("[a]\nprompt = 'x'\nmin_tokens = '3'", "a.min_tokens in .* is not a whole number"),
        ("[a]\nprompt = 'x'\nn_pictures = [2, 1]", "a.n_pictures in .* is not the least and the most"),
        ("[a]\nprompt = 'x'\nshown = 'film'", "a.shown in .* is not one of"),
        ("[a]\nprompt = 'x'\ndetail = 'huge'", "a.detail in .* is not one of"),
        ("[a]\nprompt = 'x {y}'", r"a in .* speaks of \{y\}"),
        ("[a]\nprompt = 'x'\nschema = '{'", "a.schema in .* is not JSON"),
        ("[a]\nprompt = 'x'\nschema = {type = 'film'}", "a.schema in .* cannot be used"),
        ("[a]\nprompt = 'x'\nsampling = {heat = 1}", "a.sampling.heat in .* does not exist"),
        ("[a]\nprompt = 'x'\nsampling = {temperature = 'hot'}", "a.sampling.temperature in .* is not a number"),
        ("[a]\nprompt = 'x'\nparameters.y = 3", "a.parameters.y in .* is not a table"),
        ("[a]\nprompt = 'x'\nparameters.y = {choices = 'z'}", "a.parameters.y.choices in .* is not a list of texts"),
        (
            "[a]\nprompt = 'x'\nparameters.y = {default = 'x', choices = ['z']}",
            "y.default in .* is none of its choices",
        ),
        ("[a]\nprompt = 'x'\nparameters.y = {hint = 'z'}", "a.parameters.y.hint in .* does not exist"),
        ("[a]\nprompt = 'x'\nby_frame.pocket = 'y'", "a.by_frame in .* is not a table of lists"),
        ("[a]\nprompt = 'x'\nby_frame.pocket = ['y', '{z}']", r"a in .* speaks of \{z\}"),
        ("[A b]\nprompt = 'x'", "are not TOML"),
        ("['A b']\nprompt = 'x'", "no name that can be typed"),
    ],
)
def test_a_broken_file_says_where_and_at_which_key(own: Path, text: str, says: str) -> None:
    own.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=f"(?s){says}") as error:
        load()
    assert str(own) in error.value.what
    assert error.value.fix


def test_a_file_that_is_no_text_is_said(own: Path) -> None:
    own.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        load()


def test_schemas_keep_the_order_in_which_they_are_written() -> None:
    schema = find("receipt").schema
    assert list(schema["properties"])[:3] == ["merchant", "address", "date"]
    assert json.dumps(schema)
