"""The loop, stepped by hand: who goes first, who makes way, and when there is nothing to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gguf_vl.engine.protocol import Failed, Prepared, Published
from gguf_vl.engine.runner import Outcome, Runner
from gguf_vl.engine.seats import QUEUE
from gguf_vl.errors import UsageError, from_plain
from gguf_vl.native.context import Aborted
from gguf_vl.native.grammar import Grammar
from gguf_vl.types import EngineSettings, Finished, Message, Picture, Progress, Request, Sampling, Text
from tests.engine.test_worker import settings
from tests.scenes import the_picture

GREEDY = Sampling(temperature=0, max_tokens=40)
LONG = Sampling(temperature=0, max_tokens=200)


class Stepped:
    """A loop, and all that came of it."""

    def __init__(self, with_settings: EngineSettings) -> None:
        self.woken = threading.Event()
        self.runner = Runner(with_settings, lambda _: None, self.woken.set)
        self.outcomes: list[Outcome] = []

    def ask(self, id: str, *content: object, sampling: Sampling = GREEDY) -> None:
        message = Message("user", content)  # type: ignore[arg-type]
        self.runner.submit(Request((message,), sampling, loop_guard=False, id=id), arrived=time.perf_counter())

    def until(self, *ids: str) -> None:
        """Step until these requests are over."""
        while not set(ids) <= self.ended():
            if not self.runner.has_work:
                assert self.woken.wait(20)
                self.woken.clear()
            self.outcomes += self.runner.step()

    def first(self, id: str, stage: str) -> int:
        """Which outcome was the first to tell of that stage of a request."""
        return next(
            place
            for place, each in enumerate(self.outcomes)
            if each.id == id and isinstance(each, Published)
            if any(isinstance(event, Progress) and event.stage == stage for event in each.events)
        )

    def ended(self) -> set[str]:
        return {each.id for each in self.outcomes if not isinstance(each, Published) or self._ends(each)}

    @staticmethod
    def _ends(outcome: Published) -> bool:
        return isinstance(outcome.events[-1], Finished)

    def said(self, id: str) -> str:
        events = [
            event for each in self.outcomes if each.id == id and isinstance(each, Published) for event in each.events
        ]
        return "".join(event.text for event in events if isinstance(event, Text))


@pytest.fixture
def two() -> Iterator[Stepped]:
    stepped = Stepped(settings(n_seq_max=2))
    yield stepped
    stepped.runner.close()


def test_requests_are_begun_in_their_order_and_told_their_place(two: Stepped) -> None:
    for id in "abcd":
        two.ask(id, "Hello!", sampling=LONG)
    two.outcomes += two.runner.step()
    places = {
        each.id: event.done
        for each in two.outcomes
        if isinstance(each, Published)
        for event in each.events
        if isinstance(event, Progress) and event.stage == "queue"
    }
    assert places == {"c": 1, "d": 2}
    two.until(*"abcd")
    assert len({two.said(id) for id in "abcd"}) == 1


def test_beyond_its_length_the_queue_lets_nobody_in(two: Stepped) -> None:
    for n in range(QUEUE + 3):
        two.ask(f"{n}", "Hello!")
    two.outcomes += two.runner.step()
    refused = [each for each in two.outcomes if isinstance(each, Failed)]
    assert [each.id for each in refused] == [f"{n}" for n in range(QUEUE, QUEUE + 3)]
    assert "wait already" in from_plain(refused[0].error).what


def test_an_answer_goes_on_while_anothers_picture_is_encoded(two: Stepped) -> None:
    two.ask("talks", "Hello!", sampling=LONG)
    while "talks" not in {each.id for each in two.outcomes if isinstance(each, Published) and two.said("talks")}:
        two.outcomes += two.runner.step()
    two.ask("looks", the_picture("red circle", size=(1024, 1024)), "What shape is red?")
    two.until("talks", "looks")
    assert two.said("looks") == "circle"
    while_encoding = two.outcomes[two.first("looks", "encode") : two.first("looks", "prefill")]
    assert any(
        isinstance(event, Text) for each in while_encoding if isinstance(each, Published) for event in each.events
    )


def test_there_is_nothing_to_do_while_all_wait_for_pictures(two: Stepped) -> None:
    two.runner.prepare("ahead", (Message("user", ("What is",)),))
    two.ask("looks", the_picture("red circle", size=(1024, 1024)), "What shape is red?")
    while two.runner.has_work:
        two.outcomes += two.runner.step()
    assert "looks" not in two.ended()
    two.until("looks", "ahead")
    assert two.said("looks") == "circle"


def test_what_is_asked_ahead_makes_way_for_what_is_asked(two: Stepped) -> None:
    two.runner.prepare("ahead", (Message("user", ("word " * 900,)),))
    two.outcomes += two.runner.step()
    two.ask("now", "Hello!")
    two.until("now", "ahead")
    assert [each.id for each in two.outcomes if each.id == "ahead" or Stepped._ends(each)] == ["now", "ahead"]  # type: ignore[arg-type]
    assert any(isinstance(each, Prepared) for each in two.outcomes)


def test_when_the_cache_is_full_the_last_to_come_begins_again_and_loses_nothing() -> None:
    stepped = Stepped(settings(n_seq_max=4, n_ctx=512))
    alone = Stepped(settings(n_seq_max=1, n_ctx=2048))
    ids = "abcd"
    for loop in (stepped, alone):
        for id in ids:
            loop.ask(
                id, f"{id} Hello!", sampling=Sampling(temperature=1000.0, top_k=0, top_p=1.0, seed=3, max_tokens=180)
            )
        loop.until(*ids)
    stats = stepped.runner.stats()
    assert stats.preempted > 0
    assert (stats.running, stats.waiting) == (0, 0)
    assert [stepped.said(id) for id in ids] == [alone.said(id) for id in ids]
    for loop in (stepped, alone):
        loop.runner.close()


def test_a_cancelled_request_is_forgotten_wherever_it_is(two: Stepped) -> None:
    for id in "abcd":
        two.ask(id, the_picture("red circle"), f"{id}: What shape is red?", sampling=LONG)
    for id in "dbac":
        two.runner.interrupt(id)
        two.runner.cancel(id)
        two.outcomes += two.runner.step()
    assert not two.runner.has_work
    stats = two.runner.stats()
    assert (stats.running, stats.waiting) == (0, 0)
    two.ask("e", the_picture("blue square"), "What colour is the square?")
    two.until("e")
    assert two.said("e") == "blue"


def test_after_a_failed_step_only_what_was_open_is_lost(two: Stepped, monkeypatch: pytest.MonkeyPatch) -> None:
    for id in "abc":
        two.ask(id, "Hello!", sampling=LONG)
    for _ in range(4):
        two.outcomes += two.runner.step()
    two.outcomes += two.runner.fail(from_plain({"error": "EngineError", "what": "broken", "fix": "again"}))
    assert two.ended() == {"a", "b"}
    two.until("c")
    assert two.said("c")


def test_an_answer_with_thoughts_is_not_known_by_its_text_alone(two: Stepped) -> None:
    """Its tokens would say the thoughts again."""
    model, intake = two.runner._model, two.runner._intake
    talk = (Message("user", ("Hello!",)), Message("assistant", ("red",)), Message("user", ("And?",)))

    def n_tokens_after(answered: str) -> int:
        sequence = intake.to_answer(Request(talk[:1], GREEDY), arrived=0.0)
        sequence.answered, sequence.text = model.tokenize(answered), "red"
        intake.remember(sequence)
        sequence.close()
        return intake.count(Request(talk)).prompt_tokens

    as_written = intake.count(Request(talk)).prompt_tokens
    assert n_tokens_after("It was red.red") == as_written
    assert n_tokens_after("\n\nred") == as_written  # nor one with line breaks that were not told


def test_who_begins_like_another_waits_for_it_and_is_not_held_up_when_that_one_leaves() -> None:
    stepped = Stepped(settings(n_seq_max=4))
    long = "word " * 900
    for id in "abc":
        stepped.ask(id, long, f"{id}?")
    stepped.outcomes += stepped.runner.step()
    slots = [each.slot is None for each in stepped.runner._seats.open]
    assert slots == [False, True, True]
    stepped.runner.cancel("a")
    stepped.until("b", "c")
    stats = stepped.runner.stats()
    assert stats.prompt_tokens < 1400  # the words stood there three times
    assert stats.tokens_reused > 1400
    stepped.runner.close()


def test_a_picture_that_two_want_is_waited_for_and_nothing_spins() -> None:
    stepped = Stepped(settings(n_seq_max=2))
    picture = the_picture("red circle", size=(1024, 1024))
    for id in "ab":
        stepped.ask(id, picture, "What shape is red?")
    while stepped.runner.has_work:
        stepped.outcomes += stepped.runner.step()
    assert stepped.ended() == set()
    stepped.until("a", "b")
    assert (stepped.said("a"), stepped.said("b")) == ("circle", "circle")
    assert stepped.runner.stats().prompt_tokens < picture.tokens + 120
    stepped.runner.close()


WIDTH = 384
"""Values of one of pocket's embeddings."""
LONG_TEXT = "word " * 300
BABBLE = Sampling(temperature=1000.0, top_k=0, top_p=1.0, seed=3, max_tokens=480)


