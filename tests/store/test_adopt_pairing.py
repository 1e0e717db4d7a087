"""Which projector belongs to which text model, and what the pair is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest

from gguf_vl import catalogue
from gguf_vl.store.adopt import Outcome, bring_in, found_in
from gguf_vl.store.belonging import first_telling
from tests.gguf import gguf_files
from tests.gguf.gguf_files import SIZES, Size
from tests.store.other_programs import POCKET, POCKET_MMPROJ, relabelled


def foreseen(*given: Path) -> list[Outcome]:
    return list(bring_in(found_in(given), dry_run=True))


def text_file(folder: Path, file: str = "model.gguf", size: str = "2B", **said: Any) -> Path:
    """A text model with the sizes of a published one, Q4_K_M unless it says otherwise."""
    entries = gguf_files.qwen3vl_entries(SIZES[size], n_merges=1)
    entries |= {f"general.{key}": value for key, value in said.items()}
    return gguf_files.write(folder / file, "qwen3vl", entries, gguf_files.qwen3vl_tensors(SIZES[size]))


def mmproj_file(folder: Path, file: str = "mmproj.gguf", size: Size = SIZES["2B"], **said: Any) -> Path:
    entries = gguf_files.projector_entries(size) | {f"general.{key}": value for key, value in said.items()}
    return gguf_files.write(folder / file, "clip", entries, gguf_files.projector_tensors(size))


# --- Instruct and Thinking ---


@pytest.mark.parametrize(
    ("said", "training"),
    [
        (["Instruct"], "Instruct"),
        ([None, "Qwen3 VL 2B Thinking"], "Thinking"),
        (["Thinking", "Qwen3VL-2B-Instruct"], "Thinking"),
        ([None, "Qwen3 VL", "mmproj-Qwen3VL-8B-INSTRUCT-F16.gguf"], "Instruct"),
        (["Instruct or Thinking", "Thinking"], "Thinking"),
        ([None, "Qwen3 VL", "model.gguf"], None),
        ([], None),
    ],
)
def test_the_first_telling_name_says_how_a_model_was_trained(said: list[str | None], training: str | None) -> None:
    assert first_telling(*said) == training


@pytest.mark.parametrize("key", ["general.name", "general.finetune", "general.basename"])
@pytest.mark.parametrize("trained", [("Instruct", "Thinking"), ("Thinking", "Instruct")])
def test_a_projector_of_the_other_training_is_refused_by_what_it_says(
    tmp_path: Path, key: str, trained: tuple[str, str]
) -> None:
    text = relabelled(POCKET, tmp_path / "text.gguf", {key: f"pebble {trained[0]}"})
    mmproj = relabelled(POCKET_MMPROJ, tmp_path / "mmproj.gguf", {key: f"pebble {trained[1]}"})
    for given in ((text, mmproj), (tmp_path,)):
        [outcome] = foreseen(*given)
        assert outcome.state == "not taken"
        assert outcome.error
        assert outcome.error.exit_code == 3
        assert f"of a {trained[1]} model, and the model is {trained[0]}" in outcome.error.what


def test_a_projector_of_the_other_training_is_refused_by_its_file_name(tmp_path: Path) -> None:
    text = relabelled(POCKET, tmp_path / "pebble-Instruct.gguf", {})
    mmproj = relabelled(POCKET_MMPROJ, tmp_path / "mmproj-pebble-Thinking.gguf", {})
    assert [o.state for o in foreseen(text, mmproj)] == ["not taken"]
    own = relabelled(POCKET_MMPROJ, tmp_path / "mmproj-zzz-Instruct.gguf", {})
    assert [(o.state, o.mmproj) for o in foreseen(tmp_path)] == [("would import", own)]


def test_a_text_model_given_alone_leaves_a_projector_beside_it_that_is_not_its_own(tmp_path: Path) -> None:
    text = relabelled(POCKET, tmp_path / "pebble-Instruct.gguf", {})
    relabelled(POCKET_MMPROJ, tmp_path / "mmproj-pebble-Thinking.gguf", {})
    assert [(o.state, o.mmproj) for o in foreseen(text)] == [("would import", None)]


def test_a_text_model_whose_projector_is_broken_waits_for_it(tmp_path: Path) -> None:
    text = relabelled(POCKET, tmp_path / "pebble.gguf", {})
    mmproj = tmp_path / "mmproj-pebble.gguf"
    mmproj.write_bytes(POCKET_MMPROJ.read_bytes()[:100_000])
    for given in ((tmp_path,), (text, mmproj)):
        assert [(o.state, o.model) for o in foreseen(*given)] == [("broken", mmproj), ("not taken", text)]
    assert [(o.state, o.mmproj) for o in foreseen(text)] == [("would import", None)]


# --- sizes ---


def test_a_projector_of_another_size_is_refused(tmp_path: Path) -> None:
    text, other = text_file(tmp_path), mmproj_file(tmp_path, size=SIZES["4B"])
    [outcome] = foreseen(text, other)
    assert outcome.error
    assert "vectors of 2560 numbers and the model takes 2048" in outcome.error.what


def test_a_projector_of_the_same_width_with_another_tower_is_refused(tmp_path: Path) -> None:
    """30B-A3B is as wide as 2B, and its tower is that of 8B."""
    large = SIZES["8B"]
    tower = Size(2048, 48, 32, 6144, False, large.vision_hidden, large.vision_depth, 4304, large.deepstack)
    [outcome] = foreseen(text_file(tmp_path), mmproj_file(tmp_path, size=tower))
    assert outcome.error
    assert "27 layers of 1152 where this model's has 24 of 1024" in outcome.error.what


def test_another_text_model_in_the_folder_is_taken_without_the_projector(tmp_path: Path) -> None:
    text_file(tmp_path, "Qwen3VL-2B-Instruct-Q4_K_M.gguf")
    mmproj_file(tmp_path, "mmproj-Qwen3VL-2B-Instruct-F16.gguf")
    relabelled(POCKET, tmp_path / "pebble.gguf", {})
    assert sorted((o.state, o.name, o.mmproj is None) for o in foreseen(tmp_path)) == [
        ("would import", "pebble", True),
        ("would import", "qwen3vl-2b-instruct-q4_k_m", False),
    ]


def test_the_catalogues_projector_is_chosen_for_a_published_file(tmp_path: Path) -> None:
    text_file(tmp_path, "Qwen3VL-2B-Instruct-Q4_K_M.gguf")
    own = mmproj_file(tmp_path, "mmproj-Qwen3VL-2B-Instruct-Q8_0.gguf")
    mmproj_file(tmp_path, "mmproj-Qwen3VL-2B-Instruct-F16.gguf")
    mmproj_file(tmp_path, "mmproj-Qwen3VL-2B-Instruct-Q4_K_M.gguf")
    assert [o.mmproj for o in foreseen(tmp_path)] == [own]


# --- names ---


@pytest.mark.parametrize(
    ("file", "said", "name"),
    [
        ("Qwen3VL-2B-Instruct-Q4_K_M.gguf", {}, "qwen3vl-2b-instruct-q4_k_m"),
        ("Qwen3VL-2B-Thinking-Q8_0.gguf", {}, "2b-thinking:q8_0"),
        ("Qwen3VL-4B-Thinking-Q8_0.gguf", {}, "qwen3vl-4b-thinking-q8_0"),
        (catalogue.find("2b")[1].file.sha256, {}, "2b"),
        (catalogue.find("2b:q8_0")[1].file.sha256, {}, "2b:q8_0"),
        ("model.gguf", {"name": "Qwen3 VL 2B Thinking"}, "qwen3-vl-2b-thinking-q4_k_m"),
        ("qwen.gguf", {"file_type": int(gguf.LlamaFileType.MOSTLY_Q8_0)}, "qwen"),
        ("Qwen3-VL-2B-Instruct-Q5_K_M.gguf", {"file_type": 17}, "qwen3-vl-2b-instruct-q5_k_m"),
        ("Qwen3-VL-2B-Instruct-abliterated-Q4_K_M.gguf", {}, "qwen3-vl-2b-instruct-abliterated-q4_k_m"),
        ("Qwen3-VL-2B-Q4_K_M.gguf", {"finetune": "OCR"}, "qwen3-vl-2b-q4_k_m"),
        ("ggml-model-q4_k.gguf", {"name": "Röntgen, (very) good"}, "r-ntgen-very-good-q4_k_m"),
        ("8b.gguf", {"name": "mine"}, "local-8b"),
        ("8b-Q8_0.gguf", {"name": "mine"}, "local-8b-q8_0"),
        ("图.gguf", {"name": "图"}, "model"),
    ],
)
def test_a_published_file_is_called_as_in_the_catalogue_and_any_other_by_its_own_name(
    tmp_path: Path, file: str, said: dict[str, Any], name: str
) -> None:
    """Hugging Face's `blobs` are named by their hashes."""
    folder = tmp_path / "blobs"
    folder.mkdir()
    assert [(o.state, o.name) for o in foreseen(text_file(folder, file, **said))] == [("would import", name)]


def test_two_models_of_one_name_are_told_apart_before_anything_is_done(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        relabelled(POCKET, tmp_path / folder / "same.gguf", {"general.name": folder})
    first, second = foreseen(tmp_path)
    assert (first.state, first.name, second.state) == ("would import", "same", "not taken")
    assert second.error
    assert "--name" in second.error.fix
