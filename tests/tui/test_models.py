"""The screen of models, driven by keys and mouse: what is here, what fits, and fetching, verifying and removing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from textual.widgets import Static

from gguf_vl import paths
from gguf_vl.errors import DoesNotFit
from gguf_vl.store import library
from gguf_vl.tui.model import Made
from gguf_vl.tui.screens.models import ModelsScreen
from gguf_vl.tui.screens.removing import RemoveScreen
from gguf_vl.tui.widgets.bars import PlanBars
from tests.hub.faults import Flip, Hold
from tests.hub.server import Hub
from tests.tui.shelf import SIZE, TEXT, pulling, tiny_hub, until
from tests.tui.small import SIZES, SmallApp

pytestmark = pytest.mark.anyio


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with tiny_hub(monkeypatch) as hub:
        yield hub


def screen(app: SmallApp) -> ModelsScreen:
    [found] = [each for each in app.screen_stack if isinstance(each, ModelsScreen)]
    return found


def cells(app: SmallApp, name: str) -> list[str]:
    """A row as a person reads it; empty where there is none."""
    table = screen(app)._table
    rows = [each.value for each in table.rows]
    return [str(cell).strip() for cell in table.get_row(name)] if name in rows else []


def state(app: SmallApp, name: str) -> str:
    return cells(app, name)[-1] if cells(app, name) else ""


async def highlight(app: SmallApp, name: str) -> None:
    await until(lambda: cells(app, name))
    screen(app)._table.move_cursor(row=screen(app)._table.get_row_index(name))
    await until(lambda: screen(app).highlighted is not None and screen(app).highlighted.name == name)  # type: ignore[union-attr]


def said(app: SmallApp, id: str) -> str:
    return str(screen(app).query_one(id, Static).visual)


def keys(app: SmallApp) -> dict[str, str]:
    """What the foot of the screen lists."""
    return {key: found.binding.description for key, found in app.screen.active_bindings.items() if found.binding.show}


@pytest.mark.parametrize("size", SIZES)
async def test_every_model_says_whether_it_fits_and_how_fast_it_would_be(size: tuple[int, int]) -> None:
    app = SmallApp(ModelsScreen)
    async with app.run_test(size=size):
        await until(lambda: state(app, "pocket") == "in use")
        await until(lambda: cells(app, "pocket")[3:4] == ["yes"])  # the last one: llama.cpp is asked of it
        assert cells(app, "pocket")[:4] == ["● pocket", "F16", "7.8 MB", "yes"]
        assert cells(app, "4b") == ["★ 4b", "Q4_K_M", "2.95 GB", "tight", "79", "suits best"]
        assert cells(app, "8b-thinking:f16")[2] == "≈17.5 GB"


async def test_of_the_highlighted_one_it_says_what_takes_how_much_and_why() -> None:
    app = SmallApp(ModelsScreen)
    async with app.run_test(size=(80, 24)):
        await highlight(app, "4b")
        await until(lambda: "tokens a second" in said(app, "#why"))
        assert "It runs on the GPU at some 79 tokens a second" in said(app, "#why")
        bars = screen(app).query_one(PlanBars).render().plain
        for word in ("RAM", "CUDA0", "weights", "KV", "compute", "projector", "encode", "embeddings", "free"):
            assert word in bars
        assert max(map(len, bars.splitlines())) <= 78
        await highlight(app, "8b:f16")
        await until(lambda: screen(app).query_one(PlanBars).plan is None and "8b:f16" in said(app, "#title"))
        await until(lambda: "GiB" in said(app, "#why"))


async def test_a_model_that_is_not_here_is_fetched_paused_resumed_and_used(hub: Hub) -> None:
    hold = Hold(after=2_000_000)
    hub.inject(TEXT, hold)
    app = SmallApp(ModelsScreen)
    async with app.run_test(size=(80, 24)) as pilot:
        await highlight(app, "tiny")
        assert keys(app) == {"enter": "Use", "p": "Pull", "escape": "Back"}
        await pilot.press("enter")
        await until(lambda: "%" in state(app, "tiny"))
        await until(lambda: keys(app).get("p") == "Pause")
        assert "fetching" in said(app, "#downloads")
        await pilot.press("p")
        await until(lambda: state(app, "tiny").startswith("paused"))
        assert keys(app)["p"] == "Resume"
        await pilot.press("p")
        hold.release.set()
        await until(lambda: state(app, "tiny") == "here")
        first, second = hub.asked(TEXT)[0], hub.asked(TEXT)[-1]
        assert first != second
        assert second is not None
        assert second[0] > 0
        assert "tiny is installed and verified" in said(app, "#downloads")
        assert app.switched == []
        await until(lambda: screen(app).highlighted is not None)
        assert screen(app).highlighted.name == "tiny"  # type: ignore[union-attr]
        await pilot.press("enter")
        await until(lambda: app.model.name == "tiny" and app.model.state == "ready")
        assert app.switched == ["tiny"]
        assert not isinstance(app.screen, ModelsScreen)


async def test_a_model_is_verified_and_a_damaged_one_is_shown(hub: Hub) -> None:
    app = SmallApp(ModelsScreen)
    async with app.run_test(size=(80, 24)) as pilot:
        await highlight(app, "tiny")
        await pilot.press("p")
        await until(lambda: state(app, "tiny") == "here")
        file = library.installed("tiny").model
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        await pilot.press("v")
        await until(lambda: "is damaged" in said(app, "#downloads"))
        assert state(app, "tiny") == "failed"


async def test_before_a_model_is_removed_it_asks(hub: Hub) -> None:
    app = SmallApp(ModelsScreen)
    async with app.run_test(size=(80, 24)) as pilot:
        await highlight(app, "tiny")
        await pilot.press("p")
        await until(lambda: state(app, "tiny") == "here")
        await pilot.press("d")
        await until(lambda: isinstance(app.screen, RemoveScreen))
        assert "frees 7.8 MB" in str(app.screen.query_one(Static).visual)
        await pilot.press("enter")  # the harmless answer has the focus
        await until(lambda: isinstance(app.screen, ModelsScreen))
        assert library.installed("tiny")
        await pilot.press("d")
        await until(lambda: isinstance(app.screen, RemoveScreen))
        await pilot.click("#remove")
        await until(lambda: state(app, "tiny") == "" and cells(app, "tiny"))
        assert [each.name for each in library.scan()] == ["pocket"]


async def test_what_has_arrived_of_a_paused_pull_can_be_removed(hub: Hub) -> None:
    hold = Hold(after=2_000_000)
    hub.inject(TEXT, hold)
    app = SmallApp(ModelsScreen)
    async with app.run_test(size=(80, 24)) as pilot:
        await highlight(app, "tiny")
        await pilot.press("p")
        await until(lambda: "%" in state(app, "tiny"))
        await pilot.press("p")
        hold.release.set()
        await until(lambda: "d" in keys(app) and not pulling())
        await pilot.press("d")
        await until(lambda: isinstance(app.screen, RemoveScreen))
        await pilot.press("y")
        await until(lambda: isinstance(app.screen, ModelsScreen) and state(app, "tiny") == "")
        await until(lambda: not list(paths.models_dir().glob(".pull-*")))


async def test_the_model_in_use_and_pocket_are_not_removed(hub: Hub) -> None:
    app = SmallApp(ModelsScreen)
    async with app.run_test(size=(80, 24)) as pilot:
        await highlight(app, "pocket")
        await until(lambda: state(app, "pocket") == "in use")
        assert keys(app) == {"enter": "Use", "v": "Verify", "escape": "Back"}
        app.downloads.pull("tiny")
        await until(lambda: state(app, "tiny") == "here")
        app.switch_model("tiny")
        await until(lambda: state(app, "tiny") == "in use")
        await highlight(app, "tiny")
        await pilot.press("d")
        await until(lambda: len(app._notifications) > 0)
        assert isinstance(app.screen, ModelsScreen)
        assert library.installed("tiny")


async def test_a_failed_download_says_why_and_is_tried_again(hub: Hub) -> None:
    hub.inject(TEXT, Flip(1_000_000), Flip(1_000_000))
    app = SmallApp(ModelsScreen)
    async with app.run_test(size=(160, 50)) as pilot:
        await highlight(app, "tiny")
        await pilot.press("p")
        await until(lambda: state(app, "tiny") == "failed")
        assert "is not what was promised" in said(app, "#downloads")
        await until(lambda: keys(app).get("p") == "Resume")
        await pilot.press("p")
        await until(lambda: state(app, "tiny") == "here")
        assert library.installed("tiny").n_bytes == sum(SIZE.values())


async def test_where_no_model_could_be_chosen_another_can_be_taken() -> None:
    def make(*_: object) -> Made:
        raise DoesNotFit("It lacks 9.0 GiB.", "Take a smaller one.")

    app = SmallApp(ModelsScreen, make)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.model.state == "failed")
        await highlight(app, "pocket")
        await until(lambda: cells(app, "2b")[3:4] not in ([], ["…"]))
        await pilot.press("enter")
        assert app.switched == ["pocket"]


async def test_a_click_highlights_and_a_second_one_uses() -> None:
    app = SmallApp(ModelsScreen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: state(app, "pocket") == "in use")
        table = screen(app)._table
        await pilot.click(table, offset=(6, 3))
        await until(lambda: screen(app).highlighted is not None and screen(app).highlighted.name == "2b:q8_0")  # type: ignore[union-attr]
        assert app.downloads.states == ()
        await pilot.click(table, offset=(6, 1))
        await pilot.click(table, offset=(6, 1))
        await until(lambda: not isinstance(app.screen, ModelsScreen))
