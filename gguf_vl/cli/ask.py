"""`gguf-vl ask`: one question or task, with or without pictures, one answer."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gguf_vl.cli import options
from gguf_vl.errors import GgufVlError, UsageError
from gguf_vl.media.endings import PICTURES, VIDEOS

if TYPE_CHECKING:
    from PIL import Image

    from gguf_vl.media.shown import Shown
    from gguf_vl.tasks.results import Result
    from gguf_vl.tasks.task import Task
    from gguf_vl.types import PictureLimits

STDIN = "-"
_DRAWN = (".png", ".jpg", ".jpeg", ".webp")
_PICTURE_NAME = re.compile(rf"\S+({'|'.join(map(re.escape, PICTURES | VIDEOS))})(#[\d,-]+)?", re.I)
"""Of a word that is no file, this one was meant as one."""


@options.with_flags(options.ASKING, but=("parallel",))
def ask(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE]... QUESTION",
            help="Pictures, documents (report.pdf#2-5) or videos, and the question last. `-` reads a picture, or the "
            "question, from standard input. With --task no question is needed, and all other words are added to the "
            "task's.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[list[str] | None, typer.Option("-i", "--image", help="Another picture.")] = None,
    clipboard: Annotated[bool, typer.Option("--clipboard", help="The picture that was copied.")] = False,
    task: Annotated[str | None, typer.Option("--task", help="A task by its name: see `gguf-vl tasks list`.")] = None,
    param: options.Param = None,
    schema: Annotated[
        Path | None, typer.Option("--schema", help="Hold the answer to the JSON schema in a file.")
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option("--boxes", metavar="OUT.png", help="Draw boxes and points on the picture.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table as CSV.")] = False,
    every: options.Every = None,
    frames: options.FrameCount = None,
    scenes: options.Scenes = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Say on standard error where the time went.")] = False,
    *,
    flags: dict[str, Any],
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Ask one question about pictures, or have a task done, and print the answer as it comes."""
    names, question = _sort(words or [], image or [], has_task=task is not None, clipboard=clipboard)
    settings = options.settings(debug, **flags)
    sampling = {name: value for name, value in flags.items() if name in options.SAMPLING}
    from gguf_vl.cli.schemas import task_of
    from gguf_vl.tasks.asking import parameters, settle

    chosen = task_of(task, schema)
    given, question = settle(chosen, parameters(param or []), question)
    sources: list[Any] = [*names, *(_copied() if clipboard else ())]
    _check(chosen, sources, given, boxes, as_csv=as_csv, as_json=as_json)

    from gguf_vl.cli.answering import Answering
    from gguf_vl.cli.status import Status
    from gguf_vl.engine.blocking import BlockingEngine
    from gguf_vl.hardware.machine import probe
    from gguf_vl.media.choice import Frames
    from gguf_vl.media.pictures import MAX_BYTES
    from gguf_vl.runtime.engines import PlannedEngine
    from gguf_vl.runtime.planning import plan_chosen
    from gguf_vl.tasks import asking
    from gguf_vl.tasks.question import Question

    wanted = Frames(every, frames, scenes)
    if question == STDIN:
        question = sys.stdin.read().strip()
    installed, planned = plan_chosen(settings, probe())
    if settings.model is None:
        print(f"Using {installed.name} ({installed.why}).", file=sys.stderr)
    if installed.local.receipt and installed.local.receipt.is_damaged:
        print(f"{installed.name} was found damaged: gguf-vl verify {installed.name}", file=sys.stderr)
    for line in planned.plan.gave_way:
        print(f"To fit this machine, {line}.", file=sys.stderr)
    if warning := asking.beyond(chosen, installed.name, given):
        print(warning, file=sys.stderr)
    detail = settings.detail if "detail" in flags else None
    put = Question(chosen, installed, settings, given, question, sampling, flags.get("system"), detail)
    piped = sys.stdin.buffer.read(MAX_BYTES + 1) if STDIN in sources else b""

    def source_of(name: Any) -> Any:
        return _Stdin(piped) if name == STDIN else name

    def load(limits: PictureLimits, n_ctx: int) -> Shown:
        return put.show([source_of(name) for name in sources], limits, n_ctx, wanted)

    limits, n_ctx = planned.plan.limits, planned.plan.load.n_ctx
    shown = load(limits, n_ctx)
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
            if (engine.settings.limits, engine.settings.n_ctx) != (limits, n_ctx):  # less room than was planned
                limits = engine.settings.limits
                shown = load(limits, engine.settings.n_ctx)
            status.clear()
            for line in shown.notes:
                print(line, file=sys.stderr)
            answering = Answering(blocking, chosen, put.asked(shown), shown.pictures, status, installed.name)
            result = answering.print_json() if as_json else answering.print_text(stats=stats, as_csv=as_csv)
    if boxes:
        _draw(_drawable(source_of(sources[-1]), shown, put.limits(limits)), result, boxes)


