"""Every task from the terminal: begun with, asked as tasks are, and shown as they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gguf_vl import paths
from gguf_vl.engine.fake import ScriptedWorker, text
from gguf_vl.engine.protocol import Command, Generate
from gguf_vl.tasks.task import find
from gguf_vl.tui.app import GgufVlApp
from gguf_vl.tui.completing import suggestions
from gguf_vl.tui.screens.tasks import parameters_of
from gguf_vl.tui.widgets.answer import AnswerText
from tests.tui.talking import PICTURES, playing, talking

pytestmark = pytest.mark.anyio

TABLE = json.dumps({"title": None, "columns": ["fruit", "price"], "rows": [["pear", "3"]]})


def own_tasks(text: str) -> None:
    """The person's own file."""
    file = paths.config_file().with_name("tasks.toml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def told(app: GgufVlApp) -> str:
    """The lines that came up."""
    return "\n".join(each.message for each in app._notifications)


async def test_task_is_completed_and_what_is_to_be_changed_is_selected() -> None:
    async with talking(playing(text("There are 2."))) as stage:
        await stage.until(lambda: stage.app.model.name)
        await stage.type("/task ")
        await stage.until(lambda: "timeline" in stage.text() or "moderate" in stage.text())
        await stage.type("coun")
        await stage.until(lambda: "Count things" in stage.text())
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.prompt.text == "How many objects are there?")
        assert stage.prompt.selected_text == "objects"
        await stage.attach()
        await stage.answer_to("circles")
        assert (stage.turns[0].text, stage.turns[0].task) == ("How many circles are there?", "count")


async def test_words_behind_the_task_are_what_it_asks_for() -> None:
    async with talking(playing()) as stage:
        await stage.until(lambda: stage.app.model.name)
        stage.prompt.text = "/task locate the red circle"
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.prompt.text == "Locate the red circle.")


async def test_a_bare_task_lists_them_and_one_that_is_not_there_names_the_nearest() -> None:
    async with talking(playing()) as stage:
        await stage.ask("/task")
        await stage.until(lambda: stage.prompt.text == "/task " and "chart" in stage.text())
        await stage.type("recipt")
        await stage.pilot.press("enter")
        await stage.until(lambda: "Did you mean receipt" in told(stage.app))


async def test_a_persons_own_task_is_in_the_palette_too(home: Path) -> None:
    own_tasks('[mood]\npurpose = "Its mood"\nprompt = "What is its mood?"')
    async with talking(playing(text("fine"))) as stage:
        commands = {each.title: each for each in stage.app.get_system_commands(stage.app.chat)}
        assert commands["Task: mood"].help == "Its mood"
        await commands["Task: mood"].callback()  # type: ignore[misc]
        assert stage.prompt.text == "What is its mood?"
        await stage.attach()
        await stage.pilot.press("enter")
        await stage.until(lambda: len(stage.turns) == 2)
        assert stage.turns[0].task == "mood"


async def test_a_broken_file_of_tasks_is_a_line_and_the_shipped_ones_are_there(home: Path) -> None:
    own_tasks("[mood\n")
    async with talking(playing(text("ok"))) as stage:
        await stage.until(lambda: stage.app.model.name)
        await stage.ask("/task describe")
        await stage.until(lambda: "tasks.toml" in told(stage.app))
        assert stage.prompt.text == "Describe the picture."


@pytest.mark.parametrize(
    ("task", "answer", "shown"),
    [
        ("table", TABLE, ["| fruit | price |", "| pear | 3 |"]),
        ("receipt", '{"merchant": "A", "total": 2}', ["```json", '  "merchant": "A",']),
        ("html", "<p>hello</p>", ["```html\n<p>hello</p>\n```"]),
        ("describe", "A *red* circle.", ["A *red* circle."]),
    ],
)
async def test_an_answer_is_shown_as_its_task_says(task: str, answer: str, shown: list[str]) -> None:
    async with talking(playing(text(answer))) as stage:
        await stage.attach()
        await stage.app.run_action(f"screen.task({task!r})")
        await stage.pilot.press("enter")
        await stage.until(lambda: len(stage.turns) == 2)
        await stage.idle()
        assert stage.turns[1].text == answer
        drawn = _drawn(stage.app)
        for part in shown:
            assert part in drawn


def _drawn(app: GgufVlApp) -> str:
    return "".join(passage.source for passage in app.chat.query_one(AnswerText)._passages)


async def test_points_are_drawn_on_the_picture_and_listed() -> None:
    answer = '[{"point_2d": [500, 250], "label": "red circle"}]'
    async with talking(playing(text(answer))) as stage:
        await stage.until(lambda: stage.app.model.name)
        await stage.attach()
        stage.prompt.text = "/task locate red circle"
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.prompt.text == "Locate the red circle.")
        await stage.pilot.press("enter")
        await stage.until(lambda: len(stage.views) == 2 and stage.views[1].points)
        assert [point.label for point in stage.views[1].points] == ["red circle"]
        await stage.until(lambda: "red circle  (" in stage.text())


async def test_a_task_about_another_number_of_pictures_is_a_line_and_nothing_is_lost() -> None:
    async with talking(playing(text("Two shapes."))) as stage:
        await stage.until(lambda: stage.app.model.name)
        await stage.app.run_action("screen.task('compare')")
        question = stage.prompt.text
        await stage.pilot.press("enter")
        await stage.until(lambda: "about 2 pictures, and none is given" in told(stage.app))
        await stage.attach()
        await stage.pilot.press("enter")
        await stage.until(lambda: "about 2 pictures, and 1 is given" in told(stage.app))
        assert (stage.turns, stage.prompt.text) == ([], question)
        await stage.attach(PICTURES / "two.png")
        await stage.answer_to("")
        assert len(stage.turns[0].attachments) == 2


