"""The one entrance: from a model, a machine and wishes to a plan."""

from __future__ import annotations

from dataclasses import replace

from gguf_vl.errors import UsageError
from gguf_vl.fit.explain import choices, gave_way
from gguf_vl.fit.layout import KEPT_EMBEDDINGS, Subject
from gguf_vl.fit.pools import pools_of
from gguf_vl.fit.search import ideal, search
from gguf_vl.fit.shortfall import shortfall
from gguf_vl.fit.speed import decode_tps
from gguf_vl.types import MAIN, Allocation, Learnt, Machine, PictureLimits, Plan, Pool, Wishes

MOST_EMBEDDINGS = 256 * 1024**2
"""Bytes of pictures' embeddings that are kept at most: some eight pictures of 1,024 tokens for the 2B."""
ONE_THREAD_BYTES = 64 * 1024**2
"""Weights below this take one thread: its answers need milliseconds, and on a busy machine llama.cpp's threads, which
spin while they wait for each other, made `pocket` a hundred times slower with two."""


def plan(subject: Subject, machine: Machine, wishes: Wishes = Wishes(), learnt: Learnt = Learnt()) -> Plan:  # noqa: B008
    """How to load the subject on this machine, as well as it goes, with every wish kept.

    Raises `DoesNotFit`, which says what lacks how much, and the nearest wishes that do fit; `UsageError` for wishes
    that contradict each other.
    """
    most = wishes.n_ctx or subject.text.n_ctx_train
    if subject.projector and (wishes.image_max_tokens or 0) >= most:
        what = f"A picture of {wishes.image_max_tokens} image tokens cannot stand in a context of {most}."
        raise UsageError(what, f"Ask for {'a larger --ctx, or ' if wishes.n_ctx else ''}a smaller --image-max-tokens.")
    pools = pools_of(machine, wishes.reserve, learnt.missing)
    found = search(subject, pools, wishes, learnt)
    if found is None:
        raise shortfall(subject, machine, wishes, learnt)
    setting, layout = found
    lowered = gave_way(subject, setting, ideal(subject, pools, wishes), pools, learnt)
    n_threads = wishes.n_threads or _threads(subject, machine)
    rate = decode_tps(subject, layout.allocations, setting.n_gpu_layers, setting.n_ctx, machine)
    map_weights = setting.n_gpu_layers == subject.all_layers
    allocations = _with_embeddings(layout.allocations, pools)
    return Plan(
        load=layout.load,
        limits=PictureLimits(min(subject.limits.min_tokens, setting.image_tokens), setting.image_tokens),
        mmproj_offload=setting.mmproj_offload,
        map_weights=map_weights,
        embedding_budget=sum(each.n_bytes for each in allocations if each.purpose == "embeddings"),
        n_threads=n_threads,
        pools=pools,
        allocations=allocations,
        choices=choices(subject, setting, layout, machine, wishes, n_threads, map_weights=map_weights),
        gave_way=lowered,
        decode_tps=rate,
    )


def _with_embeddings(allocations: tuple[Allocation, ...], pools: tuple[Pool, ...]) -> tuple[Allocation, ...]:
    """Of main memory that is left over a quarter is for pictures that are kept."""
    main = {MAIN, *(pool.device for pool in pools if pool.within == MAIN)}
    left = pools[0].usable - sum(each.n_bytes for each in allocations if each.device in main)
    more = min(MOST_EMBEDDINGS - KEPT_EMBEDDINGS, left // 4)
    return tuple(
        replace(each, n_bytes=each.n_bytes + more) if each.purpose == "embeddings" else each for each in allocations
    )


def _threads(subject: Subject, machine: Machine) -> int:
    n_bytes = subject.text.n_bytes + (subject.projector.n_bytes if subject.projector else 0)
    if n_bytes < ONE_THREAD_BYTES:
        return 1
    return min(machine.performance_cores or machine.cores, machine.cores)
