"""The comparison with other servers: what it asks, how it counts, and what it makes of the figures."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import psutil
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from peers import curve, table
from peers.figures import BEHIND, NEW, NEXT, PREPARED, SAME, Figures, look, steady_rate, total_rate
from peers.process import Others
from peers.talk import Answer, Talk, Unanswered, noise, special_tokens

POCKET = Path(__file__).parents[1] / "gguf_vl" / "pocket"


class Fake:
    """A peer that answers everything with a number, and remembers what it was asked."""

    name = "fake"
    prepares = True
    pid = 0

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


def test_a_round_asks_on_from_the_answer_that_was_given() -> None:
    fake, figures = Fake(), Figures()
    look(fake, figures, 0, (32, 32))
    first, following, same, behind, prepared = fake.asked
    assert following[0] == first[0]
    assert following[1].content == ("answer 1",)
    assert same[0].content[0] == first[0].content[0]
    assert same[0].content[1] != first[0].content[1]
    assert behind[1:] == same
    assert fake.prepared[0][0].content == prepared[0].content[:1]
    assert prepared[0].content[0] != first[0].content[0]
    assert list(figures.ttft) == [NEW, NEXT, SAME, BEHIND, PREPARED]


def test_no_round_sees_a_picture_again() -> None:
    fake = Fake()
    for number in range(3):
        look(fake, Figures(), number, (32, 32))
    pictures = {part for talk in fake.asked for turn in talk for part in turn.content if isinstance(part, bytes)}
    assert len(pictures) == 6


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


def test_the_best_peer_is_chosen_for_each_goal() -> None:
    columns = {
        "one": {NEW: 2.0, table.ALONE: 10.0},
        "two": {NEW: 1.0, table.ALONE: 20.0},
        table.OURS: {NEW: 1.5, PREPARED: 0.1, table.ALONE: 30.0},
        table.PLAIN: {table.STEADY_FOUR: 96.0},
        table.LOOP: {table.STEADY_FOUR: 100.0},
    }
    found = {each.goal.what: each for each in table.verdicts(columns)}
    assert (found["new picture"].best, found["new picture"].ratio, found["new picture"].met) == ("two", 1.5, False)
    assert found["prepared picture, over a new one"].met
    assert found["decoding alone"].ratio == 1.5
    assert found["4 clients, no guesses, over the bare loop"].met
    assert found["peak memory"].met is None


def test_the_table_has_a_line_for_each_figure_and_goal() -> None:
    columns = {"one": {NEW: 2.0}, table.OURS: {NEW: 1.5}}
    lines = table.text(columns, {NEW: {"encode": 1.0, "rest": 0.5}}).splitlines()
    assert lines[2].split() == ["a", "picture", "never", "seen", "2.000", "1.500"]
    assert lines[3].strip() == "of ours: encode 1.000, rest 0.500"
    assert next(line for line in lines if line.startswith("new picture")).endswith("<= 1  met")
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
