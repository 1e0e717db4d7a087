"""The loop: schedule, decode, sample, publish. Everything else about a request lies in the modules beside it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from gguf_vl import paths
from gguf_vl.engine.choosing import Chooser
from gguf_vl.engine.embeddings import EmbeddingCache, EmbeddingFiles, fingerprint
from gguf_vl.engine.encoder import Encoder
from gguf_vl.engine.loaded import Loaded
from gguf_vl.engine.lookup import PICTURE, PromptLookup
from gguf_vl.engine.prompt import PromptBuilder
from gguf_vl.engine.protocol import Counted, Failed, Prepared, Published
from gguf_vl.engine.schedule import Pace, Piece, schedule
from gguf_vl.engine.sequence import Sequence
from gguf_vl.engine.sharing import Turns
from gguf_vl.engine.slots import Slots
from gguf_vl.errors import Busy, DoesNotFit, GgufVlError, UsageError, to_plain
from gguf_vl.native.context import Aborted
from gguf_vl.native.owned import Owned
from gguf_vl.types import (
    PATCH,
    EngineSettings,
    EngineStats,
    FinishReason,
    Message,
    Picture,
    Progress,
    Request,
    Usage,
    sequence_ids,
)

DRAFT = 4
"""Tokens of a draft at most."""
QUEUE = 256
"""Requests that may wait."""

Outcome = Published | Prepared | Counted | Failed


class Runner(Owned):
    """A model with its projector and context, and all requests that are under way.

    Everything but `interrupt` belongs to the thread that made it. `wake` is called on another one when a picture is
    encoded, so that `step` has something to do again.
    """

    def __init__(
        self, settings: EngineSettings, on_progress: Callable[[float], None], wake: Callable[[], None] = lambda: None
    ) -> None:
        self._settings = settings
        self._loaded = loaded = Loaded(settings, on_progress)
        self._model, self._context = loaded.model, loaded.context
        self.info = loaded.info
        self._prompts = PromptBuilder(self._model)
        self._turns = Turns() if loaded.vision and not (settings.mmproj_offload or settings.n_gpu_layers) else None
        self._cache = EmbeddingCache(settings.embedding_budget, self._files(settings))
        self._encoder = Encoder(loaded.vision, self._cache, wake, self._turns) if loaded.vision else None
        self._slots = Slots(self._context)
        self._batch = self._context.batch()
        self._pace = Pace(self._batch.size)
        self._waiting: deque[Sequence] = deque()
        self._preparing: deque[Sequence] = deque()
        self._open: list[Sequence] = []
        self._outcomes: list[Outcome] = []
        self._decoding: frozenset[str] = frozenset()
        self._plain_s: dict[int, float] = {}
        self._cost = 1.0
        self._drafted = self._accepted = 0
        self._stepping_since: float | None = None
        self._requests = self._tokens = self._reused = self._preempted = 0

    def _files(self, settings: EngineSettings) -> EmbeddingFiles | None:
        if settings.mmproj is None or not settings.disk_budget:
            return None
        folder = paths.cache_dir() / "embeddings"
        return EmbeddingFiles(folder, settings.disk_budget, fingerprint(settings.mmproj))

    # --- requests come and go -----------------------------------------------------------------------------------------

    def submit(self, request: Request, *, arrived: float) -> None:
        """Take a request, which came at `arrived` of `time.perf_counter`. What is wrong with it is an outcome."""
        self._requests += 1
        try:
            if len(self._waiting) >= QUEUE:
                raise Busy(f"{QUEUE} requests wait already.", "Ask again later.")
            self._waiting.append(self._sequence(request, arrived))
        except GgufVlError as error:
            self._outcomes.append(Failed(request.id, to_plain(error)))

    def prepare(self, id: str, messages: tuple[Message, ...]) -> None:
        """Encode the pictures of a conversation and compute it as far as it is written, when nothing else is to do."""
        try:
            prompt = self._prompts.build(messages, is_open=True)
            self._check_fits(prompt.n_tokens, prompt.image_tokens)
            sequence = Sequence(id, Request(messages), prompt, time.perf_counter())
            self._want_pictures(sequence, urgent=False)
            self._preparing.append(sequence)
        except GgufVlError as error:
            self._outcomes.append(Failed(id, to_plain(error)))

    def count(self, request: Request) -> None:
        """Say what a request's prompt takes, as an outcome."""
        try:
            prompt = self._prompts.build(request.messages, tools=request.tools)
            self._outcomes.append(Counted(request.id, Usage(prompt.n_tokens, prompt.image_tokens, 0)))
        except GgufVlError as error:
            self._outcomes.append(Failed(request.id, to_plain(error)))

    def cancel(self, id: str) -> None:
        """Forget a request, wherever it is. What it has computed is kept."""
        if self._encoder:
            self._encoder.abandon(id)
        for queue in (self._waiting, self._preparing):
            for sequence in [each for each in queue if each.id == id]:
                queue.remove(sequence)
                self._release(sequence)
        for sequence in [each for each in self._open if each.id == id]:
            self._close(sequence)

    def interrupt(self, id: str) -> None:
        """Stop native work that is for this request alone. From any thread; `cancel` must follow on the loop's own."""
        if self._decoding == {id}:
            self._context.abort()
        if self._encoder:
            self._encoder.abandon(id)

    def _sequence(self, request: Request, arrived: float) -> Sequence:
        n_ctx = self._context.n_ctx
        prompt, n_dropped = self._prompts.fitted(request, n_ctx)
        self._check_fits(prompt.n_tokens, prompt.image_tokens)
        limit = min(n_ctx - prompt.n_tokens, request.sampling.max_tokens or n_ctx)
        sequence = Sequence(request.id, request, prompt, arrived, limit=limit, n_dropped=n_dropped)
        self._want_pictures(sequence, urgent=True)
        if self._settings.speculate:
            sequence.drafter = PromptLookup()
            for part in prompt.parts:
                sequence.drafter.extend((PICTURE,) if isinstance(part, Picture) else part)
        sequence.chooser = Chooser(self._model, request, window=n_ctx, thinking=prompt.thinking)
        return sequence

    def _check_fits(self, n_tokens: int, image_tokens: int) -> None:
        if n_tokens >= self._context.n_ctx:
            raise DoesNotFit(
                f"The prompt takes {n_tokens} tokens ({image_tokens} of them pictures), "
                f"the context holds {self._context.n_ctx}.",
                "Use a larger `--ctx`, fewer or smaller pictures (`--detail low`), or a shorter text.",
            )

    def _want_pictures(self, sequence: Sequence, *, urgent: bool) -> None:
        for placed in sequence.cells.pictures:
            encoder = self._checked(placed.picture)
            sequence.encodings.append(encoder.want(placed.picture, sequence.id, urgent=urgent))

    def _checked(self, picture: Picture) -> Encoder:
        limits = self._settings.limits
        if self._encoder is None:
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
        return self._encoder

    # --- a step -------------------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to compute or tell now, and need not wait for a request or a picture."""
        runnable = any(not each.waits_for for each in self._open)
        return bool(self._outcomes) or runnable or self._may_admit() or self._may_prepare()

    def step(self) -> list[Outcome]:
        """Compute the next batch, and say what came of it."""
        self._stepping_since = time.perf_counter()
        try:
            return self._step()
        finally:
            self._stepping_since = None

    def _step(self) -> list[Outcome]:
        self._fail_unseen()
        while self._may_admit():
            self._admit(self._waiting.popleft())
        if self._may_prepare():
            self._admit(self._preparing.popleft())
        answering = any(each.is_generating for each in self._open)
        n_outputs = min(1 + DRAFT, sequence_ids(self._settings.n_seq_max) // max(1, len(self._open)))
        n_prefill = self._pace.n_prefill(answering=answering)
        text, pictures = schedule(self._open, self._batch.size, n_prefill, n_outputs)
        for pieces, decode in ((text, self._decode_text), (pictures, self._decode_pictures)):
            if pieces:
                self._compute(pieces, decode)
        self._tell_all()
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _may_admit(self) -> bool:
        """Whether the next request may begin: there is a place, and its cells need not push out another's."""
        if not self._waiting:
            return False
        seats = sum(each.chooser is not None for each in self._open)
        cells = sum(each.cells.n for each in self._open) + self._waiting[0].cells.n
        return seats < self._settings.n_seq_max and (not self._open or cells <= self._context.n_ctx)

    def _may_prepare(self) -> bool:
        """Whether there is nothing else to do than what was asked for ahead."""
        return not self._open and bool(self._preparing) and not self._preparing[0].waits_for

    def _admit(self, sequence: Sequence) -> None:
        if sequence.chooser:  # what is only prepared makes way
            for other in [each for each in self._open if each.chooser is None]:
                self._put_back(other, self._preparing)
        running = [(each.slot, each.cells.copy(_whole(each))) for each in self._open if each.slot is not None]
        sequence.slot, sequence.computed = self._slots.open(sequence.cells, running)
        if sequence.opened is None:
            sequence.opened = time.perf_counter()
            sequence.reused = sequence.computed
            self._reused += sequence.computed
        self._open.append(sequence)

    def _compute(self, pieces: list[Piece], decode: Callable[[list[Piece]], bool]) -> None:
        pieces = [piece for piece in pieces if piece.sequence in self._open]
        self._decoding = frozenset(piece.sequence.id for piece in pieces)
        began = time.perf_counter()
        try:
            done = decode(pieces)
        except Aborted:
            self._context.resume()
            for piece in pieces:
                self._forget_from(piece)
            return
        finally:
            self._decoding = frozenset()
        if not done:
            self._make_room()
            return
        seconds = time.perf_counter() - began
        prompts = [piece for piece in pieces if not piece.sequence.answered]
        self._tell_cost(pieces, seconds)
        self._pace.took(sum(piece.end - piece.start for piece in prompts), seconds)
        for piece in prompts:
            piece.sequence.prefill_s += seconds
        self._tokens += sum(piece.end - piece.start for piece in pieces)
        self._advance(pieces)

    def _tell_cost(self, pieces: list[Piece], seconds: float) -> None:
        """How much longer this step took than one of the same answers without drafts, as those took of late."""
        if all(piece.sequence.is_generating for piece in pieces):
            plain = self._plain_s.get(len(pieces), 0.0)
            if not any(piece.draft for piece in pieces):
                self._plain_s[len(pieces)] = seconds if not plain else plain + 0.2 * (seconds - plain)
            self._cost = seconds / plain if plain else 1.0

    def _decode_text(self, pieces: list[Piece]) -> bool:
        self._batch.clear()
        self._rows = []
        for piece in pieces:
            cells, slot = piece.sequence.cells, piece.sequence.slot
            assert slot is not None
            tokens, position = cells.tokens(piece.start, piece.end), cells.position(piece.start)
            if piece.draft:
                tokens = np.concatenate([tokens, np.array(piece.draft, np.int32)])
            n_outputs = 1 + len(piece.draft) if piece.has_output else 0
            self._rows.append(self._batch.add_tokens(slot, tokens, position, n_outputs=n_outputs))
        return self._decode()

    def _decode_pictures(self, pieces: list[Piece]) -> bool:
        self._batch.clear()
        self._rows = [-1] * len(pieces)
        for piece in pieces:
            placed, slot = piece.placed, piece.sequence.slot
            assert placed
            assert slot is not None
            embeddings = piece.sequence.encoding_of(placed).embeddings
            assert embeddings is not None
            cells = slice(piece.start - placed.start, piece.end - placed.start)
            self._batch.add_embeddings(slot, embeddings[cells], placed.positions[:, cells])
        return self._decode()

    def _decode(self) -> bool:
        if self._turns is None:
            return self._context.decode(self._batch)
        with self._turns.step() as alone:
            self._context.use_threads(self._settings.n_threads if alone else 1)
            return self._context.decode(self._batch)

    def _advance(self, pieces: list[Piece]) -> None:
        """Every piece is in the cache: sample behind those that end their sequence."""
        for piece, row in zip(pieces, self._rows, strict=True):
            sequence = piece.sequence
            sequence.computed = piece.end
            if sequence.chooser:
                sequence.tell_progress()
            if piece.has_output and sequence.chooser:
                self._take_all(sequence, sequence.chooser, row, piece.draft)
            elif sequence.computed == sequence.cells.n:
                self._outcomes.append(Prepared(sequence.id))
                self._close(sequence)

    def _take_all(self, sequence: Sequence, chooser: Chooser, row: int, draft: tuple[int, ...]) -> None:
        """Choose the next token, and one more for as long as the draft had guessed the one before."""
        n_accepted = 0
        self._take(sequence, chooser, row)
        for guess in draft:
            if sequence.slot is None or sequence.answered[-1] != guess:
                break
            n_accepted += 1
            sequence.computed += 1
            self._take(sequence, chooser, row + n_accepted)
        if draft:
            sequence.worth.observe(n_accepted, self._cost)
            self._drafted, self._accepted = self._drafted + len(draft), self._accepted + n_accepted
            if sequence.slot is not None:
                self._context.cut(sequence.slot, sequence.cells.position(sequence.computed))

    def _take(self, sequence: Sequence, chooser: Chooser, row: int) -> None:
        """Choose the next token from a row of the batch, and say what it adds to the answer."""
        token = chooser.choose(self._context, row)
        if self._model.ends_answer(token):
            self._finish(sequence, "stop")
            return
        if likely := chooser.likely(self._context, row, token):
            sequence.events.append(likely)
        sequence.sampled(token)
        sequence.say(sequence.answer.push(self._model.piece(token)))
        if sequence.answer.stopped:
            self._finish(sequence, "stop")
        elif chooser.is_looping(token):
            self._finish(sequence, "loop")
        elif len(sequence.answered) >= sequence.limit:
            self._finish(sequence, "length")

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        end = sequence.end(reason)
        self._outcomes.append(Published(sequence.id, (*sequence.events, end), end))
        if reason == "stop" and not sequence.answer.stopped:
            self._prompts.remember(sequence.text, sequence.answered)
        sequence.events = []
        self._close(sequence)

    def _close(self, sequence: Sequence) -> None:
        """Keep what an open sequence has computed, for a request that begins like it."""
        self._open.remove(sequence)
        self._release(sequence)
        if sequence.slot is not None:
            cut = _whole(sequence)
            self._context.cut(sequence.slot, sequence.cells.position(cut))
            self._slots.keep(sequence.slot, sequence.cells.copy(cut))
            sequence.slot = None

    def _release(self, sequence: Sequence) -> None:
        if sequence.chooser:
            sequence.chooser.close()

    def _forget_from(self, piece: Piece) -> None:
        """After an abort: what the batch would have added is not to be relied on."""
        sequence = piece.sequence
        if sequence.slot is not None:
            cut = piece.placed.start if piece.placed else piece.start
            self._context.cut(sequence.slot, sequence.cells.position(cut))
            sequence.computed = cut

    def _make_room(self) -> None:
        """The cache is full: drop what is kept, then put back the request that came last."""
        if self._slots.evict():
            return
        *others, last = self._open
        if others:
            self._put_back(last, self._waiting if last.chooser else self._preparing)
            self._preempted += 1
        else:
            self._finish(last, "length")

    def _put_back(self, sequence: Sequence, queue: deque[Sequence]) -> None:
        """Begin an open sequence again later; what it was asked and has answered is not lost."""
        self._open.remove(sequence)
        assert sequence.slot is not None
        self._slots.drop(sequence.slot)
        sequence.slot, sequence.computed = None, 0
        queue.appendleft(sequence)

    def fail(self, error: GgufVlError) -> list[Outcome]:
        """A step went wrong, nobody knows how far: end all that is open, and start from an empty cache."""
        for sequence in list(self._open):
            self._outcomes.append(Failed(sequence.id, to_plain(error)))
            self._open.remove(sequence)
            self._release(sequence)
            assert sequence.slot is not None
            self._slots.drop(sequence.slot)
        while self._slots.evict():
            pass
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _fail_unseen(self) -> None:
        """Requests with a picture that could not be encoded end here."""
        for sequence in [*self._open, *self._waiting, *self._preparing]:
            failed = next((each.failure for each in sequence.encodings if each.failure), None)
            if failed:
                self._outcomes.append(Failed(sequence.id, to_plain(failed)))
                self.cancel(sequence.id)

    def _tell_all(self) -> None:
        for place, sequence in enumerate(self._waiting, 1):
            sequence.tell(Progress("queue", place, len(self._waiting)))
        for sequence in (*self._open, *self._waiting):
            if sequence.chooser:
                sequence.tell_progress()
            if sequence.events:
                self._outcomes.append(Published(sequence.id, tuple(sequence.events), sequence.finished("cancelled")))
                sequence.events = []

    # --- the rest -----------------------------------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """Counters since the model was loaded. From any thread."""
        encoder = self._encoder
        return EngineStats(
            requests=self._requests,
            running=len(self._open),
            waiting=len(self._waiting),
            pictures_encoded=encoder.encoded if encoder else 0,
            pictures_reused=encoder.reused if encoder else 0,
            embedding_bytes=self._cache.n_bytes,
            tokens=self._tokens,
            tokens_reused=self._reused,
            kept_sequences=self._slots.n_kept,
            preempted=self._preempted,
            drafted=self._drafted,
            accepted=self._accepted,
            stuck_s=max(0.0, *(time.perf_counter() - since for since in self._busy_since())),
        )

    def _busy_since(self) -> Iterator[float]:
        """When each thread that is in native code got further last."""
        yield self._stepping_since or time.perf_counter()
        if self._encoder and (since := self._encoder.busy_since):
            yield since

    def close(self) -> None:
        """Release everything."""
        if self._encoder:
            self._encoder.close()
        for sequence in (*self._open, *self._waiting, *self._preparing):
            self._release(sequence)
        self._loaded.close()


def _whole(sequence: Sequence) -> int:
    """Cells it has computed, without a picture of which only a part is."""
    placed = sequence.cells.picture_at(sequence.computed)
    return placed.start if placed else sequence.computed
