"""Who is let in, and what of a request anything else ever sees."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gguf_vl.config import Settings
from gguf_vl.engine.fake import text
from gguf_vl.errors import MissingOrInvalid, UsageError
from gguf_vl.server.app import respond
from gguf_vl.server.guard import Guard, Rules, allowed_host, allowed_origin
from gguf_vl.server.keys import Keys, read_keys
from gguf_vl.server.run import Options
from gguf_vl.server.run import serve as run
from tests.server.inside import OPEN, inside

pytestmark = pytest.mark.anyio
PAGE = "https://chat.example.org"
KEYED = Rules(Keys([("anna", "sk-anna-0123456789"), ("ben", "sk-ben-0123456789")]), origins=(PAGE,))
CHAT = {"messages": [{"role": "user", "content": "?"}]}


class Behind:
    """An application behind a guard: what of requests reaches it."""

    def __init__(self, rules: Rules) -> None:
        self.bodies: list[bytes] = []
        self.sent: list[tuple[bytes, bytes]] = []
        self.guard = Guard(self._app, rules, respond, lambda _: False)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append(await Request(scope, receive).body())
        await Response("let in")(scope, receive, send)

    async def send(self, chunks: Sequence[bytes | None], *, ends: bool = True, **headers: str) -> int:
        """The status for a body in these chunks; None is the client going away. Then nothing more comes."""
        messages: list[Message] = [
            {"type": "http.request", "body": chunk, "more_body": not ends or number < len(chunks) - 1}
            if chunk is not None
            else {"type": "http.disconnect"}
            for number, chunk in enumerate(chunks)
        ]
        status = 0

        async def receive() -> Message:
            return messages.pop(0) if messages else await asyncio.Event().wait()  # type: ignore[return-value]

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            self.sent += message.get("headers", [])

        raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/v1/models", "query_string": b"", "headers": raw}
        await self.guard(scope, receive, send)
        return status


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8080",
        "10.1.2.3:1",
        "vision.example.org",
        "Vision.Example.Org:443",
    ],
)
async def test_the_names_and_addresses_that_are_served_are_answered(host: str) -> None:
    rules = replace(OPEN, hosts={"localhost", allowed_host("Vision.example.org")})
    assert await Behind(rules).send([b""], host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8080",
        "evil@localhost",
        "",
        " ",
        "[",
        "[::1",
        "[evil]",
        "127.0.0.1.evil.example",
        "2130706433",
        "0x7f.1",
        "::1",
        "localhost, evil.example",
        "*",
        "ä" * 300,
    ],
)
async def test_a_rebound_name_is_not_answered(host: str) -> None:
    behind = Behind(OPEN)
    assert await behind.send([b""], host=host) == 421
    assert behind.bodies == []


async def test_a_request_without_a_host_is_not_answered() -> None:
    assert await Behind(OPEN).send([b""]) == 421


@pytest.mark.parametrize("origin", ["http://localhost:8080", "https://localhost:8080", PAGE])
async def test_its_own_pages_and_allowed_ones_may_use_the_server(origin: str) -> None:
    rules = replace(OPEN, origins=(allowed_origin(f"{PAGE}/"),))
    assert await Behind(rules).send([b""], host="localhost:8080", origin=origin) == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost",
        "http://localhost:8081",
        "https://chat.example.org:8443",
        "http://[::1",
        "https://chat.example.org.evil.example",
        "",
        "localhost:8080",
    ],
)
async def test_other_pages_may_not(origin: str) -> None:
    rules = replace(OPEN, origins=(PAGE,))
    assert await Behind(rules).send([b""], host="localhost:8080", origin=origin) == 403


@pytest.mark.parametrize(
    "text", ["*", "null", "", "https://*", "https://*.example.org", "example.org", "https://", "https://a/path"]
)
def test_an_origin_with_a_wildcard_or_none_at_all_is_refused_at_start(text: str) -> None:
    with pytest.raises(UsageError):
        allowed_origin(text)


@pytest.mark.parametrize("text", ["*", "*.example.org", "", ".", "a b", "http://a", "a:80", "a/b", "[::1]"])
def test_a_host_with_a_wildcard_is_refused_at_start(text: str) -> None:
    with pytest.raises(UsageError):
        allowed_host(text)


@pytest.mark.parametrize("origin", ["https://chat.example.org:8443", "http://localhost:3000", "tauri://localhost"])
def test_an_exact_origin_is_taken(origin: str) -> None:
    assert allowed_origin(origin) == origin


async def test_a_key_is_wanted_where_there_are_keys_and_its_owner_is_known() -> None:
    async with inside(text("yes"), rules=KEYED) as served:
        client = served.client
        for headers in ({"authorization": "Bearer sk-ben-0123456789"}, {"x-api-key": "sk-ben-0123456789"}):
            assert (await client.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code == 200
        for wrong in ("", "Bearer", "Bearer sk-ben-012345678", "Basic sk-ben-0123456789", "Bearer sk-ben-0123456789x"):
            refused = await client.post("/v1/chat/completions", json=CHAT, headers={"authorization": wrong})
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 503
        assert [line.count('"key": "ben"') for line in served.log[:2]] == [1, 1]
        assert "0123456789" not in "".join(served.log + served.told)


async def test_a_preflight_of_an_allowed_page_passes_without_a_key_and_of_another_it_does_not() -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    async with inside(text("yes"), rules=KEYED) as served:
        passed = await served.client.options("/v1/chat/completions", headers=asked | {"origin": PAGE})
        assert passed.status_code == 200
        assert passed.headers["access-control-allow-origin"] == PAGE
        assert "authorization" in passed.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in passed.headers
        refused = await served.client.options(
            "/v1/chat/completions", headers=asked | {"origin": "https://evil.example"}
        )
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
        unkeyed = await served.client.post("/v1/chat/completions", json=CHAT, headers={"origin": PAGE})
        assert (unkeyed.status_code, unkeyed.headers["access-control-allow-origin"]) == (401, PAGE)
        key = {"origin": PAGE, "authorization": "Bearer sk-anna-0123456789"}
        answered = await served.client.post("/v1/chat/completions", json=CHAT, headers=key)
        assert (answered.status_code, answered.headers["access-control-allow-origin"]) == (200, PAGE)
        assert "X-Request-Id" in answered.headers["access-control-expose-headers"]


async def test_no_page_of_another_server_is_let_in_by_default() -> None:
    async with inside(text("yes")) as served:
        headers = {"origin": PAGE, "access-control-request-method": "POST"}
        response = await served.client.options("/v1/chat/completions", headers=headers)
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("declares", [True, False])
async def test_a_body_that_is_too_large_is_not_read_to_its_end(declares: bool) -> None:
    behind = Behind(replace(OPEN, max_body=10))
    headers = {"content_length": "11"} if declares else {}
    assert await behind.send([b"12345", b"123456"], host="localhost", **headers) == 413
    assert await behind.send([b"12345", b"12345"], host="localhost") == 200
    assert behind.bodies == [b"1234512345"]


async def test_a_body_whose_end_does_not_come_is_cut_off() -> None:
    behind = Behind(replace(OPEN, body_s=0.01))
    assert await behind.send([b"never"], ends=False, host="localhost") == 408
    assert (b"connection", b"close") in behind.sent
    assert behind.bodies == []


async def test_half_a_body_reaches_nobody_when_its_client_goes_away() -> None:
    behind = Behind(OPEN)
    assert await behind.send([b"half", None], host="localhost") == 0
    assert behind.bodies == []


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.integers(0, 100))
def test_a_body_passes_whole_in_whatever_pieces_or_not_at_all(chunks: list[bytes], most: int) -> None:
    behind = Behind(replace(OPEN, max_body=most))
    status = asyncio.run(behind.send(chunks, host="localhost"))
    body = b"".join(chunks)
    assert (status, behind.bodies) == ((200, [body]) if len(body) <= most else (413, []))


_values = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=60)


@given(_values, _values, _values, _values)
def test_whatever_headers_say_it_is_let_in_or_refused(host: str, origin: str, key: str, length: str) -> None:
    behind = Behind(KEYED)
    headers = {"host": host, "origin": origin, "authorization": f"Bearer {key}", "content_length": length}
    assert asyncio.run(behind.send([b""], **headers)) in (401, 403, 421)
    assert behind.bodies == []


@given(_values)
def test_whatever_length_is_declared_a_small_body_is_taken_or_refused(length: str) -> None:
    assert asyncio.run(Behind(OPEN).send([b"small"], host="localhost", content_length=length)) in (200, 413)


def test_keys_of_a_file_have_names(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# who may ask\nanna sk-anna-0123456789\n\nsk-nobodys-0123456789\n")
    assert read_keys(file) == [("anna", "sk-anna-0123456789"), ("key 2", "sk-nobodys-0123456789")]
    keys = Keys(read_keys(file))
    assert (keys.owner("sk-anna-0123456789"), keys.owner("sk-nobodys-0123456789")) == ("anna", "key 2")
    assert [keys.owner(wrong) for wrong in ("", "sk-anna", "\udcff", "ä")] == [None] * 4


@pytest.mark.parametrize("content", ["", "# nothing\n", "anna sk-anna-0123456789 more\n", b"\xff\xfe\x00"])
def test_a_file_without_keys_is_refused(content: str | bytes, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MissingOrInvalid):
        read_keys(file)


@pytest.mark.parametrize("key", ["short", "with spaces in it", "x" * 513, "schlüssel-schlüssel"])
def test_a_key_that_is_none_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        Keys([("anna", key)])
    assert key not in f"{caught.value.what} {caught.value.fix}"


@pytest.mark.parametrize(
    "options",
    [
        Options(host="0.0.0.0"),
        Options(host="::"),
        Options(host="192.168.1.5"),
        Options(host="vision.example.org"),
        Options(allowed_origins=["*"]),
        Options(allowed_hosts=["*.example.org"]),
        Options(media_hosts=["*"]),
        Options(tls_cert=Path("cert.pem")),
        Options(tls_key=Path("key.pem")),
        Options(keys=[("anna", "short")]),
    ],
    ids=str,
)
def test_what_is_not_safe_does_not_start(options: Options) -> None:
    with pytest.raises(UsageError):
        run(Settings(), options, lambda _: None)
