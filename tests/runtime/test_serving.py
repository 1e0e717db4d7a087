"""Models are swapped between requests, and never two are loaded at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gguf_vl.engine.client import Engine
from gguf_vl.engine.fake import LoadScript, Script, Waits, WorkerDies, scripted, text
from gguf_vl.errors import DoesNotFit, EngineError, ModelNotFound, WorkerDied
from gguf_vl.runtime.serving import Serving
from gguf_vl.types import EngineSettings, Message, PictureLimits, Request, Text

pytestmark = pytest.mark.anyio


class Shelf:
    """Makes scripted engines, and remembers which were alive together."""

    def __init__(self, **scripts: Script) -> None:
        self.scripts = scripts
        self.made: list[tuple[str, Engine]] = []
        self.beside: list[str] = []
        """Those that were alive when another one was made, and so planned."""

    def make(self, name: str) -> Engine:
        self.beside += self.alive
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


async def settled() -> None:
    """Once all that waits for nothing has been done."""
    for _ in range(50):
        await asyncio.sleep(0)


async def ask(serving: Serving, name: str) -> str:
    async with serving.using(name) as engine:
        return await said(engine)


async def test_a_model_is_loaded_once_and_swapped_when_another_is_wanted() -> None:
    shelf = Shelf(a=text("a"), b=text("b"))
    serving = Serving(shelf.make)
    assert [await ask(serving, name) for name in "aabba"] == list("aabba")
    assert [name for name, _ in shelf.made] == ["a", "b", "a"]
    assert (serving.loaded, shelf.alive, shelf.beside) == ("a", ["a"], [])
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
    await settled()
    assert (ended, shelf.alive) == ([], ["a"])
    release.set()
    await asyncio.gather(first, second, third)
    assert ended == ["a", "b", "a"]
    assert shelf.alive == ["a"]
    await serving.close()


async def test_after_a_model_that_cannot_be_made_the_one_before_is_loaded_again() -> None:
    shelf = Shelf(a=text("a"))
    serving = Serving(shelf.make)
    assert await ask(serving, "a") == "a"
    with pytest.raises(ModelNotFound):
        await ask(serving, "c")
    assert (serving.loaded, await ask(serving, "a")) == ("", "a")
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
        await settled()
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
    await settled()
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


async def test_how_long_a_model_is_kept_is_said_of_that_model_alone_and_until_it_is_unloaded() -> None:
    shelf = Shelf(a=text("a"), b=text("b"))
    serving = Serving(shelf.make)
    serving.keep("a", 0)
    assert await ask(serving, "a") == "a"
    serving.keep("b", 0)
    [(_, a)] = shelf.made
    assert a.idle_s is None
    serving.keep("a", 1000)
    assert a.idle_s == 1000
    await serving.unload()
    serving.keep("a", 0)
    assert await ask(serving, "a") == "a"
    assert a.idle_s is None
    serving.keep("a", 0)
    async with asyncio.timeout(10):
        while serving.loaded:
            await asyncio.sleep(0)
    assert await ask(serving, "b") == "b"
    await serving.close()


async def test_workers_that_died_are_counted_and_those_that_were_unloaded_swapped_or_closed_are_not() -> None:
    shelf = Shelf(a=[WorkerDies()], b=text("b"))
    serving = Serving(shelf.make)
    assert (serving.deaths, serving.engine) == (0, None)
    for n in (1, 2):
        with pytest.raises(WorkerDied):
            await ask(serving, "a")
        assert serving.deaths == n
    assert await ask(serving, "b") == "b"
    assert serving.engine
    assert serving.engine.info
    await serving.unload()
    assert serving.engine.info is None
    await serving.close()
    assert serving.deaths == 2
