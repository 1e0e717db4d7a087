#!/usr/bin/env python3
"""Loads `gguf-vl serve` with `pocket`, and prints JSON: what clients saw, memory over time, and what is at fault.

    scripts/soak_server.py [--minutes 1] [--clients 200] [--idle 1000] [--kill SECONDS] [--seed 1]

So many clients ask at once about pictures, streamed and whole, and some leave in mid-answer; beside them so many
connections are open and silent until the end, when each asks whether the server is alive. With `--kill` the worker is
killed with SIGKILL every so many seconds.

Exits with 1 where there are `faults`:

- a whole answer differs from what the same question was answered alone, or a stream ends without its end;
- a request is refused otherwise than for a full queue, or for a killed worker with `--kill`; or has no end;
- a silent connection was lost;
- at the end something is still open, running or waiting;
- memory has grown in the second half, see `GROWTH`; with `--kill` the server's alone.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import httpx2
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.scenes import png, scene

SHAPES = ("red circle", "blue square", "green triangle", "yellow star", "purple square", "pink star", "black circle")
QUESTIONS = (
    "What colour is the shape?",
    "How many shapes are there?",
    "Describe the picture.",
    "List the shapes as JSON.",
)
LEAVES = 0.05
"""The share of clients that go away in mid-answer."""
PATIENCE_S = 120.0
"""Seconds that a request may take."""
GROWTH = 1.08
"""The median of memory in the second half of its samples may be so many times that in the first half."""
MOST_FAULTS = 50
"""Different ones that are printed."""
Question = tuple[str, str]


@dataclass(slots=True)
class Report:
    """What is printed. `saw` counts what became of requests; memory is in MiB, a sample a second."""

    saw: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    first_token_s: dict[str, float] = field(default_factory=dict)
    kills: int = 0
    idle_alive: int = 0
    server_mib: list[float] = field(default_factory=list)
    worker_mib: list[float] = field(default_factory=list)
    metrics_at_the_end: dict[str, float] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)


def body(question: Question, *, stream: bool) -> dict[str, Any]:
    """A request about one of the pictures."""
    shape, text = question
    url = "data:image/png;base64," + base64.b64encode(png(scene(shape))).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 64, "stream": stream}


class Soak:
    """Clients of the server at `url`, whose process is `pid`."""

    def __init__(self, url: str, pid: int, args: argparse.Namespace) -> None:
        self._url, self._process, self._args = url, psutil.Process(pid), args
        self._host, _, port = url.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._random = random.Random(args.seed)
        self._right: dict[Question, str] = {}
        self._bodies: dict[tuple[Question, bool], bytes] = {}
        self._first_s: list[float] = []
        self._until = 0.0
        self.report = Report()

    async def run(self) -> Report:
        """All of it."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx2.AsyncClient(base_url=self._url, timeout=PATIENCE_S, limits=limits) as http:
            for question in ((shape, text) for shape in SHAPES for text in QUESTIONS):
                found = await http.post("/v1/chat/completions", json=body(question, stream=False))
                self._right[question] = found.raise_for_status().json()["choices"][0]["message"]["content"]
                for stream in (True, False):
                    self._bodies[question, stream] = json.dumps(body(question, stream=stream)).encode()
            idle = await asyncio.gather(
                *(asyncio.open_connection(self._host, self._port) for _ in range(self._args.idle))
            )
            began = time.monotonic()
            self._until = began + 60 * self._args.minutes
            watching = [asyncio.create_task(self._sample())]
            if self._args.kill:
                watching.append(asyncio.create_task(self._kill()))
            await asyncio.gather(*(self._client(http) for _ in range(self._args.clients)))
            self.report.seconds = round(time.monotonic() - began, 1)
            for each in watching:
                each.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            alive = await asyncio.gather(*(self._is_alive(*each) for each in idle))
            self.report.idle_alive = sum(alive)
            await self._look_at_the_end(http)
        self._judge()
        return self.report

    async def _client(self, http: httpx2.AsyncClient) -> None:
        while time.monotonic() < self._until:
            question = self._random.choice([*self._right])
            stream, leaves = self._random.random() < 0.8, self._random.random() < LEAVES
            try:
                async with asyncio.timeout(PATIENCE_S):
                    saw = await self._ask(http, question, stream=stream, leaves=leaves)
            except TimeoutError:
                saw = "no end"
            except httpx2.HTTPError as error:
                saw = f"connection: {type(error).__name__}"
            self.report.saw[saw] += 1
            if saw == "full":
                await asyncio.sleep(self._random.uniform(0.5, 1.5))

    async def _ask(self, http: httpx2.AsyncClient, question: Question, *, stream: bool, leaves: bool) -> str:
        """What became of it, in a word or two."""
        began = time.monotonic()
        headers = {"Content-Type": "application/json"}
        sending = http.stream("POST", "/v1/chat/completions", content=self._bodies[question, stream], headers=headers)
        async with sending as response:
            if response.status_code == 429:
                return "full"
            if response.status_code != 200:
                return f"{response.status_code}: {_message(json.loads(await response.aread()))}"
            if not stream:
                text = json.loads(await response.aread())["choices"][0]["message"]["content"]
                return self._judged(question, text)
            text, ended = "", False
            async for line in response.aiter_lines():
                if ended and line:
                    return "torn: more behind the end"
                if line == "data: [DONE]":
                    ended = True
                elif line.startswith("data: "):
                    data = json.loads(line.removeprefix("data: "))
                    if "error" in data:
                        return f"200: {_message(data)}"
                    for choice in data["choices"]:
                        piece = choice["delta"].get("content") or ""
                        if piece and not text:
                            self._first_s.append(time.monotonic() - began)
                            if leaves:
                                return "left"
                        text += piece
            return self._judged(question, text) if ended else "torn: no end"

    def _judged(self, question: Question, text: str) -> str:
        if text == self._right[question]:
            return "right"
        self.report.faults[f"{question}: {text!r} and not {self._right[question]!r}"] += 1
        return "wrong"

    async def _is_alive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(f"GET /health HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).startswith(b"HTTP/1.1 200")
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.report.server_mib.append(round(self._process.memory_info().rss / 2**20, 1))
            for worker in self._workers():
                self.report.worker_mib.append(round(worker.memory_info().rss / 2**20, 1))

    async def _kill(self) -> None:
        while True:
            await asyncio.sleep(self._args.kill)
            for worker in self._workers():
                os.kill(worker.pid, signal.SIGKILL)
                self.report.kills += 1

    def _workers(self) -> list[psutil.Process]:
        return [each for each in self._process.children() if each.status() != psutil.STATUS_ZOMBIE]

    async def _look_at_the_end(self, http: httpx2.AsyncClient) -> None:
        """Those who left a moment ago are gone when their slots are free."""
        for _ in range(50):
            page = (await http.get("/metrics")).text
            found = dict(
                re.findall(r"^(gguf_vl_requests_open|gguf_vl_queue_length|gguf_vl_slots_busy) (\S+)", page, re.M)
            )
            self.report.metrics_at_the_end = {name: float(value) for name, value in found.items()}
            if self.report.metrics_at_the_end == {
                "gguf_vl_requests_open": 1,  # this one
                "gguf_vl_queue_length": 0,
                "gguf_vl_slots_busy": 0,
            }:
                return
            await asyncio.sleep(0.1)
        self.report.faults[f"at the end {self.report.metrics_at_the_end}"] += 1

    def _judge(self) -> None:
        report = self.report
        fine = ("right", "left", "full", "wrong")  # what is wrong is told already
        for saw, n in report.saw.items():
            killed = self._args.kill and re.match(r"(200|503): The engine|(200|503): .*SIGKILL", saw)
            if saw not in fine and not killed:
                report.faults[saw] += n
        if not report.saw["right"]:
            report.faults["nothing was answered"] += 1
        if report.idle_alive < self._args.idle:
            report.faults["silent connections that were lost"] += self._args.idle - report.idle_alive
        samples = {"the server's": report.server_mib} | ({} if self._args.kill else {"the worker's": report.worker_mib})
        for whose, found in samples.items():
            half = len(found) // 2
            if half and statistics.median(found[half:]) > GROWTH * statistics.median(found[:half]):
                report.faults[f"{whose} memory has grown"] += 1
        if self._first_s:
            cuts = statistics.quantiles(self._first_s, n=100)
            report.first_token_s = {"50 %": round(cuts[49], 3), "95 %": round(cuts[94], 3), "99 %": round(cuts[98], 3)}


def _message(error: dict[str, Any]) -> str:
    return str(error["error"]["message"])


@contextmanager
def serving(home: Path, log: Path) -> Iterator[tuple[str, int]]:
    """A server, its address and the id of its process."""
    words = [sys.executable, "-P", "-m", "gguf_vl", "serve", "-m", "pocket", "--port", "0"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stderr=stream, env=os.environ | {"GGUF_VL_HOME": str(home)}
        )
        try:
            while not (found := re.search(r"^Serving .* on (http://\S+)$", log.read_text(), re.M)):
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.05)
            yield found[1], process.pid
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Loads the server, and says what is at fault.")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--clients", type=int, default=200, help="that ask at once")
    parser.add_argument("--idle", type=int, default=1000, help="connections that are silent")
    parser.add_argument("--kill", type=float, help="seconds from one kill of the worker to the next")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), Path(folder) / "log") as (url, pid):
        report = asyncio.run(Soak(url, pid, args).run())
    found = {each.name: getattr(report, each.name) for each in fields(report)}
    json.dump(found | {"faults": dict(report.faults.most_common(MOST_FAULTS))}, sys.stdout, indent=1)
    print()
    sys.exit(1 if report.faults else 0)


if __name__ == "__main__":
    main()
