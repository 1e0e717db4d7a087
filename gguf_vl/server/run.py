"""`serve`: checks that what is asked for is safe, then runs the application until it is told to end."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import sys
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from gguf_vl.config import Settings
from gguf_vl.errors import MissingOrInvalid, UsageError
from gguf_vl.media.pictures import MAX_BYTES, MAX_PIXELS
from gguf_vl.runtime.serving import Serving
from gguf_vl.server.app import make_app
from gguf_vl.server.ending import DRAIN_S, Server
from gguf_vl.server.fetching import Fetching, MediaHost
from gguf_vl.server.gate import Gate
from gguf_vl.server.guard import Rules, allowed_host, allowed_origin
from gguf_vl.server.keys import Keys
from gguf_vl.server.models import Models
from gguf_vl.server.pictures import Pictures
from gguf_vl.server.pulling import Pulls
from gguf_vl.server.service import Service
from gguf_vl.server.starting import Start
from gguf_vl.server.uploads import Uploads

UPLOADS = 256 << 20
"""Bytes of pictures that were uploaded and not asked about yet."""
MANY = 1 << 16
"""Files and connections that may be open at once, where the system allows so many."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a server listens, and what it lets in. `max_body` is bytes, `limit_s` seconds; `max_requests` are answered or
    wait at once. With `allows_pull` clients may have models fetched, with `opens` the page is shown in a browser, with
    `logs` each request leaves a line.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    keys: Sequence[tuple[str, str]] = ()
    allowed_hosts: Sequence[str] = ()
    allowed_origins: Sequence[str] = ()
    media_hosts: Sequence[str] = ()
    media_root: Path | None = None
    max_body: int = 128 << 20
    max_pixels: int = MAX_PIXELS
    max_pictures: int = 64
    max_requests: int = 256
    limit_s: float = 600.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    allows_pull: bool = False
    opens: bool = False
    logs: bool = True


def serve(settings: Settings, options: Options, tell: Callable[[str], None]) -> None:
    """Serve until told to end. Raises what planning the model raises, `UsageError` for what is not safe."""
    rules = _rules(options)
    fetching = _fetching(settings, options)
    _check_tls(options)
    listener = _listen(options.host, options.port)
    with listener:
        address = _address(options, listener)
        start = Start(tell, lambda: options.opens and webbrowser.open(_page(options, listener)))
        models = Models(settings, tell=tell, on_progress=start.progress)
        pictures = Pictures(
            Uploads(UPLOADS), fetching, settings.detail, MAX_BYTES, options.max_pixels, options.max_pictures
        )
        gate = Gate(options.max_requests)
        pulls = Pulls(allowed=options.allows_pull and not settings.offline)
        service = Service(settings, models, Serving(models.make), pictures, options.limit_s, gate)
        config = uvicorn.Config(
            make_app(service, rules, start, pulls, tell=tell, log=tell if options.logs else None),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_S + 5,
            ssl_certfile=options.tls_cert,
            ssl_keyfile=options.tls_key,
        )
        _let_many_in()
        line = f"Serving {models.default.name} ({models.default.why}) on {address}"
        Server(config, service, started=lambda: tell(line)).run(sockets=[listener])


def _rules(options: Options) -> Rules:
    keys = Keys(options.keys)
    if not keys and not _is_loopback(options.host):
        raise UsageError(
            f"Listening on {options.host} lets others in, and no key keeps anybody out.",
            "Give --api-key KEY or --api-key-file FILE, or leave --host at 127.0.0.1.",
        )
    own = {"localhost", options.host.casefold(), socket.gethostname().casefold()}
    hosts = own | {allowed_host(each) for each in options.allowed_hosts}
    return Rules(keys, hosts, tuple(map(allowed_origin, options.allowed_origins)), options.max_body)


def _fetching(settings: Settings, options: Options) -> Fetching:
    root = options.media_root
    if root is not None and not root.is_dir():
        raise MissingOrInvalid(f"{root} is no folder that pictures could be read from.", "Check --media-root.")
    return Fetching(tuple(map(MediaHost.parse, options.media_hosts)), root, offline=settings.offline)


def _check_tls(options: Options) -> None:
    """Raises for what uvicorn would only stumble over, or ask a password for."""
    cert, key = options.tls_cert, options.tls_key
    if bool(cert) != bool(key):
        raise UsageError("TLS takes a certificate and its key.", "Give both --tls-cert and --tls-key.")
    if cert and key:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
        except OSError as error:  # SSLError is one
            raise MissingOrInvalid(
                f"{cert} and {key} are no certificate and its key: {error}.",
                "Give both as PEM, the key without a password.",
            ) from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise UsageError(
            f"Port {port} of {host} cannot be listened on: {error.strerror}.", "Take another: --port 8081."
        ) from error
    return listener


def _address(options: Options, listener: socket.socket, host: str = "") -> str:
    host = host or options.host
    scheme = "https" if options.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _page(options: Options, listener: socket.socket) -> str:
    """Where a browser of this machine finds the page: nobody can go to “all addresses”."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return _address(options, listener, everywhere.get(options.host, ""))


def _let_many_in() -> None:
    """Each connection is an open file, and systems allow few unless they are asked."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY if hard == resource.RLIM_INFINITY else min(MANY, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.casefold() == "localhost"
