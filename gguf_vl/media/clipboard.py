"""The clipboard of the system that this program runs on: pictures and files from it, text to it.

Each system's own programs are asked, so that nothing here needs a window, and each has a time limit: xclip waits for
ever on a program that owns the clipboard and does not answer.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gguf_vl.errors import NothingOnClipboard
from gguf_vl.media.dropped import path_of_uri, path_on_drive

TIMEOUT_S = 10.0
"""Seconds that one program may take; PowerShell's first start takes several."""

_PICTURES = ("image/png", "image/jpeg", "image/webp", "image/tiff", "image/bmp", "image/gif", "image/avif")
"""The types read here, those first that lose nothing and that every program writes well."""

_MAC_CONTENT = (
    'ObjC.import("AppKit"); const board = $.NSPasteboard.generalPasteboard;'
    "JSON.stringify({types: ObjC.deepUnwrap(board.types) || [],"
    ' files: ObjC.deepUnwrap(board.propertyListForType("NSFilenamesPboardType")) || []})'
)
"""JavaScript for osascript. The old type is the one that names every file that was copied in Finder."""
_MAC_PICTURE = "get the clipboard as «class PNGf»"

_WINDOWS_CONTENT = """
Add-Type -AssemblyName System.Windows.Forms, System.Drawing
[Console]::OutputEncoding = [Text.Encoding]::UTF8
$board = [Windows.Forms.Clipboard]
$files = @($board::GetFileDropList())
$picture = if (-not $files) { $board::GetImage() }
$png = if ($picture) {
    $memory = New-Object IO.MemoryStream
    $picture.Save($memory, [Drawing.Imaging.ImageFormat]::Png)
    [Convert]::ToBase64String($memory.ToArray())
}
@{files = $files; png = $png; text = $board::ContainsText()} | ConvertTo-Json -Compress
"""
_WINDOWS_COPY = (
    "[Console]::InputEncoding = New-Object Text.UTF8Encoding; Set-Clipboard -Value ([Console]::In.ReadToEnd())"
)
_POWERSHELL = ("powershell.exe", "-NoProfile", "-NonInteractive", "-Sta", "-Command")

_NO_DISPLAY = re.compile(rb"open display|connect to a Wayland", re.IGNORECASE)
_EMPTY = ("There is no picture on the clipboard.", "Copy a picture or a file, or take a screenshot to the clipboard.")
_ONLY_TEXT = ("There is only text on the clipboard, and no picture.", "Paste text with the terminal's own key.")


def grab() -> bytes | tuple[Path, ...]:
    """What is on the clipboard: the files that were copied, else a picture's bytes, PNG wherever that is offered.

    Blocking, as long as `TIMEOUT_S` for each of two programs. Raises `NothingOnClipboard` when there is neither, and
    when the clipboard cannot be read from here, which over SSH it cannot but through a forwarded display.
    """
    if _is_far_away():
        raise NothingOnClipboard(
            "This program runs over SSH, and your clipboard is on the machine before you.",
            "Copy the picture over with scp and give its path, or connect with ssh -Y and have xclip here.",
        )
    if sys.platform == "darwin":
        return _of_macos()
    if sys.platform == "win32" or _has_powershell():
        return _of_windows()
    return _of_display()


def copy(text: str) -> bool:
    """Put text on the clipboard. False where no program here can; a terminal may still take it by OSC 52."""
    if _is_far_away():
        return False
    return any(
        shutil.which(command[0]) and _tell(command, text.encode(encoding, "replace"))
        for command, encoding in _copiers()
    )


