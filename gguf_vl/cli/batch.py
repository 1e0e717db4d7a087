"""`gguf-vl batch`: the same question about many pictures, a line of results for each."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gguf_vl.cli import options
from gguf_vl.errors import MissingOrInvalid, UsageError

if TYPE_CHECKING:
    from gguf_vl.cli.batch_progress import Shown
    from gguf_vl.tasks.batch.inputs import Inputs
    from gguf_vl.tasks.batch.job import Job
    from gguf_vl.tasks.batch.line import Line
    from gguf_vl.tasks.batch.output import Output

STDIN = "-"
TERMINATED = 143


@options.with_flags(options.ASKING)
def batch(
    out: Annotated[Path, typer.Option("--out", help="File of results: .jsonl, or .csv where the schema is flat.")],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Folders, searched to the bottom for pictures, documents and videos; files, report.pdf#2-5; globs; "
            "@LIST, a file of names; `-` reads names from standard input.",
        ),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="What to do with each: see `gguf-vl tasks list`.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="What to ask about each, in your own words.")] = None,
    param: options.Param = None,
    schema: Annotated[Path | None, typer.Option("--schema", help="Hold the answers to this JSON schema.")] = None,
    every: options.Every = None,
    frames: options.FrameCount = None,
    scenes: options.Scenes = False,
    listed: Annotated[list[Path] | None, typer.Option("--list", help="A file of names, one a line.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a file of results that was begun.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on with new files in the folders, until Ctrl-C.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="An HTML page with thumbnails of all results.")
    ] = None,
    *,
    flags: dict[str, Any],
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Ask the same about many pictures, several at once, and write a line of results for each."""
    sampling = {name: value for name, value in flags.items() if name in options.SAMPLING}
    settings = options.settings(debug, **flags)
    from gguf_vl.cli.schemas import task_of
    from gguf_vl.hardware.machine import probe
    from gguf_vl.media.choice import Frames
    from gguf_vl.runtime.planning import plan_chosen
    from gguf_vl.tasks import asking
    from gguf_vl.tasks.batch.formats import format_of
    from gguf_vl.tasks.batch.job import Job
    from gguf_vl.tasks.batch.output import Output

    if (task is None) == (prompt is None or not prompt.strip()):
        raise UsageError("Say what to do with each picture, in one way.", "Give either --task NAME or --prompt TEXT.")
    asked = task_of(task, schema)
    given = asking.parameters(param or [])
    asking.check(asked, 1, given)
    wanted = Frames(every, frames, scenes)
    form = format_of(out.name, asked.schema)
    inputs = _inputs(paths or [], listed or [], clips=asked.n_pictures[1] > 1)
    files = inputs.files()
    if watch and not inputs.can_grow:
        raise UsageError("There is nothing to watch: no folder and no glob is given.", "Give the folder of the files.")
    if not files and not watch:
        raise MissingOrInvalid("No picture is there.", "Give folders that hold some, or files by their names.")
    installed, planned = plan_chosen(settings, probe())
    if settings.model is None:
        print(f"Using {installed.name} ({installed.why}).", file=sys.stderr)
    for line in planned.plan.gave_way:
        print(f"To fit this machine, {line}.", file=sys.stderr)
    if warning := asking.beyond(asked, installed.name, given):
        print(warning, file=sys.stderr)
    detail = settings.detail if "detail" in flags else None
    job = Job(asked, installed, settings, given, prompt or "", sampling, flags.get("system"), detail, wanted)
    described = job.described()
    with Output(out, described, form, resume=resume) as output:
        if output.healed:
            print(f"A last line that was not written to its end is taken back: {output.healed} bytes.", file=sys.stderr)
        try:
            _work(job, planned, output, files, inputs if watch else None)
        except KeyboardInterrupt:
            if watch:
                _report(report, output, described)
            raise
        _report(report, output, described)
        if output.n_failed:
            raise typer.Exit(1)


def _inputs(words: list[str], lists: list[Path], *, clips: bool) -> Inputs:
    from gguf_vl.tasks.batch.inputs import Inputs, read_list, read_list_file

    listed: list[str] = []
    named = []
    for word in words:
        if word == STDIN:
            listed += read_list(sys.stdin.buffer.read())
        elif word.startswith("@") and not Path(word).exists():
            lists = [*lists, Path(word[1:])]
        else:
            named.append(word)
    for each in lists:
        listed += read_list_file(each)
    inputs = Inputs(named, listed, clips=clips)
    inputs.check()
    return inputs


def _work(job: Job, planned: Any, output: Output, files: list[str], watched: Inputs | None) -> None:
    """Raises KeyboardInterrupt behind a line that says how far it came."""
    from gguf_vl.cli.batch_progress import batch_progress
    from gguf_vl.runtime.engines import PlannedEngine
    from gguf_vl.tasks.batch.working import Terminated, left, work

    todo = left(files, output)
    before, began = len(output.done), time.monotonic()
    if not todo and not watched:
        _sum_up(output, before, began, "Nothing is left to do")
        return
    shown = batch_progress(None if watched else before + len(todo), before)

    def engine() -> PlannedEngine:
        return PlannedEngine(
            job.installed,
            planned,
            on_progress=lambda done: shown.status(f"Loading {job.installed.name}: {done:.0%}"),
            tell=shown.note,
            prove="first" if job.settings.proof else "never",
            disk_cache=job.settings.disk_cache,
        )

    ending = "Stopped"
    try:
        with shown:
            shown.status("Loading …")
            work(engine, job, output, todo, watched=watched, tell=lambda line: _tell(line, shown), more=shown.more)
        ending = "Done"
    except Terminated:
        raise SystemExit(TERMINATED) from None
    finally:
        _sum_up(output, before, began, ending)


def _tell(line: Line, shown: Shown) -> None:
    shown.step()
    if line.error:
        shown.note(line.error if line.file in line.error else f"{line.file}: {line.error}")
    if line.note:
        shown.note(line.note)


def _sum_up(output: Output, before: int, began: float, ending: str) -> None:
    from gguf_vl.cli.batch_progress import duration

    new, seconds = len(output.done) - before, time.monotonic() - began
    rate = f"; {new} of them now, in {duration(seconds)} ({new / seconds:.2f}/s)" if new else ""
    print(f"{ending}: {len(output.done)} pictures in {output.path}, {output.n_failed} failed{rate}.", file=sys.stderr)
    if ending == "Stopped":
        print("Go on with the same command and --resume.", file=sys.stderr)


def _report(path: Path | None, output: Output, described: dict[str, Any]) -> None:
    if path is None:
        return
    from gguf_vl.cli.status import Status
    from gguf_vl.tasks.batch.report import write_report

    with Status() as status:
        write_report(path, output, described, tell=lambda n, total: status.show(f"report: {n} of {total}"))
    print(f"The report is {path}.", file=sys.stderr)
