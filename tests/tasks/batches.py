"""Folders of drawn pictures with answers that are known, and the real command over them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from gguf_vl.config import Settings
from gguf_vl.engine.client import Engine
from gguf_vl.engine.fake import Script, scripted
from gguf_vl.runtime.models import named
from gguf_vl.tasks.batch.job import Job
from gguf_vl.tasks.task import free
from gguf_vl.types import EngineSettings, PictureLimits
from tests.scenes import png, scene

COLOURS = ("red", "blue", "green", "yellow", "purple")
PROMPT = "What colour is the circle?"


def draw(folder: Path, n: int, *, size: int = 96) -> dict[str, str]:
    """`n` pictures of one circle each: the colour of each by the file's name."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = {f"{at}.png": COLOURS[at % len(COLOURS)] for at in range(n)}
    for at, (name, colour) in enumerate(colours.items()):
        (folder / name).write_bytes(png(scene(f"{colour} circle", size=size, seed=at)))
    return colours


def command(*words: str | Path) -> list[str]:
    """`gguf-vl batch` with `pocket` and these words."""
    return [sys.executable, "-P", "-m", "gguf_vl", "batch", "-m", "pocket", *map(str, words)]


def begin(*words: str | Path, **how: Any) -> subprocess.Popen[bytes]:
    """The command, started in a process of its own."""
    environment = os.environ | {"GGUF_VL_DISK_CACHE": "0", "GGUF_VL_PROOF": "false"}
    return subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **how)


def batch(*words: str | Path, stdin: bytes = b"", timeout: float = 120, **how: Any) -> tuple[int, str]:
    """The command until it ends: its exit code, and what it said."""
    running = begin(*words, stdin=subprocess.PIPE, **how)
    out, said = running.communicate(stdin, timeout=timeout)
    assert out == b""
    return running.returncode, said.decode()


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a whole file of results."""
    data = path.read_bytes()
    assert data.endswith(b"\n") or not data
    return [json.loads(line) for line in data.splitlines()]


def whole_lines(path: Path) -> int:
    """How many lines a file has that is being written."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def until_lines(running: subprocess.Popen[bytes], path: Path, n: int) -> None:
    """Wait until a batch has written so many, or has ended."""
    while whole_lines(path) < n and running.poll() is None:
        time.sleep(0.01)


def job(prompt: str = PROMPT, **of_task: Any) -> Job:
    """A question of one's own, for `pocket`."""
    return Job(free(**of_task), named("pocket"), Settings(), extra=prompt)


def fake_engine(*scripts: Script, n_seq_max: int = 2) -> Engine:
    """An engine whose worker plays scripts, one for each request."""
    settings = EngineSettings(Path("model.gguf"), None, PictureLimits(8, 64), n_seq_max=n_seq_max)
    return Engine(settings, connect=scripted(*scripts))


async def each(files: Iterable[str | Path]) -> AsyncIterator[str]:
    """The names as `answered` takes them."""
    for file in files:
        yield str(file)
