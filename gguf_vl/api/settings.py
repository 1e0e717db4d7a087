"""What `load` and each question may set: the same names and values as in `config.toml` and on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from gguf_vl.config import NAMES, Settings, load_settings, with_origins
from gguf_vl.errors import UsageError, did_you_mean
from gguf_vl.media.choice import Frames
from gguf_vl.types import Detail, KvType


class LoadSettings(TypedDict, total=False):
    """The settings of a model. One that is left out, or None, is the person's own, or is chosen for the machine.

    `mmproj` is the projector's file, `ctx` the context in tokens, `gpu_layers` -1 all layers, `parallel` how many
    requests are answered at once, `image_max_tokens` the most image tokens of a picture, `reserve` the bytes to leave
    free ("4G"), `disk_cache` those on disk for what was computed before, `idle_unload` the seconds without a question
    after which the memory is given back (0 is never; the next question loads again). Without `proof` it is not tried
    whether the largest picture finds its memory. The rest holds for every question that does not say otherwise, as
    in `AskSettings`.
    """

    mmproj: str | Path | None
    ctx: int | None
    gpu_layers: int | None
    kv_type: KvType | None
    parallel: int | None
    image_max_tokens: int | None
    mmproj_offload: bool | None
    reserve: int | str | None
    disk_cache: int | str | None
    proof: bool | None
    idle_unload: float | None
    threads: int | None
    detail: Detail | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    seed: int | None
    system: str | None


class AskSettings(TypedDict, total=False):
    """The settings of one question. One that is left out, or None, is the model's.

    A JSON `schema` holds the answer to it, and `Answer.fields` is its value. `system` is the system prompt, `detail`
    how many image tokens a picture may take. `max_tokens` are those of the answer, `thinking_budget` of a Thinking
    model's reasoning. An answer ends before a `stop` string. `frames` says which frames of a video are shown, one every
    half second where it does not.
    """

    schema: Any
    system: str | None
    detail: Detail | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    thinking_budget: int | None
    frames: Frames | None


def settings_of(model: str | os.PathLike[str] | None, given: Mapping[str, Any]) -> Settings:
    """The settings in force: defaults < `config.toml` < environment < these. Raises `UsageError`."""
    check_names(given, LoadSettings.__annotations__)
    with _named_as_here():
        return load_settings({**given, "model": None if model is None else os.fspath(model)})


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a question, without those that are None. Raises `UsageError` for what cannot be."""
    check_names(given, AskSettings.__annotations__)
    asked = {name: value for name, value in given.items() if value is not None}
    ours = {name: value for name, value in asked.items() if name in NAMES}
    with _named_as_here():
        found = with_origins(ours, environment={}, file=None)
    if not isinstance(frames := asked.get("frames", Frames()), Frames):
        raise UsageError(f"frames is {frames!r}, which says of no video what is shown.", "Give Frames(number=16).")
    if isinstance(stop := asked.get("stop", ()), str):
        stop = (stop,)
    return {**asked, **{name: found[name].value for name in ours}, "stop": tuple(stop)}


@contextmanager
def _named_as_here() -> Iterator[None]:
    """What complains of a flag of the command line, `--top-k`, complains of an argument: `top_k`."""
    try:
        yield
    except UsageError as error:
        flag, space, rest = error.what.partition(" ")
        if not flag.startswith("--"):
            raise
        raise UsageError(flag[2:].replace("-", "_") + space + rest, error.fix) from error


def check_names(given: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise `UsageError`, with the nearest name, for one that is none of `names`."""
    names = list(names)
    for name in given:
        if name not in names:
            fix = did_you_mean(name.casefold(), names) or f"There are {', '.join(names)}."
            raise UsageError(f"There is no setting {name!r} here.", fix)
