"""What the banner and the lowest line say, in words: from the model, its downloads and the last answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.markup import escape

from gguf_vl.chat.turns import Turn
from gguf_vl.tui.model import Model
from gguf_vl.tui.widgets.status import Numbers
from gguf_vl.types import Progress

if TYPE_CHECKING:
    from gguf_vl.fit.choice import Chosen
    from gguf_vl.tui.downloads import Download

_STAGES = {"load": "loading", "queue": "waiting, place", "encode": "looking", "prefill": "reading"}


def doing(progress: Progress) -> str:
    """What is done before the first word, and how far it is."""
    if progress.stage == "queue":
        return f"waiting: {progress.done} of {progress.total} in the queue"
    unit = "image tokens" if progress.stage == "encode" else "tokens"
    return f"{_STAGES[progress.stage]} … {progress.done:,} of {progress.total:,} {unit}"


def banner(model: Model, chosen: Chosen | None, downloads: Sequence[Download], *, briefly: bool) -> str:
    """What to know of the model, and the key to do something about it; empty when all is well. Markup."""
    if model.state == "failed" and model.error:
        return f"[b]✗ {escape(model.error.what)}[/] {escape(model.error.fix)}"
    if model.name != "pocket" or chosen is None:
        return ""
    small = "" if briefly else "[b]pocket[/] answers: the embedded model, which knows drawn shapes only. "
    if chosen.plan is None:
        return "" if briefly else f"{small}No larger one fits this machine: {_clause(chosen.trouble)}."
    fetched = next((each for each in downloads if each.name == chosen.name), None)
    if fetched is None:
        return f"{small}For this machine: {_offer(chosen, briefly)} [@click=app.recommended][b]F7[/] fetches it[/]"
    match fetched.state:
        case "done":
            return f"[b]{chosen.name}[/] is here. [@click=app.recommended][b]F7[/] switches to it[/]"
        case "failed":
            why = _clause(fetched.error.what) if fetched.error else ""
            return f"{chosen.name} was not fetched: {why}. [@click=app.recommended][b]F7[/] tries again[/]"
        case "paused":
            return f"{chosen.name} is paused at {_share(fetched)}. [@click=app.recommended][b]F7[/] goes on[/]"
        case _:
            return f"{small}Fetching [b]{chosen.name}[/]: {_share(fetched)}{_rate(fetched)}"


def _offer(chosen: Chosen, briefly: bool) -> str:
    from gguf_vl import catalogue

    model, variant = catalogue.find(chosen.name)
    sizes = [file.size for file in (variant.file, variant.mmproj) if file and file.size]
    size = f" ({sum(sizes) / 1e9:.1f} GB)" if sizes else ""
    return f"[b]{model.title} {variant.quant.upper()}[/]{size}" + (" ·" if briefly else f": {_clause(chosen.why)}.")


def _share(download: Download) -> str:
    if not download.total:
        return "…"
    filled = download.done * 10 // download.total
    return f"{'█' * filled}{'░' * (10 - filled)} {download.done / download.total:.0%}"


def _rate(download: Download) -> str:
    if not download.rate:
        return ""
    left = f", {download.eta_s:,.0f} s left" if download.eta_s is not None else ""
    return f" at {download.rate / 1e6:.1f} MB/s{left}"


def numbers(model: Model, last: Turn | None) -> Numbers:
    """What is known of the model and of the last answer."""
    state = {"choosing": "choosing a model …", "loading": f"loading … {model.fraction:.0%}", "failed": "not loaded"}
    told = Numbers(model=model.name or "…", doing=state.get(model.state, ""), n_ctx=model.n_ctx)
    if model.made:
        info, allocations = model.made.engine.info, model.made.planned.plan.allocations
        taken = sum(info.used.devices.values()) + info.used.resident if info else None
        told = replace(told, planned=sum(each.n_bytes for each in allocations), taken=taken)
    if last and last.usage:
        told = replace(told, used=last.usage.prompt_tokens + last.usage.completion_tokens)
    if last and (timings := last.timings):
        told = replace(told, rate=timings.decode_tps, ttft_s=timings.ttft_s, n_reused=timings.tokens_reused)
    return told


def _clause(text: str) -> str:
    """A sentence without its full stop, and no markup."""
    return escape(text.rstrip("."))
