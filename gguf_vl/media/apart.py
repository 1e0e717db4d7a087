"""Decoding in a process of its own, for the one parser that hostile bytes can crash.

libheif 1.23 (in pi-heif 1.4, by fuzzing) ends its process with a segmentation fault on damaged HEIC files, already when
it opens them; one changed byte in the type of an item is enough. Here that costs a child and not the server. The child
gets the file on stdin and answers on stdout: one line of JSON, either sizes or an error, then the pixels.
"""

from __future__ import annotations

import json
import subprocess
import sys

from gguf_vl.errors import GgufVlError, InvalidPicture, from_plain, to_plain
from gguf_vl.media.decode import Decoded, decode
from gguf_vl.types import PictureLimits

TIMEOUT_S = 60.0


def decode_apart(data: bytes, kind: str, name: str, limits: PictureLimits, max_pixels: int) -> Decoded:
    """`decode` in a child process, which costs some 0.15 s. A child that crashes or hangs is an InvalidPicture too."""
    job = json.dumps([kind, name, limits.min_tokens, limits.max_tokens, max_pixels])
    # -P: a file types.py or json.py in the person's folder must not be taken for Python's own
    command = [sys.executable, "-P", "-m", "gguf_vl.media.apart", job]
    try:
        child = subprocess.run(command, input=data, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise InvalidPicture(
            f"{name} takes longer than {TIMEOUT_S:g} seconds to decode.", "Save it smaller, or as JPEG."
        ) from error
    if child.returncode != 0:
        raise InvalidPicture(
            f"{name} is a damaged {kind} file: its reader crashed on it.", "Copy it again, or save it as JPEG."
        ) from RuntimeError(f"exit status {child.returncode}: {child.stderr.decode(errors='replace')}")
    answer, _, rgb = child.stdout.partition(b"\n")
    said = json.loads(answer)
    if "error" in said:
        raise from_plain(said)
    return Decoded(rgb, tuple(said["size"]), tuple(said["original_size"]))


def _main() -> None:
    kind, name, min_tokens, max_tokens, max_pixels = json.loads(sys.argv[1])
    said: object
    try:
        decoded = decode(sys.stdin.buffer.read(), kind, name, PictureLimits(min_tokens, max_tokens), max_pixels)
        said, rgb = {"size": decoded.size, "original_size": decoded.original_size}, decoded.rgb
    except GgufVlError as error:
        said, rgb = to_plain(error), b""
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n" + rgb)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
