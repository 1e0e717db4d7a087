"""What the tests of the hubs share: some files, and a client that shows everything and never tries again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import httpx2

REPO = "qwen/vl"
FILE = "model.gguf"
WEIGHTS = b"GGUF" + bytes(range(256)) * 400
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
CONFIG = b'{"n": 1}'
PROJECTOR = b"GGUF projector"
FILES = {FILE: WEIGHTS, "config.json": CONFIG, "mmproj/model.gguf": PROJECTOR}


@dataclass
class Got:
    """What reached the client."""

    status: int
    headers: httpx2.Headers
    body: bytes = b""
    error: str = ""
    """Name of the exception in which the body ended."""


def get(url: str, asked: str = "", method: str = "GET", **headers: str) -> Got:
    """Follow `url` to its end; `asked` is a range, as "500-"."""
    given = {"Accept-Encoding": "identity", **({"Range": f"bytes={asked}"} if asked else {}), **headers}
    with (
        httpx2.Client(trust_env=False, follow_redirects=True, timeout=10) as client,
        client.stream(method, url, headers=given) as response,
    ):
        got = Got(response.status_code, response.headers)
        try:
            for chunk in response.iter_raw():
                got.body += chunk
        except httpx2.HTTPError as error:
            got.error = type(error).__name__
        return got
