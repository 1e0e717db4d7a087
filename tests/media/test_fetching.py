"""A URL that a person typed: fetched from wherever it is, within limits, and never offline."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence

import httpx2
import pytest

from gguf_vl.errors import InvalidPicture, OfflineError
from gguf_vl.media import fetching
from gguf_vl.media.fetching import fetch
from tests.server.picture_host import PictureHost, picture_host

pytestmark = pytest.mark.anyio


@pytest.fixture
async def host() -> AsyncIterator[PictureHost]:
    async with picture_host() as found:
        found.put("/cat.png", b"a cat")
        yield found


async def fetched(url: str, max_bytes: int = 1000) -> bytes:
    """Beside the loop that the host runs on."""
    return await asyncio.to_thread(fetch, url, offline=False, max_bytes=max_bytes)


async def refusal(url: str, max_bytes: int = 1000) -> str:
    with pytest.raises(InvalidPicture) as caught:
        await fetched(url, max_bytes)
    assert url in caught.value.what
    assert caught.value.fix
    return caught.value.what


def at(host: PictureHost, path: str) -> str:
    return f"http://127.0.0.1:{host.port}{path}"


async def test_what_is_there_is_fetched_also_from_the_persons_own_network(host: PictureHost) -> None:
    assert await fetched(at(host, "/cat.png")) == b"a cat"
    assert f"Host: 127.0.0.1:{host.port}" in host.heads[0]


async def test_redirects_are_followed_and_not_for_ever(host: PictureHost) -> None:
    for number in range(5):
        host.redirect(f"/{number}", f"/{number + 1}")
    host.put("/5", b"a cat")
    assert await fetched(at(host, "/0")) == b"a cat"
    host.redirect("/round", "/round")
    assert "leads on more than 5 times" in await refusal(at(host, "/round"))


@pytest.mark.parametrize("there", ["ftp://127.0.0.1/a", "file:///etc/passwd", "http://", ""])
async def test_a_redirect_to_anything_else_is_not_followed(host: PictureHost, there: str) -> None:
    host.redirect("/away", there)
    assert "could not be fetched" in await refusal(at(host, "/away"))


async def test_a_redirect_from_outside_does_not_lead_into_the_persons_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def resolve(name: str, _port: int) -> Sequence[str]:
        return {"open.test": ["93.184.215.14"], "also.test": ["1.1.1.1"], "router.test": ["192.168.0.1"]}[name]

    async def handle(_transport: object, request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.host)
        return httpx2.Response(302, headers={"location": "http://router.test/reboot"})

    monkeypatch.setattr(fetching, "resolve", resolve)
    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", handle)
    assert "leads on to a private address" in await refusal("http://open.test/a.png")
    assert asked == ["93.184.215.14"]


async def test_a_host_that_does_not_have_it_is_quoted(host: PictureHost) -> None:
    host.put("/none", b"", "404 Not Found")
    assert "status 404" in await refusal(at(host, "/none"))
    free = socket.create_server(("127.0.0.1", 0))
    closed = free.getsockname()[1]
    free.close()
    assert "could not be fetched" in await refusal(f"http://127.0.0.1:{closed}/a")


async def test_a_name_that_is_not_known_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(_name: str, _port: int) -> Sequence[str]:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(fetching, "resolve", resolve)
    assert "no host of that name" in await refusal("http://nowhere.test/a.png")


@pytest.mark.parametrize("url", ["http://", "http:///a.png", "http://[/a.png", "http://a b/", "ftp://a/b", "cat.png"])
async def test_what_is_no_url_of_the_web_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "resolve", lambda *_: pytest.fail("looked up"))
    await refusal(url)


async def test_what_is_too_large_is_left(host: PictureHost) -> None:
    host.put("/big.png", b"x" * 1001)
    assert "larger" in await refusal(at(host, "/big.png"))
    host.responses["/endless.png"] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * (1 << 20)
    assert "larger" in await refusal(at(host, "/endless.png"))


async def test_a_host_that_never_answers_is_given_up(host: PictureHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "LIMIT_S", 0.05)
    assert "in time" in await refusal(at(host, "/nothing"))


def test_offline_it_is_refused_before_any_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "resolve", lambda *_: pytest.fail("looked up"))
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket"))
    with pytest.raises(OfflineError) as caught:
        fetch("http://pictures.test/cat.png", offline=True, max_bytes=1000)
    assert "offline mode is on" in caught.value.what
