"""What is planned and chosen for the recorded machines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_vl.errors import DoesNotFit
from gguf_vl.fit.choice import choose
from gguf_vl.fit.layout import Subject
from gguf_vl.fit.plan import plan
from gguf_vl.types import Machine, Wishes
from tests.fit.given import GIB, card, machine, recorded, subject, with_bandwidth
from tests.hardware.recordings import NAMES

# Machine, model, layers on the GPU, where the projector is, context, KV type, image tokens, expected tokens a second.
PLANS = """
a10g-24gb                 2b       all  gpu  32768  f16   4096  314/s
a10g-24gb                 4b       all  gpu  32768  f16   4096  150/s
a10g-24gb                 8b       all  gpu  32768  f16   4096  84/s
a10g-24gb                 8b:q8_0  all  gpu  32768  f16   4096  50/s
container-4gb             2b       0    ram  8192   f16   4096  24/s
container-4gb             4b       0    ram  8192   q4_0  512   12/s
container-4gb             8b       does not fit
container-4gb             8b:q8_0  does not fit
laptop-iris-xe-16gb       2b       all  gpu  8192   f16   4096  17/s
laptop-iris-xe-16gb       4b       all  gpu  8192   f16   4096  8/s
laptop-iris-xe-16gb       8b       all  gpu  8192   f16   4096  5/s
laptop-iris-xe-16gb       8b:q8_0  does not fit
macbook-air-m2-8gb        2b       all  gpu  8192   f16   1024  52/s
macbook-air-m2-8gb        4b       does not fit
macbook-air-m2-8gb        8b       does not fit
macbook-air-m2-8gb        8b:q8_0  does not fit
macbook-pro-m3-max-36gb   2b       all  gpu  32768  f16   4096  157/s
macbook-pro-m3-max-36gb   4b       all  gpu  32768  f16   4096  75/s
macbook-pro-m3-max-36gb   8b       all  gpu  16384  f16   4096  42/s
macbook-pro-m3-max-36gb   8b:q8_0  all  gpu  8192   f16   4096  25/s
rtx-3060-12gb             2b       all  gpu  32768  f16   4096  189/s
rtx-3060-12gb             4b       all  gpu  32768  f16   4096  90/s
rtx-3060-12gb             8b       all  gpu  32768  f16   4096  51/s
rtx-3060-12gb             8b:q8_0  all  gpu  8192   f16   4096  30/s
rtx-4090-24gb             2b       all  gpu  32768  f16   4096  528/s
rtx-4090-24gb             4b       all  gpu  32768  f16   4096  253/s
rtx-4090-24gb             8b       all  gpu  32768  f16   4096  142/s
rtx-4090-24gb             8b:q8_0  all  gpu  32768  f16   4096  85/s
wsl2-rtx-4060-laptop-8gb  2b       all  gpu  32768  f16   4096  134/s
wsl2-rtx-4060-laptop-8gb  4b       all  gpu  16384  f16   4096  64/s
wsl2-rtx-4060-laptop-8gb  8b       all  gpu  4096   q8_0  2048  37/s
wsl2-rtx-4060-laptop-8gb  8b:q8_0  26   ram  4096   q8_0  2048  9/s
"""

BEST_FIRST = ("8b:q8_0", "8b", "4b:q8_0", "4b", "2b:q8_0", "2b")
# Machine, the model that is chosen, and the next better one with what is against it.
CHOSEN = """
a10g-24gb                 8b:q8_0
container-4gb             2b:q8_0  4b: it would have room for pictures of 512 image tokens
laptop-iris-xe-16gb       4b       4b:q8_0: it would write some 5.0 tokens a second
macbook-air-m2-8gb        2b       2b:q8_0: it would have room for 4,096 tokens of context
macbook-pro-m3-max-36gb   8b:q8_0
rtx-3060-12gb             8b:q8_0
rtx-4090-24gb             8b:q8_0
wsl2-rtx-4060-laptop-8gb  4b:q8_0  8b: it would have room for 4,096 tokens of context
"""


def planned(machine: str, model: str) -> str:
    try:
        found = plan(subject(model), recorded(machine))
    except DoesNotFit:
        return f"{machine} {model} does not fit"
    n_layers, all_layers = found.load.n_gpu_layers, subject(model).all_layers
    layers = "all" if n_layers == all_layers else str(n_layers)
    place = "gpu" if found.mmproj_offload else "ram"
    rate = f"{found.decode_tps:.0f}/s" if found.decode_tps else "?"
    return (
        f"{machine} {model} {layers} {place} {found.load.n_ctx} {found.load.kv_type} {found.limits.max_tokens} {rate}"
    )


@pytest.mark.parametrize("line", PLANS.strip().splitlines())
def test_the_plan_for_a_real_machine(line: str) -> None:
    machine, model, *_ = line.split()
    assert planned(machine, model) == " ".join(line.split())


def test_every_recorded_machine_is_planned_for() -> None:
    assert {line.split()[0] for line in PLANS.strip().splitlines()} == set(NAMES)


@pytest.mark.parametrize("line", CHOSEN.strip().splitlines())
def test_the_model_chosen_for_a_real_machine(line: str) -> None:
    machine, model, *better = line.split(maxsplit=2)
    chosen = choose(candidates(), recorded(machine))
    assert chosen.name == model
    assert chosen.better.startswith(better[0]) if better else not chosen.better
    assert chosen.plan == plan(subject(model), recorded(machine))


def candidates(names: tuple[str, ...] = BEST_FIRST) -> list[tuple[str, Subject]]:
    return [(name, subject(name)) for name in names]


def test_the_choice_says_where_the_model_runs_how_fast_and_with_how_much_context() -> None:
    chosen = choose(candidates(), recorded("rtx-4090-24gb"))
    assert chosen.why == "it runs on the GPU at some 85 tokens a second, with 32,768 tokens of context"
    chosen = choose(candidates(), recorded("container-4gb"))
    assert chosen.why == "it runs on the CPU at some 15 tokens a second, with 8,192 tokens of context"


def test_where_nothing_runs_well_the_smallest_is_chosen_and_its_drawback_said() -> None:
    slow = with_bandwidth(recorded("container-4gb"), 4e9)
    chosen = choose(candidates(), slow)
    assert (chosen.name, chosen.plan is not None) == ("2b", True)
    assert chosen.why == "it is the smallest, though it would write some 2.1 tokens a second"
    assert chosen.better.startswith("2b:q8_0: it would write some 1.4 tokens")


def test_where_nothing_fits_the_smallest_is_named_without_a_plan() -> None:
    chosen = choose(candidates(), machine(GIB))
    assert (chosen.name, chosen.plan) == ("2b", None)
    assert chosen.why.startswith("it is the smallest, though it does not fit")


def test_an_unknown_bandwidth_of_main_memory_is_guessed_with_care_and_a_cards_is_trusted() -> None:
    chosen = choose(candidates(), machine(32 * GIB))
    assert (chosen.name, chosen.better) == ("2b", "2b:q8_0: it would write some 6.8 tokens a second")
    chosen = choose(candidates(), machine(32 * GIB, card(24 * GIB)))
    assert (chosen.name, chosen.better) == ("8b:q8_0", "")
    assert "a second" not in chosen.why


def test_a_context_or_picture_size_that_was_asked_for_is_no_drawback() -> None:
    small = recorded("wsl2-rtx-4060-laptop-8gb")
    assert choose(candidates(), small).name == "4b:q8_0"
    assert choose(candidates(), small, Wishes(n_ctx=4096)).name in ("8b", "8b:q8_0")
    air = recorded("macbook-air-m2-8gb")
    assert choose(candidates(), air, Wishes(n_ctx=2048, image_max_tokens=512)).name == "2b:q8_0"


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(NAMES), st.floats(2e9, 1e12), st.floats(1, 4), st.integers(4, 40), st.booleans())
def test_more_bandwidth_never_chooses_a_worse_model(
    name: str, bandwidth: float, faster: float, memory: int, has_card: bool
) -> None:
    where: Machine = machine(memory * GIB, *[card(memory * GIB // 2)] * has_card) if memory > 24 else recorded(name)
    chosen = [
        BEST_FIRST.index(choose(candidates(), with_bandwidth(where, rate)).name)
        for rate in (bandwidth, bandwidth * faster)
    ]
    assert chosen[1] <= chosen[0]


def test_a_2b_on_two_cores_of_a_server_writes_as_fast_as_was_measured() -> None:
    """26 tokens a second were measured where memory gives 39 GB/s."""
    found = plan(subject("2b"), machine(16 * GIB, bandwidth=39e9))
    assert found.decode_tps is not None
    assert 20 < found.decode_tps < 32


def test_the_rate_is_unknown_where_a_bandwidth_that_counts_is() -> None:
    fast_card = card(24 * GIB, bandwidth=1e12)
    assert plan(subject("8b"), machine(32 * GIB, fast_card)).decode_tps
    assert plan(subject("8b"), machine(32 * GIB, fast_card), Wishes(n_gpu_layers=20)).decode_tps is None
    assert plan(subject("8b"), machine(32 * GIB)).decode_tps is None


def test_layers_in_main_memory_slow_a_model_down() -> None:
    where = machine(32 * GIB, card(24 * GIB, bandwidth=1e12), bandwidth=40e9)
    rates = [
        plan(subject("8b"), where, Wishes(n_gpu_layers=n)).decode_tps or 0 for n in range(subject("8b").all_layers)
    ]
    assert rates == sorted(rates)
    assert rates[0] < 8 < rates[30]