def _is_far_away() -> bool:
    """Whether the person sits at another machine, and no display of it is reached from here."""
    return bool(os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY")) and not _display()


def _display() -> str | None:
    """Which of Linux's displays there is: wayland, x11 or none."""
    if os.environ.get("WAYLAND_DISPLAY"):
        return "wayland"
    return "x11" if os.environ.get("DISPLAY") else None


def _has_powershell() -> bool:
    """Whether this is Linux inside Windows, where Windows' clipboard is the person's."""
    return bool(os.environ.get("WSL_DISTRO_NAME")) and bool(shutil.which("powershell.exe"))


def _copiers() -> Sequence[tuple[Sequence[str], str]]:
    """Programs that take text on stdin, best first, and the encoding that each wants.

    clip.exe comes last: it guesses the encoding, and keeps a byte order mark as part of the text.
    """
    if sys.platform == "darwin":
        return [(["pbcopy"], "utf-8")]
    windows = [((*_POWERSHELL, _WINDOWS_COPY), "utf-8"), (("clip.exe",), "utf-16-le")]
    if sys.platform == "win32" or _has_powershell():
        return windows
    x11 = [(("xclip", "-selection", "clipboard", "-in"), "utf-8"), (("xsel", "--clipboard", "--input"), "utf-8")]
    wayland = [(("wl-copy", "--type", "text/plain;charset=utf-8"), "utf-8")]
    match _display():
        case "wayland":
            return [*wayland, *x11] if os.environ.get("DISPLAY") else wayland
        case "x11":
            return x11
        case _:
            return []


def _of_macos() -> bytes | tuple[Path, ...]:
    content = json.loads(_ask(["osascript", "-l", "JavaScript", "-e", _MAC_CONTENT]) or b"{}")
    if files := content.get("files"):
        return tuple(map(Path, files))
    types = content.get("types", [])
    if any(_is_mac_picture(each) for each in types):
        # «data PNGf89504E47…»
        hexadecimal = _ask(["osascript", "-e", _MAC_PICTURE]).decode(errors="replace").strip()
        if hexadecimal.startswith("«data PNGf"):
            return bytes.fromhex(hexadecimal.removeprefix("«data PNGf").removesuffix("»"))
    raise _neither(any("text" in each.lower() for each in types))


def _is_mac_picture(uniform_type: str) -> bool:
    return uniform_type in ("public.png", "public.tiff", "public.jpeg", "public.heic", "com.compuserve.gif")


def _of_windows() -> bytes | tuple[Path, ...]:
    content = json.loads(_ask([*_POWERSHELL, _WINDOWS_CONTENT]) or b"{}")
    if files := content.get("files"):
        return tuple(path_on_drive(each) or Path(each) for each in files)
    if png := content.get("png"):
        return base64.b64decode(png)
    raise _neither(content.get("text", False))


def _of_display() -> bytes | tuple[Path, ...]:
    """Wayland's and X11's clipboards, which offer one content in several types."""
    display = _display()
    if display is None:
        raise NothingOnClipboard(
            "There is no clipboard here: neither WAYLAND_DISPLAY nor DISPLAY is set.",
            "Give the picture by its path, or drop the file on the terminal.",
        )
    program, package = ("wl-paste", "wl-clipboard") if display == "wayland" else ("xclip", "xclip")
    if not shutil.which(program):
        raise NothingOnClipboard(
            f"Reading the clipboard needs {program}, which is not installed.",
            f"Install the package {package}, or drop the file on the terminal.",
        )
    if display == "wayland":
        types = _ask(["wl-paste", "--list-types"])
    else:
        types = _ask(["xclip", "-selection", "clipboard", "-target", "TARGETS", "-out"])
    offered = types.decode(errors="replace").split()
    if "text/uri-list" in offered:
        listed = _offer(display, "text/uri-list").decode(errors="surrogateescape").splitlines()
        if files := tuple(path for line in listed if (path := path_of_uri(line))):
            return files
    for kind in _PICTURES:
        if kind in offered and (data := _offer(display, kind)):
            return data
    raise _neither(any(each.startswith("text/") or "STRING" in each for each in offered))


def _offer(display: str, kind: str) -> bytes:
    if display == "wayland":
        return _ask(["wl-paste", "--no-newline", "--type", kind])
    return _ask(["xclip", "-selection", "clipboard", "-target", kind, "-out"])


def _neither(has_text: bool) -> NothingOnClipboard:
    return NothingOnClipboard(*(_ONLY_TEXT if has_text else _EMPTY))


def _ask(command: Sequence[str]) -> bytes:
    """What a program says, nothing when it fails. Raises `NothingOnClipboard` when it hangs or finds no display."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NothingOnClipboard(
            f"{command[0]} did not answer in {TIMEOUT_S:g} seconds: the program that was copied from may hang.",
            "Copy the picture once more, or drop the file on the terminal.",
        ) from error
    except OSError:
        return b""
    if done.returncode == 0:
        return done.stdout
    if _NO_DISPLAY.search(done.stderr):
        raise NothingOnClipboard(
            f"{command[0]} cannot reach the display that DISPLAY or WAYLAND_DISPLAY names.",
            "Start this program from a terminal of the desktop, or drop the file on this one.",
        )
    return b""


def _tell(command: Sequence[str], text: bytes) -> bool:
    """Give a program `text`, and whether it took it.

    It is not listened to: xclip and wl-copy go on in the background, and keep a pipe open for as long as they own the
    clipboard. Their own session keeps Ctrl+C in the terminal from ending them.
    """
    try:
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
