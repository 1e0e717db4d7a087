"""Pictures by URL: nothing is fetched but what the operator has allowed, and an attacker learns nothing."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest

from gguf_vl.errors import InvalidPicture, UsageError
from gguf_vl.server import fetching
from gguf_vl.server.fetching import Fetching, MediaHost
from tests.server.certificates import certificate, needs_openssl
from tests.server.picture_host import PictureHost, picture_host

pytestmark = pytest.mark.anyio
HOST = "pictures.test"
ALLOWED = (MediaHost(HOST),)


class Names:
    """Stands in for the resolver: what each lookup of a name finds, one after the other."""

    def __init__(self) -> None:
        self.answers: list[Sequence[str]] = []
        self.asked: list[str] = []

    async def resolve(self, name: str, _port: int) -> Sequence[str]:
        self.asked.append(name)
        if not self.answers:
            raise socket.gaierror("Name or service not known")
        return self.answers.pop(0)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    found = Names()
    monkeypatch.setattr(fetching, "resolve", found.resolve)
    return found


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[httpx2.Request]:
    """Every request that would leave the machine. Each is answered with a picture's bytes."""
    made: list[httpx2.Request] = []

    async def handle(_transport: object, request: httpx2.Request) -> httpx2.Response:
        made.append(request)
        return httpx2.Response(200, stream=httpx2.ByteStream(b"picture"))

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", handle)
    return made


@pytest.fixture
async def host() -> AsyncIterator[PictureHost]:
    async with picture_host() as found:
        found.put("/cat.png", b"a cat")
        yield found


def pinned(host: PictureHost) -> Fetching:
    """Pictures from that host alone, whose private address the operator has given."""
    return Fetching([MediaHost.parse(f"{HOST}:{host.port}=127.0.0.1")])


async def refusal(fetch: Fetching, url: str) -> str:
    with pytest.raises(InvalidPicture) as caught:
        await fetch(url)
    return caught.value.what


@pytest.mark.parametrize("url", [f"http://{HOST}/a.png", f"https://{HOST}/a.png", "ftp://a/b", "file:///etc/passwd"])
async def test_by_default_nothing_is_fetched(url: str, names: Names, connections: list[httpx2.Request]) -> None:
    await refusal(Fetching(), url)
    assert (names.asked, connections) == ([], [])


async def test_a_picture_of_an_allowed_host_is_fetched(names: Names, connections: list[httpx2.Request]) -> None:
    names.answers = [["93.184.215.14"]]
    assert await Fetching(ALLOWED)(f"https://{HOST}/a%20cat.png?size=2#eye") == b"picture"
    [request] = connections
    assert str(request.url) == "https://93.184.215.14/a%20cat.png?size=2#eye"
    assert (request.headers["host"], request.extensions["sni_hostname"]) == (HOST, HOST)
    assert "cookie" not in request.headers


@pytest.mark.parametrize(
    "url",
    [
        "http://other.test/a.png",
        f"http://sub.{HOST}/a.png",
        f"http://{HOST}./a.png",
        f"http://{HOST}.evil.test/a.png",
        f"http://{HOST}@evil.test/a.png",
        f"http://evil.test\\@{HOST}/a.png",
        f"http://user:secret@{HOST}/a.png",
        f"http://{HOST}:8080/a.png",
        f"https://{HOST}:22/a.png",
        f"http://{HOST}%2eevil.test/a.png",
        "http://127.0.0.1/a.png",
        "http://2130706433/a.png",
        "http://0x7f.1/a.png",
        "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://169.254.169.254/latest/meta-data/",
        f"ftp://{HOST}/a.png",
        f"gopher://{HOST}/a.png",
        f"//{HOST}/a.png",
        "http:///a.png",
        "http://[/a.png",
        f"http://{HOST}\r\nX: y/a.png",
    ],
)
async def test_any_other_host_or_port_is_refused_before_its_name_is_looked_up(
    url: str, names: Names, connections: list[httpx2.Request]
) -> None:
    names.answers = [["93.184.215.14"]]
    await refusal(Fetching(ALLOWED), url)
    assert (names.asked, connections) == ([], [])


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:192.168.0.1"],
        ["64:ff9b::a00:1"],
        ["2002:7f00:1::"],
        ["fd00::1"],
        ["93.184.215.14", "10.0.0.1"],
        [],
    ],
)
async def test_an_allowed_name_that_leads_to_a_private_address_is_refused(
    found: list[str], names: Names, connections: list[httpx2.Request]
) -> None:
    names.answers = [found]
    await refusal(Fetching(ALLOWED), f"http://{HOST}/a.png")
    assert connections == []


