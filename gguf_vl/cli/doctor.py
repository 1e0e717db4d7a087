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
    from gguf_vl.hardware.machine import Machine

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
    from gguf_vl.hardware.machine import probe

    machine = probe()
    yield Finding("system", "ok", f"{machine.system}, Python {machine.python}")
    yield _memory(machine)
    yield _llama_cpp(machine)
    yield from _devices(machine)
    yield _settings()
    yield _folder()
    yield from _models()
    if machine.trouble is None:
        yield _answer(machine)


def _memory(machine: Machine) -> Finding:
    what = f"{machine.memory_available / GIB:.1f} of {machine.memory_total / GIB:.1f} GiB free, {machine.cores} cores"
    if machine.memory_available < 2 * GIB:
        return Finding("memory", "warning", what, "Close other programs: the smallest Qwen3-VL needs about 2 GiB.")
    return Finding("memory", "ok", what)


def _llama_cpp(machine: Machine) -> Finding:
    if machine.trouble:
        return Finding("llama.cpp", "wrong", machine.trouble, "Build it for this machine: scripts/setup --rebuild")
    return Finding("llama.cpp", "ok", f"llama-cpp-python {machine.llama_cpp_python}")


def _devices(machine: Machine) -> Iterator[Finding]:
    gpus = [device for device in machine.devices if device.kind in ("gpu", "igpu")]
    for device in gpus:
        room = f"{(device.free or 0) / GIB:.1f} of {(device.total or 0) / GIB:.1f} GiB free"
        yield Finding("GPU", "ok", f"{device.name}: {device.description}, {room}")
    if gpus or machine.trouble:
        return
    if machine.gpu_seen and not machine.gpu_offload:
        yield Finding(
            "GPU",
            "warning",
            f"{machine.gpu_seen} is here, but llama-cpp-python was built without it.",
            "Rebuild it: scripts/setup --rebuild",
        )
    else:
        yield Finding("GPU", "ok", "none: models run on the CPU")


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


def _answer(machine: Machine) -> Finding:
    """Draw a red circle and ask the embedded model about it: the whole path from picture to answer."""
    import io

    from PIL import Image, ImageDraw

    from gguf_vl.config import Settings
    from gguf_vl.engine.blocking import BlockingEngine
    from gguf_vl.errors import GgufVlError
    from gguf_vl.media.pictures import load_picture
    from gguf_vl.runtime.engines import make_engine
    from gguf_vl.runtime.models import named
    from gguf_vl.types import Finished, Message, Request, Text

    drawn = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(drawn).ellipse((60, 70, 180, 190), fill=(214, 32, 32))
    png = io.BytesIO()
    drawn.save(png, "PNG")
    settings = Settings()
    try:
        pocket = named("pocket")
        picture = load_picture(png.getvalue(), pocket.limits)
        request = Request(
            (Message("user", (picture, "What colour is the circle?")),), pocket.sampling(settings, pictures=True)
        )
        with BlockingEngine(make_engine(pocket, settings)) as engine:
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
            "Rebuild llama-cpp-python: scripts/setup --rebuild",
        )
    ttft = next(event.timings.ttft_s for event in events if isinstance(event, Finished))
    return Finding("answer", "ok", f"pocket saw a red circle: loaded in {load_s:.2f} s, answered in {ttft:.2f} s")
