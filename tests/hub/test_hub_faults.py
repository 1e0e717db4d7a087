"""Ranges are served as the standard says, and every fault that a test can ask for really happens."""

from __future__ import annotations

import hashlib
import http.client
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.hub.client import FILE, FILES, PROJECTOR, REPO, SHA256, WEIGHTS, get
from tests.hub.content import Stored
from tests.hub.faults import (
    Answer,
    ClaimLength,
    ClaimLinkedSize,
    Cut,
    Fault,
    Flip,
    HangUp,
    Hold,
    IgnoreRange,
    Redirect,
    Swap,
)
from tests.hub.server import Hub, Repo, Request

OTHER = WEIGHTS[::-1]
FLIPPED = WEIGHTS[:70_000] + bytes([WEIGHTS[70_000] ^ 255]) + WEIGHTS[70_001:]


def address(hub: Hub, path: str = FILE) -> str:
    return f"{hub.url}/{REPO}/resolve/main/{path}"


def location(hub: Hub) -> str:
    """Where the bytes of FILE are."""
    with httpx2.Client(trust_env=False) as client:
        return str(client.head(address(hub)).headers["Location"])


def bodies(hub: Hub) -> list[Request]:
    return [request for request in hub.requests if request.stage == "body"]


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "body"),
    [
        ("", 200, None, WEIGHTS),
        ("0-", 206, f"bytes 0-{len(WEIGHTS) - 1}/{len(WEIGHTS)}", WEIGHTS),
        ("100-199", 206, f"bytes 100-199/{len(WEIGHTS)}", WEIGHTS[100:200]),
        ("-4", 206, f"bytes {len(WEIGHTS) - 4}-{len(WEIGHTS) - 1}/{len(WEIGHTS)}", WEIGHTS[-4:]),
        ("100000-999999", 206, f"bytes 100000-{len(WEIGHTS) - 1}/{len(WEIGHTS)}", WEIGHTS[100_000:]),
        (f"{len(WEIGHTS)}-", 416, f"bytes */{len(WEIGHTS)}", b""),
        ("9-1", 200, None, WEIGHTS),
        ("0-1,5-6", 200, None, WEIGHTS),
    ],
    ids=["whole", "all", "middle", "last", "beyond", "past the end", "backwards", "two"],
)
def test_ranges_are_served_as_the_standard_says(
    hub: Hub, asked: str, status: int, content_range: str | None, body: bytes
) -> None:
    got = get(address(hub), asked)
    assert (got.status, got.body, got.error) == (status, body, "")
    assert got.headers.get("Content-Range") == content_range
    assert got.headers["Accept-Ranges"] == "bytes"
    assert int(got.headers["Content-Length"]) == len(body) == bodies(hub)[0].bytes_sent


def test_a_range_is_of_the_version_that_if_range_names(hub: Hub) -> None:
    etag = {"If-Range": f'"{SHA256}"'}
    assert get(address(hub), "100-", **etag).status == 206
    hub.replace(REPO, FILE, OTHER)
    assert get(address(hub), "100-", **etag).body == OTHER


def test_one_connection_serves_many_requests(hub: Hub) -> None:
    connection = http.client.HTTPConnection(urlsplit(hub.cdn_url).netloc, timeout=10)
    for start in (0, 10):
        connection.request("GET", f"/lfs/{SHA256}", headers={"Range": f"bytes={start}-{start + 9}"})
        response = connection.getresponse()
        assert (response.status, response.read()) == (206, WEIGHTS[start : start + 10])
    connection.close()


def test_a_large_file_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / FILE
    with path.open("wb") as file:
        file.truncate(20_000_000_000)
        file.seek(15_000_000_000)
        file.write(b"here")
    with Hub({REPO: Repo({FILE: Stored(path, sha256=SHA256)})}) as hub:
        assert get(address(hub), "14999999999-15000000004").body == b"\0here\0"


