"""How a server ends: what is under way is finished, nothing is begun, and a second signal ends it at once."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from urllib.parse import urlsplit

import httpx2
import pytest

from gguf_vl.engine.fake import Waits
from gguf_vl.engine.protocol import Generate
from gguf_vl.types import Text
from tests.server.conftest import Start, eventually
from tests.server.inside import listening
from tests.server.long import LONG, SHORT
from tests.server.test_limits import ASKED, STREAMS, told, told_in_stream, until_sent

pytestmark = pytest.mark.anyio


def refuses(url: str) -> bool:
    """Whether nothing new is let in."""
    try:
        httpx2.get(f"{url}/health")
    except httpx2.HTTPError:
        return True
    return False


def test_sigterm_lets_streams_end_closes_what_idles_refuses_what_is_new_and_exits_with_0(serve: Start) -> None:
    server = serve()
    where = urlsplit(server.url)
    address = (str(where.hostname), int(where.port or 0))
    with socket.create_connection(address) as silent, httpx2.Client(base_url=server.url, timeout=60) as idle:
        assert idle.get("/health").status_code == 200
        stream = LONG | {"stream": True, "max_tokens": 2000, "stream_options": {"include_usage": True}}
        with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=stream, timeout=60) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data: ")
            server.signal(signal.SIGTERM)
            assert silent.recv(1) == b""  # closed by the server
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(address)
            with pytest.raises(httpx2.HTTPError):
                idle.get("/health")
            *_, usage, last = filter(None, lines)
        assert last == "data: [DONE]"
        assert json.loads(usage[6:])["usage"]["completion_tokens"] == 2000
    assert server.ended() == 0
    assert "Traceback" not in "\n".join(server.said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number: signal.Signals, serve: Start) -> None:
    server = serve()
    with httpx2.stream(
        "POST", f"{server.url}/v1/chat/completions", json=LONG | {"stream": True}, timeout=60
    ) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        server.signal(number)
        eventually(lambda: refuses(server.url))
        server.signal(number)
        assert server.ended() == -number
        with pytest.raises(httpx2.HTTPError):
            list(lines)


@pytest.mark.parametrize("path", ASKED)
async def test_who_is_not_done_when_the_time_to_drain_is_over_is_told(path: str) -> None:
    async with listening([Waits()], drain_s=0.05) as served:
        asking = asyncio.create_task(served.client.post(path, json=ASKED[path] | {"stream": False}))
        await until_sent(served, Generate, 2)
        served.server.handle_exit(signal.SIGTERM, None)
        response = await asking
        assert response.status_code == 503
        assert "server is ending" in told(path, response.json())


@pytest.mark.parametrize("path", STREAMS)
async def test_a_stream_that_is_not_done_then_ends_with_the_dialects_error(path: str) -> None:
    async with listening([Text("be"), Text("gun"), Waits()], drain_s=0.05) as served:
        async with served.client.stream("POST", path, json=ASKED[path] | {"stream": True}) as response:
            lines = []
            async for line in response.aiter_lines():
                lines.append(line)
                if "be" in line:
                    served.server.should_exit = True
        assert "server is ending" in told_in_stream(path, [line for line in lines if line])


def test_an_idle_server_ends_at_once_with_0(serve: Start) -> None:
    server = serve("--no-log-requests")
    server.signal(signal.SIGINT)
    assert server.ended() == 0


def test_a_server_that_ends_while_its_model_loads_leaves_no_worker(serve: Start) -> None:
    server = serve()
    httpx2.post(f"{server.url}/v1/chat/completions", json=SHORT, timeout=60)
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
