"""What is lowered for a model to fit, in which order, and what a wish changes in that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gguf_vl.errors import DoesNotFit, UsageError
from gguf_vl.fit.plan import plan
from gguf_vl.types import MAIN, Machine, Plan, Wishes
from tests.fit.given import GIB, MIB, apple_gpu, card, machine, on, recorded, subject, without_projector

PLENTY = 64 * GIB


def settings_of(found: Plan) -> tuple[int, str, int, bool, int]:
    """In the order in which they give way."""
    load = found.load
    return found.limits.max_tokens, load.kv_type, load.n_ctx, found.mmproj_offload, load.n_gpu_layers


def usual(found: Plan) -> tuple[int, str, int, bool, int]:
    """The same, without what the context has grown by into memory left over."""
    image_tokens, kv_type, n_ctx, offload, n_gpu_layers = settings_of(found)
    return image_tokens, kv_type, min(n_ctx, 8192), offload, n_gpu_layers


def reason(found: Plan, name: str) -> str:
    return next(choice.why for choice in found.choices if choice.name == name)


def test_as_a_card_shrinks_pictures_give_way_first_then_cache_type_context_projector_and_layers() -> None:
    best = plan(subject("8b"), machine(PLENTY, card(10 * GIB)))
    names = ("pictures", "cache", "context", "projector", "layers")
    lowered: list[str] = []
    for free in range(10 * GIB, 5 * GIB, -16 * MIB):
        found = plan(subject("8b"), machine(PLENTY, card(free)))
        for name, is_now, at_best in zip(names, usual(found), usual(best), strict=True):
            if is_now != at_best and name not in lowered:
                lowered.append(name)
    assert tuple(lowered) == names


def test_without_a_gpu_pictures_give_way_first_then_cache_type_and_context() -> None:
    names = ("pictures", "cache", "context")
    lowered: list[str] = []
    for available in range(10 * GIB, 6 * GIB, -16 * MIB):
        try:
            found = plan(subject("8b"), machine(available))
        except DoesNotFit:
            break
        for name, is_now, at_best in zip(names, usual(found), (4096, "f16", 8192), strict=False):
            if is_now != at_best and name not in lowered:
                lowered.append(name)
    assert tuple(lowered) == names


def test_what_is_not_useful_any_more_is_tried_only_when_nothing_else_fits() -> None:
    """Small pictures and a coarse cache come after the last layer has left the card."""
    useful = settings_of(plan(subject("8b"), machine(12 * GIB, card(512 * MIB))))
    assert useful == (4096, "f16", 8192, False, 0)
    with pytest.raises(DoesNotFit):
        plan(subject("8b"), machine(6 * GIB))
    image_tokens, kv_type, n_ctx, _, _ = settings_of(plan(subject("8b"), machine(7000 * MIB)))
    assert (image_tokens, kv_type, n_ctx) == (256, "q4_0", 4096)


def test_a_line_for_each_thing_that_gave_way_says_what_is_lacking_for_more() -> None:
    found = plan(subject("8b"), machine(PLENTY, card(6300 * MIB)))
    assert found.gave_way == (
        "pictures take at most 1,024 image tokens, not 4,096: CUDA0 lacks 459 MiB",
        "the KV cache is q8_0, not f16: CUDA0 lacks 148 MiB",
        "the context is 4,096 tokens, not 8,192: CUDA0 lacks 188 MiB",
    )
    assert plan(subject("8b"), machine(PLENTY, card(24 * GIB))).gave_way == ()


def test_pictures_that_only_the_context_limits_are_said_to_be() -> None:
    found = plan(subject("8b"), machine(PLENTY, card(3 * GIB)))
    assert settings_of(found)[0:3:2] == (2048, 4096)
    assert found.gave_way[0] == "pictures take at most 2,048 image tokens, not 4,096: that is half of the context"


def test_a_wish_is_kept_and_the_rest_gives_way_instead() -> None:
    small = machine(PLENTY, card(7200 * MIB))
    wished = Wishes()
    for wish, becomes in (
        ({}, (1024, "f16", 8192, True, 37)),
        ({"image_max_tokens": 2048}, (2048, "q8_0", 8192, True, 37)),
        ({"kv_type": "f16"}, (2048, "f16", 4096, True, 37)),
        ({"n_ctx": 8192}, (2048, "f16", 8192, False, 37)),
        ({"mmproj_offload": True}, (2048, "f16", 8192, True, 36)),
    ):
        wished = replace(wished, **wish)
        assert settings_of(plan(subject("8b"), small, wished)) == becomes


def test_reserve_keeps_that_much_of_a_card_free() -> None:
    where = recorded("rtx-4090-24gb")
    found = plan(subject("8b:q8_0"), where, Wishes(reserve=4 * GIB))
    assert found.pools[1].free - found.taken("CUDA0") >= 4 * GIB
    assert (found.pools[1].margin, found.pools[1].margin_why) == (4 * GIB, "as asked: --reserve")
    assert found.pools[0].margin == plan(subject("8b:q8_0"), where).pools[0].margin
    tight = plan(subject("8b"), where, Wishes(reserve=18 * GIB))
    assert tight.pools[1].free - tight.taken("CUDA0") >= 18 * GIB
    assert tight.load.n_gpu_layers < subject("8b").all_layers


def test_reserve_keeps_that_much_of_main_memory_free_where_there_is_no_gpu() -> None:
    found = plan(subject("2b"), machine(8 * GIB), Wishes(reserve=4 * GIB))
    assert found.pools[0].free - found.taken(MAIN) >= 4 * GIB


def test_a_model_without_a_projector_is_planned_without_pictures() -> None:
    found = plan(without_projector("8b"), recorded("rtx-3060-12gb"))
    assert {each.purpose for each in found.allocations} == {"weights", "KV", "compute", "program"}
    assert {choice.name for choice in found.choices}.isdisjoint({"projector", "pictures"})
    assert not found.mmproj_offload
    with_pictures = plan(subject("8b"), recorded("rtx-3060-12gb"))
    assert found.taken("CUDA0") < with_pictures.taken("CUDA0")


def test_layers_that_were_asked_for_where_there_is_no_gpu_stay_in_main_memory_and_that_is_said() -> None:
    found = plan(subject("2b"), machine(16 * GIB), Wishes(n_gpu_layers=20, mmproj_offload=True))
    assert (found.load.n_gpu_layers, found.load.split, found.mmproj_offload) == (0, (), False)
    assert reason(found, "GPU layers") == "no GPU that llama.cpp can use, 20 were asked for"
    assert reason(found, "projector") == "it was asked onto a GPU, and llama.cpp can use none here"


def test_a_gpu_that_llama_cpp_was_built_without_is_named() -> None:
    where = replace(machine(16 * GIB), gpu_seen="NVIDIA GeForce RTX 3060", gpu_offload=False)
    found = plan(subject("2b"), where)
    assert "built without a GPU backend, though NVIDIA GeForce RTX 3060 is here" in reason(found, "GPU layers")


def test_with_no_layers_on_the_gpu_by_wish_the_projector_is_not_there_for_that_reason() -> None:
    found = plan(subject("2b"), machine(16 * GIB, card(24 * GIB)), Wishes(n_gpu_layers=0))
    assert not found.mmproj_offload
    assert "no room" not in reason(found, "projector")


def test_what_lies_on_a_unified_gpu_counts_in_both_pools() -> None:
    found = plan(subject("2b"), machine(8 * GIB, apple_gpu(6 * GIB)))
    on_gpu = on(found, "MTL0")
    assert on_gpu > subject("2b").text.n_bytes
    assert found.taken("MTL0") == on_gpu
    assert found.taken(MAIN) == on(found, MAIN) + on_gpu


def test_a_unified_gpu_holds_no_more_than_main_memory_has_left() -> None:
    """However much it may hold: the rest is held by other programs."""
    plans = [plan(subject("2b"), machine(4 * GIB, apple_gpu(n * GIB))) for n in (5, 20, 180)]
    assert len({settings_of(found) for found in plans}) == 1
    assert settings_of(plans[0])[3:] == (True, subject("2b").all_layers)
    assert all(found.pools[1].free <= found.pools[0].free for found in plans)


def test_an_integrated_gpu_is_left_alone_where_there_is_a_card() -> None:
    integrated = replace(apple_gpu(8 * GIB), name="Vulkan0", kind="igpu")
    found = plan(subject("2b"), machine(16 * GIB, integrated, card(6 * GIB, 1)))
    assert [pool.device for pool in found.pools] == [MAIN, "CUDA1"]


def test_two_cards_hold_what_one_cannot() -> None:
    two = machine(PLENTY, card(5 * GIB, 0), card(5 * GIB, 1))
    found = plan(subject("8b"), two)
    assert found.load.n_gpu_layers == sum(found.load.split) == subject("8b").all_layers
    assert min(found.load.split) > 0
    assert plan(subject("8b"), machine(PLENTY, card(5 * GIB))).load.n_gpu_layers < subject("8b").all_layers


def test_the_first_of_two_cards_has_fewer_layers_where_it_holds_the_projector() -> None:
    where = machine(PLENTY, card(6 * GIB, 0), card(6 * GIB, 1))
    found = plan(subject("8b:q8_0"), where)
    assert (found.load.split, found.mmproj_offload, found.load.n_ctx) == ((18, 19), True, 8192)
    assert plan(without_projector("8b:q8_0"), where, Wishes(n_ctx=8192)).load.split == (24, 13)


def test_the_second_of_two_cards_is_left_empty_where_the_first_holds_everything() -> None:
    found = plan(subject("2b"), machine(PLENTY, card(24 * GIB, 0), card(24 * GIB, 1)))
    assert found.load.split == (subject("2b").all_layers, 0)
    assert on(found, "CUDA1") == 0


@pytest.mark.parametrize("free", [GIB // 8, 24 * GIB])
def test_two_cards_without_a_layer_on_either_are_a_plan_too(free: int) -> None:
    found = plan(subject("8b"), machine(PLENTY, card(free, 0), card(free, 1)), Wishes(n_gpu_layers=0))
    assert sum(found.load.split) == found.load.n_gpu_layers == 0
    assert on(found, "CUDA0", "weights", "KV") + on(found, "CUDA1", "weights", "KV") == 0


def test_what_one_card_holds_to_the_last_byte_is_not_split() -> None:
    wishes = Wishes(n_ctx=8192, kv_type="f16", image_max_tokens=1024, reserve=0)
    exact = plan(subject("4b"), machine(PLENTY, card(PLENTY)), wishes).taken("CUDA0")
    assert plan(subject("4b"), machine(PLENTY, card(exact), card(exact, 1)), wishes).load.split == (37, 0)


def test_weights_are_said_to_be_repacked_only_where_the_processor_computes_alone() -> None:
    model = subject("8b")
    whys = [
        reason(plan(model, machine(PLENTY, *cards)), "weights") for cards in ([], [card(4 * GIB)], [card(24 * GIB)])
    ]
    assert ["repacked" in why for why in whys] == [True, False, False]


def test_on_a_card_the_context_grows_into_what_is_left_over_and_in_shared_memory_into_half() -> None:
    assert plan(subject("8b"), machine(PLENTY, card(24 * GIB))).load.n_ctx == 32_768
    unified = plan(subject("8b"), recorded("macbook-pro-m3-max-36gb"))
    assert unified.load.n_ctx == 16_384
    assert unified.taken(MAIN) <= unified.pools[0].usable / 2
    assert plan(subject("8b"), machine(16 * GIB)).load.n_ctx == 8192


def test_more_sequences_may_have_more_context() -> None:
    found = plan(subject("2b"), machine(PLENTY, card(80 * GIB)), Wishes(n_seq_max=4))
    assert (found.load.n_seq_max, found.load.n_ctx) == (4, 131_072)


def test_pictures_that_were_asked_for_get_a_context_that_holds_them_and_a_question() -> None:
    found = plan(subject("2b"), machine(8 * GIB), Wishes(image_max_tokens=8192))
    assert found.load.n_ctx == 16_384
    assert reason(found, "context") == "the largest picture and as much beside it"
    assert plan(subject("2b"), machine(8 * GIB), Wishes(image_max_tokens=4096)).load.n_ctx == 8192
    assert plan(without_projector("2b"), machine(5 * GIB), Wishes(image_max_tokens=8192)).load.n_ctx == 8192


def test_no_more_context_is_taken_than_the_model_was_trained_with() -> None:
    found = plan(subject("pocket"), machine(PLENTY, card(24 * GIB)))
    assert found.load.n_ctx == subject("pocket").text.n_ctx_train
    assert reason(found, "context") == "as much as it was trained with"
    beyond = plan(subject("pocket"), machine(PLENTY), Wishes(n_ctx=20_000))
    assert reason(beyond, "context") == "as asked: --ctx, beyond the 8,192 it was trained with"


def test_a_context_that_stops_growing_with_room_left_is_not_said_to_fill_the_memory() -> None:
    assert "memory" not in reason(plan(subject("2b"), machine(PLENTY, card(80 * GIB))), "context")
    assert "memory" in reason(plan(subject("8b"), machine(PLENTY, card(9 * GIB))), "context")


def test_threads_are_the_fast_cores_and_one_for_a_tiny_model() -> None:
    where = machine(16 * GIB, cores=12, performance_cores=4)
    assert plan(subject("2b"), where).n_threads == 4
    assert plan(subject("2b"), where, Wishes(n_threads=7)).n_threads == 7
    assert plan(subject("2b"), replace(where, performance_cores=None)).n_threads == 12
    tiny = plan(subject("pocket"), where)
    assert (tiny.n_threads, reason(tiny, "threads")) == (1, "a model this small answers fastest on one")


def test_weights_are_mapped_only_where_all_layers_are_on_a_gpu() -> None:
    where = machine(PLENTY, card(24 * GIB))
    assert plan(subject("8b"), where).map_weights
    assert not plan(subject("8b"), where, Wishes(n_gpu_layers=36)).map_weights
    assert not plan(subject("8b"), machine(PLENTY)).map_weights


@pytest.mark.parametrize(
    ("where", "wished", "flag"),
    [
        (machine(8 * GIB), Wishes(n_ctx=131_072), "--ctx "),
        (machine(6900 * MIB), Wishes(kv_type="f16"), "--kv-type q4_0"),
        (machine(PLENTY, card(4 * GIB)), Wishes(n_gpu_layers=-1), "--gpu-layers "),
        (machine(3 * GIB, card(24 * GIB)), Wishes(n_gpu_layers=0), "--gpu-layers "),
        (machine(4 * GIB, card(4 * GIB)), Wishes(n_gpu_layers=-1), "--gpu-layers "),
        (machine(8 * GIB), Wishes(image_max_tokens=16_384), "--image-max-tokens "),
        (machine(PLENTY, card(GIB)), Wishes(mmproj_offload=True), "--no-mmproj-offload"),
        (machine(1100 * MIB, card(24 * GIB)), Wishes(mmproj_offload=False), "--mmproj-offload"),
        (machine(8 * GIB), Wishes(reserve=6 * GIB), "--reserve "),
        (machine(6900 * MIB), Wishes(n_seq_max=512), "--parallel "),
    ],
)
def test_a_wish_that_alone_is_in_the_way_is_named_with_the_nearest_that_fits(
    where: Machine, wished: Wishes, flag: str
) -> None:
    assert plan(subject("8b"), where)
    with pytest.raises(DoesNotFit) as error:
        plan(subject("8b"), where, wished)
    assert error.value.fix.startswith(f"This would fit: `{flag}")
    assert error.value.fix.count("`") == 2


def test_the_nearest_context_is_the_largest_that_fits() -> None:
    where = machine(8 * GIB)
    with pytest.raises(DoesNotFit) as error:
        plan(subject("8b"), where, Wishes(n_ctx=131_072))
    n_ctx = int(error.value.fix.split("`")[1].removeprefix("--ctx "))
    assert plan(subject("8b"), where, Wishes(n_ctx=n_ctx)).load.n_ctx == n_ctx
    with pytest.raises(DoesNotFit):
        plan(subject("8b"), where, Wishes(n_ctx=n_ctx + 256))


@pytest.mark.parametrize(
    ("where", "wished", "further"),
    [(machine(PLENTY, card(4 * GIB)), -1, 1), (machine(3 * GIB, card(24 * GIB)), 0, -1)],
)
def test_the_nearest_number_of_layers_is_sought_below_and_above(where: Machine, wished: int, further: int) -> None:
    """Too many are too much for the card, and too few for main memory."""
    with pytest.raises(DoesNotFit) as error:
        plan(subject("8b"), where, Wishes(n_gpu_layers=wished))
    n = int(error.value.fix.split("`")[1].removeprefix("--gpu-layers "))
    assert plan(subject("8b"), where, Wishes(n_gpu_layers=n)).load.n_gpu_layers == n
    with pytest.raises(DoesNotFit):
        plan(subject("8b"), where, Wishes(n_gpu_layers=n + further))


def test_wishes_that_only_together_ask_for_too_much_are_told_so() -> None:
    where = machine(PLENTY, card(8 * GIB))
    with pytest.raises(
        DoesNotFit, match=r"With --ctx 131072 --gpu-layers -1 --mmproj-offload it does not fit"
    ) as error:
        plan(subject("8b"), where, Wishes(n_ctx=131_072, n_gpu_layers=-1, mmproj_offload=True))
    assert "--ctx" in error.value.fix or "together" in error.value.fix


def test_what_the_card_could_take_off_main_memory_is_not_counted_as_lacking() -> None:
    with pytest.raises(DoesNotFit) as error:
        plan(subject("8b:q8_0"), machine(512 * MIB, card(24 * GIB)))
    assert "takes 1." in error.value.what or " MiB of RAM" in error.value.what


def test_a_little_that_is_lacking_is_not_called_nothing() -> None:
    low, high = 4 * GIB, 16 * GIB
    while high - low > 1:
        middle = (low + high) // 2
        try:
            plan(subject("8b"), machine(middle))
            high = middle
        except DoesNotFit:
            low = middle
    with pytest.raises(DoesNotFit, match=r", 1 MiB more than it has to give"):
        plan(subject("8b"), machine(low))


def test_wishes_that_contradict_each_other_are_wrong_usage() -> None:
    with pytest.raises(UsageError, match="1024 image tokens cannot stand in a context of 1024"):
        plan(subject("2b"), machine(64 * GIB), Wishes(n_ctx=1024, image_max_tokens=1024))
    with pytest.raises(UsageError, match="8192 image tokens cannot stand in a context of 8192"):
        plan(subject("pocket"), machine(64 * GIB), Wishes(image_max_tokens=8192))
