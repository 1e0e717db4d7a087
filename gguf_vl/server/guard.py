"""Who is let in: the right host name, no foreign web page, a key where keys are wanted, a body that comes in time."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gguf_vl.errors import UsageError
from gguf_vl.server.failures import Failure, code_of
from gguf_vl.server.keys import Keys

Respond = Callable[[str, Failure], Response]
"""The response of a failure, in the shape of the dialect that a path belongs to."""
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?/?")
OPEN = ("/health", "/ready", "/favicon.ico")
"""Paths that need no key, with the page and its files."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is let in. `hosts` are names that the server answers to beside its addresses, `origins` the web pages of
    other servers that may use it. A body has `max_body` bytes at most, and comes within `body_s` seconds; those that
    are held have `max_bodies` together. Who takes nothing of an answer for `stall_s` seconds is cut off.
    """

    keys: Keys
    hosts: Collection[str] = ("localhost",)
    origins: Collection[str] = ()
    max_body: int = 128 << 20
    max_bodies: int = 512 << 20
    body_s: float = 60.0
    stall_s: float = 60.0


class _Left(Exception):
    """The client went away before its body had come, or takes nothing of its answer."""


class Guard:
    """Turns away what breaks the rules, before anything of it is looked at."""

    def __init__(self, app: ASGIApp, rules: Rules, respond: Respond, is_page: Callable[[str], bool]) -> None:
        self._app = app
        self._rules = rules
        self._respond = respond
        self._is_page = is_page
        self._n_held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._wrong_host(headers) or self._wrong_origin(headers) or self._wrong_key(scope, headers)
        body = bytearray()
        try:
            refused = refused or await self._read(body, headers, receive)
            if refused:
                await self._respond(scope["path"], refused)(scope, receive, self._unstalled(send))
            else:
                await self._app(scope, _given(bytes(body), receive), self._unstalled(send))
        except* _Left:
            pass
        finally:
            self._n_held -= len(body)

    def _unstalled(self, send: Send) -> Send:
        """The same, for clients that read what is sent to them."""

        async def sent(message: Message) -> None:
            try:
                async with asyncio.timeout(self._rules.stall_s):
                    await send(message)
            except TimeoutError:
                raise _Left from None

        return sent

    def _wrong_host(self, headers: Headers) -> Failure | None:
        """A web page whose name was rebound to this address sends that name: only our own are answered."""
        name = _name(headers.get("host", ""))
        if name in self._rules.hosts or _is_address(name):
            return None
        return _failure(421, f"This server does not answer to the name {name[:80]!r}. See `--allow-host`.")

    def _wrong_origin(self, headers: Headers) -> Failure | None:
        """A browser says which page asks: one of another server may not, unless it is allowed."""
        origin = headers.get("origin")
        if origin is None or origin in self._rules.origins:
            return None
        if origin.partition("://")[2] == headers.get("host"):
            return None
        return _failure(403, f"Pages of {origin[:80]} may not use this server. See `--allow-origin`.")

    def _wrong_key(self, scope: Scope, headers: Headers) -> Failure | None:
        scope.setdefault("state", {})["owner"] = None
        if not self._rules.keys or scope["path"] in OPEN or self._is_page(scope["path"]):
            return None
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        key = bearer.strip() if kind.casefold() == "bearer" else headers.get("x-api-key", "")
        owner = self._rules.keys.owner(key)
        scope["state"]["owner"] = owner
        return None if owner else _failure(401, "A key is needed here: Authorization: Bearer … or x-api-key.")

    async def _read(self, body: bytearray, headers: Headers, receive: Receive) -> Failure | None:
        """Read the whole body: what comes in time and is small enough is all that the rest ever sees."""
        most = self._rules.max_body
        too_large = _failure(413, f"The body has more than the {most >> 20} MiB that are taken here.")
        declared = headers.get("content-length", "0")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > most:
            return too_large
        try:
            async with asyncio.timeout(self._rules.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Left
                    piece = message.get("body", b"")
                    body += piece
                    self._n_held += len(piece)
                    if len(body) > most:
                        return too_large
                    if self._n_held > self._rules.max_bodies:
                        return _failure(429, "The bodies of other requests fill the room that there is for them.")
                    if not message.get("more_body"):
                        return None
        except TimeoutError:
            return _failure(408, f"The body did not come within {self._rules.body_s:g} s.")


def _given(body: bytes, receive: Receive) -> Receive:
    """A `receive` that tells of the body, and then whatever comes."""
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _failure(status: int, message: str) -> Failure:
    return Failure(status, message, code_of(status))


def allowed_host(text: str) -> str:
    """A name that the server is to answer to, as an operator gives it. Raises `UsageError` where it is not exact."""
    if not _HOST.fullmatch(text):
        raise UsageError(
            f"{text!r} is no host's name that could be allowed.",
            "Give an exact name without a port: vision.example.org.",
        )
    return text.casefold().rstrip(".")


def allowed_origin(text: str) -> str:
    """An origin whose pages may use the server, as an operator gives it. Raises `UsageError` for one that is not exact:
    with a wildcard every page that anybody opens could.
    """
    if not _ORIGIN.fullmatch(text):
        raise UsageError(
            f"{text!r} is no origin that could be allowed.",
            "Give scheme, name and port: https://chat.example.org:8443.",
        )
    return text.casefold().rstrip("/")


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        inner, closed, _ = host[1:].partition("]")
        return inner.casefold() if closed else ""
    return host.partition(":")[0].casefold().rstrip(".")


def _is_address(name: str) -> bool:
    """An address cannot be rebound."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