class SlowEncoder:
    """Gives nothing back before it may."""

    def __init__(self, runner: Runner) -> None:
        self.may = threading.Event()
        self.digests: list[str] = []
        assert runner._encoder
        self._vision = runner._encoder._vision
        self._encode = self._vision.encode
        self._vision.encode = self  # type: ignore[method-assign, assignment]

    def __call__(self, picture: Picture) -> object:
        self.digests.append(picture.digest)
        while not self.may.wait(0.001):
            assert self._vision.between_nodes
            self._vision.between_nodes()
            if self._vision._abort.is_set():
                raise Aborted
        return self._encode(picture)


@pytest.mark.parametrize("left", range(-4, 5))
def test_when_a_picture_has_no_room_any_more_only_its_own_request_begins_again(left: int) -> None:
    """Whatever is left of the cache when the last piece of it would come."""
    stepped = Stepped(settings(n_ctx=512, n_batch=64, n_seq_max=2, disk_budget=0))
    runner = stepped.runner
    ends = tuple((token, -1e9) for token in range(runner._model.n_vocab) if runner._model.ends_answer(token))
    stepped.ask("a", "Hi", sampling=replace(BABBLE, logit_bias=ends))
    stepped.ask("b", the_picture("red circle", size=(512, 512)), "What shape is red?")
    stepped.outcomes += stepped.runner.step()
    first, second = runner._seats.open
    (placed,) = second.cells.pictures
    encoding = second.encodings[placed.start]
    while not encoding.is_done:
        pass
    embeddings, encoding.embeddings = encoding.embeddings, None
    while first.computed + placed.start < 512 - 3 * 65 + left:  # three pieces of 64 cells, each beside a token
        stepped.outcomes += runner.step()
    encoding.embeddings = embeddings
    stepped.until("a", "b")
    assert not any(isinstance(each, Failed) for each in stepped.outcomes)
    assert stepped.said("b") == "circle"
    runner.close()


