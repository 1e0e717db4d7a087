"""install.py, which lies in a bundle: it checks everything, then installs it where only Python is."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gguf_vl.store.bundle import installer, layout
from gguf_vl.store.bundle.create import INSTALLER, create
from gguf_vl.store.bundle.manifest import Platform
from gguf_vl.store.bundle.packages import Collected
from gguf_vl.store.bundle.reading import verify
from gguf_vl.store.progress import Silent
from tests.store.bundles import HERE, bundled_pip, key, needs_pip, needs_ssh_keygen, public, stubs

SILENT = Silent()


def packed(
    folder: Path, platforms: tuple[Platform, ...] = (HERE,), split: int | None = None, sign: Path | None = None
) -> Path:
    """A bundle of `pocket` with the stubs and pip."""
    pip = bundled_pip()
    wheels = (*stubs(folder / "wheels"), *([pip] if pip else []))
    out = folder / "p.tar"
    return create(["pocket"], out, SILENT, packages=Collected(wheels, platforms), split=split, sign=sign).files[0]


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
        done = run(bundle, "--venv", target)
        assert done.returncode == 0, done.stderr
        assert f"ran ['bundle', 'install', '{bundle}'] {tmp_path}" in done.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sys_platform": "plan9"}, "is for plan9"),
        ({"machine": "mips"}, "mips"),
        ({"python": "3.99"}, "Python 3.99"),
        ({"libc": "glibc 9.99"}, "glibc 9.99 or newer"),
        ({"libc": "musl"}, "needs musl; this system has glibc"),
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
    monkeypatch.setattr(installer, "processor_flags", lambda: {"sse4_2", "avx", "f16c"})
    with pytest.raises(SystemExit) as ended:
        installer.check_platform([vars_of(replace(HERE, baseline="x86-64-v3"))])
    assert ended.value.code == 3
    assert "avx2, bmi2, fma" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has more than one libc")
def test_of_packages_for_several_libcs_those_that_run_here_are_enough(capsys: pytest.CaptureFixture[str]) -> None:
    musl, newer = replace(HERE, libc="musl"), replace(HERE, libc="glibc 9.99")
    installer.check_platform([vars_of(each) for each in (musl, newer, HERE)])
    with pytest.raises(SystemExit):
        installer.check_platform([vars_of(each) for each in (musl, newer)])
    assert "needs musl" in capsys.readouterr().err


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
        lambda data: data[:-2_000_000] + b"?" + data[-1_999_999:],  # a model
        lambda data: data[:-2_000_000],
        lambda data: data + b"\0",
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
    assert "ran" not in done.stdout.split()
    assert not (tmp_path / "venv").exists()


def test_a_flipped_bit_anywhere_is_found_before_anything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = packed(tmp_path)
    data, damaged = bytearray(good.read_bytes()), tmp_path / "damaged.tar"
    monkeypatch.setattr(sys, "argv", ["install.py", str(damaged), "--venv", str(tmp_path / "venv")])
    monkeypatch.setattr(installer, "install", lambda packages, folder: pytest.fail("it went on"))
    monkeypatch.setattr(installer.shutil, "which", lambda name: None)  # a flipped bit may ask for another Python

    @settings(max_examples=30, deadline=None)
    @given(place=st.integers(0, len(data) - 1), bit=st.integers(0, 7))
    @example(place=0, bit=0)  # the first header
    @example(place=540, bit=1)  # the text for a person
    @example(place=data.index(b'"program"') + 12, bit=0)  # the manifest, where nothing else tells
    @example(place=len(data) - 1, bit=0)  # the end
    @example(place=len(data) - 1025, bit=7)  # the last of the weights' padding
    def flip(place: int, bit: int) -> None:
        data[place] ^= 1 << bit
        damaged.write_bytes(data)
        data[place] ^= 1 << bit
        with pytest.raises(SystemExit) as ended:
            installer.main()
        assert ended.value.code in (3, 5)

    flip()


@pytest.mark.parametrize("path", ["README.txt", "install.sh", "a" * 100, "a" * 101, "models/é/" + "x" * 300])
@pytest.mark.parametrize("size", [0, 511, 8**11 - 1, 8**11, 1 << 50])
def test_what_it_expects_of_a_tar_is_what_create_writes(path: str, size: int) -> None:
    assert installer.header(path, size) == layout.header(path, size)


@needs_pip
@needs_ssh_keygen
def test_who_packed_it_is_asked_before_anything_of_it_is_run(tmp_path: Path) -> None:
    alice, mallory = key(tmp_path, "alice"), key(tmp_path, "mallory")
    bundle, target = packed(tmp_path, sign=mallory), tmp_path / "venv"
    signers = tmp_path / "allowed"
    signers.write_text(f'# ours\nalice@site namespaces="gguf-vl-bundle" {public(alice).read_text()}')
    wrong = tmp_path / "mail"
    wrong.write_text(f'mallory namespaces="file" {public(mallory).read_text()}')
    for trust, code, said in (
        (public(alice), 5, "not by anybody"),
        (signers, 5, "not by anybody"),
        (wrong, 5, "not by anybody"),
        (mallory, 3, "neither an OpenSSH public key"),
        (tmp_path / "nowhere", 3, "cannot be read"),
    ):
        done = run(bundle, "--venv", target, "--trust", trust)
        assert (done.returncode, done.stdout) == (code, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert not target.exists()
    signers.write_text(f"mallory@site {public(mallory).read_text()}")
    for trust in (public(mallory), signers):
        done = run(bundle, "--venv", target, "--trust", trust)
        assert done.returncode == 0, done.stderr
        assert f"ran ['bundle', 'install', '{bundle}', '--trust', '{trust}']" in done.stdout
    assert "signed by mallory@site" in done.stdout


@needs_ssh_keygen
def test_a_bundle_that_is_not_signed_or_was_changed_after_it_is_not_run_where_a_signer_is_demanded(
    tmp_path: Path,
) -> None:
    alice = key(tmp_path, "alice")
    (tmp_path / "unsigned").mkdir()
    done = run(packed(tmp_path / "unsigned"), "--venv", tmp_path / "venv", "--trust", public(alice))
    assert (done.returncode, done.stdout) == (5, "")
    assert "is not signed" in done.stderr
    changed = packed(tmp_path, sign=alice)
    data = changed.read_bytes()
    changed.write_bytes(data.replace(b'"Apache-2.0"', b'"Apache-9.0"', 1))  # in the manifest; all else fits together
    done = run(changed, "--venv", tmp_path / "venv", "--trust", public(alice))
    assert (done.returncode, done.stdout) == (5, "")
    assert "was changed" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_nothing_that_lies_beside_it_is_imported_or_run(tmp_path: Path) -> None:
    bundle = packed(tmp_path, (replace(HERE, python="/../evil"),))
    beside = tmp_path / "unpacked"
    (beside / "python").mkdir(parents=True)
    (beside / "json.py").write_text("print('evil')")
    (beside / "evil").write_text("#!/bin/sh\necho evil\n")
    (beside / "evil").chmod(0o755)
    done = run(bundle)
    assert (done.returncode, done.stdout) == (3, "")
    assert "/../evil" in done.stderr


def test_what_a_bundle_says_does_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    done = run(packed(tmp_path, (replace(HERE, machine="\x1b]0;evil\x07"),)))
    assert done.returncode == 3
    assert "?]0;evil?" in done.stderr


@needs_pip
@pytest.mark.parametrize("where", ["a-file/venv", "loop", "a:b"])
def test_an_environment_that_cannot_be_made_is_refused_in_a_line(tmp_path: Path, where: str) -> None:
    (tmp_path / "a-file").touch()
    (tmp_path / "loop").symlink_to("loop")
    bundle = packed(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = run(bundle, "--venv", tmp_path / where)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"{tmp_path / where}: " in done.stderr
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "unpacked"])


@needs_pip
def test_an_environment_that_was_killed_while_it_was_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    done = run(packed(tmp_path), "--venv", tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    assert "ran ['bundle', 'install'" in done.stdout


def test_what_is_left_of_an_environment_that_a_full_disk_stopped_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(_: object, folder: Path) -> None:
        folder.mkdir()
        (folder / "pyvenv.cfg").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(installer.venv.EnvBuilder, "create", stopped)
    monkeypatch.setattr(installer, "unpack", lambda bundle, packages, trust: (packages / "pip-1.whl").touch())
    monkeypatch.setattr(sys, "argv", ["install.py", "a.tar", "--venv", str(tmp_path / "venv")])
    with pytest.raises(SystemExit) as ended:
        installer.main()
    assert ended.value.code == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "venv").exists()


def test_parts_are_found_whatever_their_name_holds(tmp_path: Path) -> None:
    first, *_ = create(["pocket"], tmp_path / "m[1].*.tar", SILENT, split=3_000_000).files
    done = subprocess.run([sys.executable, INSTALLER, first], capture_output=True, text=True)
    assert (done.returncode, "models alone" in done.stderr) == (3, True), done.stderr


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


def test_the_readme_says_that_nothing_checks_the_checker_and_how_a_person_does(tmp_path: Path) -> None:
    def text(bundle: Path) -> str:
        with tarfile.open(bundle) as archive:
            stream = archive.extractfile("README.txt")
            assert stream
            return stream.read().decode()

    for name in ("signed", "unsigned"):
        (tmp_path / name).mkdir()
    assert "not signed: run them if you trust whoever had it" in text(packed(tmp_path / "unsigned"))
    if shutil.which("ssh-keygen"):
        said = text(packed(tmp_path / "signed", sign=key(tmp_path, "alice")))
        assert "nothing checks them" in said
        assert "sha256sum install.sh install.py" in said
        assert "ssh-keygen -Y verify" in said


def test_the_installer_needs_the_standard_library_alone() -> None:
    code = f"import sys, runpy; runpy.run_path({str(INSTALLER)!r}); print([n for n in sys.modules if 'gguf' in n])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    assert shutil.which("sh") is not None