async def test_a_name_that_is_rebound_after_it_was_checked_leads_nowhere_else(
    names: Names, connections: list[httpx2.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    names.answers = [["93.184.215.14"], ["127.0.0.1"]]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked up once more"))
    assert await Fetching(ALLOWED)(f"http://{HOST}/a.png") == b"picture"
    assert names.asked == [HOST]
    assert [request.url.host for request in connections] == ["93.184.215.14"]


async def test_an_address_that_does_not_answer_is_followed_by_the_next(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    async def handle(_transport: object, request: httpx2.Request) -> httpx2.Response:
        tried.append(request.url.host)
        if len(tried) == 1:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, stream=httpx2.ByteStream(b"picture"))

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", handle)
    names.answers = [["2606:4700::1111", "1.1.1.1"]]
    assert await Fetching(ALLOWED)(f"http://{HOST}/a.png") == b"picture"
    assert tried == ["2606:4700::1111", "1.1.1.1"]


async def test_an_operator_may_give_a_private_address_and_no_name_is_looked_up(host: PictureHost, names: Names) -> None:
    assert await pinned(host)(f"http://{HOST}:{host.port}/cat.png") == b"a cat"
    assert f"Host: {HOST}:{host.port}" in host.heads[0]
    literal = Fetching([MediaHost.parse(f"127.0.0.1:{host.port}")])
    assert await literal(f"http://127.0.0.1:{host.port}/cat.png") == b"a cat"
    assert names.asked == []


async def test_a_redirect_within_the_host_is_followed_three_times(host: PictureHost) -> None:
    for number in range(3):
        host.redirect(f"/{number}", f"/{number + 1}")
    host.redirect("/3", "cat.png")
    url = f"http://{HOST}:{host.port}"
    assert await pinned(host)(f"{url}/1") == b"a cat"
    await refusal(pinned(host), f"{url}/0")
    assert host.asked == ["/1", "/2", "/3", "/cat.png", "/0", "/1", "/2", "/3"]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/cat.png",
        "http://localhost/cat.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://other.test/cat.png",
        "//other.test/cat.png",
        "file:///etc/passwd",
        "ftp://pictures.test/cat.png",
        "https://pictures.test/cat.png",
        "http://[::1",
        "",
    ],
)
async def test_a_redirect_is_checked_as_the_first_url_was(location: str, host: PictureHost, names: Names) -> None:
    host.redirect("/away", location)
    what = await refusal(pinned(host), f"http://{HOST}:{host.port}/away")
    assert set(host.asked) == {"/away"}
    assert names.asked == []
    assert not location or location not in what


async def test_a_redirect_to_an_allowed_name_at_a_private_address_is_refused(host: PictureHost, names: Names) -> None:
    hosts = [MediaHost.parse(f"{HOST}:{host.port}=127.0.0.1"), MediaHost("second.test")]
    host.redirect("/away", "http://second.test/cat.png")
    names.answers = [["127.0.0.1"]]
    await refusal(Fetching(hosts), f"http://{HOST}:{host.port}/away")
    assert names.asked == ["second.test"]


@pytest.mark.parametrize("declares", [True, False])
async def test_a_picture_that_is_too_large_is_not_read_to_its_end(declares: bool, host: PictureHost) -> None:
    host.put("/big.png", b"x" * (1 << 20))
    if not declares:
        host.responses["/big.png"] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * (1 << 20)
    fetch = Fetching([MediaHost.parse(f"{HOST}:{host.port}=127.0.0.1")], max_bytes=1000)
    assert "larger" in await refusal(fetch, f"http://{HOST}:{host.port}/big.png")


async def test_a_host_that_never_answers_is_given_up(host: PictureHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "LIMIT_S", 0.05)
    assert "could not be fetched" in await refusal(pinned(host), f"http://{HOST}:{host.port}/nothing")


