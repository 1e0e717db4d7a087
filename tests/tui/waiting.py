"""Waiting for what a screen shows to become true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from textual.pilot import Pilot


async def until(pilot: Pilot[object], holds: Callable[[], object], seconds: float = 20) -> None:
    """Lets the app run until `holds`; fails where it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.02)
