"""The screen of the machine: what the model takes of it, by plan and in truth, with every reason."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from textual.widgets import Sparkline, Static

from gguf_vl.errors import DoesNotFit
from gguf_vl.tui.model import Made, make_planned
from gguf_vl.tui.screens.machine import MachineScreen
from gguf_vl.tui.widgets.bars import PlanBars
from gguf_vl.types import Message, Request
from tests.fit.given import MIB, machine
from tests.tui.shelf import until
from tests.tui.small import SIZES, SmallApp, planned_on

pytestmark = pytest.mark.anyio


def said(app: SmallApp, id: str) -> str:
    """A part of the screen as a person reads it, with no line cut."""
    content = app.screen.query_one(id, Static).content
    console = Console(file=io.StringIO(), width=200)
    console.print(content)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def is_shown(app: SmallApp, id: str) -> bool:
    return not app.screen.query_one(id).has_class("-none")


async def test_what_was_planned_stands_beside_what_the_real_model_took() -> None:
    app = SmallApp(MachineScreen, make_planned)
    async with app.run_test(size=(80, 24)):
        await until(lambda: app.model.state == "ready", 120)
        await until(lambda: "resident in the worker" in said(app, "#used"))
        made = app.model.made
        assert made is not None
        plan = made.planned.plan
        rows = [line.split() for line in said(app, "#used").splitlines()]
        [weights] = [row for row in rows if row[1] == "weights"]
        assert weights[2:6] == ["3", "MiB", "3", "MiB"]
        for each in plan.allocations:
            assert each.why in said(app, "#used")
        for choice in plan.choices:
            assert choice.why in said(app, "#settings")
        assert app.screen.query_one(PlanBars).plan == plan
        assert "main memory" in said(app, "#devices")
        async for _ in made.engine.generate(Request((Message("user", ("Hello!",)),))):
            pass
        await until(lambda: "1 in all" in said(app, "#now"))
        await until(lambda: any(app.screen.query_one(Sparkline).data or ()))
        assert is_shown(app, "#rate")


async def test_a_machine_with_a_gpu_shows_every_device() -> None:
    app = SmallApp(MachineScreen)
    async with app.run_test(size=(160, 50)):
        await until(lambda: "CUDA0  " in app.screen.query_one(PlanBars).render().plain)
        assert "CUDA0" in said(app, "#devices")
        assert "300" in said(app, "#devices")
        assert not is_shown(app, "#gave-way")
        assert not is_shown(app, "#rate")


async def test_what_was_lowered_for_the_model_to_fit_is_said() -> None:
    app = SmallApp(MachineScreen, planned_on(machine(500 * MIB)))
    async with app.run_test(size=(160, 50)):
        await until(lambda: is_shown(app, "#gave-way") and app.screen.query_one(PlanBars).plan)
        assert "RAM lacks" in said(app, "#gave-way")


async def test_while_no_model_is_chosen_it_says_so_and_why_where_there_is_none() -> None:
    def make(*_: object) -> Made:
        raise DoesNotFit("It lacks 9.0 GiB.", "Take a smaller one.")

    app = SmallApp(MachineScreen, make)
    async with app.run_test(size=(60, 20)):
        await until(lambda: is_shown(app, "#nothing"))
        assert "No model" in said(app, "#nothing")
        assert not is_shown(app, "#used")
        await until(lambda: "It lacks 9.0 GiB." in said(app, "#nothing"))


@pytest.mark.parametrize("size", SIZES)
async def test_nothing_is_wider_than_the_screen_and_escape_leaves_it(size: tuple[int, int]) -> None:
    app = SmallApp(MachineScreen)
    async with app.run_test(size=size) as pilot:
        await until(lambda: is_shown(app, "#used") and app.screen.query_one(PlanBars).plan)
        bars = app.screen.query_one(PlanBars)
        await until(lambda: bars.content_size.width > 0)
        await until(lambda: max(map(len, bars.render().plain.splitlines())) <= size[0] - 2)
        await until(lambda: all(part.region.right <= size[0] for part in app.screen.query(Static)))
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, MachineScreen))
