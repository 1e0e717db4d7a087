"""A bundle carries gguf-vl itself: which wheels go in, and for which machines that is enough."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from gguf_vl import paths
from gguf_vl.errors import GgufVlError, OfflineError, UsageError
from gguf_vl.store.bundle.complete import lacking
from gguf_vl.store.bundle.manifest import Platform
from gguf_vl.store.bundle.packages import baseline, collected
from gguf_vl.store.bundle.wheels import wheel
from gguf_vl.store.progress import Silent
from tests.store.bundles import HERE, Watching, bundled_pip, make_wheel, needs_pip, stubs

SILENT = Silent()
LINUX = Platform("linux", "x86_64", "3.11", "glibc 2.36")
WINDOWS = Platform("win32", "arm64", "3.13")


# --- wheels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("rich-15.0.0-py3-none-any.whl", True),
        ("six-1-py2.py3-none-any.whl", True),
        ("llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl", True),
        ("numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", True),
        ("tomlkit-1-1-py311-none-any.whl", True),
        ("hf_xet-1.8.0-cp38-abi3-manylinux2014_x86_64.whl", True),
        ("hf_xet-1.8.0-cp312-abi3-manylinux2014_x86_64.whl", False),
        ("numpy-2.4.6-cp312-cp312-manylinux_2_27_x86_64.whl", False),
        ("numpy-2.4.6-cp310-cp310-manylinux_2_27_x86_64.whl", False),
        ("numpy-2.4.6-cp311-cp311-musllinux_1_2_x86_64.whl", False),
        ("numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.whl", False),
        ("numpy-2.4.6-cp311-cp311-macosx_14_0_arm64.whl", False),
        ("numpy-2.4.6-cp311-cp311-win_amd64.whl", False),
        ("six-1-py2-none-any.whl", False),
    ],
)
def test_a_wheels_name_says_whether_it_runs_here(tmp_path: Path, name: str, runs: bool) -> None:
    (tmp_path / name).touch()
    assert wheel(tmp_path / name).runs_on(LINUX) == runs


def test_a_wheels_name_says_for_which_machines_it_is(tmp_path: Path) -> None:
    def machines(name: str) -> set[tuple[str, str]]:
        (tmp_path / name).touch()
        return set(wheel(tmp_path / name).machines)

    assert machines("a-1-cp311-cp311-macosx_10_9_universal2.whl") == {("darwin", "x86_64"), ("darwin", "arm64")}
    assert machines("a-1-cp311-cp311-win_amd64.whl") == {("win32", "x86_64")}
    assert machines("a-1-cp311-cp311-win32.whl") == {("win32", "x86")}
    assert machines("a-1-py3-none-any.whl") == set()


def test_llama_cpp_is_built_for_a_stated_processor_and_never_for_this_one() -> None:
    name, options = baseline(LINUX)
    assert name == "x86-64-v3"
    assert {"-DGGML_NATIVE=OFF", "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_AVX512=OFF"} <= set(options.split())
    assert baseline(replace(LINUX, machine="arm64"))[0] == "armv8-a"
    assert baseline(Platform("darwin", "arm64", "3.12"))[0] == "apple-m1"
    for machine in ("x86_64", "arm64", "riscv64"):
        assert "-DGGML_NATIVE=OFF" in baseline(replace(LINUX, machine=machine))[1]


# --- collecting -------------------------------------------------------------------------------------------------------


@needs_pip
def test_only_machines_that_can_be_installed_on_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = bundled_pip()
    assert pip
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(pip.parent))
    own, llama = stubs(tmp_path)
    numpy = make_wheel(tmp_path, "numpy-2.4-cp313-cp313-win_arm64.whl")
    with (
        pytest.raises(
            UsageError, match=r"install numpy-2\.4-.*win32 arm64 with Python 3\.13 llama-cpp-python==0\.0\.1"
        ),
        collected([own, llama, numpy], SILENT),
    ):
        pass
    # Of a wheel for two kinds of machine only the one is named that has all it needs.
    for_arm = make_wheel(tmp_path, "llama_cpp_python-0.0.1-py3-none-macosx_11_0_arm64.whl", requires="numpy")
    for_both = make_wheel(tmp_path, "numpy-2.4-cp313-cp313-macosx_10_9_universal2.whl")
    with collected([own, llama, for_arm, for_both], SILENT) as found:
        assert [path.name for path in found.wheels] == [own.name, llama.name, pip.name, for_arm.name, for_both.name]
        assert all(path.is_file() for path in found.wheels)
        assert found.platforms == (HERE, Platform("darwin", "arm64", "3.13"))
        folder = found.wheels[0].parent
    assert not folder.exists()


def test_what_a_machine_needs_is_read_from_the_wheels(tmp_path: Path) -> None:
    def missing(place: Platform, *names: str, requires: str) -> list[str]:
        make_wheel(tmp_path, "gguf_vl-1-py3-none-any.whl", requires=requires)
        names = ("gguf_vl-1-py3-none-any.whl", *names)
        for name in names[1:]:
            make_wheel(tmp_path, name, requires="deep.er; extra == 'more'" if name.startswith("rich") else "")
        return lacking(place, [wheel(tmp_path / name) for name in names])

    pip, rich = "pip-26-py3-none-any.whl", "rich-15.0-py3-none-any.whl"
    assert missing(WINDOWS, requires="") == ["pip"]
    assert missing(WINDOWS, pip, requires="rich>=15") == ["rich>=15"]
    assert missing(WINDOWS, pip, rich, requires="rich>=15") == []
    assert missing(WINDOWS, pip, rich, requires="rich>=15.1") == ["rich>=15.1"]
    assert missing(WINDOWS, pip, rich, requires="rich[more]") == ["deep.er"]
    assert missing(WINDOWS, pip, rich, "deep_er-1-py3-none-any.whl", requires="rich[more]") == []
    only_there = "colorama; sys_platform == 'win32' and python_version >= '3.13' and platform_machine == 'ARM64'"
    assert missing(WINDOWS, pip, requires=only_there) == ["colorama"]
    assert missing(replace(WINDOWS, python="3.12"), pip, requires=only_there) == []
    assert missing(LINUX, pip, requires=only_there) == []
    for_linux = "numpy-2.4-cp311-cp311-manylinux_2_28_x86_64.whl"
    assert missing(LINUX, pip, for_linux, requires="numpy") == []
    assert missing(WINDOWS, pip, for_linux, requires="numpy") == ["numpy"]


def test_a_wheel_that_says_nothing_of_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gguf_vl-1-py3-none-any.whl").touch()
    with pytest.raises(UsageError, match="does not say what it requires"):
        lacking(WINDOWS, [wheel(tmp_path / "gguf_vl-1-py3-none-any.whl")])


BACKEND = """
import os, zipfile
def build_wheel(folder, settings=None, metadata=None):
    name = "llama_cpp_python-0.0.1-py3-none-any.whl"
    files = {"METADATA": "Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: 0.0.1\\n",
             "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n", "RECORD": ""}
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for file, text in files.items():
            archive.writestr("llama_cpp_python-0.0.1.dist-info/" + file, text)
        archive.writestr("built_with", repr([os.environ.get(k) for k in ("CMAKE_ARGS", "CFLAGS")]))
    return name
