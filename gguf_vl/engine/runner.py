"""One loaded model, and the answering of one request at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gguf_vl.engine.answer import Answer
from gguf_vl.engine.embeddings import EmbeddingCache
from gguf_vl.engine.prompt import Prompt, PromptBuilder
from gguf_vl.engine.turns import shortest_cut
from gguf_vl.errors import DoesNotFit, UsageError
from gguf_vl.native.context import Context
from gguf_vl.native.model import Model
from gguf_vl.native.owned import Owned
from gguf_vl.native.sampler import Sampler
from gguf_vl.native.usage import Meter
from gguf_vl.native.vision import Vision
from gguf_vl.types import (
    PATCH,
    EngineInfo,
    EngineSettings,
    EngineStats,
    Event,
    Finished,
    FinishReason,
    Message,
    Picture,
    Progress,
    Request,
    Timings,
    Usage,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Publish = Callable[[list[Event], Finished], None]


@dataclass(slots=True)
class _Clock:
    """Counts and times of one request. All in seconds since it arrived, on one clock."""

    prompt: Prompt
    arrived: float
    n_dropped: int
    encode_s: float = 0.0
    prefill_s: float = 0.0
    first_token: float | None = None
    last_token: float | None = None
    completion_tokens: int = 0

    def token(self) -> None:
        self.last_token = time.perf_counter()
        self.first_token = self.first_token or self.last_token
        self.completion_tokens += 1

    def finished(self, reason: FinishReason) -> Finished:
        first, last = self.first_token or time.perf_counter(), self.last_token or 0.0
        rate = (self.completion_tokens - 1) / (last - first) if self.completion_tokens > 1 and last > first else None
        return Finished(
            reason,
            Usage(self.prompt.n_tokens, self.prompt.image_tokens, self.completion_tokens),
            Timings(self.encode_s, self.prefill_s, first - self.arrived, rate),
            self.n_dropped,
        )


class Runner(Owned):
    """A model with its projector and context, and the pictures it has encoded.

    `answer` and `prepare` run on the thread that made it; `abort` may be called from any thread.
    """

    def __init__(self, settings: EngineSettings, on_progress: Callable[[float], None]) -> None:
        began = time.perf_counter()
        self._settings = settings
        with Meter() as meter:
            self._load(settings, on_progress)
            self._prove(meter)
            used = meter.used()
        self._embeddings = EmbeddingCache(settings.embedding_budget)
        self._requests = self._encoded = self._reused = 0
        self.info = EngineInfo(self._context.n_ctx, self._vision is not None, time.perf_counter() - began, used)

    def _load(self, settings: EngineSettings, on_progress: Callable[[float], None]) -> None:
        self._model = Model(
            settings.model,
            n_gpu_layers=settings.n_gpu_layers,
            split=settings.split,
            map_weights=settings.map_weights,
            on_progress=on_progress,
        )
        self._prompts = PromptBuilder(self._model)
        self._context = Context(
            self._model,
            n_ctx=settings.n_ctx,
            n_batch=settings.n_batch,
            n_threads=settings.n_threads,
            kv_type=settings.kv_type,
            offload=settings.n_gpu_layers != 0,
        )
        self._vision = self._load_vision(settings.mmproj) if settings.mmproj else None

    def _load_vision(self, mmproj: Path) -> Vision:
        settings = self._settings
        return Vision(
            mmproj,
            self._model,
            limits=settings.limits,
            n_threads=settings.n_threads,
            use_gpu=settings.mmproj_offload,
        )

    def _prove(self, meter: Meter) -> None:
        """Take what the largest picture will need, or encode one, before anybody relies on it."""
        if self._vision is None or self._settings.proof == "none":
            return
        largest = blank_picture(self._settings.limits.max_tokens)
        if self._settings.proof == "reserve":
            self._vision.reserve(largest)
        else:
            with meter.encoding():
                self._vision.encode(largest)

    def answer(self, request: Request, publish: Publish, *, arrived: float) -> None:
        """Answer one request, publishing its events as they come and `Finished` as the last.

        `arrived` is when it came, on `time.perf_counter`'s clock.

        Raises `DoesNotFit` before any work when the prompt leaves no room for an answer, `Aborted` after `abort()`.
        """
        self._requests += 1
        prompt, n_dropped = self._prompt(request)
        room = self._context.n_ctx - prompt.n_tokens
        clock = _Clock(prompt, arrived, n_dropped)
        pictures = self._encode_all(prompt, clock, publish)
        self._prefill(prompt, pictures, clock, publish)
        limit = min(room, request.sampling.max_tokens or room)
        reason: FinishReason = "stop"
        answer = Answer(stop=request.sampling.stop, thinking=prompt.thinking)
        with Sampler(self._model, request.sampling, window=self._context.n_ctx) as sampler:
            for piece in self._pieces(sampler, prompt, clock):
                publish([*answer.push(piece)], clock.finished("cancelled"))
                if answer.stopped:
                    break
                if clock.completion_tokens >= limit:
                    reason = "length"
                    break
        end = clock.finished(reason)
        publish([*answer.finish(), end], end)

    def _prompt(self, request: Request) -> tuple[Prompt, int]:
        """The request's prompt, and how many of its messages are left out for it to fit."""
        n_ctx = self._context.n_ctx
        answer = min(request.sampling.max_tokens or n_ctx, n_ctx // 4)

        def build(messages: Sequence[Message]) -> tuple[Prompt, int]:
            return self._prompts.build(messages), len(request.messages) - len(messages)

        if request.drop_oldest:
            prompt, n_dropped = shortest_cut(request.messages, build, lambda made: made[0].n_tokens + answer <= n_ctx)
        else:
            prompt, n_dropped = build(request.messages)
        if prompt.n_tokens >= n_ctx:
            raise DoesNotFit(
                f"The prompt takes {prompt.n_tokens} tokens ({prompt.image_tokens} of them pictures), "
                f"the context holds {n_ctx}.",
                "Use a larger `--ctx`, fewer or smaller pictures (`--detail low`), or a shorter text.",
            )
        return prompt, n_dropped

    def _encode_all(self, prompt: Prompt, clock: _Clock, publish: Publish) -> list[NDArray[np.float32]]:
        encoded = []
        done = 0
        for picture in (part for part in prompt.parts if isinstance(part, Picture)):
            publish([Progress("encode", done, prompt.image_tokens)], clock.finished("cancelled"))
            began = time.perf_counter()
            encoded.append(self._encode(picture))
            clock.encode_s += time.perf_counter() - began
            done += picture.tokens
            publish([Progress("encode", done, prompt.image_tokens)], clock.finished("cancelled"))
        return encoded

    def _encode(self, picture: Picture) -> NDArray[np.float32]:
        limits = self._settings.limits
        if self._vision is None:
            raise UsageError("This model reads text only, it has no projector.", "Choose another: `gguf-vl list`.")
        whole = len(picture.rgb) == 3 * picture.width * picture.height
        fits = limits.min_tokens <= picture.tokens <= limits.max_tokens
        if not whole or not fits or picture.width % PATCH or picture.height % PATCH:
            raise UsageError(
                f"A picture of {picture.width}×{picture.height} pixels in {len(picture.rgb)} bytes, where RGB with "
                f"sides that are multiples of {PATCH} and {limits.min_tokens} to {limits.max_tokens} image tokens "
                "is taken.",
                "Load it through gguf_vl.media with this engine's limits.",
            )
        kept = self._embeddings.get(picture.digest)
        if kept is not None:
            self._reused += 1
            return kept
        embeddings = self._vision.encode(picture)
        self._encoded += 1
        self._embeddings.put(picture.digest, embeddings)
        return embeddings

    def _prefill(self, prompt: Prompt, pictures: list[NDArray[np.float32]], clock: _Clock, publish: Publish) -> None:
        """Decode the prompt into an empty context, `n_batch` cells at a time, with logits of its last token."""
        began = time.perf_counter()
        self._context.clear()
        waiting = iter(pictures)
        position = done = 0
        for part in prompt.parts:
            last = part is prompt.parts[-1]
            steps = (
                self._prefill_picture(part, next(waiting), position)
                if isinstance(part, Picture)
                else self._prefill_text(part, position, logits=last)
            )
            for cells in steps:
                done += cells
                clock.prefill_s = time.perf_counter() - began
                publish([Progress("prefill", done, prompt.n_tokens)], clock.finished("cancelled"))
            position += max(part.width, part.height) // PATCH if isinstance(part, Picture) else len(part)
        self._position = position

    def _prefill_text(self, tokens: tuple[int, ...], position: int, *, logits: bool) -> Iterator[int]:
        for start in range(0, len(tokens), self._context.n_batch):
            piece = tokens[start : start + self._context.n_batch]
            self._context.decode_tokens(piece, position + start, logits=logits and start + len(piece) == len(tokens))
            yield len(piece)

    def _prefill_picture(self, picture: Picture, embeddings: NDArray[np.float32], position: int) -> Iterator[int]:
        positions = picture_positions(picture, position)
        for start in range(0, picture.tokens, self._context.n_batch):
            rows = slice(start, start + self._context.n_batch)
            self._context.decode_embeddings(embeddings[rows], positions[:, rows])
            yield len(embeddings[rows])

    def _pieces(self, sampler: Sampler, prompt: Prompt, clock: _Clock) -> Iterator[bytes]:
        """The bytes of one sampled token after the other, until the model ends its answer."""
        position = self._position
        while True:
            token = sampler.sample(self._context)
            clock.token()
            if self._model.ends_answer(token):
                return
            yield self._model.piece(token)
            self._context.decode_tokens((token,), position, logits=True)
            position += 1

    def prepare(self, picture: Picture) -> None:
        """Encode a picture and keep its embeddings. Raises `Aborted` after `abort()`."""
        self._encode(picture)

    def stats(self, *, running: bool) -> EngineStats:
        """Counters since the model was loaded."""
        return EngineStats(self._requests, running, self._encoded, self._reused, self._embeddings.n_bytes)

    def abort(self) -> None:
        """Make the work that is running raise `Aborted`: within a decode step, or a few layers of an encode."""
        self._context.abort()
        if self._vision:
            self._vision.abort()

    def resume(self) -> None:
        """Take back `abort()`, before the next work."""
        self._context.resume()
        if self._vision:
            self._vision.resume()

    def close(self) -> None:
        """Release everything, in the order llama.cpp needs."""
        if self._vision:
            self._vision.close()
        self._context.close()
        self._model.close()


def blank_picture(max_tokens: int) -> Picture:
    """A white picture of as many image tokens as that allows, near a square."""
    side = math.isqrt(max_tokens)
    rows = max(range(side, side // 2, -1), key=lambda rows: max_tokens // rows * rows)
    width, height = max_tokens // rows * PATCH, rows * PATCH
    return Picture(b"\xff" * (3 * width * height), width, height, (width, height), "")


def picture_positions(picture: Picture, start: int) -> NDArray[np.int32]:
    """M-RoPE positions of a picture's cells, [4, tokens] int32: t, row, column, 0 (llama.cpp's order)."""
    columns, rows = picture.width // PATCH, picture.height // PATCH
    positions = np.zeros((4, rows * columns), np.int32)
    positions[0] = start
    positions[1] = start + np.repeat(np.arange(rows), columns)
    positions[2] = start + np.tile(np.arange(columns), rows)
    return positions
