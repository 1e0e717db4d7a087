"""A real server, a real model, and clients that leave, come in crowds, or see the worker killed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.scenes import png, scene
from tests.server.certificates import certificate, needs_openssl
from tests.server.conftest import Serve, Start, eventually
from tests.server.long import LONG, SHORT
from tests.server.picture_host import picture_host

CHAT = "/v1/chat/completions"
STRACE = shutil.which("strace")


@pytest.fixture
def client(server: Serve) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as found:
        yield found


def figure(client: httpx2.Client, name: str) -> float:
    """A figure of /metrics."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def worker(server: Serve) -> psutil.Process:
    """The process that holds the model."""
    return next(
        each
        for each in psutil.Process(server.process.pid).children(recursive=True)
        if "gguf_vl.engine.worker" in each.cmdline()
    )


def test_it_gets_ready_and_its_figures_are_those_of_the_model(server: Serve, client: httpx2.Client) -> None:
    server.line("pocket is ready")
    assert client.get("/ready").status_code == 200
    assert client.post(CHAT, json=SHORT).status_code == 200
    assert figure(client, "gguf_vl_slots") == 2
    assert figure(client, "gguf_vl_planned_bytes") > figure(client, "gguf_vl_used_bytes") > 1e6
    assert figure(client, "gguf_vl_decoded_tokens_total") > 0
    assert figure(client, "process_resident_memory_bytes") > 1e6
    page = client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize("streams", [True, False])
def test_clients_that_leave_free_their_slots(streams: bool, server: Serve, client: httpx2.Client) -> None:
    server.line("pocket is ready")
    address = httpx2.URL(server.url)
    body = json.dumps(LONG | {"stream": streams}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    sockets = [socket.create_connection((address.host, int(address.port or 0))) for _ in range(4)]
    for each in sockets:
        each.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    eventually(lambda: figure(client, "gguf_vl_slots_busy") == 2 == figure(client, "gguf_vl_queue_length"))
    for each in sockets:
        each.close()
    assert client.post(CHAT, json=SHORT).status_code == 200  # those before it would take a while
    eventually(lambda: not figure(client, "gguf_vl_slots_busy"))
    assert figure(client, "gguf_vl_queue_length") == 0


def test_a_killed_worker_leaves_clear_errors_and_the_next_are_answered(server: Serve, client: httpx2.Client) -> None:
    server.line("pocket is ready")
    restarts = figure(client, "gguf_vl_worker_restarts_total")
    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(client.post, CHAT, json=LONG)
        with httpx2.stream("POST", f"{server.url}{CHAT}", json=LONG | {"stream": True}, timeout=60) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data: ")
            eventually(lambda: figure(client, "gguf_vl_slots_busy") == 2)
            worker(server).send_signal(signal.SIGKILL)
            *_, told, last = filter(None, lines)
        assert last == "data: [DONE]"
        assert "ended while working" in json.loads(told[6:])["error"]["message"]
        died = whole.result()
    assert (died.status_code, died.headers["retry-after"]) == (503, "5")
    assert died.json()["error"]["code"] == "unavailable"
    assert client.post(CHAT, json=SHORT).status_code == 200
    assert client.get("/ready").status_code == 200
    assert figure(client, "gguf_vl_worker_restarts_total") == restarts + 1


@pytest.fixture(scope="module")
def small(serve: Start) -> Serve:
    """A server that lets little in, with a context that takes long to fill."""
    little = ("--parallel", "1", "--max-requests", "2", "--max-pixels", "70000", "--max-body", "1", "--timeout", "2")
    return serve("--ctx", "65536", *little)


def test_when_it_is_full_it_says_so_and_who_takes_too_long_makes_way(small: Serve) -> None:
    small.line("pocket is ready")
    with httpx2.Client(base_url=small.url, timeout=60) as client, ThreadPoolExecutor(2) as pool:
        long = [pool.submit(client.post, CHAT, json=LONG) for _ in range(2)]
        eventually(lambda: figure(client, "gguf_vl_slots_busy") + figure(client, "gguf_vl_queue_length") == 2)
        refused = client.post(CHAT, json=SHORT)
        assert (refused.status_code, refused.json()["error"]["place"]) == (429, 3)
        assert [each.result().status_code for each in long] == [504, 504]
        assert client.post(CHAT, json=SHORT).status_code == 200
        assert small.logged(refused.headers["x-request-id"])["result"] == "busy"


def test_bodies_and_pictures_that_are_too_large_are_refused(small: Serve) -> None:
    large = httpx2.post(f"{small.url}{CHAT}", content=b"x" * (2 << 20), timeout=60)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
    asked = {"question": "What colour is the circle?"}
    for size, status in ((256, 200), (288, 400)):
        picture = png(scene("red circle", size=size))
        response = httpx2.post(f"{small.url}/ask", files={"image": picture}, data=asked, timeout=60)
        assert response.status_code == status


@pytest.mark.anyio
async def test_pictures_by_url_are_fetched_from_where_the_operator_says_alone(serve: Start, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "blue.png").write_bytes(png(scene("blue circle")))
    (tmp_path / "secret.png").write_bytes(png(scene("green circle")))
    async with picture_host() as host:
        host.put("/red.png", png(scene("red circle")))
        host.redirect("/away.png", f"http://127.0.0.1:{host.port}/red.png")
        named = f"pictures.test:{host.port}"
        server = serve("--allow-media-host", f"{named}=127.0.0.1", "--media-root", str(tmp_path / "pictures"))
        async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:

            async def asked(url: str) -> tuple[int, str]:
                parts = [{"type": "image_url", "image_url": {"url": url}}]
                question = {"type": "text", "text": "What colour is the circle?"}
                body = {"messages": [{"role": "user", "content": [*parts, question]}]}
                response = await client.post(CHAT, json=body)
                return response.status_code, response.text

            status, said = await asked(f"http://{named}/red.png")
            assert (status, "red" in said) == (200, True)
            status, said = await asked(f"file://{tmp_path}/pictures/blue.png")
            assert (status, "blue" in said) == (200, True)
            for url in (
                f"http://{named}/away.png",
                f"http://127.0.0.1:{host.port}/red.png",
                f"http://localhost:{host.port}/red.png",
                "http://169.254.169.254/latest/meta-data/",
                f"file://{tmp_path}/secret.png",
                f"file://{tmp_path}/pictures/../secret.png",
                str(tmp_path / "pictures" / "blue.png"),
            ):
                assert (await asked(url))[0] == 400
        assert host.asked == ["/red.png", "/away.png"]


@needs_openssl
def test_over_tls_with_keys_and_a_name_of_its_own(serve: Start, tmp_path: Path) -> None:
    made = certificate(tmp_path, "DNS:vision.example.org", "IP:127.0.0.1")
    keys = tmp_path / "keys"
    keys.write_text("anna sk-anna-0123456789\n")
    page = "https://chat.example.org"
    server = serve(
        *("--tls-cert", str(made.cert), "--tls-key", str(made.key), "--api-key-file", str(keys)),
        *("--allow-host", "vision.example.org", "--allow-origin", page),
    )
    assert server.url.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=str(made.cert))
    with httpx2.Client(base_url=server.url, verify=trusting, timeout=60) as client:
        asked = {"origin": page, "access-control-request-method": "POST", "host": "vision.example.org"}
        assert client.options(CHAT, headers=asked).headers["access-control-allow-origin"] == page
        assert client.post(CHAT, json=SHORT).status_code == 401
        key = {"authorization": "Bearer sk-anna-0123456789", "host": "vision.example.org", "origin": page}
        answered = client.post(CHAT, json=SHORT, headers=key)
        assert answered.status_code == 200
        assert client.get("/health", headers={"host": "evil.example"}).status_code == 421
        line = server.logged(answered.headers["x-request-id"])
    assert (line["key"], line["status"], line["result"]) == ("anna", 200, "ok")
    assert "sk-anna" not in "\n".join(server.said)
    assert "Hello" not in "\n".join(server.said)


