"""What a model wrote, on its way to a terminal, which must not take any of it for a command, or to a file."""

from __future__ import annotations

import json
import os
import pty
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO

import pytest

from gguf_vl.cli.answering import Answering
from gguf_vl.cli.status import Status
from gguf_vl.engine.blocking import BlockingEngine
from gguf_vl.engine.client import Engine
from gguf_vl.engine.fake import Script, scripted, text
from gguf_vl.tasks.task import Task, find, free
from gguf_vl.types import EngineSettings, Message, PictureLimits, Request, Thinking

WROTE = ("red\x1b]0;title\x07", " \x1b[2J\x9b31mgreen\r\n\tblue\n")
CELLS = json.dumps({"title": None, "columns": ["a"], "rows": [["\x1b[31mred"]]})


def answer(script: Script, task: Task, stream: TextIO, *, as_csv: bool = False) -> None:
    """Print what a model of that script says."""
    engine = Engine(EngineSettings(Path("m.gguf"), None, PictureLimits(16, 64)), connect=scripted(script))
    with BlockingEngine(engine) as blocking, redirect_stdout(stream), redirect_stderr(stream):
        request = Request((Message("user", ("?",)),))
        Answering(blocking, task, request, (), Status(), "m").print_text(stats=False, as_csv=as_csv)
        stream.flush()


def on_terminal(script: Script, task: Task, **more: bool) -> str:
    """What comes to a terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        with os.fdopen(theirs, "w", encoding="utf-8", newline="") as stream:
            answer(script, task, stream, **more)
        shown = b""
        with suppress(OSError):  # there is nothing more
            while read := terminal.read(4096):
                shown += read
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_is_shown_what_a_model_wrote_without_its_commands() -> None:
    assert on_terminal(text(*WROTE), free()) == "red?]0;title? ?[2J?31mgreen?\n\tblue\n"


def test_thoughts_are_as_harmless_and_are_dimmed_by_us_alone() -> None:
    assert on_terminal([Thinking("\x1b[31mhm"), *text("red\n")], free()) == "\x1b[2m?[31mhm\x1b[0mred\n"


@pytest.mark.parametrize("as_csv", [False, True])
def test_what_json_spells_is_no_command_either(as_csv: bool) -> None:
    shown = on_terminal(text(CELLS), find("table"), as_csv=as_csv)
    assert "?[31mred" in shown
    assert "\x1b" not in shown


def test_a_file_has_all_that_the_model_wrote(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8", newline="") as stream:
        answer(text(*WROTE), free(), stream)
    assert (tmp_path / "out").read_bytes().decode() == "".join(WROTE)
