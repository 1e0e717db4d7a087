"""The child of `video`: takes the frames that are wanted of a file that may be hostile. Run as
`python -m gguf_vl.media.frames`.
"""

from __future__ import annotations

import io
import struct
import sys
from typing import IO, TYPE_CHECKING, Any

from PIL import Image

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.apart import bound_memory, serve_one
from gguf_vl.media.reader import AGAIN, Reader
from gguf_vl.media.resize import fit_size
from gguf_vl.media.scenes import scene_starts
from gguf_vl.media.video import Frames, sample
from gguf_vl.types import PATCH, PictureLimits

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame

WHOLE_S = 300.0
"""Of a longer video only the key frames are looked at for changes of scene: decoding all would take minutes."""

_SMALL = 64 * 2**20
"""Bytes of a file whose packets are all looked at to learn how long it is, whatever it says. So they are, some GB a
second, of one without an index: it may be several recordings behind each other.
"""

_THUMBNAIL = (32, 18)
_TURNS = {
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
"""A display matrix's a, b, c, d (ISO 14496-12, 6.2.2: x' = ax + cy, y' = bx + dy) and the same in Pillow's words."""


def upright(frame: VideoFrame, aspect: float) -> Image.Image:
    """A frame as it is shown: turned and mirrored by its display matrix, RGB, with square pixels where each of its own
    is `aspect` times as wide as high.
    """
    picture: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    if aspect != 1:
        picture = picture.resize((max(1, round(frame.width * aspect)), frame.height), Image.Resampling.BICUBIC)
    turn = _TURNS.get(_matrix(frame))
    return picture if turn is None else picture.transpose(turn)


def _matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The signs of a display matrix's a, b, c, d, those of its lesser diagonal 0: turns by other than quarters are
    none.
    """
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None or len(raw := bytes(data)) < 36:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = struct.unpack("=9i", raw[:36])
    sign = [(value > 0) - (value < 0) for value in (a, b, c, d)]
    return (sign[0], 0, 0, sign[3]) if abs(a) + abs(d) >= abs(b) + abs(c) else (0, sign[1], sign[2], 0)


def _thumbnail(frame: VideoFrame) -> np.ndarray:
    width, height = _THUMBNAIL
    return frame.reformat(width=width, height=height, format="rgb24").to_ndarray()


def _serve(job: Any, data: bytes) -> tuple[dict[str, Any], bytes]:
    """The child's side of `video.load_clip`."""
    name, path, demuxer, every, number, scenes, alone, min_tokens, max_tokens, budget, most_steps = job
    bound_memory()
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise InvalidPicture(
            f"{name} is a video, and the reader for videos is not installed.",
            f'Run: {sys.executable} -m pip install "av>=18"  (or give some of its frames as pictures).',
        ) from error
    wanted = Frames(every, number, scenes, alone)
    limits = PictureLimits(min_tokens, max_tokens)
    with io.BytesIO(data) if path is None else open(path, "rb") as file:
        return _taken(file, demuxer, name, wanted, limits, budget, most_steps)


def _taken(
    file: IO[bytes], demuxer: str, name: str, wanted: Frames, limits: PictureLimits, budget: int, most_steps: int
) -> tuple[dict[str, Any], bytes]:
    is_glued = False

    def opened(**options: bool) -> Reader:
        file.seek(0)
        return Reader(file, demuxer, name, is_glued=is_glued, **options)

    with opened() as reader:
        first = next(reader.all(), None)
        if first is None:
            raise InvalidPicture(f"{name} holds no frame that can be decoded: cut off or damaged.", AGAIN)
        original = upright(first[1], reader.aspect).size
        full = fit_size(*original, limits)
        natural = PictureLimits(limits.min_tokens, full[0] * full[1] // PATCH**2)
        promised = reader.duration()
        frame_s, aspect = reader.frame_s, reader.aspect
    if not promised or not reader.has_index or file.seek(0, io.SEEK_END) < _SMALL:
        with opened() as reader:  # some writers say too little of a video with irregular frames
            there, is_glued = reader.until(), reader.is_glued
        promised = there if is_glued else max(promised, there)
    duration = promised
    for _ in range(2):
        found: list[tuple[float, float]] = []
        if wanted.scenes:
            with opened(only_key_frames=duration > WHOLE_S) as reader:
                found = scene_starts((time, _thumbnail(frame)) for time, frame in reader.all())
        plan = sample(max(0.0, duration - frame_s), wanted, natural, budget, found, most_steps)
        size = fit_size(*original, PictureLimits(limits.min_tokens, plan.tokens))
        with opened() as reader:
            taken = [
                (time, upright(frame, aspect).resize(size, Image.Resampling.BICUBIC).tobytes())
                for time, frame in reader.at([time for times in plan.times for time in times])
            ]
        if len(taken) == sum(map(len, plan.times)):
            break
        with opened() as reader:
            duration = min(duration, reader.until())  # less is there than was promised: spread over that
    pairs = _paired(taken, [len(times) for times in plan.times])
    said = {
        "size": size,
        "original_size": original,
        "duration": duration,
        "promised": promised if duration < promised - max(1.0, 0.02 * promised) else duration,
        "times": [[time for time, _ in pair] for pair in pairs],
        "wanted": plan.wanted,
        "shown": sum(map(len, plan.times)),
    }
    return said, b"".join(rgb for pair in pairs for _, rgb in pair)


def _paired(taken: list[tuple[float, bytes]], lengths: list[int]) -> list[list[tuple[float, bytes]]]:
    """The frames by steps. A last one without a partner is by itself, which is as good as twice (the reference)."""
    pairs, start = [], 0
    for length in lengths:
        if pair := taken[start : start + length]:
            pairs.append(pair)
        start += length
    return pairs


if __name__ == "__main__":
    serve_one(_serve)
