"""A video file that is read by FFmpeg, in PyAV: which of its frames is seen when, without decoding more than that
takes. Only in a process of its own, for the file may be hostile: see `frames`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.sources import on_one_line

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

MAX_PIXELS = 40_000_000
"""Pixels of a frame: 8K passes. A frame takes 3 bytes a pixel, and its decoder keeps up to 16 of half that."""

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

_ANEW_S = 1.0
_LEAP_S = 3600.0
"""Another recording begins where times go back by more than the first, or ahead by more than the second: FFmpeg takes
one that begins a minute before the file's first for what comes a day later (`pts_wrap_bits`).
"""

AGAIN = "Download or copy it again, or save it as MP4 from another program."
"""What to do about a file that is damaged."""

_BROKEN_PACKETS = 1000


class Reader:
    """A video file that is open at its first frame. Times are seconds from that; of recordings that were glued behind
    each other they go on. One whose times are known to begin anew (`is_glued`) is not searched, but read on.

    Raises InvalidPicture, speaking of `name`, for what is no video or has no pictures.
    """

    def __init__(
        self, file: IO[bytes], demuxer: str, name: str, *, only_key_frames: bool = False, is_glued: bool = False
    ) -> None:
        import av
        import av.error

        self._errors = (av.error.FFmpegError, ValueError, EOFError)
        self.name = name
        self.is_glued = is_glued
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
        self.has_index = demuxer in _INDEXED
        self._back = 0 if self.has_index else 1
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
        """Seconds until the end of the last packet that is there, and whether the file is glued is known. None is
        decoded; the reader is at the end then.
        """
        end = 0
        with suppress(*self._errors):
            for packet in self._packets():
                if packet.pts is not None and packet.size and not packet.is_corrupt:
                    end = max(end, self._end(packet) - self._start)
        return end * self._tick

    def _packets(self) -> Iterator[Packet[Any]]:
        """The packets from here on. Where times begin anew they are shifted to the end of what came before."""
        last: int | None = None
        end = shift = 0
        for packet in self._container.demux(self._stream):
            if packet.pts is not None and packet.dts is not None and not self.has_index:
                if last is not None and not -_ANEW_S < (packet.dts + shift - last) * self._tick < _LEAP_S:
                    shift = end - packet.pts
                    self.is_glued = True
                packet.pts += shift
                packet.dts += shift
                last, end = packet.dts, max(end, self._end(packet))
            yield packet

    def _end(self, packet: Packet[Any]) -> int:
        """Ticks until which a packet is seen; MPEG's do not say for how long they are."""
        return (packet.pts or 0) + (packet.duration or round(self.frame_s / self._tick))

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
        packets = self._packets()
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
        if time <= here or self.is_glued:
            return False
        wanted = int(time / self._tick) + self._start
        entries = self._stream.index_entries
        # one that ends before may be an index of what was read so far
        if self.has_index and len(entries) and entries[-1].timestamp >= wanted:
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
            f"{self.name} starts like a video but cannot be read: cut off or damaged ({reason}).", AGAIN
        ) from error


def _is_cover(stream: Any) -> bool:
    """Whether a stream is the picture of a song, which FFmpeg calls a video too."""
    from av.stream import Disposition

    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))
