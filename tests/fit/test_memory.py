"""What is counted in bytes, against the file's own list of tensors and against what llama.cpp says it allocates."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_vl.fit import memory
from gguf_vl.fit.plan import plan
from gguf_vl.types import MAIN, KvType, Learnt, Reserved, Wishes
from tests.fit.given import GIB, MIB, card, machine, on, subject, without_projector

PLENTY = 512 * GIB
MODELS = ["2b:q4_k_m", "2b:q8_0", "4b:q4_k_m", "8b:q4_k_m", "8b:q8_0", "pocket"]

# Model, context, batch, sequences, and the MiB that llama.cpp 0c1e57098 says it reserves on a CPU to compute and for
# the outputs, one for each sequence. The same in Q4_K_M and Q8_0 and with either type of cache.
RESERVED = """
2b    2048    64  1     9.75  0.58
2b    2048   512  1    78.02  0.58
2b   32768   512  4   108.02  2.32
2b  262144   512  1   332.02  0.58
2b    2048  2048  8   312.07  4.64
4b    2048    64  1    13.63  0.58
4b    4096   512  1   111.02  0.58
4b   32768   512  4   139.02  2.32
4b  262144  2048  1  1452.07  0.58
8b    2048    64  1    19.25  0.58
8b    4096   512  8   156.02  4.64
8b   32768   512  1   184.02  0.58
8b  131072   512  4   280.02  2.32
8b  262144  2048  1  1632.07  0.58
"""


@pytest.mark.parametrize("row", RESERVED.strip().splitlines())
def test_compute_and_output_buffers_are_llama_cpps_within_a_hundredth_or_a_fifth_of_a_mb(row: str) -> None:
    model, *sizes = row.split()
    n_ctx, n_batch, n_seq_max = map(int, sizes[:3])
    compute, output = (float(size) * MIB for size in sizes[3:])
    text = subject(model).text
    assert memory.compute(text, n_ctx, n_batch) == pytest.approx(compute, rel=0.01, abs=0.2e6)
    assert memory.output(text, n_seq_max) == pytest.approx(output, rel=0.01, abs=0.2e6)


@pytest.mark.parametrize(
    ("model", "kv_type", "kib"),
    [("2b", "f16", 112), ("4b", "f16", 144), ("8b", "f16", 144), ("8b", "q8_0", 76.5), ("8b", "q4_0", 40.5)],
)
def test_the_cache_takes_so_many_kib_for_each_token(model: str, kv_type: KvType, kib: float) -> None:
    assert memory.kv(subject(model).text, 8192, kv_type) == kib * 1024 * 8192
    assert memory.kv(subject(model).text, 8000, kv_type) == memory.kv(subject(model).text, 8192, kv_type)
    assert memory.kv(subject(model).text, 7936, kv_type) < memory.kv(subject(model).text, 8000, kv_type)


@pytest.mark.parametrize("model", MODELS)
def test_all_weights_are_somewhere_whatever_is_offloaded(model: str) -> None:
    text = subject(model).text
    copied = text.other_bytes["token_embd.weight"] if text.tied_embeddings else 0
    for n in range(subject(model).all_layers + 1):
        host, device = memory.weights(text, n)
        assert host + device == text.n_bytes + (copied if n else 0)
    assert memory.weights(text, 0)[1] == 0
    assert memory.weights(text, -1) == memory.weights(text, 99) == memory.weights(text, subject(model).all_layers)
    assert memory.weights(text, -1)[0] == text.other_bytes["token_embd.weight"]


@pytest.mark.parametrize("model", MODELS)
def test_each_layer_more_on_the_gpu_is_that_layer_the_last_ones_first(model: str) -> None:
    text = subject(model).text
    steps = [after[1] - before[1] for before, after in pairwise(memory.weights(text, n) for n in range(1, 99))]
    assert tuple(steps[: text.n_layer]) == text.layer_bytes[::-1]


def test_a_plan_allocates_all_weights_the_cache_and_the_projector_once() -> None:
    model = subject("8b")
    assert model.projector
    for n in (0, 1, 20, 37):
        found = plan(model, machine(PLENTY, card(PLENTY)), Wishes(n_gpu_layers=n, n_ctx=8192))
        of = {purpose: on(found, MAIN, purpose) + on(found, "CUDA0", purpose) for purpose in ("weights", "KV")}
        assert of["weights"] == model.text.n_bytes
        assert of["KV"] == memory.kv(model.text, 8192, "f16")
        assert on(found, MAIN, "projector") + on(found, "CUDA0", "projector") == model.projector.n_bytes


def llama_cpp_devices(n_layer: int, n_gpu_layers: int, split: tuple[int, ...]) -> list[int | None]:
    """The GPU of each layer, the output last, None for main memory: `load_tensors` in llama-model.cpp, in float32."""
    splits = np.cumsum(np.array(split, dtype=np.float32), dtype=np.float32)
    splits /= splits[-1]
    first = max(n_layer + 1 - n_gpu_layers, 0)
    active = min(n_gpu_layers, n_layer + 1)
    found: list[int | None] = []
    for layer in range(n_layer + 1):
        if layer < first or layer - first >= active:
            found.append(None)
            continue
        share = np.float32(layer - first) / np.float32(active)
        found.append(int(np.searchsorted(splits, share, side="right")))  # std::upper_bound
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["2b:q4_k_m", "4b:q8_0", "8b:q4_k_m"]),
    st.lists(st.integers(300, 12_000), min_size=2, max_size=3),
    st.none() | st.integers(1, 37),
    st.none() | st.booleans(),
)
def test_llama_cpp_gives_each_card_the_layers_that_the_split_says(
    model: str, free: list[int], n_gpu_layers: int | None, mmproj_offload: bool | None
) -> None:
    cards = [card(each * MIB, number) for number, each in enumerate(free)]
    cards[-1] = card(40 * GIB, len(free) - 1)
    wished = Wishes(n_ctx=8192, n_gpu_layers=n_gpu_layers, mmproj_offload=mmproj_offload, kv_type="f16")
    where = subject(model) if mmproj_offload is False else without_projector(model)
    found = plan(where, machine(PLENTY, *cards), wished)
    text, split = where.text, found.load.split
    assert len(split) == len(free)
    assert sum(split) == found.load.n_gpu_layers > 0
    held_by = llama_cpp_devices(text.n_layer, found.load.n_gpu_layers, split)
    assert [held_by.count(number) for number in range(len(split))] == list(split)
    for number in range(len(split)):
        layers = [layer for layer in range(text.n_layer) if held_by[layer] == number]
        weights = sum(text.layer_bytes[layer] for layer in layers)
        if held_by[-1] == number:
            weights += memory.weights(text, 1)[1]
        assert on(found, f"CUDA{number}", "weights") == weights
        assert on(found, f"CUDA{number}", "KV") == sum(
            memory.kv(text, 8192, "f16", layer, layer + 1) for layer in layers
        )


@pytest.mark.parametrize("n", [1, 2, 19, 36, 37])
def test_cards_together_hold_what_one_would(n: int) -> None:
    wished = Wishes(n_gpu_layers=n, n_ctx=8192, mmproj_offload=False)
    one = plan(subject("8b"), machine(PLENTY, card(PLENTY)), wished)
    three = plan(subject("8b"), machine(PLENTY, card(2 * GIB, 0), card(3 * GIB, 1), card(PLENTY, 2)), wished)
    for purpose in ("weights", "KV"):
        assert sum(on(three, f"CUDA{number}", purpose) for number in range(3)) == on(one, "CUDA0", purpose)
        assert on(three, MAIN, purpose) == on(one, MAIN, purpose)


def test_what_llama_cpp_was_asked_stands_in_place_of_the_formula() -> None:
    where = machine(PLENTY, card(24 * GIB))
    by_formula = plan(subject("8b"), where)
    answer = Reserved({"CPU": 11 * MIB, "CUDA0": 222 * MIB}, 3 * MIB)
    found = plan(subject("8b"), where, Wishes(), Learnt(reserved={by_formula.load: answer}))
    assert (on(found, MAIN, "compute"), on(found, "CUDA0", "compute")) == (14 * MIB, 222 * MIB)
    assert on(found, "CUDA0", "weights", "KV") == on(by_formula, "CUDA0", "weights", "KV")


def test_what_a_picture_took_when_it_was_encoded_stands_in_place_of_the_formula() -> None:
    learnt = Learnt(encode={("CUDA0", 4096): 777 * MIB})
    assert on(plan(subject("8b"), machine(PLENTY, card(24 * GIB)), Wishes(), learnt), "CUDA0", "encode") == 777 * MIB


def test_what_could_not_be_had_is_not_counted_as_free() -> None:
    where = machine(PLENTY, card(9 * GIB))
    believed = plan(subject("8b"), where)
    found = plan(subject("8b"), where, Wishes(), Learnt(missing={"CUDA0": 2 * GIB}))
    assert found.pools[1].free == believed.pools[1].free - 2 * GIB
    assert found.taken("CUDA0") <= found.pools[1].usable < believed.taken("CUDA0")


@pytest.mark.parametrize(("model", "vectors"), [("2b", 9.75), ("4b", 9.75), ("8b", 10.0)])
def test_encoding_a_picture_takes_as_many_vectors_for_each_patch_as_llama_cpp_reserves(
    model: str, vectors: float
) -> None:
    projector = subject(model).projector
    assert projector
    patches = 4 * 4096
    reserved = vectors * 4 * projector.n_embd * patches
    assert reserved <= memory.encode_buffer(projector, 4096, on_gpu=False) <= 1.03 * reserved
