#!/usr/bin/env python3
"""Measures llama.cpp's server, llama-cpp-python's server and our engine on the same weights, in turns.

    scripts/bench_peers.py MODEL --mmproj FILE --llama-server PATH --llama-cpp-python PYTHON
                           [--ctx 8192] [--slots 4] [--threads N] [--kv-type f16] [--image-max-tokens 1024]
                           [--size 512x512] [--rounds 3] [--patience 300] [--requests 2000] [--out FOLDER]

All are started and warmed up, and stay: the memory must hold them all at once. Then they take turns: each does one part
of a round (a kind of question about a picture, or a number of clients) before the next part comes, and each round
begins with another of them. The speed of a shared machine drifts by a third within minutes, so that what is measured
one peer after the other tells of the minutes and not of the peers. In turns all meet nearly the same machine, and the
ratios of the goals are taken within a round, against the peer whose middle figure is best. What stands there is the
middle of the rounds' ratios, with the least and the greatest. Every other figure is the middle of the rounds.

A table goes to standard error, JSON to standard output; with --out both are in that folder too, with the servers' logs
and the drawing. `gguf_vl` is the engine driven directly: neither HTTP nor JSON is in its figures, `bench_server.py`
tells what they cost. Everything is asked at temperature 0, streaming, for a fixed number of tokens. Special
tokens are forbidden (`logit_bias`), so that the garbage of random weights neither ends early nor shows nothing; our
loop guard is off for the same reason. llama_cpp.server does that in Python, which costs it some time for every token.

Seconds to the first token, from sending the question to the first text of the answer. Pictures are noise as PNG, new in
each round and the same for all:
    a picture never seen          its parts for us: read (and resize), encode, prefill, the rest
    the next question             the picture, the question, the answer as it was given, and another question. The
                                  garbage of random weights reads as other tokens than it was made of (24 of the 2B's
                                  as 120), which all must compute anew: only trained weights, as pocket's, tell of this
    the same picture, new chat    another question about it
    behind another system prompt  the same again, with a system prompt no round had before
    a picture prepared before     `Engine.prepare` was done with it; the others know no such thing, so that it is held
                                  against their best with a picture never seen
Tokens per second, of answers of 128 tokens to short text prompts that all differ:
    one client, 4 clients, 8 clients   all tokens from the first of the first answer to the end of the last
    steadily                           only from the first of the last answer to the end of the first: while all decode
"no guesses" is our engine with `speculate` off. Guesses are worth much with random weights, since these repeat
themselves, and less with a real model. The bare loop is `llama_decode` alone, in a process of its own, with as large
a context, as many threads, the same KV type and as many cells behind each of one or 4 sequences, and without sampling.
Both join the others for one client and for 4.

What other programs took of the processors meanwhile stands below the table: a part of a round where that was more than
5 % is told of when it happens and counted, and its figures say little. With --patience, each part of a round waits so
long for a second of quiet.

Peak memory is the highest resident set (VmHWM) of a process after all that: mapped weights are among it. The engine
without guesses and the bare loop did less for theirs. With --requests, each peer starts anew, alone, and gets so many
requests of all kinds, the same for each (text, pictures of several sizes, follow-ups, up to 4 at once); its resident
memory is looked at after each 20.

All get the same context, threads, KV type and picture limit; what one cannot do stands below the table, and how many
of the answers were ours to the word: that shows that all see the same, though rounding may part them.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from peers import table
from peers.curve import draw, follow
from peers.figures import KINDS, PEAK, STEADY, Figures
from peers.loop import Loop
from peers.ours import Ours
from peers.process import QUIET
from peers.rounds import Asked, Bare, Measured, in_turns, prompt, warm_up
from peers.server import llama_cpp_python, llama_server
from peers.talk import Peer, Unanswered, special_tokens

from gguf_vl.hardware.machine import probe
from gguf_vl.runtime.bench import peak_resident
from gguf_vl.runtime.candidates import here
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import named
from gguf_vl.runtime.planning import plan_here
from gguf_vl.types import EngineSettings, Wishes

Start = Callable[[], AbstractContextManager[Peer]]
NOTES = {
    "llama-server": "its slots share the context (--kv-unified); all else by its defaults: its cache of prompts may "
    "take 8 GiB more",
    "llama_cpp.server": "answers one request at a time, whatever the slots; has no setting for the picture limit (the "
    "model's own holds); keeps nothing of a request for the next; logits_all, interrupt_requests and mlock are off, "
    "flash attention is on",
    "gguf_vl": "driven without HTTP",
}


def tell(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


def settings_of(args: argparse.Namespace) -> EngineSettings:
    """Ours as planned for this machine with these wishes, and nothing kept on disk."""
    installed = named(str(args.model), mmproj=args.mmproj)
    wishes = Wishes(
        n_ctx=args.ctx,
        kv_type=args.kv_type,
        image_max_tokens=args.image_max_tokens,
        n_threads=args.threads,
        n_seq_max=args.slots,
    )
    planned = PlannedEngine(installed, plan_here(here(installed), probe(), wishes), prove="never")
    if planned.settings.mmproj is None:
        raise SystemExit("No projector was found: say --mmproj FILE.")
    return replace(planned.settings, disk_budget=0)


def measure(
    starts: Mapping[str, Start], settings: EngineSettings, banned: Sequence[int], args: argparse.Namespace
) -> tuple[dict[str, Figures], dict[str, list[float]]]:
    """The figures of all, taken in turns, and by part of a round what others took of the processors."""
    measured: dict[str, Measured] = {}
    with ExitStack() as stack:
        for name, start in starts.items():
            peer = stack.enter_context(start())
            warm_up(peer, args.size)
            measured[name] = Asked(peer, args.size)
            tell(f"{name} is up")
        plain = stack.enter_context(Ours(replace(settings, speculate=False), banned))
        warm_up(plain, args.size)
        measured[table.PLAIN] = Asked(plain, args.size, joins=STEADY)
        loop, depth = stack.enter_context(Loop(settings)), plain.n_prompt(prompt(0, 0))
        loop.rate(1, depth, 4)
        measured[table.LOOP] = Bare(loop, depth)
        shares = in_turns(measured, args.rounds, args.patience, tell)
        for each in measured.values():
            each.figures.keep(PEAK, peak_resident(each.pid) / 2**20)
    return {name: each.figures for name, each in measured.items()}, shares


def heading(args: argparse.Namespace, settings: EngineSettings) -> dict[str, Any]:
    """What was the same for all."""
    return {
        "model": settings.model.name,
        "mmproj": args.mmproj.name if args.mmproj else None,
        "n_ctx": settings.n_ctx,
        "slots": settings.n_seq_max,
        "n_threads": settings.n_threads,
        "kv_type": settings.kv_type,
        "n_gpu_layers": settings.n_gpu_layers,
        "image_tokens": [settings.limits.min_tokens, settings.limits.max_tokens],
        "size": list(args.size),
        "rounds": args.rounds,
        "our_weights": "mapped" if settings.map_weights else "read",
        "llama_cpp_python": version("llama-cpp-python"),
    }


def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that is printed. The table goes to standard error on the way."""
    settings = settings_of(args)
    banned = special_tokens(settings.model)
    starts: dict[str, Start] = {}
    for log in folder.glob("*.log"):
        log.unlink()  # of an earlier run
    if args.llama_cpp_python:
        starts["llama_cpp.server"] = lambda: llama_cpp_python(args.llama_cpp_python, settings, banned, folder)
    if args.llama_server:  # the best as a rule, so that its turn is next to ours
        starts["llama-server"] = lambda: llama_server(args.llama_server, settings, banned, folder)
    starts[table.OURS] = lambda: Ours(settings, banned)
    same = heading(args, settings)
    tell(", ".join(f"{name} {value}" for name, value in same.items()))

    figures, others = measure(starts, settings, banned, args)
    taken = [share for shares in others.values() for share in shares]
    disturbed = sum(share > QUIET for share in taken)
    notes = {name: NOTES[name] for name in starts}
    for name in notes.keys() - {table.OURS}:
        alike = sum(map(str.__eq__, figures[name].answers, figures[table.OURS].answers))
        notes[name] += f"; answered {alike} of {args.rounds} new pictures word for word like ours"
    said = [", ".join(f"{name} {value}" for name, value in same.items()), table.text(figures)]
    middle = statistics.median(taken) if taken else 0.0
    said.append(
        f"Others took {middle:.1%} of the processors, the middle of all parts of rounds, and more than {QUIET:.0%} in "
        f"{disturbed} of {len(taken)}."
    )
    said.append("\n".join(f"{name}: {note}." for name, note in notes.items()))
    tell("\n" + "\n\n".join(said))
    (folder / "table.txt").write_text("\n\n".join(said) + "\n", encoding="utf-8")

    curves = {}
    for name, start in starts.items() if args.requests else ():
        with start() as peer:
            warm_up(peer, args.size)
            curves[name] = follow(peer, args.requests, args.seed, tell)
        draw(curves, folder / "memory.png")
    return {
        "same": same,
        "notes": notes,
        "columns": {name: {row: each.middle(row) for row in each.rounds} for name, each in figures.items()},
        "parts": {kind: figures[table.OURS].middle_parts(kind) for kind in KINDS},
        "goals": [each.plain() for each in table.verdicts(figures)],
        "others": others,
        "disturbed": disturbed,
        "by_round": {name: asdict(each) for name, each in figures.items()},
        "memory": {name: asdict(curve) for name, curve in curves.items()},
    }


