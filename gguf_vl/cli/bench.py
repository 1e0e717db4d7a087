"""`gguf-vl bench`: how fast a model is on this machine."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gguf_vl.cli import options
from gguf_vl.cli.printing import harmless


def bench(
    model: Annotated[str | None, typer.Argument(help="A model that is here.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=100, help="How often each is measured.")] = 3,
    image_tokens: Annotated[
        int, typer.Option("--image-tokens", min=16, max=16_384, help="Image tokens of the pictures.")
    ] = 256,
    mmproj: options.Mmproj = None,
    ctx: options.Ctx = None,
    gpu_layers: options.GpuLayers = None,
    kv_type: options.KvType = None,
    threads: options.Threads = None,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Measure a model here: load, first token with and without a picture, tokens per second, memory."""
    settings = options.settings(
        debug, model=model, mmproj=mmproj, ctx=ctx, gpu_layers=gpu_layers, kv_type=kv_type, threads=threads
    )
    from gguf_vl.cli.status import Status
    from gguf_vl.hardware.machine import probe
    from gguf_vl.runtime.bench import bench as measured
    from gguf_vl.runtime.planning import plan_chosen

    installed, planned = plan_chosen(settings, probe())
    if settings.model is None:
        print(f"Using {installed.name} ({installed.why}).", file=sys.stderr)
    with Status() as status:
        rows = measured(installed, planned, repeats=repeats, image_tokens=image_tokens, tell=status.show)
    if as_json:
        import json
        from dataclasses import asdict

        print(json.dumps({"model": installed.name, "rows": [asdict(row) for row in rows]}, ensure_ascii=False))
        return
    width = max(len(row.name) for row in rows)
    print(
        harmless(f"{installed.name}, {planned.plan.load.n_ctx:,} tokens of context, {planned.plan.n_threads} threads")
    )
    for row in rows:
        spread = f"  ({row.least:.3g} to {row.most:.3g}, {row.n} times)" if row.n > 1 else ""
        print(f"{row.name.ljust(width)}  {row.middle:8.4g} {row.unit}{spread}")
