"""What `bench_fit.py` has llama.cpp load, in a process of its own, and what llama.cpp says of it in its log."""

from __future__ import annotations

import multiprocessing
import os
import re
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gguf_vl.types import PATCH, KvType, Picture, PictureLimits

MIB = 1 << 20
_SIZE = r"=\s+([\d.]+) MiB"
_BUFFERS = {
    "model": re.compile(rf"load_tensors:\s+(\S+) model buffer size {_SIZE}"),
    "kv": re.compile(rf"llama_kv_cache:\s+(\S+) KV buffer size {_SIZE}"),
    "compute": re.compile(rf"sched_reserve:\s+(\S+) compute buffer size {_SIZE}"),
    "output": re.compile(rf"llama_context:\s+(\S+)\s+output buffer size {_SIZE}"),
    "projector": re.compile(r"load_hparams: (model) size:\s+([\d.]+) MiB"),
    "encode": re.compile(rf"reserve_compute_meta:\s+(\S+) compute buffer size {_SIZE}"),
}
_KV_SIZE = re.compile(rf"llama_kv_cache: size {_SIZE}")
_ON_CPU = re.compile(r"CPU|\w+_Host$")
"""Names of buffers in main memory: "CPU", "CPU_REPACK", "CPU_Mapped", "Vulkan_Host"."""

Buffers = dict[str, int]
"""Bytes by the name of the buffer."""


def buffers(part: str, lines: list[str]) -> Buffers:
    """Bytes by the name of the buffer, from llama.cpp's log, to a hundredth of a MiB."""
    found: Buffers = {}
    for name, size in _BUFFERS[part].findall("\n".join(lines)):
        found[name] = found.get(name, 0) + round(float(size) * MIB)
    return found


def kv_size(lines: list[str]) -> int:
    """Bytes of the KV cache as llama.cpp computes them, also where it allocates none."""
    found = _KV_SIZE.search("\n".join(lines))
    return round(float(found[1]) * MIB) if found else 0


def on_device(found: Buffers) -> int:
    """Bytes of the buffers that lie on a device."""
    return sum(n_bytes for name, n_bytes in found.items() if not _ON_CPU.match(name))


def loader(pipe: Connection) -> None:
    """Answers each (what, arguments) with buffers, or with a reason why not, until it gets None."""
    os.environ["GGML_NO_BACKTRACE"] = "1"
    from llama_cpp import llama_cpp as llama

    from gguf_vl.native import log
    from gguf_vl.native.context import parameters
    from gguf_vl.native.model import Model
    from gguf_vl.native.model import parameters as model_parameters
    from gguf_vl.native.vision import Vision

    class Simulated(Model):
        """A model without its weights."""

        def __init__(self, path: Path, *, n_gpu_layers: int) -> None:
            params, _split = model_parameters(n_gpu_layers=n_gpu_layers, split=(), map_weights=False)
            params.no_alloc = True
            self._model = llama.llama_model_load_from_file(os.fsencode(path), params)

    heard = log.listen()
    llama.llama_backend_init()
    model: Model | None = None

    def load(path: str, n_gpu_layers: int, mapped: bool | None) -> dict[str, Buffers]:
        """With `mapped` None, without its weights."""
        nonlocal model
        if model:
            model.close()
        if mapped is None:
            model = Simulated(Path(path), n_gpu_layers=n_gpu_layers)
        else:
            model = Model(Path(path), n_gpu_layers=n_gpu_layers, map_weights=mapped, on_progress=lambda _: None)
        return {"model": buffers("model", heard.taken())}

    def context(n_ctx: int, n_batch: int, n_seq_max: int, kv_type: KvType) -> dict[str, Any]:
        assert model
        params = parameters(n_ctx=n_ctx, n_batch=min(n_batch, n_ctx), n_seq_max=n_seq_max, kv_type=kv_type)
        made = llama.llama_init_from_model(model.pointer, params)
        if not made:
            raise RuntimeError(log.last_complaint())
        llama.llama_free(made)
        lines = heard.taken()
        return {part: buffers(part, lines) for part in ("kv", "compute", "output")} | {"kv_size": kv_size(lines)}

    def encode(path: str, use_gpu: bool, columns: int, rows: int) -> dict[str, Buffers]:
        """What a picture takes that is the first one of its projector."""
        assert model
        seen = Picture(bytes(3 * columns * rows * PATCH**2), columns * PATCH, rows * PATCH, (0, 0), "")
        limits = PictureLimits(min(8, seen.tokens), max(8, seen.tokens))
        with Vision(Path(path), model, limits=limits, n_threads=1, use_gpu=use_gpu) as vision:
            vision.reserve(seen)
        lines = heard.taken()
        return {part: buffers(part, lines) for part in ("projector", "encode")}

    answers = {"load": load, "context": context, "encode": encode}
    while question := pipe.recv():
        what, settings = question
        try:
            pipe.send(answers[what](**settings))
        except Exception as error:  # noqa: BLE001
            heard.taken()
            pipe.send(f"{type(error).__name__}: {error}")
    if model:
        model.close()


class Failure(Exception):
    """llama.cpp could not do what was asked."""


class Loader:
    """Asks a `loader` process, and starts another when one has died."""

    def __init__(self) -> None:
        self._spawn = multiprocessing.get_context("spawn")
        self._pipe: Connection | None = None

    def ask(self, what: str, **settings: Any) -> dict[str, Any]:
        """Raises `Failure`; after the death of the process everything must be loaded again."""
        if self._pipe is None:
            self._pipe, theirs = self._spawn.Pipe()
            self._process = self._spawn.Process(target=loader, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        self._pipe.send((what, settings))
        try:
            answer = self._pipe.recv()
        except EOFError as error:
            self._process.join()
            self._pipe = None
            raise Failure(f"the process ended with {self._process.exitcode}") from error
        if isinstance(answer, str):
            raise Failure(answer)
        return answer

    def load_again(self, **settings: Any) -> None:
        """Have a model loaded if the process has died."""
        if self._pipe is None:
            self.ask("load", **settings)

    def end(self) -> None:
        """Release what is loaded."""
        if self._pipe:
            self._pipe.send(None)
            self._process.join()
            self._pipe = None
