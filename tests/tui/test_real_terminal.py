"""`gguf-vl` itself in a real terminal: what a person sees, and how the terminal is left behind."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from gguf_vl.chat.history import History
from gguf_vl.tui import log
from tests.tui.pane import GGUF_VL, ROOT, Pane
from tests.tui.pseudo import Pseudo
from tests.tui.talking import SHAPES

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason=".ci/needs names it")

SCRIPTED = (sys.executable, "-P", "-m", "tests.tui.scripted_app")
PLACEHOLDER = "Ask about pictures"
READY = "of 0.6 GB planned"
"""What is said of the memory once the model is there."""
CHIP = "384×288 · 108 tokens"


def in_a_shell(*command: str) -> tuple[str, ...]:
    """The command as typed in a shell that goes on behind it, with the terminal's settings before and after."""
    words = shlex.join(command)
    return ("sh", "-c", f'echo "in the shell"; stty -g; {words}; echo "code $?"; stty -g; echo over; exec cat')


def settings_told(screen: str) -> list[str]:
    """What `stty -g` printed, each time."""
    return [line for line in screen.splitlines() if line.count(":") > 20]


def below(pid: int) -> list[psutil.Process]:
    """The processes that a process has started, and those of theirs."""
    return psutil.Process(pid).children(recursive=True)


def engine_workers(pid: int) -> list[psutil.Process]:
    """Those of them that run a model."""
    return [each for each in below(pid) if "gguf_vl.engine.worker" in each.cmdline()]


def assert_all_gone(processes: list[psutil.Process]) -> None:
    """They end by themselves, soon."""
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []


def test_a_pasted_path_is_asked_about_answered_and_the_shell_is_as_it_was(tmp_path: Path) -> None:
    with Pane(tmp_path, *in_a_shell(*GGUF_VL)) as pane:
        pane.until(PLACEHOLDER)
        assert pane.told("alternate_on") == "1"
        pane.paste(str(SHAPES))
        pane.until("shapes.png", CHIP)
        pane.type("What colour is the circle?")
        pane.press("Enter")
        pane.until("\n   red")
        pane.until("first after")
        workers = engine_workers(pane.pid)
        assert len(workers) == 1
        started = below(pane.pid)
        pane.press("C-q")
        screen = pane.until("code 0", "over", "in the shell")
        before, after = settings_told(screen)
        assert before == after
        flags = ("alternate_on", "cursor_flag", "mouse_any_flag", "mouse_sgr_flag", "wrap_flag")
        assert [pane.told(flag) for flag in flags] == ["0", "1", "0", "0", "1"]
        assert_all_gone(started)
    with History() as history:
        [chat] = history.chats()
        assert [turn.text for turn in history.turns(chat.id)] == ["What colour is the circle?", "red"]


def test_several_dropped_paths_quoted_and_escaped_become_pictures_and_other_text_stays_text(tmp_path: Path) -> None:
    strange = tmp_path / "with space é.png"
    strange.write_bytes(SHAPES.read_bytes())
    with Pane(tmp_path, *GGUF_VL) as pane:
        pane.until(PLACEHOLDER)
        pane.paste(f"'{SHAPES}' {str(strange).replace(' ', chr(92) + ' ')}\n")
        pane.until("shapes.png", "with space")
        pane.paste(f"see {SHAPES}\nand 圆形 🙂 more")
        pane.until(f"see {SHAPES}", "and 圆形 🙂 more")


def test_escape_stops_and_what_was_written_stays_to_be_continued(tmp_path: Path) -> None:
    with Pane(tmp_path, *SCRIPTED, "endless") as pane:
        pane.until(PLACEHOLDER)
        pane.type("Go")
        pane.press("Enter")
        pane.until("It begins", "Esc stops")
        pane.press("Escape")
        pane.until("stopped", "continue")
        pane.press("Up")
        pane.until("▌ pocket")
        pane.press("g")
        pane.until("It begins", "and goes on")


def test_escape_stops_the_real_model_at_work(tmp_path: Path) -> None:
    with Pane(tmp_path, *GGUF_VL) as pane:
        pane.until(READY)
        [worker] = engine_workers(pane.pid)
        worker.suspend()  # it writes nothing until it is told to go on
        pane.type("Who are you?")
        pane.press("Enter")
        pane.until("Esc stops")
        pane.type("\x1b[27u")  # Escape as Kitty's protocol has it, which is not the beginning of another key
        pane.type("x")
        pane.until("│ x")  # so Escape was taken, too
        worker.resume()
        pane.until("stopped")
        assert engine_workers(pane.pid) == [worker]


