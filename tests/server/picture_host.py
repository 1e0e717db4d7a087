"""A host of pictures on this machine, as it may be or as an attacker would make it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class PictureHost:
    """Answers each path with the bytes of a whole response; one that is not there is never answered."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.responses: dict[str, bytes] = {}

    def put(self, path: str, body: bytes, status: str = "200 OK", **headers: str) -> None:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{lines}\r\n"
        self.responses[path] = head.encode() + body

    def redirect(self, path: str, location: str) -> None:
        self.put(path, b"", "302 Found", Location=location)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            self.heads.append(head)
            self.asked.append(path)
            if path not in self.responses:
                await reader.read()  # until the client gives up
            writer.write(self.responses.get(path, b""))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def picture_host(secured: ssl.SSLContext | None = None) -> AsyncIterator[PictureHost]:
    """One that listens."""
    host = PictureHost(0)
    listener = await asyncio.start_server(host.answer, "127.0.0.1", 0, ssl=secured)
    async with listener:
        host.port = listener.sockets[0].getsockname()[1]
        yield host
