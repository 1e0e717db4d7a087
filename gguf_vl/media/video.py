"""Videos: which of their frames are shown, and these frames in pairs, each with the time at which it is seen.

Qwen3-VL looks at two frames of a video at once: its vision tower makes them one step of time, of as many tokens as one
picture. Before each step its processor writes the mean of the two times, `<3.0 seconds>` (transformers,
`Qwen3VLProcessor._calculate_timestamps`). The frames are taken here as there: two a second, or as many as fit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.apart import in_child
from gguf_vl.media.choice import EVERY_S
from gguf_vl.media.choice import Frames as Frames
from gguf_vl.media.formats import video_in
from gguf_vl.media.pictures import MAX_BYTES, digest_of
from gguf_vl.media.sources import on_one_line
from gguf_vl.types import Picture, PictureLimits

LEAST_FRAMES, MOST_FRAMES = 4, 768
"""Of what is taken where nothing else is asked for (the reference's `min_frames`, `max_frames`)."""

STEP_TOKENS = PictureLimits(128, 768)
"""Image tokens of one step of time (qwen-vl-utils' VIDEO_MIN_TOKEN_NUM and VIDEO_MAX_TOKEN_NUM)."""

MOST_TOKENS = 24_576
"""Of one video, whatever the context holds. Its pixels are some 150 MiB then."""

CAPTION_TOKENS = 16
"""Tokens that a step takes besides its own: "<1234.5 seconds>" and the two around a picture."""

TIMEOUT_S = 600.0
"""Seconds that reading a video may take."""

_THIS = "gguf_vl.media.frames"


@dataclass(frozen=True, slots=True)
class Sampled:
    """When frames are taken, and how large. `times` are seconds, of two frames or one for each step of time; `tokens`
    the most image tokens of a step. So many frames were `wanted`.
    """

    times: tuple[tuple[float, ...], ...]
    tokens: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a video's time: a picture of one frame or of two, and when they are seen, in seconds."""

    times: tuple[float, ...]
    picture: Picture = field(repr=False)

    @property
    def time(self) -> float:
        """The mean of its frames' times, as the reference's processor takes it."""
        return sum(self.times) / len(self.times)

    @property
    def caption(self) -> str:
        """What stands before the picture."""
        return f"<{self.time:.1f} seconds>"


@dataclass(frozen=True, slots=True)
class Clip:
    """A video as the model sees it. `duration` is seconds; `note` says in a line what was left out, if anything."""

    name: str
    duration: float
    steps: tuple[Step, ...]
    note: str = ""


def is_video(path: Path) -> bool:
    """Whether a file is a video by its first bytes; false for what cannot be read, or is no plain file."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return video_in(file.read(1024)) is not None
    except (OSError, ValueError):
        return False


def load_clip(
    source: Path | bytes,
    limits: PictureLimits,
    budget: int,
    frames: Frames | None = None,
    *,
    name: str = "The video",
    most_steps: int = MOST_FRAMES,
    timeout_s: float | None = None,
) -> Clip:
    """The frames of the video in a file, or in its bytes, which a message calls `name`; its steps take `budget` tokens
    at most, captions included, but for a single one; there are `most_steps` at most. Reading may take `timeout_s`
    seconds, else `TIMEOUT_S`.

    Frames come upright and in the shape in which they are shown, by their own timestamps. The file is read in a
    process of its own, and never as a whole where it can be searched. Raises InvalidPicture for what is no video, is
    damaged, holds sound alone, or cannot be read since PyAV is not installed.
    """
    wanted = frames or Frames()
    if isinstance(source, bytes):
        head, data, path = source[:1024], source, None
        if len(data) > MAX_BYTES:
            raise InvalidPicture(f"{name} is larger than {MAX_BYTES >> 20} MiB.", "Give the file's name.")
    else:
        data, path, name = b"", os.fspath(source.absolute()), on_one_line(os.fspath(source))
        with source.open("rb") as file:
            head = file.read(1024)
    demuxer = video_in(head)
    if demuxer is None:
        raise InvalidPicture(f"{name} is no video in a format that is read here.", "Save it as MP4, WebM or MOV.")
    job = [
        name,
        path,
        demuxer,
        wanted.every,
        wanted.number,
        wanted.scenes,
        wanted.alone,
        limits.min_tokens,
        limits.max_tokens,
        budget,
        most_steps,
    ]
    instead = "give fewer seconds of it, or fewer --frames"
    said, rgb = in_child(_THIS, job, data, "video", name, timeout_s=timeout_s or TIMEOUT_S, instead=instead)
    size, original = (int(said["size"][0]), int(said["size"][1])), tuple(said["original_size"])
    steps, start = [], 0
    for times in said["times"]:
        end = start + 3 * size[0] * size[1] * len(times)
        pixels = rgb[start:end]
        steps.append(Step(tuple(times), Picture(pixels, *size, original, digest_of(size, pixels), len(times))))
        start = end
    return Clip(name, float(said["duration"]), tuple(steps), _note(name, said, wanted))


def sample(
    last: float,
    wanted: Frames,
    limits: PictureLimits,
    budget: int,
    scenes: Sequence[tuple[float, float]] = (),
    most_steps: int = MOST_FRAMES,
) -> Sampled:
    """When frames are taken of a video whose last is seen at `last` seconds, and how large they are.

    `limits` are the image tokens of a frame, the most being what one has in full size. Where the frames do not fit
    `budget` tokens in all, they get smaller, down to `STEP_TOKENS`; then there are fewer, as far apart from each other,
    and so where they would make more than `most_steps`.
    Of `scenes`, (seconds, how great the change is), those of the greatest change are kept, and the first.
    """
    most = max(limits.min_tokens, min(limits.max_tokens, STEP_TOKENS.max_tokens))
    floor = max(limits.min_tokens, min(most, STEP_TOKENS.min_tokens))
    budget = min(budget, MOST_TOKENS)
    room = max(1, min(most_steps, budget // (floor + CAPTION_TOKENS)))
    if wanted.scenes:
        kept = sorted(scenes[1:], key=lambda scene: -scene[1])[: room - 1]
        pairs = [(time,) for time in sorted({scenes[0][0], *(time for time, _ in kept)})]
        n_wanted = len(scenes)
        steps: list[tuple[float, ...]] = [*pairs]
    else:
        times = _times(last, wanted)
        n_wanted = len(times)
        of_step = 1 if wanted.alone else 2
        if -(-n_wanted // of_step) > room:
            times = _evenly(last, of_step * room)
        steps = [tuple(times[at : at + of_step]) for at in range(0, len(times), of_step)]
    tokens = max(floor, min(most, budget // len(steps) - CAPTION_TOKENS))
    return Sampled(tuple(steps), tokens, n_wanted)


def _times(last: float, wanted: Frames) -> list[float]:
    if wanted.number is not None:
        return _evenly(last, wanted.number)
    every = wanted.every or EVERY_S
    number = int(last / every + 1e-6) + 1
    if wanted.every is None and not LEAST_FRAMES <= number <= MOST_FRAMES:
        return _evenly(last, min(max(number, LEAST_FRAMES), MOST_FRAMES))
    if number > 100_000:
        return _evenly(last, 100_000)
    return [index * every for index in range(number)]


def _evenly(last: float, number: int) -> list[float]:
    """So many times from 0 to `last`, as the reference spreads them; of a single frame the first."""
    if last <= 0 or number == 1:
        return [0.0]
    return [last * index / (number - 1) for index in range(number)]


def _note(name: str, said: dict[str, float], wanted: Frames) -> str:
    """One line for the person: what the file lacks, and which frames had no room."""
    notes = []
    name = os.path.basename(name)
    shown, asked, duration = int(said["shown"]), int(said["wanted"]), said["duration"]
    if said["promised"] > duration:
        notes.append(f"it ends after {duration:.1f} of the {said['promised']:.1f} seconds that it promises")
    if shown < asked and wanted.scenes:
        notes.append(f"{shown} of {asked} scenes fit the context")
    elif shown < asked:
        fit = "are looked at" if wanted.alone else "fit the context"
        notes.append(f"{shown} of {asked} frames {fit}, one every {duration / shown:.2g} seconds")
    return f"{name}: {'; '.join(notes)}." if notes else ""
