"""Parsing in a process of its own, for the native parsers that hostile bytes can crash.

libheif 1.23 (in pi-heif 1.4, by fuzzing) ends its process with a segmentation fault on damaged HEIC files, already when
it opens them; one changed byte in the type of an item is enough. PDFium is fuzzed for a browser that runs it in a
process apart too. Here a crash costs a child and not the server. A child is a module of this room run by `python -m`:
it gets a job as JSON and the file on stdin, and answers on stdout: one line of JSON, or an error, then its bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from gguf_vl.errors import GgufVlError, InvalidPicture, from_plain, to_plain
from gguf_vl.media.children import started
from gguf_vl.media.decode import Decoded, decode
from gguf_vl.types import PictureLimits

TIMEOUT_S = 60.0
_CHILD_BYTES = 4 * 2**30


def decode_apart(data: bytes, kind: str, name: str, limits: PictureLimits, max_pixels: int) -> Decoded:
    """`decode` in a child process, which costs some 0.15 s. A child that crashes or hangs is an InvalidPicture too."""
    job = [kind, name, limits.min_tokens, limits.max_tokens, max_pixels]
    said, rgb = in_child("gguf_vl.media.apart", job, data, kind, name)
    return Decoded(rgb, tuple(said["size"]), tuple(said["original_size"]))


def in_child(
    module: str,
    job: object,
    data: bytes,
    kind: str,
    name: str,
    *,
    timeout_s: float | None = None,
    instead: str = "save it as JPEG",
) -> tuple[Any, bytes]:
    """What a child that runs `serve_one` in `module` answers: the JSON's value and the bytes behind it.

    Raises what the child raised, and InvalidPicture for one that crashes or hangs (for more than `timeout_s` seconds,
    else `TIMEOUT_S`), speaking of `name`, a `kind` file, and of what to do `instead`.
    """
    timeout_s = timeout_s or TIMEOUT_S
    # -P: a file types.py or json.py in the person's folder must not be taken for Python's own
    command = [sys.executable, "-P", "-m", module, json.dumps(job)]
    with started(command) as child:
        try:
            out, told = child.communicate(data, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise InvalidPicture(
                f"{name} takes longer than {timeout_s:g} seconds to decode.", f"Save it smaller, or {instead}."
            ) from error
    if child.returncode != 0:
        raise InvalidPicture(
            f"{name} is a damaged {kind} file: its reader crashed on it.", f"Copy it again, or {instead}."
        ) from RuntimeError(f"exit status {child.returncode}: {told.decode(errors='replace')}")
    answer, _, rest = out.partition(b"\n")
    said = json.loads(answer)
    if "error" in said:
        raise from_plain(said)
    return said, rest


def serve_one(work: Callable[[Any, bytes], tuple[dict[str, Any], bytes]]) -> None:
    """The child's side: one job of `in_child` is done by `work`, which gets it and the file, and answered."""
    try:
        said, rest = work(json.loads(sys.argv[1]), sys.stdin.buffer.read())
    except GgufVlError as error:
        said, rest = to_plain(error), b""
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n" + rest)
    sys.stdout.buffer.flush()
    os._exit(0)  # at its end the interpreter now and then waits for ever for threads of FFmpeg's decoders


def bound_memory() -> None:
    """In a child: a hostile file cannot outgrow so much address space. Under Linux alone."""
    if sys.platform == "linux":  # elsewhere the limit is not there, or not kept
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_CHILD_BYTES, _CHILD_BYTES))


def _decode(job: Any, data: bytes) -> tuple[dict[str, Any], bytes]:
    kind, name, min_tokens, max_tokens, max_pixels = job
    decoded = decode(data, kind, name, PictureLimits(min_tokens, max_tokens), max_pixels)
    return {"size": decoded.size, "original_size": decoded.original_size}, decoded.rgb


if __name__ == "__main__":
    serve_one(_decode)
