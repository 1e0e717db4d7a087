"""Models that other programs keep are found, taken in by hard link or reference, and left as they are."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from gguf_vl import paths
from gguf_vl.errors import GgufVlError, InvalidModelFile, ModelNotFound, UsageError, VerificationFailed
from gguf_vl.store import library
from gguf_vl.store.adopt import (
    Outcome,
    Pair,
    Place,
    Refused,
    adopt,
    bring_in,
    found_elsewhere,
    found_in,
    pairs_in,
    places,
)
from gguf_vl.store.library import LocalModel
from gguf_vl.store.progress import Silent
from tests.store.other_programs import (
    LAYOUTS,
    POCKET,
    POCKET_MMPROJ,
    hash_of,
    hugging_face,
    llama_cpp,
    lm_studio,
    ollama,
    relabelled,
    state_of,
)

Files = tuple[Path, Path]
Lay = Callable[..., None]


def scanned(*, dry_run: bool = False) -> list[Outcome]:
    return list(bring_in(found_elsewhere(places()), only_qwen3vl=True, dry_run=dry_run))


def brought(*given: Path, name: str | None = None) -> list[Outcome]:
    return list(bring_in(found_in(given), name=name))


def installed(name: str) -> LocalModel:
    found = library.find(name)
    assert found
    return found


def one_pair(*given: Path) -> Pair:
    [group] = found_in(given)
    assert not isinstance(group, Refused)
    [pair] = pairs_in(group)
    assert isinstance(pair, Pair)
    return pair


def said(outcome: Outcome) -> str:
    assert outcome.error
    return f"{outcome.error.what} {outcome.error.fix}"


def nothing_was_taken_in() -> bool:
    """A lock may be left: it is empty, and the next one uses it."""
    models = paths.models_dir()
    return not models.exists() or all(path.suffix == ".lock" for path in models.iterdir())


class Interrupting(Silent):
    def at(self, label: str, done: int) -> None:
        raise KeyboardInterrupt


# --- found and taken in ---


@pytest.mark.parametrize(("below", "lay"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_pair_in_each_programs_folder_is_found_and_linked_and_the_folder_stays_as_it_was(
    person: Path, pair: Files, below: str, lay: Lay
) -> None:
    lay(person / below, *pair)
    before = state_of(person)
    [outcome] = scanned()
    assert (outcome.state, outcome.name, outcome.linked) == ("imported", "pebble-f16", True)
    local = installed("pebble-f16")
    assert local.mmproj
    assert (local.model.name, local.mmproj.name) == ("pebble-F16.gguf", "mmproj-pebble-F16.gguf")
    assert local.model.samefile(outcome.model)
    assert outcome.mmproj
    assert local.mmproj.samefile(outcome.mmproj)
    assert not local.model.is_symlink()
    assert local.receipt
    assert [record.sha256 for record in local.receipt.files] == [hash_of(file) for file in pair]
    assert str(outcome.model) in local.receipt.source
    assert {record.promised_by for record in local.receipt.files} == {"hub" if "blobs" in " ".join(before) else "none"}
    assert state_of(person) == before


@pytest.mark.parametrize(
    ("variable", "below", "lay"),
    [
        ("HF_HOME", "hub", hugging_face),
        ("HF_HUB_CACHE", "", hugging_face),
        ("OLLAMA_MODELS", "", ollama),
        ("LLAMA_CACHE", "", llama_cpp),
        ("XDG_CACHE_HOME", "huggingface/hub", hugging_face),
        ("XDG_CACHE_HOME", "llama.cpp", llama_cpp),
    ],
)
def test_a_folder_that_the_environment_names_is_searched_too(
    person: Path, pair: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str, lay: Lay
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    lay(tmp_path / "elsewhere" / below, *pair)
    assert [outcome.state for outcome in scanned()] == ["imported"]


def test_a_folder_that_two_rules_name_is_searched_once(person: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (person / ".cache/huggingface/hub").mkdir(parents=True)
    (person / "link").symlink_to(person / ".cache/huggingface")
    monkeypatch.setenv("HF_HOME", str(person / "link"))
    assert places() == [Place("Hugging Face", person / "link" / "hub")]


def test_files_that_cannot_be_linked_are_used_where_they_are(
    person: Path, pair: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refused)
    hugging_face(person / ".cache/huggingface/hub", *pair)
    before = state_of(person)
    [outcome] = scanned()
    assert (outcome.state, outcome.linked) == ("imported", False)
    local = installed("pebble-f16")
    assert (local.model, local.mmproj) == (outcome.model, outcome.mmproj)
    assert local.model.name == "pebble-F16.gguf"
    assert [path.name for path in (paths.models_dir() / "pebble-f16").iterdir()] == ["receipt.json"]
    assert state_of(person) == before


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no second file system here")
def test_files_on_another_file_system_are_used_where_they_are(pair: Files) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if os.stat(folder).st_dev == os.stat(paths.data_dir()).st_dev:
            pytest.skip("the same file system")
        for file in pair:
            shutil.copy(file, folder)
        [outcome] = brought(Path(folder))
        assert (outcome.state, outcome.linked) == ("imported", False)
        assert installed("pebble-f16").model == Path(folder) / "pebble-F16.gguf"


def test_files_and_folders_are_taken_by_path(tmp_path: Path, pair: Files) -> None:
    deep = tmp_path / "some" / "where"
    deep.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    text, mmproj = Path(shutil.copy(pair[0], deep)), Path(shutil.copy(pair[1], tmp_path / "other"))
    assert [(o.name, o.mmproj is None) for o in brought(text, mmproj, name="by-files")] == [("by-files", False)]
    assert [(o.name, o.mmproj is None) for o in brought(text, name="alone")] == [("alone", True)]
    shutil.move(mmproj, deep)
    assert [(o.name, o.mmproj is None) for o in brought(text, name="beside")] == [("beside", False)]
    assert [(o.name, o.mmproj is None) for o in brought(tmp_path, name="by-folder")] == [("by-folder", False)]


def test_every_text_model_of_a_folder_gets_the_projector_of_its_own_name(tmp_path: Path, pair: Files) -> None:
    for name in ("one", "two"):
        relabelled(POCKET, tmp_path / f"{name}.gguf", {"general.name": name})
        relabelled(POCKET_MMPROJ, tmp_path / f"mmproj-{name}.gguf", {"general.name": name})
    assert sorted((o.name, o.mmproj and o.mmproj.name) for o in brought(tmp_path)) == [
        ("one", "mmproj-one.gguf"),
        ("two", "mmproj-two.gguf"),
    ]


def test_repositories_in_llama_cpps_flat_cache_are_kept_apart(person: Path, tmp_path: Path) -> None:
    for owner in ("ann", "bob"):
        made = tmp_path / owner
        made.mkdir()
        text = relabelled(POCKET, made / f"{owner}s-F16.gguf", {"general.name": owner})
        mmproj = relabelled(POCKET_MMPROJ, made / "mmproj-F16.gguf", {"general.name": owner})
        llama_cpp(person / ".cache/llama.cpp", text, mmproj, repository=f"{owner}_pebble-GGUF_")
    outcomes = scanned()
    assert sorted((o.name, o.source) for o in outcomes) == [
        ("anns-f16", "llama.cpp's cache, ann_pebble-GGUF"),
        ("bobs-f16", "llama.cpp's cache, bob_pebble-GGUF"),
    ]
    for outcome in outcomes:
        assert outcome.mmproj
        assert outcome.mmproj.name.startswith(outcome.model.name[:3])


@pytest.mark.parametrize(
    ("manifest", "name"),
    [
        ("registry.ollama.ai/library/pebble/latest", "pebble"),
        ("registry.ollama.ai/library/pebble/2b-f16", "pebble-2b-f16"),
        ("hf.co/owner/Pebble-GGUF/F16", "pebble-f16"),
    ],
)
def test_ollamas_nameless_files_are_named_by_model_and_tag(person: Path, pair: Files, manifest: str, name: str) -> None:
    ollama(person / ".ollama/models", *pair, where=manifest)
    [outcome] = scanned()
    assert (outcome.state, outcome.name) == ("imported", name)
    assert installed(name).model.name.casefold() == f"{name}.gguf"


def test_ollamas_nameless_files_may_be_given_by_path(person: Path, pair: Files) -> None:
    ollama(person, *pair)
    [outcome] = brought(*(person / "blobs" / f"sha256-{hash_of(file)}" for file in pair))
    assert (outcome.state, outcome.name) == ("imported", "pebble-f16")
    assert installed("pebble-f16").projector


def test_two_commits_with_the_same_files_are_one_model(person: Path, pair: Files) -> None:
    for commit in ("1" * 40, "2" * 40):
        hugging_face(person / ".cache/huggingface/hub", *pair, commit=commit)
    assert [(o.state, o.model.parent.name) for o in scanned()] == [("imported", "2" * 40)]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(person: Path, pair: Files) -> None:
    lm_studio(person / ".lmstudio/models", *pair)
    ollama(person / ".ollama/models", POCKET, POCKET_MMPROJ, where="registry.ollama.ai/library/p/latest")
    before = state_of(person)
    outcomes = scanned(dry_run=True)
    assert [(o.state, o.name) for o in outcomes] == [("would import", "pebble-f16"), ("already here", "pocket")]
    assert nothing_was_taken_in()
    assert state_of(person) == before


# --- here already ---


def test_what_is_here_is_not_taken_in_again(person: Path, pair: Files) -> None:
    lm_studio(person / ".lmstudio/models", *pair)
    assert [(o.state, o.name) for o in scanned()] == [("imported", "pebble-f16")]
    before = state_of(paths.models_dir())
    llama_cpp(person / ".cache/llama.cpp", *pair)  # the same bytes in another place
    assert [(o.state, o.name) for o in scanned()] == [("already here", "pebble-f16")] * 2
    assert [(o.state, o.name) for o in brought(pair[0])] == [("already here", "pebble-f16")]
    assert state_of(paths.models_dir()) == before


def test_the_embedded_model_is_here_already_unless_another_name_is_wished_for(tmp_path: Path) -> None:
    assert [(o.state, o.name) for o in brought(paths.pocket_dir())] == [("already here", "pocket")]
    lm_studio(tmp_path, POCKET, POCKET_MMPROJ)
    assert [(o.state, o.name) for o in brought(tmp_path)] == [("already here", "pocket")]
    assert [(o.state, o.name) for o in brought(tmp_path, name="mine")] == [("imported", "mine")]
    mine = installed("mine")
    assert mine.receipt
    assert {record.promised_by for record in mine.receipt.files} == {"catalogue"}


def test_a_folder_of_models_without_a_receipt_gets_one_when_it_is_given_itself(tmp_path: Path, pair: Files) -> None:
    own = paths.models_dir() / "Own"
    own.mkdir(parents=True)
    for file in pair:
        os.link(file, own / file.name)
    assert [outcome.state for outcome in brought(*pair)] == ["already here"]
    assert installed("own").receipt is None
    assert [outcome.state for outcome in brought(own)] == ["already here"]
    receipt = installed("own").receipt
    assert receipt
    assert (receipt.name, [record.sha256 for record in receipt.files]) == ("Own", [hash_of(file) for file in pair])
    (own / "receipt.json").unlink()
    own.rename(tmp_path / "elsewhere")
    own.symlink_to(tmp_path / "elsewhere")
    assert [outcome.state for outcome in brought(own)] == ["already here"]
    assert not (own / "receipt.json").exists()


def test_a_name_that_other_content_has_is_refused_and_another_name_helps(tmp_path: Path, pair: Files) -> None:
    assert [o.state for o in brought(*pair)] == ["imported"]
    other = relabelled(POCKET, tmp_path / "pebble-F16.gguf", {"general.name": "another"})
    [outcome] = brought(other, pair[1])
    assert outcome.state == "not taken"
    assert isinstance(outcome.error, UsageError)
    assert "--name" in said(outcome)
    assert [(o.state, o.name) for o in brought(other, pair[1], name="another")] == [("imported", "another")]
    with pytest.raises(UsageError, match="already"):
        adopt(one_pair(*pair), "ANOTHER")


@pytest.mark.parametrize("name", ["8b", "8B-q8_0", "pocket"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_name_that_means_another_model_is_not_given(pair: Files, name: str, dry_run: bool) -> None:
    [outcome] = bring_in(found_in(pair), name=name, dry_run=dry_run)
    assert (outcome.state, type(outcome.error)) == ("not taken", UsageError)
    assert nothing_was_taken_in()


def test_a_name_is_for_one_model(tmp_path: Path, pair: Files) -> None:
    shutil.copy(pair[0], tmp_path / "one.gguf")
    relabelled(POCKET, tmp_path / "two.gguf", {"general.name": "two"})
    with pytest.raises(UsageError, match="2 models"):
        brought(tmp_path, name="both")


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "x.gguf", "tail-", "two words", "ü", "n" * 101])
def test_a_name_that_would_not_do_as_one_is_wrong_usage(pair: Files, name: str) -> None:
    with pytest.raises(UsageError):
        brought(*pair, name=name)
    assert nothing_was_taken_in()


@pytest.mark.parametrize("files", [1, 2])
def test_who_is_quicker_at_the_same_name_keeps_it(pair: Files, files: int) -> None:
    """While this one waits, another process takes in both files, or the text model alone."""
    folder = paths.models_dir() / "pebble-f16"
    folder.parent.mkdir(parents=True)
    lock = FileLock(folder.with_name(".pebble-f16.lock"))

    class Waiting(Silent):
        def note(self, line: str) -> None:
            assert "waiting" in line
            folder.mkdir()
            for file in pair[:files]:
                shutil.copy(file, folder)
            lock.release()

    lock.acquire()
    if files == 2:
        assert not adopt(one_pair(*pair), progress=Waiting()).new
    else:
        with pytest.raises(UsageError, match="here already with other files"):
            adopt(one_pair(*pair), progress=Waiting())
    assert sorted(path.name for path in folder.iterdir()) == sorted(file.name for file in pair[:files])


# --- a text model alone ---


def test_a_text_model_alone_is_taken_by_path_and_left_by_a_scan(person: Path, pair: Files) -> None:
    lm_studio(person / ".lmstudio/models", pair[0])
    [outcome] = scanned()
    assert outcome.state == "not taken"
    assert "no projector" in said(outcome)
    [outcome] = brought(person / ".lmstudio/models/owner/pebble-GGUF/pebble-F16.gguf")
    assert (outcome.state, outcome.mmproj) == ("imported", None)
    assert installed("pebble-f16").mmproj is None


# --- what must not be taken ---


def fill_with_trouble(folder: Path, good: Path) -> None:
    """Everything that people find beside a model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a-truncated.gguf").write_bytes(good.read_bytes()[:100_000])
    (folder / "b-empty.gguf").touch()
    (folder / "c-picture.gguf").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "d-gone.gguf").symlink_to("nowhere")
    (folder / "e-itself.gguf").symlink_to("e-itself.gguf")
    os.mkfifo(folder / "f-pipe.gguf")
    (folder / "g-lfs.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    for part in (1, 2, 3):
        (folder / f"h-split-0000{part}-of-00003.gguf").touch()
    (folder / "loop").symlink_to(folder)
    (folder / "notes.txt").write_text("mine")
    (folder / ".hidden.gguf").write_text("not looked at")
    (folder / "folder.gguf").mkdir()
    with open(os.fsencode(folder) + b"/i-\xff.gguf", "wb"):
        pass


@pytest.mark.parametrize("by_path", [True, False])
def test_broken_and_foreign_files_hide_no_other(person: Path, pair: Files, by_path: bool) -> None:
    root = person / ".lmstudio/models"
    fill_with_trouble(root / "owner" / "pebble-GGUF", pair[0])
    fill_with_trouble(root / "another" / "first", pair[0])
    for file in pair:
        shutil.copy(file, root / "owner" / "pebble-GGUF")
    before = state_of(person)
    outcomes = brought(root) if by_path else scanned()
    assert [o.name for o in outcomes if o.state == "imported"] == ["pebble-f16"]
    refused = [(o.state, o.model.name[:1]) for o in outcomes if o.error]
    assert sorted(refused) == sorted([*(("broken", kind) for kind in "abcdefgi"), ("not taken", "h")] * 2)
    assert state_of(person) == before


def test_an_unreadable_folder_or_file_hides_no_other(pair: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as made:
        person = Path(made)
        monkeypatch.setenv("HOME", made)
        monkeypatch.setenv("GGUF_VL_HOME", str(person / "ours"))
        lm_studio(person / ".lmstudio/models", *pair)
        shutil.copytree(person / ".lmstudio/models/owner", person / ".lmstudio/models/closed")
        shutil.copy(pair[0], person / ".lmstudio/models/owner/pebble-GGUF/unreadable.gguf")
        hugging_face(person / ".cache/huggingface/hub", *pair)
        hugging_face(person / ".cache/huggingface/hub", *pair, repository="owner/closed")
        (person / ".ollama/models").mkdir(parents=True)
        for closed in (
            person / ".lmstudio/models/closed",
            person / ".lmstudio/models/owner/pebble-GGUF/unreadable.gguf",
            person / ".cache/huggingface/hub/models--owner--closed",
            person / ".ollama",
        ):
            closed.chmod(0)
        with as_somebody_else(person):
            outcomes = scanned()
        assert sorted(o.state for o in outcomes) == ["already here", "broken", "broken", "broken", "broken", "imported"]
        assert all("ermission denied" in said(o) for o in outcomes if o.error)


@contextmanager
def as_somebody_else(home: Path) -> Iterator[None]:
    """Where tests run as root, nothing is closed to them: act as nobody, to whom that home belongs."""
    if os.geteuid():
        yield
        return
    nobody = 65534
    for path in [home, *home.rglob("*")]:
        os.chown(path, nobody, nobody, follow_symlinks=False)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


def test_links_in_circles_end_and_depth_is_bounded(tmp_path: Path, pair: Files) -> None:
    deep = tmp_path.joinpath(*"abcdefgh")
    deep.mkdir(parents=True)
    shutil.copy(pair[0], deep / "too-deep.gguf")
    shutil.copy(pair[0], tmp_path / "a" / "b" / "found.gguf")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a" / "b")
    assert [o.name for o in brought(tmp_path)] == ["found"]


def test_a_scan_takes_no_other_architecture_and_says_so(person: Path, pair: Files, tmp_path: Path) -> None:
    llama = tmp_path / "llama.gguf"
    llama.write_bytes(pair[0].read_bytes().replace(b"qwen3vl", b"qwen9vl"))
    other_tower = tmp_path / "mmproj-other.gguf"
    other_tower.write_bytes(pair[1].read_bytes().replace(b"qwen3vl_merger", b"qwen9vl_merger"))
    lm_studio(person / ".lmstudio/models", *pair, llama, other_tower)
    outcomes = {o.model.name: o for o in scanned()}
    assert {name: o.state for name, o in outcomes.items()} == {
        "pebble-F16.gguf": "imported",
        "llama.gguf": "not taken",
        "mmproj-other.gguf": "not taken",
    }
    assert "architecture qwen9vl, not a Qwen3-VL" in said(outcomes["llama.gguf"])


def test_ollamas_form_of_one_file_is_refused(person: Path, pair: Files, tmp_path: Path) -> None:
    both = relabelled(pair[0], tmp_path / "both.gguf", {}, more_tensors=("v.patch_embed.bias",))
    ollama(person / ".ollama/models", both)
    [outcome] = scanned()
    assert outcome.state == "not taken"
    assert "only Ollama reads" in said(outcome)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        '{"layers": null}',
        '{"layers": [7]}',
        '{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../secret"}]}',
        '{"layers": ' + "[" * 200_000,
    ],
)
def test_a_manifest_that_makes_no_sense_hides_no_other(person: Path, pair: Files, manifest: str) -> None:
    root = person / ".ollama/models"
    ollama(root, *pair)
    broken = root / "manifests/registry.ollama.ai/library/broken/latest"
    broken.parent.mkdir(parents=True)
    broken.write_text(manifest)
    (root / "manifests" / "stray").write_text("no manifest")
    assert sorted(o.state for o in scanned()) == ["broken", "imported"]


