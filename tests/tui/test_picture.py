"""Pictures in the terminal, through an app that shows them."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Label

from gguf_vl.media.boxes import Box, Point
from gguf_vl.tui.terminal import Protocol
from gguf_vl.tui.widgets import picture
from gguf_vl.tui.widgets.picture import PictureScreen, PictureView, system_viewer
from tests.tui.waiting import until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Red with a blue lower right quarter, 400 x 300 pixels."""
    path = tmp_path / "shapes.png"
    painted().save(path)
    return path


@pytest.fixture(autouse=True)
def all_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")


def painted(size: tuple[int, int] = (400, 300)) -> Image.Image:
    image = Image.new("RGB", size, "#ff0000")
    image.paste("#0000ff", (size[0] // 2, size[1] // 2, *size))
    return image


class Showing(App[None]):
    """Widgets in a column that scrolls, drawn by `protocol` on a terminal whose output is kept."""

    AUTO_FOCUS = None
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, *widgets: Widget, protocol: Protocol = "halfblock") -> None:
        super().__init__()
        self._shown = widgets
        self.picture_protocol = protocol
        self.picture_cell = (10, 20)
        self.told: list[str] = []

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield from self._shown

    def on_mount(self) -> None:
        assert self._driver is not None
        self._driver.write = self.told.append  # type: ignore[method-assign]

    @property
    def written(self) -> str:
        return "".join(self.told)

    def lines(self) -> list[str]:
        return [strip.text for strip in self.screen._compositor.render_strips()]

    def words(self) -> set[str]:
        return set(re.findall(r"\w+", " ".join(self.lines())))


@pytest.mark.anyio
async def test_a_picture_keeps_its_shape_within_its_room(file: Path) -> None:
    view = PictureView(file, "shapes.png", max_columns=30, max_rows=30)
    async with Showing(view).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: view.is_drawn)

        assert view.pixels == (400, 300)
        assert view.size == (30, 11)  # 300 x 220 pixels
        assert pilot.app.lines()[0].startswith("▀" * 30 + " ")  # type: ignore[attr-defined]


@pytest.mark.anyio
async def test_a_small_picture_is_not_blown_up(file: Path) -> None:
    view = PictureView(painted((60, 40)), "small")
    async with Showing(view).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: view.is_drawn)

        assert view.size == (6, 2)


@pytest.mark.anyio
async def test_what_is_known_beforehand_leaves_nothing_to_jump(file: Path) -> None:
    may_go_on = threading.Event()

    def slow() -> Path:
        may_go_on.wait(20)
        return file

    view, below = PictureView(slow, "shapes.png", pixels=(400, 300), max_columns=30), Label("below")
    app = Showing(view, below)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "▣ shapes.png 400×300" in app.lines()[0])
        before = below.region
        may_go_on.set()
        await until(pilot, lambda: view.is_drawn)

        assert below.region == before
        assert below.region.y == 11


@pytest.mark.anyio
async def test_nothing_is_read_before_it_is_in_sight(file: Path) -> None:
    read: list[int] = []

    def source(at: int) -> Path:
        read.append(at)
        return file

    views = [PictureView(lambda at=at: source(at), f"{at}", pixels=(400, 300), max_rows=10) for at in range(20)]  # type: ignore[misc]
    async with Showing(*views).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: views[0].is_drawn and views[1].is_drawn)
        assert 19 not in read
        views[19].scroll_visible(animate=False)
        await until(pilot, lambda: views[19].is_drawn)

        assert 10 not in read


@pytest.mark.anyio
async def test_of_many_pictures_only_the_last_stay_drawn(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "_MOST_KEPT", 3)
    views = [PictureView(file, f"{at}", pixels=(400, 300), max_rows=20) for at in range(8)]
    async with Showing(*views).run_test(size=(80, 24)) as pilot:
        for view in views:
            view.scroll_visible(animate=False, top=True)
            await until(pilot, lambda view=view: view.is_drawn)  # type: ignore[misc]
        assert sum(view.is_drawn for view in views) <= 4
        views[0].scroll_visible(animate=False, top=True)
        await until(pilot, lambda: views[0].is_drawn)


