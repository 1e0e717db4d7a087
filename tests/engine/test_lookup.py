"""Drafts come from what stood behind the same tokens before, and drafting rests where it does not pay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.engine.lookup import PICTURE, PromptLookup, Worth


def drafted(history: list[int], n_most: int = 8) -> list[int]:
    lookup = PromptLookup()
    lookup.extend(history)
    return list(lookup.draft(n_most))


def test_what_followed_the_same_tokens_is_drafted() -> None:
    assert drafted([1, 2, 3, 4, 5, 9, 1, 2, 3]) == [4, 5, 9, 1, 2, 3]
    assert drafted([1, 2, 3, 4, 5, 9, 1, 2, 3], n_most=2) == [4, 5]


@pytest.mark.parametrize("history", [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 1], [1, 2, 9, 2, 1]])
def test_nothing_is_drafted_behind_tokens_that_are_new(history: list[int]) -> None:
    assert drafted(history) == []


def test_the_latest_of_several_places_is_taken() -> None:
    assert drafted([1, 2, 30, 1, 2, 31, 1, 2], n_most=1) == [31]


def test_a_place_where_more_tokens_are_the_same_goes_before_a_later_one() -> None:
    assert drafted([7, 8, 1, 2, 30, 9, 1, 2, 31, 7, 8, 1, 2], n_most=1) == [30]
    assert drafted([8, 1, 2, 30, 9, 1, 2, 31, 8, 1, 2], n_most=1) == [30]


def test_a_repetition_is_drafted_from_itself() -> None:
    assert drafted([5, 5, 5, 5]) == [5]


def test_pictures_are_neither_drafted_nor_matched() -> None:
    assert drafted([1, 2, 3, PICTURE, 4, 1, 2]) == [3]
    assert drafted([1, PICTURE, 3, 1, PICTURE]) == []
    assert drafted([PICTURE, 2, 3, PICTURE, 2]) == []
    assert drafted([PICTURE, 1, 2, 3, PICTURE, 1, 2]) == [3]


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 6))
def test_a_draft_is_what_a_search_through_everything_finds(history: list[int], n_most: int) -> None:
    found = drafted(history, n_most)
    places = [end for end in range(2, len(history)) if history[end - 2 : end] == history[-2:]]
    if not places:
        assert found == []
        return

    def n_same(place: int) -> int:
        return max(n for n in (2, 3, 4) if n <= place and history[place - n : place] == history[len(history) - n :])

    best = max(places[-8:], key=lambda place: (n_same(place), place))
    assert found == history[best : best + n_most]


@given(st.lists(st.integers(0, 3) | st.just(PICTURE), max_size=40))
def test_it_makes_no_difference_in_which_pieces_a_history_comes(history: list[int]) -> None:
    one_by_one = PromptLookup()
    for token in history:
        one_by_one.draft(4)
        one_by_one.extend([token])
    assert list(one_by_one.draft(4)) == drafted(history, 4)


def share_drafted(n_steps: int, accepted: list[int], cost: float) -> float:
    """The share of steps with a draft, where these numbers of tokens are accepted in turn."""
    worth, n_drafts = Worth(), 0
    for _ in range(n_steps):
        if worth.should_draft():
            worth.observe(accepted[n_drafts % len(accepted)], cost)
            n_drafts += 1
    return n_drafts / n_steps


def test_drafting_goes_on_where_it_pays() -> None:
    assert share_drafted(1000, [3], cost=1.5) == 1
    assert share_drafted(1000, [0, 4], cost=1.5) == 1


def test_it_rests_ever_longer_where_it_does_not() -> None:
    assert share_drafted(300, [0], cost=1.5) < 0.1
    assert share_drafted(20_000, [0], cost=1.5) < 0.01
    assert share_drafted(1000, [1], cost=2.5) < 0.05


def test_a_step_that_costs_no_more_is_worth_any_accepted_token() -> None:
    assert share_drafted(1000, [0, 0, 1, 0], cost=1.0) == 1


def test_it_is_tried_again_and_stays_when_the_answer_begins_to_copy() -> None:
    worth = Worth()

    def drafts(n_accepted: int) -> bool:
        if drafting := worth.should_draft():
            worth.observe(n_accepted, 1.5)
        return drafting

    assert not all(drafts(0) for _ in range(5000))
    copying = [drafts(3) for _ in range(Worth.LONGEST_REST + 500)]
    assert all(copying[Worth.LONGEST_REST :])
