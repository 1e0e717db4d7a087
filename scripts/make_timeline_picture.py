"""Writes docs/pictures/video: a drawn clip, and its frames above what pocket says happens in it, from when to when.

.venv/bin/python scripts/make_timeline_picture.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures" / "video"
sys.path.insert(0, str(ROOT))

from tests.media.clips import clip, moving  # noqa: E402

EVERY_S = 0.5
"""As `ask` takes frames by default."""
FRAME, GAP, ROW, MARGIN = 96, 6, 30, 18
INK, GREY = (30, 30, 36), (120, 120, 130)
COLOURS = [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (204, 121, 167)]
"""Okabe and Ito's, which the colour-blind tell apart."""


def main() -> None:
    """Draw the clip, ask pocket, draw what it says."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    film = PICTURES / "moves.mp4"
    clip(film, moving(), options={"crf": "20"})
    words = ["ask", "-m", "pocket", "--task", "timeline", str(film)]
    done = subprocess.run([sys.executable, "-P", "-m", "gguf_vl", *words], check=True, capture_output=True, text=True)
    print(done.stdout)
    _draw(json.loads(done.stdout)).save(PICTURES / "timeline.png", optimize=True)


def _draw(events: list[dict[str, Any]]) -> Image.Image:
    """The frames in a row, each at its time, and under them a bar for each event."""
    shown = [(time, picture) for time, picture in moving() if abs(time / EVERY_S - round(time / EVERY_S)) < 1e-6]
    step = FRAME + GAP
    top = MARGIN + FRAME + 30
    picture = Image.new("RGB", (2 * MARGIN + step * len(shown), top + ROW * len(events) + MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(15)
    for place, (time, frame) in enumerate(shown):
        x = MARGIN + place * step
        picture.paste(frame.resize((FRAME, FRAME), Image.Resampling.LANCZOS), (x, MARGIN))
        draw.rectangle((x, MARGIN, x + FRAME, MARGIN + FRAME), outline=GREY)
        draw.text((x, MARGIN + FRAME + 6), f"{time:.1f} s", fill=GREY, font=font)
    for row, event in enumerate(events):
        start, end = (MARGIN + each / EVERY_S * step for each in (event["start"], event["end"]))
        y = top + row * ROW
        draw.rectangle((start, y + 3, end - GAP, y + ROW - 5), fill=COLOURS[row % len(COLOURS)])
        said = event["event"]
        width = draw.textlength(said, font=font)
        beside = end + 2 if end + 2 + width < picture.width else start - width - 8
        draw.text((beside, y + 5), said, fill=INK, font=font)
    return picture


if __name__ == "__main__":
    main()
