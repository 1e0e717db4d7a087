"""Models are swapped between requests, and never two are loaded at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gguf_vl.engine.client import Engine
from gguf_vl.engine.fake import LoadScript, Script, Waits, scripted, text
from gguf_vl.errors import DoesNotFit, EngineError, ModelNotFound
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
        loads: dict[str, LoadScript] = {"huge": DoesNotFit("No room.", ""), "slow": [Waits()]}
        engine = Engine(settings, connect=scripted(self.scripts[name], loading=[loads.get(name, ())]))
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
    assert [await closed(engine) for _, engine in shelf.made] == [True, True]


async def closed(engine: Engine) -> bool:
    try:
        await engine.start()
    except EngineError as error:
        return "closed" in error.what
    return False


async def loading(shelf: Shelf, name: str) -> None:
    while name not in shelf.alive:
        await asyncio.sleep(0)


async def test_who_leaves_while_a_model_loads_leaves_none_loading() -> None:
    shelf = Shelf(a=text("a"), slow=text("s"))
    serving = Serving(shelf.make)
    assert await ask(serving, "a") == "a"
    asked = asyncio.create_task(ask(serving, "slow"))
    await loading(shelf, "slow")
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (serving.loaded, shelf.alive) == ("", [])
    assert await ask(serving, "a") == "a"
    assert shelf.alive == ["a"]
    await serving.close()


async def test_who_leaves_while_the_old_model_is_used_leaves_it_in_its_place() -> None:
    shelf = Shelf(a=text("a"), b=text("b"))
    serving = Serving(shelf.make)
    async with serving.using("a") as engine:
        asked = asyncio.create_task(ask(serving, "b"))
        while len(shelf.made) < 2:
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await said(engine) == "a"
    assert [await ask(serving, name) for name in "ab"] == ["a", "b"]
    await serving.close()


async def test_closing_ends_a_swap_in_its_midst_and_those_who_wait_behind() -> None:
    shelf = Shelf(slow=text("s"), a=text("a"))
    serving = Serving(shelf.make)
    asked = [asyncio.create_task(ask(serving, name)) for name in ("slow", "a")]
    await loading(shelf, "slow")
    await serving.close()
    assert shelf.alive == []
    for each in asked:
        with pytest.raises(EngineError, match=r"closed|any more"):
            await each
    assert [name for name, _ in shelf.made] == ["slow"]


async def test_closing_ends_those_who_use_a_model_and_a_swap_that_waits_for_them() -> None:
    shelf = Shelf(a=[Text("so far"), Waits()], b=text("b"))
    serving = Serving(shelf.make)
    first = asyncio.create_task(ask(serving, "a"))
    await loading(shelf, "a")
    second = asyncio.create_task(ask(serving, "b"))
    while len(shelf.made) < 2:
        await asyncio.sleep(0)
    await serving.close()
    for each in (first, second):
        with pytest.raises(EngineError):
            await each
    assert shelf.alive == []


async def test_after_closing_nobody_is_served() -> None:
    shelf = Shelf(a=text("a"))
    serving = Serving(shelf.make)
    assert await ask(serving, "a") == "a"
    await serving.close()
    with pytest.raises(EngineError, match="served any more"):
        await ask(serving, "a")
    assert (serving.loaded, shelf.alive, len(shelf.made)) == ("", [], 1)
