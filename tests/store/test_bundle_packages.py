"""A bundle carries gguf-vl itself: which wheels go in, for which machines, and the script that installs them."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gguf_vl import paths
from gguf_vl.errors import GgufVlError, OfflineError, UsageError
from gguf_vl.store.bundle.create import INSTALLER, create
from gguf_vl.store.bundle.manifest import Platform
from gguf_vl.store.bundle.packages import Collected, baseline, collected
from gguf_vl.store.bundle.reading import verify
from gguf_vl.store.bundle.wheels import this_platform, wheel
from gguf_vl.store.progress import Silent
from tests.store.bundles import Watching, make_wheel

SILENT = Silent()
HERE = this_platform()
LINUX = Platform("linux", "x86_64", "3.11", "glibc 2.36")
PRINTS = "import os, sys; print('ran', sys.argv[1:], os.path.dirname(sys.prefix))"


def bundled_pip() -> Path | None:
    """pip's wheel as this Python brings it; Debian's does not."""
    found = importlib.util.find_spec("ensurepip")
    folder = Path(found.origin).parent if found and found.origin else Path()
    return next(folder.glob("_bundled/pip-*.whl"), None)


needs_pip = pytest.mark.skipif(bundled_pip() is None, reason="this Python brings no wheel of pip")


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


def stubs(folder: Path) -> tuple[Path, Path]:
    """Wheels that stand for gguf-vl and llama-cpp-python."""
    code = {"gguf_vl/__main__.py": PRINTS}
    own = make_wheel(folder, "gguf_vl-9.9-py3-none-any.whl", code, requires="llama-cpp-python==0.0.1")
    machine = "amd64" if HERE.sys_platform == "win32" else os.uname().machine
    tag = {"linux": f"linux_{machine}", "win32": "win_amd64"}.get(HERE.sys_platform, f"macosx_11_0_{machine}")
    return own, make_wheel(folder, f"llama_cpp_python-0.0.1-py3-none-{tag}.whl")


@needs_pip
def test_what_this_machine_needs_is_collected_and_what_another_lacks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = bundled_pip()
    assert pip
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(pip.parent))
    own, llama = stubs(tmp_path)
    elsewhere = make_wheel(tmp_path, "numpy-2.4-cp313-cp313-win_arm64.whl")
    watching = Watching()
    with collected([own, llama, elsewhere], watching) as found:
        assert [path.name for path in found.wheels] == [own.name, llama.name, pip.name, elsewhere.name]
        assert all(path.is_file() for path in found.wheels)
        assert found.platforms == (HERE, Platform("win32", "arm64", "3.13"))
        folder = found.wheels[0].parent
    assert not folder.exists()
    assert any("no wheel of llama-cpp-python" in note for note in watching.notes)


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


# --- installing -------------------------------------------------------------------------------------------------------


def packed(folder: Path, platforms: tuple[Platform, ...] = (HERE,), split: int | None = None) -> Path:
    """A bundle of `pocket` with the stubs and pip."""
    pip = bundled_pip()
    wheels = (*stubs(folder / "wheels"), *([pip] if pip else []))
    out = folder / "p.tar"
    return create(["pocket"], out, SILENT, packages=Collected(wheels, platforms), split=split).files[0]


def run(bundle: Path, *words: str | Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """`sh install.sh BUNDLE` as its README says it, in an empty folder."""
    folder = bundle.parent / "unpacked"
    folder.mkdir(exist_ok=True)
    parts = sorted(bundle.parent.glob("p.tar*"))
    data = b"".join(part.read_bytes() for part in parts)
    subprocess.run(["tar", "xf", "-", "install.sh", "install.py"], cwd=folder, input=data, check=True)
    return subprocess.run(
        ["sh", folder / "install.sh", bundle, *words],
        env=os.environ | {"PYTHON": python},
        capture_output=True,
        text=True,
        cwd=folder,
    )


def test_a_bundle_with_packages_says_for_which_machines_it_is(tmp_path: Path) -> None:
    there = Platform("plan9", "mips", "3.11", None, "r4000")
    bundle = packed(tmp_path, (HERE, there))
    assert verify(bundle, SILENT).manifest.platforms == (HERE, there)
    with tarfile.open(bundle) as archive:
        names = archive.getnames()
        readme = archive.extractfile("README.txt")
        assert readme
        assert b"plan9 mips with Python 3.11, r4000" in readme.read()
    assert names[2:4] == ["install.sh", "install.py"]
    assert names[4] == "packages/gguf_vl-9.9-py3-none-any.whl"
    assert names[-1].startswith("models/pocket/")


@needs_pip
@pytest.mark.parametrize("split", [None, 3_000_000])
def test_one_script_installs_everything_and_again_without_harm(tmp_path: Path, split: int | None) -> None:
    bundle = packed(tmp_path, split=split)
    target = tmp_path / "venv"
    for _ in range(2):
        done = run(bundle, "--venv", target, "--trust", "KEY")
        assert done.returncode == 0, done.stderr
        assert f"ran ['bundle', 'install', '{bundle}', '--trust', 'KEY'] {tmp_path}" in done.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sys_platform": "plan9"}, "is for plan9"),
        ({"machine": "mips"}, "mips"),
        ({"python": "3.99"}, "Python 3.99"),
        ({"libc": "glibc 9.99"}, "glibc 9.99 or newer"),
        ({"libc": "musl"}, "is for systems with musl"),
    ],
)
def test_a_machine_that_the_bundle_is_not_for_is_refused_in_a_line(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    if "libc" in change and sys.platform != "linux":
        pytest.skip("only Linux has more than one libc")
    done = run(packed(tmp_path, (replace(HERE, **change),)), "--venv", tmp_path / "venv")
    assert done.returncode == 3
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "venv").exists()


def test_a_processor_below_the_baseline_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from gguf_vl.store.bundle import installer

    monkeypatch.setattr(installer, "processor_flags", lambda: {"sse4_2", "avx", "f16c"})
    with pytest.raises(SystemExit) as ended:
        installer.check_platform([vars_of(replace(HERE, baseline="x86-64-v3"))])
    assert ended.value.code == 3
    assert "avx2, bmi2, fma" in capsys.readouterr().err


def vars_of(place: Platform) -> dict[str, Any]:
    return {name: getattr(place, name) for name in ("sys_platform", "machine", "python", "libc", "baseline")}


def test_the_python_that_the_packages_are_for_is_looked_for(tmp_path: Path) -> None:
    other = tmp_path / "bin" / "python3.99"
    other.parent.mkdir()
    other.write_text('#!/bin/sh\necho "3.99 with $@"\n')
    other.chmod(0o755)
    bundle = packed(tmp_path, (replace(HERE, python="3.99"),))
    before = os.environ["PATH"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{other.parent}{os.pathsep}{before}")
        done = run(bundle)
    assert done.stdout.startswith("3.99 with ")
    assert str(bundle) in done.stdout


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"import os, sys", b"import os, re", 1),  # the packages
        lambda data: data[:20_000],
        lambda data: b"",
        lambda data: data.replace(b'"platforms"', b'"platfarms"', 1),
    ],
)
def test_damaged_packages_are_not_installed(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    good = packed(tmp_path)
    bundle = tmp_path / "damaged.tar"
    bundle.write_bytes(damage(good.read_bytes()))
    done = subprocess.run(
        [sys.executable, INSTALLER, bundle, "--venv", tmp_path / "venv"], capture_output=True, text=True
    )
    assert done.returncode == 5, done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "venv").exists()


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    bundle = packed(tmp_path)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").touch()
    done = run(bundle, "--venv", mine)
    assert (done.returncode, list(mine.iterdir())) == (2, [mine / "thesis.txt"])


def test_without_packages_the_bundle_says_what_it_is(tmp_path: Path) -> None:
    bundle = create(["pocket"], tmp_path / "p.tar", SILENT).files[0]
    done = subprocess.run([sys.executable, INSTALLER, bundle], capture_output=True, text=True)
    assert done.returncode == 3
    assert "models alone" in done.stderr
    missing = subprocess.run([sys.executable, INSTALLER, tmp_path / "no.tar"], capture_output=True, text=True)
    assert (missing.returncode, missing.stderr.count("\n")) == (3, 1)


def test_the_installer_needs_the_standard_library_alone() -> None:
    code = f"import sys, runpy; runpy.run_path({str(INSTALLER)!r}); print([n for n in sys.modules if 'gguf' in n])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    assert shutil.which("sh") is not None
