"""A bundle that is damaged, tampered with or made to do harm changes nothing, and says where it is wrong."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gguf_vl.errors import GgufVlError, MissingOrInvalid, VerificationFailed
from gguf_vl.store.bundle import installer, layout, manifest
from gguf_vl.store.bundle.create import create
from gguf_vl.store.bundle.install import install
from gguf_vl.store.bundle.manifest import from_bytes
from gguf_vl.store.bundle.reading import verify
from gguf_vl.store.progress import Silent
from tests.store.bundles import PROJECTOR, TEXT, another_machine, contents, install_model, resealed

SILENT = Silent()
A, B = "models/a/a-F16.gguf", "models/a/mmproj-a-F16.gguf"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle of the model `a`: `pocket` in files that no catalogue knows by name."""
    files = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        another_machine(patch, tmp_path_factory.mktemp("there"))
        install_model("a", shutil.copy(TEXT, files / "a-F16.gguf"), shutil.copy(PROJECTOR, files / "mmproj-a-F16.gguf"))
        yield create(["a"], tmp_path_factory.mktemp("stick") / "a.tar", SILENT).files[0]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`models/` of the machine that the bundle is carried to; it has another model already."""
    found = another_machine(monkeypatch, tmp_path / "here")
    install_model("other")
    return found


@contextmanager
def unchanged(models: Path) -> Iterator[None]:
    before, names = contents(models), sorted(models.rglob("*"))
    yield
    assert (contents(models), sorted(models.rglob("*"))) == (before, names)


def refused(bundle: Path, models: Path) -> str:
    """What verify and install say of it, which is the same; nothing is changed by them."""
    said = []
    for attempt in (verify, install):
        with unchanged(models), pytest.raises((VerificationFailed, MissingOrInvalid)) as caught:
            attempt(bundle, SILENT)
        said.append(str(caught.value))
    assert said[0] == said[1]
    return said[0]


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_anywhere_is_found(bundle: Path, models: Path) -> None:
    data = bytearray(bundle.read_bytes())

    @settings(max_examples=60, deadline=None)
    @given(place=st.integers(0, len(data) - 1), bit=st.integers(0, 7))
    @example(place=0, bit=0)  # the first header
    @example(place=540, bit=1)  # the text for a person
    @example(place=511 + 512, bit=0)  # padding
    @example(place=2100, bit=2)  # the manifest
    @example(place=len(data) - 1, bit=0)  # the end
    @example(place=len(data) - 1025, bit=7)  # the last of the weights' padding
    def flip(place: int, bit: int) -> None:
        damaged = bundle.with_name("damaged.tar")
        data[place] ^= 1 << bit
        damaged.write_bytes(data)
        data[place] ^= 1 << bit
        refused(damaged, models)

    flip()


@pytest.mark.parametrize("keep", [0, 100, 512, 700, 1600, 3_000_000, -1024, -1])
def test_a_bundle_that_ends_early_is_found(bundle: Path, models: Path, tmp_path: Path, keep: int) -> None:
    short = tmp_path / "a.tar"
    short.write_bytes(bundle.read_bytes()[: keep if keep >= 0 else keep or None])
    refused(short, models)


def test_a_bundle_that_goes_on_after_its_end_is_found(bundle: Path, models: Path, tmp_path: Path) -> None:
    long = tmp_path / "a.tar"
    long.write_bytes(bundle.read_bytes() + b"\0")
    assert "goes on after its end" in refused(long, models)


def test_what_is_no_bundle_at_all_is_called_that(models: Path, tmp_path: Path) -> None:
    for content in (b"", b"GGUF" * 1000, bytes(10240), PROJECTOR.read_bytes()):
        file = tmp_path / "x.tar"
        file.write_bytes(content)
        assert "is not a bundle" in refused(file, models)
    with pytest.raises(MissingOrInvalid):
        verify(tmp_path, SILENT)


# --- tampering --------------------------------------------------------------------------------------------------------

Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]


def rewritten(bundle: Path, out: Path, change: Change) -> Path:
    """The bundle with other members, written as `tarfile` writes them."""
    with tarfile.open(bundle) as archive:
        members = []
        for info in archive:
            stream = archive.extractfile(info)
            assert stream
            members.append((info, stream.read()))
    change(members)
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.DIRTYPE, "a folder"),
    ],
)
def test_what_is_no_plain_file_is_refused(bundle: Path, models: Path, tmp_path: Path, kind: bytes, said: str) -> None:
    def beside(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members.insert(2, (special("models/a", kind, "/etc"), b""))

    def instead(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[2] = (special(A, kind, "../../../../etc/passwd"), b"")

    assert said in refused(rewritten(bundle, tmp_path / "x.tar", beside), models)
    refused(rewritten(bundle, tmp_path / "y.tar", instead), models)


@pytest.mark.parametrize("name", ["/etc/cron.d/x", "../../x", "models/a/../../../x", "models/b/x.gguf", A, "x" * 300])
def test_a_file_that_is_not_listed_there_is_refused(bundle: Path, models: Path, tmp_path: Path, name: str) -> None:
    for place in (0, 1, 2, 3, 4):

        def extra(members: list[tuple[tarfile.TarInfo, bytes]], place: int = place) -> None:
            info = tarfile.TarInfo(name)
            info.size = 4
            members.insert(place, (info, b"evil"))

        refused(rewritten(bundle, tmp_path / "x.tar", extra), models)
    assert not list(tmp_path.rglob("evil"))


def test_a_file_that_is_missing_or_elsewhere_is_refused(bundle: Path, models: Path, tmp_path: Path) -> None:
    for number in range(4):
        refused(rewritten(bundle, tmp_path / "x.tar", lambda members, n=number: members.pop(n)), models)  # type: ignore[misc]
    refused(rewritten(bundle, tmp_path / "x.tar", lambda members: members.reverse()), models)


def test_an_announced_size_is_not_believed(bundle: Path, models: Path, tmp_path: Path) -> None:
    data = bundle.read_bytes()
    start = data.index(A.encode(), 2048)
    for size in (0, 1, 8 << 30, 1 << 62):
        block = layout.header(A, size)
        (tmp_path / "x.tar").write_bytes(data[:start] + block + data[start + 512 :])
        assert "3260128 are promised" in refused(tmp_path / "x.tar", models)
    for name in ("README.txt", "manifest.json"):
        start = data.index(name.encode())
        block = layout.header(name, 1 << 40)
        (tmp_path / "x.tar").write_bytes(data[:start] + block + data[start + 512 :])
        assert "is not a bundle" in refused(tmp_path / "x.tar", models)
        tracemalloc.start()
        with pytest.raises(MissingOrInvalid):
            verify(tmp_path / "x.tar", SILENT)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


# --- manifests --------------------------------------------------------------------------------------------------------


def with_manifest(bundle: Path, out: Path, data: bytes) -> Path:
    """The bundle with another manifest, in the form that `create` gives it."""
    whole = bundle.read_bytes()
    start = whole.index(b"manifest.json")
    old = layout.header("manifest.json", len(plain_of(bundle)))
    end = start + len(old) + len(plain_of(bundle)) + len(layout.padding(len(plain_of(bundle))))
    new = layout.header("manifest.json", len(data)) + data + layout.padding(len(data))
    out.write_bytes(whole[:start] + new + whole[end:])
    return out


def plain_of(bundle: Path) -> bytes:
    with tarfile.open(bundle) as archive:
        stream = archive.extractfile("manifest.json")
        assert stream
        return stream.read()


def test_a_manifest_that_promises_other_weights_is_refused(bundle: Path, models: Path, tmp_path: Path) -> None:
    plain = json.loads(plain_of(bundle))
    plain["models"][0]["model"]["sha256"] = "0" * 64
    said = refused(with_manifest(bundle, tmp_path / "x.tar", resealed(plain)), models)
    assert f"damaged in {A}" in said


def test_weights_that_nobody_can_have_are_refused_before_a_byte_of_them(
    bundle: Path, models: Path, tmp_path: Path
) -> None:
    plain = json.loads(plain_of(bundle))
    plain["models"][0]["model"]["size"] = 1 << 49
    assert "incomplete" in refused(with_manifest(bundle, tmp_path / "x.tar", resealed(plain)), models)


@pytest.mark.parametrize("name", ["a/../../b", "a b", "é", "x" * 150, "x.gguf"])
def test_a_model_that_nothing_here_could_be_called_is_refused(
    bundle: Path, models: Path, tmp_path: Path, name: str
) -> None:
    plain = json.loads(plain_of(bundle))
    plain["models"][0]["name"] = name
    said = refused(with_manifest(bundle, tmp_path / "x.tar", resealed(plain)), models)
    assert "cannot be a model's name" in said


def put(*where: str | int, value: object) -> Callable[[Any], None]:
    def change(plain: Any) -> None:
        for step in where[:-1]:
            plain = plain[step]
        if value is KeyError:
            del plain[where[-1]]
        else:
            plain[where[-1]] = value

    return change


M = ("models", 0)
HOSTILE_NAMES: tuple[Any, ...] = (
    "../x", "..", ".", "", "/etc/passwd", "a/../../b", "C:\\x", "a\\b", "nul", "COM1.gguf", "a:b", ".hidden", "-rf",
    "x.", "x ", "a\0b", "a\nb", "\u202egpj.exe", "\x1b[2J", "\ud800", "x" * 250, "é" * 150, 7, None, [], {}, True,
)  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        *(put(*M, "model", "name", value=name) for name in HOSTILE_NAMES),
        *(put(*M, "name", value=name) for name in HOSTILE_NAMES if name not in ("a/../../b", "a:b", "é" * 150, "../x")),
        *(put("files", 0, "path", value=name) for name in (*HOSTILE_NAMES, "models/a/x", "packages/../x.whl")),
        *(put(*M, "model", "size", value=size) for size in (-1, 1.5, "1", True, None, 1 << 60, 10**400)),
        *(put(*M, "model", "sha256", value=sha) for sha in ("", "0" * 63, "A" * 64, "g" * 64, 0, None, "٠" * 64)),
        put(*M, "model", value=KeyError),
        put(*M, "model", value=None),
        put(*M, "mmproj", value=[]),
        put(*M, "mmproj", "name", value="A-f16.gguf"),
        put(*M, "mmproj", "name", value="Receipt.json"),
        put(*M, "title", value="x" * 501),
        put(*M, "title", value="\x1b]0;evil\x07"),
        put(*M, "model", "promised_by", value="me"),
        put("models", value={}),
        put("models", value=[[]]),
        put("models", value=KeyError),
        put("files", value=[]),
        put("files", value=[{}] * 10_001),
        put("platforms", value=[{"sys_platform": "linux", "machine": "x86_64", "python": "3.x"}]),
        put("format", value="zip"),
        put("schema", value=True),
        put("schema", value=KeyError),
        lambda plain: plain["models"].append(plain["models"][0]),
        lambda plain: plain["models"].append(plain["models"][0] | {"name": "A"}),
        lambda plain: plain["files"].append(plain["files"][0]),
    ],
)
def test_a_manifest_that_is_not_what_it_should_be_is_refused(bundle: Path, change: Callable[[Any], None]) -> None:
    plain = json.loads(plain_of(bundle))
    change(plain)
    with pytest.raises((VerificationFailed, MissingOrInvalid)) as caught:
        from_bytes(resealed(plain))
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 600


def test_a_flipped_bit_of_the_manifest_is_found_in_words_that_nothing_compares_too(bundle: Path) -> None:
    plain = bytearray(plain_of(bundle))
    for place in range(len(plain)):
        plain[place] ^= 1 << place % 8
        with pytest.raises((VerificationFailed, MissingOrInvalid)):
            from_bytes(bytes(plain))
        with pytest.raises(ValueError, match="not what it was"):
            installer.unsealed(bytes(plain))
        plain[place] ^= 1 << place % 8
    assert installer.unsealed(bytes(plain)) == json.loads(plain)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"1", b"\xff\xfe", b"NaN", b"[" * 200_000, b'{"a":' * 200_000,
        b'{"format": "gguf-vl-bundle", "format": "gguf-vl-bundle"}', b"9" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(bundle: Path, models: Path, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(VerificationFailed, match=r"manifest\.json cannot be understood"):
        from_bytes(data)
    refused(with_manifest(bundle, tmp_path / "x.tar", data), models)


def test_a_manifest_that_is_too_large_is_not_read(bundle: Path, models: Path, tmp_path: Path) -> None:
    data = b" " * (manifest.MAX_BYTES + 1)
    assert "is not a bundle" in refused(with_manifest(bundle, tmp_path / "x.tar", data), models)


def test_a_bundle_of_a_later_form_asks_for_a_newer_program(bundle: Path) -> None:
    plain = json.loads(plain_of(bundle)) | {"schema": 2, "models": "something else"}
    with pytest.raises(MissingOrInvalid, match="form '2'") as caught:
        from_bytes(resealed(plain))
    assert "newer" in caught.value.fix


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file here fails when it is read")
def test_a_stick_that_fails_is_told_as_that() -> None:
    with pytest.raises(GgufVlError, match="cannot be read: Input/output error"):
        verify(Path("/proc/self/mem"), SILENT)
