"""What the words before the cursor could become: a slash command, or with `@` the path of a picture."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from gguf_vl.chat.presets import presets, tasks
from gguf_vl.media.endings import PICTURES, VIDEOS
from gguf_vl.tui.actions import BY_SLASH

PICTURE_SUFFIXES = PICTURES | VIDEOS | {".jpe"}
MOST = 50
_AT = re.compile(r"""(?:^|\s)@(?:"([^"\n]*)|(\S*))$""")
_TASK = re.compile(r"/task +([\w-]*)", re.IGNORECASE)
_PARAMETER = re.compile(r"/task +([\w-]+) +((?:\w+=(?:\"[^\"]*\"|'[^']*'|[^\s\"']\S*)? +)*)(\w*)", re.IGNORECASE)
_VIDEO = re.compile(r"/video +(\S*)", re.IGNORECASE)
_FRAMES = {
    "every=": "A frame every so many seconds",
    "frames=": "So many frames, spread evenly",
    "scenes": "The first frame of each scene",
    "auto": "Two frames a second, as far as there is room",
}
_WITH_WORDS = {
    "task": "NAME",
    "video": "FRAMES",
    "model": "NAME",
    "system": "TEXT",
    "picture": "PATH or URL",
    "search": "WORDS",
}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to put in place of the text from `start` to the cursor; a `path` is a picture to attach, or a folder."""

    start: int
    text: str
    title: str
    help: str
    path: Path | None = None


def suggestions(before: str, folder: Path | None = None) -> list[Suggestion]:
    """For the text before the cursor; relative paths are looked up in `folder`, else the working directory."""
    if re.fullmatch(r"/\w*", before):
        return _commands(before[1:])
    if found := _TASK.fullmatch(before):
        return _tasks(found[1])
    if found := _PARAMETER.fullmatch(before):
        return _parameters(found[1], found[2], found[3], found.start(3))
    if found := _VIDEO.fullmatch(before):
        begun = ((each, help) for each, help in _FRAMES.items() if each.startswith(found[1].casefold()))
        return [Suggestion(found.start(1), each, each, help) for each, help in begun]
    if found := _AT.search(before):
        typed = found[1] if found[1] is not None else found[2]
        start = before.rindex("@", 0, found.end() - len(typed))
        return _paths(typed, start, folder or Path.cwd())
    return []


def _commands(typed: str) -> list[Suggestion]:
    told = {"model": "Switch to another model", "system": "System prompt of this chat"}
    told |= {"task": "Ask what a task asks, one of your own too"}
    told |= {"video": "Which frames of a video are seen: every=2, frames=20, scenes"}
    told |= {slash: action.title for slash, action in BY_SLASH.items()}
    told |= {preset.slash: preset.hint for preset in presets()}
    return [
        Suggestion(0, f"/{name}" + (" " if name in _WITH_WORDS else ""), f"/{name} {_WITH_WORDS.get(name, '')}", help)
        for name, help in sorted(told.items())
        if name.startswith(typed.casefold())
    ]


def _tasks(typed: str) -> list[Suggestion]:
    return [
        Suggestion(0, f"/task {name}", name, task.purpose)
        for name, task in sorted(tasks()[0].items())
        if name.startswith(typed.casefold())
    ]


def _parameters(task: str, given: str, typed: str, start: int) -> list[Suggestion]:
    """Those that are not given yet."""
    known = tasks()[0].get(task.casefold())
    return [
        Suggestion(start, f"{each.name}=", f"{each.name}=", each.help)
        for each in (known.parameters if known else ())
        if each.name.startswith(typed.casefold()) and f"{each.name}=".casefold() not in given.casefold()
    ]


def _paths(typed: str, start: int, folder: Path) -> list[Suggestion]:
    """Folders and pictures that begin with what is typed, in any case; hidden ones when that begins with a dot."""
    place, _, name = typed.rpartition("/")
    parent = folder / os.path.expanduser(f"{place}/" if place or typed.startswith("/") else ".")
    found = []
    try:
        entries = sorted(os.scandir(parent), key=lambda entry: entry.name.casefold())
    except OSError:
        return []
    for entry in entries:
        is_folder = _is_folder(entry)
        is_shown = entry.name.startswith(".") == name.startswith(".")
        if not is_shown or not entry.name.casefold().startswith(name.casefold()):
            continue
        if is_folder or Path(entry.name).suffix.casefold() in PICTURE_SUFFIXES:
            whole = f"{place}/{entry.name}" if place or typed.startswith("/") else entry.name
            text = f'@"{whole}' if " " in whole else f"@{whole}"
            title = f"{entry.name}/" if is_folder else entry.name
            found.append(Suggestion(start, text + ("/" if is_folder else ""), title, "", Path(entry.path)))
    return found[:MOST]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