@pytest.mark.parametrize(
    ("fault", "asked", "status", "body", "error"),
    [
        (Cut(1000), "", 200, WEIGHTS[:1000], "RemoteProtocolError"),
        (Cut(1000), "500-", 206, WEIGHTS[500:1500], "RemoteProtocolError"),
        (Cut(0), "", 200, b"", "RemoteProtocolError"),
        (ClaimLength(7), "", 200, WEIGHTS, "RemoteProtocolError"),
        (ClaimLength(-7), "", 200, WEIGHTS[:-7], ""),
        (Flip(70_000), "", 200, FLIPPED, ""),
        (Flip(70_000), "70000-", 206, FLIPPED[70_000:], ""),
        (Flip(70_000), "70001-", 206, WEIGHTS[70_001:], ""),
        (IgnoreRange(), "500-", 200, WEIGHTS, ""),
        (Swap(OTHER), "500-", 206, OTHER[500:], ""),
        (Answer(500, on="body"), "", 500, b"", ""),
        (Redirect(on="body"), "500-", 206, WEIGHTS[500:], ""),
        (Redirect(on="resolve"), "500-", 206, WEIGHTS[500:], ""),
    ],
    ids=[
        "cut",
        "cut of a range",
        "cut at once",
        "claims more",
        "claims less",
        "flip",
        "flip first of a range",
        "flip before a range",
        "ignores the range",
        "swap",
        "500",
        "redirect again",
        "redirect elsewhere",
    ],
)
def test_a_fault_strikes_the_body_of_one_answer(
    hub: Hub, fault: Fault, asked: str, status: int, body: bytes, error: str
) -> None:
    hub.inject(FILE, fault)
    got = get(address(hub), asked)
    assert (got.status, got.body, got.error) == (status, body, error)
    assert bodies(hub)[-1].bytes_sent == len(body)
    again = get(address(hub))
    assert (again.body, again.error) == (OTHER if isinstance(fault, Swap) else WEIGHTS, "")


def test_a_connection_that_is_reset_is_not_one_that_ends(hub: Hub) -> None:
    hub.inject(FILE, Cut(1000, reset=True))
    got = get(address(hub))
    assert (got.error, WEIGHTS[:1000].startswith(got.body)) == ("ReadError", True)


def test_a_held_answer_waits_for_the_test(hub: Hub) -> None:
    hub.inject(FILE, hold := Hold(after=1000))
    with httpx2.Client(trust_env=False, timeout=10) as client, client.stream("GET", location(hub)) as response:
        pieces = response.iter_raw()
        first = next(pieces)
        assert first == WEIGHTS[: len(first)]
        assert hold.reached.wait(10)
        assert bodies(hub)[0].bytes_sent == 1000
        hold.release.set()
        assert first + b"".join(pieces) == WEIGHTS


def test_a_hub_that_closes_lets_go_what_it_holds() -> None:
    with Hub({REPO: Repo(FILES)}) as hub:
        hub.inject(FILE, hold := Hold())
        connection = http.client.HTTPConnection(urlsplit(hub.cdn_url).netloc, timeout=10)
        connection.request("GET", f"/lfs/{SHA256}")
        assert hold.reached.wait(10)
    connection.close()
    with pytest.raises(httpx2.ConnectError):
        get(hub.url)


def test_a_status_comes_as_often_as_asked_with_its_headers(hub: Hub) -> None:
    hub.inject(None, Answer(429, {"Retry-After": "0"}, b"later"), times=2)
    first, second, third = (get(address(hub)) for _ in range(3))
    assert (first.status, first.headers["Retry-After"], first.body) == (429, "0", b"later")
    assert (second.status, third.status) == (429, 200)


def test_a_connection_can_be_closed_without_an_answer(hub: Hub) -> None:
    hub.inject(FILE, HangUp())
    with pytest.raises(httpx2.RemoteProtocolError, match="without sending a response"):
        get(address(hub))
    assert [request.status for request in hub.requests] == [0]


def test_a_declared_size_can_be_a_lie(hub: Hub) -> None:
    hub.inject(FILE, ClaimLinkedSize(5))
    with httpx2.Client(trust_env=False) as client:
        sizes = [client.head(address(hub)).headers["X-Linked-Size"] for _ in range(2)]
    assert sizes == ["5", str(len(WEIGHTS))]


def test_a_swap_between_attempts_changes_the_bytes_and_the_etag_of_the_same_address(hub: Hub) -> None:
    url = location(hub)
    hub.inject(FILE, Cut(1000), Swap(OTHER))
    first, second = get(url), get(url, "1000-")
    assert (first.headers["ETag"], first.body) == (f'"{SHA256}"', WEIGHTS[:1000])
    assert (second.headers["ETag"], second.body) == (f'"{hashlib.sha256(OTHER).hexdigest()}"', OTHER[1000:])
    assert hub.asked(FILE) == [None, (1000, None)]


def test_a_fault_waits_for_its_stage_and_holds_up_those_behind_it(hub: Hub) -> None:
    hub.inject(FILE, Cut(10), Answer(503, on="head"))
    assert get(address(hub), method="HEAD").status == 200
    assert get(address(hub)).error == "RemoteProtocolError"
    assert get(address(hub), method="HEAD").status == 503


def test_another_file_is_not_struck(hub: Hub) -> None:
    hub.inject(FILE, Cut(10))
    assert get(address(hub, "mmproj/model.gguf")).body == PROJECTOR
