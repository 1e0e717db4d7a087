"""From what is asked to a sequence that the loop can run: read, checked, its pictures on their way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gguf_vl.engine.choosing import Chooser
from gguf_vl.engine.lookup import PICTURE, PromptLookup
from gguf_vl.engine.prompt import Prompt, PromptBuilder
from gguf_vl.engine.sequence import Sequence
from gguf_vl.errors import DoesNotFit, UsageError
from gguf_vl.types import PATCH, EngineSettings, Message, Picture, Request, Usage

if TYPE_CHECKING:
    from gguf_vl.engine.kept.sequences import SequenceFiles
    from gguf_vl.engine.kept.slots import Slots
    from gguf_vl.native.model import Model


_WORTH_READING = 256
"""Cells that a file must have beyond what is in the cache."""


class Intake:
    """Makes sequences for a model with a context of `n_ctx` cells. It takes pictures where it `sees`.

    Raises `UsageError` for what cannot be asked so, `DoesNotFit` for what is longer than the context.
    """

    def __init__(
        self,
        settings: EngineSettings,
        model: Model,
        n_ctx: int,
        *,
        sees: bool,
        slots: Slots,
        files: SequenceFiles | None,
    ) -> None:
        self._prompts = PromptBuilder(model)
        self._settings = settings
        self._model = model
        self._n_ctx = n_ctx
        self._sees = sees
        self._slots = slots
        self._files = files

    def to_answer(self, request: Request, arrived: float) -> Sequence:
        """A request that came at `arrived` of `time.perf_counter`."""
        if request.sampling.max_tokens is not None and request.sampling.max_tokens < 1:
            raise UsageError(f"An answer of {request.sampling.max_tokens} tokens.", "Ask for at least one.")
        prompt, n_dropped = self._prompts.fitted(request, self._n_ctx)
        self._check(prompt)
        limit = min(self._n_ctx - prompt.n_tokens, request.sampling.max_tokens or self._n_ctx)
        sequence = Sequence(request.id, request, prompt, arrived, limit=limit, n_dropped=n_dropped)
        # When to draft is measured, and a draft may change last bits: drawn with a seed, they could be another answer.
        is_repeatable = request.sampling.seed is not None and request.sampling.temperature > 0
        if self._settings.speculate and not is_repeatable:
            sequence.drafter = PromptLookup()
            for part in prompt.parts:
                sequence.drafter.extend((PICTURE,) if isinstance(part, Picture) else part)
        sequence.chooser = Chooser(
            self._model, request, window=self._n_ctx, thinking=prompt.thinking, begun=prompt.begun_tokens
        )
        self._look_back(sequence)
        return sequence

    def ahead(self, id: str, messages: tuple[Message, ...]) -> Sequence:
        """A conversation as far as it is written."""
        prompt = self._prompts.build(messages, is_open=True)
        self._check(prompt)
        sequence = Sequence(id, Request(messages), prompt, time.perf_counter())
        self._look_back(sequence)
        return sequence

    def to_embed(self, id: str, text: str, arrived: float) -> Sequence:
        """A text whose embedding is wanted."""
        prompt = Prompt((self._model.tokenize_whole(text),), thinking=False)
        if not prompt.n_tokens:
            raise UsageError("There is no embedding of an empty text.", "Give one with words.")
        self._check(prompt)
        return Sequence(id, Request(()), prompt, arrived, embeds=True)

    def count(self, request: Request) -> Usage:
        """What a request's prompt takes."""
        prompt = self._prompts.build(request.messages, tools=request.tools)
        return Usage(prompt.n_tokens, prompt.image_tokens, 0)

    def remember(self, sequence: Sequence) -> None:
        """Know an answer's tokens by its text, however it ended, for a conversation that goes on with it."""
        prompt = sequence.prompt
        self._prompts.remember(prompt.begun + sequence.text, (*prompt.begun_tokens, *sequence.answered))

    def _check(self, prompt: Prompt) -> None:
        for part in prompt.parts:
            if isinstance(part, Picture):
                self._check_picture(part)
        if prompt.n_tokens >= self._n_ctx:
            raise DoesNotFit(
                f"The prompt takes {prompt.n_tokens} tokens ({prompt.image_tokens} of them pictures), "
                f"the context holds {self._n_ctx}.",
                "Use a larger `--ctx`, fewer or smaller pictures (`--detail low`), or a shorter text.",
            )

    def _look_back(self, sequence: Sequence) -> None:
        """What of it is computed already, here or on disk."""
        _, sequence.expected = self._slots.source(sequence.cells, ())
        if self._files:
            sequence.stored = self._files.find(sequence.cells, more_than=sequence.expected + _WORTH_READING)
        if sequence.stored:
            sequence.expected = sequence.cells.reusable(sequence.stored.cells)

    def _check_picture(self, picture: Picture) -> None:
        limits = self._settings.limits
        if not self._sees:
            raise UsageError("This model reads text only, it has no projector.", "Choose another: `gguf-vl list`.")
        whole = picture.frames in (1, 2) and len(picture.rgb) == 3 * picture.width * picture.height * picture.frames
        fits = limits.min_tokens <= picture.tokens <= limits.max_tokens
        if not whole or not fits or picture.width % PATCH or picture.height % PATCH:
            frames = f"{picture.frames} frames of " if picture.frames > 1 else ""
            raise UsageError(
                f"A picture of {frames}{picture.width}×{picture.height} pixels in {len(picture.rgb)} bytes, where RGB "
                f"with sides that are multiples of {PATCH} and {limits.min_tokens} to {limits.max_tokens} image "
                "tokens is taken.",
                "Load it through gguf_vl.media with this engine's limits.",
            )
