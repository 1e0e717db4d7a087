"""The panel of a chat's system prompt and sampling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from textual.widgets import Input, Static, TextArea

from gguf_vl.catalogue import load_catalogue
from gguf_vl.chat.history import History
from gguf_vl.chat.turns import Chat
from gguf_vl.config import Settings, load_settings
from gguf_vl.runtime.models import Installed, named
from gguf_vl.tui.sampling import FIELDS, in_force
from gguf_vl.tui.screens.parameters import ParametersScreen
from tests.tui.pages import SIZES, a_chat, pressed, shown, text_of, typed
from tests.tui.talking import playing, talking
from tests.tui.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def history() -> Iterator[History]:
    with History() as opened:
        yield opened


@pytest.fixture
def chat(history: History) -> Chat:
    return a_chat(history, "What is it?")


@pytest.fixture
def installed() -> Installed:
    """A model whose publisher recommends other numbers with pictures than without."""
    return replace(named("pocket"), known=load_catalogue()["2b"])


def now(page: ParametersScreen, name: str) -> str:
    return str(page.query_one(f"#now-{name}", Static).content)


async def test_each_value_says_whence_it_comes(history: History, chat: Chat, installed: Installed) -> None:
    history.set_sampling(chat.id, {"top_k": 40})
    async with shown(lambda: ParametersScreen(chat.id), history, installed=installed) as (app, page, _):
        app.settings = Settings(top_p=0.5)
        page._show()
        assert now(page, "top_k").split() == ["40", "this", "chat"]
        assert now(page, "top_p").split() == ["0.5", "your", "setting"]
        assert now(page, "min_p").split() == ["0", "recommended"]
        assert now(page, "temperature") == "1     recommended · 0.7 with pictures"


async def test_what_is_typed_holds_at_once_and_for_this_chat_alone(
    history: History, chat: Chat, installed: Installed
) -> None:
    other = a_chat(history, "Another")
    async with shown(lambda: ParametersScreen(chat.id), history, installed=installed) as (_, page, pilot):
        await typed(pilot, "0.3")
        assert history.chat(chat.id).sampling == {"temperature": 0.3}
        assert now(page, "temperature").startswith("0.3   this chat")
        await pressed(pilot, "enter")
        await typed(pilot, "5")
        assert history.chat(chat.id).sampling == {"temperature": 0.3, "top_k": 5}
        assert history.chat(other.id).sampling == {}


@pytest.mark.parametrize("text", ["9", "warm", "nan", "-1", "1e999"])
async def test_what_cannot_be_is_told_in_a_line_and_not_kept(
    history: History, chat: Chat, installed: Installed, text: str
) -> None:
    history.set_sampling(chat.id, {"temperature": 0.5})
    async with shown(lambda: ParametersScreen(chat.id), history, installed=installed) as (app, page, pilot):
        page.query_one("#of-temperature", Input).value = text
        await pilot.pause()
        note = str(page.query_one("#parameters-note", Static).content)
        assert note == f"✗ temperature cannot be {text}: it is a number from 0 to 2."
        assert history.chat(chat.id).sampling == {"temperature": 0.5}
        await pressed(pilot, "escape")
        assert "temperature" in [each.message for each in app._notifications][-1]


async def test_ctrl_r_gives_one_field_back_and_f5_all(history: History, chat: Chat, installed: Installed) -> None:
    history.set_sampling(chat.id, {"temperature": 0.5, "top_k": 3, "seed": 7})
    async with shown(lambda: ParametersScreen(chat.id), history, installed=installed) as (_, page, pilot):
        assert page.query_one("#of-seed", Input).value == "7"
        await pressed(pilot, "ctrl+r")
        assert history.chat(chat.id).sampling == {"top_k": 3, "seed": 7}
        await pressed(pilot, "f5")
        assert history.chat(chat.id).sampling == {}
        assert page.query_one("#of-seed", Input).value == ""
        assert now(page, "seed") == "another each time"


async def test_what_others_have_set_of_the_sampling_stays(history: History, chat: Chat, installed: Installed) -> None:
    history.set_sampling(chat.id, {"frequency_penalty": 0.5})
    async with shown(lambda: ParametersScreen(chat.id), history, installed=installed) as (_, _, pilot):
        await typed(pilot, "1")
        assert history.chat(chat.id).sampling == {"frequency_penalty": 0.5, "temperature": 1.0}


async def test_the_system_prompt_is_kept_as_it_is_typed(history: History, chat: Chat) -> None:
    async with shown(lambda: ParametersScreen(chat.id), history) as (_, page, pilot):
        page.query_one(TextArea).focus()
        await typed(pilot, "Be short")
        assert history.chat(chat.id).system == "Be short"
        await pressed(pilot, "ctrl+r")
        assert history.chat(chat.id).system is None


async def test_detail_is_a_setting_of_all_chats(history: History, chat: Chat) -> None:
    async with shown(lambda: ParametersScreen(chat.id), history) as (app, page, pilot):
        page.query_one("#detail").focus()
        await pressed(pilot, "right")
        assert app.settings.detail == "high"
        assert load_settings({}).detail == "high"
        assert "[high]" in text_of(app)
        await pressed(pilot, "left", "left")
        assert app.settings.detail == "low"


async def test_a_word_of_the_detail_can_be_clicked(history: History, chat: Chat) -> None:
    async with shown(lambda: ParametersScreen(chat.id), history) as (app, page, pilot):
        page.query_one("#detail").focus()
        await pilot.pause()
        await pilot.click("#detail", offset=(1, 0))
        await pilot.pause()
        assert app.settings.detail == "low"


async def test_without_a_model_it_still_opens_and_shows_its_numbers_later(
    history: History, chat: Chat, installed: Installed
) -> None:
    async with shown(lambda: ParametersScreen(chat.id), history) as (app, page, pilot):
        assert now(page, "top_k") == "as the model recommends"
        app.model.made = type("Made", (), {"installed": installed})
        await until(pilot, lambda: "recommended" in now(page, "min_p"))


def test_at_temperature_zero_penalties_that_nobody_asked_for_do_not_hold(
    history: History, chat: Chat, installed: Installed
) -> None:
    told = in_force(chat, None, Settings(temperature=0), installed, pictures=True)
    assert told.values["presence_penalty"] == 0
    assert told.origins["presence_penalty"] == "as temperature is 0"
    asked = replace(chat, sampling={"temperature": 0.0, "presence_penalty": 1.5})
    told = in_force(asked, None, Settings(), installed, pictures=True)
    assert (told.values["presence_penalty"], told.origins["presence_penalty"]) == (1.5, "this chat")


def test_every_field_has_its_range_in_words() -> None:
    assert FIELDS[1].expected == "a whole number from 0 to 1000000"
    assert [field.name for field in FIELDS if field.read("0.5") is not None] == [
        "temperature", "top_p", "min_p", "presence_penalty", "repetition_penalty",
    ]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
async def test_the_keys_are_seen_in_any_size(
    history: History, chat: Chat, installed: Installed, size: tuple[int, int]
) -> None:
    async with shown(lambda: ParametersScreen(chat.id), history, installed=installed, size=size) as (app, page, pilot):
        screen = text_of(app)
        assert all(word in screen for word in ("temperature", "all as recommended", "done"))
        page.query_one("#detail").focus()
        await until(pilot, lambda: "[auto]" in text_of(app))


async def test_in_the_whole_app_the_next_answer_is_drawn_so() -> None:
    async with talking(playing()) as stage:
        await stage.pilot.press("ctrl+t")
        await stage.until(lambda: isinstance(stage.app.screen, ParametersScreen))
        await stage.type("0.2")
        await stage.pilot.press("escape")
        await stage.until(lambda: stage.app.screen is stage.app.chat)
        assert stage.app.history.chat(stage.app.chat.chat_id).sampling == {"temperature": 0.2}
