"""`gguf-vl` and `gguf-vl chat`: talk about pictures in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from gguf_vl.cli import options


def chat(
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="As --model.")] = None,
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
    """Talk about pictures in the terminal."""
    settings = options.settings(
        False,  # the log would be written over the screen; F10 shows it
        model=name or model,
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
    from gguf_vl.tui.opening import open_app

    raise typer.Exit(open_app(settings))
