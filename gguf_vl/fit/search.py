"""The search for the best way to load a model here.

What gives way when it does not fit, first to last: the picture limit, the KV cache's type, the context, the projector's
place on the GPU, layers on the GPU. So the loops below stand in the reverse order, and the first combination that fits
is the plan. More memory can only make an earlier one fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gguf_vl.fit.layout import Layout, Setting, Subject
from gguf_vl.types import KvType, Learnt, Pool, Wishes

N_BATCH = 512
"""Tokens computed at once. On two cores the 2B's prompts go fastest with it (137 tokens a second; 128 with 128, and 129
with 2,048), and its buffer is a quarter of what 2,048 take."""
CONTEXT = 8192
"""A picture of 4,096 tokens and a long talk about it."""
LARGEST_CONTEXT = 32_768
"""Tokens, for each of the requests asked for at once, beyond which a plan does not go unasked."""
PARALLEL, PARALLEL_ON_GPU = 4, 8
"""Requests answered at once. Up to 8 take no more memory than one: they share a cache. A CPU gains nothing by more."""


@dataclass(frozen=True, slots=True)
class _Ladder:
    """What may be tried of each setting, the best first."""

    contexts: tuple[int, ...]
    kv_types: tuple[KvType, ...]
    image_tokens: tuple[int, ...]


_USEFUL = _Ladder((CONTEXT, CONTEXT // 2), ("f16", "q8_0"), (4096, 2048, 1024))
_LEAST = _Ladder((CONTEXT, CONTEXT // 2, CONTEXT // 4), ("f16", "q8_0", "q4_0"), (512, 256))
"""Tried only when nothing useful fits anywhere."""


def search(subject: Subject, pools: Sequence[Pool], wishes: Wishes, learnt: Learnt) -> tuple[Setting, Layout] | None:
    """The first of all settings, from the best down, that overdraws no pool."""
    for ladder in (_USEFUL, _LEAST):
        for rungs in _placements(subject, pools, wishes, ladder):
            if Layout(subject, rungs[-1], pools, learnt).overdrawn(pools):
                continue  # then all others here are too large as well
            for setting in rungs:
                layout = Layout(subject, setting, pools, learnt)
                if not layout.overdrawn(pools):
                    return _grown(subject, setting, layout, pools, wishes, learnt)
    return None


def ideal(subject: Subject, pools: Sequence[Pool], wishes: Wishes) -> Setting:
    """What would be chosen if memory had no end."""
    return next(_placements(subject, pools, wishes, _USEFUL))[0]


def least(subject: Subject, pools: Sequence[Pool], wishes: Wishes) -> Iterator[Setting]:
    """The smallest that is tried at every placement on the GPUs."""
    return (rungs[-1] for rungs in _placements(subject, pools, wishes, _LEAST))


def _placements(
    subject: Subject, pools: Sequence[Pool], wishes: Wishes, ladder: _Ladder
) -> Iterator[tuple[Setting, ...]]:
    """For every placement on the GPUs, from the best down, the settings to try there, from the best down."""
    rungs = tuple(_rungs(subject, wishes, ladder))
    for n_gpu_layers in _layer_counts(subject, pools, wishes):
        for offload in _projector_places(subject, pools, wishes):
            parallel = wishes.n_seq_max or (PARALLEL_ON_GPU if n_gpu_layers else PARALLEL)
            yield tuple(
                replace(each, n_gpu_layers=n_gpu_layers, mmproj_offload=offload, n_seq_max=parallel) for each in rungs
            )


def _layer_counts(subject: Subject, pools: Sequence[Pool], wishes: Wishes) -> Sequence[int]:
    if len(pools) < 2:
        return (0,)
    if wishes.n_gpu_layers is None:
        return range(subject.all_layers, -1, -1)
    is_all = wishes.n_gpu_layers < 0
    return (subject.all_layers if is_all else min(wishes.n_gpu_layers, subject.all_layers),)


def _projector_places(subject: Subject, pools: Sequence[Pool], wishes: Wishes) -> tuple[bool, ...]:
    if len(pools) < 2 or subject.projector is None:
        return (False,)
    if wishes.mmproj_offload is not None:
        return (wishes.mmproj_offload,)
    return (False,) if wishes.n_gpu_layers == 0 else (True, False)


def _rungs(subject: Subject, wishes: Wishes, ladder: _Ladder) -> Iterator[Setting]:
    trained, pictured = subject.text.n_ctx_train, 2 * (wishes.image_max_tokens or 0) if subject.projector else 0
    contexts = (wishes.n_ctx,) if wishes.n_ctx else tuple(min(max(each, pictured), trained) for each in ladder.contexts)
    for n_ctx in dict.fromkeys(contexts):
        for kv_type in (wishes.kv_type,) if wishes.kv_type else ladder.kv_types:
            for image_tokens in _picture_limits(subject, wishes, ladder, n_ctx):
                yield Setting(0, False, n_ctx, kv_type, image_tokens, min(N_BATCH, n_ctx), 1)


def _picture_limits(subject: Subject, wishes: Wishes, ladder: _Ladder, n_ctx: int) -> tuple[int, ...]:
    """Beside a picture that fills the context no question has room: it may take half.

    For the same reason `_rungs` takes no context smaller than two of the pictures that were asked for.
    """
    low, high = subject.limits.min_tokens, subject.limits.max_tokens
    if subject.projector is None:
        return (high,)
    if wishes.image_max_tokens:
        return (wishes.image_max_tokens,)
    return tuple(dict.fromkeys(max(low, min(each, high, n_ctx // 2)) for each in ladder.image_tokens))


def _grown(
    subject: Subject, setting: Setting, layout: Layout, pools: Sequence[Pool], wishes: Wishes, learnt: Learnt
) -> tuple[Setting, Layout]:
    """With a larger context, as far as room is left over: a card's whole, and half of memory that others use too."""
    most = min(LARGEST_CONTEXT * (wishes.n_seq_max or 1), subject.text.n_ctx_train)
    if wishes.n_ctx or setting.n_ctx != min(CONTEXT, subject.text.n_ctx_train):
        return setting, layout
    given = [pool if pool.within is None and pool is not pools[0] else _half(pool) for pool in pools]
    while setting.n_ctx < most:
        larger = replace(setting, n_ctx=min(2 * setting.n_ctx, most))
        tried = Layout(subject, larger, pools, learnt)
        if tried.overdrawn(given):
            break
        setting, layout = larger, tried
    return setting, layout


def _half(pool: Pool) -> Pool:
    return replace(pool, margin=pool.free - pool.usable // 2)
