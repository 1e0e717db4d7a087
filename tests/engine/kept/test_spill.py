"""What was computed goes to disk when nothing is asked, and a chat that is opened again later goes on from there."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl import paths
from gguf_vl.engine.cells import Cells
from gguf_vl.engine.client import Engine
from gguf_vl.engine.kept import sequences
from gguf_vl.types import EngineSettings, EngineStats, Finished, Message, Request, Sampling, Text
from tests.engine.test_cells import picture
from tests.engine.test_equal_answers import TALKS, Talk
from tests.engine.test_runner import Stepped
from tests.engine.test_worker import settings
from tests.scenes import the_picture

LONG = "Look well: " + "word " * 200
"""More than is worth reading from disk."""
GREEDY = Sampling(temperature=0, max_tokens=40)


def disk(**others: object) -> EngineSettings:
    """Everything is worth a place on disk, at once."""
    return replace(settings(), spill_s=0.0, spill_after_s=0.0, **others)  # type: ignore[arg-type]


class Spilling(Stepped):
    """A loop, with a rest for the disk after each answer."""

    def answer(self, talk: Talk) -> str:
        request = Request(talk, GREEDY)
        self.runner.submit(request, arrived=0.0)
        self.until(request.id)
        return self.said(request.id)

    def rest(self) -> None:
        spill = self.runner.spill
        assert spill
        while spill.has_work:
            spill.step()
            for thread in threading.enumerate():
                if thread.name == "names a sequence":
                    thread.join()

    def close(self) -> EngineStats:
        self.rest()
        stats = self.runner.stats()
        self.runner.close()
        return stats


def long(talk: Talk) -> Talk:
    """The talk, after a long word of the system's."""
    return (Message("system", (LONG,)), *(each for each in talk if each.role != "system"))


def stored() -> list[Path]:
    return sorted((paths.cache_dir() / "sequences").glob("*"))


@pytest.fixture
def talk() -> Talk:
    return long((Message("user", (the_picture("red circle", "blue square"), "Describe the picture.")),))


def answered(with_settings: EngineSettings, *talks: Talk) -> tuple[list[str], EngineStats]:
    loop = Spilling(with_settings)
    said = [loop.answer(each) for each in talks]
    return said, loop.close()


def test_a_chat_of_yesterday_goes_on_where_it_was(talk: Talk) -> None:
    (said,), before = answered(disk(), talk)
    follow_up = (*talk, Message("assistant", (said,)), Message("user", ("How many shapes are there?",)))
    found, after = answered(disk(), follow_up, talk)
    assert (before.spilled, after.restored) == (1, 1)
    assert found == ["2", said]
    assert after.tokens_reused > 300
    assert after.prompt_tokens < 120


def test_answers_are_the_same_from_disk() -> None:
    talks = [long(each) for each in TALKS]
    found, before = answered(disk(n_ctx=4096), *talks)
    again = [answered(disk(n_ctx=4096), each) for each in talks]
    assert before.spilled
    assert [said for (said,), _ in again] == found
    assert all(stats.restored == 1 and stats.tokens_reused > 250 for _, stats in again)


def test_a_longer_chat_takes_the_place_of_what_it_begins_with(talk: Talk) -> None:
    (said,), _ = answered(disk(), talk)
    (first,) = stored()
    n_bytes = first.stat().st_size
    answered(disk(), (*talk, Message("assistant", (said,)), Message("user", ("How many shapes are there?",))))
    (second,) = stored()
    assert second != first
    assert second.stat().st_size > n_bytes


def test_what_has_changed_on_disk_is_never_taken(talk: Talk) -> None:
    (said,), _ = answered(disk(), talk)
    (file,) = stored()
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)
    (again,), stats = answered(replace(disk(), spill_s=1e9), talk)
    assert (again, stats.restored) == (said, 0)
    assert stored() == []


@pytest.mark.parametrize("n_bytes", [0, 5, 14, 400, 100_000])
def test_half_a_file_is_never_taken(talk: Talk, n_bytes: int) -> None:
    (said,), _ = answered(disk(), talk)
    (file,) = stored()
    file.write_bytes(file.read_bytes()[:n_bytes])
    (again,), stats = answered(replace(disk(), spill_s=1e9), talk)
    assert (again, stats.restored) == (said, 0)


