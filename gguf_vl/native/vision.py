"""The vision tower and projector: from pixels to embeddings."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_cpp import llama_cpp as llama
from llama_cpp import mtmd_cpp as mtmd

from gguf_vl.errors import DoesNotFit, EngineError, GgufVlError, InvalidModelFile, is_about_memory
from gguf_vl.native import log
from gguf_vl.native.context import Aborted
from gguf_vl.native.owned import Owned
from gguf_vl.types import Picture, PictureLimits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gguf_vl.native.model import Model

_NODES_BETWEEN_CHECKS = 32
"""Graph nodes computed between two looks at the abort flag: more cost less, fewer stop sooner."""


class Vision(Owned):
    """A projector loaded beside its text model. One picture is encoded at a time.

    `abort()` may be called from any thread. Raises `InvalidModelFile` when the file is no projector of this model,
    `DoesNotFit` when memory does not suffice.
    """

    def __init__(self, path: Path, model: Model, *, limits: PictureLimits, n_threads: int, use_gpu: bool) -> None:
        self.width = model.embedding_width
        self._abort = threading.Event()
        self._only_reserves = False
        self._nodes = 0
        self.between_nodes: Callable[[], None] | None = None
        """Called on the encoding thread whenever a graph node is done that was looked at; may wait."""
        self.looks_often: Callable[[], bool] = lambda: False
        """Whether every node is looked at, and not only some."""
        self._eval_callback = llama.ggml_backend_sched_eval_callback(self._goes_on)
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = use_gpu
        params.print_timings = False
        params.n_threads = n_threads
        params.warmup = False
        params.image_min_tokens = limits.min_tokens
        params.image_max_tokens = limits.max_tokens
        params.cb_eval = self._eval_callback
        self._vision: Any = mtmd.mtmd_init_from_file(os.fsencode(path), model.pointer, params)
        if not self._vision:
            reason = log.last_complaint() or "llama.cpp gave no reason"
            if is_about_memory(reason):
                raise DoesNotFit(f"No room for {path.name}: {reason}", "Close other programs, or take a smaller model.")
            raise InvalidModelFile(
                f"{path.name} could not be loaded as this model's projector: {reason}",
                "Use the projector that was published with this model.",
            )

    def _goes_on(self, _tensor: object, asked: bool, _user_data: object) -> bool:
        """llama.cpp asks before a node whether to stop after it (`asked`), and after it whether to go on."""
        if not asked:
            if self.between_nodes:
                self.between_nodes()
            return not (self._abort.is_set() or self._only_reserves)
        self._nodes += 1
        return self._only_reserves or self.looks_often() or self._nodes % _NODES_BETWEEN_CHECKS == 0

    def reserve(self, picture: Picture) -> None:
        """Have llama.cpp allocate, and keep, what encoding such a picture takes, and stop before it is encoded.

        Raises `DoesNotFit` when memory does not suffice.
        """
        self._only_reserves = True
        try:
            self.encode(picture)
        finally:
            self._only_reserves = False
            log.forget()

    def encode(self, picture: Picture) -> NDArray[np.float32]:
        """The picture's embeddings, [image tokens, hidden × (1 + DeepStack layers)] float32, in row order.

        Raises `Aborted` after `abort()`, `EngineError` when llama.cpp fails or would resize the picture.
        """
        chunks = mtmd.mtmd_input_chunks_init()
        bitmaps = [self._bitmap(picture, index) for index in range(picture.frames)]
        try:
            return self._encode(self._image_chunk(chunks, bitmaps), picture)
        finally:
            for bitmap in bitmaps:
                mtmd.mtmd_bitmap_free(bitmap)
            mtmd.mtmd_input_chunks_free(chunks)

    @staticmethod
    def _bitmap(picture: Picture, index: int) -> Any:
        """One frame of a picture. Two of a pair are merged by llama.cpp, as the temporal patch of Qwen's model does."""
        size = 3 * picture.width * picture.height
        pixels = (ctypes.c_uint8 * size).from_buffer_copy(picture.rgb, index * size)
        bitmap = mtmd.mtmd_bitmap_init(picture.width, picture.height, pixels)
        mtmd.mtmd_bitmap_set_mergeable(bitmap, picture.frames > 1)
        return bitmap

    def _image_chunk(self, chunks: Any, bitmaps: list[Any]) -> Any:
        each = [ctypes.pointer(mtmd.mtmd_input_part(bitmap=bitmap)) for bitmap in bitmaps]
        parts = (ctypes.POINTER(mtmd.mtmd_input_part) * len(each))(*each)
        result = mtmd.mtmd_tokenize_from_parts(self._vision, chunks, parts, len(each), False)
        if result != 0:
            raise self._failed(f"mtmd_tokenize answered {result}")
        for index in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, index)
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                return chunk
        raise self._failed("the projector made no image tokens")

    def _encode(self, chunk: Any, picture: Picture) -> NDArray[np.float32]:
        tokens = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
        if tokens != picture.tokens:
            raise self._failed(f"{tokens} image tokens for a picture of {picture.tokens}")
        result = mtmd.mtmd_encode_chunk(self._vision, chunk)
        if self._abort.is_set():  # stopped in the middle, llama.cpp answers 0 and leaves garbage
            raise Aborted
        if result != 0:
            raise self._failed(f"mtmd_encode_chunk answered {result}")
        embeddings = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(self._vision), (tokens, self.width))
        return embeddings.copy()

    def _failed(self, why: str) -> GgufVlError:
        reason = log.last_complaint() or why
        kind = DoesNotFit if is_about_memory(reason) else EngineError
        return kind(
            f"llama.cpp could not encode the picture: {reason}",
            "Try a smaller picture or `--detail low`, and run with --debug to see llama.cpp's log.",
        )

    def abort(self) -> None:
        """Make the encode that is running, or the next one, raise `Aborted` soon."""
        self._abort.set()

    @property
    def is_aborted(self) -> bool:
        """Whether `abort()` was called, and not taken back."""
        return self._abort.is_set()

    def resume(self) -> None:
        """Take back `abort()`."""
        self._abort.clear()

    def close(self) -> None:
        """Release the projector. Harmless when done twice."""
        if self._vision:
            mtmd.mtmd_free(self._vision)
            self._vision = None