async def test_pictures_of_the_chat_count_where_a_question_brings_too_few() -> None:
    async with talking(playing(text("A circle."))) as stage:
        await stage.until(lambda: stage.app.model.name)
        await stage.attach()
        await stage.answer_to("What is this")
        for task, more, answers in (("describe", 0, 2), ("compare", 1, 3)):
            for _ in range(more):
                await stage.attach(PICTURES / "two.png")
            await stage.app.run_action(f"screen.task({task!r})")
            await stage.answer_to("")
            assert len(stage.turns) == 2 * answers


@pytest.fixture
def systems(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The system prompts of what a scripted engine is asked."""
    found: list[str] = []
    send = ScriptedWorker.send

    async def noting(worker: ScriptedWorker, command: Command) -> None:
        if isinstance(command, Generate):
            found.append(str(command.request.messages[0].content[0]))
        await send(worker, command)

    monkeypatch.setattr(ScriptedWorker, "send", noting)
    return found


async def test_parameters_stand_behind_the_name_and_stay_with_the_question(systems: list[str]) -> None:
    async with talking(playing(text("Restart it."))) as stage:
        await stage.until(lambda: stage.app.model.name)
        await stage.attach()
        await stage.type("/task support ")
        await stage.until(lambda: "what the customers use" in stage.text())
        await stage.type("pro")
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.prompt.text == "/task support product=")
        await stage.type("'Paint [2]'")
        await stage.pilot.press("enter")
        await stage.until(lambda: "/task support product='Paint [2]'" in stage.text())
        await stage.pilot.press("enter")
        await stage.until(lambda: len(stage.turns) == 2)
        await stage.idle()
        await stage.until(lambda: "/task support product='Paint [2]'" in stage.text())
        await stage.pilot.press("up", "r")
        await stage.until(lambda: stage.turns[-1].of == 2)
        await stage.idle()
        stage.views[0].focus()
        await stage.pilot.press("e")
        await stage.until(lambda: stage.prompt.text == stage.turns[0].text)
        await stage.type(" Say it briefly.")
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.turns[0].of == 2)
        await stage.idle()
        assert ["You help customers of Paint [2]." in each for each in systems] == [True] * 3


async def test_a_parameter_that_there_is_not_is_a_line_and_the_command_stays() -> None:
    async with talking(playing()) as stage:
        await stage.until(lambda: stage.app.model.name)
        for typed, line in (
            ("/task Locate Knd=point red circle", "no parameter 'knd'.\nDid you mean kind?"),
            ("/task locate thing='red circle", "does not end"),
        ):
            stage.prompt.text = typed
            await stage.pilot.press("enter")
            await stage.until(lambda line=line: line in told(stage.app))
            assert stage.prompt.text == typed


async def test_an_edit_takes_the_task_that_its_prompt_shows_and_leaves_the_chats_until_it_is_sent() -> None:
    async with talking(playing(*[text("[]")] * 3)) as stage:
        await stage.until(lambda: stage.app.model.name)
        await stage.attach()
        await stage.app.run_action("screen.task('describe')")
        await stage.answer_to("")
        chat = stage.app.chat.chat_id
        for leaves in (True, False):
            stage.views[0].focus()
            await stage.pilot.press("e")
            await stage.until(lambda: stage.prompt.text == "Describe the picture." and "/task describe" in stage.text())
            stage.prompt.text = "/task locate kind=point red circle"
            await stage.pilot.press("enter")
            await stage.until(lambda: stage.prompt.text == "Locate the red circle.")
            await stage.pilot.pause()
            assert "pocket has learnt the task locate with kind=bbox alone" in told(stage.app)
            assert stage.app.history.chat(chat).preset == "describe"
            await stage.pilot.press("escape" if leaves else "enter")
            await stage.until(lambda: not stage.app.chat.editing and not stage.prompt.text)
            assert stage.app.chat.begun_with is None
        await stage.idle()
        assert (stage.turns[0].of, stage.turns[0].task) == (2, "locate kind=point")
        assert stage.app.history.chat(chat).preset == "locate kind=point"
        stage.views[1].focus()
        await stage.pilot.press("e", "f2")
        await stage.until(lambda: "an answer is being edited" in told(stage.app))
        assert stage.prompt.text == "[]"


def test_parameters_are_completed_behind_many_of_them_at_once() -> None:
    pairs = " ".join(f"a{n}=\"x y\" b{n}='z' c{n}=" for n in range(40))
    assert [each.text for each in suggestions(f"/task locate {pairs} ki")] == ["kind="]
    assert suggestions(f"/task locate {pairs} ki ?") == []


@pytest.mark.parametrize(
    ("task", "words", "read"),
    [
        ("homework", "y=2x+3 find x", ("y=2x+3 find x", {})),
        ("locate", "KIND=point thing='red circle' now", ("now", {"kind": "point", "thing": "red circle"})),
        ("locate", "kind=point y='2 kind=bbox", ("y='2 kind=bbox", {"kind": "point"})),
    ],
)
def test_only_what_a_task_has_is_a_parameter_of_it(task: str, words: str, read: tuple[str, dict[str, str]]) -> None:
    assert parameters_of(find(task), words) == read
