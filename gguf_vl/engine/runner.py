"""The loop: schedule, decode, sample, publish. Everything else about a request lies in the modules beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from gguf_vl.engine.choosing import Chooser
from gguf_vl.engine.encoder import Encoder
from gguf_vl.engine.intake import Intake
from gguf_vl.engine.kept.embeddings import EmbeddingCache, EmbeddingFiles
from gguf_vl.engine.kept.sequences import SequenceFiles
from gguf_vl.engine.kept.slots import Slots
from gguf_vl.engine.kept.spill import Spill
from gguf_vl.engine.loaded import Loaded
from gguf_vl.engine.pictures import Pictures
from gguf_vl.engine.protocol import Counted, Embedded, Failed, Prepared, Published, Tokenized
from gguf_vl.engine.schedule import Pace, Piece, schedule
from gguf_vl.engine.seats import Seats
from gguf_vl.engine.sequence import Sequence
from gguf_vl.engine.sharing import Turns, in_each_others_way
from gguf_vl.errors import GgufVlError, to_plain
from gguf_vl.native.context import Aborted
from gguf_vl.native.owned import Owned
from gguf_vl.types import EngineSettings, EngineStats, FinishReason, Message, Request

DRAFT = 4
"""Tokens of a draft at most."""

Outcome = Published | Prepared | Counted | Embedded | Tokenized | Failed


class Runner(Owned):
    """A model with its projector and context, and all requests that are under way.

    Everything but `interrupt` and `stats` belongs to the thread that made it. `wake` is called on another one when a
    picture is encoded, so that `step` has something to do again.
    """

    def __init__(
        self, settings: EngineSettings, on_progress: Callable[[float], None], wake: Callable[[], None] = lambda: None
    ) -> None:
        self._settings = settings
        self._loaded = loaded = Loaded(settings, on_progress)
        self._model, self._context = loaded.model, loaded.context
        self.info = loaded.info
        shares_cpu = not settings.mmproj_offload and 0 <= settings.n_gpu_layers <= self._model.n_layer
        takes_turns = shares_cpu and in_each_others_way(settings.n_threads, settings.n_cores)
        self._turns = Turns() if loaded.vision and takes_turns else None
        self._cache = EmbeddingCache(settings.embedding_budget, EmbeddingFiles.of(settings))
        self._encoder = Encoder(loaded.vision, self._cache, wake, self._turns) if loaded.vision else None
        self._slots = Slots(self._context)
        self._files = SequenceFiles.of(settings, wake)
        n_ctx, sees = self._context.n_ctx, self._encoder is not None
        self._intake = Intake(settings, self._model, n_ctx, sees=sees, slots=self._slots, files=self._files)
        self._pictures = None
        if self._encoder:
            self._pictures = Pictures(self._encoder, self._model.embedding_width, settings.embedding_budget)
        self._seats = Seats(self._slots, n_ctx=n_ctx, n_seq_max=settings.n_seq_max)
        self._batch = self._context.batch()
        self._pace = Pace(self._batch.size)
        self.spill = None
        if self._files:
            self.spill = Spill(self._files, self._slots, self._context, self._pace, worth_s=settings.spill_s)
        self._outcomes: list[Outcome] = []
        self._rows: list[int] = []
        self._native_s = 0.0
        self._decoding: frozenset[str] = frozenset()
        self._drafted = self._accepted = 0
        self._working_since: float | None = None
        self._requests = self._prompt_tokens = self._answer_tokens = 0
        self._prefill_s = self._decode_s = 0.0

    # --- requests come and go -----------------------------------------------------------------------------------------

    def submit(self, request: Request, *, arrived: float) -> None:
        """Take a request, which came at `arrived` of `time.perf_counter`. What is wrong with it is an outcome."""
        self._requests += 1
        with self._telling(request.id):
            self._seats.check_queue()
            self._seats.waiting.append(self._intake.to_answer(request, arrived))

    def embed(self, id: str, text: str, *, arrived: float) -> None:
        """Take a text whose embedding is wanted."""
        self._requests += 1
        with self._telling(id):
            self._seats.check_queue()
            self._seats.waiting.append(self._intake.to_embed(id, text, arrived))

    def prepare(self, id: str, messages: tuple[Message, ...]) -> None:
        """Encode the pictures of a conversation and compute it as far as it is written, when nothing else is to do."""
        with self._telling(id):
            self._seats.check_queue(ahead=True)
            self._seats.ahead.append(self._intake.ahead(id, messages))

    def count(self, request: Request) -> None:
        """Say what a request's prompt takes, as an outcome."""
        with self._telling(request.id):
            self._outcomes.append(Counted(request.id, self._intake.count(request)))

    def tokenize(self, id: str, text: str) -> None:
        """Say the tokens of a text, as an outcome."""
        tokens = self._model.tokenize(text)
        self._outcomes.append(Tokenized(id, tuple((token, self._model.piece(token)) for token in tokens)))

    @contextmanager
    def _telling(self, id: str) -> Iterator[None]:
        """What goes wrong inside with a request is an outcome of it."""
        try:
            yield
        except GgufVlError as error:
            self._outcomes.append(Failed(id, to_plain(error)))

    def cancel(self, id: str) -> None:
        """Forget a request, wherever it is. What it has computed is kept."""
        if self._encoder:
            self._encoder.abandon(id)
        for sequence in [each for each in self._seats if each.id == id]:
            self._intake.remember(sequence)
            self._seats.remove(sequence)
            sequence.close()

    def interrupt(self, id: str) -> None:
        """Stop native work that is for this request alone. From any thread; `cancel` must follow on the loop's own."""
        if self._decoding == {id}:
            self._context.abort()
        if self._encoder:
            self._encoder.abandon(id)

    # --- a step -------------------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to compute or tell now, and need not wait for a request or a picture."""
        return bool(self._outcomes) or self._seats.has_work

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way, not even one that waits for its picture."""
        return not self._outcomes and not any(self._seats)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside, the loop's thread is expected to get on: `stats` says for how long it has not."""
        self._working_since = time.perf_counter()
        try:
            yield
        finally:
            self._working_since = None

    def step(self) -> list[Outcome]:
        """Schedule, decode, sample, publish: compute the next batch, and say what came of it."""
        self._fail_unseen()
        self._seats.admit()
        if self._pictures:
            self._pictures.want(self._seats)
        work = schedule(self._seats.open, self._batch.size, self._n_prefill(), self._n_outputs())
        for pieces, decode in (
            (work.text, self._decode_text),
            (work.pictures, self._decode_pictures),
            (work.embedded, self._decode_embedded),
        ):
            if pieces:
                self._compute(pieces, decode)
        return self._published()

    def _n_prefill(self) -> int:
        """Cells of prompts that this step may take: few while anybody is answered, and for who comes in mid-step."""
        return self._pace.n_prefill(short=any(each.is_generating or not each.is_asked for each in self._seats.open))

    def _n_outputs(self) -> int:
        """Rows with logits that each answer may have: llama.cpp has room for one of every sequence."""
        return min(1 + DRAFT, self._context.n_seqs // max(1, len(self._seats.open)))

    def _compute(self, pieces: list[Piece], decode: Callable[[list[Piece]], bool]) -> None:
        pieces = [piece for piece in pieces if piece.sequence.slot is not None]  # not put back a moment ago
        if not pieces:
            return
        self._decoding = frozenset(piece.sequence.id for piece in pieces)
        try:
            done = decode(pieces)
        except Aborted:
            self._context.resume()
            for piece in pieces:
                piece.sequence.forget_from(piece.start, self._context)
            return
        finally:
            self._decoding = frozenset()
        if done:
            self._count(pieces)
            self._advance(pieces)
        elif alone := self._seats.make_room():
            self._finish(alone, "length")

    def _count(self, pieces: list[Piece]) -> None:
        """What was computed, and how long it took."""
        prompts = [piece for piece in pieces if not piece.sequence.is_generating]
        n_prompt, n_answers = sum(piece.end - piece.start for piece in prompts), len(pieces) - len(prompts)
        seconds, drafted = self._native_s, any(piece.draft for piece in pieces)
        self._pace.took(seconds, n_prompt=n_prompt, n_answers=n_answers, drafted=drafted)
        for piece in prompts:
            piece.sequence.prefill_s += seconds
        self._prompt_tokens += n_prompt
        self._prefill_s += seconds if prompts else 0.0
        self._decode_s += seconds if n_answers else 0.0

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
            embeddings = piece.sequence.encodings[placed.start].embeddings
            assert embeddings is not None
            cells = slice(piece.start - placed.start, piece.end - placed.start)
            self._batch.add_embeddings(slot, embeddings[cells], placed.positions[:, cells])
        return self._decode()

    def _decode_embedded(self, pieces: list[Piece]) -> bool:
        with self._context.embedding():
            return self._decode_text(pieces)

    def _decode(self) -> bool:
        if self._turns is None:
            return self._timed()
        with self._turns.step() as alone:
            self._context.use_threads(self._settings.n_threads if alone else 1)
            return self._timed()

    def _timed(self) -> bool:
        began = time.perf_counter()
        done = self._context.decode(self._batch)
        self._native_s = time.perf_counter() - began
        return done

    def _advance(self, pieces: list[Piece]) -> None:
        """Every piece is in the cache: sample behind those that end their sequence."""
        for piece, row in zip(pieces, self._rows, strict=True):
            sequence = piece.sequence
            sequence.computed = piece.end
            if piece.placed and piece.end == piece.placed.end:
                sequence.release(piece.placed)
            sequence.tell_progress()
            if sequence.computed < sequence.cells.n:
                continue
            if sequence.chooser:
                try:
                    self._take_all(sequence, sequence.chooser, row, piece.draft)
                except GgufVlError as error:  # such as a grammar's that takes too long: its own request's alone
                    self._fail(sequence, error)
                continue
            if sequence.embeds:
                assert sequence.slot is not None
                values = self._context.hidden(row, sequence.slot)
                self._outcomes.append(Embedded(sequence.id, values.tobytes(), sequence.n_prompt))
            else:
                self._publish(sequence)
                self._outcomes.append(Prepared(sequence.id))
            self._seats.leave(sequence)

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
            sequence.worth.observe(n_accepted, self._pace.cost)
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
        self._answer_tokens += 1
        sequence.say(sequence.answer.push(self._model.piece(token)))
        if sequence.answer.stopped_by:
            self._finish(sequence, "stop")
        elif chooser.is_looping(token):
            self._finish(sequence, "loop")
        elif len(sequence.answered) >= sequence.limit:
            self._finish(sequence, "length")

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        end = sequence.end(reason)
        self._outcomes.append(Published(sequence.id, (*sequence.events, end), end))
        self._intake.remember(sequence)
        sequence.events = []
        self._seats.leave(sequence)
        sequence.close()

    def fail(self, error: GgufVlError) -> list[Outcome]:
        """A step went wrong, nobody knows how far: end all that is open, and start from an empty cache."""
        for sequence in list(self._seats.open):
            self._fail(sequence, error)
        self._slots.clear()
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _fail_unseen(self) -> None:
        """Requests with a picture that could not be encoded end here."""
        for sequence in self._seats:
            failed = next((each.failure for each in sequence.encodings.values() if each.failure), None)
            if failed:
                self._fail(sequence, failed)

    def _fail(self, sequence: Sequence, error: GgufVlError) -> None:
        self._outcomes.append(Failed(sequence.id, to_plain(error)))
        self.cancel(sequence.id)

    def _published(self) -> list[Outcome]:
        """All that came of this step."""
        self._seats.tell_progress()
        for sequence in self._seats:
            self._publish(sequence)
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _publish(self, sequence: Sequence) -> None:
        if sequence.events:
            self._outcomes.append(Published(sequence.id, tuple(sequence.events), sequence.finished("cancelled")))
            sequence.events = []

    # --- the rest -----------------------------------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """Counters since the model was loaded. From any thread."""
        encoder = self._encoder
        return EngineStats(
            requests=self._requests,
            running=len(self._seats.open),
            waiting=len(self._seats.waiting),
            pictures_encoded=encoder.encoded if encoder else 0,
            pictures_reused=encoder.reused if encoder else 0,
            embedding_bytes=self._cache.n_bytes,
            pictures_from_disk=encoder.read if encoder else 0,
            seats=self._settings.n_seq_max,
            cells=self._context.n_ctx,
            kept_cells=self._slots.kept_cells,
            kept_sequences=self._slots.n_kept,
            free_sequences=self._slots.n_free,
            prompt_tokens=self._prompt_tokens,
            tokens_reused=self._seats.tokens_reused,
            answer_tokens=self._answer_tokens,
            encode_s=encoder.encode_s if encoder else 0.0,
            prefill_s=self._prefill_s,
            decode_s=self._decode_s,
            disk_bytes=self._cache.disk_bytes + (self._files.n_bytes if self._files else 0),
            preempted=self._seats.preempted,
            spilled=self.spill.written if self.spill else 0,
            restored=self._seats.restored,
            drafted=self._drafted,
            accepted=self._accepted,
            stuck_s=max(0.0, *(time.perf_counter() - since for since in self._busy_since())),
        )

    def _busy_since(self) -> Iterator[float]:
        """When each thread that is in native code got further last."""
        yield self._working_since or time.perf_counter()
        if self._encoder and (since := self._encoder.busy_since):
            yield since

    def close(self) -> None:
        """Release everything."""
        if self._encoder:
            self._encoder.close()
        if self._files:
            self._files.close()
        for sequence in self._seats:
            sequence.close()
        self._loaded.close()
