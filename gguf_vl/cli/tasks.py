"""`gguf-vl tasks`: what is there to have done, and whether it works with the model in use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gguf_vl.cli import options
from gguf_vl.cli.printing import harmless
from gguf_vl.errors import GgufVlError

if TYPE_CHECKING:
    from gguf_vl.engine.blocking import BlockingEngine
    from gguf_vl.runtime.models import Installed
    from gguf_vl.tasks.task import Task

app = typer.Typer(help="List, show and try tasks, for `gguf-vl ask --task` and `gguf-vl batch --task`.")
app.callback(invoke_without_command=True)(options.help_without_verb)

_WIDTH = 13
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_tasks(as_json: Json = False, offline: options.Offline = False, debug: options.Debug = False) -> None:
    """List the tasks: those shipped, and your own from tasks.toml beside the settings."""
    options.logging_to_stderr(debug)
    from gguf_vl.tasks.task import load

    tasks = load()
    if as_json:
        _print_json([_data(task) for task in tasks.values()])
        return
    for task in tasks.values():
        print(harmless(f"{task.name:<{_WIDTH}} {task.purpose} · {task.purpose_zh}"))


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    as_json: Json = False,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Show what a task asks, takes and gives."""
    options.logging_to_stderr(debug)
    import json

    from gguf_vl.tasks.task import find

    task = find(name)
    if as_json:
        _print_json(_data(task))
        return
    least, most = task.n_pictures
    lines = {
        "purpose": f"{task.purpose} · {task.purpose_zh}",
        "pictures": str(least) if least == most else f"{least} to {most}",
        "system": task.system,
        "prompt": task.prompt,
        "sampling": ", ".join(f"{key} {value}" for key, value in task.sampling.items()),
        "detail": task.detail or "",
        "min. tokens": str(task.min_tokens or ""),
        "shown as": task.shown,
    }
    print(harmless(task.name))
    for title, text in lines.items():
        if text:
            print(harmless(f"  {title:<12} " + text.replace("\n", "\n" + " " * 15)))
    for each in task.parameters:
        default = "must be given" if each.default is None else f"else: {each.default}"
        choices = f"{' or '.join(each.choices)}; " if each.choices else ""
        print(harmless(f"  {'-p ' + each.name:<12} {each.help} ({choices}{default})"))
    for model, wording in task.wordings.items():
        print(harmless(f"  {'for ' + model:<12} {wording}"))
    for model, wordings in task.by_frame.items():
        print(harmless(f"  {'for ' + model:<12} {' or '.join(wordings)} (of each frame of a video by itself)"))
    for model, sentence in task.nothing.items():
        print(harmless(f"  {'or ' + model:<12} {sentence} (in the place of an empty list)"))
    if task.is_beyond("pocket"):
        print("  beyond       pocket, the embedded model, has never learnt this")
    if task.schema is not None:
        print("  schema")
        print(harmless(json.dumps(task.schema, ensure_ascii=False, indent=2)))


@app.command("test")
def try_out(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The task; all of them without.")] = None,
    as_json: Json = False,
    model: options.Model = None,
    mmproj: options.Mmproj = None,
    ctx: options.Ctx = None,
    gpu_layers: options.GpuLayers = None,
    threads: options.Threads = None,
    max_tokens: options.MaxTokens = None,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Try a task on a drawn picture with the model in use, and show what comes and whether it is valid.

    Whether it is also right is for you to see: what the picture shows is said beside it.
    """
    settings = options.settings(
        debug, model=model, mmproj=mmproj, ctx=ctx, gpu_layers=gpu_layers, threads=threads, max_tokens=max_tokens
    )
    from gguf_vl.engine.blocking import BlockingEngine
    from gguf_vl.hardware.machine import probe
    from gguf_vl.runtime.engines import PlannedEngine
    from gguf_vl.runtime.planning import plan_chosen
    from gguf_vl.tasks import asking
    from gguf_vl.tasks.task import find, load

    tasks = [find(name)] if name else list(load().values())
    installed, planned = plan_chosen(settings, probe())
    if settings.model is None:
        print(f"Using {installed.name} ({installed.why}).", file=sys.stderr)
    engine = PlannedEngine(installed, planned, tell=lambda line: print(line, file=sys.stderr))
    reports = []
    with BlockingEngine(engine) as blocking:
        for task in tasks:
            if why := asking.beyond(task, installed.name):
                report: dict[str, Any] = {"task": task.name, "status": "beyond", "error": why}
            else:
                report = _try(task, blocking, installed, settings)
            reports.append(report)
            if not as_json:
                _print_report(report)
    if as_json:
        _print_json(reports)
    if any(report["status"] == "invalid" for report in reports):
        raise typer.Exit(GgufVlError.exit_code)


def _try(task: Task, engine: BlockingEngine, installed: Installed, settings: Any) -> dict[str, Any]:
    """One task on its own sample."""
    import time

    from gguf_vl.errors import AnswerInvalid, CutOff
    from gguf_vl.tasks import results
    from gguf_vl.tasks.by_frame import answer_blocking
    from gguf_vl.tasks.question import Question
    from gguf_vl.tasks.samples import sample_of
    from gguf_vl.types import Finished, Text

    sample = sample_of(task)
    sampling = {} if settings.max_tokens is None else {"max_tokens": settings.max_tokens}
    question = Question(task, installed, settings, sample.given, sampling=sampling)
    shown = sample.show(question.limits(engine.settings.limits))
    begun = time.monotonic()
    answer = ""
    for event in answer_blocking(engine, question.asked(shown)):
        if isinstance(event, Text):
            answer += event.text
        elif isinstance(event, Finished):
            end = event
    report = {"task": task.name, "on": sample.shows, "given": dict(sample.given), "seconds": time.monotonic() - begun}
    try:
        result = results.read(task, answer, end, shown.pictures)
    except (CutOff, AnswerInvalid) as error:
        return report | {"status": "invalid", "answer": answer, "error": error.what}
    return report | {"status": "valid", "answer": results.as_text(task, result), "fields": result.fields}


def _print_report(report: dict[str, Any]) -> None:
    """One task's report, for a person."""
    if report["status"] == "beyond":
        print(harmless(f"{report['task']}: not tried. {report['error']}"))
        return
    given = "".join(f", {name}: {value}" for name, value in report["given"].items())
    print(harmless(f"{report['task']}: {report['status']}, {report['seconds']:.1f} s"))
    print(harmless(f"  shown   {report['on']}{given}"))
    print(harmless("  came    " + report["answer"].replace("\t", "  ").replace("\n", "\n          ")))
    if "error" in report:
        print(harmless(f"  error   {report['error'].splitlines()[0][:200]}"))


def _data(task: Task) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(task), "beyond": ["pocket"] if task.is_beyond("pocket") else []}


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, ensure_ascii=False, indent=2))
