"""The screen of all chats."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pytest
from textual.content import Content
from textual.widgets import Input, OptionList

from gguf_vl.chat.export import files
from gguf_vl.chat.export.files import Form
from gguf_vl.chat.history import History
from gguf_vl.chat.turns import Hit
from gguf_vl.tui import when
from gguf_vl.tui.screens.chats import ChatsScreen
from gguf_vl.tui.screens.deleted import DeletedScreen
from gguf_vl.tui.screens.exporting import ExportScreen, read_chats
from gguf_vl.tui.widgets.entry import Entry
from gguf_vl.tui.widgets.rows import Row, marked
from tests.tui.pages import SIZES, a_chat, pressed, rows, said, settled, shown, text_of, typed
from tests.tui.talking import playing, talking
from tests.tui.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def history() -> Iterator[History]:
    with History() as opened:
        yield opened


def titles(page: ChatsScreen) -> list[str]:
    return [row.strip().split("  ")[0] for row in rows(page)]


async def test_pinned_chats_stand_first_and_then_the_latest(history: History) -> None:
    first, _, _ = a_chat(history, "old"), a_chat(history, "middle"), a_chat(history, "new")
    history.pin(first.id, True)
    async with shown(ChatsScreen, history) as (app, page, _):
        assert titles(page) == ["old", "new", "middle"]
        screen = text_of(app)
        assert screen.index("Pinned") < screen.index("old") < screen.index("Today") < screen.index("new")
        assert "3 chats" in screen


async def test_a_row_says_when_it_was_and_how_many_turns_there_are(history: History) -> None:
    a_chat(history, "How many?", "Three.", "Sure?")
    async with shown(ChatsScreen, history) as (_, page, _):
        assert "3 turns" in rows(page)[0]
        assert time.strftime("%H:%M", time.localtime(history.chats()[0].updated)) in rows(page)[0]


def test_days_are_called_as_one_calls_them() -> None:
    today = date(2026, 11, 22)  # a Sunday

    def noon(*day: int) -> float:
        return datetime(*day, 12).timestamp()  # type: ignore[arg-type]

    assert when.group(noon(2026, 11, 22), today) == "Today"
    assert when.group(noon(2026, 11, 21), today) == "Yesterday"
    assert when.group(noon(2026, 11, 16), today) == "Monday"
    assert when.group(noon(2026, 11, 15), today) == "November 2026"
    assert when.short(noon(2026, 11, 16), today) == "12:00"
    assert when.short(noon(2026, 11, 5), today) == "5 Nov"


async def test_enter_opens_the_highlighted_chat(history: History) -> None:
    older, _ = a_chat(history, "older"), a_chat(history, "newer")
    async with shown(ChatsScreen, history) as (app, _, pilot):
        await pressed(pilot, "down", "enter")
        assert app.opened == [(older.id, None)]


async def test_a_click_opens_a_chat(history: History) -> None:
    chat = a_chat(history, "older")
    a_chat(history, "newer")
    async with shown(ChatsScreen, history) as (app, _, pilot):
        await pilot.click(OptionList, offset=(10, 2))  # below the heading and the newer one
        await pilot.pause()
        assert app.opened == [(chat.id, None)]


async def test_typing_searches_what_was_said_and_enter_opens_it_there(history: History) -> None:
    a_chat(history, "What is it?", "A cat on a mat.")
    chat = a_chat(history, "And this one?", "Receipt: the total is 42.50, tax included.")
    answer = history.turns(chat.id)[1]
    async with shown(lambda: ChatsScreen(searching=True), history) as (app, page, pilot):
        await typed(pilot, "TOTAL tax")
        await until(pilot, lambda: len(rows(page)) == 1)
        assert "And this one?" in rows(page)[0]
        assert "Receipt: the total is 42.50" in rows(page)[0]
        await pressed(pilot, "enter")
        assert app.opened == [(chat.id, answer.id)]


async def test_the_words_that_were_found_are_bold_and_underlined(history: History) -> None:
    a_chat(history, "Where is the lighthouse on this picture?")
    async with shown(lambda: ChatsScreen(searching=True, words="lighthouse"), history) as (app, page, pilot):
        await until(pilot, lambda: len(rows(page)) == 1)
        marked_segments = [
            segment.text
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.style and segment.style.bold and segment.style.underline
        ]
        assert "lighthouse" in marked_segments


def test_what_was_found_is_seen_in_a_narrow_line_too() -> None:
    text = "many words that nobody asked for before the one needle"
    shown_text = marked(text, ((text.index("needle"), len(text)),))
    assert shown_text.cell_length <= 40
    assert [shown_text.plain[span.start : span.end] for span in shown_text.spans] == ["needle"]
    chinese = "一" * 60 + "灯塔" + "二" * 60
    shown_text = marked(chinese, ((60, 62),))
    assert [shown_text.plain[span.start : span.end] for span in shown_text.spans] == ["灯塔"]
    assert shown_text.plain.index("灯塔") < 30


async def test_the_latest_search_wins_whichever_ends_last(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = a_chat(history, "abc")
    hold, search = threading.Event(), history.search
    asked: list[str] = []

    def slow(query: str, *, limit: int = 50) -> list[Hit]:
        asked.append(query)
        if query == "a":
            hold.wait(20)
            return [Hit(chat, None, None, "the first search", ())]
        return search(query, limit=limit)

    monkeypatch.setattr(history, "search", slow)
    async with shown(lambda: ChatsScreen(searching=True), history) as (_, page, pilot):
        await pilot.press("a")
        await until(pilot, lambda: "a" in asked)
        await typed(pilot, "bc")
        await until(pilot, lambda: "abc" in asked and len(rows(page)) == 1)
        hold.set()
        await settled(pilot)
        assert "the first search" not in rows(page)[0]


async def test_searching_for_nothing_that_was_said_says_so(history: History) -> None:
    a_chat(history, "hello")
    async with shown(lambda: ChatsScreen(searching=True), history) as (app, page, pilot):
        await typed(pilot, '"zzz* OR (')
        assert rows(page) == []
        assert "Nothing of that was said." in text_of(app)
        await pressed(pilot, "escape")
        await until(pilot, lambda: len(rows(page)) == 1)


async def test_a_chat_is_renamed_where_it_stands(history: History) -> None:
    chat = a_chat(history, "What?")
    async with shown(ChatsScreen, history) as (_, page, pilot):
        await pressed(pilot, "r")
        assert page.query_one("#entry-input", Input).value == "What?"
        await typed(pilot, "Invoices")  # what was there is selected
        await pressed(pilot, "enter")
        assert titles(page) == ["Invoices"]
        assert history.chat(chat.id).title == "Invoices"
        assert page.focused is page.query_one(OptionList)


async def test_escape_leaves_the_title_as_it_was(history: History) -> None:
    chat = a_chat(history, "What?")
    async with shown(ChatsScreen, history) as (app, page, pilot):
        await pressed(pilot, "r", "x", "escape")
        assert history.chat(chat.id).title == "What?"
        assert not page.query_one(Entry).display
        assert app.screen is page


async def test_a_chat_is_pinned_and_unpinned(history: History) -> None:
    older, _ = a_chat(history, "older"), a_chat(history, "newer")
    async with shown(ChatsScreen, history) as (_, page, pilot):
        await pressed(pilot, "down", "p")
        assert titles(page) == ["older", "newer"]
        assert history.chat(older.id).pinned
        await pressed(pilot, "p")
        assert titles(page) == ["newer", "older"]


async def test_a_deleted_chat_stays_struck_through_until_it_is_brought_back(history: History) -> None:
    chat = a_chat(history, "precious")
    async with shown(ChatsScreen, history) as (app, page, pilot):
        await pressed(pilot, "d")
        assert history.chats() == []
        assert "deleted" in rows(page)[0]
        assert "u brings it back" in said(app)[-1]
        await pressed(pilot, "enter")
        assert app.opened == []
        await pressed(pilot, "u")
        assert [each.id for each in history.chats()] == [chat.id]
        assert "deleted" not in rows(page)[0]


async def test_what_was_deleted_some_time_ago_is_seen_and_brought_back(history: History) -> None:
    lost, wanted = a_chat(history, "lost"), a_chat(history, "wanted")
    history.delete_chat(wanted.id)
    history.delete_chat(lost.id)
    a_chat(history, "here")
    async with shown(ChatsScreen, history) as (app, page, pilot):
        assert titles(page) == ["here"]
        await pressed(pilot, "d", "D")
        assert isinstance(app.screen, DeletedScreen)
        assert [row.split()[0] for row in rows(app.screen)] == ["here", "lost", "wanted"]
        assert "3 chats, kept for 30 days" in text_of(app)
        await pressed(pilot, "down", "down", "u")
        assert [row.split()[0] for row in rows(app.screen)] == ["here", "lost"]
        assert said(app)[-1] == "Back again: wanted"
        await pressed(pilot, "escape")
        assert titles(page) == ["wanted"]


async def test_where_nothing_is_deleted_the_list_says_what_it_is_for(history: History) -> None:
    async with shown(DeletedScreen, history) as (app, _, pilot):
        await pressed(pilot, "u", "enter")
        assert "kept here for 30 days" in text_of(app)


async def test_a_chat_that_is_deleted_is_left(history: History) -> None:
    chat = a_chat(history, "gone")
    async with shown(ChatsScreen, history, current=chat.id) as (app, _, pilot):
        await pressed(pilot, "d")
        assert app.left == [chat.id]


async def test_a_full_disk_is_told_and_nothing_changes_on_the_screen(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gguf_vl.errors import GgufVlError

    a_chat(history, "stays")

    def full(chat_id: int) -> None:
        raise GgufVlError("The disk is full.", "Make room on it.")

    monkeypatch.setattr(history, "delete_chat", full)
    async with shown(ChatsScreen, history) as (app, page, pilot):
        await pressed(pilot, "d")
        assert said(app)[-1] == "The disk is full. Make room on it."
        assert "deleted" not in rows(page)[0]


@pytest.mark.parametrize(("downs", "ending"), [(0, ".md"), (1, ".html"), (2, ".json")])
async def test_a_chat_is_exported_to_the_folder_typed(
    history: History, tmp_path: Path, downs: int, ending: str
) -> None:
    a_chat(history, "What is it?", "A boat.")
    target = tmp_path / "out" / "deep"
    async with shown(ChatsScreen, history) as (app, _, pilot):
        await pressed(pilot, "x")
        assert isinstance(app.screen, ExportScreen)
        app.screen.query_one(Input).value = str(target)
        await pilot.press(*["down"] * downs, "enter")
        await until(pilot, lambda: not isinstance(app.screen, ExportScreen))
        (file,) = (each for each in target.iterdir() if each.suffix == ending)
        assert "A boat." in file.read_text(encoding="utf-8")
        assert str(file) in said(app)[-1]


async def test_a_folder_that_cannot_be_written_is_told_in_the_dialogue(history: History, tmp_path: Path) -> None:
    a_chat(history, "What is it?")
    (tmp_path / "file").touch()
    async with shown(ChatsScreen, history) as (app, _, pilot):
        await pressed(pilot, "x")
        app.screen.query_one(Input).value = str(tmp_path / "file")
        await pressed(pilot, "enter")
        await until(pilot, lambda: "cannot be written" in text_of(app))
        await pressed(pilot, "escape")
        assert isinstance(app.screen, ChatsScreen)


async def test_what_was_exported_can_be_imported(history: History, tmp_path: Path) -> None:
    chat = a_chat(history, "Round trip?", "Yes.")
    file = files.write(history, chat.id, Form.JSON, tmp_path)
    history.delete_chat(chat.id)
    async with shown(ChatsScreen, history) as (app, page, pilot):
        await pressed(pilot, "i")
        page.query_one("#entry-input", Input).value = f"'{file}'"
        await pressed(pilot, "enter")
        await until(pilot, lambda: titles(page) == ["Round trip?"])
        assert said(app)[-1] == "1 chat imported."


async def test_a_file_that_is_no_export_is_told_where_it_was_typed(history: History, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(json.dumps({"some": "thing"}))
    async with shown(ChatsScreen, history) as (app, page, pilot):
        await pressed(pilot, "i")
        page.query_one("#entry-input", Input).value = str(file)
        await pressed(pilot, "enter")
        await until(pilot, lambda: "✗" in text_of(app))
        assert page.query_one(Entry).display


def test_a_home_folder_may_be_typed_as_one_does(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = files.write(history, a_chat(history, "Home").id, Form.JSON, tmp_path)
    assert read_chats(history, f"~/{file.name}")[0].title == "Home"


async def test_a_thousand_chats_open_at_once(history: History) -> None:
    for number in range(1000):
        a_chat(history, f"Question {number}")
    async with shown(ChatsScreen, history) as (_, page, pilot):
        started = time.process_time()
        page._load()
        await settled(pilot)
        assert len(rows(page)) == 1000
        assert time.process_time() - started < 1  # 0.1 s on a quiet machine
        await pressed(pilot, "end")
        assert page.query_one(OptionList).highlighted_option is not None


def test_a_row_fits_any_width_and_wide_letters_count_twice() -> None:
    from textual.style import Style
    from textual.visual import RenderOptions

    row = Row((Content("这张图里有什么 and a long title"), Content("3 turns")))
    options = RenderOptions(lambda _: Style(), {})
    for width in (6, 12, 20, 40, 80):
        (strip,) = row.render_strips(width, None, Style(), options)
        assert strip.cell_length == width


@pytest.mark.parametrize("size", SIZES)
async def test_the_keys_stand_at_the_foot_in_any_size(history: History, size: tuple[int, int]) -> None:
    a_chat(history, "这张图里有什么？" * 10)
    async with shown(ChatsScreen, history, size=size) as (app, _, _):
        screen = text_of(app)
        for word in ("open", "search", "rename", "pin", "delete", "undo", "deleted", "export", "import", "new", "back"):
            assert word in screen


async def test_a_key_at_the_foot_can_be_clicked(history: History) -> None:
    a_chat(history, "What?")
    async with shown(ChatsScreen, history) as (app, page, pilot):
        lines = text_of(app).splitlines()
        y = next(number for number, line in enumerate(lines) if "rename" in line)
        await pilot.click(offset=(lines[y].index("rename") + 1, y))
        await pilot.pause()
        assert page.query_one(Entry).display


async def test_in_the_whole_app_a_found_turn_is_shown_in_its_chat() -> None:
    history = History()
    chat = a_chat(history, "What is on the pier?", "A lighthouse.")
    a_chat(history, "Something else?", "Yes.")
    async with talking(playing(), history=history) as stage:
        await stage.pilot.press("ctrl+s")
        await stage.until(lambda: isinstance(stage.app.screen, ChatsScreen))
        await stage.type("lighthouse")
        await stage.until(lambda: "A lighthouse." in stage.text() and "1 found" in stage.text())
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.app.screen is stage.app.chat)
        assert stage.app.chat.chat_id == chat.id
