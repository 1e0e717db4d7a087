"""From a header to a model's shape, with Qwen3-VL's real shapes, and which projector belongs to which model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gguf_vl.errors import InvalidModelFile
from gguf_vl.gguf import ProjectorShape, TextShape, mismatch, projector_shape, read_header, text_shape
from tests.gguf import gguf_files as make
from tests.gguf.gguf_files import SIZES, Kind, Quant

N_VOCAB = 300
PUBLISHED_TEXT = {"2B": 1107409952, "4B": 2497281664, "8B": 5027784800}
PUBLISHED_PROJECTOR = {"2B": 819394848, "4B": 836180256, "8B": 1159029824}
HEADER = 8 << 20
"""Bytes; the published headers are some 6 MB, ours are as long as the invented vocabulary."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def text_of(path: Path, size: str, n_vocab: int = N_VOCAB, n_merges: int = 5, **changed: Any) -> TextShape:
    """A text model's shape after changing some entries; None removes one."""
    entries = make.qwen3vl_entries(SIZES[size], n_vocab, n_merges)
    return _changed_text(path, entries, make.qwen3vl_tensors(SIZES[size], n_vocab), changed)


def _changed_text(path: Path, entries: dict[str, Any], tensors: make.Tensors, changed: dict[str, Any]) -> TextShape:
    return text_shape(read_header(make.write(path, "qwen3vl", _apply(entries, changed), tensors)))


def projector_of(path: Path, size: str, **changed: Any) -> ProjectorShape:
    entries = _apply(make.projector_entries(SIZES[size]), changed)
    return projector_shape(read_header(make.write(path, "clip", entries, make.projector_tensors(SIZES[size]))))


def _apply(entries: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**entries, **changed}.items() if value is not None}


@pytest.mark.parametrize(("size", "kib_per_token"), [("2B", 112), ("4B", 144), ("8B", 144)])
def test_a_text_models_shape_is_the_published_one(path: Path, size: str, kib_per_token: int) -> None:
    expected = SIZES[size]

    shape = text_of(path, size)

    assert (shape.architecture, shape.name, shape.quantisation) == ("qwen3vl", "Qwen3 VL", "Q4_K_M")
    assert (shape.n_embd, shape.n_layer, shape.n_head) == (expected.n_embd, expected.layers, expected.heads)
    assert shape.n_head_kv == (8,) * expected.layers
    assert (shape.head_dim_k, shape.head_dim_v, shape.n_ff) == (128, 128, expected.n_ff)
    assert (shape.n_vocab, shape.n_ctx_train, shape.rope_base) == (N_VOCAB, 262144, 5e6)
    assert (shape.rope_sections, shape.n_deepstack) == ((24, 20, 20), 3)
    assert (shape.tied_embeddings, shape.chat_template) == (expected.tied, make.TEMPLATE)
    assert (shape.bos, shape.eos) == (N_VOCAB - 2, N_VOCAB - 1)
    kv_bytes = sum(heads * (shape.head_dim_k + shape.head_dim_v) * 2 for heads in shape.n_head_kv)
    assert kv_bytes == kib_per_token << 10


def test_a_real_8b_has_its_real_vocabulary_and_size(path: Path) -> None:
    shape = text_of(path, "8B", make.VOCABULARY, make.MERGES)

    assert (shape.n_vocab, shape.bos, shape.eos) == (151936, 151643, 151645)
    assert 0 <= PUBLISHED_TEXT["8B"] - shape.n_bytes < HEADER


@pytest.mark.parametrize("size", ["2B", "4B"])
def test_the_bytes_of_the_weights_are_those_of_the_published_file(path: Path, size: str) -> None:
    shape = text_of(path, size, make.VOCABULARY)

    assert 0 <= PUBLISHED_TEXT[size] - shape.n_bytes < HEADER


def test_every_byte_is_in_a_layer_or_named_outside_of_them(path: Path) -> None:
    shape = text_of(path, "8B")

    assert len(shape.layer_bytes) == 36
    assert shape.layer_bytes[0] > shape.layer_bytes[5]  # the first layers have more bits in Q4_K_M
    assert shape.other_bytes.keys() == {"token_embd.weight", "output.weight", "output_norm.weight"}
    assert shape.other_bytes["output.weight"] == 4096 * N_VOCAB // 256 * 210
    assert shape.n_bytes == sum(tensor.n_bytes for tensor in shape.tensors)
    assert {tensor.type.name for tensor in shape.tensors} == {"Q4_K", "Q6_K", "F32"}


