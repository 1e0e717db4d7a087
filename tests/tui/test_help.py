"""The screen of all keys."""

from __future__ import annotations

import pytest
from textual.widgets import Static

from gguf_vl.config import set_setting
from gguf_vl.tui.actions import ACTIONS
from gguf_vl.tui.screens.help import HelpScreen
from tests.tui.pages import SIZES, pressed, shown, text_of

pytestmark = pytest.mark.anyio


def whole(page: HelpScreen) -> str:
    return "\n".join(str(each.content) for each in page.query("#help Static").results(Static))


async def test_every_action_and_slash_command_is_there() -> None:
    async with shown(HelpScreen) as (_, page, _):
        text = whole(page)
        for action in ACTIONS:
            assert action.title in text
            assert action.name in text
            assert not action.slash or f"/{action.slash}" in text


async def test_keys_are_those_that_the_person_chose() -> None:
    set_setting("keys", "new_chat=f11")
    async with shown(HelpScreen) as (_, page, _):
        text = whole(page)
        assert "F11  New chat" in text
        assert "Ctrl+N" not in text


async def test_it_says_how_keys_are_chosen_and_how_pictures_get_in() -> None:
    async with shown(HelpScreen) as (_, page, _):
        text = whole(page)
        assert '[keys]\nnew_chat = "f11"' in text
        assert "config.toml" in text
        assert "clipboard" in text
        assert "report.pdf#3" in text
        assert "pictures, PDFs and videos" in text


@pytest.mark.parametrize("key", ["escape", "f1", "q"])
async def test_it_closes_by(key: str) -> None:
    async with shown(HelpScreen) as (app, page, pilot):
        await pressed(pilot, key)
        assert app.screen is not page


async def test_it_scrolls_to_its_end() -> None:
    async with shown(HelpScreen, size=(60, 20)) as (app, _, pilot):
        assert "Everywhere" in text_of(app)
        await pressed(pilot, "end")
        assert "/undo" in text_of(app)


@pytest.mark.parametrize("size", SIZES)
async def test_no_line_is_broken_under_its_key(size: tuple[int, int]) -> None:
    async with shown(HelpScreen, size=size) as (app, _, _):
        lines = text_of(app).splitlines()
        assert any(line.strip().startswith("Ctrl+O") and "Chats" in line for line in lines)
        assert any("Esc back" in line for line in lines)
