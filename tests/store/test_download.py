"""A file comes whole and right over every kind of bad network, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from gguf_vl.errors import GgufVlError, Unreachable, VerificationFailed
from gguf_vl.store.download import ATTEMPTS, download, download_beginning, remaining
from gguf_vl.store.progress import Silent
from gguf_vl.store.sources import RemoteFile
from tests.hub.content import Repo
from tests.hub.faults import Answer, ClaimLength, Cut, Fault, Flip, HangUp, IgnoreRange, Redirect, Swap
from tests.hub.modelscope import ModelScope
from tests.hub.server import Hub

CONTENT = bytes(hashlib.shake_256(b"weights").digest(5_000_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub({"a/b": Repo({"w.gguf": CONTENT})}) as hub:
        yield hub


def remote(hub: Hub, *, size: int | None = len(CONTENT), sha256: str | None = SHA256) -> RemoteFile:
    return RemoteFile("w.gguf", f"{hub.url}/a/b/resolve/main/w.gguf", size, sha256)


class Waits(list[float]):
    """Stands where `time.sleep` would."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def test_a_file_arrives_whole_and_nothing_else_is_left(hub: Hub, tmp_path: Path) -> None:
    done = download(remote(hub), tmp_path / "w.gguf", Silent())
    assert (done.size, done.sha256) == (len(CONTENT), SHA256)
    assert [path.name for path in tmp_path.iterdir()] == ["w.gguf"]
    assert done.path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "fault",
    [
        Cut(1_234_567),
        Cut(1_234_567, reset=True),
        ClaimLength(1000),
        HangUp(on="body"),
        Answer(429, {"Retry-After": "7"}, on="body"),
        Answer(503, on="body"),
        Answer(408, on="body"),
        Redirect(on="resolve"),
        Redirect(on="body"),
    ],
    ids=lambda fault: type(fault).__name__ + str(getattr(fault, "status", "")),
)
def test_what_passes_is_waited_for(hub: Hub, tmp_path: Path, fault: Fault) -> None:
    hub.inject("w.gguf", fault)
    waits = Waits()
    assert download(remote(hub), tmp_path / "w.gguf", Silent(), wait=waits).sha256 == SHA256
    retry_after = [7.0] if isinstance(fault, Answer) and fault.headers else None
    expected = [] if isinstance(fault, Redirect) else retry_after or [1.0 if isinstance(fault, Cut) else 2.0]
    assert waits == expected


def test_a_cut_connection_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.inject("w.gguf", Cut(2_000_000), Cut(1_000_000))
    download(remote(hub), tmp_path / "w.gguf", Silent(), wait=Waits())
    first, second, third = hub.asked("w.gguf")
    assert first is None
    assert second is not None and third is not None  # noqa: PT018
    assert 0 < second[0] <= 2_000_000 < third[0] <= 3_000_000


def test_another_process_goes_on_where_the_first_was_killed(hub: Hub, tmp_path: Path) -> None:
    class Killed(Silent):
        def at(self, label: str, done: int) -> None:
            if done >= 3_000_000:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(remote(hub), tmp_path / "w.gguf", Killed())
    assert not (tmp_path / "w.gguf").exists()
    left = remaining(remote(hub), tmp_path / "w.gguf")
    assert left <= 2_000_000
    download(remote(hub), tmp_path / "w.gguf", Silent())
    assert hub.asked("w.gguf")[1:] == [(len(CONTENT) - left, None)]
    assert hashlib.sha256((tmp_path / "w.gguf").read_bytes()).hexdigest() == SHA256