"""


@needs_pip
def test_llama_cpp_is_built_once_with_options_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = bundled_pip()
    assert pip
    index = tmp_path / "index"
    shutil.copy(pip, make_wheel(index, "llama_cpp_python-0.0.1-py3-none-any.whl").parent)  # native, and not wanted
    about = b"Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 0.0.1\n"
    project = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    project += b'[project]\nname = "llama-cpp-python"\nversion = "0.0.1"\n'
    with tarfile.open(index / "llama_cpp_python-0.0.1.tar.gz", "w:gz") as archive:
        for name, data in (("PKG-INFO", about), ("pyproject.toml", project), ("backend.py", BACKEND.encode())):
            info = tarfile.TarInfo(f"llama_cpp_python-0.0.1/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    for variable, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(index))):
        monkeypatch.setenv(f"PIP_{variable}", value)
    for variable in ("CMAKE_ARGS", "CFLAGS"):
        monkeypatch.setenv(variable, "-march=native")
    own, _ = stubs(tmp_path)
    for said in (["Building llama-cpp-python==0.0.1 for"], []):
        watching = Watching()
        with collected([own], watching) as found:
            [built] = [path for path in found.wheels if path.name.startswith("llama")]
            with zipfile.ZipFile(built) as wheel_file:
                assert wheel_file.read("built_with").decode() == repr([baseline(HERE)[1], None])
            assert found.platforms[0].baseline == baseline(HERE)[0]
        assert [line for line in said if line not in " ".join(watching.notes)] == []
        assert ("Building llama-cpp-python" in " ".join(watching.notes)) == bool(said)


def test_pips_own_words_are_shown_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    own = make_wheel(tmp_path, "gguf_vl-9.9-py3-none-any.whl", requires="llama-cpp-python==0.0.1")
    with (
        pytest.raises(GgufVlError, match=r"No matching distribution found for llama-cpp-python==0\.0\.1"),
        collected([own], SILENT),
    ):
        pass
    assert not list(paths.cache_dir().rglob("*.whl"))


def test_what_cannot_be_collected_is_said_first(tmp_path: Path) -> None:
    with pytest.raises(OfflineError), collected([], SILENT, offline=True):
        pass
    (tmp_path / "numpy.whl").touch()
    for path in (tmp_path / "numpy.whl", tmp_path / "numpy-1-py3-none-any.whl"):
        with pytest.raises(UsageError, match="is not a wheel"), collected([path], SILENT):
            pass
