"""A loop and an encoder take turns on one processor: never both, and neither for ever."""

from __future__ import annotations

import threading

import pytest

from gguf_vl.engine import sharing
from gguf_vl.engine.sharing import Turns


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
