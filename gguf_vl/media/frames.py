"""The child of `video`: FFmpeg, in PyAV, reads a file that may be hostile. Run as `python -m gguf_vl.media.frames`."""

from __future__ import annotations

import io
import math
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self

from PIL import Image

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.apart import bound_memory, serve_one
from gguf_vl.media.resize import fit_size
from gguf_vl.media.scenes import scene_starts
from gguf_vl.media.sources import on_one_line
from gguf_vl.media.video import Frames, sample
from gguf_vl.types import PATCH, PictureLimits

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame

MAX_PIXELS = 40_000_000
"""Pixels of a frame: 8K passes. A frame takes 3 bytes a pixel, and its decoder keeps up to 16 of half that."""

WHOLE_S = 300.0
"""Of a longer video only the key frames are looked at for changes of scene: decoding all would take minutes."""

_SMALL = 64 * 2**20
"""Bytes of a file whose packets are all looked at to learn how long it is, whatever it says."""

_FAR_S = 4.0
"""In a file without an index it is searched, not read on, when the next frame is farther away, and twice as far as key
frames are from each other.
"""

_BACK_S = (0.0, 2.0, 6.0, 20.0, 60.0, 200.0, math.inf)
"""How far before a time a key frame is looked for that is not after it, where no index says: up to the file's begin."""

_INDEXED = ("mov", "matroska", "avi", "flv")
"""Containers that tell where their key frames are. Of others FFmpeg keeps as an index where it happened to look, and
calls key frames what are none.
"""

_LATE_S = 0.002
"""A frame that comes so little after a time is the one that is seen then: containers round to milliseconds."""

_AGAIN = "Download or copy it again, or save it as MP4 from another program."
_BROKEN_PACKETS = 1000
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


