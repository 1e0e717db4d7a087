"""The picker, through an app that opens it, on folders made for the test."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from PIL import Image
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from gguf_vl.tui.screens import picker
from gguf_vl.tui.screens.picker import PicturePicker
from gguf_vl.tui.widgets.picture import PictureView
from tests.tui.waiting import until


class Picking(App[None]):
    AUTO_FOCUS = None
    ENABLE_COMMAND_PALETTE = False

    def __init__(self) -> None:
        super().__init__()
        self.picked: list[list[Path] | None] = []

    def pick(self, folder: Path | None = None) -> PicturePicker:
        screen = PicturePicker(folder)
        self.push_screen(screen, self.picked.append)
        return screen

    def listed(self) -> list[str]:
        names = self.screen.query_one(OptionList)
        return [str(names.get_option_at_index(at).prompt).strip() for at in range(names.option_count)]

    def chosen(self) -> str:
        at = self.screen.query_one(OptionList).highlighted
        return "" if at is None else self.listed()[at]

    def text(self) -> str:
        return "\n".join(strip.text for strip in self.screen._compositor.render_strips())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures a2, a10 and b of ascending age, a PDF, what is no picture, hidden things, and a folder with one more."""
    home = tmp_path / "home"
    (home / "Downloads").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    folder = home / "work"
    (folder / "more").mkdir(parents=True)
    (folder / ".git").mkdir()
    for age, name in enumerate(
        ("a2.png", "a10.jpg", "b.webp", "scan.PDF", "notes.txt", ".hidden.png", "more/inner.png")
    ):
        path = folder / name
        if path.suffix in (".png", ".jpg", ".webp"):
            Image.new("RGB", (320, 200), "#ff0000").save(path)
        else:
            path.write_bytes(b"nothing")
        os.utime(path, (1e9 - age, 1e9 - age))
    return folder


async def opened(pilot: Pilot[None], folder: Path | None) -> Picking:
    app = pilot.app
    assert isinstance(app, Picking)
    app.pick(folder)
    await until(pilot, lambda: isinstance(app.screen, PicturePicker) and app.screen.query(OptionList))
    await until(pilot, lambda: app.listed())
    return app


@pytest.mark.anyio
async def test_folders_come_first_and_only_what_can_be_shown_is_listed(folder: Path) -> None:
    async with Picking().run_test(size=(100, 30)) as pilot:
        app = await opened(pilot, folder)

        assert app.listed() == ["more/", "a2.png", "a10.jpg", "b.webp", "scan.PDF"]
        await pilot.press("f2")
        await until(pilot, lambda: "by name" in app.text())
        assert app.listed() == ["more/", "a2.png", "a10.jpg", "b.webp", "scan.PDF"]
        os.utime(folder / "b.webp", (2e9, 2e9))
        await pilot.press("f2", "right", "left")
        await until(pilot, lambda: app.listed()[:2] == ["more/", "b.webp"])


@pytest.mark.anyio
async def test_enter_goes_into_a_folder_and_takes_a_picture(folder: Path) -> None:
    async with Picking().run_test(size=(100, 30)) as pilot:
        app = await opened(pilot, folder)
        await pilot.press("enter")
        await until(pilot, lambda: app.listed() == ["inner.png"])
        await pilot.press("enter")
        await until(pilot, lambda: app.picked)

        assert app.picked == [[folder / "more" / "inner.png"]]


@pytest.mark.anyio
@pytest.mark.parametrize("key", ["left", "backspace"])
async def test_going_up_lands_on_the_folder_one_came_from(folder: Path, key: str) -> None:
    async with Picking().run_test(size=(100, 30)) as pilot:
        app = await opened(pilot, folder / "more")
        await pilot.press(key)
        await until(pilot, lambda: len(app.listed()) > 1)

        assert app.chosen() == "more/"


@pytest.mark.anyio
async def test_several_are_marked_with_space(folder: Path) -> None:
    async with Picking().run_test(size=(100, 30)) as pilot:
        app = await opened(pilot, folder)
        await pilot.press("down", "space", "space", "space", "up", "space")  # the last takes b's mark back
        await until(pilot, lambda: "2 marked" in app.text())
        assert app.listed()[1:4] == ["✓ a2.png", "✓ a10.jpg", "b.webp"]
        await pilot.press("enter")
        await until(pilot, lambda: app.picked)

        assert app.picked == [[folder / "a2.png", folder / "a10.jpg"]]


