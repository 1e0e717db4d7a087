"""A loop and an encoder take turns on one processor, never both and neither for ever; on two they need none."""

from __future__ import annotations

import threading
import time

import pytest

from gguf_vl.engine import sharing
from gguf_vl.engine.protocol import Published
from gguf_vl.engine.runner import Runner
from gguf_vl.engine.sharing import Turns, in_each_others_way
from gguf_vl.types import Finished, Message, Request, Sampling
from tests.engine.test_worker import settings
from tests.scenes import the_picture


def test_never_do_both_compute_and_both_get_on() -> None:
    turns = Turns()
    computing = threading.Lock()
    nodes = steps = 0
    done = threading.Event()

    def encode() -> None:
        nonlocal nodes
        with turns.encode():
            assert computing.acquire(blocking=False)
            while nodes < 2000 or steps < 20:
                nodes += 1
                computing.release()
                turns.let_go()
                assert computing.acquire(blocking=False)
            computing.release()
        done.set()

    thread = threading.Thread(target=encode)
    thread.start()
    while not done.is_set():
        with turns.step() as alone:
            if alone:
                assert computing.acquire(blocking=False)
                steps += 1
                computing.release()
    thread.join()
    assert nodes >= 2000
    assert steps >= 20


def test_a_step_does_not_wait_for_a_node_that_lasts_and_is_told_that_it_is_not_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharing, "PATIENCE_S", 0.0)
    turns = Turns()
    with turns.encode():
        with turns.step() as alone:
            assert not alone
            turns.let_go()  # the encoder need not wait for it either
        assert turns.contended
    with turns.step() as alone:
        assert alone


def test_a_step_waits_for_the_encoder_only_as_long_as_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PATIENCE_S", 60.0)
    turns = Turns()
    stepped = threading.Event()

    def step() -> None:
        with turns.step():
            stepped.set()

    with turns.encode():
        thread = threading.Thread(target=step)
        thread.start()
        while not turns._wanted:
            pass
        assert not stepped.is_set()
        turns.let_go()  # no step has lasted yet: its share is over at once
        assert stepped.is_set()
    thread.join()


def test_an_encoder_that_gives_way_gets_no_turn_while_steps_follow_one_another() -> None:
    turns = Turns()
    asked = threading.Event()  # about what is only prepared until then
    nodes = 0

    def encode() -> None:
        nonlocal nodes
        with turns.encode():
            while not asked.is_set():
                nodes += 1
                turns.let_go(lambda: not asked.is_set())

    thread = threading.Thread(target=encode)
    thread.start()
    while not nodes:
        pass
    with turns.step():
        before = nodes
    for _ in range(200):
        with turns.step() as alone:
            assert alone
    assert nodes == before
    asked.set()
    thread.join()


@pytest.mark.parametrize(
    ("n_threads", "n_cores", "take_turns"), [(1, 1, True), (1, 2, False), (2, 2, True), (2, 8, True), (1, 8, False)]
)
def test_only_single_threads_with_a_core_for_each_are_not_in_each_others_way(
    n_threads: int, n_cores: int, take_turns: bool
) -> None:
    assert in_each_others_way(n_threads, n_cores) == take_turns


def test_on_two_cores_an_answer_goes_on_while_a_node_of_a_picture_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PATIENCE_S", 10.0)
    runner = Runner(settings(n_seq_max=2, n_cores=2), lambda _: None)
    assert runner._encoder
    vision, begun, may_end = runner._encoder._vision, threading.Event(), threading.Event()
    encode = vision.encode

    def lasts(picture: object) -> object:
        begun.set()
        may_end.wait()
        return encode(picture)  # type: ignore[arg-type]

    vision.encode = lasts  # type: ignore[method-assign, assignment]

    def until_ended(id: str) -> None:
        while not any(
            isinstance(each, Published) and each.id == id and isinstance(each.events[-1], Finished)
            for each in runner.step()
        ):
            pass

    def ask(id: str, *content: object) -> None:
        asked = Request((Message("user", content),), Sampling(temperature=0, max_tokens=8), id=id)  # type: ignore[arg-type]
        runner.submit(asked, arrived=time.perf_counter())

    ask("sees", the_picture("red circle"), "What shape is red?")
    runner.step()
    assert begun.wait(20)
    began = time.perf_counter()
    ask("talks", "Hello!")
    until_ended("talks")
    took = time.perf_counter() - began
    may_end.set()
    until_ended("sees")
    runner.close()
    assert took < sharing.PATIENCE_S  # with turns each of its steps would have waited so long
