"""Pictures by URL: from hosts that the operator has named and files under one folder, and from nowhere else."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx2

from gguf_vl.errors import InvalidPicture, UsageError
from gguf_vl.media.addresses import Address, is_public
from gguf_vl.media.fetching import PORTS, get, resolve
from gguf_vl.media.pictures import MAX_BYTES
from gguf_vl.media.sources import on_one_line

LIMIT_S = 15.0
"""Seconds that a picture may take, name, redirects and all."""
MOST_REDIRECTS = 3
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
        port = url.port or PORTS[url.scheme]
        wanted = PORTS[url.scheme] if self.port is None else self.port
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
            found = await get(url, await _addresses(host, url), shown, trusted=self._trusted, max_bytes=self._max_bytes)
            if isinstance(found, bytes):
                return found
            url = found
        raise OSError("too many redirects")

    def _host(self, url: httpx2.URL) -> MediaHost | None:
        if url.scheme not in PORTS or url.userinfo:
            return None
        return next((host for host in self._hosts if host.is_at(url)), None)

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
    found = [ip_address(each) for each in await resolve(host.name, url.port or PORTS[url.scheme])]
    if not found or not all(map(is_public, found)):
        raise OSError("the name leads to a private address")
    return found