class Reader:
    """A video file that is open at its first frame. Times are seconds from that.

    Raises InvalidPicture, speaking of `name`, for what is no video or has no pictures.
    """

    def __init__(self, file: IO[bytes], demuxer: str, name: str, *, only_key_frames: bool = False) -> None:
        import av
        import av.error

        self._errors = (av.error.FFmpegError, ValueError, EOFError)
        self.name = name
        av.logging.set_level(av.logging.PANIC)
        try:
            # a demuxer by name, and no other file: a playlist in disguise could name any file or address
            self._container: Any = av.open(
                file, format=demuxer, options={"protocol_whitelist": "none"}, metadata_errors="replace"
            )
        except self._errors as error:
            self._refuse(error)
        streams = [each for each in self._container.streams.video if not _is_cover(each)]
        if not streams:
            raise InvalidPicture(f"{name} has sound and no pictures.", "Give a video, or a picture.")
        self._stream = max(streams, key=lambda each: each.width * each.height)
        if not self._stream.width:  # FFmpeg takes no size that cannot be
            self._refuse(ValueError("its frames have no size"))
        if self._stream.width * self._stream.height > MAX_PIXELS:
            raise self._too_large()
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = 4
        if only_key_frames:
            self._stream.codec_context.skip_frame = "NONKEY"
        self._tick = float(self._stream.time_base or 0) or 1e-3
        self._start = self._stream.start_time or 0
        self._next: VideoFrame | None = None
        self._ahead = self._decoded()
        self._ends_at = 0.0
        self._has_index = demuxer in _INDEXED
        self._back = 0 if self._has_index else 1
        """Of `_BACK_S`, how far back was far enough."""

    @property
    def frame_s(self) -> float:
        """Seconds that a frame is usually seen; no more than a tenth, since an irregular file's mean says little."""
        rate = self._stream.average_rate
        return min(0.1, float(1 / rate)) if rate else 0.04

    @property
    def aspect(self) -> float:
        """How much wider than high a pixel is."""
        found = float(self._stream.sample_aspect_ratio or 1)
        return found if 0.1 < found < 10 else 1.0

    def duration(self) -> float:
        """Seconds that the file promises, 0 where it says nothing."""
        told = float((self._stream.duration or 0) * self._tick)
        if self._container.duration:  # a stream's own may be too small, where its frames are irregular
            begins = (self._container.start_time or 0) / 1e6
            late = max(0.0, self._start * self._tick - begins)
            told = max(told, self._container.duration / 1e6 - late)
        return told

    def until(self) -> float:
        """Seconds until the end of the last packet that is there. None is decoded; the reader is at the end then."""
        end = 0
        with suppress(*self._errors):
            for packet in self._container.demux(self._stream):
                if packet.pts is not None and packet.size and not packet.is_corrupt:
                    end = max(end, packet.pts + (packet.duration or 0) - self._start)
        return end * self._tick

    def at(self, times: Iterable[float]) -> Iterator[tuple[float, VideoFrame]]:
        """For each of the ascending times the frame that is seen then, and when it is: then, or the first moment at
        which there is one. Ends where the file does.
        """
        shown: VideoFrame | None = None
        for time in times:
            if self._search(time, shown):
                shown = None
            while (coming := self._peek()) is not None and (shown is None or self._time(coming) <= time + _LATE_S):
                shown, self._next = coming, None
            if shown is None or (coming is None and time > self._ends_at + _LATE_S):
                return
            yield max(time, self._time(shown)), shown

    def all(self) -> Iterator[tuple[float, VideoFrame]]:
        """Every frame with its time."""
        while (frame := self._peek()) is not None:
            self._next = None
            yield self._time(frame), frame

    def _peek(self) -> VideoFrame | None:
        if self._next is None:
            self._next = next(self._ahead, None)
        return self._next

    def _time(self, frame: VideoFrame) -> float:
        return float(((frame.pts or 0) - self._start) * self._tick)

    def _decoded(self) -> Iterator[VideoFrame]:
        """The frames from here on. Broken packets are passed over; a file that is cut off ends there."""
        broken = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                return
            except MemoryError as error:
                raise InvalidPicture(
                    f"There is not enough memory to decode {self.name}.", "Save it smaller."
                ) from error
            except self._errors:
                broken += 1
                if broken > _BROKEN_PACKETS:
                    return
                continue
            for frame in frames:
                if frame.pts is None:
                    continue
                if frame.width * frame.height > MAX_PIXELS:
                    raise self._too_large()
                if not frame.is_corrupt:
                    # without a length of its own the last frame may be seen for any time
                    length = frame.duration * self._tick if frame.duration else math.inf
                    self._ends_at = self._time(frame) + length
                    yield frame

    def _search(self, time: float, shown: VideoFrame | None) -> bool:
        """Go to the last key frame before a time where that spares decoding; whether it did."""
        here = 0.0 if shown is None else self._time(shown)
        if time <= here:
            return False
        wanted = int(time / self._tick) + self._start
        entries = self._stream.index_entries
        # one that ends before may be an index of what was read so far
        if self._has_index and len(entries) and entries[-1].timestamp >= wanted:
            place = entries.search_timestamp(wanted, backward=True)
            if place < 0 or (entries[place].timestamp - self._start) * self._tick <= here + _LATE_S:
                return False
        elif time - here < max(_FAR_S, 2 * _BACK_S[self._back]):
            return False
        for back in range(self._back, len(_BACK_S)):
            # well before the begin, since containers search by the time of decoding, and that is the earlier one
            target = self._start + round(max(-_FAR_S, time - _BACK_S[back]) / self._tick)
            try:
                self._container.seek(target, stream=self._stream, backward=True)
            except self._errors:
                continue
            self._next, self._ahead = None, self._decoded()
            if (found := self._peek()) is not None and self._time(found) <= time + _LATE_S:
                self._back = back
                break
        return True

    def close(self) -> None:
        """Let go of the file, and of the decoder's threads, which a process could else wait for at its end."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _too_large(self) -> InvalidPicture:
        return InvalidPicture(
            f"{self.name} has frames of more than {MAX_PIXELS / 1e6:g} megapixels.", "Save the video smaller."
        )

    def _refuse(self, error: Exception) -> NoReturn:
        reason = on_one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        raise InvalidPicture(
            f"{self.name} starts like a video but cannot be read: cut off or damaged ({reason}).", _AGAIN
        ) from error


def _is_cover(stream: Any) -> bool:
    """Whether a stream is the picture of a song, which FFmpeg calls a video too."""
    from av.stream import Disposition

    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


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
    def opened(**options: bool) -> Reader:
        file.seek(0)
        return Reader(file, demuxer, name, **options)

    with opened() as reader:
        first = next(reader.all(), None)
        if first is None:
            raise InvalidPicture(f"{name} holds no frame that can be decoded: cut off or damaged.", _AGAIN)
        original = upright(first[1], reader.aspect).size
        full = fit_size(*original, limits)
        natural = PictureLimits(limits.min_tokens, full[0] * full[1] // PATCH**2)
        promised = reader.duration()
        frame_s, aspect = reader.frame_s, reader.aspect
    if not promised or file.seek(0, io.SEEK_END) < _SMALL:
        with opened() as reader:  # some writers say too little of a video with irregular frames
            promised = max(promised, reader.until())
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