@pytest.mark.parametrize("size", SIZES)
def test_a_projectors_shape_is_the_published_one(path: Path, size: str) -> None:
    expected = SIZES[size]

    shape = projector_of(path, size)

    assert (shape.type, shape.quantisation) == ("qwen3vl_merger", "F16")
    assert (shape.n_embd, shape.n_layer, shape.n_head) == (expected.vision_hidden, expected.vision_depth, 16)
    assert (shape.n_ff, shape.patch, shape.spatial_merge) == (expected.vision_feed_forward, 16, 2)
    assert (shape.image_size, shape.min_pixels, shape.max_pixels) == (768, None, None)
    assert (shape.deepstack, shape.projection_dim) == (expected.deepstack, expected.n_embd)
    assert shape.embedding_width == 4 * expected.n_embd
    assert (shape.mean, shape.std) == ((0.5,) * 3, (0.5,) * 3)
    assert abs(PUBLISHED_PROJECTOR[size] - shape.n_bytes) < 64 << 10


def test_a_projectors_own_pixel_limits_are_told(path: Path) -> None:
    limits = {"clip.vision.image_min_pixels": 65536, "clip.vision.image_max_pixels": 16777216}

    shape = projector_of(path, "2B", **limits)

    assert (shape.min_pixels, shape.max_pixels) == (65536, 16777216)


@pytest.mark.parametrize("size", SIZES)
def test_a_projector_belongs_to_the_model_of_its_size_alone(path: Path, size: str) -> None:
    projector = projector_of(path, size)

    reasons = {other: mismatch(text_of(path, other), projector) for other in SIZES}

    assert reasons.pop(size) is None
    assert all(reason and str(SIZES[size].n_embd) in reason for reason in reasons.values())


def test_a_projector_with_other_deepstack_layers_does_not_belong(path: Path) -> None:
    reason = mismatch(text_of(path, "2B", **{"qwen3vl.n_deepstack_layers": 2}), projector_of(path, "2B"))

    assert reason == "the projector feeds 3 DeepStack layers and the model has 2"


def test_a_qwen_projector_does_not_belong_to_a_model_without_m_rope(path: Path) -> None:
    text = text_of(path, "2B", **{"qwen3vl.rope.dimension_sections": None})

    assert "M-RoPE" in (mismatch(text, projector_of(path, "2B")) or "")


def test_a_plain_model_of_another_architecture_has_a_shape(path: Path) -> None:
    """SmolLM2's kind: no M-RoPE, no key length, one file type that is not known here, ids beyond the vocabulary."""
    entries = {
        "general.file_type": 999,
        "llama.block_count": 2,
        "llama.context_length": 8192,
        "llama.embedding_length": 576,
        "llama.feed_forward_length": [1536, 1024],
        "llama.attention.head_count": [9, 3],
        "llama.attention.head_count_kv": [3, 0],
        "tokenizer.ggml.tokens": ["a", "b"],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": (-1, Kind.INT32),
        "split.count": 0,
    }
    tensors = {
        "token_embd.weight": ((576, 2), Quant.Q8_0),
        "blk.0.ffn_up.weight": ((576, 1536), Quant.Q8_0),
        "blk.1.ffn_up.weight": ((576, 1024), Quant.F16),
    }
    shape = text_shape(read_header(make.write(path, "llama", entries, tensors)))

    assert (shape.n_head, shape.n_head_kv, shape.head_dim_k, shape.n_ff) == (9, (3, 0), 64, 1536)
    assert (shape.rope_base, shape.rope_sections, shape.n_deepstack) == (10000.0, (), 0)
    assert (shape.bos, shape.eos, shape.name, shape.chat_template) == (None, None, None, None)
    assert (shape.quantisation, shape.tied_embeddings) == ("F16", True)


