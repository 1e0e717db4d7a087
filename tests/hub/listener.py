"""A port of 127.0.0.1 with a thread for each connection, that can be shut without leaving any behind."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread
from typing import Any


class Listener(ThreadingHTTPServer):
    """Takes HTTP/1.1 connections, from its construction until `close`, and hands every request to one function."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, answer: Callable[[Connection], None]) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.answer = answer
        self._open: set[socket.socket] = set()
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        """Stop listening, close every connection and wait for the threads that served them."""
        self.shutdown()
        self._thread.join()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def server_bind(self) -> None:
        """As http.server does it, without asking the name service who 127.0.0.1 is."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection for `close`."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection, which is over."""
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error here; anything else is printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Connection(BaseHTTPRequestHandler):
    """One connection of a client, for as many requests as it sends."""

    server: Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Hand the request over."""
        self.server.answer(self)

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        """Nothing: the log is `Server.requests`."""

    def reset(self) -> None:
        """Close the connection at once, with RST."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()
