#!/usr/bin/env python3
"""Measures what HTTP costs over the engine: `gguf-vl serve` and the engine alone on the same weights, in turns.

    scripts/bench_server.py MODEL [--mmproj FILE] [--ctx 8192] [--clients 8] [--tokens 128] [--threads N] [--rounds 5]
                            [--patience 120]

Both are started and stay. In each round as many clients at once ask each of them for streamed answers of so many tokens
to short prompts that all differ, and then one client; each round begins with the other. Clients of the engine call it
from threads of this program; those of the server, threads too, read its stream of events. A table goes to standard
error, JSON to standard output.

- `rate`: tokens per second of all, from the first token of the first answer to the end of the last. The `ratio` is the
  middle of the rounds' own, with the least and the greatest; 1 less it is the cost.
- `first_ms`: milliseconds from the engine's first token until the client reads the first byte of it: what the client
  waited from before it connected, less what the server's log says from the request's head to the engine's first token.
  Connecting, sending and parsing are in it, so it is more than the answer's own way.

Special tokens are forbidden and our loop guard is off, so that the garbage of random weights ends no answer; both guess
ahead as usual. Client and server share the processors; so do the engine's clients and the engine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from peers import server
from peers.figures import total_rate
from peers.ours import Ours
from peers.process import QUIET, Others
from peers.rounds import prompt
from peers.talk import Answer, Peer, at_once, special_tokens

from gguf_vl.hardware.machine import probe
from gguf_vl.runtime.candidates import here
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import named
from gguf_vl.runtime.planning import plan_here
from gguf_vl.types import EngineSettings, Wishes


def tell(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


def settings_of(args: argparse.Namespace) -> EngineSettings:
    """As planned for this machine."""
    installed = named(str(args.model), mmproj=args.mmproj)
    wishes = Wishes(n_ctx=args.ctx, n_threads=args.threads, n_seq_max=args.clients)
    return PlannedEngine(installed, plan_here(here(installed), probe(), wishes), prove="never").settings


def first_ms(answers: Sequence[Answer], log: Path) -> list[float]:
    """What each answer's first byte took behind the engine's first token. The log's line comes after the answer."""
    first_token_s: dict[str, float] = {}
    while not {each.id for each in answers} <= first_token_s.keys():
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        first_token_s = {line["id"]: line["first_token_s"] for line in lines if line.get("first_token_s")}
        time.sleep(0.01)
    return [1000 * (each.ttft - first_token_s[each.id]) for each in answers]


def write(peer: Peer, number: int, n_clients: int, n_tokens: int) -> list[Answer]:
    """The answers of a round's part."""
    talks = (prompt(100 * number + n_clients, client) for client in range(n_clients))
    return at_once([partial(peer.ask, talk, n_tokens) for talk in talks])


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that is printed."""
    settings = settings_of(args)
    banned = special_tokens(settings.model)
    rates: dict[int, list[tuple[float, float]]] = {}
    firsts: dict[int, list[float]] = {}
    shares = []
    with ExitStack() as stack:
        served = stack.enter_context(server.ours(settings, banned, folder))
        direct = stack.enter_context(Ours(replace(settings, disk_budget=0), banned))
        workers = [each.pid for each in psutil.Process(served.pid).children()]
        others = Others(served.pid, *workers, direct.pid)
        for number in range(-1, args.rounds):  # the first warms up
            for n_clients in (args.clients, 1):
                others.wait(args.patience if number >= 0 else 0)
                taken: dict[str, list[Answer]] = {}
                for peer in (direct, served) if number % 2 else (served, direct):
                    taken[peer.name] = write(peer, number + 1, n_clients, args.tokens)
                if number < 0:
                    continue
                shares.append(others.share())
                rate, bare = total_rate(taken[served.name]), total_rate(taken[direct.name])
                rates.setdefault(n_clients, []).append((rate, bare))
                late = first_ms(taken[served.name], served.log)
                firsts.setdefault(n_clients, []).extend(late)
                tell(f"round {number + 1}, {n_clients}: {rate:.2f} by HTTP, {bare:.2f} alone, first {max(late):.1f} ms")
    return {
        "model": args.model.name,
        "threads": settings.n_threads,
        "n_ctx": settings.n_ctx,
        "tokens": args.tokens,
        "rounds": args.rounds,
        "others_share": round(statistics.median(shares), 4),
        "disturbed": sum(share > QUIET for share in shares),
        "clients": {n: figures(pairs, firsts[n]) for n, pairs in rates.items()},
    }


def figures(pairs: Sequence[tuple[float, float]], late: Sequence[float]) -> dict[str, Any]:
    """Of one number of clients."""
    ratios = sorted(rate / bare for rate, bare in pairs)
    return {
        "rate": round(statistics.median(rate for rate, _ in pairs), 2),
        "engine_rate": round(statistics.median(bare for _, bare in pairs), 2),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_from_to": [round(ratios[0], 4), round(ratios[-1], 4)],
        "first_ms": round(statistics.median(late), 2),
        "first_ms_worst": round(max(late), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what HTTP costs over the engine.")
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--mmproj", type=Path, help="its projector, where it is not beside it")
    parser.add_argument("--ctx", type=int, default=8192, help="cells that all share")
    parser.add_argument("--clients", type=int, default=8, help="at once")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--threads", type=int, help="of both; default the engine's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patience", type=float, default=120, help="seconds to wait for a quiet machine")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args, Path(folder))
    tell(f"\n{'clients':>8} {'tokens/s':>9} {'engine':>9} {'ratio':>7} {'first byte, ms':>15}")
    for n, row in found["clients"].items():
        late = f"{row['first_ms']} to {row['first_ms_worst']}"
        tell(f"{n:>8} {row['rate']:>9} {row['engine_rate']:>9} {row['ratio']:>7} {late:>15}")
    json.dump(found, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