def test_a_file_that_vanishes_or_has_no_room_is_as_if_it_were_not_there(talk: Talk) -> None:
    (said,), _ = answered(disk(n_ctx=4096), talk)
    loop = Spilling(disk(n_ctx=4096))
    request = Request(talk, GREEDY)
    loop.runner.submit(request, arrived=0.0)
    (waiting,) = loop.runner._seats.waiting
    assert waiting.stored
    while waiting.stored.is_whole is None:
        pass
    n_free = loop.runner.stats().free_sequences
    for file in stored():
        file.unlink()
    loop.until(request.id)
    assert loop.said(request.id) == said
    assert loop.runner.stats().free_sequences == n_free - 1  # that of the one that is kept now
    loop.close()


def test_what_the_cache_could_never_hold_pushes_nothing_out(talk: Talk) -> None:
    first, *_ = talk
    answered(disk(n_ctx=4096), (first, Message("user", ("word " * 2500,))))
    loop = Spilling(disk(n_ctx=1024))
    short = [(first, Message("user", (question,))) for question in ("Hello!", "Who are you?")]
    for each in short:
        loop.answer(each)
    n_kept = loop.runner.stats().kept_sequences
    loop.answer((first, Message("user", ("What is red?",))))
    assert loop.runner.stats().kept_sequences >= n_kept
    assert loop.close().restored == 0


def test_other_settings_have_other_files(talk: Talk) -> None:
    answered(disk(), talk)
    _, stats = answered(disk(kv_type="q8_0"), talk)
    assert stats.restored == 0
    assert len(stored()) == 2


def test_the_disk_takes_no_more_than_it_may(talk: Talk) -> None:
    _, stats = answered(disk(disk_budget=100_000), talk)
    assert (stats.spilled, stored()) == (0, [])
    answered(disk(), talk)
    (file,) = stored()
    budget = file.stat().st_size * 2  # of which sequences have three quarters: room for one
    other = long((Message("user", ("Who are you?",)),))
    answered(disk(disk_budget=budget), other)
    (left,) = stored()
    assert left != file


def test_nothing_is_kept_where_nothing_may_be(talk: Talk) -> None:
    runner = Stepped(disk(disk_budget=0)).runner
    assert runner.spill is None
    runner.close()


def test_what_is_computed_fast_is_not_written(talk: Talk) -> None:
    _, stats = answered(settings(), talk)
    assert (stats.spilled, stored()) == (0, [])


@pytest.mark.anyio
async def test_a_worker_that_has_nothing_to_do_writes_and_the_next_one_reads(talk: Talk) -> None:
    async with Engine(disk()) as engine:
        events = [event async for event in engine.generate(Request(talk, GREEDY))]
        while not (await engine.stats()).spilled or not any(file.suffix == ".sequence" for file in stored()):
            pass
        await engine.unload()
        again = [event async for event in engine.generate(Request(talk, GREEDY))]
        assert (await engine.stats()).restored == 1
    first, second = ["".join(each.text for each in every if isinstance(each, Text)) for every in (events, again)]
    assert first == second
    end = again[-1]
    assert isinstance(end, Finished)
    assert end.timings.tokens_reused == end.usage.prompt_tokens - 1


def test_cells_are_the_same_after_writing_and_reading() -> None:
    cells = Cells([(1, 2), picture(3, 2), (5,), picture(1, 4, "b"), (7, 8)])
    again = Cells.loads(cells.dumps())
    assert (again.n, again.common(cells), cells.reusable(again)) == (cells.n, cells.n, cells.n - 1)
    assert [each.position for each in again.pictures] == [each.position for each in cells.pictures]
    again.add((9,))
    assert again.position(again.n) == cells.position(cells.n) + 1


def _changed(at: int, value: int) -> bytes:
    data = bytearray(Cells([(1, 2), picture(3, 2), (5,)]).dumps())
    data[at % len(data)] = value
    return bytes(data)


@given(st.binary(max_size=200) | st.builds(_changed, st.integers(0, 400), st.integers(0, 255)))
def test_what_is_not_cells_is_refused(data: bytes) -> None:
    try:
        cells = Cells.loads(data)
    except ValueError:
        return
    assert cells.n == len(cells.tokens(0, cells.n))
    assert all(each.end <= cells.n for each in cells.pictures)


def test_there_is_nothing_to_do_while_a_file_is_named(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    may, digest = threading.Event(), sequences._digest
    monkeypatch.setattr(sequences, "_digest", lambda path: digest(path) if may.wait(20) else "")
    loop = Spilling(disk())
    loop.answer(talk)
    loop.answer((Message("user", ("Hello!",)),))
    spill = loop.runner.spill
    assert spill
    while spill.has_work:  # a loop that asks again and again would not end
        spill.step()
    assert [file.suffix for file in stored()] == [".part"]
    loop.woken.clear()
    may.set()
    assert loop.woken.wait(20)
    loop.close()
    assert {file.suffix for file in stored()} == {".sequence"}
