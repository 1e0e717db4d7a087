"""The comparison with other servers: what it asks, how it counts, and what it makes of the figures."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from dataclasses import replace
from itertools import count
from pathlib import Path

import psutil
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from peers import curve, table
from peers.figures import (
    ALONE,
    BEHIND,
    EIGHT,
    FOUR,
    KINDS,
    NEW,
    NEXT,
    PREPARED,
    SAME,
    STEADY,
    STEADY_FOUR,
    Figures,
    steady_rate,
    total_rate,
)
from peers.process import Others
from peers.rounds import PARTS, Asked, in_turns
from peers.talk import Answer, Talk, Unanswered, noise, special_tokens

POCKET = Path(__file__).parents[1] / "gguf_vl" / "pocket"


class Fake:
    """A peer that answers everything with a number, and remembers what it was asked."""

    name = "fake"
    prepares = True
    pid = os.getpid()

    def __init__(self) -> None:
        self.asked: list[Talk] = []
        self.prepared: list[Talk] = []

    def ask(self, talk: Talk, n_tokens: int) -> Answer:
        self.asked.append(talk)
        return Answer(f"answer {len(self.asked)}", n_tokens, 0.0, (1.0, 2.0), 2.0)

    def prepare(self, talk: Talk) -> None:
        self.prepared.append(talk)


def answer(n_tokens: int, *stamps: float) -> Answer:
    return Answer("", n_tokens, 0.0, stamps, stamps[-1])


class Counted:
    """Takes its turn by writing down that it did."""

    pid = os.getpid()

    def __init__(self, name: str, turns: list[tuple[int, str, str]], joins: Collection[str] = PARTS) -> None:
        self.name, self.turns, self.joins, self.figures = name, turns, joins, Figures()

    def take(self, part: str, number: int) -> float:
        self.turns.append((number, part, self.name))
        return 1.0


def looked(fake: Fake, n_rounds: int = 1) -> Figures:
    asked = Asked(fake, (32, 32))
    for number in range(n_rounds):
        for kind in KINDS:
            asked.take(kind, number)
    return asked.figures


def test_a_round_asks_on_from_the_answer_that_was_given() -> None:
    fake = Fake()
    figures = looked(fake)
    first, following, same, behind, prepared = fake.asked
    assert following[0] == first[0]
    assert following[1].content == ("answer 1",)
    assert same[0].content[0] == first[0].content[0]
    assert same[0].content[1] != first[0].content[1]
    assert behind[1:] == same
    assert fake.prepared[0][0].content == prepared[0].content[:1]
    assert prepared[0].content[0] != first[0].content[0]
    assert list(figures.rounds) == [NEW, NEXT, SAME, BEHIND, PREPARED]


def test_no_round_sees_a_picture_again() -> None:
    fake = Fake()
    looked(fake, n_rounds=3)
    pictures = {part for talk in fake.asked for turn in talk for part in turn.content if isinstance(part, bytes)}
    assert len(pictures) == 6


def test_a_peer_that_prepares_nothing_has_no_turn_there() -> None:
    fake = Fake()
    fake.prepares = False
    assert Asked(fake, (32, 32)).joins == [part for part in PARTS if part != PREPARED]


def test_as_many_clients_ask_at_once_as_the_part_has() -> None:
    asked = Asked(fake := Fake(), (32, 32))
    for part in (ALONE, FOUR, EIGHT):
        asked.take(part, 0)
    assert len(set(fake.asked)) == 1 + 4 + 8
    assert list(asked.figures.rounds) == [ALONE, STEADY[ALONE], FOUR, STEADY[FOUR], EIGHT]


def test_all_do_a_part_before_the_next_and_each_round_begins_with_another() -> None:
    turns: list[tuple[int, str, str]] = []
    in_turns({name: Counted(name, turns) for name in "abc"}, 4, 0.0, lambda _: None)
    orders = ("abc", "bca", "cab", "abc")
    assert turns == [(number, part, name) for number, order in enumerate(orders) for part in PARTS for name in order]


def test_who_joins_some_parts_is_left_out_of_the_others() -> None:
    turns: list[tuple[int, str, str]] = []
    in_turns({"a": Counted("a", turns), "b": Counted("b", turns, joins=(FOUR,))}, 2, 0.0, lambda _: None)
    assert [turn for turn in turns if turn[2] == "b"] == [(0, FOUR, "b"), (1, FOUR, "b")]


def test_a_part_in_which_others_took_much_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.01] * 3 + [0.2] + [0.01] * (len(PARTS) - 4))
    monkeypatch.setattr(Others, "share", lambda _: next(shares))
    told: list[str] = []
    found = in_turns({"a": Counted("a", [])}, 1, 0.0, told.append)
    assert found == {part: [0.2 if part == BEHIND else 0.01] for part in PARTS}
    assert [line for line in told if "others took" in line] == [told[4]]
    assert BEHIND in told[3]
    assert "20%" in told[4]


def test_a_picture_is_the_same_for_every_peer() -> None:
    assert noise(3, (64, 32)) == noise(3, (64, 32))
    assert noise(3, (64, 32)) != noise(4, (64, 32))


def test_the_total_rate_counts_from_the_first_token_of_all_to_the_last() -> None:
    assert total_rate([answer(5, 1, 2, 3, 4, 5)]) == 1.0
    assert total_rate([answer(5, 1, 2, 3, 4, 5), answer(6, 6, 7, 8, 9, 10, 11)]) == 1.0


def test_the_steady_rate_counts_only_while_all_decode() -> None:
    assert steady_rate([answer(5, 1, 2, 3, 4, 5), answer(5, 3, 4, 5, 6, 7)]) == 2.0
    assert steady_rate([answer(2, 1, 2), answer(2, 3, 4)]) is None


def test_others_are_what_is_busy_beside_us(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(0.0, 100.0, 10.0), (10.0, 112.0, 18.0)])  # seconds: on the clock, of all processors, our own
    monkeypatch.setattr(Others, "_now", lambda _: next(readings))
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    assert Others().share() == pytest.approx((12 - 8) / 20)


def test_special_tokens_are_those_that_are_no_text() -> None:
    assert special_tokens(POCKET / "pocket-F16.gguf") == tuple(range(1004, 1024))


def taken(**rounds: dict[str, list[float | None]]) -> dict[str, Figures]:
    names = {"ours": table.OURS, "plain": table.PLAIN, "loop": table.LOOP}
    return {names.get(name, name): Figures(each) for name, each in rounds.items()}


def judged(figures: dict[str, Figures]) -> dict[str, table.Verdict]:
    return {each.goal.what: each for each in table.verdicts(figures)}


def test_the_best_peer_is_chosen_for_each_goal() -> None:
    found = judged(
        taken(
            one={NEW: [2.0], ALONE: [10.0]},
            two={NEW: [1.0], ALONE: [20.0]},
            ours={NEW: [1.5], PREPARED: [0.1], ALONE: [30.0]},
            plain={STEADY_FOUR: [96.0]},
            loop={STEADY_FOUR: [100.0]},
        )
    )
    assert (found["new picture"].best, found["new picture"].ratio, found["new picture"].met) == ("two", 1.5, False)
    assert found["prepared picture, over a new one"].met
    assert found["decoding alone"].ratio == 1.5
    assert found["4 clients, no guesses, over the bare loop"].met
    assert found["peak memory"].met is None


def test_a_ratio_is_the_middle_of_those_within_a_round_against_the_peer_that_is_best_in_the_middle() -> None:
    found = judged(
        taken(
            one={ALONE: [10.0, 20.0, 40.0]},
            two={ALONE: [30.0, 10.0, 10.0]},  # best in one round
            ours={ALONE: [9.0, 40.0, 20.0]},
        )
    )["decoding alone"]
    assert (found.best, found.ratios, found.ratio) == ("one", (0.9, 2.0, 0.5), 0.9)


def test_a_round_without_a_figure_has_no_ratio() -> None:
    found = judged(taken(plain={STEADY_FOUR: [9.0, None, 8.0]}, loop={STEADY_FOUR: [10.0, 10.0, 10.0]}))
    assert found["4 clients, no guesses, over the bare loop"].ratios == (0.9, 0.8)


def test_the_table_has_a_line_for_each_figure_and_goal() -> None:
    figures = taken(one={NEW: [1.0, 2.0, 4.0]}, ours={NEW: [1.5, 1.0, 5.0]})
    figures[table.OURS].parts[NEW] = [{"encode": 1.0, "rest": 0.5}]
    lines = table.text(figures).splitlines()
    assert lines[2].split() == ["a", "picture", "never", "seen", "2.000", "1.500"]
    assert lines[3].strip() == "of ours: encode 1.000, rest 0.500"
    goal = next(line for line in lines if line.startswith("new picture"))
    assert goal.split() == "new picture one 1.250 0.500 to 1.500 <= 1 missed".split()
    assert sum(line.startswith(goal.what) for line in lines for goal in table.GOALS[:1]) == 1


def asked(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> curve.Curve:
    sizes = count(curve.MIB, curve.MIB)
    monkeypatch.setattr(curve, "resident", lambda _: next(sizes))
    return curve.follow(fake, 50, seed=3, tell=lambda _: None)


def test_memory_is_looked_at_after_every_20_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    points = asked(monkeypatch, fake).points
    assert len(fake.asked) == 50
    assert [n_requests // curve.EVERY for n_requests, _, _ in points] == [0, 1, 2, 2]
    assert points[-1][0] == 50


def test_all_peers_are_asked_the_same_whatever_they_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Fake):
        def ask(self, talk: Talk, n_tokens: int) -> Answer:
            return replace(super().ask(talk, n_tokens), text="something else")

    def said(fake: Fake) -> list[str]:  # those at once come in any order
        asked(monkeypatch, fake)
        return sorted(str([turn for turn in talk if turn.role == "user"]) for talk in fake.asked)

    one, other = said(Fake()), said(Other())
    assert one == other
    assert any(talk.count("role='user'") > 1 for talk in one)


def test_a_request_that_is_not_answered_is_kept_and_the_next_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Fake):
        def ask(self, talk: Talk, n_tokens: int) -> Answer:
            super().ask(talk, n_tokens)
            raise Unanswered("no")

    fake = Failing()
    assert asked(monkeypatch, fake).unanswered == ["no"] * 50


@pytest.mark.parametrize("most", [0.3, 1, 4.2, 9, 50, 400, 2000])
def test_an_axis_has_a_few_round_numbers(most: float) -> None:
    ticks = curve.ticks(most)
    assert 4 <= len(ticks) <= 11
    assert ticks[0] == 0
    assert ticks[-1] <= most


def test_a_drawing_has_a_line_of_each_colour(tmp_path: Path) -> None:
    curves = {name: curve.Curve([(0, n * curve.GIB, 0.0), (40, n * curve.GIB, 1.0)]) for n, name in enumerate("abc", 1)}
    curve.draw(curves, tmp_path / "memory.png")
    with Image.open(tmp_path / "memory.png") as drawn:
        colours = {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in drawn.getcolors(1 << 20)}  # type: ignore[misc]
    assert set(curve.COLOURS[:3]) <= colours
