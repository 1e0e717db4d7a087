"""The flags that verbs share, and how they become settings."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gguf_vl.config import Settings

Verb = Callable[..., None]


def _go_offline(wanted: bool) -> None:
    """Switch offline mode on for this process and those it starts."""
    if wanted:
        os.environ["GGUF_VL_OFFLINE"] = "1"


Model = Annotated[
    str | None, typer.Option("-m", "--model", help="A catalogue name (2b, 8b:q8_0), `pocket`, or a GGUF file.")
]
Mmproj = Annotated[str | None, typer.Option("--mmproj", help="The projector file, where it is not beside the model.")]
Ctx = Annotated[int | None, typer.Option("-c", "--ctx", help="Context size in tokens.")]
GpuLayers = Annotated[
    int | None, typer.Option("-ngl", "--gpu-layers", help="Layers on the GPU; 0 for none, -1 for all.")
]
KvType = Annotated[str | None, typer.Option("--kv-type", help="KV cache type: f16, q8_0 or q4_0.")]
Parallel = Annotated[int | None, typer.Option("--parallel", help="Requests answered at once; they share the context.")]
ImageMaxTokens = Annotated[
    int | None, typer.Option("--image-max-tokens", help="Most image tokens of a picture; larger ones are shrunk.")
]
MmprojOffload = Annotated[
    bool | None,
    typer.Option(
        "--mmproj-offload/--no-mmproj-offload", help="Whether the projector is on the GPU.", show_default=False
    ),
]
Reserve = Annotated[
    str | None, typer.Option("--reserve", help="Memory to keep free: on each GPU, or the main memory. 4G, 512M, …")
]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads; the fast cores by default.")]
Detail = Annotated[str | None, typer.Option("--detail", help="Image tokens per picture: low, auto or high.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Most tokens of the answer.")]
Temperature = Annotated[float | None, typer.Option("--temperature", help="Randomness; 0 takes the likeliest.")]
TopP = Annotated[float | None, typer.Option("--top-p", help="Sample from the likeliest tokens of this total share.")]
TopK = Annotated[int | None, typer.Option("--top-k", help="Sample from this many of the likeliest tokens; 0 for all.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Makes sampled answers repeatable.")]
System = Annotated[str | None, typer.Option("--system", help="System prompt.")]
Param = Annotated[list[str] | None, typer.Option("-p", "--param", metavar="KEY=VALUE", help="A parameter of the task.")]
Every = Annotated[float | None, typer.Option(help="Of a video, a frame every so many seconds.")]
FrameCount = Annotated[int | None, typer.Option(help="Of a video, so many frames, spread evenly.")]
Scenes = Annotated[bool, typer.Option("--scenes", help="Of a video, the first frame of each scene.")]
Offline = Annotated[bool, typer.Option("--offline", callback=_go_offline, help="Use no network at all.")]
"""Takes effect by being given: a verb need not look at it."""
Debug = Annotated[bool, typer.Option("--debug", help="Show the log, llama.cpp's too, and tracebacks.")]


LOADING = {
    "model": Model,
    "mmproj": Mmproj,
    "ctx": Ctx,
    "gpu_layers": GpuLayers,
    "kv_type": KvType,
    "parallel": Parallel,
    "image_max_tokens": ImageMaxTokens,
    "mmproj_offload": MmprojOffload,
    "reserve": Reserve,
    "threads": Threads,
    "detail": Detail,
}
"""How a model is loaded, and pictures for it."""
SAMPLING = {"max_tokens": MaxTokens, "temperature": Temperature, "top_p": TopP, "top_k": TopK, "seed": Seed}
"""How its answer is sampled."""
ASKING = LOADING | SAMPLING | {"system": System}
"""Both, and what it is told first."""


def with_flags(flags: Mapping[str, Any], *, but: Collection[str] = ()) -> Callable[[Verb], Verb]:
    """Give a verb these flags behind its own, `but` some. It gets those that were given as its parameter `flags`, by
    the names of the settings.
    """

    def decorated(verb: Verb) -> Verb:
        own = [each for each in inspect.signature(verb, eval_str=True).parameters.values() if each.name != "flags"]
        names = [name for name in flags if name not in but]

        @wraps(verb)
        def with_them(**given: Any) -> None:
            found = {name: given.pop(name) for name in names}
            verb(**given, flags={name: value for name, value in found.items() if value is not None})

        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=flags[name])
            for name in names
        ]
        all_of_them = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        ends = [each for each in all_of_them if each.name in ("offline", "debug")]
        begins = [each for each in all_of_them if each not in ends]
        signature = inspect.Signature([*begins, *shared, *ends])
        vars(with_them)["__signature__"] = signature
        with_them.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
        return with_them

    return decorated


def help_without_verb(context: typer.Context) -> None:
    """A group of verbs called without one shows its help."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def settings(debug: bool, **flags: Any) -> Settings:
    """The settings with these flags over them. With `debug`, the log goes to standard error from now on."""
    logging_to_stderr(debug)
    from gguf_vl.config import load_settings

    return load_settings({name: value for name, value in flags.items() if value is not None})


def logging_to_stderr(debug: bool) -> None:
    """With `debug`, show our log and llama.cpp's on standard error from now on."""
    if debug:
        import logging

        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(name)s %(levelname)s %(message)s")
        logging.getLogger("asyncio").setLevel(logging.INFO)
        logging.getLogger("PIL").setLevel(logging.INFO)
