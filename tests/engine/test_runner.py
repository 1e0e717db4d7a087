"""The loop, stepped by hand: who goes first, who makes way, and when there is nothing to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from gguf_vl.engine.protocol import Failed, Prepared, Published
from gguf_vl.engine.runner import Outcome, Runner
from gguf_vl.engine.seats import QUEUE
from gguf_vl.errors import from_plain
from gguf_vl.types import EngineSettings, Finished, Message, Progress, Request, Sampling, Text
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
    order = [each.id for each in two.outcomes]
    begun = next(place for place, each in enumerate(two.outcomes) if each.id == "looks")
    assert "talks" in order[begun:]


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