def test_a_manifest_whose_file_is_gone_is_said_to_be_broken(person: Path, pair: Files) -> None:
    ollama(person / ".ollama/models", *pair)
    (person / ".ollama/models/blobs" / f"sha256-{hash_of(pair[0])}").unlink()
    assert [o.state for o in scanned()] == ["broken"]


# --- verified ---


def damaged(path: Path) -> None:
    """Turn one bit of the last weight: size and header stay as they are."""
    with path.open("r+b") as stream:
        stream.seek(-100, os.SEEK_END)
        byte = stream.read(1)[0]
        stream.seek(-100, os.SEEK_END)
        stream.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(("below", "lay"), [LAYOUTS["Hugging Face"], LAYOUTS["Ollama"]], ids=["Hugging Face", "Ollama"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_is_not_what_its_name_promises_is_damaged(
    person: Path, pair: Files, below: str, lay: Lay, which: int
) -> None:
    lay(person / below, *pair)
    [blob] = [path for path in person.rglob(f"*{hash_of(pair[which])}") if path.is_file()]
    damaged(blob)
    [outcome] = scanned()
    assert outcome.state == "broken"
    assert isinstance(outcome.error, VerificationFailed)
    assert hash_of(pair[which]) in said(outcome)
    assert nothing_was_taken_in()


def test_a_published_file_that_is_not_what_the_catalogue_says_is_damaged(tmp_path: Path) -> None:
    for file in (POCKET, POCKET_MMPROJ):
        shutil.copy(file, tmp_path)
    damaged(tmp_path / POCKET.name)
    with pytest.raises(VerificationFailed, match="catalogue"):
        adopt(one_pair(tmp_path), "mine")
    assert nothing_was_taken_in()


def test_a_file_that_changes_while_it_is_hashed_is_not_taken(tmp_path: Path, pair: Files) -> None:
    text = Path(shutil.copy(pair[0], tmp_path))

    class Writing(Silent):
        def end(self, label: str) -> None:
            with text.open("ab") as stream:
                stream.write(b"more")

    with pytest.raises(InvalidModelFile, match="changed"):
        adopt(one_pair(text), progress=Writing())
    assert nothing_was_taken_in()


def test_an_interrupt_while_hashing_or_linking_leaves_nothing_behind(
    pair: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        adopt(one_pair(*pair), progress=Interrupting())
    assert nothing_was_taken_in()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("gguf_vl.store.place.write_receipt", interrupted)
        with pytest.raises(KeyboardInterrupt):
            adopt(one_pair(*pair))
    assert nothing_was_taken_in()
    assert adopt(one_pair(*pair)).new


def test_a_folder_that_cannot_be_written_is_a_failure_with_a_way_out(home: Path, pair: Files) -> None:
    (home / "models").write_text("in the way")
    with pytest.raises(GgufVlError) as failed:
        adopt(one_pair(*pair))
    assert failed.value.exit_code == 1
    assert "GGUF_VL_HOME" in failed.value.fix


# --- paths that hold nothing ---


def test_a_path_without_a_model_is_said_to_have_none(tmp_path: Path, pair: Files) -> None:
    (tmp_path / "empty").mkdir()
    for given in (tmp_path / "missing", tmp_path / "empty"):
        [outcome] = brought(given)
        assert isinstance(outcome.error, ModelNotFound)
        assert given.name in said(outcome)
    [outcome] = brought(pair[1])
    assert outcome.state == "not taken"
    assert "without its text model" in said(outcome)
    assert list(scanned()) == []
