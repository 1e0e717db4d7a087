"""A loop around `llama_decode` alone, in a process of its own: what the library itself can do here."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from gguf_vl.types import EngineSettings

KV_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
"""ggml's numbers of them."""


class Loop:
    """The same model, context, threads and KV type as the engine, and nothing around them."""

    def __init__(self, settings: EngineSettings) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(settings, theirs), daemon=True)
        self._theirs = theirs

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        try:
            self._pipe.recv()
        except EOFError as error:
            raise SystemExit("The bare loop could not load the model once more: too little memory?") from error
        return self

    @property
    def pid(self) -> int:
        """The loop's process."""
        assert self._process.pid
        return self._process.pid

    def rate(self, n_seqs: int, depth: int, n_steps: int, kept: int = 0) -> float:
        """Tokens per second of all sequences together, one token of each in a batch, behind `depth` cells each.

        The cache holds `kept` cells of another sequence in front of them.
        """
        self._pipe.send((n_seqs, depth, n_steps, kept))
        return float(self._pipe.recv())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()  # it holds nothing that could be lost
        self._process.join()


def _serve(settings: EngineSettings, pipe: Connection) -> None:
    """Answers each (sequences, depth, steps) with a rate, until it is killed."""
    from llama_cpp import llama_cpp as llama

    silent = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(silent, None)
    llama.llama_backend_init()
    params = llama.llama_model_default_params()
    params.n_gpu_layers = settings.n_gpu_layers
    model = llama.llama_model_load_from_file(os.fsencode(settings.model), params)
    if not model:
        return
    of_context = llama.llama_context_default_params()
    of_context.n_ctx = settings.n_ctx
    of_context.n_batch = of_context.n_ubatch = settings.n_batch
    of_context.n_threads = of_context.n_threads_batch = settings.n_threads
    of_context.type_k = of_context.type_v = KV_TYPES[settings.kv_type]
    of_context.n_seq_max = of_context.n_outputs_max = max(settings.n_seq_max, 4) + 1
    of_context.kv_unified = True
    context = llama.llama_init_from_model(model, of_context)
    if not context:
        return
    batch = llama.llama_batch_init(settings.n_batch, 0, 1)
    pipe.send("ready")

    def decode(rows: list[tuple[int, int]], *, outputs: bool) -> None:
        """One batch of (sequence, position)."""
        batch.n_tokens = len(rows)
        for i, (sequence, position) in enumerate(rows):
            batch.token[i], batch.pos[i] = 100 + position % 500, position
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, sequence, outputs
        if llama.llama_decode(context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        llama.llama_synchronize(context)

    while True:
        work: Any = pipe.recv()
        n_seqs, depth, n_steps, kept = work
        llama.llama_memory_clear(llama.llama_get_memory(context), False)
        for sequence, n_cells in ((n_seqs, kept), *((each, depth) for each in range(n_seqs))):
            for start in range(0, n_cells, settings.n_batch):
                end = min(n_cells, start + settings.n_batch)
                decode([(sequence, position) for position in range(start, end)], outputs=False)
        began = time.perf_counter()
        for step in range(n_steps):
            decode([(sequence, depth + step) for sequence in range(n_seqs)], outputs=True)
        pipe.send(n_seqs * n_steps / (time.perf_counter() - began))
