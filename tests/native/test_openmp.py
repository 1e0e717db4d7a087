"""Threads that OpenMP keeps end when they are given up, and come again when they are needed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gguf_vl.native import openmp
from tests.engine.test_runner import Stepped
from tests.engine.test_worker import settings

TASKS = Path("/proc/self/task")


def n_threads() -> int:
    return len(list(TASKS.iterdir()))


@pytest.mark.skipif(not TASKS.exists(), reason="counts threads where Linux tells them")
def test_the_threads_of_one_that_computed_end_and_come_again() -> None:
    stepped = Stepped(settings(n_threads=2))
    for id in "ab":
        stepped.ask(id, "Hello!")
        stepped.until(id)
        computed = n_threads()
        openmp.rest()
        assert n_threads() == computed - 1
    assert stepped.said("a") == stepped.said("b")
    stepped.runner.close()


def test_where_there_are_none_nothing_happens() -> None:
    thread = threading.Thread(target=openmp.rest)
    thread.start()
    thread.join()
