#!/usr/bin/env python3
"""Measures the terminal UI, and prints JSON: how soon it takes keys, and whether it stands still while much comes.

    scripts/bench_tui.py [--starts N] [--seconds S] [--rate R] [--messages N] [--among N]

`start`: seconds from the start of the process, in a pseudo-terminal that answers at once, until the prompt is drawn
and until a key typed then is on the screen; `first` in a home where nothing is yet, `warm` the middle and best of N.
`stream`: R fragments of markdown a second for S seconds come to a chat of so many messages: the longest time for which
the loop answered nothing, from a key to its being kept (ms), fragments that were
given and that were drawn a second, and how much later than the last one the answer was drawn to its end.
`search`: ms from a key in the search field until what it finds is drawn, among so many messages.
`open`: ms until a chat of so many messages is drawn, and until earlier ones are when one scrolls up.
`resident_mb`: memory of the process that did all this. `load`: the machine's load average beside each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from textual import events
from textual.widgets import Input, OptionList

from gguf_vl.chat.history import History
from gguf_vl.engine.fake import Script, Waits, text
from gguf_vl.tui.screens.chats import ChatsScreen
from gguf_vl.tui.widgets.transcript import Transcript
from gguf_vl.types import Text
from tests.tui.pseudo import Pseudo
from tests.tui.talking import Stage, playing, talking

GOALS = {"start_s": 0.5, "stall_ms": 100.0, "open_ms": 300.0, "search_ms": 50.0}
GGUF_VL = (sys.executable, "-P", "-m", "gguf_vl")
PASSAGE = """## A heading

Some **bold words** and `code`, and a sentence that goes on for a while, as answers do, before it ends at last.

- first of a list, with a few words
- second of a list
  - and one below

| Item | Amount | Price |
|---|---|---|
| Tea | 2 | 3.50 |
| Cake | 1 | 4.20 |

```python
def area(width: int, height: int) -> int:
    return width * height
```

"""
PIECES = [PASSAGE[n : n + 4] for n in range(0, len(PASSAGE), 4)]


def load() -> float:
    """The machine's load average of the last minute."""
    return round(os.getloadavg()[0], 2)


# --- starting


def start(home: str) -> tuple[float, float]:
    """Seconds until the prompt is drawn, and until a key is."""
    began = time.perf_counter()
    with Pseudo(*GGUF_VL, environment={"GGUF_VL_HOME": home, "COLORTERM": "truecolor"}) as terminal:
        terminal.until("about pictures")
        drawn = time.perf_counter() - began
        terminal.type("z")
        terminal.until(" z ")
        echoed = time.perf_counter() - began
        terminal.type("\x7f")  # or the next start shows it
        terminal.until_after(" z ", "about pictures")
        terminal.type("\x11")
        terminal.ended()
    return drawn, echoed


def starts(times: int) -> dict[str, Any]:
    """All figures of starting."""
    with tempfile.TemporaryDirectory() as home:
        first = start(home)
        warm = [start(home) for _ in range(times)]
    drawn, echoed = zip(*warm, strict=True)
    return {
        "goal_s": GOALS["start_s"],
        "first": {"prompt_s": round(first[0], 3), "key_s": round(first[1], 3)},
        "prompt_s": {"best": round(min(drawn), 3), "median": round(median(drawn), 3)},
        "key_s": {"best": round(min(echoed), 3), "median": round(median(echoed), 3)},
        "load": load(),
    }


# --- streaming


@dataclass
class Clock:
    """When fragments are due, and when the last one was given."""

    rate: float
    began: float = 0.0
    given: int = 0
    ended: float = 0.0


@dataclass(frozen=True)
class Due(Waits):
    """Waits until the next fragment is due; what is late comes at once."""

    clock: Clock | None = None

    async def until_released(self) -> None:
        clock = self.clock
        assert clock
        now = time.perf_counter()
        clock.began = clock.began or now
        clock.given += 1
        await asyncio.sleep(max(0.0, clock.began + clock.given / clock.rate - now))
        clock.ended = time.perf_counter()


def markdown(clock: Clock, n: int) -> Script:
    """That many fragments, as they are due."""
    pieces = cycle(PIECES)
    return [step for _ in range(n) for step in (Due(clock=clock), Text(next(pieces)))] + [*text("")][-1:]


