"""`gguf-vl ask`: one question, with or without pictures, one answer."""

from __future__ import annotations

import os
import sys
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gguf_vl.cli import options
from gguf_vl.errors import UsageError

if TYPE_CHECKING:
    from gguf_vl.engine.blocking import BlockingEngine
    from gguf_vl.runtime.models import Installed
    from gguf_vl.types import Finished, Picture, PictureLimits, Request

STDIN = "-"


def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[IMAGE]... QUESTION",
            help="Pictures, and the question last. `-` reads a picture, or the question, from standard input.",
        ),
    ],
    image: Annotated[list[str] | None, typer.Option("-i", "--image", help="Another picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Say on standard error where the time went.")] = False,
    model: options.Model = None,
    mmproj: options.Mmproj = None,
    ctx: options.Ctx = None,
    gpu_layers: options.GpuLayers = None,
    kv_type: options.KvType = None,
    image_max_tokens: options.ImageMaxTokens = None,
    mmproj_offload: options.MmprojOffload = None,
    reserve: options.Reserve = None,
    threads: options.Threads = None,
    detail: options.Detail = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    seed: options.Seed = None,
    system: options.System = None,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Ask one question about pictures, and print the answer as it comes."""
    pictures, question = _sort(words, image or [])
    settings = options.settings(
        debug,
        model=model,
        mmproj=mmproj,
        ctx=ctx,
        gpu_layers=gpu_layers,
        kv_type=kv_type,
        image_max_tokens=image_max_tokens,
        mmproj_offload=mmproj_offload,
        reserve=reserve,
        threads=threads,
        detail=detail,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        system=system,
    )
    from gguf_vl.cli.status import Status
    from gguf_vl.engine.blocking import BlockingEngine
    from gguf_vl.hardware.machine import probe
    from gguf_vl.media.pictures import MAX_BYTES, load_picture
    from gguf_vl.media.resize import limits_for
    from gguf_vl.runtime.engines import PlannedEngine
    from gguf_vl.runtime.planning import plan_chosen
    from gguf_vl.types import Message, Request

    if question == STDIN:
        question = sys.stdin.read().strip()
    installed, planned = plan_chosen(settings, probe())
    if settings.model is None:
        print(f"Using {installed.name} ({installed.why}).", file=sys.stderr)
    if installed.local.receipt and installed.local.receipt.is_damaged:
        print(f"{installed.name} was found damaged: gguf-vl verify {installed.name}", file=sys.stderr)
    for line in planned.plan.gave_way:
        print(f"To fit this machine, {line}.", file=sys.stderr)
    piped = sys.stdin.buffer.read(MAX_BYTES + 1) if STDIN in pictures else b""

    def load(limits: PictureLimits) -> tuple[Picture, ...]:
        allowed = limits_for(settings.detail, limits)
        return tuple(load_picture(_Stdin(piped) if name == STDIN else name, allowed) for name in pictures)

    limits = planned.plan.limits
    loaded = load(limits)
    with Status() as status:
        engine = PlannedEngine(
            installed,
            planned,
            on_progress=lambda done: status.show(f"loading {installed.name} … {done:.0%}"),
            tell=lambda line: print(line, file=sys.stderr),
            prove="first" if settings.proof else "never",
            disk_cache=settings.disk_cache,
        )
        with BlockingEngine(engine) as blocking:
            if engine.settings.limits != limits:  # loading has found less room than was planned
                loaded = load(engine.settings.limits)
            asked: tuple[str | Picture, ...] = (*loaded, question)
            system_turn = (Message("system", (settings.system,)),) if settings.system else ()
            sampling = installed.sampling(settings, pictures=bool(loaded))
            request = Request((*system_turn, Message("user", asked)), sampling)
            if as_json:
                _print_json(blocking, request, installed, loaded, status)
            else:
                _print_text(blocking, request, status, stats)


class _Stdin(BytesIO):
    """What came from standard input, which can be read only once."""

    name = "<stdin>"


def _sort(words: list[str], images: list[str]) -> tuple[list[str], str]:
    """(pictures, question) as DESIGN's contract for `ask` reads the words."""
    *pictures, question = words
    pictures += images
    if not pictures and question != STDIN and os.path.isfile(question):
        raise UsageError(
            f"What do you want to know about {question}?", f'Add a question: gguf-vl ask {question} "What is this?"'
        )
    if [*pictures, question].count(STDIN) > 1:
        raise UsageError(
            "Standard input can be read once: as a picture or as the question.", "Give the other as a file or text."
        )
    return pictures, question


def _print_text(engine: BlockingEngine, request: Request, status: Any, stats: bool) -> None:
    from gguf_vl.types import Finished, Text, Thinking

    thinking_shown = sys.stderr.isatty()
    ends_line = True
    for event in engine.generate(request):
        _show_progress(event, status)
        if isinstance(event, Thinking) and thinking_shown:
            sys.stderr.write(f"\x1b[2m{event.text}\x1b[0m")
            sys.stderr.flush()
        elif isinstance(event, Text):
            sys.stdout.write(event.text)
            sys.stdout.flush()
            ends_line = event.text.endswith("\n")
        elif isinstance(event, Finished):
            if not ends_line:
                print()
            _tell_end(event, engine, stats)


def _tell_end(end: Finished, engine: BlockingEngine, stats: bool) -> None:
    if end.finish_reason == "length":
        print("The answer was cut off: raise --max-tokens or --ctx for more.", file=sys.stderr)
    if stats:
        usage, times = end.usage, end.timings
        rate = f", {times.decode_tps:.1f} tokens/s" if times.decode_tps else ""
        print(
            f"{usage.prompt_tokens} tokens in ({usage.image_tokens} of pictures), {usage.completion_tokens} out{rate}; "
            f"load {engine.start().load_s:.2f} s, encode {times.encode_s:.2f} s, prefill {times.prefill_s:.2f} s, "
            f"first token {times.ttft_s:.2f} s",
            file=sys.stderr,
        )


def _print_json(
    engine: BlockingEngine, request: Request, installed: Installed, pictures: tuple[Picture, ...], status: Any
) -> None:
    import json
    from dataclasses import asdict

    from gguf_vl.media.boxes import find_boxes
    from gguf_vl.types import Finished, Text

    answer = ""
    for event in engine.generate(request):
        _show_progress(event, status)
        if isinstance(event, Text):
            answer += event.text
        elif isinstance(event, Finished):
            end = event
    report: dict[str, Any] = {
        "model": installed.name,
        "answer": answer,
        "finish_reason": end.finish_reason,
        "usage": asdict(end.usage),
        "timings": {"load_s": engine.start().load_s, **asdict(end.timings)},
    }
    boxes = find_boxes(answer, pictures[-1].original_size) if pictures else []
    if boxes:
        report["boxes"] = [asdict(box) for box in boxes]
    print(json.dumps(report, ensure_ascii=False))


def _show_progress(event: Any, status: Any) -> None:
    from gguf_vl.types import Progress

    match event:
        case Progress("encode", done, total):
            status.show(f"looking … {done} of {total} image tokens" if done else f"looking at {total} image tokens …")
        case Progress("prefill", done, total):
            status.show(f"reading … {done}/{total} tokens")
        case _:
            status.clear()