async def test_no_proxy_of_the_environment_is_used(host: PictureHost, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await pinned(host)(f"http://{HOST}:{host.port}/cat.png") == b"a cat"


async def test_offline_no_name_is_looked_up_and_nothing_connected(
    names: Names, connections: list[httpx2.Request]
) -> None:
    await refusal(Fetching(ALLOWED, offline=True), f"http://{HOST}/a.png")
    assert (names.asked, connections) == ([], [])


async def test_what_a_network_is_like_cannot_be_told_from_what_is_said(host: PictureHost, names: Names) -> None:
    host.put("/none", b"secret words", "404 Not Found")
    free = socket.create_server(("127.0.0.1", 0))
    closed = free.getsockname()[1]
    free.close()
    fetch = Fetching(
        [*ALLOWED, MediaHost.parse(f"{HOST}:{host.port}=127.0.0.1"), MediaHost.parse(f"127.0.0.1:{closed}")]
    )
    urls = [f"http://{HOST}/unknown", f"http://{HOST}/private", f"http://{HOST}:{host.port}/none"]
    said = [(await refusal(fetch, urls[0])).replace(urls[0], "URL")]
    names.answers = [["10.0.0.1"]]
    said += [(await refusal(fetch, url)).replace(url, "URL") for url in urls[1:]]
    said.append((await refusal(fetch, f"http://127.0.0.1:{closed}/a")).replace(f"http://127.0.0.1:{closed}/a", "URL"))
    assert said == ["The picture at URL could not be fetched."] * 4


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    """TLS for `HOST`: the host's side, and that of who trusts it."""
    made = certificate(tmp_path_factory.mktemp("tls"), f"DNS:{HOST}")
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(made.cert, made.key)
    return own, ssl.create_default_context(cafile=str(made.cert))


@needs_openssl
async def test_a_certificate_must_be_for_the_name_though_an_address_is_connected_to(
    secured: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    own, trusting = secured
    async with picture_host(own) as host:
        host.put("/cat.png", b"a cat")
        hosts = [MediaHost.parse(f"{name}:{host.port}=127.0.0.1") for name in (HOST, "other.test")]
        fetch = Fetching(hosts, trusted=trusting)
        assert await fetch(f"https://{HOST}:{host.port}/cat.png") == b"a cat"
        await refusal(fetch, f"https://other.test:{host.port}/cat.png")
        await refusal(Fetching(hosts), f"https://{HOST}:{host.port}/cat.png")
        assert host.asked == ["/cat.png"]


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Pictures.Test", MediaHost("pictures.test")),
        ("pictures.test:8443", MediaHost("pictures.test", 8443)),
        ("pictures.test=10.0.0.5", MediaHost("pictures.test", None, ip_address("10.0.0.5"))),
        ("pictures.test:81=fd00::5", MediaHost("pictures.test", 81, ip_address("fd00::5"))),
        ("10.0.0.5", MediaHost("10.0.0.5", None, ip_address("10.0.0.5"))),
        ("[fd00::5]:81", MediaHost("fd00::5", 81, ip_address("fd00::5"))),
        ("bücher.test", MediaHost("xn--bcher-kva.test")),
    ],
)
def test_hosts_are_given_by_name_port_and_address(text: str, host: MediaHost) -> None:
    assert MediaHost.parse(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "*.test",
        "a b",
        "user@pictures.test",
        "pictures.test/path",
        "pictures.test?x",
        "a.test=",
        "a.test=b.test",
        "http://pictures.test",
        "pictures.test:port",
        "=10.0.0.5",
        "a.test=10.0.0.0/8",
        "10.0.0.300",
    ],
)
def test_what_is_no_exact_host_is_refused_at_start(text: str) -> None:
    with pytest.raises(UsageError):
        MediaHost.parse(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of pictures with all that could lead out of it, and secrets beside it."""
    folder = tmp_path / "pictures"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a cat.png").write_bytes(b"a cat")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "pictures-too").mkdir()
    (tmp_path / "pictures-too" / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to("in/a cat.png")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to("..")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("path", ["in/a%20cat.png", "in/../in/a%20cat.png", "link", "up/pictures/link"])
async def test_a_file_under_the_root_is_read(path: str, root: Path) -> None:
    for beginning in ("file://", "file://localhost", "FILE://", "file:"):
        assert await Fetching(root=root)(f"{beginning}{root}/{path}") == b"a cat"


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "..%2fsecret",
        "%2e%2e/secret",
        "out",
        "up/secret",
        "../pictures-too/secret",
        "in",
        "pipe",
        "circle",
        "missing",
        "in/a%20cat.png/x",
        "%00",
        "/dev/zero",
        "",
        "%ff",
    ],
)
async def test_nothing_else_is_and_the_same_is_said_of_all(path: str, root: Path) -> None:
    url = f"file://{root}/{path}"
    what = await refusal(Fetching(root=root), url)
    assert what.startswith("There is no picture file:")
    assert what.endswith("that may be read here.")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "file:etc/passwd",
        "file://",
        "file:",
        "file://host/etc/passwd",
        "file:////dev/zero",
        "file://[",
        "file:///dev/zero",
        "file:///proc/self/environ",
    ],
)
async def test_a_file_elsewhere_is_refused_with_and_without_a_root(url: str, root: Path) -> None:
    await refusal(Fetching(root=root), url)
    await refusal(Fetching(), url)
    await refusal(Fetching(ALLOWED), url)


async def test_a_file_that_is_too_large_is_not_read_to_its_end(root: Path) -> None:
    assert len(await Fetching(root=root, max_bytes=3)(f"file://{root}/link")) == 4


async def test_a_real_lookup_finds_the_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert "127.0.0.1" in await fetching.resolve("localhost", 80)
