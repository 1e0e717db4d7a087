"""Pictures by URL: from hosts that the operator has named and files under one folder, and from nowhere else."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx2

from gguf_vl.errors import InvalidPicture, UsageError
from gguf_vl.media.pictures import MAX_BYTES
from gguf_vl.media.sources import on_one_line
from gguf_vl.server.addresses import Address, is_public

LIMIT_S = 15.0
"""Seconds that a picture may take, name, redirects and all."""
MOST_REDIRECTS = 3
_CONNECT_S = 5.0
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {"User-Agent": "gguf-vl", "Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity"}
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""Without waiting for whoever would write into a pipe."""
_INSTEAD = "Send the picture itself: data:image/png;base64, followed by the whole file."


@dataclass(frozen=True, slots=True)
class MediaHost:
    """A host that pictures may be fetched from: at `port`, None for those of http and https, and at `address`, None for
    wherever in the open internet its name leads.
    """

    name: str
    port: int | None = None
    address: Address | None = None

    @classmethod
    def parse(cls, text: str) -> MediaHost:
        """What an operator writes: NAME, NAME:PORT, either with =ADDRESS behind it. Raises `UsageError`."""
        where, pinned, at = text.partition("=")
        try:
            url = httpx2.URL(f"http://{where}")
            name = url.raw_host.decode()
            if not name or set("*%") & set(name) or (url.userinfo, url.raw_path, url.fragment) != (b"", b"/", ""):
                raise ValueError
            return cls(name, url.port, ip_address(at) if pinned else _literal(name))
        except (ValueError, httpx2.InvalidURL) as error:
            raise UsageError(
                f"{on_one_line(text)!r} is no host that pictures could be fetched from.",
                "Give an exact name, pictures.example.org; for a private address name=10.0.0.5.",
            ) from error

    def is_at(self, url: httpx2.URL) -> bool:
        """Whether a URL leads to it."""
        port = url.port or _PORTS[url.scheme]
        wanted = _PORTS[url.scheme] if self.port is None else self.port
        return (url.raw_host.decode(), port) == (self.name, wanted)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


class Fetching:
    """Reads what a URL leads to: `hosts` over http and https, files under `root`. With neither nothing is read.

    A name is looked up once, its addresses are checked, and the connection goes to one of them: what the name means a
    moment later does not matter. Nothing is fetched `offline`, and never through a proxy.
    """

    def __init__(
        self,
        hosts: Sequence[MediaHost] = (),
        root: Path | None = None,
        *,
        offline: bool = False,
        max_bytes: int = MAX_BYTES,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts = hosts
        self._root = root
        self._offline = offline
        self._max_bytes = max_bytes
        self._given = trusted

    async def __call__(self, url: str) -> bytes:
        """The bytes behind a URL. Raises `InvalidPicture`, with a line that says nothing of the networks around."""
        if url[:5].lower() == "file:":
            return await asyncio.to_thread(self._read, url)
        shown = on_one_line(url)
        if not self._hosts or self._offline:
            raise InvalidPicture(f"{shown} is a URL, and pictures are not fetched from the network here.", _INSTEAD)
        try:
            parsed = httpx2.URL(url)
            if self._host(parsed) is None:
                raise InvalidPicture(f"{shown} is at a host from which no pictures are fetched here.", _INSTEAD)
            async with asyncio.timeout(LIMIT_S):
                return await self._follow(parsed, shown)
        except (OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise InvalidPicture(f"The picture at {shown} could not be fetched.", _INSTEAD) from error

    async def _follow(self, url: httpx2.URL, shown: str) -> bytes:
        for _ in range(1 + MOST_REDIRECTS):
            host = self._host(url)
            if host is None:
                raise OSError("the redirect leads to a host that is not allowed")
            found = await self._get(url, await _addresses(host, url), shown)
            if isinstance(found, bytes):
                return found
            url = found
        raise OSError("too many redirects")

    def _host(self, url: httpx2.URL) -> MediaHost | None:
        if url.scheme not in _PORTS or url.userinfo:
            return None
        return next((host for host in self._hosts if host.is_at(url)), None)

    async def _get(self, url: httpx2.URL, addresses: Iterable[Address], shown: str) -> bytes | httpx2.URL:
        """What is there, or where it is instead. Each address is tried until one can be connected to."""
        failure: Exception = OSError("no address")
        for address in addresses:
            # A client of its own for each: connections are kept by address, and must not serve another name.
            async with httpx2.AsyncClient(
                verify=self._trusted, trust_env=False, timeout=httpx2.Timeout(LIMIT_S, connect=_CONNECT_S)
            ) as client:
                try:
                    return await self._receive(client, url, address, shown)
                except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                    failure = error
        raise failure

    async def _receive(
        self, client: httpx2.AsyncClient, url: httpx2.URL, address: Address, shown: str
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
                f"The picture at {shown} is larger than the {self._max_bytes >> 20} MiB that one may have.",
                "Save it smaller or as JPEG.",
            )
            if int(response.headers.get("content-length", 0)) > self._max_bytes:
                raise too_large
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > self._max_bytes:
                    raise too_large
            return bytes(data)

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        return self._given or httpx2.create_ssl_context()

    def _read(self, url: str) -> bytes:
        """A file under the root: links are followed first, and devices and pipes are none."""
        refused = InvalidPicture(f"There is no picture {on_one_line(url)} that may be read here.", _INSTEAD)
        if self._root is None:
            raise refused
        try:
            parts = urlsplit(url)
            if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
                raise refused
            path = Path(url2pathname(parts.path)).resolve(strict=True)
            if not path.is_relative_to(self._root.resolve()):
                raise refused
            file = os.open(path, _READ)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise refused
                with open(file, "rb", closefd=False) as stream:
                    return stream.read(self._max_bytes + 1)
            finally:
                os.close(file)
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
            raise refused from error


async def _addresses(host: MediaHost, url: httpx2.URL) -> Sequence[Address]:
    """Where a host is. Raises OSError where that is not in the open internet, and the operator has not said so."""
    if host.address:
        return (host.address,)
    found = [ip_address(each) for each in await resolve(host.name, url.port or _PORTS[url.scheme])]
    if not found or not all(map(is_public, found)):
        raise OSError("the name leads to a private address")
    return found


async def resolve(name: str, port: int) -> Sequence[str]:
    """The addresses of a name, looked up. Raises OSError."""
    answers = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))
