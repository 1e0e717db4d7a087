"""What a catalogue says of a bundle's models is held against them, and goes along to where it is not known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gguf_vl import catalogue
from gguf_vl.errors import VerificationFailed
from gguf_vl.gguf import projector_shape, read_header, text_shape
from gguf_vl.store import library
from gguf_vl.store.bundle import create as packing
from gguf_vl.store.bundle import manifest, published
from gguf_vl.store.bundle.create import create
from gguf_vl.store.bundle.install import install
from gguf_vl.store.bundle.reading import verify
from gguf_vl.store.hashing import sha256_of
from gguf_vl.store.progress import Silent
from gguf_vl.store.receipt import read_receipt
from tests.store.bundles import PROJECTOR, TEXT, another_machine, contents, install_model, resealed

SILENT = Silent()
MODEL, MMPROJ = "Mini-F16.gguf", "mmproj-Mini-F16.gguf"


class Catalogue:
    """The catalogue of this machine: the real one, until `learn` adds the model `mini`, which is pocket's twin."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch, self._folder = patch, folder
        self._real = catalogue._catalogue_file().read_text(encoding="utf-8")

    def learn(self, *, n_layer: int | None = None) -> None:
        text, vision = text_shape(read_header(TEXT)), projector_shape(read_header(PROJECTOR))
        shape = (
            f"[shapes.mini.text]\nn_embd = {text.n_embd}\nn_layer = {n_layer or text.n_layer}\nn_head = 2\n"
            f"n_head_kv = 1\nhead_dim = 32\nn_ff = {text.n_ff}\nn_vocab = {text.n_vocab}\ntied_embeddings = true\n"
            "rope_base = 5e6\nrope_sections = [24, 20, 20]\n"
            f"[shapes.mini.vision]\nn_embd = {vision.n_embd}\nn_layer = {vision.n_layer}\nn_head = {vision.n_head}\n"
            f"n_ff = {vision.n_ff}\ndeepstack_layers = {list(vision.deepstack)}\nn_out = {vision.projection_dim}\n"
            "patch_size = 16\nspatial_merge = 2\ntemporal_patch = 2\nn_positions = 2304\n"
        )
        files = {"variants": (TEXT, MODEL, 'mmproj = "f16"\n'), "projectors": (PROJECTOR, MMPROJ, "")}
        self._use(
            f"{self._real}\n{shape}\n[models.mini]\n"
            'title = "Mini, for tests"\nlicence = "MIT"\nthinking = false\nsampling = "pocket"\nshape = "mini"\n'
            'n_ctx_train = 4096\nimage_tokens = { min = 16, max = 512 }\nhuggingface = "a/mini"\ndefault = "f16"\n'
            + "".join(
                f'[models.mini.{kind}.f16]\nname = "{name}"\nsize = {file.stat().st_size}\n'
                f'sha256 = "{sha256_of(file)}"\n{more}'
                for kind, (file, name, more) in files.items()
            )
        )

    def forget(self) -> None:
        self._use(self._real)

    def _use(self, text: str) -> None:
        file = self._folder / "models.toml"
        file.write_text(text, encoding="utf-8")
        self._patch.setattr(catalogue, "_catalogue_file", lambda: file)
        catalogue.load_catalogue.cache_clear()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """The catalogue of the machine that a test is on."""
    yield Catalogue(monkeypatch, tmp_path_factory.mktemp("catalogue"))
    catalogue.load_catalogue.cache_clear()


def mini(folder: Path, text: bytes | None = None, *, name: str = "mini", file: str = MODEL) -> Path:
    """An installed model that says it is `mini`, with this text model."""
    folder.mkdir(exist_ok=True)
    (folder / file).write_bytes(TEXT.read_bytes() if text is None else text)
    shutil.copy(PROJECTOR, folder / MMPROJ)
    return install_model(name, folder / file, folder / MMPROJ)


