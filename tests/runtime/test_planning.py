"""A plan is made for this machine, held to, and tightened when memory ends after all."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gguf_vl import catalogue, paths
from gguf_vl.config import load_settings
from gguf_vl.engine import process
from gguf_vl.engine.client import Engine
from gguf_vl.engine.fake import Script, scripted, text
from gguf_vl.engine.process import WorkerProcess
from gguf_vl.errors import DoesNotFit, MissingOrInvalid, ModelNotFound, UsageError
from gguf_vl.hardware.machine import probe
from gguf_vl.runtime import planning
from gguf_vl.runtime.alternatives import alternatives
from gguf_vl.runtime.candidates import here, of_name, published
from gguf_vl.runtime.engines import ATTEMPTS, PlannedEngine
from gguf_vl.runtime.models import named
from gguf_vl.runtime.planning import Planned, plan_elsewhere, plan_here, recommend, wishes_of
from gguf_vl.types import MAIN, Machine, Used, Wishes
from tests.fit.given import recorded

pytestmark = pytest.mark.anyio

GIB = 1 << 30
NO_ROOM = DoesNotFit("No room.", "Take less.")


@pytest.fixture(scope="module")
def machine() -> Machine:
    return probe()


@pytest.fixture
def planned(machine: Machine) -> Planned:
    return plan_here(here(named("pocket")), machine, Wishes())


def started(planned: Planned, *scripts: Script, failing: int = 0) -> tuple[PlannedEngine, list[str]]:
    """An engine whose first workers find no room, and what it tells."""
    lines: list[str] = []
    connect = scripted(*scripts, loading=[NO_ROOM] * failing)
    return PlannedEngine(named("pocket"), planned, tell=lines.append, connect=connect), lines


def test_every_wish_of_the_settings_reaches_the_worker(machine: Machine) -> None:
    flags = {"ctx": 512, "threads": 1, "gpu_layers": 0, "kv_type": "q8_0", "image_max_tokens": 64}
    pocket = named("pocket")
    settings = PlannedEngine(pocket, plan_here(here(pocket), machine, wishes_of(load_settings(flags)))).settings
    assert (settings.n_ctx, settings.n_threads, settings.n_gpu_layers, settings.kv_type) == (512, 1, 0, "q8_0")
    assert (settings.limits.max_tokens, settings.mmproj_offload, settings.split) == (64, False, ())
    assert settings.n_cores == machine.cores


async def test_what_llama_cpp_allocates_is_what_was_planned(planned: Planned) -> None:
    async with PlannedEngine(named("pocket"), planned) as engine:
        used = (await engine.start()).used
    for purpose in ("weights", "KV", "compute", "projector"):
        wanted = sum(each.n_bytes for each in planned.plan.allocations if each.purpose == purpose)
        taken = sum(each.n_bytes for each in used.buffers if each.purpose == purpose)
        assert taken == pytest.approx(wanted, rel=0.02, abs=64 << 10), purpose
    assert used.resident < planned.plan.taken(MAIN)


async def test_a_load_is_proved_once_and_remembered(planned: Planned) -> None:
    assert planned.used is None
    first = PlannedEngine(named("pocket"), planned)
    assert first.settings.proof == "reserve"
    async with first:
        pass
    assert planned.used
    assert planned.used.buffers
    assert PlannedEngine(named("pocket"), planned).settings.proof == "none"


def test_a_proof_can_be_skipped(planned: Planned) -> None:
    assert PlannedEngine(named("pocket"), planned, prove="never").settings.proof == "none"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the most that was ever resident anew")
async def test_what_encoding_took_is_planned_with_from_then_on(planned: Planned) -> None:
    async with PlannedEngine(named("pocket"), planned, prove="always") as engine:
        used = (await engine.start()).used
    assert used.encode
    again = plan_here(planned.candidate, planned.machine, Wishes())
    [encode] = [each for each in again.plan.allocations if each.purpose == "encode"]
    assert encode.n_bytes == round(used.encode * 1.05)
    assert "measured" in encode.why


async def test_a_plan_that_runs_out_of_memory_is_tightened_and_each_step_told_in_a_line(planned: Planned) -> None:
    engine, lines = started(planned, text("red"), failing=ATTEMPTS - 1)
    async with engine:
        assert engine.planned.plan.taken(MAIN) < planned.plan.taken(MAIN)
        assert engine.settings.n_ctx == engine.planned.plan.load.n_ctx
    assert [line.startswith("No room. Trying with ") for line in lines] == [True] * (ATTEMPTS - 1)
    assert all("\n" not in line for line in lines)


async def test_a_planned_model_that_nobody_needs_is_unloaded(planned: Planned) -> None:
    async with PlannedEngine(named("pocket"), planned, idle_s=0.001, connect=scripted()) as engine:
        while engine.connection is not None:
            await asyncio.sleep(0)


async def test_after_the_last_attempt_it_ends_with_what_does_not_fit(planned: Planned) -> None:
    engine, lines = started(planned, failing=ATTEMPTS)
    with pytest.raises(DoesNotFit, match=f"{ATTEMPTS} times while loading pocket"):
        await engine.start()
    assert len(lines) == ATTEMPTS - 1
    await engine.close()


async def test_a_tightened_plan_keeps_every_wish_or_says_which_is_in_the_way(machine: Machine) -> None:
    wishes = Wishes(n_ctx=131_072, kv_type="f16", image_max_tokens=1024)
    engine, _ = started(plan_here(here(named("pocket")), machine, wishes), failing=1)
    with pytest.raises(DoesNotFit, match="no smaller plan is left: No room") as caught:
        await engine.start()
    assert "--ctx" in caught.value.fix
    await engine.close()


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts on Linux")
async def test_a_real_worker_that_runs_into_a_limit_nobody_told_of_is_tightened_until_it_loads(
    planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    pocket = named("pocket")
    async with PlannedEngine(pocket, planned) as engine:
        needed = _data(engine)
    _limit_workers(monkeypatch, needed - (4 << 20))
    paths.cache_dir().rename(paths.cache_dir().with_name("proved elsewhere"))
    lines: list[str] = []
    async with PlannedEngine(pocket, planned, tell=lines.append) as engine:
        assert engine.planned.plan.taken(MAIN) < planned.plan.taken(MAIN)
    assert 1 <= len(lines) < ATTEMPTS


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts on Linux")
@pytest.mark.parametrize("megabytes", [160, 250, 330])
async def test_wherever_a_limit_stops_a_worker_the_caller_lives_and_is_told_of_memory(
    planned: Planned, monkeypatch: pytest.MonkeyPatch, megabytes: int
) -> None:
    _limit_workers(monkeypatch, megabytes << 20)
    wishes = Wishes(n_ctx=131_072, kv_type="f16")
    engine = Engine(
        replace(
            PlannedEngine(named("pocket"), plan_here(planned.candidate, planned.machine, wishes)).settings,
            proof="reserve",
        )
    )
    with pytest.raises(DoesNotFit):
        await engine.start()
    await engine.close()


def _data(engine: Engine) -> int:
    """Bytes of the worker that RLIMIT_DATA counts."""
    assert isinstance(engine.connection, WorkerProcess)
    status = Path(f"/proc/{engine.connection.pid}/status").read_text()
    found = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def _limit_workers(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    """Workers start under RLIMIT_DATA, which the machine's probe knows nothing of."""

    async def spawn() -> asyncio.subprocess.Process:
        code = (
            f"import resource, runpy; resource.setrlimit(resource.RLIMIT_DATA, ({n_bytes}, {n_bytes}));"
            "runpy.run_module('gguf_vl.engine.worker', run_name='__main__')"
        )
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", code), stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )

    monkeypatch.setattr(process.WorkerProcess, "_spawn", staticmethod(spawn))


