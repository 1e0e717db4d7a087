"""Planned bytes beside real ones, row by row, and `bench_fit.py`'s report as Markdown."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench_fit_loading import MIB, Buffers

from gguf_vl.types import MAIN

PARTS = ("model", "kv", "compute", "output")
OFFLOADED = ("model", "kv", "compute")
"""Parts that are compared by place; the outputs, which lie in main memory, count as compute."""


def off(planned: int, real: int) -> float | None:
    """How far a plan is from what was: 0.01 is 1 % too much. None where nothing was."""
    return round(planned / real - 1, 5) if real else None


def compared(ours: Buffers, theirs: Buffers) -> dict[str, Any]:
    """Planned and real beside each other, part by part and in all."""
    parts = {part: off(ours[part], theirs[part]) for part in PARTS}
    total = off(sum(ours.values()), sum(theirs.values()))
    return {"planned": ours, "real": theirs, "off": parts | {"total": total}}


def apart(ours: dict[str, Buffers], theirs: dict[str, Buffers]) -> dict[str, dict[str, float | None]]:
    """How far off each place is, part by part and in all."""
    return {
        place: {part: off(ours[place][part], theirs[place][part]) for part in OFFLOADED}
        | {"total": off(sum(ours[place].values()), sum(theirs[place].values()))}
        for place in ours
    }


def worst(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """For each part, the row that is furthest off."""
    found = {}
    rows = [each for each in rows if "simulated" in each]
    for part in (*PARTS, "total", "formula"):
        of_part = partial(_of_part, part)
        if rows:
            furthest = max(rows, key=lambda each: abs(of_part(each) or 0))
            found[part] = {"off": of_part(furthest), "row": label(furthest)}
    return found


def _of_part(part: str, each: dict[str, Any]) -> float | None:
    said: float | None = each["formula"]["off"] if part == "formula" else each["off"][part]
    return said


def label(each: dict[str, Any]) -> str:
    """A row in words."""
    sequences = "sequence" if each["n_seq_max"] == 1 else "sequences"
    return f"{each['model']} {each['quant']}, {each['n_ctx']} × {each['kv_type']}, {each['n_seq_max']} {sequences}"


def markdown(report: dict[str, Any]) -> str:
    """The tables of a report."""
    lines = []
    rows = [each for each in report["rows"] if "simulated" in each]
    if rows:
        lines += [
            "| model | context | KV | sequences | model MiB | KV MiB | compute MiB | output MiB | total MiB "
            "| total off | compute, formula | |",
            "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
        ]
    for each in rows:
        pairs = [_both(each["planned"][part], each["real"][part]) for part in PARTS]
        total = _both(sum(each["planned"].values()), sum(each["real"].values()))
        what = (f"{each['model']} {each['quant']}", f"{each['n_ctx']:,}", each["kv_type"], str(each["n_seq_max"]))
        cells = (*what, *pairs, total, _percent(each["off"]["total"]), _percent(each["formula"]["off"]))
        lines.append(f"| {' | '.join(cells)} | {'simulated' if each['simulated'] else ''} |")
    for part, found in report["worst"].items():
        lines.append(f"\nFurthest off in {part}: {_percent(found['off'])} ({found['row']})")
    rows = [each for each in report["rows"] if "n_gpu_layers" in each]
    if rows:
        lines += [
            "",
            "| model | layers offloaded | context | KV | sequences | on | model MiB | KV MiB | compute MiB | total off "
            "| compute, formula |",
            "|---|--:|--:|---|--:|---|--:|--:|--:|--:|--:|",
        ]
    for each in rows:
        numbers = (str(each["n_gpu_layers"]), f"{each['n_ctx']:,}", each["kv_type"], str(each["n_seq_max"]))
        what = " | ".join((f"{each['model']} {each['quant']}", *numbers))
        if failure := each.get("failure"):
            lines.append(f"| {what} | {failure} | | | | | |")
            continue
        for place in (MAIN, each["device"]):
            pairs = [_both(each["planned"][place][part], each["real"][place][part]) for part in OFFLOADED]
            ends = (each["off"][place]["total"], each["formula"]["off"][place]["compute"])
            lines.append(f"| {what} | {place} | {' | '.join((*pairs, *map(_percent, ends)))} |")
    rows = [each for each in report["rows"] if "image_tokens" in each]
    if rows:
        lines += [
            "",
            "| projector of | on | image tokens | projector MiB | encode MiB | encode off | beside it in RAM, MiB |",
            "|---|---|--:|--:|--:|--:|--:|",
        ]
    for each in rows:
        place = each["device"] if each["projector_on_device"] else MAIN
        what = f"{each['model']} | {place} | {each['image_tokens']:,}"
        if failure := each.get("failure"):
            lines.append(f"| {what} | {failure} | | | |")
            continue
        pairs = [_both(each["planned"][part], each["real"][part]) for part in ("projector", "encode")]
        ends = _percent(each["off"]["encode"]), f"{each['in_main_memory'] / MIB:,.1f}"
        lines.append(f"| {' | '.join((what, *pairs, *ends))} |")
    return "\n".join(lines) + "\n"


def _both(planned: int, real: int) -> str:
    return f"{planned / MIB:,.1f} / {real / MIB:,.1f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:+.2f} %"