def test_an_interrupt_is_not_lost_while_a_connection_is_closed(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = httpx2.Response.iter_raw

    def interrupted(self: httpx2.Response) -> Iterator[bytes]:
        try:
            yield from received(self)
        except GeneratorExit:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(httpx2.Response, "iter_raw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download_beginning(remote(hub), tmp_path / "w.gguf", 100_000, Silent())


def test_the_beginning_is_not_fetched_twice(hub: Hub, tmp_path: Path) -> None:
    begun = download_beginning(remote(hub), tmp_path / "w.gguf", 100_000, Silent())
    assert begun.read_bytes() == CONTENT[:100_000]
    download(remote(hub), tmp_path / "w.gguf", Silent())
    assert hub.asked("w.gguf") == [(0, 99_999), (100_000, None)]


def test_a_server_that_ignores_ranges_sends_everything_again(hub: Hub, tmp_path: Path) -> None:
    hub.inject("w.gguf", Cut(2_000_000), IgnoreRange())
    assert download(remote(hub), tmp_path / "w.gguf", Silent(), wait=Waits()).sha256 == SHA256
    assert hub.bytes_sent("w.gguf") >= len(CONTENT) + 1_000_000


PORTAL = Answer(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>", on="body")


def test_a_login_page_in_the_way_costs_nothing_of_what_is_here(hub: Hub, tmp_path: Path) -> None:
    hub.inject("w.gguf", Cut(4_000_000), PORTAL, PORTAL)
    assert download(remote(hub), tmp_path / "w.gguf", Silent(), wait=Waits()).sha256 == SHA256
    last = hub.asked("w.gguf")[-1]
    assert last
    assert last[0] > 1_000_000


def test_a_login_page_that_stays_is_named_and_what_is_here_kept(hub: Hub, tmp_path: Path) -> None:
    download_beginning(remote(hub), tmp_path / "w.gguf", 1_000_000, Silent())
    hub.inject("w.gguf", *[PORTAL] * ATTEMPTS)
    with pytest.raises(Unreachable, match=r"26 bytes there \(text/html\)"):
        download(remote(hub), tmp_path / "w.gguf", Silent(), wait=Waits())
    assert remaining(remote(hub), tmp_path / "w.gguf") == len(CONTENT) - 1_000_000


def test_what_a_server_calls_its_answer_is_harmless_for_a_terminal(hub: Hub, tmp_path: Path) -> None:
    notes = list[str]()

    class Noting(Silent):
        def note(self, line: str) -> None:
            notes.append(line)

    hub.inject("w.gguf", Answer(200, {"Content-Type": "x/\x1b]0;pwned\x07"}, b"short", on="body"))
    assert download(remote(hub), tmp_path / "w.gguf", Noting(), wait=Waits()).sha256 == SHA256
    assert ["x/?]0;pwned?" in line and line.isprintable() for line in notes] == [True]


def test_a_range_answered_with_status_200_is_a_range_all_the_same(tmp_path: Path) -> None:
    with ModelScope({"a/b": Repo({"w.gguf": CONTENT})}, partial_status=200) as hub:
        hub.inject("w.gguf", Cut(2_000_000))
        file = RemoteFile("w.gguf", f"{hub.url}/models/a/b/resolve/master/w.gguf", len(CONTENT), SHA256)
        assert download(file, tmp_path / "w.gguf", Silent(), wait=Waits()).sha256 == SHA256
        assert hub.bytes_sent("w.gguf") < 1.5 * len(CONTENT)


def test_a_part_that_does_not_say_which_it_is_is_not_taken_for_the_beginning(hub: Hub, tmp_path: Path) -> None:
    hub.inject("w.gguf", Cut(2_000_000), Answer(206, {}, CONTENT[::-1], on="body"))
    assert download(remote(hub), tmp_path / "w.gguf", Silent(), wait=Waits()).sha256 == SHA256
    assert not (tmp_path / "w.gguf.wrong").exists()


def test_wrong_bytes_are_kept_aside_and_never_taken(hub: Hub, tmp_path: Path) -> None:
    hub.inject("w.gguf", Flip(4_000_000))
    with pytest.raises(VerificationFailed, match="not what was promised") as caught:
        download(remote(hub), tmp_path / "w.gguf", Silent())
    assert caught.value.exit_code == 5
    assert [path.name for path in tmp_path.iterdir()] == ["w.gguf.wrong"]
    assert "w.gguf.wrong" in caught.value.fix


def test_a_part_that_was_spoilt_is_thrown_away_and_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.inject("w.gguf", Flip(10), Cut(1))
    download_beginning(remote(hub), tmp_path / "w.gguf", 1_000_000, Silent())
    assert download(remote(hub), tmp_path / "w.gguf", Silent(), wait=Waits()).sha256 == SHA256


def test_content_that_changes_between_attempts_is_not_glued_together(hub: Hub, tmp_path: Path) -> None:
    hub.inject("w.gguf", Cut(2_000_000), Swap(CONTENT[::-1]))
    with pytest.raises(VerificationFailed):
        download(remote(hub), tmp_path / "w.gguf", Silent(), wait=Waits())
    assert not (tmp_path / "w.gguf").exists()


def test_a_file_of_another_length_is_not_taken(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"5000000 bytes there \(.*\) where 4000000 were promised"):
        download(remote(hub, size=4_000_000), tmp_path / "w.gguf", Silent(), wait=Waits())
    assert not (tmp_path / "w.gguf").exists()


def test_a_file_of_unknown_size_and_hash_is_taken_as_it_comes(hub: Hub, tmp_path: Path) -> None:
    done = download(remote(hub, size=None, sha256=None), tmp_path / "w.gguf", Silent())
    assert (done.size, done.sha256) == (len(CONTENT), SHA256)


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_file_without_a_promise_that_is_here_whole_is_not_fetched_again(
    hub: Hub, tmp_path: Path, size: int | None
) -> None:
    class Killed(Silent):
        def at(self, label: str, done: int) -> None:
            if done == len(CONTENT):
                raise KeyboardInterrupt

    file, waits = remote(hub, size=size, sha256=None), Waits()
    with pytest.raises(KeyboardInterrupt):
        download(file, tmp_path / "w.gguf", Killed())
    for _ in range(2):
        assert download(file, tmp_path / "w.gguf", Silent(), wait=waits).sha256 == SHA256
    assert hub.bytes_sent("w.gguf") == len(CONTENT)
    assert waits == []


def test_silence_ends_after_some_attempts_with_longer_and_longer_waits(hub: Hub, tmp_path: Path) -> None:
    hub.inject("w.gguf", *[HangUp(on="resolve")] * ATTEMPTS)
    waits = Waits()
    with pytest.raises(GgufVlError, match=f"after {ATTEMPTS} attempts") as caught:
        download(remote(hub), tmp_path / "w.gguf", Silent(), wait=waits)
    assert ".." not in caught.value.what  # what the network's library says has a full stop of its own
    assert waits == [2.0, 4.0, 8.0, 16.0, 30.0]
    assert len(waits) == ATTEMPTS - 1
    assert "goes on where it stopped" in caught.value.fix


@pytest.mark.parametrize("to", ["", "http://[nonsense/"])
def test_a_server_that_sends_one_in_circles_or_nowhere_counts_as_silent(hub: Hub, tmp_path: Path, to: str) -> None:
    hub.inject("w.gguf", Redirect(to=to, on="resolve"), times=200)
    with pytest.raises(Unreachable, match=f"after {ATTEMPTS} attempts"):
        download(remote(hub), tmp_path / "w.gguf", Silent(), wait=Waits())


def test_a_server_that_wants_an_hour_is_not_waited_for(hub: Hub, tmp_path: Path) -> None:
    hub.inject("w.gguf", Answer(429, {"Retry-After": "3600"}, on="body"))
    with pytest.raises(GgufVlError, match="3600 s of patience"):
        download(remote(hub), tmp_path / "w.gguf", Silent(), wait=Waits())


def test_a_refusal_is_told_in_the_words_of_the_source(hub: Hub, tmp_path: Path) -> None:
    hub.inject("w.gguf", Answer(403, {"X-Error-Code": "GatedRepo"}, on="resolve"))
    file = replace(remote(hub), refusal=lambda status, code: GgufVlError(f"{status} {code}", "A fix."))
    with pytest.raises(GgufVlError, match="403 GatedRepo"):
        download(file, tmp_path / "w.gguf", Silent(), wait=Waits())