def test_llama_cpps_own_answer_stands_in_the_plan_and_is_asked_for_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plan_here(published("2b"), machine, Wishes(n_gpu_layers=0))
    assert "llama.cpp's own answer" in str(first.plan.allocations)
    monkeypatch.setattr("gguf_vl.hardware.simulation.subprocess.run", lambda *_, **__: pytest.fail("asked again"))
    assert plan_here(published("2b"), machine, Wishes(n_gpu_layers=0)).plan == first.plan


def test_a_machine_elsewhere_is_planned_by_formulas(machine: Machine) -> None:
    elsewhere = plan_elsewhere(published("2b"), replace(machine, memory_available=64 * GIB), Wishes())
    assert "by a formula" in str(elsewhere.plan.allocations)


def test_a_model_that_does_not_fit_is_passed_over_for_the_next_and_it_is_said(
    machine: Machine, pair: tuple[Path, Path], home: Path
) -> None:
    folder = home / "models" / "huge"
    folder.mkdir(parents=True)
    for file in pair:
        os.link(file, folder / file.name)
    tight = replace(machine, memory_available=700 << 20)
    with pytest.MonkeyPatch.context() as patch:
        real = planning.plan_here

        def refusing(candidate: object, *rest: object) -> Planned:
            if getattr(candidate, "name", "") == "huge":
                raise DoesNotFit("It does not fit: too much.", "")
            return real(candidate, *rest)  # type: ignore[arg-type]

        patch.setattr(planning, "plan_here", refusing)
        installed, _ = planning.plan_chosen(load_settings({}), tight)
    assert installed.name == "pocket"
    assert "huge is here too. It does not fit" in installed.why


def test_a_name_is_a_model_that_is_here_or_a_published_one() -> None:
    assert of_name("pocket").is_here
    assert not of_name("8b:q8_0").is_here
    assert of_name("8B:Q8_0").name == "8b:q8_0"
    with pytest.raises(ModelNotFound, match="no model '9b'"):
        of_name("9b")


