"""Everything a person can do in the terminal UI, as data: keys, palette, slash commands and F1 read it here.

Ctrl+I, Ctrl+M and Ctrl+[ are Tab, Enter and Escape on many terminals, Ctrl+B and Ctrl+A begin tmux's and screen's own
commands, and Alt writes other letters on a Mac: none of them is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from textual.binding import Binding, BindingType

from gguf_vl.errors import UsageError, did_you_mean

Where = Literal["everywhere", "chat", "prompt", "message"]


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do. `name` is how `[keys]` of config.toml calls it, `call` is Textual's action, `slash` how the
    prompt calls it; `keys` do it unless others are set. Those of a "message" hold while one is chosen.
    """

    name: str
    title: str
    keys: str
    call: str
    where: Where = "everywhere"
    slash: str = ""
    help: str = ""


ACTIONS: tuple[Action, ...] = (
    Action("help", "Keys and commands", "f1", "app.help", slash="help", help="`?` too, while the prompt is empty"),
    Action("palette", "All commands", "ctrl+p", "app.command_palette"),
    Action("new_chat", "New chat", "ctrl+n", "app.new_chat", slash="new"),
    Action("chats", "Chats", "ctrl+o", "app.chats", slash="chats", help="All chats: open, rename, pin, delete, export"),
    Action("search", "Search all chats", "ctrl+s", "app.search", slash="search"),
    Action("models", "Models", "ctrl+l", "app.models", slash="models", help="Switch, fetch, verify, remove"),
    Action("machine", "This machine", "f8", "app.machine", slash="machine", help="Devices, and the plan against use"),
    Action("settings", "Settings", "f9", "app.settings", slash="settings"),
    Action("logs", "Log", "f10", "app.logs", slash="log"),
    Action("parameters", "Parameters", "ctrl+t", "app.parameters", slash="set", help="System prompt and sampling"),
    Action("recommended", "Fetch, or use, the recommended model", "f7", "app.recommended", slash="recommended"),
    Action("theme", "Theme", "f12", "app.change_theme", slash="theme"),
    Action("quit", "Quit", "ctrl+q", "app.quit", slash="quit"),
    Action("send", "Send", "enter", "send", "prompt"),
    Action("new_line", "New line", "ctrl+j,shift+enter", "new_line", "prompt"),
    Action("stop", "Stop the answer", "escape", "chat.stop", "chat", slash="stop", help="What was written stays"),
    Action("paste", "Paste a picture or text", "ctrl+v", "chat.paste", "prompt", slash="paste"),
    Action("pick", "Choose pictures, PDFs, videos", "ctrl+g", "chat.pick", "chat", slash="picture", help="`@`, too"),
    Action("detach", "Take the last picture or video back", "ctrl+r", "chat.detach", "chat", slash="detach"),
    Action("to_messages", "To the messages", "shift+tab", "chat.to_messages", "prompt", help="Up, too"),
    Action("before", "To the message before", "up,k", "chat.move(-1)", "message"),
    Action("behind", "To the next message", "down,j", "chat.move(1)", "message"),
    Action("answer", "Answer again", "r", "chat.regenerate", "message", slash="again", help="The answer before stays"),
    Action("go_on", "Continue the answer", "g", "chat.go_on", "message", slash="continue"),
    Action("edit", "Edit", "e", "chat.edit", "message", slash="edit", help="A branch: what was there stays"),
    Action("branch_before", "Branch before", "left", "chat.branch(-1)", "message"),
    Action("branch_after", "Next branch", "right", "chat.branch(1)", "message"),
    Action("copy", "Copy", "c", "chat.copy", "message", slash="copy"),
    Action("copy_code", "Copy its code", "x", "chat.copy_code", "message", slash="code", help="The next one each time"),
    Action("quote", "Quote", "q", "chat.quote", "message", slash="quote"),
    Action("look", "Look at the picture", "o", "chat.look", "message", slash="look", help="Large, with its boxes"),
    Action("thoughts", "Show or hide the thoughts", "t", "chat.thoughts", "message"),
    Action("delete", "Delete", "d,delete", "chat.delete", "message", slash="delete"),
    Action("undo", "Undo the deletion", "u", "chat.undo", "message", slash="undo"),
)
UNBOUND = "unbound"
"""A key that no keyboard has: Textual takes an empty name for none given."""
PRESET_KEYS = ("f2", "f3", "f4", "f5", "f6")
"""One for each of the first presets."""

BY_NAME: Mapping[str, Action] = {action.name: action for action in ACTIONS}
BY_SLASH: Mapping[str, Action] = {action.slash: action for action in ACTIONS if action.slash}


def bindings(*where: Where) -> list[BindingType]:
    """Textual's bindings of the actions that hold there, to be remapped by their names."""
    return [
        Binding(
            action.keys,
            action.call.replace("chat.", "screen."),
            action.title,
            show=False,
            id=action.name,
            # Enter before a text area takes it as a line, F keys over screens that have no other.
            priority=action.where == "prompt" or action.keys.startswith("f"),
        )
        for action in ACTIONS
        if action.where in where
    ]


def keys_of(action: Action, remapped: Mapping[str, str]) -> tuple[str, ...]:
    """The keys that do it, with what config.toml says of them."""
    return tuple(key.strip() for key in remapped.get(action.name, action.keys).split(",") if key.strip())


def keymap(remapped: Mapping[str, str]) -> dict[str, str]:
    """What the person says of the keys, and the other actions without the keys that went to these."""
    taken = {key for name in remapped for key in keys_of(BY_NAME[name], remapped)}
    told = dict(remapped)
    for action in ACTIONS:
        keys = keys_of(action, remapped)
        if action.name not in remapped and taken.intersection(keys):
            told[action.name] = ",".join(key for key in keys if key not in taken) or UNBOUND
    return told


def check_remapped(remapped: Mapping[str, str]) -> None:
    """Raise `UsageError` for an action that there is not."""
    for name in remapped:
        if name not in BY_NAME:
            fix = did_you_mean(name, BY_NAME) or f"The actions are {', '.join(BY_NAME)}."
            raise UsageError(f"[keys] in config.toml names {name!r}, and there is no such action.", fix)
