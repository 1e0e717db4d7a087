"""The trace of eight requests is a picture with all four colours in every place where they belong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageColor

SCRIPT = Path(__file__).parents[1] / "scripts" / "trace_engine.py"


def test_eight_requests_are_drawn_from_their_events(tmp_path: Path) -> None:
    out = tmp_path / "trace.png"
    ran = subprocess.run([sys.executable, SCRIPT, out, "--threads", "1"], capture_output=True, text=True, check=True)
    rows = json.loads(ran.stdout)
    assert len(rows) == 8
    assert all(row["ttft_s"] > 0 for row in rows)
    with Image.open(out) as image:
        seen = {colour for _, colour in image.getcolors(maxcolors=1 << 20) or ()}
    assert {ImageColor.getrgb(colour) for colour in ("#c9c9c9", "#f0a030", "#5b8def", "#8fd19e")} <= seen