def _rounded(found: Any) -> Any:
    """The same with four digits behind the point."""
    return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 4))


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures other servers and our engine on the same weights.")
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--mmproj", type=Path, help="its projector, where it is not beside it")
    parser.add_argument("--llama-server", type=Path, help="llama.cpp's server")
    parser.add_argument("--llama-cpp-python", type=Path, help="a Python that has llama-cpp-python[server]")
    parser.add_argument("--ctx", type=int, default=8192, help="tokens")
    parser.add_argument("--slots", type=int, default=4, help="requests answered at once")
    parser.add_argument("--threads", type=int, help="default: as planned, one for each core")
    parser.add_argument("--kv-type", choices=("f16", "q8_0", "q4_0"), default="f16")
    parser.add_argument("--image-max-tokens", type=int, default=1024)
    parser.add_argument("--size", type=_size, default=(512, 512), help="of the pictures, pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=0.0, help="seconds to wait for a quiet machine, each time")
    parser.add_argument("--requests", type=int, default=0, help="how many to follow the memory over")
    parser.add_argument("--seed", type=int, default=1, help="of those requests")
    parser.add_argument("--out", type=Path, help="a folder for the results, the drawing and the servers' logs")
    args = parser.parse_args()
    folder = args.out or Path(tempfile.mkdtemp(prefix="bench-peers-"))
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended then too
    try:
        found = json.dumps(_rounded(run(args, folder)), indent=1)
    except Unanswered as error:
        raise SystemExit(f"{error}\nLogs are in {folder}") from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    (folder / "peers.json").write_text(found + "\n", encoding="utf-8")
    print(found)
    tell(f"Logs and results are in {folder}")


if __name__ == "__main__":
    main()
