"""What two sequences have in common, and where each of their cells stands."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_vl.engine.cells import Cells
from gguf_vl.types import PATCH, Picture


def picture(columns: int, rows: int, digest: str = "a") -> Picture:
    return Picture(b"", columns * PATCH, rows * PATCH, (1, 1), f"{digest} {columns} {rows}")


pictures = st.builds(picture, st.integers(1, 4), st.integers(1, 4), st.sampled_from("ab"))
parts = st.lists(st.lists(st.integers(0, 2), max_size=4).map(tuple) | pictures, max_size=6)


def flat(parts: list[tuple[int, ...] | Picture]) -> list[tuple[object, int]]:
    """(what a cell holds, where it stands in its picture) of each cell."""
    cells: list[tuple[object, int]] = []
    for part in parts:
        if isinstance(part, Picture):
            cells += [(part.digest, place) for place in range(part.tokens)]
        else:
            cells += [(token, 0) for token in part]
    return cells


@settings(max_examples=300, deadline=None)
@given(first=parts, second=parts)
def test_two_sequences_share_the_longest_beginning_that_cuts_no_picture(
    first: list[tuple[int, ...] | Picture], second: list[tuple[int, ...] | Picture]
) -> None:
    one, other = Cells(first), Cells(second)
    n = one.common(other)
    assert n == other.common(one)
    assert flat(first)[:n] == flat(second)[:n]
    assert one.picture_at(n) is None or one.picture_at(n).start == n  # type: ignore[union-attr]
    longer = next((m for m in range(n + 1, min(one.n, other.n) + 1) if flat(first)[:m] == flat(second)[:m]), None)
    if longer is not None:  # then only a part of a picture more is the same
        cut = one.picture_at(n)
        assert cut
        assert cut.end > min(one.n, other.n) or flat(first)[: cut.end] != flat(second)[: cut.end]


@settings(max_examples=200, deadline=None)
@given(given=parts)
def test_positions_count_a_picture_by_its_longer_side(given: list[tuple[int, ...] | Picture]) -> None:
    cells = Cells(given)
    position = cell = 0
    for part in given:
        if isinstance(part, Picture):
            placed = cells.picture_at(cell)
            assert placed
            assert (placed.start, placed.position, placed.end) == (cell, position, cell + part.tokens)
            assert placed.positions.shape == (4, part.tokens)
            assert set(placed.positions[0]) == {position}
            assert placed.positions[1:3].max() == position + placed.n_positions - 1
            position += max(part.width, part.height) // PATCH
            cell += part.tokens
        else:
            for token in part:
                assert cells.position(cell) == position
                assert list(cells.tokens(cell, cell + 1)) == [token]
                position += 1
                cell += 1
    assert (cells.n, cells.position(cells.n)) == (cell, position)


def test_a_sequence_grows_and_its_beginning_can_be_taken() -> None:
    cells = Cells([(1, 2), picture(2, 3), (3,)])
    first = cells.copy(8)
    for token in range(1000):
        cells.add((token,))
    assert (first.n, cells.n) == (8, 1009)
    assert first.common(cells) == 8
    assert list(cells.tokens(9, 1009)) == list(range(1000))
    assert first.pictures == cells.pictures