@pytest.mark.anyio
@pytest.mark.parametrize("content", [b"no picture at all", b"\x89PNG\r\n\x1a\nand then nothing", None])
async def test_what_cannot_be_shown_is_a_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "torn.png"
    if content is not None:
        file.write_bytes(content)
    view = PictureView(file, "torn.png")
    app = Showing(view)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: view.problem)
        await until(pilot, lambda: "▣ torn.png (cannot be shown)" in app.lines()[0])

        assert view.problem
        assert view.size.height == 1


@pytest.mark.anyio
async def test_where_nothing_works_there_is_a_line_and_nothing_is_read() -> None:
    def never() -> Path:
        raise AssertionError

    view = PictureView(never, "shapes.png", pixels=(400, 300))
    app = Showing(view, protocol="none")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "▣ shapes.png 400×300" in app.lines()[0])

        assert view.size.height == 1


@pytest.mark.anyio
async def test_boxes_have_outlines_and_their_labels_as_text(file: Path) -> None:
    view = PictureView(file, "shapes.png", boxes=[Box("blue 蓝", 200, 150, 400, 300)], max_columns=40)
    app = Showing(view)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: view.is_drawn)
        await until(pilot, lambda: any("blue 蓝" in line for line in app.lines()))
        view.boxes = ()
        await until(pilot, lambda: not any("blue 蓝" in line for line in app.lines()))


@pytest.mark.anyio
async def test_a_photo_taken_sideways_stands_upright(tmp_path: Path) -> None:
    file, exif = tmp_path / "photo.jpg", Image.Exif()
    exif[0x0112] = 6
    painted().save(file, exif=exif)
    view = PictureView(file, "photo.jpg")
    async with Showing(view).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: view.is_drawn)

        assert view.pixels == (300, 400)


@pytest.mark.anyio
async def test_a_narrower_terminal_draws_it_smaller(file: Path) -> None:
    view = PictureView(file, "shapes.png", max_columns=40)
    app = Showing(view)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: view.is_drawn and app.lines()[14].startswith("▀" * 40))
        await pilot.resize_terminal(20, 24)

        await until(pilot, lambda: app.lines()[6].startswith("▀" * 18) and not app.lines()[8].strip())


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["key", "mouse"])
async def test_it_opens_large_and_closes(file: Path, by: str) -> None:
    view = PictureView(file, "shapes.png", max_columns=20)
    app = Showing(view)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: view.is_drawn)
        if by == "key":
            view.focus()
            await pilot.press("enter")
        else:
            await pilot.click(view)
        await until(pilot, lambda: isinstance(app.screen, PictureScreen))
        large = app.screen.query_one(PictureView)
        await until(pilot, lambda: large.is_drawn)
        assert app.lines()[1].strip("▀ ") == ""
        assert app.lines()[11].count("▀") > 50
        assert "shapes.png" in app.lines()[-1]
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, PictureScreen))


@pytest.mark.anyio
async def test_kitty_gets_the_picture_once_and_forgets_it_with_the_widget(file: Path) -> None:
    view = PictureView(file, "shapes.png", pixels=(400, 300), max_columns=20)
    app = Showing(view, protocol="kitty")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "\U0010eeee" in app.lines()[0])
        assert app.written.count("a=T,U=1") == 1
        assert "c=20,r=8" in app.written
        assert app.lines()[0].count("\U0010eeee") == 20
        assert "a=d" not in app.written
        view.focus()
        await until(pilot, lambda: app.lines()[0].startswith("╭──"))
        assert app.lines()[1].startswith("│\U0010eeee")
        await view.remove()
        assert "a=d,d=I" in app.written


