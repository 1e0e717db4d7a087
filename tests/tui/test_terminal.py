"""Which way pictures are drawn, asked of a terminal that a thread plays on the other end of a pseudo-terminal."""

from __future__ import annotations

import os
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gguf_vl.tui import terminal
from gguf_vl.tui.terminal import Terminal, detect

XTERM = {"TERM": "xterm-256color"}
KITTY = b"\x1bP>|kitty(0.42.1)\x1b\\\x1b[6;18;9t\x1b[?62;52;c"
GHOSTTY = b"\x1bP>|ghostty 1.2.3\x1b\\\x1b[6;34;16t\x1b[?62;22;52c"
XTERM_WITH_SIXEL = b"\x1bP>|XTerm(390)\x1b\\\x1b[6;15;7t\x1b[?64;1;2;4;6;9;15;18;21;22c"
WEZTERM = b"\x1bP>|WezTerm 20240203\x1b\\\x1b[6;20;10t\x1b[?65;4;6;18;22c"
TERMINAL_APP = b"\x1b[?1;2c"


class Played:
    """A pseudo-terminal whose other end answers the question for attributes with `answer`."""

    def __init__(self) -> None:
        self.far, self.near = os.openpty()
        self.asked = b""
        self._thread: threading.Thread | None = None

    def answers(self, answer: bytes) -> None:
        self._thread = threading.Thread(target=self._play, args=(answer,), daemon=True)
        self._thread.start()

    def types(self, keys: bytes) -> None:
        os.write(self.far, keys)

    def _play(self, answer: bytes) -> None:
        while b"\x1b[c" not in self.asked:
            self.asked += os.read(self.far, 1024)
        os.write(self.far, answer)

    def detect(self, environment: Mapping[str, str] = XTERM) -> Terminal:
        found = detect("auto", environment, reads=self.near, writes=self.near)
        if self._thread:
            self._thread.join(5)
        return found

    def close(self) -> None:
        os.close(self.near)
        os.close(self.far)


@pytest.fixture
def played() -> Iterator[Played]:
    played = Played()
    yield played
    played.close()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (KITTY, Terminal("kitty", (9, 18))),
        (GHOSTTY, Terminal("kitty", (16, 34))),
        (XTERM_WITH_SIXEL, Terminal("sixel", (7, 15))),
        (WEZTERM, Terminal("sixel", (10, 20))),
        (TERMINAL_APP, Terminal("halfblock")),
    ],
    ids=["kitty", "ghostty", "xterm with sixel", "WezTerm", "Terminal.app"],
)
def test_a_terminal_is_known_by_its_answers(played: Played, answer: bytes, found: Terminal) -> None:
    played.answers(answer)

    assert played.detect() == found


def test_a_mute_terminal_costs_a_moment_and_shows_half_blocks(played: Played) -> None:
    begun = time.monotonic()

    assert played.detect() == Terminal("halfblock")
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("answer", [KITTY, b"", b"\x1b[?1;", b"\xff\xfe\x1bP>|"])
def test_the_terminal_s_mode_is_as_before(played: Played, answer: bytes) -> None:
    before = termios.tcgetattr(played.near)
    played.answers(answer)

    played.detect()

    assert termios.tcgetattr(played.near) == before


def test_keys_typed_ahead_are_handed_back_and_answers_are_not(played: Played) -> None:
    played.types(b"what is ")
    played.answers(KITTY + "thís?".encode())

    found = played.detect()

    assert found == Terminal("kitty", (9, 18), "what is thís?")


def test_keys_typed_at_a_mute_terminal_are_handed_back_too(played: Played) -> None:
    played.types(b"hello\x1b[?1")  # and the beginning of an answer that came too late

    assert played.detect().typed == "hello"


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "dumb"}, "none"),
        ({}, "none"),
        ({"TERM": "linux"}, "halfblock"),
        ({"TERM": "screen-256color", "STY": "1.pts"}, "halfblock"),
        ({"TERM": "xterm-256color", "ZELLIJ": "0"}, "halfblock"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, "halfblock"),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty", "SSH_TTY": "/dev/pts/1"}, "kitty"),
    ],
)
def test_some_terminals_are_known_without_a_question(
    played: Played, environment: dict[str, str], protocol: str
) -> None:
    os.set_blocking(played.far, False)

    assert played.detect(environment).pictures == protocol
    with pytest.raises(BlockingIOError):
        os.read(played.far, 1)  # nothing was sent


@pytest.mark.parametrize(
    ("said", "protocol"),
    [
        ("on|xterm-kitty|bpaste,clipboard,RGB,title", "kitty"),
        ("all|xterm-ghostty|RGB", "kitty"),
        ("1|xterm-kitty|RGB", "kitty"),
        ("0|xterm-kitty|RGB", "halfblock"),
        ("off|xterm-kitty|RGB", "halfblock"),
        ("on|xterm-256color|RGB", "halfblock"),
        ("on|xterm-kitty|bpaste,title", "halfblock"),
        ("|xterm-kitty|RGB", "halfblock"),
        ("", "halfblock"),
    ],
)
def test_tmux_shows_half_blocks_unless_it_passes_kitty_s_protocol_on(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, protocol: str
) -> None:
    program = tmp_path / "tmux"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert played.detect({"TERM": "tmux-256color", "TMUX": "/tmp/tmux,1,0"}).pictures == protocol


def test_without_the_tmux_program_there_are_half_blocks(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert played.detect({"TERM": "tmux-256color", "TMUX": "/tmp/tmux,1,0"}).pictures == "halfblock"


def test_what_is_no_terminal_shows_no_pictures() -> None:
    reads, writes = os.pipe()
    try:
        assert detect("auto", XTERM, reads=reads, writes=writes) == Terminal("none")
    finally:
        os.close(reads)
        os.close(writes)


def test_closed_standard_streams_show_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdin__", None)
    monkeypatch.setattr(sys, "__stderr__", None)

    assert detect("auto", XTERM) == Terminal("none")


@pytest.mark.parametrize("setting", ["kitty", "sixel", "halfblock", "none"])
def test_the_person_s_setting_decides(played: Played, setting: terminal.Setting) -> None:
    assert detect(setting, {"TERM": "dumb"}, reads=played.near, writes=played.near).pictures == setting


def test_the_window_s_size_in_pixels_gives_the_cell(played: Played) -> None:
    termios.tcsetwinsize(played.near, (24, 80))
    assert terminal.cell_size(played.near) is None  # columns and rows alone

    import fcntl
    import struct

    fcntl.ioctl(played.near, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 80 * 9, 24 * 18))
    assert terminal.cell_size(played.near) == (9, 18)
