"""What holds for every plan, whatever the machine, the model and the wishes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gguf_vl.config import load_settings
from gguf_vl.errors import DoesNotFit, UsageError
from gguf_vl.fit.layout import Subject
from gguf_vl.fit.plan import plan
from gguf_vl.fit.pools import pools_of
from gguf_vl.types import MAIN, Device, Machine, Plan, Pool, Wishes
from tests.fit.given import GIB, MIB, apple_gpu, card, machine, recorded, subject, without_projector

MODELS = ["pocket", "2b:q4_k_m", "2b:q8_0", "4b:q4_k_m", "4b:q8_0", "8b:q4_k_m", "8b:q8_0"]

models = st.sampled_from(MODELS)
large_models = st.sampled_from(["4b:q8_0", "8b:q4_k_m", "8b:q8_0"])
bandwidths = st.none() | st.floats(5e9, 2e12)


def sizes(least: float, most: float) -> st.SearchStrategy[int]:
    """Bytes between so many GB, as often between 1 and 2 as between 10 and 20."""
    return st.floats(0, 1).map(lambda share: int(1e9 * least * (most / least) ** share))


@st.composite
def cards(draw: st.DrawFn) -> tuple[Device, ...]:
    """Up to three cards, of some of which it is not known what they have."""
    found = []
    for number in range(draw(st.integers(0, 3))):
        device = card(
            draw(sizes(0.1, 90)), number, shared=draw(st.sampled_from([True, False, None])), bandwidth=draw(bandwidths)
        )
        total = draw(st.sampled_from([device.free, None, (device.free or 0) + GIB]))
        found.append(replace(device, total=total))
    return tuple(found)


@st.composite
def unified(draw: st.DrawFn) -> tuple[Device, ...]:
    """A GPU in main memory: Apple's, or an integrated one, which a card may stand beside."""
    gpu = apple_gpu(draw(sizes(0.3, 200)), draw(bandwidths))
    if draw(st.booleans()):
        gpu = replace(gpu, name="Vulkan0", kind="igpu")
        return (gpu, *(draw(cards()) if draw(st.booleans()) else ()))
    return (gpu,)


memories = sizes(0.3, 256)
discrete = st.builds(
    lambda available, gpus, bandwidth: machine(available, *gpus, bandwidth=bandwidth), memories, cards(), bandwidths
)
machines = discrete | st.builds(
    lambda available, gpus, bandwidth: machine(available, *gpus, bandwidth=bandwidth), memories, unified(), bandwidths
)