@pytest.mark.anyio
async def test_sixels_are_drawn_where_the_picture_stands_alone(file: Path) -> None:
    view = PictureView(file, "shapes.png", pixels=(400, 300), max_columns=20)
    app = Showing(Label("above"), view, *(Label("below") for _ in range(40)), protocol="sixel")
    async with app.run_test(size=(80, 24)) as pilot:

        def with_sixels() -> list[int]:
            return [y for y, line in enumerate(app.lines()) if "\x1bP0;1;0q" in line]

        await until(pilot, lambda: with_sixels() == list(range(1, 9)))
        view.parent.scroll_to(y=4, animate=False)  # type: ignore[union-attr]
        await until(pilot, lambda: with_sixels() == list(range(5)))  # its last five rows, each at its place
        view.parent.scroll_to(y=0, animate=False)  # type: ignore[union-attr]
        await pilot.resize_terminal(80, 6)
        await until(pilot, lambda: with_sixels() == [1, 2, 3, 4])  # not on the last line, which would scroll


@pytest.mark.anyio
async def test_large_it_has_its_boxes_and_points_too(file: Path) -> None:
    box, point = Box("blue", 200, 150, 400, 300), Point("red", 60, 60)
    view = PictureView(file, "shapes.png", boxes=[box], points=[point], max_columns=40)
    app = Showing(view)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: view.is_drawn)
        view.action_open()
        await until(pilot, lambda: isinstance(app.screen, PictureScreen) and {"blue", "red"} <= app.words())


@pytest.mark.anyio
@pytest.mark.parametrize("protocol", ["kitty", "sixel"])
async def test_boxes_are_drawn_into_pictures_of_many_pixels(file: Path, protocol: Protocol) -> None:
    plain = PictureView(file, "shapes.png", pixels=(400, 300), max_columns=20, max_rows=8)
    boxed = PictureView(
        file, "", pixels=(400, 300), max_columns=20, max_rows=8, boxes=[Box("blue", 200, 150, 400, 300)]
    )
    app = Showing(plain, boxed, protocol=protocol)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: plain.is_drawn and boxed.is_drawn)

        if protocol == "kitty":
            uploads = [said for said in app.told if "a=T" in said]
            assert len(uploads) == 2
            assert uploads[0].partition(";")[2] != uploads[1].partition(";")[2]
        else:
            await until(pilot, lambda: "\x1bP" in app.lines()[6] and "\x1bP" in app.lines()[14])
            assert len(app.lines()[14]) > len(app.lines()[6])


@pytest.mark.anyio
@pytest.mark.parametrize("protocol", ["kitty", "sixel"])
async def test_below_another_screen_a_picture_is_half_blocks(file: Path, protocol: Protocol) -> None:
    view = PictureView(file, "shapes.png", pixels=(400, 300), max_columns=20)
    app = Showing(view, protocol=protocol)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "\U0010eeee" in app.lines()[0] or "\x1bP" in app.lines()[0])
        below = app.screen
        await app.push_screen(PictureScreen(file, "shapes.png"))
        strips = below._compositor.render_strips()

        assert strips[0].text.startswith("▀" * 20)
        assert "\x1b" not in strips[0].text
        await pilot.press("escape")
        await until(pilot, lambda: "\U0010eeee" in app.lines()[0] or "\x1bP" in app.lines()[0])


def test_the_system_s_viewer_is_offered_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xdg-open").write_text("#!/bin/sh\n")
    (tmp_path / "xdg-open").chmod(0o755)
    monkeypatch.setattr("sys.platform", "linux")

    assert system_viewer({"PATH": str(tmp_path), "DISPLAY": ":0"}) == ("xdg-open",)
    assert system_viewer({"PATH": str(tmp_path)}) is None
    assert system_viewer({"PATH": str(tmp_path), "DISPLAY": ":0", "SSH_TTY": "/dev/pts/0"}) is None
    assert system_viewer({"PATH": "", "DISPLAY": ":0"}) is None
    monkeypatch.setattr("sys.platform", "darwin")
    assert system_viewer({"PATH": ""}) == ("open",)


def test_what_pictures_need_is_not_imported_before_there_is_one() -> None:
    program = """
import sys
import gguf_vl.tui.terminal, gguf_vl.tui.screens.picker
print(sorted({"PIL", "numpy", "textual_image", "pypdfium2", "psutil"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