@pytest.mark.anyio
async def test_typing_filters_and_escape_takes_the_filter_back_first(folder: Path) -> None:
    async with Picking().run_test(size=(100, 30)) as pilot:
        app = await opened(pilot, folder)
        await pilot.press("A", "1")
        await until(pilot, lambda: app.listed() == ["a10.jpg"])
        await pilot.press("backspace")
        await until(pilot, lambda: app.listed() == ["a2.png", "a10.jpg", "scan.PDF"])
        await pilot.press("escape")
        await until(pilot, lambda: len(app.listed()) == 5)
        assert app.screen.query_one(Input).value == ""
        await pilot.press("escape")
        await until(pilot, lambda: app.picked)

        assert app.picked == [None]


@pytest.mark.anyio
async def test_the_chosen_picture_is_seen_with_its_size(folder: Path) -> None:
    async with Picking().run_test(size=(100, 30)) as pilot:
        app = await opened(pilot, folder)
        await pilot.press("down")
        await until(pilot, lambda: app.screen.query_one(PictureView).is_drawn)
        await until(pilot, lambda: "320×200" in app.text() and "▀▀▀" in app.text())
        await pilot.press("end")
        await until(pilot, lambda: "first page" in app.text() or "PDF" in app.screen.query_one(PictureView).problem)
        await pilot.press("home")
        await until(pilot, lambda: "▀▀▀" not in app.text())


@pytest.mark.anyio
async def test_a_narrow_terminal_has_the_preview_below(folder: Path) -> None:
    async with Picking().run_test(size=(60, 20)) as pilot:
        app = await opened(pilot, folder)
        await pilot.press("down")
        view = app.screen.query_one(PictureView)
        await until(pilot, lambda: view.is_drawn)
        names = app.screen.query_one(OptionList)

        assert view.region.y >= names.region.bottom
        assert names.region.height >= 6
        assert view.region.height >= 4
        assert "Esc cancel" in app.text()
        await pilot.resize_terminal(120, 30)
        await until(pilot, lambda: view.region.x >= names.region.right)


@pytest.mark.anyio
async def test_the_mouse_goes_to_a_place_and_takes_a_picture(folder: Path) -> None:
    Image.new("RGB", (20, 20)).save(folder.parent / "Downloads" / "got.png")
    async with Picking().run_test(size=(100, 30)) as pilot:
        app = await opened(pilot, folder)
        await until(pilot, lambda: "F4 Downloads" in app.text())
        assert "Pictures" not in app.text().splitlines()[2]
        await pilot.click("#place1")
        await until(pilot, lambda: app.listed() == ["got.png"])
        await pilot.click(OptionList, offset=(4, 0))
        await until(pilot, lambda: app.picked)

        assert app.picked == [[folder.parent / "Downloads" / "got.png"]]


@pytest.mark.anyio
async def test_it_begins_where_it_was_last(folder: Path) -> None:
    async with Picking().run_test(size=(100, 30)) as pilot:
        app = await opened(pilot, folder / "more")
        await pilot.press("escape")
        await until(pilot, lambda: app.picked)
        await opened(pilot, None)

        assert app.listed() == ["inner.png"]


@pytest.mark.anyio
async def test_a_folder_that_cannot_be_read_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(path: Path) -> list[picker.Entry]:
        if path.name == "more":
            raise PermissionError(13, "Permission denied")
        return entries(path)

    entries = picker.entries
    monkeypatch.setattr(picker, "entries", refuses)
    async with Picking().run_test(size=(100, 30)) as pilot:
        app = await opened(pilot, folder)
        await pilot.press("enter")
        await until(pilot, lambda: "more cannot be read: permission denied." in app.text())
        assert len(app.listed()) == 5
        await pilot.press("left")
        await until(pilot, lambda: "cannot be read" not in app.text())


@pytest.mark.anyio
async def test_a_folder_of_thousands_is_there_at_once(tmp_path: Path) -> None:
    for at in range(5000):
        (tmp_path / f"{at}.png").touch()
    async with Picking().run_test(size=(100, 30)) as pilot:
        begun = time.monotonic()
        app = await opened(pilot, tmp_path)
        assert len(app.listed()) == 5000
        await pilot.press("4", "9", "9", "9")
        await until(pilot, lambda: app.listed() == ["4999.png"])

        assert time.monotonic() - begun < 15  # under a second on a quiet machine
