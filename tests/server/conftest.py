"""`gguf-vl serve` as people start it, in a process of its own, with `pocket`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

PATIENCE_S = 60.0
"""Seconds after which what is waited for will not come any more."""


def eventually(condition: Callable[[], object]) -> None:
    """Wait until another process has done something."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


class Serve:
    """A server that runs; `url` is where. What it writes to standard error is read as it comes. `before` is a command
    that runs it.
    """

    def __init__(self, home: Path, *words: str, before: tuple[str, ...] = (), **environment: str) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith("GGUF_VL_")}
        self.process = subprocess.Popen(
            [*before, sys.executable, "-P", "-m", "gguf_vl", "serve", "-m", "pocket", "--port", "0", *words],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=own | {"GGUF_VL_HOME": str(home)} | environment,
        )
        self.said: list[str] = []
        self._news = threading.Condition()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.url = self.line(r"^Serving .* on (https?://\S+)$")[1]

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self._news:
                self.said.append(line.rstrip("\n"))
                self._news.notify_all()

    def line(self, pattern: str) -> re.Match[str]:
        """The first line on standard error that holds the pattern, once it is there."""

        def found() -> re.Match[str] | None:
            return next(filter(None, (re.search(pattern, line) for line in self.said)), None)

        with self._news:
            match = self._news.wait_for(found, PATIENCE_S)
        assert match, "\n".join(self.said)
        return match

    def logged(self, id: str) -> dict[str, Any]:
        """The line about a request in the log, once it is there."""
        found: dict[str, Any] = json.loads(self.line(rf'^.*"id": "{re.escape(id)}".*$')[0])
        return found

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        code = self.process.wait(PATIENCE_S)
        self._listener.join()
        return code

    def stop(self) -> None:
        """End it, whatever it does, and what it has started."""
        if self.process.poll() is None:
            started = psutil.Process(self.process.pid).children(recursive=True)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
            for each in started:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        self.ended()
        assert self.process.stderr
        self.process.stderr.close()


Start = Callable[..., Serve]


@pytest.fixture(scope="session")
def serve(new_home: Callable[[], Path]) -> Iterator[Start]:
    """Starts servers, which remember together what the machine is like, and ends them when all is done."""
    home = new_home()
    with ExitStack() as stack:

        def start(*words: str, **more: Any) -> Serve:
            running = Serve(home, *words, **more)
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture(scope="session")
def server(serve: Start) -> Serve:
    """One as it is by default, answering two at once."""
    return serve("--parallel", "2")
