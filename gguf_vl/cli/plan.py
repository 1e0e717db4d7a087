"""`gguf-vl plan`: what fits here, and why, before anything is fetched or loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gguf_vl.cli import options

if TYPE_CHECKING:
    from gguf_vl.config import Settings
    from gguf_vl.runtime.alternatives import Alternative
    from gguf_vl.runtime.planning import Planned
    from gguf_vl.types import Machine, Used


def plan(
    model: Annotated[
        str | None, typer.Argument(help="A catalogue name, a model that is here, or a GGUF file.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    measured: Annotated[
        bool, typer.Option("--measured", help="Load the model, encode the largest picture, and show what is used.")
    ] = False,
    machine: Annotated[
        Path | None, typer.Option("--machine", help="Plan for another machine: what `plan --json` printed there.")
    ] = None,
    mmproj: options.Mmproj = None,
    ctx: options.Ctx = None,
    gpu_layers: options.GpuLayers = None,
    kv_type: options.KvType = None,
    parallel: options.Parallel = None,
    image_max_tokens: options.ImageMaxTokens = None,
    mmproj_offload: options.MmprojOffload = None,
    reserve: options.Reserve = None,
    threads: options.Threads = None,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Show what of a model fits this machine, and why."""
    settings = options.settings(
        debug,
        model=model,
        mmproj=mmproj,
        ctx=ctx,
        gpu_layers=gpu_layers,
        kv_type=kv_type,
        parallel=parallel,
        image_max_tokens=image_max_tokens,
        mmproj_offload=mmproj_offload,
        reserve=reserve,
        threads=threads,
    )
    from gguf_vl.errors import UsageError
    from gguf_vl.runtime.alternatives import alternatives
    from gguf_vl.runtime.planning import plan_elsewhere_for, plan_for

    if measured and machine:
        raise UsageError("Another machine's memory cannot be measured here.", "Run `plan --measured` there.")
    planned, note = (plan_for if machine is None else plan_elsewhere_for)(settings, _machine(machine))
    if note:
        print(note, file=sys.stderr)
    used = planned.used if machine is None else None
    if measured:
        planned, used = _measured(settings, planned)
    others = alternatives(planned)
    if as_json:
        import json

        print(json.dumps(_plain(planned, used, others), ensure_ascii=False, indent=2))
    else:
        from gguf_vl.cli.plan_view import show

        show(planned, used, others)


def _machine(recorded: Path | None) -> Machine:
    from gguf_vl.errors import MissingOrInvalid
    from gguf_vl.hardware.machine import probe
    from gguf_vl.hardware.recorded import machine_from_json

    if recorded is None:
        return probe()
    try:
        return machine_from_json(recorded.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise MissingOrInvalid(f"{recorded} cannot be read: {why}.", "Give a file with a recorded machine.") from error


def _measured(settings: Settings, planned: Planned) -> tuple[Planned, Used]:
    """Load it for real, with the largest picture encoded. Returns the plan that held, and what it takes."""
    from gguf_vl.cli.status import Status
    from gguf_vl.engine.blocking import BlockingEngine
    from gguf_vl.errors import ModelNotFound
    from gguf_vl.runtime.engines import PlannedEngine
    from gguf_vl.runtime.models import named

    name = planned.candidate.name
    if not planned.candidate.is_here:
        raise ModelNotFound(f"{name} is not here, so nothing can be measured.", f"Fetch it: `gguf-vl pull {name}`.")
    installed = named(settings.model or name, mmproj=settings.mmproj)
    with Status() as status:

        def loading(done: float) -> None:
            largest = f"encoding a picture of {planned.plan.limits.max_tokens:,} image tokens …"
            status.show(f"loading {name} … {done:.0%}" if done < 1 else largest)

        engine = PlannedEngine(
            installed, planned, on_progress=loading, tell=lambda line: print(line, file=sys.stderr), prove="always"
        )
        with BlockingEngine(engine) as blocking:
            used = blocking.start().used
    return engine.planned, used


def _plain(planned: Planned, used: Used | None, others: list[Alternative]) -> dict[str, Any]:
    from dataclasses import asdict

    plan = planned.plan
    return {
        "model": planned.candidate.name,
        "is_here": planned.candidate.is_here,
        "plan": asdict(plan),
        "devices": {
            pool.device: {"taken": plan.taken(pool.device), "usable": pool.usable, "free": pool.free}
            for pool in plan.pools
        },
        "used": asdict(used) if used else None,
        "alternatives": [
            {
                "wish": each.wish,
                "fits": each.plan is not None,
                "n_ctx": each.plan and each.plan.load.n_ctx,
                "decode_tps": each.plan and each.plan.decode_tps,
                "taken": each.plan and {pool.device: each.plan.taken(pool.device) for pool in each.plan.pools},
                "trouble": each.trouble or None,
            }
            for each in others
        ],
        "machine": asdict(planned.machine),
    }
