"""One pull at a time, whatever becomes of the client that asked for it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from gguf_vl.errors import Busy, ModelNotFound
from gguf_vl.server import pulling
from gguf_vl.server.pulling import Pulls
from tests.server.conftest import PATIENCE_S

pytestmark = pytest.mark.anyio


class Hub:
    """Knows no model, and says so when it is `released`."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.released = threading.Event()

    def plan(self, wish: str, **_: Any) -> Any:
        self.asked.set()
        assert self.released.wait(PATIENCE_S)
        raise ModelNotFound(f"There is no {wish}.", "Ask for another.")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr(pulling, "plan", hub.plan)
    return hub


async def pull(pulls: Pulls, wish: str) -> None:
    """All of a pull."""
    async for _ in pulls.pull(wish):
        pass


async def test_a_pull_whose_client_has_left_keeps_others_out_until_it_has_really_ended(hub: Hub) -> None:
    pulls = Pulls(allowed=True)
    left = asyncio.create_task(pull(pulls, "first"))
    assert await asyncio.to_thread(hub.asked.wait, PATIENCE_S)
    [thread] = [each for each in threading.enumerate() if each.name == "pull first"]
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    for _ in range(2):
        with pytest.raises(Busy):
            await pull(pulls, "second")
    hub.released.set()
    await asyncio.to_thread(thread.join, PATIENCE_S)
    with pytest.raises(ModelNotFound, match="no second"):
        await pull(pulls, "second")


async def test_who_hears_that_a_pull_has_ended_may_ask_for_the_next_at_once(hub: Hub) -> None:
    hub.released.set()
    pulls = Pulls(allowed=True)
    for _ in range(100):
        with pytest.raises(ModelNotFound):
            await pull(pulls, "first")


async def test_a_thread_that_cannot_be_started_keeps_nobody_out(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.released.set()
    pulls = Pulls(allowed=True)

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            await pull(pulls, "first")
    with pytest.raises(ModelNotFound):
        await pull(pulls, "first")
