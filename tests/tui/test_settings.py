"""The screen of all settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input, Static

from gguf_vl.config import NAMES, described, load_settings, set_setting
from gguf_vl.tui.screens.settings import HOLD_AT_ONCE, SettingsScreen
from gguf_vl.tui.widgets.entry import Entry
from tests.tui.pages import SIZES, pressed, rows, said, shown, text_of, typed
from tests.tui.talking import playing, talking

pytestmark = pytest.mark.anyio


def row(page: SettingsScreen, name: str) -> list[str]:
    return next(each.split() for each in rows(page) if each.split()[0] == name)


def help_of(page: SettingsScreen) -> str:
    return str(page.query_one("#settings-help", Static).content)


def test_every_setting_says_what_it_is_for() -> None:
    told = described()
    assert tuple(told) == NAMES
    assert told["ctx"].help == "Context size in tokens."
    assert told["detail"].words == ("low", "auto", "high")
    assert told["offline"].words == ("true", "false")
    assert told["reserve"].is_size
    assert all(each.help and each.expected for each in told.values())


async def test_all_settings_are_there_with_value_and_origin(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    set_setting("ctx", "8192")
    monkeypatch.setenv("GGUF_VL_TEMPERATURE", "0.2")
    async with shown(SettingsScreen) as (app, page, _):
        assert [each.split()[0] for each in rows(page)] == list(NAMES)
        assert row(page, "ctx") == ["ctx", "8192", "config.toml"]
        assert row(page, "temperature") == ["temperature", "0.2", "GGUF_VL_TEMPERATURE"]
        assert row(page, "disk_cache") == ["disk_cache", "4G", "default"]
        assert str(home)[-20:] in text_of(app)


async def test_a_setting_is_changed_where_it_stands() -> None:
    async with shown(SettingsScreen) as (app, page, pilot):
        await typed(pilot, "/max_tok")
        await pressed(pilot, "enter", "enter")
        await typed(pilot, "256")
        await pressed(pilot, "enter")
        assert load_settings({}).max_tokens == 256
        assert app.settings.max_tokens == 256
        assert row(page, "max_tokens") == ["max_tokens", "256", "config.toml"]


async def test_a_value_that_cannot_be_is_told_and_can_be_mended() -> None:
    async with shown(SettingsScreen) as (app, page, pilot):
        await typed(pilot, "/ctx")
        await pressed(pilot, "enter", "enter")
        await typed(pilot, "7")
        await pressed(pilot, "enter")
        assert "not a whole number from 256 to 1048576" in text_of(app).replace("\n", "")
        assert load_settings({}).ctx is None
        await typed(pilot, "168")
        await pressed(pilot, "enter")
        assert load_settings({}).ctx == 7168
        assert not page.query_one(Entry).display


async def test_what_needs_another_start_says_so() -> None:
    async with shown(SettingsScreen) as (app, page, pilot):
        await typed(pilot, "/kv_type")
        await pressed(pilot, "enter")
        assert "Holds from the next start." in help_of(page)
        await pressed(pilot, "space")
        assert "next start" in said(app)[-1]
        assert load_settings({}).kv_type is not None


def test_what_is_said_to_hold_at_once_is_a_setting() -> None:
    assert set(NAMES) > HOLD_AT_ONCE


async def test_space_goes_through_the_words_and_delete_takes_the_setting_out() -> None:
    async with shown(SettingsScreen) as (app, page, pilot):
        await typed(pilot, "/detail")
        assert row(page, "detail") == ["detail", "auto", "default"]
        await pressed(pilot, "enter", "space")
        assert app.settings.detail == "high"
        await pressed(pilot, "space")
        assert app.settings.detail == "low"
        await pressed(pilot, "delete")
        assert app.settings.detail == "auto"
        assert row(page, "detail") == ["detail", "auto", "default"]


async def test_a_setting_given_at_the_start_says_so_until_it_is_changed() -> None:
    async with shown(SettingsScreen) as (app, page, _):
        app.settings = load_settings({"max_tokens": 5})
        page._show()
        assert row(page, "max_tokens")[1:] == ["5", "given", "at", "the", "start"]


async def test_a_variable_that_will_override_the_file_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGUF_VL_SEED", "1")
    async with shown(SettingsScreen) as (_, page, pilot):
        await typed(pilot, "/seed")
        await pressed(pilot, "enter", "enter")
        await typed(pilot, "2")
        await pressed(pilot, "enter")
        assert row(page, "seed") == ["seed", "2", "config.toml"]
        assert "At the next start GGUF_VL_SEED overrides it with 1." in help_of(page)


async def test_a_theme_is_seen_at_once_and_one_that_is_none_is_refused() -> None:
    async with shown(SettingsScreen) as (app, _, pilot):
        await typed(pilot, "/theme")
        await pressed(pilot, "enter", "enter")
        await typed(pilot, "purple")
        await pressed(pilot, "enter")
        assert "There is no theme 'purple'." in text_of(app)
        app.screen.query_one("#entry-input", Input).value = "nord"
        await pressed(pilot, "enter")
        assert (app.theme, load_settings({}).theme) == ("nord", "nord")


async def test_keys_of_no_action_are_refused_before_they_are_written() -> None:
    async with shown(SettingsScreen) as (app, _, pilot):
        await typed(pilot, "/keys")
        await pressed(pilot, "enter", "enter")
        await typed(pilot, "nwe_chat=f11")
        await pressed(pilot, "enter")
        assert "Did you mean new_chat?" in " ".join(text_of(app).split())
        assert load_settings({}).keys == {}


async def test_a_file_broken_by_hand_is_told_in_the_list(home: Path) -> None:
    async with shown(SettingsScreen) as (_, page, _):
        (home / "config.toml").write_text("ctx = = 3")
        page._show()
        assert "are not TOML" in str(page.query_one("#settings-list").options[0].prompt)  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", SIZES)
async def test_it_fits_any_size(size: tuple[int, int]) -> None:
    async with shown(SettingsScreen, size=size) as (app, _, _):
        screen = text_of(app)
        assert all(word in screen for word in ("model", "default", "change", "take out", "back"))


async def test_in_the_whole_app_a_setting_holds_for_the_next_answer() -> None:
    async with talking(playing()) as stage:
        await stage.pilot.press("f9")
        await stage.until(lambda: isinstance(stage.app.screen, SettingsScreen))
        await stage.pilot.press("slash")
        await stage.type("seed")
        await stage.pilot.press("enter", "enter")
        await stage.type("42")
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.app.settings.seed == 42)
