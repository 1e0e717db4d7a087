"""Models fetched behind the screens, from a hub on this machine: queued, paused, resumed, and nothing fetched twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from gguf_vl import paths
from gguf_vl.errors import ModelNotFound, OfflineError, UsageError, VerificationFailed
from gguf_vl.store import library
from gguf_vl.store.progress import Silent
from gguf_vl.store.pull import pull
from gguf_vl.store.wishes import plan
from gguf_vl.tui.downloads import Download, Downloads
from tests.hub.faults import Cut, Flip, Hold
from tests.hub.server import Hub
from tests.tui.shelf import PROJECTOR, REPO, SIZE, TEXT, pulling, tiny_hub, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with tiny_hub(monkeypatch) as hub:
        yield hub


@pytest.fixture
async def downloads() -> AsyncIterator[Downloads]:
    downloads = Downloads(lambda: None)
    yield downloads
    downloads.close()


def of(downloads: Downloads, name: str) -> Download:
    found = downloads.of(name)
    assert found is not None
    return found


async def reached(hold: Hold) -> None:
    assert await asyncio.to_thread(hold.reached.wait, 30)


async def test_a_model_is_fetched_behind_the_loop_and_told_as_it_goes(hub: Hub) -> None:
    told: list[Download] = []
    downloads = Downloads(lambda: told.append(of(downloads, "tiny")))
    downloads.pull("tiny")
    await until(lambda: of(downloads, "tiny").state == "done")
    assert library.installed("tiny").mmproj
    last = of(downloads, "tiny")
    assert (last.done, last.total) == (sum(SIZE.values()), sum(SIZE.values()))
    assert last.note == "tiny is installed and verified"
    states = list(dict.fromkeys(each.state for each in told))
    assert states == ["waiting", "planning", "fetching", "verifying", "done"]
    assert hub.bytes_sent(TEXT) == SIZE[TEXT]
    downloads.close()


async def test_progress_is_told_at_most_ten_times_a_second(hub: Hub) -> None:
    seconds = [0.0]
    told: list[int] = []
    downloads = Downloads(lambda: told.append(of(downloads, "tiny").done), clock=lambda: seconds[0])
    downloads.pull("tiny")
    await until(lambda: of(downloads, "tiny").state == "done")
    files_and_states = 12
    assert len(told) <= files_and_states  # of a hundred chunks, in no time at all
    assert hub.bytes_sent(TEXT) > files_and_states * 65536
    downloads.close()


async def test_paused_it_stops_and_resumed_it_fetches_the_missing_bytes_only(hub: Hub, downloads: Downloads) -> None:
    hold = Hold(after=2_000_000)
    hub.inject(TEXT, hold)
    downloads.pull("tiny")
    await reached(hold)
    await until(lambda: of(downloads, "tiny").done > 0)
    downloads.pause("tiny")
    assert of(downloads, "tiny").state == "paused"
    assert (of(downloads, "tiny").rate, of(downloads, "tiny").eta_s) == (0.0, None)
    hold.release.set()
    await until(lambda: not pulling())
    assert [entry.name for entry in library.scan()] == ["pocket"]
    downloads.resume("tiny")
    await until(lambda: of(downloads, "tiny").state == "done")
    first, second = hub.asked(TEXT)
    assert first is None or first[0] == 0
    assert second is not None
    assert second[0] > 0
    arrived_twice = hub.bytes_sent(TEXT) - SIZE[TEXT]
    assert arrived_twice <= SIZE[TEXT] - second[0]  # sent to the paused one, and never read by it
    assert hub.bytes_sent(PROJECTOR) == SIZE[PROJECTOR]
    assert library.installed("tiny").receipt


async def test_resumed_while_the_hub_is_silent_it_waits_for_its_own_last_thread(hub: Hub, downloads: Downloads) -> None:
    hold = Hold(after=1_000_000)
    hub.inject(TEXT, hold)
    downloads.pull("tiny")
    await reached(hold)
    await until(lambda: of(downloads, "tiny").done > 0)
    downloads.pause("tiny")
    downloads.resume("tiny")
    assert of(downloads, "tiny").state == "waiting"
    hold.release.set()
    await until(lambda: of(downloads, "tiny").state == "done")


async def test_of_several_one_is_fetched_and_the_others_wait(hub: Hub, downloads: Downloads) -> None:
    hold = Hold(after=1_000_000)
    hub.inject(TEXT, hold)
    downloads.pull("tiny")
    downloads.pull(f"hf:{REPO}")
    downloads.pull("tiny")  # is under way
    await reached(hold)
    assert [each.state for each in downloads.states][1:] == ["waiting"]
    downloads.pause("tiny")  # makes room, though its hub is silent
    await until(lambda: of(downloads, f"hf:{REPO}").state == "done")
    assert [each.state for each in downloads.states] == ["paused", "done"]
    hold.release.set()


async def test_cancelled_it_is_gone_and_what_arrived_stays(hub: Hub, downloads: Downloads) -> None:
    hold = Hold(after=2_000_000)
    hub.inject(TEXT, hold)
    downloads.pull("tiny")
    await reached(hold)
    await until(lambda: of(downloads, "tiny").done > 0)
    downloads.cancel("tiny")
    assert downloads.states == ()
    hold.release.set()
    await until(lambda: not pulling())
    pull(plan("tiny", choose=lambda *_: ""), Silent())
    asked = hub.asked(TEXT)[-1]
    assert asked is not None
    assert asked[0] > 0


async def test_what_an_earlier_run_left_is_here_paused_and_goes_on(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kill(Exception):
        pass

    class Killed(Silent):
        def at(self, label: str, done: int) -> None:
            if done > 1_000_000:
                raise Kill

    with pytest.raises(Kill):
        pull(plan("tiny", choose=lambda *_: ""), Killed())
    left = os.path.getsize(next(iter(paths.models_dir().glob(".pull-tiny-*/*.part"))))
    downloads = Downloads(lambda: None)
    await until(lambda: bool(downloads.states))
    assert downloads.states == (Download("tiny", "paused", left, sum(SIZE.values())),)
    downloads.resume("tiny")
    await until(lambda: of(downloads, "tiny").state == "done")
    asked = hub.asked(TEXT)[-1]
    assert asked is not None
    assert asked[0] == left
    downloads.close()


async def test_what_was_begun_by_an_address_in_an_earlier_run_says_how_to_go_on(hub: Hub) -> None:
    (paths.models_dir() / ".pull-someones-01234567").mkdir(parents=True)
    downloads = Downloads(lambda: None)
    await until(lambda: bool(downloads.states))
    downloads.resume("someones")
    await until(lambda: of(downloads, "someones").state == "failed")
    error = of(downloads, "someones").error
    assert isinstance(error, UsageError)
    assert "gguf-vl rm someones" in error.fix
    downloads.close()


async def test_offline_nothing_is_fetched_and_it_says_so_in_a_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGUF_VL_OFFLINE", "1")
    downloads = Downloads(lambda: None)
    downloads.pull("tiny")
    assert isinstance(of(downloads, "tiny").error, OfflineError)
    assert hub.requests == []
    downloads.close()


@pytest.mark.parametrize(("name", "error"), [("9b", ModelNotFound), ("pocket", UsageError)])
async def test_what_cannot_be_fetched_says_why(
    hub: Hub, downloads: Downloads, name: str, error: type[Exception]
) -> None:
    downloads.pull(name)
    await until(lambda: of(downloads, name).state == "failed")
    assert isinstance(of(downloads, name).error, error)


async def test_wrong_bytes_make_no_model_and_the_next_one_is_fetched(hub: Hub, downloads: Downloads) -> None:
    hub.inject(PROJECTOR, Flip(2_000_000), Flip(2_000_000))
    downloads.pull("tiny")
    downloads.verify("pocket")
    await until(lambda: of(downloads, "pocket").state == "done")
    assert isinstance(of(downloads, "tiny").error, VerificationFailed)
    assert [entry.name for entry in library.scan()] == ["pocket"]
    downloads.resume("tiny")
    await until(lambda: of(downloads, "tiny").state == "done")
    assert of(downloads, "tiny").error is None


async def test_a_cut_connection_is_noted_and_tried_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    notes: set[str] = set()
    downloads = Downloads(lambda: notes.add(of(downloads, "tiny").note))
    hub.inject(TEXT, Cut(1_000_000))
    downloads.pull("tiny")
    await until(lambda: of(downloads, "tiny").state == "done")
    assert any("trying again" in note for note in notes)
    downloads.close()


async def test_a_model_is_verified_with_progress_and_a_damaged_one_is_named(hub: Hub) -> None:
    told: list[Download] = []
    downloads = Downloads(lambda: told.append(of(downloads, "tiny")))
    downloads.pull("tiny")
    await until(lambda: of(downloads, "tiny").state == "done")
    downloads.verify("tiny")
    await until(lambda: of(downloads, "tiny").state == "done")
    assert (told[-1].note, told[-1].done) == ("tiny is as promised", sum(SIZE.values()))
    file = library.installed("tiny").model
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    downloads.verify("tiny")
    await until(lambda: of(downloads, "tiny").state == "failed")
    error = of(downloads, "tiny").error
    assert isinstance(error, VerificationFailed)
    assert file.name in error.what
    downloads.close()


async def test_rate_and_time_left_are_those_of_the_last_seconds(hub: Hub) -> None:
    seconds = [0.0]
    downloads = Downloads(lambda: None, clock=lambda: seconds[0])
    hold = Hold(after=2_000_000)
    hub.inject(TEXT, hold)
    downloads.pull("tiny")
    await reached(hold)
    await until(lambda: of(downloads, "tiny").state == "fetching")
    began = of(downloads, "tiny").done
    seconds[0] = 2.0
    hold.release.set()
    await until(lambda: of(downloads, "tiny").done > began or of(downloads, "tiny").state == "done")
    now = of(downloads, "tiny")
    if now.state == "fetching":
        assert now.rate == pytest.approx((now.done - began) / 2, rel=0.5)
        assert now.eta_s == pytest.approx((now.total - now.done) / now.rate)
    downloads.close()
