"""Videos in a chat: brought in by their files, and seen as a strip of some frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gguf_vl.chat.history import History
from gguf_vl.chat.turns import Attachment
from gguf_vl.errors import InvalidPicture, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 512 * 2**20
"""Of a video that a chat keeps a copy of."""

FRAMES = 4
"""Of a strip."""

_GAP = 8
"""Pixels between two frames."""

_STRIP_TOKENS = 100
"""Of a frame in a strip: some 300 × 300 pixels."""


def attach_video(history: History, chat_id: int, file: Path) -> Attachment:
    """A copy of a video in the draft of a chat. Blocking. Raises `UsageError` for one that is too large to be kept, and
    what `load_clip` raises, also where PyAV is not there: nothing is attached then.
    """
    from gguf_vl.media.video import Frames, load_clip
    from gguf_vl.store.disk import telling
    from gguf_vl.types import PictureLimits

    with telling(file, "read"):
        n_bytes = file.stat().st_size
    if n_bytes > MOST_BYTES:
        raise UsageError(
            f"{file.name} has {n_bytes >> 20:,} MiB, and a chat keeps videos of {MOST_BYTES >> 20} MiB at most.",
            f'Ask about it where it is: gguf-vl ask {file.name} "What happens?"',
        )
    clip = load_clip(file, PictureLimits(1, 1), 1, Frames(number=1), name=file.name)
    size = clip.steps[0].picture.original_size
    return history.attach_video(chat_id, file, size, clip.duration)


def strip(path: Path, number: int = FRAMES) -> Image:
    """So many frames of a video, evenly spread, beside each other; of one the middle. Raises InvalidPicture."""
    from PIL import Image

    from gguf_vl.media.video import Frames, load_clip
    from gguf_vl.types import PictureLimits

    if not path.is_file():
        raise InvalidPicture("The video's file is not there any more.", "Attach it again.")
    limits = PictureLimits(1, _STRIP_TOKENS)
    clip = load_clip(path, limits, 1000 * FRAMES, Frames(number=3 if number == 1 else number, alone=True))
    pictures = [step.picture for step in clip.steps]
    if number == 1:
        pictures = [pictures[len(pictures) // 2]]
    width = sum(each.width for each in pictures) + _GAP * (len(pictures) - 1)
    joined = Image.new("RGB", (width, pictures[0].height), "grey")
    across = 0
    for each in pictures:
        joined.paste(Image.frombytes("RGB", (each.width, each.height), each.rgb), (across, 0))
        across += each.width + _GAP
    return joined
