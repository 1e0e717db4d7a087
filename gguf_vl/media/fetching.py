"""One picture from a URL: the connection itself, and the rules for a URL that a person typed.

Which URLs strangers may have fetched is the server's to say. A name is looked up once and the connection goes to one of
the addresses found: what the name means a moment later does not matter. Never through a proxy.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

import httpx2

from gguf_vl.errors import InvalidPicture, OfflineError
from gguf_vl.media.addresses import Address, is_public
from gguf_vl.media.sources import on_one_line

PORTS = {"http": 80, "https": 443}
LIMIT_S = 30.0
"""Seconds that a picture may take whose URL was typed: name, redirects and all."""
MOST_REDIRECTS = 5
_CONNECT_S = 5.0
_IDLE_S = 15.0
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {"User-Agent": "gguf-vl", "Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity"}
_INSTEAD = "Download it with a browser and give the file."


def fetch(url: str, *, offline: bool, max_bytes: int, trusted: ssl.SSLContext | None = None) -> bytes:
    """The bytes behind a URL that a person typed, which may be at any address. Blocking, for a thread without a loop.

    A redirect from the open internet into a private network is not followed. Raises `OfflineError` before any name is
    looked up, and InvalidPicture for what is no URL of http or https, does not answer in `LIMIT_S`, or is larger than
    `max_bytes`.
    """
    shown = on_one_line(url)
    if offline:
        raise OfflineError(
            f"{shown} is a URL, and offline mode is on.",
            "Download it on another machine and give the file, or leave out --offline and GGUF_VL_OFFLINE.",
        )
    try:
        return asyncio.run(_follow(httpx2.URL(url), shown, trusted or httpx2.create_ssl_context(), max_bytes))
    except (OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise InvalidPicture(f"{shown} could not be fetched: {_reason(error)}.", _INSTEAD) from error


async def _follow(url: httpx2.URL, shown: str, trusted: ssl.SSLContext, max_bytes: int) -> bytes:
    from_outside = False
    async with asyncio.timeout(LIMIT_S):
        for _ in range(1 + MOST_REDIRECTS):
            if url.scheme not in PORTS or not url.host or b"%" in url.raw_host:
                raise ValueError("it is, or leads to, no address of http or https")
            found = await resolve(url.raw_host.decode(), url.port or PORTS[url.scheme])
            addresses = [ip_address(each) for each in found]
            public = all(map(is_public, addresses))
            if from_outside and not public:
                raise ValueError("it leads on to a private address")
            from_outside |= public
            answer = await get(url, addresses, shown, trusted=trusted, max_bytes=max_bytes)
            if isinstance(answer, bytes):
                return answer
            url = answer
    raise ValueError(f"it leads on more than {MOST_REDIRECTS} times")


def _reason(error: Exception) -> str:
    match error:
        case TimeoutError() | httpx2.TimeoutException():
            return "it did not answer in time"
        case socket.gaierror():
            return "there is no host of that name, or no network"
        case _:
            return on_one_line(str(error).rstrip(".") or type(error).__name__)


async def resolve(name: str, port: int) -> Sequence[str]:
    """The addresses of a name, looked up. Raises OSError."""
    answers = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))


async def get(
    url: httpx2.URL, addresses: Iterable[Address], shown: str, *, trusted: ssl.SSLContext, max_bytes: int
) -> bytes | httpx2.URL:
    """What is there, or where it is instead. Each address is tried until one can be connected to.

    Raises OSError and httpx2.HTTPError, and InvalidPicture, speaking of `shown`, for more than `max_bytes`. The time
    that all of it takes is for the caller to limit.
    """
    failure: Exception = OSError("no address")
    for address in addresses:
        # A client of its own for each: connections are kept by address, and must not serve another name.
        async with httpx2.AsyncClient(
            verify=trusted, trust_env=False, timeout=httpx2.Timeout(_IDLE_S, connect=_CONNECT_S)
        ) as client:
            try:
                return await _receive(client, url, address, shown, max_bytes)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
    raise failure


async def _receive(
    client: httpx2.AsyncClient, url: httpx2.URL, address: Address, shown: str, max_bytes: int
) -> bytes | httpx2.URL:
    headers = _HEADERS | {"Host": url.netloc.decode()}
    names = {"sni_hostname": url.raw_host.decode()}  # whose certificate it must be
    there = url.copy_with(host=str(address))
    async with client.stream("GET", there, headers=headers, extensions=names) as response:
        if response.status_code in _REDIRECTS:
            return url.join(response.headers.get("location", ""))
        if response.status_code != 200:
            raise OSError(f"status {response.status_code}")
        too_large = InvalidPicture(
            f"The picture at {shown} is larger than the {max_bytes >> 20} MiB that one may have.",
            "Save it smaller or as JPEG.",
        )
        if int(response.headers.get("content-length", 0)) > max_bytes:
            raise too_large
        data = bytearray()
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > max_bytes:
                raise too_large
        return bytes(data)