class Lateness:
    """How long the loop answered nobody, at most."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            self.longest_s = max(self.longest_s, time.perf_counter() - before - 0.005)

    def stop(self) -> None:
        self._task.cancel()


def filled(history: History, n: int) -> int:
    """A chat of that many messages. -> its id."""
    chat, parent = history.new_chat().id, None
    for number in range(n // 2):
        parent = history.question(chat, parent, f"Question {number}: what is to be seen in this one?").id
        parent = history.begin_answer(parent, "pocket").id
        history.append(parent, text=f"Answer {number}.\n\n{PASSAGE}")
        history.finish(parent, "done")
    return chat


async def drawn(stage: Stage) -> None:
    """Wait until the screen shows what there is."""
    done = asyncio.Event()
    stage.app.chat.call_after_refresh(done.set)
    await done.wait()


async def opening(stage: Stage, chat: int) -> dict[str, Any]:
    """Opening the chat, and scrolling up in it."""
    opened, earlier, n_shown = [], [], 0
    last = stage.app.history.turns(chat)[-1].id
    transcript = stage.app.chat.query_one(Transcript)
    for _ in range(5):
        empty = stage.app.history.new_chat().id
        stage.app.open_chat(empty)
        await stage.until(lambda: stage.app.chat.chat_id == empty and not transcript.views)  # noqa: B023
        await stage.pilot.pause()
        began = time.perf_counter()
        stage.app.open_chat(chat)
        while not (transcript.views and (view := transcript.of(last)) and view.size.height > 5):
            await asyncio.sleep(0.001)
        await drawn(stage)
        opened.append((time.perf_counter() - began) * 1e3)
        await stage.pilot.pause()
        n_shown = len(transcript.views)
        began = time.perf_counter()
        await transcript.show_earlier()
        await drawn(stage)
        earlier.append((time.perf_counter() - began) * 1e3)
    return {
        "goal_ms": GOALS["open_ms"],
        "open_ms": {"best": round(min(opened)), "median": round(median(opened))},
        "earlier_ms": {"best": round(min(earlier)), "median": round(median(earlier))},
        "messages_shown": n_shown,
        "load": load(),
    }


async def searching(stage: Stage) -> dict[str, Any]:
    """A few searches, typed letter by letter."""
    took = []
    stage.app.action_search()
    await stage.until(lambda: isinstance(stage.app.screen, ChatsScreen) and bool(stage.app.screen.query("Input")))
    screen = stage.app.screen
    field, rows = screen.query_one("#chats-search", Input), screen.query_one(OptionList)
    for words in ("question 4217", "bold words", "no such thing"):
        for end in range(1, len(words) + 1):
            before = rows.options[0] if rows.options else None
            began = time.perf_counter()
            field.value = words[:end]
            while (rows.options[0] if rows.options else None) is before:
                await asyncio.sleep(0.0005)
            done = asyncio.Event()
            screen.call_after_refresh(done.set)
            await done.wait()
            took.append((time.perf_counter() - began) * 1e3)
    screen.dismiss()
    return {
        "goal_ms": GOALS["search_ms"],
        "key_to_list_ms": {"median": round(median(took), 1), "worst": round(max(took), 1)},
        "load": load(),
    }


async def streaming(stage: Stage, clock: Clock, n: int) -> dict[str, Any]:
    """The answer, and keys typed meanwhile."""
    pressed: list[float] = []
    kept: list[float] = []
    set_draft = stage.app.history.set_draft

    def keep(chat_id: int, draft: str) -> None:
        set_draft(chat_id, draft)
        kept.append(time.perf_counter())

    await stage.ask("Go on")
    late = Lateness()
    while not clock.given or stage.prompt.text:
        await asyncio.sleep(0.001)
    stage.app.history.set_draft = keep  # type: ignore[method-assign]
    while clock.given < n:
        pressed.append(time.perf_counter())
        stage.app.post_message(events.Key("z", "z"))
        await asyncio.sleep(0.1)
    stalled = late.longest_s
    await stage.until(lambda: not stage.app.answers.is_running(stage.app.chat.chat_id))
    await stage.until(lambda: stage.app.chat.query_one(Transcript).views[-1].turn.state == "done")
    await drawn(stage)
    drawn_to_end = time.perf_counter()
    late.stop()
    latencies = [b - a for a, b in zip(pressed, kept, strict=False)] or [0.0]
    return {
        "goal_ms": GOALS["stall_ms"],
        "longest_stall_ms": round(stalled * 1e3),
        "longest_stall_at_end_ms": round(late.longest_s * 1e3),
        "key_ms": {"median": round(median(latencies) * 1e3, 1), "worst": round(max(latencies) * 1e3)},
        "keys": [len(pressed), len(kept)],
        "fragments_per_s": {
            "given": round(n / (clock.ended - clock.began)),
            "drawn": round(n / (drawn_to_end - clock.began)),
        },
        "lag_at_end_ms": round((drawn_to_end - clock.ended) * 1e3),
        "load": load(),
    }


async def inside(messages: int, among: int, rate: float, seconds: float) -> dict[str, Any]:
    """What is measured in this process."""
    clock, n = Clock(rate), int(rate * seconds)
    with tempfile.TemporaryDirectory() as home:
        os.environ["GGUF_VL_HOME"] = home
        history = History()
        chat = filled(history, messages)
        async with talking(playing(markdown(clock, n)), size=(120, 40), history=history) as stage:
            figures: dict[str, Any] = {"open": await opening(stage, chat)}
            figures["stream"] = {"kb": round(n * 4 / 1e3), **await streaming(stage, clock, n)}
            filled(history, among - messages)
            figures["search"] = {"messages": among, **await searching(stage)}
            figures["resident_mb"] = round(psutil.Process().memory_info().rss / 1e6)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the terminal UI.")
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--among", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    figures = {"start": starts(args.starts)} if args.starts else {}
    figures |= asyncio.run(inside(args.messages, args.among, args.rate, args.seconds))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