TEXT_REFUSED = {
    "a missing size": ({"qwen3vl.embedding_length": None}, "does not say qwen3vl.embedding_length"),
    "a size of 0": ({"qwen3vl.context_length": 0}, "context_length is 0"),
    "a size that is a text": ({"qwen3vl.embedding_length": "2048"}, "embedding_length is '2048'"),
    "a size that is true": ({"qwen3vl.context_length": True}, "context_length is True"),
    "2^31 layers": ({"qwen3vl.block_count": 2**31}, "block_count"),
    "a layer without weights": ({"qwen3vl.block_count": 29}, "layer 28 of 29 has no weights"),
    "weights without a layer": ({"qwen3vl.block_count": 27}, "'blk.27."),
    "no heads": ({"qwen3vl.attention.head_count": 0}, "no attention heads"),
    "heads for too few layers": ({"qwen3vl.attention.head_count_kv": [8, 8]}, "each of 28 layers"),
    "a width that the weights don't have": ({"qwen3vl.embedding_length": 4096}, "token_embd.weight has the shape"),
    "a vocabulary that the weights don't have": ({"tokenizer.ggml.tokens": ["one"]}, "token_embd.weight"),
    "a rope base of NaN": ({"qwen3vl.rope.freq_base": float("nan")}, "rope.freq_base is nan"),
    "a template that is a number": ({"tokenizer.chat_template": 7}, "expected a text"),
    "an adapter": ({"general.type": "adapter"}, "holds 'adapter'"),
    "a part of a split model": ({"split.count": 3}, "one of 3 parts"),
    "a part of a split model, told in 16 bits": ({"split.count": (2, Kind.UINT16)}, "one of 2 parts"),
}


@pytest.mark.parametrize("name", TEXT_REFUSED)
def test_a_text_model_that_cannot_be_one_is_refused_with_its_reason(path: Path, name: str) -> None:
    changed, said = TEXT_REFUSED[name]

    with pytest.raises(InvalidModelFile) as caught:
        text_of(path, "2B", **changed)
    assert said in caught.value.what


PROJECTOR_REFUSED = {
    "no type": ({"clip.projector_type": None}, "projector_type"),
    "no vision tower": ({"clip.has_vision_encoder": False}, "no vision tower"),
    "a patch of 0": ({"clip.vision.patch_size": 0}, "patch_size is 0"),
    "a mean of two colours": ({"clip.vision.image_mean": [0.5, 0.5]}, "image_mean is 2 values of f32"),
    "a mean as 64 bits": ({"clip.vision.image_mean": ([0.5] * 3, Kind.ARRAY, Kind.FLOAT64)}, "image_mean"),
    "no deviation": ({"clip.vision.image_std": None}, "image_std"),
    "a deviation of 0": ({"clip.vision.image_std": [0.5, 0.0, 0.5]}, "image_std is zero"),
    "a deviation of NaN": ({"clip.vision.image_std": [0.5, float("nan"), 0.5]}, "finite"),
    "a width that the weights don't have": ({"clip.vision.projection_dim": 2560}, "mm.2.weight has the shape"),
    "DeepStack behind the last layer": ({"clip.vision.block_count": 17}, "behind layer 17"),
}


@pytest.mark.parametrize("name", PROJECTOR_REFUSED)
def test_a_projector_that_cannot_be_one_is_refused_with_its_reason(path: Path, name: str) -> None:
    changed, said = PROJECTOR_REFUSED[name]

    with pytest.raises(InvalidModelFile) as caught:
        projector_of(path, "2B", **changed)
    assert said in caught.value.what


def test_each_kind_of_file_in_the_others_place_is_called_what_it_is(path: Path) -> None:
    size = SIZES["2B"]
    projector = read_header(make.write(path, "clip", make.projector_entries(size), make.projector_tensors(size)))
    with pytest.raises(InvalidModelFile, match="is a projector"):
        text_shape(projector)

    entries, tensors = make.qwen3vl_entries(size, N_VOCAB, 5), make.qwen3vl_tensors(size, N_VOCAB)
    text = read_header(make.write(path, "qwen3vl", entries, tensors))
    with pytest.raises(InvalidModelFile, match="not a projector"):
        projector_shape(text)
