"""A context: the KV cache and the decoding of tokens and picture embeddings into it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_cpp import llama_cpp as llama

from gguf_vl.errors import DoesNotFit, EngineError
from gguf_vl.native import log
from gguf_vl.native.owned import Owned
from gguf_vl.types import KvType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gguf_vl.native.model import Model

_KV_TYPES: dict[KvType, int] = {"f16": llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0, "q4_0": llama.GGML_TYPE_Q4_0}
# llama.cpp asks some 540 times per token whether to stop, on a thread that all others wait for. A Python function there
# costs 2-3 % of the 2B's decoding and waits for the GIL; C's `strlen` answers the same from a flag that is "" or "\1".
# It returns a size_t where a bool is expected; 0 and 1 are the same in both.
_LIBC = ctypes.CDLL("ucrtbase" if os.name == "nt" else None)
_IS_SET = ctypes.cast(_LIBC.strlen, llama.ggml_abort_callback)
_UNSET, _SET = b"\0", b"\1"
_POSITIONS = 4
"""Positions of one embedding under M-RoPE: time, row, column and an unused fourth, stored section by section."""


def parameters(*, n_ctx: int, n_batch: int, kv_type: KvType, n_seq_max: int = 1, offload: bool = True) -> Any:
    """`llama_context_params` of a context for `n_seq_max` sequences in one cache, with one output for each.

    Without `offload` no GPU computes anything, and none is needed for that. With it one computes large batches also of
    layers that are in main memory.
    """
    params = llama.llama_context_default_params()
    params.n_ctx = n_ctx
    params.n_batch = params.n_ubatch = n_batch
    params.n_seq_max = params.n_outputs_max = n_seq_max
    params.kv_unified = True
    params.op_offload = offload
    params.type_k = params.type_v = _KV_TYPES[kv_type]
    params.flash_attn_type = (
        llama.LLAMA_FLASH_ATTN_TYPE_AUTO if kv_type == "f16" else llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
    )
    params.no_perf = True
    return params


class Aborted(Exception):
    """Native work was stopped by `abort()` before it was complete."""


class Context(Owned):
    """The KV cache of `n_ctx` cells and the buffers of one `llama_decode`, for one sequence.

    `n_batch` is the most tokens or embeddings one call may take. `abort()` may be called from any thread; every other
    method belongs to the thread that made the context. Raises `DoesNotFit` when llama.cpp cannot make the context.
    """

    def __init__(
        self, model: Model, *, n_ctx: int, n_batch: int, n_threads: int, kv_type: KvType, offload: bool = True
    ) -> None:
        self._model = model
        self.n_batch = min(n_batch, n_ctx)
        self._abort = ctypes.create_string_buffer(2)
        params = parameters(n_ctx=n_ctx, n_batch=self.n_batch, kv_type=kv_type, offload=offload)
        params.n_threads = params.n_threads_batch = n_threads
        params.abort_callback = _IS_SET
        params.abort_callback_data = ctypes.cast(self._abort, ctypes.c_void_p)
        self._context: Any = llama.llama_init_from_model(model.pointer, params)
        if not self._context:
            reason = log.last_complaint() or "llama.cpp gave no reason"
            raise DoesNotFit(f"No room for a context of {n_ctx} tokens: {reason}", "Try a smaller one: `--ctx 4096`.")
        self._memory = llama.llama_get_memory(self._context)
        self._batch = _Batch(self.n_batch)

    @property
    def pointer(self) -> Any:
        """llama.cpp's context, for this room alone."""
        return self._context

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache, as llama.cpp rounded them."""
        return int(llama.llama_n_ctx(self._context))

    def decode_tokens(self, tokens: Sequence[int], position: int, *, logits: bool) -> None:
        """Decode up to `n_batch` tokens at `position`, `position + 1`, …; `logits` asks for those of the last.

        Raises `DoesNotFit` when the cache is full, `Aborted` after `abort()`.
        """
        self._decode(self._batch.of_tokens(tokens, position, logits=logits))

    def decode_embeddings(self, embeddings: NDArray[np.float32], positions: NDArray[np.int32]) -> None:
        """Decode up to `n_batch` embeddings, [n, width] float32, at `positions`, [4, n] int32 (t, row, column, 0).

        Raises like `decode_tokens`.
        """
        if embeddings.shape[1] != self._model.embedding_width:
            raise EngineError(
                f"The projector's embeddings are {embeddings.shape[1]} wide, "
                f"the model takes {self._model.embedding_width}.",
                "Use the projector that was published with this model.",
            )
        self._decode(self._batch.of_embeddings(embeddings, positions))

    def _decode(self, batch: Any) -> None:
        if self._abort[0] == _SET:  # a backend that never asks the callback still stops between two calls
            raise Aborted
        result = llama.llama_decode(self._context, batch)
        if result == 1:
            raise DoesNotFit(f"The context of {self.n_ctx} tokens is full.", "Ask for a larger one: `--ctx`.")
        if result == 2:
            log.forget()
            raise Aborted
        if result != 0:
            reason = log.last_complaint() or f"llama_decode answered {result}"
            raise EngineError(f"llama.cpp could not decode: {reason}", "Run the command again with --debug.")

    def clear(self) -> None:
        """Forget everything decoded so far."""
        llama.llama_memory_clear(self._memory, False)

    def abort(self) -> None:
        """Make the decode that is running, or the next one, raise `Aborted` within milliseconds."""
        self._abort[0] = _SET

    def resume(self) -> None:
        """Take back `abort()`."""
        self._abort[0] = _UNSET

    def close(self) -> None:
        """Release the cache and buffers. Harmless when done twice."""
        if self._context:
            llama.llama_free(self._context)
            self._context = self._memory = None


class _Batch:
    """The arrays behind a `llama_batch`, filled through numpy and used again for every call."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(_POSITIONS * size, np.int32)
        self._logits = np.zeros(size, np.int8)
        self._sequence = llama.llama_seq_id(0)
        self._sequences = (ctypes.POINTER(llama.llama_seq_id) * size)(*[ctypes.pointer(self._sequence)] * size)
        self._sequence_counts = np.ones(size, np.int32)

    def of_tokens(self, tokens: Sequence[int], position: int, *, logits: bool) -> Any:
        n = self._checked(len(tokens))
        self._tokens[:n] = tokens
        self._positions[:n] = np.arange(position, position + n)
        self._logits[:n] = 0
        self._logits[n - 1] = logits
        return self._struct(n, token=_pointer(self._tokens, llama.llama_token))

    def of_embeddings(self, embeddings: NDArray[np.float32], positions: NDArray[np.int32]) -> Any:
        n = self._checked(len(embeddings))
        self._rows = np.ascontiguousarray(embeddings, np.float32)  # must outlive the call
        self._positions[: _POSITIONS * n] = positions.reshape(-1)
        self._logits[:n] = 0
        return self._struct(n, embd=_pointer(self._rows, ctypes.c_float))

    def _checked(self, n: int) -> int:
        if not 0 < n <= self._size:  # llama.cpp ends the process over a batch that is too large
            raise EngineError(f"A batch of {n} where 1 to {self._size} fit.", "Please report this: it is a bug.")
        return n

    def _struct(self, n: int, **content: Any) -> Any:
        return llama.llama_batch(
            n_tokens=n,
            pos=_pointer(self._positions, llama.llama_pos),
            n_seq_id=_pointer(self._sequence_counts, ctypes.c_int32),
            seq_id=self._sequences,
            logits=_pointer(self._logits, ctypes.c_int8),
            **content,
        )


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