def test_open_shows_the_page_once_the_model_is_ready(serve: Start, tmp_path: Path) -> None:
    note = tmp_path / "shown"
    browser = tmp_path / "browser"
    browser.write_text(f'#!{sys.executable}\nimport sys\nopen({str(note)!r}, "w").write(sys.argv[1])\n')
    browser.chmod(0o755)
    server = serve("--open", BROWSER=f"{browser} %s")
    server.line("pocket is ready")
    eventually(lambda: note.exists() and note.read_text())
    assert note.read_text() == server.url


@pytest.mark.skipif(not STRACE, reason="strace is not here")
def test_offline_there_is_no_socket_but_its_own_and_no_name_is_looked_up(serve: Start, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "trace=socket,connect,bind,sendto,sendmsg,open,openat"
    traced = (str(STRACE), "-f", "-qq", "-e", calls, "-o", str(trace))
    server = serve("--offline", "--allow-media-host", "pictures.example.org", before=traced)
    server.line("pocket is ready")
    parts = [{"type": "image_url", "image_url": {"url": "https://pictures.example.org/a.png"}}]
    body = {"messages": [{"role": "user", "content": parts}]}
    assert httpx2.post(f"{server.url}{CHAT}", json=body, timeout=60).status_code == 400
    assert httpx2.post(f"{server.url}{CHAT}", json=SHORT, timeout=60).status_code == 200
    [traced_one] = psutil.Process(server.process.pid).children()
    traced_one.terminate()
    assert server.ended() == 0
    seen = trace.read_text(errors="replace")
    assert len(re.findall(r"bind\([^)]*AF_INET", seen)) == 1
    assert re.findall(r"(?:connect|sendto|sendmsg)\([^)]*AF_INET", seen) == []
    assert [name for name in ("/etc/resolv.conf", "/etc/hosts", "nscd") if name in seen] == []