def test_the_recommended_model_grows_with_the_machine(machine: Machine) -> None:
    found = [
        recommend(replace(machine, devices=(), bandwidth=4e11, memory_available=n * GIB), Wishes())
        for n in (2, 4, 6, 64)
    ]
    assert [each.name for each in found] == ["2b", "2b:q8_0", "4b", "8b:q8_0"]
    assert found[2].better.startswith("4b:q8_0: ")
    assert found[3].better == ""


def test_the_alternatives_say_what_other_wishes_would_take(machine: Machine) -> None:
    roomy = replace(machine, devices=(), memory_available=32 * GIB)
    found = {each.wish: each for each in alternatives(plan_elsewhere(published("2b"), roomy, Wishes(n_ctx=8192)))}
    assert {"--ctx 4096", "--ctx 16384", "--kv-type q8_0", "2b:q8_0"} <= found.keys()
    more, base = found["--ctx 16384"].plan, found["--kv-type q8_0"].plan
    assert more
    assert base
    assert more.load.n_ctx == 16_384
    assert base.load.kv_type == "q8_0"
    assert all(each.trouble for each in found.values() if each.plan is None)


def test_an_alternative_that_contradicts_a_wish_says_so() -> None:
    wishes = Wishes(n_ctx=8192, image_max_tokens=4096)
    found = alternatives(plan_elsewhere(published("2b"), recorded("rtx-3060-12gb"), wishes))
    [half] = [each for each in found if each.wish == "--ctx 4096"]
    assert half.plan is None
    assert "cannot stand in a context of 4096" in half.trouble


def test_a_projector_without_a_model_is_refused_before_anything_is_planned(machine: Machine) -> None:
    settings = load_settings({"mmproj": "mmproj.gguf"})
    for plan_of in (planning.plan_for, planning.plan_elsewhere_for, planning.plan_chosen):
        with pytest.raises(UsageError, match="no model to use it with"):
            plan_of(settings, machine)


def test_a_model_of_unknown_shape_must_be_fetched_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model, variant = catalogue.find("2b")
    monkeypatch.setattr(catalogue, "find", lambda _: (replace(model, shape=None), variant))
    with pytest.raises(MissingOrInvalid, match="does not know its shape") as caught:
        published("2b")
    assert "gguf-vl pull 2b" in caught.value.fix


@pytest.mark.parametrize(
    ("what", "device"),
    [
        ("allocating 9 MiB on device 0: cudaMalloc failed: out of memory", "CUDA0"),
        ("failed to allocate CUDA0 buffer", "CUDA0"),
        ("CUDA error: out of memory", "CUDA0"),
        ("ErrorOutOfDeviceMemory", "CUDA0"),
        ("ggml_aligned_malloc: insufficient memory", MAIN),
        ("No room for chip-devices.gguf: out of memory", MAIN),
        ("Memory ran out while loading, most likely: signal SIGKILL", MAIN),
    ],
)
def test_only_the_memory_that_ran_out_is_planned_smaller(machine: Machine, what: str, device: str) -> None:
    card = recorded("rtx-3060-12gb")
    planned = plan_elsewhere(published("8b:q8_0"), card, Wishes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "simulate", lambda *_: {})
        again = planning.tightened(planned, DoesNotFit(what, ""))
    before, after = ({pool.device: pool.usable for pool in each.plan.pools} for each in (planned, again))
    assert {name for name in before if after[name] < before[name]} == {device}
    assert again.plan.taken(device) < planned.plan.taken(device)


def test_a_wish_counts_in_the_choice_of_a_model() -> None:
    there = recorded("container-4gb")
    wishes = Wishes(n_ctx=40_960)
    chosen = recommend(there, wishes)
    assert plan_elsewhere(published(chosen.name), there, wishes).plan.load.n_ctx == 40_960


def test_a_projector_that_is_not_there_is_never_another_one() -> None:
    for name in ("pocket", "8b"):
        with pytest.raises(ModelNotFound):
            of_name(name, Path("/nowhere/mmproj.gguf"))


async def test_after_a_load_that_held_the_attempts_are_counted_anew(planned: Planned) -> None:
    engine, _ = started(planned, text("red"), failing=ATTEMPTS - 1)
    async with engine:
        assert engine._failures == 0


@pytest.mark.parametrize("factor", [-3.0, 0.0, 0.1, 9.0])
def test_a_measurement_that_others_have_disturbed_is_not_planned_with(planned: Planned, factor: float) -> None:
    [encode] = [each.n_bytes for each in planned.plan.allocations if each.purpose == "encode"]
    planned.remember(Used((), {}, round(encode * factor), 1))
    assert plan_here(planned.candidate, planned.machine, Wishes()).plan == planned.plan


def test_a_later_load_without_a_proof_does_not_forget_what_was_measured(planned: Planned) -> None:
    planned.remember(Used((), {}, 123, 1))
    planned.remember(Used((), {}, None, 2))
    assert planned.used == Used((), {}, 123, 2)