def test_a_grammar_that_fails_fails_its_own_request_alone(two: Stepped, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> int:
        raise UsageError("too slow", "write another")

    two.ask("innocent", "Hello!", sampling=LONG)
    held = Request((Message("user", ("Hi",)),), GREEDY, grammar='root ::= "yes"', id="held")
    two.runner.submit(held, arrived=0.0)
    monkeypatch.setattr(Grammar, "sample", fails)
    two.until("innocent", "held")
    (failed,) = [each for each in two.outcomes if isinstance(each, Failed)]
    assert failed.id == "held"
    assert two.said("innocent")
    assert two.runner.stats().running == 0


def test_what_is_prepared_beside_an_answer_tells_how_far_its_pictures_are_and_takes_nothing_back() -> None:
    stepped = Stepped(settings(n_seq_max=2, n_ctx=1024))
    picture = the_picture("red circle")
    stepped.ask("talks", "Hello!", sampling=LONG)
    stepped.runner.prepare("ahead", (Message("user", (picture, LONG_TEXT)),))
    stepped.until("talks")
    stepped.outcomes += stepped.runner.step()  # begins with what is prepared
    stepped.ask("comes between", "Hello!", sampling=LONG)
    stepped.until("ahead", "comes between")
    told = [each for each in stepped.outcomes if each.id == "ahead"]
    progress = [event for each in told if isinstance(each, Published) for event in each.events]
    assert progress == [Progress("encode", 0, picture.tokens), Progress("encode", picture.tokens, picture.tokens)]
    assert isinstance(told[-1], Prepared)
    assert stepped.outcomes.index(told[1]) < stepped.outcomes.index(told[-1])
    stepped.runner.close()


def test_those_who_wait_hold_no_more_embeddings_than_they_may() -> None:
    picture_bytes = 4 * 64 * WIDTH
    stepped = Stepped(settings(n_seq_max=1, disk_budget=0, embedding_budget=3 * picture_bytes))
    stepped.ask("talks", "Hello!", sampling=LONG)
    shapes = ("red circle", "blue square", "pink star", "green star", "black circle", "yellow triangle")
    for what in shapes:
        stepped.ask(what, the_picture(what), f"What colour is the {what.split()[1]}?")
    most = 0
    while not {*shapes} <= stepped.ended():
        if not stepped.runner.has_work:
            assert stepped.woken.wait(20)
            stepped.woken.clear()
        stepped.outcomes += stepped.runner.step()
        most = max(most, sum(len(each.encodings) for each in stepped.runner._seats))
    assert most <= 3
    assert [stepped.said(what) for what in shapes] == [what.split()[0] for what in shapes]
    stepped.runner.close()


def test_who_has_no_seat_yet_keeps_no_picture_from_those_who_have() -> None:
    picture_bytes = 4 * 64 * WIDTH
    stepped = Stepped(settings(n_seq_max=3, disk_budget=0, embedding_budget=picture_bytes))
    first, *others = (the_picture(what) for what in ("red circle", "blue square", "pink star"))
    slow = SlowEncoder(stepped.runner)
    stepped.ask("a", LONG_TEXT, first, "What shape is red?")
    stepped.ask("b", LONG_TEXT, first, others[0], "What shape is blue?")  # waits for what a computes
    stepped.ask("c", others[1], "What shape is pink?")
    stepped.outcomes += stepped.runner.step()
    a, b, c = stepped.runner._seats.open
    assert (a.slot is None, b.slot is None, c.slot is None) == (False, True, False)
    assert c.encodings
    slow.may.set()
    stepped.until("a", "b", "c")
    assert stepped.said("c") == "star"
    stepped.runner.close()


def test_a_request_that_waits_for_its_picture_is_no_idleness(two: Stepped) -> None:
    slow = SlowEncoder(two.runner)
    assert two.runner.is_idle
    two.ask("a", the_picture("red circle"), "What shape is red?")
    while two.runner.has_work:
        two.outcomes += two.runner.step()
    assert not two.runner.is_idle
    slow.may.set()
    two.until("a")
    assert two.runner.is_idle


def test_what_is_computed_ahead_is_computed_in_pieces_for_who_may_come(two: Stepped) -> None:
    two.runner.prepare("ahead", (Message("user", (LONG_TEXT,)),))
    two.outcomes += two.runner.step()
    (ahead,) = two.runner._seats.open
    assert 0 < ahead.computed < 100
    assert ahead.cells.n > 300


def test_a_seed_is_a_promise_that_no_guess_may_break(two: Stepped) -> None:
    two.ask("seeded", "Hello!", sampling=replace(BABBLE, temperature=0.9, top_k=2))
    two.until("seeded")
    assert two.runner.stats().drafted == 0
    two.ask("greedy", "Hello!", sampling=replace(BABBLE, temperature=0.0))
    two.until("greedy")
    assert two.runner.stats().drafted > 0


def test_what_is_kept_holds_no_pixels(two: Stepped) -> None:
    two.ask("a", the_picture("red circle"), "What shape is red?")
    two.until("a")
    assert [placed.picture.rgb for _, cells in two.runner._slots.latest() for placed in cells.pictures] == [b""]


def test_a_picture_that_is_asked_about_goes_before_one_that_is_only_prepared(two: Stepped) -> None:
    slow = SlowEncoder(two.runner)
    ahead, asked = the_picture("blue square"), the_picture("red circle")
    two.runner.prepare("ahead", (Message("user", (ahead,)),))
    two.outcomes += two.runner.step()
    while not slow.digests:
        pass
    two.ask("asked", asked, "What shape is red?")
    two.outcomes += two.runner.step()
    while asked.digest not in slow.digests:
        pass
    slow.may.set()
    two.until("asked", "ahead")
    assert slow.digests == [ahead.digest, asked.digest, ahead.digest]
    assert two.said("asked") == "circle"


def test_nothing_is_encoded_for_those_who_have_failed(two: Stepped) -> None:
    slow = SlowEncoder(two.runner)
    for what in ("red circle", "blue square"):
        two.ask(what, the_picture(what), "What shape is it?")
    two.outcomes += two.runner.step()
    two.runner.fail(from_plain({"error": "EngineError", "what": "broken", "fix": "again"}))
    slow.may.set()
    two.ask("c", the_picture("pink star"), "What colour is the star?")
    two.until("c")
    assert two.said("c") == "pink"
    assert two.runner.stats().pictures_encoded == 1


@pytest.mark.parametrize("n", [0, -1])
def test_an_answer_of_no_tokens_is_refused(two: Stepped, n: int) -> None:
    two.ask("a", "Hello!", sampling=replace(GREEDY, max_tokens=n))
    (failed,) = two.runner.step()
    assert isinstance(failed, Failed)
    assert "at least one" in from_plain(failed.error).fix


def test_who_begins_again_is_not_told_of_a_queue_in_mid_answer() -> None:
    stepped = Stepped(settings(n_seq_max=4, n_ctx=512))
    for id in "abcd":
        stepped.ask(id, f"{id} Hello!", sampling=replace(BABBLE, max_tokens=180))
    stepped.until(*"abcd")
    assert stepped.runner.stats().preempted
    for id in "abcd":
        kinds = [
            type(event)
            for each in stepped.outcomes
            if isinstance(each, Published) and each.id == id
            for event in each.events
        ]
        assert Progress not in kinds[kinds.index(Text) :]
    stepped.runner.close()


def test_what_is_asked_ahead_is_bounded_too_and_keeps_nobody_out_who_asks(two: Stepped) -> None:
    for n in range(QUEUE + 2):
        two.runner.prepare(f"ahead {n}", (Message("user", ("word",)),))
    two.ask("now", "Hello!")
    two.until("now")
    refused = [each.id for each in two.outcomes if isinstance(each, Failed)]
    assert refused == [f"ahead {n}" for n in range(QUEUE, QUEUE + 2)]


def test_a_picture_for_which_no_memory_is_left_fails_its_own_request(
    two: Stepped, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Picture) -> object:
        raise MemoryError

    assert two.runner._encoder
    monkeypatch.setattr(two.runner._encoder._vision, "encode", fails)
    two.ask("looks", the_picture("red circle"), "What shape is red?")
    two.ask("talks", "Hello!")
    two.until("looks", "talks")
    (failed,) = [each for each in two.outcomes if isinstance(each, Failed)]
    assert (failed.id, from_plain(failed.error).exit_code) == ("looks", 4)
    monkeypatch.undo()
    two.ask("again", the_picture("red circle"), "What shape is red?")
    two.until("again")
    assert two.said("again") == "circle"