def test_ctrl_c_does_not_quit(tmp_path: Path) -> None:
    with Pane(tmp_path, *GGUF_VL) as pane:
        pane.until(PLACEHOLDER)
        pane.type("still")
        pane.until("still")
        for _ in range(3):
            pane.press("C-c")
        pane.type(" here")
        pane.until("still here")
        assert pane.told("pane_dead") == "0"


def test_what_is_typed_behind_enter_in_one_burst_is_the_next_question() -> None:
    with Pseudo(*SCRIPTED, "endless") as terminal:
        terminal.until("New chat")
        terminal.type("one\ntwo\rthree")  # as a slow line delivers it; Ctrl+J between
        terminal.until("It begins", "three")
        terminal.type("\x11")
        assert terminal.ended() == 0
    with History() as history:
        [chat] = history.chats()
        assert history.turns(chat.id)[0].text == "one\ntwo"
        assert history.draft(chat.id).text == "three"


# --- left clean, however it ends


def leave_by_key(terminal: Pseudo) -> None:
    terminal.type("\x11")


def leave_by_crash(terminal: Pseudo) -> None:
    terminal.type("\x1b[24~")  # F12


def by(told: signal.Signals) -> Callable[[Pseudo], None]:
    return lambda terminal: terminal.process.send_signal(told)


@pytest.mark.parametrize(
    ("leave", "scene", "code"),
    [
        (leave_by_key, "endless", 0),
        (leave_by_crash, "crashing", 1),
        (by(signal.SIGTERM), "endless", 143),
        (by(signal.SIGHUP), "endless", 129),
        (by(signal.SIGINT), "endless", 130),
    ],
    ids=["Ctrl+Q", "a crash", "SIGTERM", "SIGHUP", "SIGINT"],
)
def test_the_terminal_is_left_as_it_was_in_mid_answer(leave: Callable[[Pseudo], None], scene: str, code: int) -> None:
    with Pseudo(*SCRIPTED, scene) as terminal:
        terminal.until("New chat")
        assert {"mode 1049", "mode 2004", "mode 1000", "mode 25", "settings"} <= terminal.left_behind()
        terminal.type("Go\r")
        terminal.until("It begins")
        terminal.type("half a question")
        terminal.until("half a question")
        leave(terminal)
        assert terminal.ended() == code
        assert terminal.left_behind() == set()
        said = terminal.written.rpartition(b"\x1b[?1049l")[2].decode()
        assert "Traceback" not in said
        assert "half a question" not in said
        if scene == "crashing":
            assert "a mistake in the app" in said
            assert "in _fail" in log.file().read_text()
    with History() as history:
        [chat] = history.chats()
        assert history.draft(chat.id).text == "half a question"
        assert [(turn.text, turn.state) for turn in history.turns(chat.id)] == [
            ("Go", "done"),
            ("It begins", "stopped"),
        ]


@pytest.mark.parametrize("end", ["Ctrl+Q", "SIGTERM", "SIGHUP", "the window is closed"])
def test_no_worker_is_left_behind_and_the_draft_is_kept(end: str) -> None:
    with Pseudo(*GGUF_VL) as terminal:
        terminal.until(READY)
        started = below(terminal.process.pid)
        assert len(engine_workers(terminal.process.pid)) == 1
        terminal.type("half a question")
        terminal.until("half a question")
        if end == "Ctrl+Q":
            terminal.type("\x11")
        elif end == "the window is closed":
            terminal.hang_up()
        else:
            terminal.process.send_signal(signal.Signals[end])
        codes = {"Ctrl+Q": 0, "SIGTERM": 143}
        assert terminal.process.wait(20) == codes.get(end, 129)
        assert_all_gone(started)
    with History() as history:
        [chat] = history.chats()
        assert history.draft(chat.id).text == "half a question"


def test_a_window_that_is_closed_in_mid_answer_ends_it_at_once() -> None:
    with Pseudo(*SCRIPTED, "endless") as terminal:
        terminal.until("New chat")
        terminal.type("Go\r")
        terminal.until("It begins")
        terminal.hang_up()
        assert terminal.process.wait(20) == 129


