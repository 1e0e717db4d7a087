"""`gguf-vl doctor`: what is wrong here, and the mend."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gguf_vl.cli import options
from gguf_vl.cli.printing import harmless

if TYPE_CHECKING:
    from gguf_vl.config import Settings
    from gguf_vl.types import Device, Machine

GIB = 1024**3
_MARKS = {"ok": "ok  ", "warning": "warn", "wrong": "BAD "}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `fix` is empty where all is well."""

    subject: str
    state: Literal["ok", "warning", "wrong"]
    what: str
    fix: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Say what is wrong here, and how to mend it."""
    options.logging_to_stderr(debug)
    from gguf_vl.cli.status import Status

    findings: list[Finding] = []
    with Status() as status:
        for finding in _examine():
            findings.append(finding)
            status.show(f"looked at {finding.subject} …")
    if as_json:
        import json

        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            print(harmless(f"{_MARKS[finding.state]}  {finding.subject.ljust(width)}  {finding.what}"))
            if finding.fix:
                print(harmless(f"      {' ' * width}  → {finding.fix}"))
    if any(finding.state == "wrong" for finding in findings):
        sys.exit(1)


def _examine() -> Iterator[Finding]:
    import platform

    from gguf_vl.hardware.machine import probe

    machine = probe()
    yield Finding("system", "ok", f"{machine.system}, Python {platform.python_version()}")
    yield _processor(machine)
    yield _memory(machine)
    yield _llama_cpp(machine)
    yield from _devices(machine)
    yield from (Finding("unknown", "ok", f"{what}: {reason}") for what, reason in machine.unknown.items())
    yield _settings()
    yield _folder()
    yield from _models()
    yield _plan(machine)
    if machine.trouble is None:
        yield _answer(machine)


def _processor(machine: Machine) -> Finding:
    what = f"{machine.chip or 'of an unknown name'}, {machine.cores} cores for this program"
    if machine.performance_cores not in (None, machine.cores):
        what += f", {machine.performance_cores} of them fast"
    return Finding("processor", "ok", what)


def _memory(machine: Machine) -> Finding:
    what = f"{machine.memory_available / GIB:.1f} of {machine.memory_total / GIB:.1f} GiB free"
    if machine.memory_limit:
        what += f", by {machine.memory_limit}"
    if machine.swap_free:
        what += f", {machine.swap_free / GIB:.1f} GiB of swap free"
    if machine.bandwidth:
        what += f", about {machine.bandwidth / 1e9:.0f} GB/s"
    if machine.memory_available < 2 * GIB:
        mend = f"Raise {machine.memory_limit}" if machine.memory_limit else "Close other programs"
        return Finding("memory", "warning", what, f"{mend}: the smallest Qwen3-VL needs about 2 GiB.")
    if machine.memory_pressure in ("warning", "critical"):
        what += "; macOS says that memory is short"
        return Finding("memory", "warning", what, "Close other programs before a large model is loaded.")
    return Finding("memory", "ok", what)


def _llama_cpp(machine: Machine) -> Finding:
    from gguf_vl.hardware.build import rebuild

    if machine.trouble:
        return Finding("llama.cpp", "wrong", machine.trouble, f"Build it for this machine: {rebuild()}")
    return Finding("llama.cpp", "ok", f"llama-cpp-python {machine.llama_cpp_python}")


def _devices(machine: Machine) -> Iterator[Finding]:
    from gguf_vl.hardware.build import unused_gpu

    gpus = [device for device in machine.devices if device.kind in ("gpu", "igpu")]
    for device in gpus:
        yield Finding("GPU", "ok", f"{device.name}: {device.description}, {_room(device, machine)}")
    unused = unused_gpu(machine)
    if unused:
        yield Finding("GPU", "warning", unused.what, unused.fix)
    elif not gpus and not machine.trouble:
        beside = f" ({machine.gpu_seen} is here, and seldom faster)" if machine.gpu_seen else ""
        yield Finding("GPU", "ok", f"none: models run on the CPU{beside}")


def _room(device: Device, machine: Machine) -> str:
    free, total = (f"{n / GIB:.1f}" if n is not None else "unknown" for n in (device.free, device.total))
    parts = [f"{free} of {total} GiB free"]
    if device.unified:
        limit = machine.gpu_wired_limit
        parts.append("in main memory" + (f", iogpu.wired_limit_mb is {limit // 1024**2}" if limit else ""))
    if device.driver:
        parts.append(f"driver {device.driver}")
    if device.shared:
        parts.append("shared with a display or other programs")
    if device.bandwidth:
        parts.append(f"about {device.bandwidth / 1e9:.0f} GB/s")
    return ", ".join(parts)


def _settings() -> Finding:
    from gguf_vl import paths
    from gguf_vl.config import load_settings
    from gguf_vl.errors import UsageError

    try:
        load_settings({})
    except UsageError as error:
        return Finding("settings", "wrong", error.what, error.fix)
    there = paths.config_file().is_file()
    return Finding("settings", "ok", str(paths.config_file()) if there else "all defaults")


def _folder() -> Finding:
    import os
    import shutil

    from gguf_vl import paths

    folder = paths.data_dir()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Finding("storage", "wrong", f"{folder} cannot be written.", "Set GGUF_VL_HOME to a folder that can be.")
    return Finding("storage", "ok", f"{folder}, {shutil.disk_usage(existing).free / GIB:.0f} GiB free")


def _models() -> Iterator[Finding]:
    from gguf_vl.errors import GgufVlError
    from gguf_vl.store.library import Broken, scan

    try:
        entries = scan()
    except GgufVlError as error:
        yield Finding("models", "wrong", error.what, error.fix)
        return
    for entry in entries:
        if isinstance(entry, Broken):
            yield Finding("models", "wrong", f"{entry.name}: {entry.trouble}", f"Look into {entry.folder}.")
        elif entry.mmproj is None:
            yield Finding(
                "models",
                "warning",
                f"{entry.name} has no projector: it reads text only.",
                f"Put one beside {entry.model}.",
            )
        else:
            yield Finding("models", "ok", f"{entry.name} ({entry.text.quantisation})")


def _plan(machine: Machine) -> Finding:
    """What would be loaded now, and what would suit this machine."""
    from gguf_vl.config import Settings, load_settings
    from gguf_vl.errors import GgufVlError, UsageError
    from gguf_vl.fit.explain import size
    from gguf_vl.runtime.planning import plan_chosen

    try:
        settings = load_settings({})
    except UsageError:
        settings = Settings()
    try:
        installed, planned = plan_chosen(settings, machine)
    except GgufVlError as error:
        return Finding("plan", "wrong", error.what, error.fix)
    plan, used = planned.plan, planned.used
    takes = ", ".join(f"{size(plan.taken(pool.device))} of {pool.device}" for pool in plan.pools)
    what = f"{installed.name} at {plan.load.n_ctx:,} tokens of context takes {takes}"
    if used:
        taken = [f"{size(n_bytes)} of {device}" for device, n_bytes in used.devices.items()]
        what += f"; it took {', '.join([*taken, f'{size(used.resident)} of RAM'])} when it was loaded"
    if installed.name == "pocket":
        return Finding("plan", "ok", what, _suits(machine, settings))
    return Finding("plan", "warning" if plan.gave_way else "ok", what, "; ".join(plan.gave_way))


def _suits(machine: Machine, settings: Settings) -> str:
    from gguf_vl.errors import GgufVlError
    from gguf_vl.runtime.planning import recommend, wishes_of

    try:
        chosen = recommend(machine, wishes_of(settings))
    except GgufVlError as error:
        return error.what
    if chosen.plan is None:
        return f"No published model fits: {chosen.trouble}."
    return f"Fetch a Qwen3-VL: `gguf-vl pull` takes {chosen.name}, {chosen.reasons}"


def _answer(machine: Machine) -> Finding:
    """Draw a red circle and ask the embedded model about it: the whole path from picture to answer."""
    import io

    from PIL import Image, ImageDraw

    from gguf_vl.config import Settings
    from gguf_vl.engine.blocking import BlockingEngine
    from gguf_vl.errors import GgufVlError
    from gguf_vl.hardware.build import rebuild
    from gguf_vl.media.pictures import load_picture
    from gguf_vl.runtime.candidates import here
    from gguf_vl.runtime.engines import PlannedEngine
    from gguf_vl.runtime.models import named
    from gguf_vl.runtime.planning import plan_here, wishes_of
    from gguf_vl.types import Finished, Message, Request, Text

    drawn = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(drawn).ellipse((60, 70, 180, 190), fill=(214, 32, 32))
    png = io.BytesIO()
    drawn.save(png, "PNG")
    settings = Settings()
    try:
        pocket = named("pocket")
        planned = plan_here(here(pocket), machine, wishes_of(settings))
        picture = load_picture(png.getvalue(), planned.plan.limits)
        request = Request(
            (Message("user", (picture, "What colour is the circle?")),), pocket.sampling(settings, pictures=True)
        )
        with BlockingEngine(PlannedEngine(pocket, planned)) as engine:
            load_s = engine.start().load_s
            events = list(engine.generate(request))
    except GgufVlError as error:
        return Finding("answer", "wrong", error.what, error.fix)
    said = "".join(event.text for event in events if isinstance(event, Text))
    if said != "red":
        return Finding(
            "answer",
            "wrong",
            f"Shown a red circle and asked for its colour, pocket said {said[:60]!r}.",
            f"Rebuild llama-cpp-python: {rebuild()}",
        )
    ttft = next(event.timings.ttft_s for event in events if isinstance(event, Finished))
    return Finding("answer", "ok", f"pocket saw a red circle: loaded in {load_s:.2f} s, answered in {ttft:.2f} s")
