"""A plan as a person sees it: every device as a bar, every setting with its reason."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gguf_vl.cli.printing import harmless
from gguf_vl.fit.explain import size
from gguf_vl.fit.parts import cells, parts
from gguf_vl.fit.speed import speed_class
from gguf_vl.runtime.alternatives import Alternative
from gguf_vl.runtime.planning import Planned
from gguf_vl.types import MAIN, Machine, Plan, Pool, Used

_LOOKS: Mapping[str, tuple[str, str]] = {
    "weights": ("█", "blue"),
    "KV": ("▓", "magenta"),
    "compute": ("▒", "cyan"),
    "projector": ("▚", "green"),
    "encode": ("░", "yellow"),
    "embeddings": ("▫", "bright_yellow"),
    "program": ("▪", "white"),
    "margin": ("╱", "bright_black"),
    "free": ("·", "bright_black"),
}
"""Each part's character and colour; the characters alone tell the parts apart where there is no colour."""


_Looks = Mapping[str, tuple[str, str]]
_ASCII_LOOKS: _Looks = {
    purpose: (character, _LOOKS[purpose][1]) for purpose, character in zip(_LOOKS, "#K=PEep/.", strict=True)
}


def show(planned: Planned, used: Used | None, others: Sequence[Alternative]) -> None:
    """Print it all to standard output."""
    console = Console(highlight=False, markup=False, emoji=False)
    width = min(console.width, 120)
    looks = _LOOKS if _can_show("".join(character for character, _ in _LOOKS.values())) else _ASCII_LOOKS
    blocks: list[RenderableType] = [
        _heading(planned),
        *(_device(planned.plan, pool, width, looks) for pool in planned.plan.pools),
    ]
    if used:
        blocks += [_beside(planned.plan, used), ""]
    blocks.append(_settings(planned.plan))
    if planned.plan.gave_way:
        lines = (Padding(harmless(line), (0, 0, 0, 2)) for line in planned.plan.gave_way)
        blocks += ["", Text("To fit", style="bold"), *lines]
    if others:
        blocks += ["", _others(planned.plan, others)]
    if console.is_terminal:
        console.print(Group(*blocks), width=width)
        return
    with console.capture() as captured:
        console.print(Group(*blocks), width=width)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _can_show(characters: str) -> bool:
    """Whether standard output's encoding has these."""
    try:
        characters.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _heading(planned: Planned) -> Text:
    subject, plan, candidate = planned.candidate.subject, planned.plan, planned.candidate
    name = harmless(subject.text.name or candidate.path.stem)
    weights = subject.text.n_bytes + (subject.projector.n_bytes if subject.projector else 0)
    where = "" if candidate.is_here else ", not here yet"
    text = Text.assemble((harmless(candidate.name), "bold"), f"  {name}, {subject.text.quantisation}, ")
    text.append(f"{size(weights)} of weights{where}\n")
    text.append(f"on {_machine(planned.machine)}\n")
    if plan.decode_tps:
        text.append("some ").append(f"{plan.decode_tps:.0f} tokens a second", "bold")
        text.append(f", {speed_class(plan.decode_tps)}\n")
    else:
        text.append("how fast is unknown: so is the bandwidth of the memory\n")
    return text


def _machine(machine: Machine) -> str:
    chip = machine.chip or "a processor of an unknown name"
    return harmless(f"{chip}, {machine.cores} cores, {size(machine.memory_total)} of memory")


def _device(plan: Plan, pool: Pool, width: int, looks: _Looks) -> RenderableType:
    shares = parts(plan, pool)
    within = f" (within {pool.within})" if pool.within else ""
    left = Text.assemble((pool.device, "bold"), f"  {harmless(pool.description)}{within}")
    right = f"takes {size(plan.taken(pool.device))} of {size(pool.free)} that are free"
    head: RenderableType = Group(left, right)
    if left.cell_len + 2 + len(right) <= width:
        left.append(right.rjust(width - left.cell_len))
        head = left
    bar = Text(no_wrap=True)
    for part, n in zip(shares, cells([part.n_bytes for part in shares], width), strict=True):
        character, colour = looks[part.purpose]
        bar.append(character * n, colour)
    numbers = _wrapped([f"{looks[part.purpose][0]} {part.purpose} {size(part.n_bytes)}" for part in shares], width)
    for character, colour in looks.values():
        numbers.highlight_regex(re.escape(character), colour)
    return Group(head, bar, numbers, "")


def _wrapped(words: Sequence[str], width: int) -> Text:
    """The words in lines of that width, none of them cut."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 2 + len(word) > width:
            lines.append("")
        lines[-1] += f"  {word}" if lines[-1] else word
    return Text("\n".join(lines))


def _beside(plan: Plan, used: Used) -> Table:
    """What was planned beside what the last load really took."""
    table = Table(box=None, title="Planned and used", title_justify="left", title_style="bold", padding=(0, 2, 0, 0))
    for name in ("device", "for", "planned", "used"):
        table.add_column(name, justify="left" if name in ("device", "for") else "right")
    for pool in plan.pools:
        for purpose in ("weights", "KV", "compute", "projector"):
            planned = sum(
                each.n_bytes for each in plan.allocations if (each.device, each.purpose) == (pool.device, purpose)
            )
            taken = sum(each.n_bytes for each in used.buffers if (each.device, each.purpose) == (pool.device, purpose))
            if planned or taken:
                table.add_row(pool.device, purpose, size(planned), size(taken))
    place = plan.pools[1].device if plan.mmproj_offload else MAIN
    encode = sum(each.n_bytes for each in plan.allocations if (each.device, each.purpose) == (place, "encode"))
    if encode:
        table.add_row(place, "encode", size(encode), "not measured" if used.encode is None else size(used.encode))
    for device, n_bytes in used.devices.items():
        table.add_row(device, "in all", size(plan.taken(device)), size(n_bytes))
    table.add_row(MAIN, "the worker, resident", size(plan.taken(MAIN)), size(used.resident))
    return table


def _settings(plan: Plan) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for each in plan.choices:
        table.add_row(each.name, harmless(each.value), harmless(each.why))
    for pool in plan.pools:
        table.add_row(f"margin {pool.device}", size(pool.margin), harmless(pool.margin_why))
    return table


def _others(plan: Plan, others: Sequence[Alternative]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("Instead", "")
    for each in others:
        table.add_row(f"  {harmless(each.wish)}", _outcome(plan, each.plan) if each.plan else harmless(each.trouble))
    return table


def _outcome(plan: Plan, other: Plan) -> str:
    """What is otherwise, in a line."""
    device = plan.pools[1].device if plan.load.n_gpu_layers else MAIN
    words = []
    for name in dict.fromkeys((device, MAIN)):
        more = other.taken(name) - plan.taken(name)
        if name == device or abs(more) >= 256 << 20:
            words.append(f"{size(abs(more))} {'more' if more > 0 else 'less'} of {name}")
    before = {each.name: each.value for each in plan.choices}
    words += [
        f"{each.name} {each.value}"
        for each in other.choices
        if before.get(each.name) != each.value and each.name not in ("weights", "batch")
    ]
    if other.decode_tps:
        words.append(f"{other.decode_tps:.0f} tokens a second")
    return ", ".join(words)
