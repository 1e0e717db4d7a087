"""What is logged behind the screens, and the screen of it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Input, RichLog, Static

from gguf_vl.tui import log
from gguf_vl.tui.log import FILE_BYTES, MOST, Kept
from gguf_vl.tui.screens.logs import LogsScreen
from tests.tui.pages import SIZES, pressed, shown, text_of, typed
from tests.tui.waiting import until

pytestmark = pytest.mark.anyio
logger = logging.getLogger("gguf_vl.engine")


@pytest.fixture
def kept() -> Iterator[Kept]:
    root = logging.getLogger("gguf_vl")
    level = root.level
    root.setLevel(logging.NOTSET)
    yield log.keep()
    log.stop()
    root.setLevel(level)


def lines(page: LogsScreen) -> list[str]:
    return [strip.text.rstrip() for strip in page.query_one(RichLog).lines]


def test_the_latest_records_are_kept_and_no_more(kept: Kept) -> None:
    for number in range(MOST + 10):
        logger.info("record %d", number)
    assert len(kept.lines) == MOST
    assert (kept.lines[0].text, kept.lines[-1].text) == ("record 10", f"record {MOST + 9}")


def test_the_file_is_in_the_cache_and_never_grows_beyond_two_pieces(kept: Kept, home: Path) -> None:
    for _ in range(300):
        logger.warning("x" * 10_000)
    folder = home / "cache" / "log"
    assert kept.path == folder / "tui.log"
    assert sorted(each.name for each in folder.iterdir()) == ["tui.log", "tui.log.1"]
    assert all(each.stat().st_size <= FILE_BYTES for each in folder.iterdir())


def test_keeping_twice_is_keeping_once(kept: Kept) -> None:
    assert log.keep() is kept


def test_a_log_that_cannot_be_written_stops_nobody(kept: Kept, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(home / "cache")
    (home / "cache").write_text("a file where a folder should be")
    logger.error("something")
    assert kept.lines[-1].text == "something"
    assert "is not written" in kept.failure
    assert capsys.readouterr() == ("", "")


def test_a_slip_in_a_record_stops_nobody(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    kept.handle(logging.LogRecord("gguf_vl", logging.WARNING, __file__, 1, "%d", ("three",), None))
    assert "three" in kept.lines[-1].text
    assert "three" in kept.path.read_text()
    assert capsys.readouterr() == ("", "")


def test_a_traceback_is_kept_with_its_record(kept: Kept) -> None:
    try:
        raise ValueError("the cause")
    except ValueError:
        logger.exception("it failed")
    assert "ValueError: the cause" in kept.lines[-1].text
    assert "ValueError: the cause" in kept.path.read_text()


async def test_the_newest_stands_last_and_what_comes_is_followed(kept: Kept) -> None:
    for number in range(100):
        logger.info("record %d", number)
    async with shown(LogsScreen) as (app, page, pilot):
        await until(pilot, lambda: "record 99" in text_of(app))
        logger.warning("this came later")
        await until(pilot, lambda: "this came later" in text_of(app))
        assert " W engine: this came later" in lines(page)[-1]
        await pressed(pilot, "f")
        for number in range(50):
            logger.info("unseen %d", number)
        await until(pilot, lambda: len(lines(page)) == 151)
        assert "unseen 49" not in text_of(app)
        await pressed(pilot, "f")
        await until(pilot, lambda: "unseen 49" in text_of(app))


async def test_levels_and_words_leave_lines_out(kept: Kept) -> None:
    logger.info("loading the model")
    logger.warning("a slow disk")
    logger.error("the model is damaged")
    async with shown(LogsScreen) as (_, page, pilot):
        await until(pilot, lambda: len(lines(page)) == 3)
        await pressed(pilot, "w")
        assert [line[9] for line in lines(page)] == ["W", "E"]
        await pressed(pilot, "e")
        assert [line[9] for line in lines(page)] == ["E"]
        await pressed(pilot, "i")
        await typed(pilot, "/MODEL")
        assert [line[9] for line in lines(page)] == ["I", "E"]
        await pressed(pilot, "escape")
        assert page.query_one(Input).value == ""
        await until(pilot, lambda: len(lines(page)) == 3)


async def test_everything_is_logged_once_it_was_asked_for(kept: Kept) -> None:
    logger.debug("too small to be kept")
    async with shown(LogsScreen) as (_, page, pilot):
        await pressed(pilot, "d")
        logger.debug("a detail")
        await until(pilot, lambda: any("D engine: a detail" in line for line in lines(page)))
        assert not any("too small" in line for line in lines(page))


async def test_c_copies_what_is_shown(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr("gguf_vl.media.clipboard.copy", lambda text: bool(copied.append(text)))
    logger.info("one")
    logger.error("two")
    async with shown(LogsScreen) as (app, _, pilot):
        await pressed(pilot, "e", "c")
        await until(pilot, lambda: copied)
        assert copied[0].endswith("E engine: two")
        assert app.clipboard == copied[0]
        assert "one" not in copied[0]


@pytest.mark.parametrize("size", SIZES)
async def test_long_lines_are_broken_where_the_screen_ends(kept: Kept, size: tuple[int, int]) -> None:
    logger.info("word " * 60 + "end")
    async with shown(LogsScreen, size=size) as (app, page, pilot):
        await until(pilot, lambda: "end" in text_of(app))
        assert "tui.log" in str(page.query_one("#log-path", Static).content)
        await until(pilot, lambda: all(len(line) <= size[0] for line in lines(page)))
        await pilot.resize_terminal(100, 30)
        await until(pilot, lambda: max(map(len, lines(page))) > 80)