def of_other_bytes(same_size: bool) -> bytes:
    data = TEXT.read_bytes()
    return data[:-1] + bytes([data[-1] ^ 1]) if same_size else data + b"\0"


def refused(bundle: Path, models: Path) -> str:
    """What verify and install say of it, which is the same; install changes nothing."""
    said = set()
    for attempt in (verify, install):
        before = contents(models) if models.exists() else None
        with pytest.raises(VerificationFailed) as caught:
            attempt(bundle, SILENT)
        assert (contents(models) if models.exists() else None) == before
        said.add(caught.value.what)
    [what] = said
    return what


# --- what the catalogue here knows ------------------------------------------------------------------------------------


def test_the_published_files_are_recorded_as_that(
    known: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.learn()
    mini(tmp_path / "files")
    bundle = create(["mini"], tmp_path / "m.tar", SILENT).files[0]
    models = another_machine(monkeypatch, tmp_path / "there")
    install(bundle, SILENT)
    receipt = read_receipt(models / "mini")
    assert receipt
    assert [file.promised_by for file in receipt.files] == ["catalogue", "catalogue"]
    assert sorted(path.name for path in (models / "mini").iterdir()) == sorted([MODEL, MMPROJ, "receipt.json"])


@pytest.mark.parametrize("same_size", [True, False])
@pytest.mark.parametrize("name", ["mini", "something-else"])
def test_a_file_that_is_called_like_a_published_one_and_is_another_is_refused(
    known: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_size: bool, name: str
) -> None:
    mini(tmp_path / "files", of_other_bytes(same_size), name=name)
    bundle = create([name], tmp_path / "m.tar", SILENT).files[0]
    known.learn()
    said = refused(bundle, another_machine(monkeypatch, tmp_path / "there"))
    assert MODEL in said
    assert ("sha256" if same_size else "3260129 bytes") in said


def test_a_published_name_in_other_letters_is_the_same_name(
    known: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini(tmp_path / "files", of_other_bytes(False), file=MODEL.upper())
    bundle = create(["mini"], tmp_path / "m.tar", SILENT).files[0]
    known.learn()
    refused(bundle, another_machine(monkeypatch, tmp_path / "there"))


def test_a_model_of_another_size_than_its_name_says_is_refused(
    known: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini(tmp_path / "files", file="own.gguf", name="mini:q4_k_m")
    bundle = create(["mini:q4_k_m"], tmp_path / "m.tar", SILENT).files[0]
    known.learn(n_layer=28)
    models = another_machine(monkeypatch, tmp_path / "there")
    with pytest.raises(VerificationFailed, match="28 of"):
        install(bundle, SILENT)
    assert [path.name for path in models.iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize("name", ["mini", "Mini", "mini:f16", "mini-f16", "MINI-F16"])
def test_what_is_called_like_a_known_model_and_is_none_of_its_files_is_refused(
    known: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mini(tmp_path / "files", of_other_bytes(True), file="own.gguf", name=name)
    bundle = create([name], tmp_path / "m.tar", SILENT).files[0]
    known.learn()
    assert "own.gguf is none of the files" in refused(bundle, another_machine(monkeypatch, tmp_path / "there"))


def test_another_conversion_of_a_known_model_is_installed_under_a_name_of_its_own(
    known: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini(tmp_path / "files", of_other_bytes(True), file="own.gguf", name="mine")
    bundle = create(["mine"], tmp_path / "m.tar", SILENT).files[0]
    known.learn()
    models = another_machine(monkeypatch, tmp_path / "there")
    install(bundle, SILENT)
    receipt = read_receipt(models / "mine")
    assert receipt
    assert [file.promised_by for file in receipt.files] == ["bundle", "catalogue"]


def test_what_the_other_side_would_refuse_is_not_packed(known: Catalogue, tmp_path: Path) -> None:
    known.learn()
    mini(tmp_path / "files", of_other_bytes(False))
    with pytest.raises(VerificationFailed, match="published file of that name has 3260128"):
        create(["mini"], tmp_path / "m.tar", SILENT)
    mini(tmp_path / "others", file="own.gguf", name="mini:f16")
    known.learn(n_layer=28)
    with pytest.raises(VerificationFailed, match="not what it is called"):
        create(["mini:f16"], tmp_path / "m.tar", SILENT)
    assert not list(tmp_path.glob("m.tar*"))


def test_a_pocket_of_another_version_does_not_matter(
    known: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = packing.published.unlike_published
    monkeypatch.setattr(packing.published, "unlike_published", lambda model, file: real(model, replace(file, size=1)))
    bundle = create(["pocket"], tmp_path / "p.tar", SILENT).files[0]
    assert [each.state for each in install(bundle, SILENT).outcomes] == ["embedded"]


# --- what it does not know --------------------------------------------------------------------------------------------


def test_what_the_packers_catalogue_says_goes_along(
    known: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.learn()
    mini(tmp_path / "files")
    theirs = catalogue.load_catalogue()["mini"]
    made = create(["mini", "pocket"], tmp_path / "m.tar", SILENT)
    assert list(made.manifest.catalogue["models"]) == ["mini"]
    assert verify(made.files[0], SILENT).manifest == made.manifest
    known.forget()
    models = another_machine(monkeypatch, tmp_path / "there")
    assert [each.state for each in install(made.files[0], SILENT).outcomes] == ["installed", "embedded"]
    assert published.kept(models / "mini") == theirs
    assert library.open_folder(models / "mini").name == "mini"
    known.learn()  # later: the catalogue comes first, and what is kept does no harm
    assert [each.state for each in install(made.files[0], SILENT).outcomes] == ["already here", "embedded"]
    packed = create(["mini"], tmp_path / "again.tar", SILENT).manifest
    assert [file.name for file in packed.models[0].files] == [MODEL, MMPROJ]


def test_models_that_no_catalogue_knows_have_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_model("a")
    made = create(["a"], tmp_path / "a.tar", SILENT)
    assert made.manifest.catalogue == {}
    models = another_machine(monkeypatch, tmp_path / "there")
    install(made.files[0], SILENT)
    assert published.kept(models / "a") is None


@pytest.mark.parametrize(
    "entry",
    [{}, {"schema": 99}, {"schema": 1, "models": []}, {"schema": 1, "models": {"mini": {"title": "\x1b[2J"}}}],
)
def test_an_entry_that_is_not_understood_is_left_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any]
) -> None:
    monkeypatch.setattr(packing.published, "entries", lambda models: entry)
    mini(tmp_path / "files")
    made = create(["mini"], tmp_path / "m.tar", SILENT)
    models = another_machine(monkeypatch, tmp_path / "there")
    install(made.files[0], SILENT)
    assert sorted(path.name for path in (models / "mini").iterdir()) == sorted([MODEL, MMPROJ, "receipt.json"])


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"schema": 1, "models": {}}', b"\xff", None])
def test_a_kept_entry_that_is_damaged_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / manifest.KEPT_ENTRY).write_bytes(content)
    assert published.kept(tmp_path) is None


def test_a_manifest_whose_catalogue_is_no_object_is_refused(tmp_path: Path) -> None:
    plain = json.loads(manifest.to_bytes(create(["pocket"], tmp_path / "p.tar", SILENT).manifest))
    for value in ([], 1, "x", None):
        with pytest.raises(VerificationFailed, match="catalogue is not an object"):
            manifest.from_bytes(resealed(plain | {"catalogue": value}))
    del plain["catalogue"]
    assert manifest.from_bytes(resealed(plain)).catalogue == {}


def test_no_file_of_a_model_takes_the_entrys_place(tmp_path: Path) -> None:
    plain = json.loads(manifest.to_bytes(create(["pocket"], tmp_path / "p.tar", SILENT).manifest))
    plain["models"][0]["model"]["name"] = "Catalogue.json"
    with pytest.raises(VerificationFailed, match="twice"):
        manifest.from_bytes(resealed(plain))
