"""The chat where things happen at once, are gone, or go wrong."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.widgets import Input

from gguf_vl.chat.history import History
from gguf_vl.engine.fake import Waits, text
from gguf_vl.errors import GgufVlError
from gguf_vl.tui.actions import ACTIONS
from gguf_vl.tui.screens.chats import ChatsScreen
from gguf_vl.tui.widgets.chips import Chip
from gguf_vl.types import Text
from tests.chat.given import export_of_many
from tests.tui.pages import said
from tests.tui.talking import SHAPES, playing, talking

pytestmark = pytest.mark.anyio


async def test_questions_asked_while_the_model_loads_are_answered_one_behind_the_other() -> None:
    loaded = asyncio.Event()
    async with talking(playing(text("one"), text("two"), loading=[[Waits(loaded)]])) as stage:
        await stage.ask("First")
        await stage.until(lambda: len(stage.turns) == 2)
        await stage.ask("Second")
        await stage.until(lambda: len(stage.turns) == 4)
        loaded.set()
        await stage.idle()
        assert [turn.text for turn in stage.turns] == ["First", "one", "Second", "two"]


async def test_branches_and_chats_may_be_changed_faster_than_they_are_drawn() -> None:
    async with talking(playing(text("one"), text("two"))) as stage:
        await stage.answer_to("Q")
        await stage.pilot.press("up", "r")
        await stage.until(lambda: stage.turns[-1].text == "two")
        await stage.idle()
        await stage.pilot.press("up")
        for step in (-1, 1, -1, 1, -1):
            stage.app.chat.action_branch(step)
        await stage.idle()
        here, there = stage.app.chat.chat_id, stage.app.history.new_chat().id
        for chat_id in (there, here) * 5:
            stage.app.open_chat(chat_id)
            await asyncio.sleep(0)
        await stage.until(lambda: stage.app.chat.chat_id == here)
        await stage.idle()
        assert stage.turns[-1].text in ("one", "two")


async def test_what_is_typed_while_another_chat_comes_stays_in_its_own() -> None:
    async with talking(playing()) as stage:
        await stage.type("mine")
        here, there = stage.app.chat.chat_id, stage.app.history.new_chat().id
        stage.app.history.set_draft(there, "theirs")
        stage.app.open_chat(there)
        await stage.pilot.press("z")
        await stage.until(lambda: stage.app.chat.chat_id == there)
        await stage.pilot.pause()
        drafts = [stage.app.history.draft(each).text for each in (here, there)]
        assert drafts in (["minez", "theirs"], ["mine", "theirsz"])
        assert stage.prompt.text == drafts[1]


async def test_a_chat_that_is_deleted_while_it_is_shown_is_left() -> None:
    async with talking(playing(text("one"))) as stage:
        await stage.answer_to("Q")
        before = stage.app.chat.chat_id
        await stage.pilot.press("ctrl+o")
        await stage.until(lambda: stage.app.screen is not stage.app.chat)
        await stage.until(lambda: "2 turns" in stage.text())
        await stage.pilot.press("d")
        await stage.until(lambda: stage.app.chat.chat_id != before)
        await stage.pilot.press("ctrl+o")
        await stage.until(lambda: stage.app.screen is stage.app.chat)
        assert (await stage.answer_to("Still there?")).text == "one"


async def test_a_chat_that_another_window_deletes_is_a_line_and_a_new_chat() -> None:
    async with talking(playing(text("one"))) as stage:
        await stage.answer_to("Q")
        gone = stage.app.chat.chat_id
        with History() as other:
            other.delete_chat(gone)
        stage.app.open_chat(gone)
        await stage.until(lambda: stage.app.chat.chat_id != gone)
        assert (await stage.answer_to("Q")).text == "one"


async def test_a_disk_that_is_full_is_a_line_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise GgufVlError("The disk is full.", "Make room.")

    async with talking(playing(text("one"))) as stage:
        with monkeypatch.context() as broken:
            for name in ("set_draft", "set_preset", "append", "finish", "delete_turn", "new_chat"):
                broken.setattr(stage.app.history, name, full)
            await stage.ask("Q")
            await stage.until(lambda: any("The disk is full" in line for line in said(stage.app)))
            await stage.pilot.press("ctrl+n", "up", "d")
            await stage.pilot.pause()
        await stage.pilot.press("z")
        await stage.until(lambda: stage.app.history.draft(stage.app.chat.chat_id).text == stage.prompt.text != "")


async def test_an_answer_that_cannot_be_kept_ends_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise GgufVlError("The disk is full.", "Make room.")

    async with talking(playing(text("one"))) as stage:
        for name in ("append", "finish"):
            monkeypatch.setattr(stage.app.history, name, full)
        await stage.ask("Q")
        await stage.until(lambda: stage.views and stage.views[-1].turn.state == "failed")
        await stage.until(lambda: "✗ The disk is full." in stage.text())


async def test_a_question_goes_with_the_picture_that_is_still_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = asyncio.Event()
    from gguf_vl.tui.screens import question

    attach = question.attach

    async def slowly(*args: Any, **more: Any) -> Any:
        await read.wait()
        return await attach(*args, **more)

    monkeypatch.setattr(question, "attach", slowly)
    async with talking(playing(text("shapes"))) as stage:
        stage.app.chat.bring(SHAPES)
        await stage.until(lambda: "reading pictures" in stage.text())
        await stage.ask("What?")
        await stage.pilot.pause()
        assert not stage.turns
        read.set()
        await stage.until(lambda: len(stage.turns) == 2)
        assert [each.name for each in stage.turns[0].attachments] == ["shapes.png"]


async def test_a_preset_stands_before_what_is_written_and_is_forgotten_with_its_text() -> None:
    async with talking(playing(text("ok"))) as stage:
        await stage.until(lambda: stage.app.model.name)
        await stage.type("my words")
        await stage.pilot.press("f2")
        assert stage.prompt.text == "Describe the picture.\nmy words"
        stage.prompt.text = ""
        await stage.pilot.pause()
        await stage.answer_to("hello")
        assert stage.app.history.chat(stage.app.chat.chat_id).preset is None


async def test_deleting_a_question_ends_its_answer_and_those_that_wait() -> None:
    async with talking(playing([Text("on and "), Waits(), *text("on")], text("two"))) as stage:
        await stage.ask("First")
        await stage.until(lambda: len(stage.turns) == 2)
        await stage.ask("Second")
        await stage.until(lambda: len(stage.turns) == 4)
        await stage.until(lambda: len(stage.views) == 4)
        stage.views[0].focus()
        await stage.pilot.press("d")
        await stage.until(lambda: not stage.turns)
        await stage.until(lambda: not stage.app.answers.is_running(stage.app.chat.chat_id))
        await stage.until(lambda: not stage.views)
        assert stage.app.is_running


async def test_an_edit_is_left_with_its_chat() -> None:
    async with talking(playing(text("one"))) as stage:
        await stage.answer_to("Q")
        before = stage.app.chat.chat_id
        await stage.pilot.press("up", "up", "e")
        await stage.until(lambda: stage.prompt.text == "Q")
        await stage.pilot.press("ctrl+n")
        await stage.until(lambda: stage.app.chat.chat_id != before)
        assert not stage.prompt.has_class("editing")
        assert stage.app.history.draft(before).text == ""


async def test_another_model_that_is_not_here_leaves_the_one_that_is() -> None:
    async with talking(playing(text("one"))) as stage:
        await stage.until(lambda: stage.app.model.state == "ready")
        await stage.type("/model nosuch")
        await stage.pilot.press("enter")
        await stage.until(lambda: any("nosuch" in line for line in said(stage.app)))
        assert (await stage.answer_to("Q")).text == "one"


async def test_every_command_is_done_by_somebody() -> None:
    async with talking(playing()) as stage:
        for action in ACTIONS:
            owner, _, call = action.call.rpartition(".")
            name = f"action_{call.partition('(')[0]}"
            places = {"app": [stage.app], "chat": [stage.app.chat], "": [stage.prompt]}[owner]
            assert any(hasattr(each, name) for each in places), action.name


async def test_markup_in_names_and_errors_is_shown_as_it_stands(tmp_path: Path) -> None:
    odd = tmp_path / "[b]x[i].png"
    odd.write_bytes(SHAPES.read_bytes())
    async with talking(playing([GgufVlError("[/] is no [b]tag\\", "Nothing.")])) as stage:
        stage.app.chat.bring(odd)
        await stage.until(lambda: "[b]x[i].png" in stage.text())
        stage.app.chat.query_one(Chip).told("[/foo] is gone")
        await stage.until(lambda: "[/foo] is gone" in stage.text())
        await stage.answer_to("[/] [b]?")
        await stage.until(lambda: "✗ [/] is no [b]tag" in stage.text())


async def test_a_very_long_paste_is_refused_with_a_line() -> None:
    async with talking(playing()) as stage:
        stage.app.post_message(events.Paste("x" * 60_000))
        await stage.until(lambda: any("60,000 characters" in line for line in said(stage.app)))
        assert stage.prompt.text == ""


async def test_a_picture_that_is_gone_from_the_disk_does_not_end_the_chat() -> None:
    async with talking(playing(text("one"), text("two"))) as stage:
        await stage.attach()
        await stage.answer_to("What?")
        stage.turns[0].attachments[0].path.unlink()
        assert (await stage.answer_to("And now?")).state == "done"


async def test_a_click_on_a_message_leaves_the_prompt_to_be_typed_in() -> None:
    async with talking(playing(text("one"))) as stage:
        await stage.answer_to("Q")
        await stage.pilot.click(stage.views[1])
        await stage.type("describe")
        assert stage.prompt.text == "describe"
        assert len(stage.turns) == 2


def failing(*_: Any, **__: Any) -> Any:
    raise GgufVlError("The disk is full.", "Make room.")


async def test_what_was_changed_in_an_edit_is_the_chats_draft_when_it_is_left() -> None:
    async with talking(playing(text("one"))) as stage:
        await stage.answer_to("Q")
        before = stage.app.chat.chat_id
        await stage.pilot.press("up", "up", "e")
        await stage.until(lambda: stage.prompt.text == "Q")
        await stage.type(" and more")
        await stage.pilot.press("ctrl+n")
        await stage.until(lambda: stage.app.chat.chat_id != before)
        assert stage.prompt.text == ""
        assert stage.app.history.draft(before).text == "Q and more"


async def test_an_edit_that_cannot_be_kept_stays_in_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking(playing(text("one"))) as stage:
        await stage.answer_to("Q")
        await stage.pilot.press("up", "up", "e")
        await stage.until(lambda: stage.prompt.text == "Q")
        await stage.type("!")
        monkeypatch.setattr(stage.app.history, "edit", failing)
        await stage.pilot.press("enter")
        await stage.until(lambda: any("The disk is full" in line for line in said(stage.app)))
        assert stage.prompt.text == "Q!"
        assert stage.prompt.has_class("editing")


async def test_words_of_a_command_that_fails_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking(playing()) as stage:
        monkeypatch.setattr(stage.app.history, "set_system", failing)
        stage.prompt.text = "/system\nBe brief."
        await stage.pilot.press("enter")
        await stage.until(lambda: any("The disk is full" in line for line in said(stage.app)))
        assert stage.prompt.text == "/system Be brief."


async def test_a_home_that_there_is_not_ends_nothing() -> None:
    async with talking(playing()) as stage:
        stage.prompt.text = "/picture ~nobody-of-that-name/x.png"
        await stage.pilot.press("enter")
        await stage.until(lambda: bool(said(stage.app)))
        assert stage.app.is_running


async def test_a_question_does_not_go_without_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    read = asyncio.Event()
    from gguf_vl.tui.screens import question

    async def in_vain(*_: Any, **__: Any) -> Any:
        await read.wait()
        raise GgufVlError("broken.png is torn.", "Take another.")

    monkeypatch.setattr(question, "attach", in_vain)
    async with talking(playing(text("one"))) as stage:
        stage.app.chat.bring(SHAPES)
        await stage.until(lambda: "reading pictures" in stage.text())
        await stage.ask("What?")
        await stage.pilot.pause()
        read.set()
        await stage.until(lambda: any("torn" in line for line in said(stage.app)))
        await stage.pilot.pause()
        assert not stage.turns
        assert stage.prompt.text == "What?"


async def test_a_history_that_fails_at_a_click_or_a_search_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking(playing(text("one"), text("two"))) as stage:
        await stage.answer_to("Q")
        await stage.pilot.press("up", "r")
        await stage.until(lambda: stage.turns[-1].of == 2)
        await stage.idle()
        monkeypatch.setattr(stage.app.history, "choose", failing)
        monkeypatch.setattr(stage.app.history, "search", failing)
        stage.views[-1].action_before()
        await stage.until(lambda: len(said(stage.app)) == 1)
        stage.app.search("one")
        await stage.until(lambda: len(said(stage.app)) == 2)
        assert stage.app.is_running


async def test_where_nothing_can_be_written_the_chats_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with History() as history:
        history.question(history.new_chat().id, None, "Of yesterday")
    monkeypatch.setattr(History, "new_chat", failing)
    async with talking(playing()) as stage:
        await stage.until(lambda: "Of yesterday" in stage.text())
        assert any("The disk is full" in line for line in said(stage.app))


async def test_quitting_ends_an_import_and_the_next_start_has_nothing_of_it(tmp_path: Path) -> None:
    file = tmp_path / "many.json"
    with History() as history:
        file.write_text(json.dumps(export_of_many(history, 500)))
    async with talking(playing()) as stage:
        await stage.pilot.press("ctrl+o")
        await stage.until(lambda: isinstance(stage.app.screen, ChatsScreen))
        await stage.pilot.press("i")
        stage.app.screen.query_one("#entry-input", Input).value = str(file)
        stage.app.post_message(events.Key("enter", "\r"))
        while not _importers(stage.app.history):  # the pilot would wait for all of it
            await asyncio.sleep(0)
    with History() as history:
        assert (history.chats(), _importers(history)) == ([], [])


def _importers(history: History) -> list[str]:
    with history.reading() as rows:
        return rows.importers()
