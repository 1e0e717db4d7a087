"""What a terminal pastes for dropped files is those files, however it quotes them; prose is never any."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gguf_vl.media.dropped import dropped_paths, path_of_uri


def escaped(path: Path) -> str:
    """As iTerm2, Terminal.app and Ghostty do."""
    return re.sub(r"([^A-Za-z0-9/._-])", r"\\\1", str(path), flags=re.ASCII)


def single_quoted(path: Path) -> str:
    """As GNOME's terminals, Kitty and Windows Terminal for WSL do."""
    return "'" + str(path).replace("'", "'\\''") + "'"


def any_name(without: str = "") -> st.SearchStrategy[str]:
    letters = st.one_of(
        st.sampled_from("ab .'\"\\$&()#~%!*\n\t-_é中\u202f😀"), st.characters(exclude_categories=("Cs",))
    ).filter(lambda letter: letter not in "/\0" + without)
    return st.text(letters, min_size=1, max_size=12).filter(lambda name: name.strip(".") != "")


@contextlib.contextmanager
def files(names: Sequence[str]) -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory() as folder:
        found = [Path(folder, name) for name in names]
        for path in found:
            path.touch()
        yield found


@pytest.mark.parametrize("quoted", [escaped, single_quoted, Path.as_uri], ids=["escaped", "quoted", "URIs"])
@given(
    names=st.lists(any_name(), min_size=1, max_size=4),
    space=st.sampled_from([" ", "\n", "\r\n", "  "]),
    after=st.sampled_from(["", " ", "\n"]),
)
@example(['it\'s a "cat".png', "50% #1 (2).png", "Screenshot 2026-11-22 at 3.00.00\u202fPM.png"], " ", " ")
def test_dropped_files_come_back_exactly(
    quoted: Callable[[Path], str], names: list[str], space: str, after: str
) -> None:
    with files(names) as paths:
        assert dropped_paths(space.join(map(quoted, paths)) + after) == tuple(paths)


@given(names=st.lists(any_name(without='"\\\r\n'), min_size=1, max_size=4))
@example(names=["it's.png", "a 'b' c.png"])
def test_files_in_double_quotes_come_back_exactly(names: list[str]) -> None:
    with files(names) as paths:
        assert dropped_paths(" ".join(f'"{path}"' for path in paths)) == tuple(paths)


@given(names=st.lists(any_name(without="'\"\\\r\n"), min_size=1, max_size=4))
@example(names=["a b.png", " c"])
def test_bare_files_one_on_each_line_come_back_exactly(names: list[str]) -> None:
    assume(all(name == name.strip(" \t") for name in names))
    with files(names) as paths:
        assert dropped_paths("\n".join(map(str, paths)) + "\n") == tuple(paths)


@pytest.mark.parametrize("name", ["it's.png", 'a "b" c.png', "back\\slash.png", "one 'two.png"])
def test_a_bare_path_may_hold_what_a_shell_would_read(name: str) -> None:
    with files([name]) as paths:
        assert dropped_paths(str(paths[0])) == tuple(paths)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files whose names are words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("README", "cat", "the cat", "a.png", "b.png"):
        (tmp_path / name).touch()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cat.png").touch()
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "README",
        "cat",
        "the cat",
        "'README'",
        "a.png b.png",
        "What is in in/cat.png?",
        "in/cat.png and in/cat.png",
        "in",
        "in/",
        "/",
        "~",
        "~/",
        "it's the cat",
        "/nowhere/cat.png",
        "file:///nowhere/cat.png",
        "file://",
        "file:",
        "file:%00",
        "file:///%00",
        "file:///%ff",
        "http://localhost/a.png",
        "\0",
        "/" + "x" * 5000,
        "'",
        '"',
        "\\",
        "and/or",
    ],
)
@pytest.mark.usefixtures("here")
def test_prose_stays_prose_though_a_word_of_it_is_a_file(text: str) -> None:
    assert dropped_paths(text) == ()


@given(
    words=st.lists(
        st.one_of(st.sampled_from(["cat", "README", "a.png", "'the cat'", "and"]), st.text(max_size=6)), min_size=1
    ),
    spaces=st.sampled_from([" ", "\n", ", "]),
)
def test_words_without_a_separator_are_never_files(words: list[str], spaces: str) -> None:
    text = spaces.join(words)
    assume("/" not in text)
    with files(["cat", "README", "a.png", "the cat"]) as paths, contextlib.chdir(paths[0].parent):
        assert dropped_paths(text) == ()


def test_one_word_that_is_no_file_makes_all_of_it_text(here: Path) -> None:
    path = here / "a.png"
    assert dropped_paths(f"{path} {path}") == (path, path)
    for text in (f"{path} what is this", f"what is this {path}", f"'{path}' '{here}/c.png'", f"{path}\nand this?"):
        assert dropped_paths(text) == ()


def test_a_folder_is_not_a_file(here: Path) -> None:
    assert dropped_paths(str(here / "in")) == ()
    assert dropped_paths(f"{here / 'in'} {here / 'a.png'}") == ()


def test_home_and_relative_paths_with_a_separator_are_paths(here: Path) -> None:
    assert dropped_paths("~/a.png ./b.png in/cat.png") == (here / "a.png", Path("b.png"), Path("in/cat.png"))


def test_a_uri_names_a_file_of_this_machine_alone(here: Path) -> None:
    path = here / "a.png"
    for host in ("", "localhost", "LocalHost", socket.gethostname()):
        assert dropped_paths(f"file://{host}{path}") == (path,)
    assert dropped_paths(f"FILE:{path}") == (path,)
    assert dropped_paths(f"file://elsewhere.test{path}") == ()
    assert path_of_uri(f"file://elsewhere.test{path}") is None


def test_a_uri_may_hold_what_its_writer_did_not_escape() -> None:
    with files(["it's #1?.png", "50%.png"]) as paths:
        assert dropped_paths("\r\n".join(f"file://{path}" for path in paths)) == tuple(paths)


def test_bytes_that_are_no_utf_8_are_kept(here: Path) -> None:
    path = here / os.fsdecode(b"\xff\xfe.png")
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system wants UTF-8")
    assert dropped_paths(path.as_uri()) == (path,)
    assert dropped_paths(single_quoted(path)) == (path,)


def test_kinds_of_quoting_may_be_mixed(here: Path) -> None:
    cat, a, b = here / "the cat", here / "a.png", here / "b.png"
    assert dropped_paths(f"{escaped(cat)} '{a}' {b.as_uri()} \"{cat}\" {b}") == (cat, a, b, cat, b)


def test_a_long_paste_is_text_and_costs_no_time(here: Path) -> None:
    path = here / "a.png"
    assert dropped_paths(f"{path} " * 100) == (path,) * 100
    assert dropped_paths(f"{path}\n" * 100_000) == ()


@pytest.mark.skipif(os.name == "nt", reason="it has drives of its own")
def test_a_drive_of_windows_is_where_wsl_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(os.path, "isfile", lambda path: looked.append(path) or Path(path).parts[1:2] == ("mnt",))
    assert dropped_paths(r'"C:\Users\a b\cat.png"') == (Path("/mnt/c/Users/a b/cat.png"),)
    assert dropped_paths(r"D:\cat.png") == (Path("/mnt/d/cat.png"),)
