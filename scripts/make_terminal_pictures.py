"""Draw the pictures of the terminal UI that the documents show: a session with `pocket`, screen by screen.

    .venv/bin/python scripts/make_terminal_pictures.py

writes docs/pictures/terminal.png and terminal-session.png. Needs chromium, which draws Textual's SVG.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.tui.talking import Stage

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
PICTURES = ROOT / "docs" / "pictures"
SIZE = (92, 30)
TITLES = (
    "drop a picture",
    "ask",
    "see where it is",
    "stop an answer",
    "answer again: a branch",
    "search everything",
    "look at a picture large",
    "switch the model",
)


def drawn(svg: str, folder: Path, name: str) -> Path:
    """A screen as PNG."""
    source, target = folder / f"{name}.svg", folder / f"{name}.png"
    source.write_text(svg, encoding="utf-8")
    window = f"--window-size={round(SIZE[0] * 12.2) + 40},{round(SIZE[1] * 24.4) + 90}"
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
    subprocess.run(["chromium", *quiet, window, f"--screenshot={target}", str(source)], check=True, capture_output=True)
    return target


def sheet(screens: list[Path], target: Path) -> None:
    """All of them, two in a row, with what is done in each above it."""
    from PIL import Image, ImageDraw, ImageFont

    pictures = [Image.open(each).convert("RGB") for each in screens]
    width, height = (side // 2 for side in pictures[0].size)
    margin, line = 16, 34
    rows = -(-len(pictures) // 2)
    whole = Image.new("RGB", (2 * width + 3 * margin, rows * (height + line + margin) + margin), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(20)
    for n, picture in enumerate(pictures):
        x, y = margin + n % 2 * (width + margin), margin + n // 2 * (height + line + margin)
        pen.text((x, y), f"{n + 1}  {TITLES[n]}", fill="black", font=font)
        whole.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (x, y + line))
    whole.quantize(256).save(target, optimize=True)


async def stop(stage: Stage) -> None:
    """Stop an answer in its middle: `pocket` is quick, so its worker is held while the key is pressed."""
    import psutil

    assert stage.app.model.made
    worker = psutil.Process(stage.app.model.made.engine.connection.pid)
    n_turns = len(stage.turns)

    async def hold() -> None:
        while len(stage.turns) < n_turns + 2 or not stage.turns[-1].text:
            await asyncio.sleep(0)
        worker.suspend()

    holding = asyncio.create_task(hold())
    await stage.ask("Hello!")
    await holding
    await stage.pilot.press("escape")
    await stage.idle()
    worker.resume()
    assert stage.turns[-1].state == "stopped"


async def session(folder: Path) -> list[Path]:
    """What a person does, and what they see."""
    from tests.tui.talking import SHAPES, talking

    shown: list[Path] = []
    async with talking(size=SIZE) as stage:

        async def show() -> None:
            await stage.pilot.pause(0.5)
            shown.append(drawn(stage.app.export_screenshot(), folder, f"{len(shown)}"))

        await stage.until(lambda: stage.app.model.state == "ready" and stage.app.chat.recommended)
        await stage.attach(SHAPES)
        await stage.until(lambda: "encoded" in stage.text())
        await stage.type("What colour is the circle?")
        await show()
        await stage.pilot.press("enter")
        await stage.until(lambda: len(stage.turns) == 2)
        await stage.idle()
        await show()
        await stage.answer_to("Locate the star.")
        await show()
        await stop(stage)
        await show()
        await stage.pilot.press("up", "r")
        await stage.until(lambda: stage.turns[-1].of == 2)
        await stage.idle()
        await stage.pilot.press("up")
        await show()
        await stage.pilot.press("ctrl+s")
        await stage.until(lambda: stage.app.screen is not stage.app.chat)
        await stage.type("circle")
        await show()
        await stage.pilot.press("escape", "escape")
        await stage.until(lambda: stage.app.screen is stage.app.chat)
        stage.views[3].focus()
        await stage.pilot.press("o")
        await stage.until(lambda: stage.app.screen is not stage.app.chat)
        await show()
        await stage.pilot.press("escape")
        await stage.until(lambda: stage.app.screen is stage.app.chat)
        await stage.pilot.press("ctrl+l")
        await stage.until(lambda: "2b" in stage.text())
        await show()
    return shown


def main() -> None:
    """Draw them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["GGUF_VL_HOME"] = str(folder / "home")
        screens = asyncio.run(session(folder))
        shutil.copy(screens[2], PICTURES / "terminal.png")
        sheet(screens, PICTURES / "terminal-session.png")


if __name__ == "__main__":
    main()
