"""kill -9 of the whole app, or of its worker, at any moment: what was on the screen is in the history."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from gguf_vl import paths
from gguf_vl.chat.history import History
from gguf_vl.engine.process import WorkerProcess
from tests.tui.pane import GGUF_VL, Pane, shown
from tests.tui.pseudo import Killed, Pseudo
from tests.tui.scripted_app import HANDED_OVER
from tests.tui.talking import SHAPES, talking

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason=".ci/needs names it")

COUNTING = (sys.executable, "-P", "-m", "tests.tui.scripted_app", "counting")
QUESTION = "How many shapes are there beside the circle, and which of them is the largest one of all?"
PLACEHOLDER = "Ask about pictures"
FIRST = "New chat"


def live(terminal: Pseudo, moment: str, n_bytes: int) -> None:
    """A session that ends in that moment, killed when so many bytes more are written."""
    terminal.until(FIRST)
    for name, act in (("typing", type_it), ("attaching", drop_it), ("streaming", send_it), ("branching", edit_it)):
        if name == moment:
            terminal.kill_after(n_bytes)
        act(terminal)
        if name == moment:
            return


def type_it(terminal: Pseudo) -> None:
    for char in QUESTION:
        terminal.type(char)
    terminal.until("all?")


def drop_it(terminal: Pseudo) -> None:
    terminal.type(f"\x1b[200~{SHAPES}\x1b[201~")
    terminal.until("384×288")


def send_it(terminal: Pseudo) -> None:
    terminal.type("\r")
    terminal.until("10 11 12")


def edit_it(terminal: Pseudo) -> None:
    terminal.type("\x1b")
    terminal.until("stopped")
    terminal.type("\x1b[A")
    terminal.type("\x1b[A")
    terminal.type("e")
    terminal.until("Editing")
    terminal.type(" Say it.\r")
    terminal.until("2/2")


BYTES = {"typing": 3_000, "attaching": 6_000, "streaming": 60_000, "branching": 12_000}
"""What is written in each moment, about."""


def typed(screen: str) -> str:
    """What stands in the prompt."""
    found = re.findall(r"^ *│ (.*?) │ *$", screen.rpartition("╭")[2], re.MULTILINE)
    text = "".join(line.strip() for line in found).replace(" ", "")
    return "" if text.startswith(PLACEHOLDER.replace(" ", "")) else text


def counted(screen: str) -> int:
    """How many numbers of the answer are on the screen, from the first to the highest."""
    lines = [line for line in screen.splitlines() if re.fullmatch(r"[\d ▁▂▃▄▅▆▇█▔]+", line) and re.search(r"\d", line)]
    return max((int(number) + 1 for line in lines for number in re.findall(r"\d+", line)), default=0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("moment", BYTES)
def test_what_was_on_the_screen_is_there_again(moment: str, seed: int, home: Path, tmp_path: Path) -> None:
    n_bytes = random.Random(f"{moment} {seed}").randint(1, BYTES[moment])
    handed_over = tmp_path / "handed over"
    with Pseudo(*COUNTING, environment={HANDED_OVER: str(handed_over)}) as terminal:
        with suppress(Killed):
            live(terminal, moment, n_bytes)
        screen = shown(tmp_path, terminal.killed(1))

    shutil.copytree(paths.data_dir(), tmp_path / "data")  # to look at it is to recover it
    with History(tmp_path / "data") as history:
        [chat] = history.chats() or [None]
        turns = history.turns(chat.id) if chat else []
        draft = history.draft(chat.id) if chat else None
        left_off = bool(history.recovered)
        branches = [history.turn(id) for id in history.siblings(turns[0].id)] if turns else []
    text = draft.text.replace(" ", "") if draft else ""
    whole = QUESTION.replace(" ", "")

    if moment == "typing":
        assert text.startswith(typed(screen)[:-1]), "but for the key that was being pressed"
        assert whole.startswith(text)
    if moment == "attaching":
        assert text == whole
        assert draft
        assert len(draft.attachments) >= ("384×288" in screen)
    if moment in ("streaming", "branching") and not turns:
        assert text == whole
        assert draft
        assert [each.name for each in draft.attachments] == ["shapes.png"]
        assert "▌ You" not in screen
    for question in branches:
        assert question.text.startswith(QUESTION)
        assert [each.name for each in question.attachments] == ["shapes.png"]
    if "2/2" in screen:
        assert [question.text for question in branches] == [QUESTION, f"{QUESTION} Say it."]
    words = turns[1].text.split() if len(turns) > 1 else []
    if len(turns) > 1:
        assert words == [str(n) for n in range(len(words))]
        assert len(words) >= counted(screen) * (len(branches) == 1)
        assert turns[1].state == "stopped"
        assert len(branches) > 1 or len(words) >= handed_over.stat().st_size - 1, "all but the last one handed over"

    with Pane(tmp_path, *COUNTING) as pane:  # the next start
        if text:
            pane.until_true(lambda screen: typed(screen) == text)
        if draft and draft.attachments:
            pane.until("shapes.png")
        if left_off:
            way_on, key = ("continue (g)", "g") if words else ("answer again (r)", "r")
            pane.until("stopped", way_on)
            pane.press("Up")
            pane.until("▌ pocket")  # it is chosen
            pane.press(key)
            pane.until("Esc stops")
        elif not text:
            pane.until(PLACEHOLDER)


def test_a_worker_ends_with_the_app_that_was_killed() -> None:
    with Pseudo(*GGUF_VL) as terminal:
        terminal.until("of 0.6 GB planned")
        started = psutil.Process(terminal.process.pid).children(recursive=True)
        assert started
        terminal.process.kill()
        _, alive = psutil.wait_procs(started, timeout=10)
        assert alive == []


@pytest.mark.anyio
@pytest.mark.parametrize("n_tokens", [1, 5])
async def test_a_worker_killed_in_mid_answer_is_a_line_and_the_answer_goes_on(
    n_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking() as stage:
        right = (await stage.answer_to("Who are you?")).text
        assert right.startswith("I am pocket")
        append, n_come, dead = stage.app.history.append, 0, 0

        def running() -> int | None:
            connection = stage.app.model.made.engine.connection  # type: ignore[union-attr]
            assert isinstance(connection, WorkerProcess | None)
            return connection.pid if connection else None

        def killing(turn_id: int, text: str = "", thinking: str = "") -> None:
            nonlocal n_come, dead
            append(turn_id, text, thinking)
            n_come += 1
            if n_come == n_tokens:
                dead = running() or 0
                os.kill(dead, signal.SIGKILL)

        monkeypatch.setattr(stage.app.history, "append", killing)
        for _ in range(10):  # until it has not written all of its answer, short as that is, before it is killed
            await stage.pilot.press("ctrl+n")
            await stage.until(lambda: not stage.turns)
            await stage.until(lambda: stage.app.model.state == "ready" and running() != dead)
            n_come = 0
            killed = await stage.answer_to("Who are you?")
            assert killed.text
            assert right.startswith(killed.text)
            if killed.state == "failed":
                break
        assert killed.state == "failed"
        assert "continue (g)" in stage.text()
        assert stage.text().count("✗") == 1
        await stage.until(lambda: stage.app.model.state == "ready")
        assert running() != dead
        await stage.pilot.press("up", "g")
        await stage.until(lambda: stage.turns[-1].state == "done")
        await stage.idle()
        assert stage.turns[-1].text == right
        assert len(stage.turns) == 2
