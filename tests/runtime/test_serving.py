"""Models are swapped between requests, and never two are loaded at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gguf_vl.engine.client import Engine
from gguf_vl.engine.fake import Script, Waits, scripted, text
from gguf_vl.errors import DoesNotFit, ModelNotFound
from gguf_vl.runtime.serving import Serving
from gguf_vl.types import EngineSettings, Message, PictureLimits, Request, Text

pytestmark = pytest.mark.anyio


class Shelf:
    """Makes scripted engines, and remembers which were alive together."""

    def __init__(self, **scripts: Script) -> None:
        self.scripts = scripts
        self.made: list[tuple[str, Engine]] = []

    def make(self, name: str) -> Engine:
        if name not in self.scripts:
            raise ModelNotFound(f"There is no model {name!r}.", "Take another.")
        settings = EngineSettings(Path(f"{name}.gguf"), None, PictureLimits(8, 64))
        failing = [DoesNotFit("No room.", "")] if name == "huge" else []
        engine = Engine(settings, connect=scripted(self.scripts[name], loading=failing))
        self.made.append((name, engine))
        return engine

    @property
    def alive(self) -> list[str]:
        return [name for name, engine in self.made if engine.connection]


async def said(engine: Engine) -> str:
    request = Request((Message("user", ("?",)),))
    return "".join([event.text async for event in engine.generate(request) if isinstance(event, Text)])


async def ask(serving: Serving, name: str) -> str:
    async with serving.using(name) as engine:
        return await said(engine)


async def test_a_model_is_loaded_once_and_swapped_when_another_is_wanted() -> None:
    shelf = Shelf(a=text("a"), b=text("b"))
    serving = Serving(shelf.make)
    assert [await ask(serving, name) for name in "aabba"] == list("aabba")
    assert [name for name, _ in shelf.made] == ["a", "b", "a"]
    assert (serving.loaded, shelf.alive) == ("a", ["a"])
    await serving.close()
    assert shelf.alive == []


async def test_a_swap_waits_for_those_who_use_the_old_one_and_later_ones_wait_behind() -> None:
    release = asyncio.Event()
    shelf = Shelf(a=[Waits(release), *text("a")], b=text("b"))
    serving = Serving(shelf.make)
    ended: list[str] = []

    async def asked(name: str) -> None:
        ended.append(await ask(serving, name))

    first = asyncio.create_task(asked("a"))
    while not serving.loaded:
        await asyncio.sleep(0)
    second, third = asyncio.create_task(asked("b")), asyncio.create_task(asked("a"))
    while len(shelf.made) < 2:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (ended, shelf.alive) == ([], ["a"])
    release.set()
    await asyncio.gather(first, second, third)
    assert ended == ["a", "b", "a"]
    assert shelf.alive == ["a"]
    await serving.close()


async def test_an_unknown_model_leaves_the_loaded_one_in_its_place() -> None:
    shelf = Shelf(a=text("a"))
    serving = Serving(shelf.make)
    assert await ask(serving, "a") == "a"
    with pytest.raises(ModelNotFound):
        await ask(serving, "c")
    assert (serving.loaded, await ask(serving, "a")) == ("a", "a")
    assert len(shelf.made) == 1
    await serving.close()


async def test_after_a_model_that_could_not_be_loaded_the_next_one_is() -> None:
    shelf = Shelf(huge=text("h"), a=text("a"))
    serving = Serving(shelf.make)
    with pytest.raises(DoesNotFit):
        await ask(serving, "huge")
    assert (serving.loaded, await ask(serving, "a")) == ("", "a")
    await serving.close()
