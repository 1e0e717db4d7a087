"""A loaded text model and its vocabulary."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as llama

from gguf_vl.errors import DoesNotFit, InvalidModelFile, is_about_memory
from gguf_vl.native import log
from gguf_vl.native.owned import Owned

_MATCHED_ALWAYS = llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_USER_DEFINED


def parameters(*, n_gpu_layers: int, split: Sequence[int], map_weights: bool) -> tuple[Any, Any]:
    """`llama_model_params`, and the array they point into, which must live as long."""
    params = llama.llama_model_default_params()
    params.n_gpu_layers = n_gpu_layers
    params.load_mode = llama.LLAMA_LOAD_MODE_MMAP if map_weights else llama.LLAMA_LOAD_MODE_NONE
    shares = (ctypes.c_float * llama.llama_max_devices())(*split)
    if split:
        params.tensor_split = shares
    return params, shares


class Model(Owned):
    """A text model in memory. Contexts and vision made from it must be closed before it is.

    `n_gpu_layers` -1 offloads all layers, `split` says how many of them each GPU gets. `map_weights` maps the file
    instead of reading it. `on_progress` gets the loaded fraction, 0 to 1. Raises `DoesNotFit` when memory does not
    suffice, `InvalidModelFile` with llama.cpp's own reason when the file cannot be loaded.
    """

    def __init__(
        self,
        path: Path,
        *,
        n_gpu_layers: int,
        on_progress: Callable[[float], None],
        split: Sequence[int] = (),
        map_weights: bool = True,
    ) -> None:
        log.capture()
        llama.llama_backend_init()
        params, self._split = parameters(n_gpu_layers=n_gpu_layers, split=split, map_weights=map_weights)

        def progress(fraction: float, _user_data: object) -> bool:
            on_progress(fraction)
            return True

        params.progress_callback = llama.llama_progress_callback(progress)
        self._model: Any = llama.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            reason = log.last_complaint() or "llama.cpp gave no reason"
            if is_about_memory(reason):
                raise DoesNotFit(f"No room for {path.name}: {reason}", "Close other programs, or take a smaller model.")
            raise InvalidModelFile(
                f"{path.name} could not be loaded: {reason}", "Run `gguf-vl doctor`, or fetch the file again."
            )
        self._vocab = llama.llama_model_get_vocab(self._model)

    @property
    def pointer(self) -> Any:
        """llama.cpp's model, for this room alone."""
        return self._model

    @property
    def vocab(self) -> Any:
        """llama.cpp's vocabulary, for this room alone."""
        return self._vocab

    @property
    def embedding_width(self) -> int:
        """float32 values of one input embedding: hidden size × (1 + DeepStack layers)."""
        return int(llama.llama_model_n_embd_inp(self._model))

    @property
    def n_layer(self) -> int:
        """Layers, without the output."""
        return int(llama.llama_model_n_layer(self._model))

    @property
    def n_embd(self) -> int:
        """Values of a hidden state."""
        return int(llama.llama_model_n_embd_out(self._model))

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""
        return int(llama.llama_vocab_n_tokens(self._vocab))

    @property
    def n_ctx_train(self) -> int:
        """Tokens of context the model was trained with."""
        return int(llama.llama_model_n_ctx_train(self._model))

    @property
    def chat_template(self) -> str | None:
        """The jinja2 chat template that the model file carries."""
        template = llama.llama_model_chat_template(self._model, None)
        return template.decode("utf-8", errors="replace") if template else None

    @property
    def bos(self) -> int | None:
        """The token every prompt must begin with, where this vocabulary wants one."""
        return int(llama.llama_vocab_bos(self._vocab)) if llama.llama_vocab_get_add_bos(self._vocab) else None

    def token_text(self, token: int) -> str:
        """The vocabulary's own spelling of a token, such as `<|im_end|>`; empty for a token it does not have."""
        text = llama.llama_vocab_get_text(self._vocab, token) if 0 <= token < self.n_vocab else b""
        return text.decode("utf-8", errors="replace")

    @property
    def bos_text(self) -> str:
        """`bos_token` of the chat template."""
        return self.token_text(llama.llama_vocab_bos(self._vocab))

    @property
    def eos_text(self) -> str:
        """`eos_token` of the chat template."""
        return self.token_text(llama.llama_vocab_eos(self._vocab))

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Tokens that stand for themselves in a template (`<|im_start|>`, `<think>`, …), by their text."""
        attributes, vocab = llama.llama_vocab_get_attr, self._vocab
        special = (token for token in range(self.n_vocab) if attributes(vocab, token) & _MATCHED_ALWAYS)
        return {text: token for token in special if (text := self.token_text(token))}

    @cached_property
    def _spelled_out(self) -> re.Pattern[str]:
        """Special tokens that llama.cpp takes for themselves in any text (`<think>`, `<tool_call>`)."""
        defined = [
            text
            for text, token in self.special_tokens.items()
            if llama.llama_vocab_get_attr(self._vocab, token) & llama.LLAMA_TOKEN_ATTR_USER_DEFINED and len(text) > 1
        ]
        return re.compile("|".join(map(re.escape, sorted(defined, key=len, reverse=True))) or r"(?!)")

    def tokenize(self, text: str) -> list[int]:
        """Tokens of plain text: special tokens spelled out in it stay text."""
        plain = text.encode("utf-8", errors="surrogatepass").decode("utf-8", errors="replace")
        cuts = [0, *(found.start() + 1 for found in self._spelled_out.finditer(plain)), len(plain)]
        return [token for start, end in pairwise(cuts) for token in self._tokenize(plain[start:end].encode())]

    def tokenize_whole(self, text: str) -> tuple[int, ...]:
        """Tokens of a text that stands for itself: plain, between what this vocabulary begins and ends texts with."""
        bos = (self.bos,) if self.bos is not None else ()
        ends = llama.llama_vocab_get_add_eos(self._vocab)
        return (*bos, *self.tokenize(text), *((llama.llama_vocab_eos(self._vocab),) if ends else ()))

    def _tokenize(self, raw: bytes) -> list[int]:
        if not raw:
            return []
        room = len(raw) + 8
        while True:
            tokens = (llama.llama_token * room)()
            count = llama.llama_tokenize(self._vocab, raw, len(raw), tokens, room, False, False)
            if count >= 0:
                return list(tokens[:count])
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes a token adds to the answer; none for a control token. May end inside a UTF-8 character."""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            length = llama.llama_token_to_piece(self._vocab, token, buffer, room, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            room = -length

    def ends_answer(self, token: int) -> bool:
        """Whether this token is an end of generation."""
        return bool(llama.llama_vocab_is_eog(self._vocab, token))

    def close(self) -> None:
        """Release the weights. Harmless when done twice."""
        if self._model:
            llama.llama_model_free(self._model)
            self._model = self._vocab = None
