"""A context: the KV cache and the decoding of tokens and picture embeddings into it."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_cpp import llama_cpp as llama

from gguf_vl.errors import DoesNotFit, EngineError
from gguf_vl.native import log
from gguf_vl.native.owned import Owned
from gguf_vl.types import KvType, sequence_ids

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


def parameters(*, n_ctx: int, n_batch: int, kv_type: KvType, n_seq_max: int = 1, offload: bool = True) -> Any:
    """`llama_context_params` of a context in which `n_seq_max` sequences are decoded at once, in one cache.

    Sequences that are kept for later have ids of their own. llama.cpp has room for the logits of one row for each id.
    Without `offload` no GPU computes anything, and none is needed for that. With it one computes large batches also of
    layers that are in main memory.
    """
    params = llama.llama_context_default_params()
    params.n_ctx = n_ctx
    params.n_batch = params.n_ubatch = n_batch
    params.n_seq_max = params.n_outputs_max = sequence_ids(n_seq_max)
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
    """The KV cache of `n_ctx` cells and the buffers of one `llama_decode`, for `n_seq_max` sequences and those kept.

    `n_batch` is the most tokens or embeddings one call may take. `abort()` may be called from any thread; every other
    method belongs to the thread that made the context. Raises `DoesNotFit` when llama.cpp cannot make the context.
    """

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int,
        n_batch: int,
        n_threads: int,
        kv_type: KvType,
        n_seq_max: int = 1,
        offload: bool = True,
    ) -> None:
        self._model = model
        self.n_batch = min(n_batch, n_ctx)
        self.n_seqs = sequence_ids(n_seq_max)
        self._abort = ctypes.create_string_buffer(2)
        params = parameters(n_ctx=n_ctx, n_batch=self.n_batch, kv_type=kv_type, n_seq_max=n_seq_max, offload=offload)
        params.n_threads = params.n_threads_batch = n_threads
        params.abort_callback = _IS_SET
        params.abort_callback_data = ctypes.cast(self._abort, ctypes.c_void_p)
        self._context: Any = llama.llama_init_from_model(model.pointer, params)
        if not self._context:
            reason = log.last_complaint() or "llama.cpp gave no reason"
            raise DoesNotFit(f"No room for a context of {n_ctx} tokens: {reason}", "Try a smaller one: `--ctx 4096`.")
        self._memory = llama.llama_get_memory(self._context)

    @property
    def pointer(self) -> Any:
        """llama.cpp's context, for this room alone."""
        return self._context

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache, as llama.cpp rounded them."""
        return int(llama.llama_n_ctx(self._context))

    def batch(self) -> Batch:
        """An empty batch of the largest size."""
        return Batch(self.n_batch, self.n_seqs, self._model.embedding_width)

    def decode(self, batch: Batch) -> bool:
        """Decode a batch. False when the cache has no room for it; nothing has changed then.

        Raises `Aborted` after `abort()`: of what it adds nothing is in the cache then.
        """
        if self._abort[0] == _SET:  # a backend that never asks the callback still stops between two calls
            raise Aborted
        result = llama.llama_decode(self._context, batch.struct())
        if result == 2:
            log.forget()
            raise Aborted
        if result not in (0, 1):
            reason = log.last_complaint() or f"llama_decode answered {result}"
            raise EngineError(f"llama.cpp could not decode: {reason}", "Run the command again with --debug.")
        llama.llama_synchronize(self._context)  # a GPU has only been told so far: who measures this would see nothing
        return bool(result == 0)

    def logits(self, row: int) -> NDArray[np.float32]:
        """The logits that a row of the latest batch had asked for, [n_vocab] float32; valid until the next decode."""
        pointer = llama.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, (self._model.n_vocab,))

    @contextmanager
    def embedding(self) -> Iterator[None]:
        """Inside, batches hand out hidden states, of all their rows: none may have more than there are sequences."""
        llama.llama_set_embeddings(self._context, True)
        try:
            yield
        finally:
            llama.llama_set_embeddings(self._context, False)

    def hidden(self, row: int, sequence: int) -> NDArray[np.float32]:
        """The last hidden state of a row of a batch that was decoded inside `embedding`, [n_embd] float32.

        It is the only row of that sequence, by which llama.cpp hands it out where a model says how to pool.
        """
        if llama.llama_pooling_type(self._context) == llama.LLAMA_POOLING_TYPE_NONE:
            pointer = llama.llama_get_embeddings_ith(self._context, row)
        else:
            pointer = llama.llama_get_embeddings_seq(self._context, sequence)
        return np.ctypeslib.as_array(pointer, (self._model.n_embd,)).copy()

    def use_threads(self, n_threads: int) -> None:
        """Compute with so many threads from now on."""
        llama.llama_set_n_threads(self._context, n_threads, n_threads)

    def share(self, source: int, target: int, end: int) -> None:
        """Let the empty sequence `target` begin as `source` does, up to position `end`. No cell is copied."""
        llama.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def state_bytes(self, sequence: int) -> int:
        """Bytes of a sequence's state."""
        return int(llama.llama_state_seq_get_size(self._context, sequence))

    def save(self, sequence: int, path: Path, note: bytes) -> bool:
        """Write a sequence's state, and before it a note of whole 32-bit words. False where that failed."""
        words = (llama.llama_token * (len(note) // 4)).from_buffer_copy(note)
        written = llama.llama_state_seq_save_file(self._context, os.fsencode(path), sequence, words, len(words))
        if not written:
            log.forget()
        return bool(written)

    def restore(self, sequence: int, path: Path) -> bool:
        """Fill an empty sequence from a file that `save` wrote. False where that has no room, or is no such file."""
        try:
            with path.open("rb") as stream:
                room = struct.unpack("<III", stream.read(12))[2]  # behind llama.cpp's magic and version
        except (OSError, struct.error):
            return False
        words, n_words = (llama.llama_token * room)(), ctypes.c_size_t()
        read = llama.llama_state_seq_load_file(
            self._context, os.fsencode(path), sequence, words, room, ctypes.byref(n_words)
        )
        if not read:
            log.forget()
            self.cut(sequence, 0)
        return bool(read)

    def cut(self, sequence: int, position: int) -> None:
        """Forget all of a sequence from `position` on."""
        llama.llama_memory_seq_rm(self._memory, sequence, position, -1)

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


class Batch:
    """Rows for one `llama_decode`, all tokens or all embeddings, filled through numpy and used again for every call."""

    def __init__(self, size: int, n_seqs: int, embedding_width: int) -> None:
        self.size = size
        self.n = 0
        self._width = embedding_width
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._outputs = np.zeros(size, np.int8)
        self._ids = np.arange(n_seqs, dtype=np.int32)
        self._addresses = self._ids.ctypes.data + self._ids.itemsize * np.arange(n_seqs, dtype=np.uint64)
        self._sequences = np.zeros(size, np.uint64)
        self._sequence_counts = np.ones(size, np.int32)
        self._rows: list[NDArray[np.float32]] = []
        self._row_positions: list[NDArray[np.int32]] = []

    def clear(self) -> None:
        """Take out all rows."""
        self.n = 0
        self._rows.clear()
        self._row_positions.clear()

    def add_tokens(self, sequence: int, tokens: NDArray[np.int32], position: int, *, n_outputs: int) -> int:
        """Add tokens at `position`, `position + 1`, …, the last `n_outputs` of them with logits.

        Returns the row of the first that has logits.
        """
        start, end = self.n, self.n + len(tokens)
        self._check(end)
        self._tokens[start:end] = tokens
        self._positions[start:end] = np.arange(position, position + len(tokens))
        self._sequences[start:end] = self._addresses[sequence]
        self._outputs[start:end] = 0
        self._outputs[end - n_outputs : end] = 1
        self.n = end
        return end - n_outputs

    def add_embeddings(self, sequence: int, rows: NDArray[np.float32], positions: NDArray[np.int32]) -> None:
        """Add embeddings, [n, width] float32, at `positions`, [4, n] int32 (t, row, column, 0)."""
        if rows.shape[1] != self._width:
            raise EngineError(
                f"The projector's embeddings are {rows.shape[1]} wide, the model takes {self._width}.",
                "Use the projector that was published with this model.",
            )
        start, end = self.n, self.n + len(rows)
        self._check(end)
        self._rows.append(rows)
        self._row_positions.append(positions)
        self._sequences[start:end] = self._addresses[sequence]
        self._outputs[start:end] = 0
        self.n = end

    def _check(self, end: int) -> None:
        if not self.n < end <= self.size:  # llama.cpp ends the process over a batch that is too large
            raise EngineError(f"A batch of {end} where 1 to {self.size} fit.", "Please report this: it is a bug.")

    def struct(self) -> Any:
        """llama.cpp's batch, valid until the next change."""
        if self._rows:
            self._joined = np.ascontiguousarray(np.concatenate(self._rows), np.float32)
            self._joined_positions = np.concatenate(self._row_positions, axis=1).reshape(-1)
            content = {"embd": _pointer(self._joined, ctypes.c_float)}
            positions = self._joined_positions
        else:
            content, positions = {"token": _pointer(self._tokens, llama.llama_token)}, self._positions
        return llama.llama_batch(
            n_tokens=self.n,
            pos=_pointer(positions, llama.llama_pos),
            n_seq_id=_pointer(self._sequence_counts, ctypes.c_int32),
            seq_id=ctypes.cast(self._sequences.ctypes.data, ctypes.POINTER(ctypes.POINTER(llama.llama_seq_id))),
            logits=_pointer(self._outputs, ctypes.c_int8),
            **content,
        )


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
