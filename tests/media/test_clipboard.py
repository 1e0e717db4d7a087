"""The clipboard through the programs of each system, which stand here as small scripts on PATH."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from gguf_vl.errors import NothingOnClipboard
from gguf_vl.media import clipboard
from gguf_vl.media.clipboard import copy, grab

from .drawn import encoded, quarters

PNG = encoded(quarters(), "PNG")
CAT = shutil.which("cat")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the scripts are a shell's")
VARIABLES = ("WAYLAND_DISPLAY", "DISPLAY", "SSH_CONNECTION", "SSH_TTY", "WSL_DISTRO_NAME")


class Programs:
    """A PATH with nothing on it but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken = folder / "taken"

    def put(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def says(self, name: str, answers: dict[str, bytes], complaint: str = "nothing like that") -> None:
        """A program that gives the first answer whose words stand among its arguments, and else fails."""
        cases = []
        for number, (words, answer) in enumerate(answers.items()):
            file = self.folder / f"{name}-{number}"
            file.write_bytes(answer)
            cases.append(f"*{shlex.quote(words)}*) exec {CAT} {shlex.quote(str(file))} ;;")
        self.put(name, f'case "$*" in\n{chr(10).join(cases)}\n*) echo "{complaint}" >&2; exit 1 ;;\nesac')

    def takes(self, name: str, after: str = "") -> None:
        self.put(name, f'echo "$0 $@" > {self.taken}.command; {CAT} > {self.taken}; {after}')


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return Programs(folder)


@pytest.fixture
def x11(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")


@pytest.fixture
def wayland(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    monkeypatch.setenv("DISPLAY", ":0")


@pytest.fixture
def macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")


@pytest.fixture
def wsl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSL_DISTRO_NAME", "Debian")
    monkeypatch.setenv("DISPLAY", ":0")


def refusal() -> NothingOnClipboard:
    with pytest.raises(NothingOnClipboard) as caught:
        grab()
    for line in (caught.value.what, caught.value.fix):
        assert line
        assert len(line.splitlines()) == 1
    return caught.value


@pytest.mark.usefixtures("x11")
def test_x11_gives_a_screenshot(programs: Programs) -> None:
    programs.says("xclip", {"TARGETS": b"TIMESTAMP\nTARGETS\nimage/png\n", "image/png": PNG})
    assert grab() == PNG


@pytest.mark.usefixtures("wayland")
def test_wayland_gives_a_screenshot(programs: Programs) -> None:
    programs.says("wl-paste", {"--list-types": b"image/bmp\nimage/png\ntext/html\n", "image/png": PNG})
    assert grab() == PNG


@pytest.mark.usefixtures("x11")
def test_a_picture_that_is_offered_in_another_format_alone_is_taken_so(programs: Programs) -> None:
    jpeg = encoded(quarters(), "JPEG")
    programs.says("xclip", {"TARGETS": b"image/jpeg\n", "image/jpeg": jpeg})
    assert grab() == jpeg


@pytest.mark.usefixtures("wayland")
def test_files_copied_in_a_file_manager_are_given_as_files(programs: Programs) -> None:
    uris = b"file:///home/me/a%20cat.png\r\nfile:///home/me/b.pdf\r\n"
    programs.says("wl-paste", {"--list-types": b"text/uri-list\ntext/plain\nimage/png\n", "text/uri-list": uris})
    assert grab() == (Path("/home/me/a cat.png"), Path("/home/me/b.pdf"))


@pytest.mark.usefixtures("x11")
def test_a_picture_copied_in_a_browser_is_the_picture_though_its_url_is_there_too(programs: Programs) -> None:
    offers = {"TARGETS": b"text/uri-list\nimage/png\n", "text/uri-list": b"https://a.test/cat.png\n", "image/png": PNG}
    programs.says("xclip", offers)
    assert grab() == PNG


@pytest.mark.usefixtures("x11")
@pytest.mark.parametrize("types", [b"UTF8_STRING\nTARGETS\n", b"text/plain\n", b"STRING\n"])
def test_text_alone_is_told_from_nothing(programs: Programs, types: bytes) -> None:
    programs.says("xclip", {"TARGETS": types})
    assert "only text" in refusal().what
    programs.says("xclip", {}, "Error: target TARGETS not available")
    assert "no picture" in refusal().what


@pytest.mark.parametrize(
    ("display", "program", "package"),
    [("WAYLAND_DISPLAY", "wl-paste", "wl-clipboard"), ("DISPLAY", "xclip", "xclip")],
)
def test_the_package_of_a_missing_program_is_named(
    display: str, program: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(display, "0")
    assert program in refusal().what
    assert f"package {package}" in refusal().fix


def test_without_a_display_there_is_no_clipboard() -> None:
    assert "DISPLAY" in refusal().what


@pytest.mark.usefixtures("x11")
def test_a_display_that_cannot_be_reached_is_told(programs: Programs) -> None:
    programs.says("xclip", {}, "Error: Can't open display: :0")
    assert "cannot reach the display" in refusal().what


@pytest.mark.usefixtures("x11")
def test_a_program_that_hangs_is_left(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "never")
    programs.put("xclip", f"exec {CAT} {tmp_path}/never")
    monkeypatch.setattr(clipboard, "TIMEOUT_S", 0.2)
    assert "did not answer" in refusal().what
    assert not copy("text")


@pytest.mark.parametrize("variable", ["SSH_CONNECTION", "SSH_TTY"])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_over_ssh_the_clipboard_is_the_other_machines(
    variable: str, platform: str, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, "there")
    for name in ("osascript", "pbcopy", "xclip"):
        programs.put(name, f"{CAT} > {programs.taken}")
    assert "SSH" in refusal().what
    assert "scp" in refusal().fix
    assert not copy("text")
    assert not programs.taken.exists()


@pytest.mark.usefixtures("x11")
def test_over_ssh_a_forwarded_display_brings_the_clipboard(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "there")
    programs.says("xclip", {"TARGETS": b"image/png", "image/png": PNG})
    assert grab() == PNG


@pytest.mark.usefixtures("macos")
def test_macos_gives_a_screenshot(programs: Programs) -> None:
    content = json.dumps({"types": ["public.tiff", "public.png"], "files": []}).encode()
    png = f"«data PNGf{PNG.hex().upper()}»\n".encode()
    programs.says("osascript", {"JavaScript": content, "PNGf": png})
    assert grab() == PNG


@pytest.mark.usefixtures("macos")
def test_macos_gives_the_files_that_finder_copied_and_not_their_icon(programs: Programs) -> None:
    files = ["/Users/me/a cat.png", "/Users/me/scan.pdf"]
    content = json.dumps({"types": ["public.file-url", "public.tiff"], "files": files}).encode()
    programs.says("osascript", {"JavaScript": content})
    assert grab() == tuple(map(Path, files))


@pytest.mark.usefixtures("macos")
def test_macos_tells_text_from_nothing(programs: Programs) -> None:
    programs.says("osascript", {"JavaScript": b'{"types": ["public.utf8-plain-text"], "files": []}'})
    assert "only text" in refusal().what
    programs.says("osascript", {"JavaScript": b'{"types": [], "files": []}'})
    assert "no picture" in refusal().what


@pytest.mark.usefixtures("wsl")
def test_inside_windows_its_clipboard_is_read(programs: Programs) -> None:
    programs.says(
        "powershell.exe",
        {"": json.dumps({"files": [], "png": base64.b64encode(PNG).decode(), "text": False}).encode()},
    )
    assert grab() == PNG
    programs.says("powershell.exe", {"": json.dumps({"files": [r"C:\Users\me\a cat.png"], "png": None}).encode()})
    assert grab() == (Path("/mnt/c/Users/me/a cat.png"),)
    programs.says("powershell.exe", {"": b'{"files": [], "png": null, "text": true}'})
    assert "only text" in refusal().what


@pytest.mark.parametrize(
    ("system", "program", "encoding"),
    [
        ("x11", "xclip", "utf-8"),
        ("x11", "xsel", "utf-8"),
        ("wayland", "wl-copy", "utf-8"),
        ("wayland", "xclip", "utf-8"),
        ("macos", "pbcopy", "utf-8"),
        ("wsl", "powershell.exe", "utf-8"),
    ],
)
def test_text_is_copied_by_the_program_that_is_there(
    system: str, program: str, encoding: str, programs: Programs, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(system)
    assert not copy("text")
    programs.takes(program)
    text = "two\nlines, 中文 and 😀" * 10_000
    assert copy(text)
    assert programs.taken.read_bytes() == text.encode(encoding)


@pytest.mark.usefixtures("wsl")
def test_without_powershell_inside_windows_linux_own_programs_copy(programs: Programs) -> None:
    programs.takes("xclip")
    assert copy("text")


@pytest.mark.usefixtures("x11")
def test_a_program_that_goes_on_in_the_background_is_not_waited_for(programs: Programs, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    programs.takes("xclip", f"{CAT} {gate} &")
    assert copy("text")
    assert programs.taken.read_text() == "text"
    gate.write_text("")  # opens only because it is still there, and lets it end


@pytest.mark.usefixtures("x11")
def test_a_program_that_fails_is_followed_by_the_next(programs: Programs) -> None:
    programs.put("xclip", "exit 1")
    assert not copy("text")
    programs.takes("xsel")
    assert copy("text")


def test_without_a_display_nothing_is_copied(programs: Programs) -> None:
    programs.takes("xclip")
    assert not copy("text")