# --- terminals of every kind


KINDS: dict[str, dict[str, str]] = {
    "dumb": {"TERM": "dumb"},
    "vt100": {"TERM": "vt100"},
    "8 colours": {"TERM": "xterm"},
    "linux console": {"TERM": "linux"},
    "no TERM": {"TERM": ""},
    "unknown TERM": {"TERM": "of-tomorrow"},
    "no colour": {"TERM": "xterm-256color", "NO_COLOR": "1"},
    "C locale": {"TERM": "xterm-256color", "LANG": "C", "LC_ALL": "C"},
    "ASCII": {"TERM": "xterm", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
}


@pytest.mark.parametrize(("kind", "answers"), [*((kind, True) for kind in KINDS), ("8 colours", False)])
def test_it_starts_takes_keys_and_leaves_in_a_terminal_of_any_kind(kind: str, answers: bool) -> None:
    with Pseudo(*SCRIPTED, "endless", environment=KINDS[kind], answers=answers) as terminal:
        terminal.until("New chat")
        terminal.type("zqz")
        terminal.until("zqz")
        terminal.type("\x11")
        assert terminal.ended() == 0
        assert terminal.left_behind() == set()
        assert "Traceback" not in terminal.text


def test_a_window_of_any_size_is_drawn_and_drawn_again(tmp_path: Path) -> None:
    with Pane(tmp_path, *SCRIPTED, "endless", size=(60, 20)) as pane:
        pane.until(PLACEHOLDER)
        pane.paste(str(SHAPES))
        pane.until("shapes.png")
        pane.type("Go")
        pane.press("Enter")
        pane.until("It begins")
        pane.type("typed on")
        for columns, rows in ((40, 10), (20, 5), (3, 2), (200, 60), (60, 20)):
            pane.resize(columns, rows)
            pane.until_true(lambda screen, n=rows: screen.count("\n") == n)
        pane.until("It begins", "typed on")
        assert pane.told("pane_dead") == "0"


# --- ways to start


def test_without_a_terminal_two_lines_say_what_to_do_instead() -> None:
    ran = subprocess.run([*GGUF_VL, "chat"], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 2
    assert "terminal" in ran.stderr
    assert "gguf-vl ask" in ran.stderr


def test_a_pipe_on_one_side_alone_is_no_terminal_either() -> None:
    with Pseudo("sh", "-c", shlex.join([*GGUF_VL, "chat"]) + " | cat") as terminal:
        terminal.until("The chat needs a terminal")
        terminal.ended()
        assert terminal.left_behind() == set()
        assert "\x1b[" not in terminal.written.decode()


@pytest.mark.parametrize("words", [["pocket"], ["chat", "-m", "pocket"]], ids=str)
def test_a_model_can_be_named(words: list[str], tmp_path: Path) -> None:
    with Pane(tmp_path, *GGUF_VL, *words) as pane:
        pane.until(PLACEHOLDER, "pocket · context 0/8,192")


def test_a_model_that_is_not_there_is_said_on_the_screen(tmp_path: Path) -> None:
    with Pane(tmp_path, *GGUF_VL, "chat", "-m", "nonsense") as pane:
        pane.until(PLACEHOLDER, "nonsense", "not loaded")


def test_two_at_once_share_one_history_and_take_nothing_from_each_other(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    def ask_about(pane: Pane, shape: str) -> None:
        pane.until(PLACEHOLDER)  # and nothing of what the other one has there
        pane.paste(str(SHAPES))
        pane.until(CHIP)
        pane.type(f"What colour is the {shape}?")

    with Pane(tmp_path / "one", *GGUF_VL) as one:
        ask_about(one, "circle")
        with Pane(tmp_path / "two", *GGUF_VL) as two:
            ask_about(two, "square")
            one.press("Enter")
            two.press("Enter")
            one.until("\n   red")
            two.until("\n   blue")
            one.press("C-q")
            one.until_true(lambda _: one.told("pane_dead") == "1")
            two.type("Who are you?")
            two.press("Enter")
            two.until("I am pocket")
    with History() as history:
        said = {tuple(turn.text for turn in history.turns(chat.id))[:2] for chat in history.chats()}
    assert said == {("What colour is the circle?", "red"), ("What colour is the square?", "blue")}
