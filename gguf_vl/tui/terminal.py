"""How this terminal can show a picture, found out before the app takes it over.

One round trip asks for the terminal's name (XTVERSION), the size of a cell and its attributes (DA1). Every terminal
answers DA1, and answers come in order: when it is there, nothing more comes. Whether the Kitty protocol is spoken is
not asked but told by the name, because WezTerm, Konsole and Warp say yes and yet cannot draw at placeholder
characters, which is the one way that follows the text when it scrolls, is covered or is cut.

Once Textual reads the keys nothing can be asked any more: a late answer would be typed into the prompt.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Protocol = Literal["kitty", "sixel", "halfblock", "none"]
Setting = Literal["auto", "kitty", "sixel", "halfblock", "none"]

USUAL_CELL = (10, 20)
"""Width and height of a character in pixels where the terminal does not say: a VT340's, and Windows Terminal's."""

_LIMIT_S, _LIMIT_OVER_SSH_S = 0.2, 1.0

_QUESTIONS = b"\x1b[>q\x1b[16t\x1b[c"
_NAME = re.compile(rb"\x1bP>\|([^\x1b\x07]*)(?:\x1b\\|\x07)")
_CELL = re.compile(rb"\x1b\[6;(\d+);(\d+)t")
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_UNFINISHED = re.compile(rb"\x1b(?:P[^\x1b]*|\[[\d;?]*)?$")
_SIXEL = b"4"  # in DA1, as DEC numbered it

_WITH_PLACEHOLDERS = ("kitty", "ghostty")
_PLAIN_TERMS = ("linux", "screen", "vt", "ansi", "cygwin")


@dataclass(frozen=True, slots=True)
class Terminal:
    """What was found: how pictures are drawn, a cell's (width, height) in pixels, and the keys typed meanwhile."""

    pictures: Protocol
    cell: tuple[int, int] = USUAL_CELL
    typed: str = ""


def detect(
    setting: Setting = "auto",
    environment: Mapping[str, str] | None = None,
    *,
    reads: int | None = None,
    writes: int | None = None,
) -> Terminal:
    """How pictures are shown here. Call it before the app runs; it never raises for want of a capability.

    `setting` is what the person chose. `reads` and `writes` are file descriptors: standard input and standard error,
    as Textual has it, unless said. Takes a few milliseconds, 0.2 s at most and 1 s over SSH, where answers are slow.
    """
    environment = os.environ if environment is None else environment
    reads = _descriptor(sys.__stdin__) if reads is None else reads
    writes = _descriptor(sys.__stderr__) if writes is None else writes
    if not (_is_terminal(reads) and _is_terminal(writes)):
        return Terminal("none" if setting == "auto" else setting)
    cell = cell_size(writes) or USUAL_CELL
    if setting != "auto":
        return Terminal(setting, cell)
    if known := _known(environment):
        return Terminal(known, cell)
    over_ssh = "SSH_CONNECTION" in environment or "SSH_TTY" in environment
    said = _ask(reads, writes, _LIMIT_OVER_SSH_S if over_ssh else _LIMIT_S)
    return _understood(said, cell_size(writes))


def cell_size(terminal: int | None = None) -> tuple[int, int] | None:
    """Width and height of a character in pixels, as the terminal's window size tells it; None where it does not."""
    if sys.platform == "win32":
        return None
    import fcntl
    import struct
    import termios

    terminal = _descriptor(sys.__stderr__) if terminal is None else terminal
    if terminal < 0:
        return None
    try:
        answer = fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return None
    rows, columns, width, height = struct.unpack("HHHH", answer)
    if not (rows and columns and width >= columns and height >= rows):
        return None
    return width // columns, height // rows


def _descriptor(stream: object) -> int:
    """Of a standard stream; -1 for one that is closed or is no file."""
    try:
        return int(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return -1


def _is_terminal(descriptor: int) -> bool:
    return descriptor >= 0 and os.isatty(descriptor)


def _known(environment: Mapping[str, str]) -> Protocol | None:
    """What the environment alone decides; None where the terminal has to be asked."""
    term = environment.get("TERM", "")
    if sys.platform == "win32":
        return "halfblock"  # its console's answers cannot be read the way they are here
    if term in ("", "dumb", "unknown"):
        return "none"
    if "TMUX" in environment:
        return _under_tmux()
    if "STY" in environment or "ZELLIJ" in environment or term.startswith(_PLAIN_TERMS):
        return "halfblock"
    if term.removeprefix("xterm-") in _WITH_PLACEHOLDERS:
        return "kitty"
    if environment.get("TERM_PROGRAM") == "Apple_Terminal":
        return "halfblock"
    return None


def _under_tmux() -> Protocol:
    """Kitty's protocol where tmux hands it on to a terminal that speaks it; tmux's own sixels leave traces behind."""
    command = ["tmux", "display-message", "-p", "#{allow-passthrough}|#{client_termname}|#{client_termfeatures}"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "halfblock"
    passes, name, features = (*said.strip().split("|"), "", "", "")[:3]
    # A placeholder says by its colour which picture it is: a tmux that rounds colours would show another one.
    all_colors = "RGB" in features.split(",")
    if all_colors and passes in ("1", "on", "all") and name.removeprefix("xterm-") in _WITH_PLACEHOLDERS:
        return "kitty"
    return "halfblock"


def _ask(reads: int, writes: int, limit_s: float) -> bytes:
    """All that came in until DA1 was answered or the time was over; the terminal's mode is as before in any case."""
    if sys.platform == "win32":
        return b""
    import select
    import termios

    if _in_background(reads):
        return b""  # to change the mode would stop this process
    said = b""
    try:
        before = termios.tcgetattr(reads)
        quiet = termios.tcgetattr(reads)
        quiet[3] &= ~(termios.ECHO | termios.ICANON)
        quiet[6][termios.VMIN], quiet[6][termios.VTIME] = 1, 0
        try:
            termios.tcsetattr(reads, termios.TCSANOW, quiet)  # not FLUSH: what is typed ahead stays
            os.write(writes, _QUESTIONS)
            deadline = time.monotonic() + limit_s
            while not _ATTRIBUTES.search(said) and (left := deadline - time.monotonic()) > 0:
                ready, _, _ = select.select([reads], [], [], left)
                piece = os.read(reads, 4096) if ready else b""
                if not piece:
                    break
                said += piece
        finally:
            termios.tcsetattr(reads, termios.TCSANOW, before)
    except (OSError, termios.error):
        pass  # the terminal is gone or is a strange one; what it said counts
    return said


def _in_background(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:
        return False  # not the terminal that controls this process


def _understood(said: bytes, cell: tuple[int, int] | None) -> Terminal:
    name, size, attributes = _NAME.search(said), _CELL.search(said), _ATTRIBUTES.search(said)
    pictures: Protocol = "halfblock"
    if name and name[1].lower().startswith(tuple(known.encode() for known in _WITH_PLACEHOLDERS)):
        pictures = "kitty"
    elif attributes and _SIXEL in attributes[1].split(b";"):
        pictures = "sixel"
    if cell is None and size and int(size[1]) and int(size[2]):
        cell = int(size[2]), int(size[1])
    typed = said
    for answer in (_NAME, _CELL, _ATTRIBUTES, _UNFINISHED):
        typed = answer.sub(b"", typed)
    return Terminal(pictures, cell or USUAL_CELL, typed.decode(errors="ignore"))