def maybe(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | st.none() | values


wishes = st.builds(
    Wishes,
    n_ctx=maybe(st.sampled_from([300, 512, 2048, 4096, 8192, 32_768, 131_072]) | st.integers(256, 300_000)),
    kv_type=maybe(st.sampled_from(["f16", "q8_0", "q4_0"])),
    n_gpu_layers=maybe(st.sampled_from([-1, 0, 1, 99]) | st.integers(1, 40)),
    image_max_tokens=maybe(st.sampled_from([64, 256, 1024, 4096]) | st.integers(1, 16_384)),
    mmproj_offload=maybe(st.booleans()),
    n_threads=maybe(st.integers(1, 64)),
    n_seq_max=st.sampled_from([None, None, 1, 4, 16]),
    reserve=maybe(st.sampled_from([0, GIB, 4 * GIB]) | st.integers(0, 20 * GIB)),
).filter(lambda each: not (each.n_ctx and each.image_max_tokens and each.image_max_tokens >= each.n_ctx))


def planned(model: Subject, where: Machine, wished: Wishes) -> Plan | None:
    try:
        return plan(model, where, wished)
    except (DoesNotFit, UsageError):  # an image limit beyond what the model was trained for
        return None


def taken_of(found: Plan, pool: Pool) -> int:
    """Bytes taken of a pool, what lies within it included."""
    held_in = {each.device: {each.device, each.within} for each in found.pools}
    return sum(each.n_bytes for each in found.allocations if pool.device in held_in[each.device])


@settings(deadline=None, max_examples=25)
@given(models, machines, wishes)
def test_no_plan_takes_more_than_is_free_less_the_margin(name: str, where: Machine, wished: Wishes) -> None:
    found = planned(subject(name), where, wished)
    assume(found)
    assert found
    free = {device.name: device.free for device in where.devices} | {MAIN: where.memory_available}
    for pool in found.pools:
        assert pool.free <= (free[pool.device] or 0)
        assert taken_of(found, pool) <= max(0, pool.free - pool.margin)
        assert found.taken(pool.device) == taken_of(found, pool)
        assert pool.margin >= 0
    assert all(each.n_bytes > 0 for each in found.allocations)


@settings(deadline=None, max_examples=25)
@given(models, machines, wishes)
def test_every_wish_stands_in_the_plan_as_it_was_set(name: str, where: Machine, wished: Wishes) -> None:
    model = subject(name)
    found = planned(model, where, wished)
    assume(found)
    assert found
    has_gpu = len(found.pools) > 1
    if wished.n_ctx is not None:
        assert found.load.n_ctx == wished.n_ctx
    if wished.kv_type is not None:
        assert found.load.kv_type == wished.kv_type
    if wished.n_gpu_layers is not None:
        most = model.all_layers if has_gpu else 0
        assert found.load.n_gpu_layers == (most if wished.n_gpu_layers < 0 else min(wished.n_gpu_layers, most))
    if wished.image_max_tokens is not None:
        assert found.limits.max_tokens == wished.image_max_tokens
    if wished.mmproj_offload is not None:
        assert found.mmproj_offload == (wished.mmproj_offload and has_gpu)
    if wished.n_threads is not None:
        assert found.n_threads == wished.n_threads
    if wished.reserve is not None:
        assert {pool.margin for pool in found.pools[1:] or found.pools} == {wished.reserve}
    if wished.n_seq_max is not None:
        assert found.load.n_seq_max == wished.n_seq_max


def worth(found: Plan | None, model: Subject, wished: Wishes) -> tuple[float, ...]:
    """How good a plan is, as a tuple to compare; the empty one, the least of all, where nothing fits."""
    if found is None:
        return ()
    n_ctx, kv_type, image_tokens = found.load.n_ctx, found.load.kv_type, found.limits.max_tokens
    least_image = max(model.limits.min_tokens, min(1024, model.limits.max_tokens, n_ctx // 2))
    useful = (
        (wished.n_ctx is not None or n_ctx >= min(4096, model.text.n_ctx_train))
        and (wished.kv_type is not None or kv_type != "q4_0")
        and (wished.image_max_tokens is not None or model.projector is None or image_tokens >= least_image)
    )
    return (
        useful,
        found.load.n_gpu_layers,
        found.mmproj_offload,
        min(n_ctx, 8192),
        ["q4_0", "q8_0", "f16"].index(kv_type),
        image_tokens,
        n_ctx,
    )


@settings(deadline=None, max_examples=25)
@given(models, st.booleans(), machines, wishes, st.integers(-1, 2), sizes(0.01, 50))
def test_more_memory_never_gives_a_worse_plan(
    name: str, sees: bool, where: Machine, wished: Wishes, place: int, more: int
) -> None:
    model = subject(name) if sees else without_projector(name)
    if place < 0:
        larger = replace(where, memory_total=where.memory_total + more, memory_available=where.memory_available + more)
    else:
        devices = list(where.devices)
        assume(place < len(devices) - 1)
        device = devices[place]
        total = device.total and device.total + more
        devices[place] = replace(device, free=(device.free or 0) + more, total=total)
        larger = replace(where, devices=tuple(devices))
    before, after = planned(model, where, wished), planned(model, larger, wished)
    assert worth(after, model, wished) >= worth(before, model, wished)


@settings(deadline=None, max_examples=25)
@given(models, machines, wishes)
def test_a_plan_fits_again_with_all_its_own_settings_as_wishes(name: str, where: Machine, wished: Wishes) -> None:
    model = subject(name)
    found = planned(model, where, wished)
    assume(found)
    assert found
    all_set = Wishes(
        n_ctx=found.load.n_ctx,
        kv_type=found.load.kv_type,
        n_gpu_layers=found.load.n_gpu_layers,
        image_max_tokens=found.limits.max_tokens,
        mmproj_offload=found.mmproj_offload,
        n_threads=found.n_threads,
        n_seq_max=found.load.n_seq_max,
        reserve=wished.reserve,
    )
    again = plan(model, where, all_set)
    assert again.allocations == found.allocations
    assert (again.load, again.limits, again.n_threads) == (found.load, found.limits, found.n_threads)
    assert again.decode_tps == found.decode_tps


FLAGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "--ctx": ("n_ctx", int),
    "--kv-type": ("kv_type", str),
    "--gpu-layers": ("n_gpu_layers", int),
    "--image-max-tokens": ("image_max_tokens", int),
    "--mmproj-offload": ("mmproj_offload", lambda _: True),
    "--no-mmproj-offload": ("mmproj_offload", lambda _: False),
    "--reserve": ("reserve", lambda text: load_settings({"reserve": text}, environment={}, file=None).reserve),
    "--parallel": ("n_seq_max", int),
}


def named_wishes(fix: str) -> list[dict[str, Any]]:
    """What each backquoted flag of a message would set; the commands among them are none."""
    found = []
    for flag in re.findall(r"`(--[^`]+)`", fix):
        name, _, value = flag.partition(" ")
        field, read = FLAGS[name]
        found.append({field: read(value)})
    return found


def unfit(model: Subject, where: Machine, wished: Wishes) -> DoesNotFit | None:
    try:
        plan(model, where, wished)
    except DoesNotFit as error:
        return error
    return None


tight = st.builds(lambda available, gpus: machine(available, *gpus), sizes(0.5, 16), cards() | unified())


@settings(deadline=None, max_examples=30)
@given(large_models, tight, wishes)
@example("4b:q8_0", machine(7_101_505_970), Wishes(n_ctx=4097, image_max_tokens=4096))
def test_each_nearest_wish_that_a_refusal_names_fits(name: str, where: Machine, wished: Wishes) -> None:
    model = subject(name)
    error = unfit(model, where, wished)
    assume(error)
    assert error
    for changed in named_wishes(error.fix):
        ((field, value),) = changed.items()
        assert value != getattr(wished, field)
        assert getattr(wished, field) != getattr(Wishes(), field), "that was no wish"
        plan(model, where, replace(wished, **changed))


LACKING = r"takes (\S+ \S+) of (\w+).*, (\S+ \S+) more than it has"


def bytes_of(text: str) -> tuple[float, float]:
    """The least and the most bytes that a size in words may be."""
    number, unit = text.split()
    scale, half = (GIB, 0.051) if unit == "GiB" else (MIB, 1.01)
    return (float(number) - half) * scale, (float(number) + half) * scale


def with_more(where: Machine, device: str, more: float) -> Machine:
    """The machine with so many bytes more to give of one pool."""
    if device != MAIN:
        devices = [
            replace(each, free=int((each.free or 0) + more)) if each.name == device else each for each in where.devices
        ]
        return replace(where, devices=tuple(devices))
    # A share of what is added goes to the margin.
    wanted = pools_of(where)[0].usable + more
    low, high = where.memory_available, where.memory_available + 2 * int(more) + GIB
    while low < high:
        middle = (low + high) // 2
        if pools_of(replace(where, memory_available=middle))[0].usable < wanted:
            low = middle + 1
        else:
            high = middle
    return replace(where, memory_available=low)


@settings(deadline=None, max_examples=25)
@given(large_models, st.builds(lambda available, gpus: machine(available, *gpus), sizes(0.5, 8), cards()), wishes)
def test_a_refusal_names_what_is_lacking(name: str, where: Machine, wished: Wishes) -> None:
    model = subject(name)
    wished = replace(wished, reserve=None)
    where = replace(where, devices=tuple(replace(each, shared=None, total=each.free) for each in where.devices))
    error = unfit(model, where, wished)
    assume(error)
    assert error
    said = re.search(LACKING, error.what)
    assert said, error.what
    device = said[2]
    low, high = bytes_of(said[3])
    pool = next(pool for pool in pools_of(where) if pool.device == device)
    usable = pool.free - pool.margin  # which is below nothing where the margin is all there is
    assert bytes_of(said[1])[0] <= usable + high
    assert usable + low <= bytes_of(said[1])[1]
    assert unfit(model, with_more(where, device, low), wished), "with less than is lacking it fits"
    other = unfit(model, with_more(where, device, high), wished)
    if other:  # another memory lacks something too, and less
        again = re.search(LACKING, other.what)
        assert again
        assert len(where.devices) > 1
        assert bytes_of(again[3])[0] <= high


@pytest.mark.parametrize("name", ["macbook-air-m2-8gb", "container-4gb"])
def test_a_refusal_names_the_memory_that_is_too_small(name: str) -> None:
    with pytest.raises(DoesNotFit, match=r"takes 5\.9 GiB of RAM.*, \d\.\d GiB more than it has to give"):
        plan(subject("8b"), recorded(name))
