"""The soak's judgements: each can fail, and none does without reason."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gguf_vl.types import EngineStats, sequence_ids

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from soak_engine import EXPECTED, SEATS, TO_BE_TRIED, Report, faults, unsettled

SETTLED = EngineStats(9, 0, 0, 0, 0, 0, kept_sequences=5, free_sequences=sequence_ids(SEATS) - 5)
NOISE = [90.0, 91.0, 140.0, 92.0, 91.0, 93.0, 92.0, 150.0]


def report(**others: object) -> Report:
    """What is printed where nothing went wrong, but for this."""
    clean = Report(**dict.fromkeys(TO_BE_TRIED, 1), worker_mib=NOISE, own_mib=NOISE)  # type: ignore[arg-type]
    return replace(clean, **others)  # type: ignore[arg-type]


def test_nothing_is_at_fault_where_nothing_went_wrong() -> None:
    assert unsettled(SETTLED) == []
    assert faults(report()) == []


@pytest.mark.parametrize("what", ["running", "waiting", "free_sequences", "kept_sequences"])
def test_whatever_is_left_or_lost_at_rest_is_a_fault(what: str) -> None:
    wrong = getattr(SETTLED, what) + (-1 if what.endswith("sequences") else 1)
    assert len(unsettled(replace(SETTLED, **{what: wrong}))) == 1


def test_a_worker_that_is_not_loaded_is_a_fault_at_rest() -> None:
    assert unsettled(EngineStats(0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("name", TO_BE_TRIED)
def test_what_never_happened_proves_nothing(name: str) -> None:
    assert faults(report(**{name: 0})) == [f"never happened: {name}"]


@pytest.mark.parametrize("whose", ["worker_mib", "own_mib"])
def test_memory_that_grows_is_a_fault(whose: str) -> None:
    (fault,) = faults(report(**{whose: [90.0 + 3 * i for i in range(20)]}))
    assert "times the memory" in fault


def test_a_worker_that_is_left_and_what_went_wrong_before_the_end_are_faults() -> None:
    (left,) = faults(report(workers_left=1))
    assert "left" in left
    found = report()
    found.faults["no end within 60 s"] += 2
    assert faults(found) == ["2 times: no end within 60 s"]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("The prompt takes 9 tokens (0 of them pictures), the context holds 8.", True),
        ("The engine's process ended while working (signal SIGKILL).", True),
        ("Memory ran out while loading the model, most likely: signal SIGKILL.", True),
        ("The engine was closed.", True),
        ("The engine's process ended while working (signal SIGSEGV).", False),
        ("The engine's process ended while working (it got no further for 300 s).", False),
        ("The engine failed: ValueError: x", False),
    ],
)
def test_only_what_is_done_to_a_request_may_make_it_fail(what: str, expected: bool) -> None:
    assert bool(EXPECTED.search(what)) is expected
