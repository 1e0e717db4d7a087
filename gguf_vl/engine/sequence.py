"""One request on its way through the loop: what it holds, how far it is computed, and what has become of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gguf_vl.engine.answer import Answer
from gguf_vl.engine.cells import Cells, Placed
from gguf_vl.engine.lookup import Drafter, Worth
from gguf_vl.engine.tools import ToolCalls
from gguf_vl.types import Event, Finished, FinishReason, Progress, Request, Text, Thinking, Timings, Usage

if TYPE_CHECKING:
    from gguf_vl.engine.choosing import Chooser
    from gguf_vl.engine.encoder import Encoding
    from gguf_vl.engine.kept.sequences import Stored
    from gguf_vl.engine.prompt import Prompt
    from gguf_vl.native.context import Context


@dataclass(eq=False, slots=True)
class Sequence:
    """A request's cells: those of its prompt, then those of its answer. The first `computed` are in the KV cache.

    `slot` is llama.cpp's id for it once it has begun. Of its cells, `expected` were in the cache when it came, `stored`
    is a file of some, and `shared` are also another one's. With a `chooser` it is answered, with `embeds` its last
    hidden state is what is asked for, else it is only computed and kept for later. `limit` is the most tokens it may
    answer. `encodings` are by the first cell of their pictures, until these are computed. Times are of
    `time.perf_counter`.
    """

    id: str
    request: Request
    prompt: Prompt
    arrived: float
    chooser: Chooser | None = None
    embeds: bool = False
    expected: int = 0
    stored: Stored | None = None
    limit: int = 0
    n_dropped: int = 0
    slot: int | None = None
    computed: int = 0
    reused: int = 0
    shared: int = 0
    encodings: dict[int, Encoding] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    cells: Cells = field(init=False)
    answer: Answer = field(init=False)
    calls: ToolCalls | None = field(init=False)
    drafter: Drafter | None = None
    worth: Worth = field(default_factory=Worth)
    answered: list[int] = field(default_factory=list)
    text: str = ""
    opened: float | None = None
    encode_s: float = 0.0
    prefill_s: float = 0.0
    first_token: float | None = None
    last_token: float | None = None
    _told: tuple[str, int] = ("", -1)

    def __post_init__(self) -> None:
        self.cells = Cells(self.prompt.parts)
        stop, begun = self.request.sampling.stop, bool(self.prompt.begun)
        self.answer = Answer(stop=stop, thinking=self.prompt.thinking, begun=begun)
        self.calls = ToolCalls() if self.request.tools and self.request.tool_choice != "none" else None

    @property
    def n_prompt(self) -> int:
        """Cells of the prompt."""
        return self.prompt.n_tokens

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for what comes of it."""
        return self.chooser is not None or self.embeds

    @property
    def is_generating(self) -> bool:
        """Whether only its latest token is left to compute."""
        return bool(self.answered) and self.computed == self.cells.n - 1

    @property
    def waits_for_picture(self) -> bool:
        """Whether it cannot go on before a picture is encoded."""
        placed = self.cells.picture_at(self.computed)
        return placed is not None and not self._is_seen(placed)

    def _is_seen(self, placed: Placed) -> bool:
        encoding = self.encodings.get(placed.start)
        return placed.end <= self.computed or (encoding is not None and encoding.is_done)

    @property
    def whole(self) -> int:
        """Cells it has computed, without a picture of which only a part is."""
        placed = self.cells.picture_at(self.computed)
        return placed.start if placed else self.computed

    def begin(self, slot: int, computed: int) -> None:
        """It has a place in the cache, where so many of its cells are already."""
        self.slot, self.computed = slot, computed
        if self.opened is None:
            self.opened = time.perf_counter()
            self.reused = computed

    def forget_from(self, cell: int, context: Context) -> None:
        """What was computed from that cell on is not to be relied on."""
        placed = self.cells.picture_at(cell)
        self.computed = placed.start if placed else cell
        if self.slot is not None:
            context.cut(self.slot, self.cells.position(self.computed))

    def release(self, placed: Placed) -> None:
        """A picture is computed: its embeddings are not needed any more."""
        self.encode_s += self.encodings.pop(placed.start).seconds

    def draft(self, n_most: int) -> tuple[int, ...]:
        """Tokens that may come next, where guessing them has paid of late; never more than the answer may have."""
        n_most = min(n_most, self.limit - len(self.answered) - 1)
        if self.drafter is None or n_most < 1 or not (found := self.drafter.draft(n_most)):
            return ()
        return tuple(found) if self.worth.should_draft() else ()

    def sampled(self, token: int) -> None:
        """The answer is a token longer."""
        self.cells.add((token,))
        self.answered.append(token)
        if self.drafter:
            self.drafter.extend((token,))
        self.last_token = time.perf_counter()
        self.first_token = self.first_token or self.last_token

    def say(self, said: list[Text | Thinking]) -> None:
        """Events of the answer's text, and of the calls in it."""
        for event in said:
            if isinstance(event, Text):
                self.text += event.text
            if self.calls and isinstance(event, Text):
                self.events += self.calls.push(event.text)
            else:
                self.events.append(event)

    def end(self, reason: FinishReason) -> Finished:
        """The last events, all that was held back among them."""
        self.say(self.answer.finish())
        if self.calls:
            self.events += self.calls.finish()
        return self.finished(reason)

    def close(self) -> None:
        """Release what is llama.cpp's."""
        if self.chooser:
            self.chooser.close()

    def tell_progress(self) -> None:
        """An event about the work before the first token, where there is something new.

        Of what is only prepared it is about the pictures alone, up to the last, and never takes anything back.
        """
        if self.answered or self.embeds:
            return
        n_image = self.prompt.image_tokens
        encoded = sum(each.picture.tokens for each in self.cells.pictures if self._is_seen(each))
        if self.chooser is None:
            if n_image and encoded > self._told[1]:
                self.tell(Progress("encode", encoded, n_image))
        elif encoded < n_image:
            self.tell(Progress("encode", encoded, n_image))
        elif self.opened is not None:
            self.tell(Progress("prefill", self.computed, self.n_prompt))

    def tell(self, progress: Progress) -> None:
        """An event about progress, where it is news."""
        if self._told != (progress.stage, progress.done):
            self._told = progress.stage, progress.done
            self.events.append(progress)

    def finished(self, reason: FinishReason) -> Finished:
        """Its end, should it end now."""
        now = time.perf_counter()
        first, last, n = self.first_token or now, self.last_token or 0.0, len(self.answered)
        return Finished(
            reason,
            Usage(self.n_prompt, self.prompt.image_tokens, n),
            Timings(
                encode_s=self.encode_s + sum(each.seconds for each in self.encodings.values()),
                prefill_s=self.prefill_s,
                ttft_s=first - self.arrived,
                decode_tps=(n - 1) / (last - first) if n > 1 and last > first else None,
                queue_s=(self.opened or now) - self.arrived,
                tokens_reused=self.reused,
            ),
            self.n_dropped,
            self.answer.stopped_by,
        )