class _Stdin(BytesIO):
    """What came from standard input, which can be read only once."""

    name = "<stdin>"


def _sort(words: list[str], images: list[str], *, has_task: bool, clipboard: bool) -> tuple[list[str], str]:
    """(pictures, question) as DESIGN's contract for `ask` reads the words. Of a task, what is a picture is one."""
    if has_task:
        pictures = [word for word in words if _is_picture(word)]
        question = " ".join(word for word in words if not _is_picture(word))
    elif not words:
        raise UsageError("Missing argument: there is no question.", 'Give one: gguf-vl ask a.jpg "What is this?"')
    else:
        *pictures, question = words
    pictures += images
    if not has_task and not pictures and question != STDIN and os.path.isfile(question):
        and_copied = " --clipboard" if clipboard else ""
        raise UsageError(
            f"What do you want to know about {question}?",
            f'Add a question: gguf-vl ask{and_copied} {question} "What is this?"',
        )
    if [*pictures, question].count(STDIN) > 1:
        raise UsageError(
            "Standard input can be read once: as a picture or as the question.", "Give the other as a file or text."
        )
    return pictures, question


def _is_picture(word: str) -> bool:
    """Whether a word among those of a task is a picture: a file, a page of one, a URI, or what looks like a file."""
    lead = word[:8].lower()
    if word == STDIN or lead.startswith(("data:", "file:", "http://", "https://")):
        return True
    try:
        is_file = os.path.isfile(word) or os.path.isfile(word.rpartition("#")[0])
    except ValueError:  # a zero byte
        return False
    return is_file or bool(_PICTURE_NAME.fullmatch(word))


def _copied() -> list[Any]:
    """What is on the clipboard: a picture's bytes, or the files that were copied."""
    from gguf_vl.media.clipboard import grab

    found = grab()
    return [found] if isinstance(found, bytes) else [str(path) for path in found]


def _check(
    task: Task, sources: Sequence[Any], given: Mapping[str, str], boxes: Path | None, *, as_csv: bool, as_json: bool
) -> None:
    from gguf_vl.media.shown import may_be_several
    from gguf_vl.tasks import asking

    several = any(source == STDIN or may_be_several(source) for source in sources)
    asking.check(task, None if several else len(sources), given)
    if as_csv and (task.shown != "table" or as_json):
        raise UsageError(
            "--csv is for tasks that read a table, and not together with --json.", "Try --task table --csv."
        )
    if boxes and not sources:
        raise UsageError("--boxes draws on a picture, and none is given.", "Give the picture before the question.")
    if boxes and (boxes.suffix.lower() not in _DRAWN or not boxes.absolute().parent.is_dir()):
        raise UsageError(
            f"Nothing can be drawn to {boxes}.",
            f"Name a file that ends in {', '.join(_DRAWN)} in a folder that exists.",
        )


def _drawable(source: Any, shown: Shown, limits: PictureLimits) -> Image.Image:
    """The last picture in its own size, upright; of several pages, or of a video, what was seen of the last of them."""
    from gguf_vl.media.drawing import of_picture, original

    has_caption = len(shown.content) > 1 and isinstance(shown.content[-2], str)
    return of_picture(shown.pictures[-1]) if has_caption else original(source, limits)


def _draw(picture: Image.Image, result: Result, to: Path) -> None:
    """The picture with all that the answer locates on it."""
    from gguf_vl.media.drawing import draw_boxes

    drawn = draw_boxes(picture, result.boxes, result.points)
    try:
        drawn.save(to)
    except OSError as error:
        raise GgufVlError(f"{to} cannot be written: {error.strerror or error}.", "Name another file.") from error
    if not result.boxes and not result.points:
        print(f"The answer locates nothing: {to} is the picture as it was.", file=sys.stderr)
