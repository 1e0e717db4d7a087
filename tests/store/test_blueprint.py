"""What a published file holds is known before it is here, and llama.cpp takes a file without weights for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gguf_vl import catalogue, paths
from gguf_vl.gguf import projector_shape, read_header, text_shape
from gguf_vl.gguf.shape import mismatch
from gguf_vl.hardware.simulation import simulate
from gguf_vl.store import blueprint
from gguf_vl.store.blueprint import projector_skeleton, projector_tensors, text_skeleton, text_tensors
from gguf_vl.types import Load

PUBLISHED_HEADER = range(5_900_000, 6_000_000)
"""Bytes of a published text file before its tensors: a vocabulary of 151,936 entries with its merges."""
VARIANTS = [f"{size}:{quant}" for size in ("2b", "4b", "8b") for quant in ("q4_k_m", "q8_0", "f16")]


@pytest.mark.parametrize("name", [name for name in VARIANTS if "f16" not in name])
def test_text_tensors_leave_the_published_file_room_for_its_header_only(name: str) -> None:
    model, variant = catalogue.find(name)
    assert model.shape is not None
    assert variant.file.size is not None
    header = variant.file.size - sum(each.n_bytes for each in text_tensors(model.shape.text, variant.quant))
    assert header in PUBLISHED_HEADER


@pytest.mark.parametrize("quant", ["f16", "q8_0"])
@pytest.mark.parametrize("name", ["2b", "4b", "8b"])
def test_projector_tensors_leave_the_published_file_room_for_its_header_only(name: str, quant: str) -> None:
    model, _ = catalogue.find(name)
    published = next(each.file.size for each in model.projectors if each.quant == quant)
    assert model.shape is not None
    assert published is not None
    header = published - sum(each.n_bytes for each in projector_tensors(model.shape.vision, quant))
    assert 0 < header < 30_000


@pytest.mark.parametrize("name", VARIANTS)
def test_a_skeleton_is_read_like_the_file_it_stands_for_and_takes_no_disk(name: str) -> None:
    model, variant = catalogue.find(name)
    projector = next(each for each in model.projectors if each.file == variant.mmproj)
    text_file, vision_file = text_skeleton(model, variant), projector_skeleton(model, projector)
    text, vision = text_shape(read_header(text_file)), projector_shape(read_header(vision_file))
    assert mismatch(text, vision) is None
    assert model.shape
    assert text.n_bytes == sum(each.n_bytes for each in text_tensors(model.shape.text, variant.quant))
    assert sum(path.stat().st_blocks * 512 for path in (text_file, vision_file)) < 200_000


def test_skeletons_are_written_among_the_models_only_where_there_are_no_temporary_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, variant = catalogue.find("2b")
    assert not text_skeleton(model, variant).is_relative_to(paths.data_dir())
    assert not (paths.cache_dir() / "skeletons").exists()

    def nowhere() -> Path:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(blueprint, "_temporary", nowhere)
    found = text_skeleton(model, variant)
    assert found.is_relative_to(paths.cache_dir())
    assert text_shape(read_header(found)).n_layer == 28


def test_llama_cpp_says_what_a_load_of_a_skeleton_would_take_and_is_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    skeleton = text_skeleton(*catalogue.find("8b"))
    loads = [Load(n_ctx, 512, n_seq, "f16", 0) for n_ctx in (4096, 32_768) for n_seq in (1, 32)]
    answers = simulate(skeleton, loads, "8b here")
    assert list(answers) == loads
    megabytes = [round(sum(answers[load].compute.values()) / (1 << 20)) for load in loads]
    assert megabytes == sorted(megabytes)
    assert 120 < megabytes[0] < megabytes[-1] < 220
    assert answers[loads[1]].output == pytest.approx(4 * answers[loads[0]].output, rel=0.01)
    monkeypatch.setattr("gguf_vl.hardware.simulation.subprocess.run", lambda *_, **__: pytest.fail("asked again"))
    assert simulate(skeleton, loads, "8b here") == answers


def test_what_llama_cpp_has_no_answer_to_is_left_out() -> None:
    skeleton = text_skeleton(*catalogue.find("2b"))
    assert simulate(skeleton.with_name("not.gguf"), [Load(4096, 512, 1, "f16", 0)], "none") == {}
    assert simulate(skeleton, [Load(1 << 40, 512, 1, "f16", 0)], "absurd") == {}
