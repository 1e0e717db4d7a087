"""The chat as a person meets it, with an engine that plays scripts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gguf_vl.chat.history import History
from gguf_vl.config import Settings
from gguf_vl.engine.fake import Waits, WorkerDies, text
from gguf_vl.errors import EngineError, InvalidModelFile, UsageError
from gguf_vl.tui.app import GgufVlApp
from gguf_vl.tui.widgets.banner import Banner
from gguf_vl.tui.widgets.chips import Chip
from gguf_vl.types import Finished, Text, Thinking, Timings, Usage
from tests.tui.talking import SHAPES, playing, talking

pytestmark = pytest.mark.anyio

CUT = Finished("length", Usage(5, 0, 2), Timings(0.0, 0.1, 0.2, 10.0))


async def test_a_question_is_answered_and_both_are_in_the_history() -> None:
    async with talking(playing(text("a red ", "circle"))) as stage:
        answer = await stage.answer_to("What is this?")
        assert (answer.text, answer.state, answer.model) == ("a red circle", "done", "pocket")
        assert [turn.text for turn in stage.turns] == ["What is this?", "a red circle"]
        assert "a red circle" in stage.text()
        assert stage.prompt.text == ""


async def test_ctrl_j_is_a_new_line_and_enter_sends() -> None:
    async with talking(playing(text("ok"))) as stage:
        await stage.answer_to("one\ntwo")
        assert stage.turns[0].text == "one\ntwo"


async def test_escape_stops_the_answer_and_keeps_what_was_written() -> None:
    async with talking(playing([Text("half of "), Waits(), *text("it")])) as stage:
        await stage.ask("Go")
        await stage.until(lambda: len(stage.turns) == 2 and stage.turns[1].text == "half of ")
        await stage.pilot.press("escape")
        await stage.idle()
        assert (stage.turns[1].text, stage.turns[1].state) == ("half of ", "stopped")
        assert "stopped" in stage.text()


async def test_escape_ends_the_wait_for_a_model_and_the_question_stays() -> None:
    async with talking(playing(text("late"), loading=[[Waits()]])) as stage:
        await stage.ask("Are you there?")
        await stage.until(lambda: stage.app.answers.is_running(stage.app.chat.chat_id))
        await stage.pilot.press("escape")
        await stage.until(lambda: not stage.app.answers.is_running(stage.app.chat.chat_id))
        assert [(turn.text, turn.state) for turn in stage.turns] == [("Are you there?", "done"), ("", "stopped")]
        await stage.until(lambda: "answer again" in stage.text())


async def test_the_next_question_waits_behind_the_answer() -> None:
    release = asyncio.Event()
    async with talking(playing([Text("one"), Waits(release), text("")[-1]], text("two"))) as stage:
        await stage.ask("First")
        await stage.until(lambda: len(stage.turns) == 2)
        await stage.ask("Second")
        await stage.until(lambda: len(stage.turns) == 4)
        await stage.until(lambda: "waits for the answer above" in stage.text())
        release.set()
        await stage.idle()
        assert [turn.text for turn in stage.turns] == ["First", "one", "Second", "two"]


async def test_what_is_typed_is_in_the_history_before_the_next_key(home: object) -> None:
    async with talking(playing()) as stage:
        await stage.type("half a quest")
        assert stage.app.history.draft(stage.app.chat.chat_id).text == "half a quest"
    async with talking(playing()) as stage:
        assert stage.prompt.text == "half a quest"


async def test_a_worker_that_dies_leaves_a_line_the_text_and_a_way_to_go_on() -> None:
    async with talking(playing([Text("so far"), WorkerDies()], text(" and on"))) as stage:
        await stage.ask("Go")
        await stage.until(lambda: len(stage.turns) == 2 and stage.turns[1].state == "failed")
        await stage.idle()
        assert stage.turns[1].text == "so far"
        assert "continue" in stage.text()
        await stage.until(lambda: stage.app.model.state == "ready")
        await stage.pilot.press("up", "g")
        await stage.until(lambda: stage.turns[1].state == "done")
        await stage.idle()
        assert stage.turns[1].text == "so far and on"
        assert "so far and on" in stage.text()


async def test_an_error_of_the_engine_is_a_line_and_the_chat_goes_on() -> None:
    async with talking(playing([EngineError("The picture melted.", "Take another.")], text("fine"))) as stage:
        answer = await stage.answer_to("Look")
        assert (answer.state, answer.error) == ("failed", "The picture melted.")
        assert "The picture melted" in stage.text()
        assert (await stage.answer_to("And now?")).text == "fine"


async def test_a_model_that_does_not_load_is_said_in_the_banner_and_can_be_tried_again() -> None:
    failure = InvalidModelFile("The file is damaged.", "Fetch it again.")
    async with talking(playing(text("ok"), loading=[failure])) as stage:
        await stage.until(lambda: stage.app.model.state == "failed")
        await stage.pilot.pause()
        assert "The file is damaged" in str(stage.app.chat.query_one(Banner).content)
        assert (await stage.answer_to("Again?")).text == "ok"


async def test_thoughts_are_folded_and_unfold() -> None:
    async with talking(playing([Thinking("let me see"), *text("42")])) as stage:
        answer = await stage.answer_to("Think")
        assert (answer.thinking, answer.text) == ("let me see", "42")
        assert "Thoughts · 3 words" in stage.text()
        assert "let me see" not in stage.text()
        await stage.pilot.press("up", "t")
        await stage.until(lambda: "let me see" in stage.text())


async def test_answering_again_makes_a_branch_and_arrows_move_between() -> None:
    async with talking(playing(text("first"), text("second"))) as stage:
        await stage.answer_to("Q")
        await stage.pilot.press("up", "r")
        await stage.until(lambda: stage.turns[-1].text == "second")
        await stage.idle()
        assert (stage.turns[-1].place, stage.turns[-1].of) == (2, 2)
        assert "2/2" in stage.text()
        await stage.pilot.press("up", "left")
        await stage.until(lambda: stage.turns[-1].text == "first")
        await stage.idle()
        assert "1/2" in stage.text()
        await stage.pilot.press("right")
        await stage.until(lambda: stage.turns[-1].text == "second")


async def test_an_edited_question_is_a_branch_with_an_answer_of_its_own() -> None:
    async with talking(playing(text("one"), text("two"))) as stage:
        await stage.answer_to("Wht?")
        await stage.pilot.press("up", "up", "e")
        await stage.until(lambda: stage.prompt.text == "Wht?")
        await stage.pilot.press("left", "left", "a", "enter")
        await stage.until(lambda: [turn.text for turn in stage.turns] == ["What?", "two"])
        await stage.idle()
        assert stage.turns[0].of == 2
        await stage.pilot.press("up", "up", "left")
        await stage.until(lambda: [turn.text for turn in stage.turns] == ["Wht?", "one"])


async def test_an_answer_that_was_cut_off_is_continued_behind_what_is_there() -> None:
    async with talking(playing([Text("a long "), CUT], text("story"))) as stage:
        answer = await stage.answer_to("Tell")
        assert answer.finish_reason == "length"
        assert "cut off" in stage.text()
        await stage.pilot.press("up", "g")
        await stage.until(lambda: stage.turns[-1].text == "a long story")
        await stage.idle()
        assert len(stage.turns) == 2


async def test_a_deleted_turn_comes_back_with_u() -> None:
    async with talking(playing(text("one"))) as stage:
        await stage.answer_to("Q")
        await stage.pilot.press("up", "d")
        await stage.until(lambda: len(stage.turns) == 1)
        await stage.idle()
        await stage.pilot.press("up", "u")
        await stage.until(lambda: len(stage.turns) == 2)


async def test_copying_takes_the_text_and_the_blocks_of_code_one_after_the_other() -> None:
    code = "Look:\n\n```python\na = 1\n```\n\nand\n\n```\nb\n```\n"
    async with talking(playing(text(code))) as stage:
        await stage.answer_to("Code")
        await stage.pilot.press("up", "c")
        await stage.until(lambda: stage.app.clipboard == code)
        await stage.pilot.press("x")
        await stage.until(lambda: stage.app.clipboard == "a = 1\n")
        await stage.pilot.press("x")
        await stage.until(lambda: stage.app.clipboard == "b\n")


async def test_a_quotation_goes_into_the_prompt() -> None:
    async with talking(playing(text("wise\nwords"))) as stage:
        await stage.answer_to("Q")
        await stage.pilot.press("up", "q")
        assert stage.prompt.text == "> wise\n> words\n\n"
        assert stage.prompt.has_focus


async def test_a_picture_becomes_a_chip_with_its_size_and_tokens_and_is_encoded() -> None:
    async with talking(playing(text("shapes"))) as stage:
        await stage.attach()
        await stage.until(lambda: "encoded" in stage.text())
        assert "384×288 · 108 tokens" in stage.text()
        answer = await stage.answer_to("What?")
        assert answer.text == "shapes"
        assert [each.name for each in stage.turns[0].attachments] == ["shapes.png"]
        assert not stage.app.chat.query(Chip)


async def test_a_picture_that_was_taken_back_is_not_asked_about() -> None:
    async with talking(playing(text("ok"))) as stage:
        await stage.attach()
        await stage.until(lambda: stage.app.chat.query(Chip))
        await stage.pilot.press("ctrl+r")
        await stage.until(lambda: not stage.app.chat.query(Chip))
        await stage.answer_to("What?")
        assert stage.turns[0].attachments == ()


async def test_paths_that_are_dropped_become_pictures_and_text_stays_text() -> None:
    from textual import events

    async with talking(playing()) as stage:
        stage.app.post_message(events.Paste(f"'{SHAPES}'"))
        await stage.until(lambda: stage.app.chat.query(Chip))
        stage.app.post_message(events.Paste("just words"))
        await stage.until(lambda: stage.prompt.text == "just words")


async def test_an_at_sign_completes_a_path_and_attaches_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHAPES.parent)
    async with talking(playing()) as stage:
        await stage.type("Look at @shap")
        await stage.until(lambda: "shapes.png" in stage.text())
        await stage.pilot.press("tab")
        await stage.until(lambda: stage.app.chat.query(Chip))
        assert stage.prompt.text == "Look at "


async def test_a_slash_lists_commands_and_enter_does_one() -> None:
    async with talking(playing(text("ok"))) as stage:
        await stage.answer_to("Q")
        before = stage.app.chat.chat_id
        await stage.type("/ne")
        await stage.until(lambda: "New chat" in stage.text())
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.app.chat.chat_id != before)
        await stage.type("/nonsense")
        await stage.pilot.press("enter")
        await stage.pilot.pause()
        assert stage.prompt.text == "/nonsense"


async def test_presets_are_one_key_and_what_is_to_be_changed_is_selected() -> None:
    async with talking(playing(text("{}"))) as stage:
        await stage.until(lambda: stage.app.model.name)
        await stage.attach()
        await stage.pilot.press("f4")
        assert (stage.prompt.text, stage.prompt.selected_text) == ("Locate the {thing}.", "{thing}")
        await stage.pilot.press("enter")
        await stage.until(lambda: any("needs thing" in each.message for each in stage.app._notifications))
        assert not stage.turns
        await stage.type("red circle")
        await stage.pilot.press("enter")
        await stage.until(lambda: len(stage.turns) == 2)
        assert [turn.task for turn in stage.turns] == ["locate", "locate"]
        assert stage.turns[0].text == "Locate the red circle."


async def test_keys_are_remapped_in_the_settings() -> None:
    settings = replace(Settings(), keys={"new_chat": "ctrl+w", "stop": "f8"})
    async with talking(playing([Text("…"), Waits()]), settings=settings) as stage:
        await stage.ask("Go")
        await stage.until(lambda: len(stage.turns) == 2)
        await stage.pilot.press("f8")
        await stage.idle()
        assert stage.turns[1].state == "stopped"
    with pytest.raises(UsageError, match="no such action"):
        GgufVlApp(replace(Settings(), keys={"nonsense": "f8"}), History())


async def test_a_key_that_edits_text_does_what_it_is_remapped_to() -> None:
    settings = replace(Settings(), keys={"new_chat": "ctrl+w", "stop": "ctrl+k"})
    async with talking(playing([Text("…"), Waits()]), settings=settings) as stage:
        first = stage.app.chat.chat_id
        await stage.ask("Go")
        await stage.until(lambda: len(stage.turns) == 2)
        await stage.type("two words")
        await stage.pilot.press("home", "ctrl+k")
        await stage.idle()
        assert stage.turns[1].state == "stopped"
        assert stage.prompt.text == "two words"
        await stage.pilot.press("ctrl+w")
        await stage.until(lambda: stage.app.chat.chat_id != first)
        assert stage.app.history.draft(first).text == "two words"


async def test_the_banner_offers_what_suits_this_machine_and_never_takes_the_focus() -> None:
    async with talking(playing(text("ok"))) as stage:
        await stage.until(lambda: "F7" in stage.text())
        assert "Qwen3-VL" in stage.text()
        assert stage.prompt.has_focus


async def test_an_answer_goes_on_while_another_chat_is_shown() -> None:
    release = asyncio.Event()
    async with talking(playing([Text("first "), Waits(release), Text("half"), text("")[-1]])) as stage:
        await stage.ask("Q")
        await stage.until(lambda: len(stage.turns) == 2)
        asked = stage.app.chat.chat_id
        await stage.pilot.press("ctrl+n")
        await stage.until(lambda: stage.app.chat.chat_id != asked)
        release.set()
        await stage.until(lambda: not stage.app.answers.is_running(asked))
        assert stage.app.history.turns(asked)[1].text == "first half"
        stage.app.open_chat(asked)
        await stage.until(lambda: "first half" in stage.text())
