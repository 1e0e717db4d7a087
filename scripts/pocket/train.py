"""Trains pocket.

    python train.py --run FOLDER --minutes 60            from nothing, or on from FOLDER's own checkpoint
    python train.py --run FOLDER --minutes 60 --from PAIR   from an exported GGUF pair, with a fresh optimiser

First the vision tower alone learns what every token of a picture holds (dense targets: `Heads`, never exported), then
both towers learn to answer, the dense targets beside. FOLDER gets `checkpoint.pt`, the newest pair in `export/` and
`log.jsonl`, where `right` is the share of answers that greedy decoding gets exactly right, on drawings never seen
before.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import Qwen3VLForConditionalGeneration

from draw import CHARACTERS, COLOURS, KINDS
from export import load_pair, save_pair
from lessons import CHARACTER_SLOTS, Batch, Pictures, batches
from model import TRAINING_SCALE, new_model, set_scale
from tower import Seen, read, see
from vocabulary import encode

DENSE_SHARE = 0.5
"""Weight of the dense targets beside the answers."""
READING_SHARE = 0.2
"""The same where the vision tower stands still and only its mergers learn from them."""
EARLY_SHARE = 0.5
"""Weight of the answers as they stand some layers before the last: see `tower.EARLY`. What a question is about is then
looked up in the picture while there are layers left to work on it, to turn an edge into digits, say."""
DIGIT_WEIGHT = 6.0
"""Weight of a digit beside other tokens: most of the rest of a box goes without saying."""
LENGTH_POWER = 0.75
"""An answer's tokens are weighed by its length to minus this: at 1 every answer counts alike, at 0 every token."""
AVERAGE = 0.997
"""Decay per step of the averaged weights that are exported."""


class Heads(nn.Module):
    """Dense predictions from merged tokens; only there to teach the vision tower."""

    SIZES: ClassVar = {
        "kind": len(KINDS) + 1,
        "colour": len(COLOURS) + 1,
        "index": 7,
        "centre": 1,
        "box": 4,
        "characters": CHARACTER_SLOTS * (len(CHARACTERS) + 1),
        "count": 5,
        "hundredths": 4 * 101,
    }

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, sum(self.SIZES.values()))

    def losses(self, tokens: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss by target for merged tokens [pictures, tokens, width]."""
        with torch.autocast(tokens.device.type, enabled=False):  # bfloat16 cannot tell one hundredth from the next
            out = self.out(tokens.float())
        parts = dict(zip(self.SIZES, out.split(list(self.SIZES.values()), dim=-1), strict=True))
        covered = targets["kind"] > 0
        # Most cells are empty: what is covered counts as much as all the rest together.
        weight = torch.where(covered, 1 / covered.sum().clamp(min=1), 1 / (~covered).sum().clamp(min=1)) / 2
        losses = {}
        for name in ("kind", "colour"):
            losses[name] = (_cross_entropy(parts[name], targets[name]) * weight).sum()
        losses["centre"] = 4 * F.binary_cross_entropy_with_logits(parts["centre"][..., 0], targets["centre"])
        distance = F.smooth_l1_loss(parts["box"], targets["box"], reduction="none", beta=0.005).sum(-1)
        losses["box"] = 4 * (distance * covered).sum() / covered.sum().clamp(min=1)
        written = targets["characters"] > 0
        of_text = written.any(-1)
        weight = torch.where(of_text, 1 / of_text.sum().clamp(min=1), 0.3 / (~of_text).sum().clamp(min=1))
        slots = parts["characters"].unflatten(-1, (CHARACTER_SLOTS, -1))
        losses["characters"] = 2 * (_cross_entropy(slots, targets["characters"]).sum(-1) * weight).sum()
        hundredths = (100 * targets["box"]).round().long()
        each = _cross_entropy(parts["hundredths"].unflatten(-1, (4, -1)), hundredths).mean(-1)
        losses["hundredths"] = (each * covered).sum() / covered.sum().clamp(min=1)
        if "count" in targets:
            losses["count"] = 3 * _cross_entropy(parts["count"], targets["count"]).mean()
        losses["index"] = 0.5 * (_cross_entropy(parts["index"], targets["index"]) * weight).sum()
        return losses


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view(target.shape)


class Stream(IterableDataset[Batch]):
    """Batches drawn in the loader's own process."""

    def __init__(self, seed: int, load: int, with_pages: bool) -> None:
        self.seed, self.load, self.with_pages = seed, load, with_pages

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        return batches(self.seed, self.load, self.with_pages)


def _as_it_is(batch: Batch) -> Batch:
    return batch


class Optimiser:
    """Muon for the matrices inside the layers, AdamW for everything else, under one learning rate."""

    def __init__(self, model: Qwen3VLForConditionalGeneration, heads: Heads) -> None:
        matrices, others = [], list(heads.parameters())
        for name, parameter in model.named_parameters():
            inside = parameter.ndim == 2 and not any(
                part in name for part in ("embed_tokens", "pos_embed", "patch_embed")
            )
            (matrices if inside else others).append(parameter)
        self.parts = [
            torch.optim.Muon(matrices, lr=1.0, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.parameters = matrices + others

    def step(self, rate: float) -> None:
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)


def answer_loss(
    model: Qwen3VLForConditionalGeneration, batch: Batch, seen: Seen | None, device: torch.device
) -> tuple[Tensor, dict[str, list[tuple[float, bool]]]]:
    """Loss over the answers, and per kind each answer's own loss and whether greedy decoding gives it exactly."""
    ids = torch.from_numpy(batch.ids).to(device)
    branches = torch.from_numpy(batch.branches).to(device)
    mine, theirs = branches[:, :, None], branches[:, None, :]
    allowed = ((theirs == 0) | (theirs == mine)).tril()[:, None]
    positions = torch.from_numpy(batch.positions).to(device)
    hidden, early = read(model, ids, positions, allowed, seen)
    groups = torch.from_numpy(batch.groups).to(device)
    # The state that must predict an answer's first token may lie before its branch only in position, never in the
    # row: every answer follows its question directly.
    where = groups[:, 1:] >= 0
    logits = model.lm_head(hidden[:, :-1][where]).float()
    target, group = ids[:, 1:][where], groups[:, 1:][where]
    each = F.cross_entropy(logits, target, reduction="none")
    first = F.cross_entropy(model.lm_head(early[:, :-1][where]).float(), target, reduction="none")
    n = len(batch.kinds)
    length = torch.zeros(n, device=device).index_add_(0, group, torch.ones_like(each))
    digits = torch.tensor([encode(digit)[0] for digit in "0123456789"], device=device)
    weight = length.pow(-LENGTH_POWER)[group] * torch.where(torch.isin(target, digits), DIGIT_WEIGHT, 1.0)
    loss = ((each + EARLY_SHARE * first) * weight).sum() / weight.sum()
    with torch.no_grad():
        wrong = torch.zeros(n, device=device).index_add_(0, group, (logits.argmax(-1) != target).float())
        mean = torch.zeros(n, device=device).index_add_(0, group, each.detach()) / length
    results: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for kind, value, errors in zip(batch.kinds, mean.tolist(), wrong.tolist(), strict=True):
        results[kind].append((value, errors == 0))
    return loss, results


class Trainer:
    """One run: its weights, their average, and where they are kept."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.folder: Path = args.run
        self.folder.mkdir(parents=True, exist_ok=True)
        self.step = 0
        self.model = load_pair(args.pair) if args.pair else new_model(args.seed)
        if args.pair:
            set_scale(self.model, TRAINING_SCALE)
        if args.only_read:
            visual = self.model.model.visual
            for part in (visual.patch_embed, visual.pos_embed, visual.blocks):
                part.requires_grad_(False)
        self.model.to(self.device).train()
        self.heads = Heads(self.model.config.text_config.hidden_size).to(self.device)
        self.average = copy.deepcopy(self.model).eval()
        self.optimiser = Optimiser(self.model, self.heads)
        self.warmed_up = False
        self.rise = 100
        checkpoint = self.folder / "checkpoint.pt"
        if args.pair is None and checkpoint.exists():
            self._load(torch.load(checkpoint, map_location=self.device, weights_only=True))

    def _load(self, kept: dict[str, object]) -> None:
        self.model.load_state_dict(kept["raw"])
        self.average.load_state_dict(kept["model"])
        try:
            self.heads.load_state_dict(kept["heads"])
        except RuntimeError as error:
            raise SystemExit(f"{self.folder} was made with other dense targets: go on with --from EXPORT.") from error
        for part, state in zip(self.optimiser.parts, kept["optimiser"], strict=True):
            part.load_state_dict(state)
        self.step = int(kept["step"])
        self.rise = 10
        self.warmed_up = self.step >= self.args.dense_steps

    def save(self) -> None:
        """Keeps everything needed to go on, and exports the averaged weights."""
        kept = {
            "model": self.average.state_dict(),
            "raw": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimiser": [part.state_dict() for part in self.optimiser.parts],
            "step": self.step,
        }
        unfinished = self.folder / "checkpoint.part"
        torch.save(kept, unfinished)
        unfinished.replace(self.folder / "checkpoint.pt")
        save_pair(self.average, self.folder / "export")

    def learn(self, batch: Batch, rate: float) -> tuple[dict[str, float], dict[str, list[tuple[float, bool]]]]:
        """One step; returns the losses by part and the answers by kind."""
        dense_only = not self.warmed_up and self.step < self.args.dense_steps
        losses: dict[str, Tensor] = {}
        results: dict[str, list[tuple[float, bool]]] = {}
        total = torch.zeros((), device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            seen = None
            share = 1.0 if dense_only else READING_SHARE if self.args.only_read else DENSE_SHARE
            if batch.pictures:
                seen, losses = self._see(batch.pictures)
                total = total + share * sum(losses.values())
            if batch.pages:
                _, of_pages = self._see(batch.pages)
                total = total + share * sum(of_pages.values())
                losses |= {f"page {name}": value for name, value in of_pages.items()}
            if not dense_only:
                losses["answers"], results = answer_loss(self.model, batch, seen, self.device)
                total = total + losses["answers"]
        total.backward()
        self.optimiser.step(rate)
        decay = min(AVERAGE, (self.step + 1) / (self.step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        self.step += 1
        return {name: value.item() for name, value in losses.items()}, results

    def _see(self, pictures: Pictures) -> tuple[Seen, dict[str, Tensor]]:
        pixels = torch.from_numpy(pictures.patches).to(self.device)
        targets = {name: torch.from_numpy(array).to(self.device) for name, array in pictures.dense.items()}
        seen = see(self.model, pixels, 2 * pictures.rows, 2 * pictures.columns)
        return seen, self.heads.losses(seen.tokens, targets)

    def rate(self, steps: int, elapsed: float) -> float:
        """Learning rate: a short rise (`steps` of this run), level, and down to a twentieth over the last part."""
        fraction = min(1.0, elapsed / (60 * self.args.minutes))
        falling = max(0.0, (fraction - 1 + self.args.decay) / self.args.decay)
        return (
            self.args.rate * min(1.0, (steps + 1) / self.rise) * (0.05 + 0.95 * (1 + math.cos(math.pi * falling)) / 2)
        )

    def run(self) -> None:
        """Trains for the given minutes."""
        stream = Stream(self.args.seed * 1_000_003 + self.step, self.args.load, not self.args.only_read)
        loader = DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=8, collate_fn=_as_it_is)
        start = saved = logged = time.monotonic()
        first = self.step
        sums: dict[str, list[float]] = defaultdict(list)
        answers: dict[str, list[tuple[float, bool]]] = defaultdict(list)
        for batch in loader:
            now = time.monotonic()
            rate = self.rate(self.step - first, now - start)
            losses, results = self.learn(batch, rate)
            for name, value in losses.items():
                sums[name].append(value)
            for kind, outcomes in results.items():
                answers[kind] += outcomes
            now = time.monotonic()
            if self.step % self.args.log_every == 0:
                self._log(rate, (now - logged) / self.args.log_every, now - start, sums, answers)
                logged = now
                sums.clear()
                answers.clear()
            if now - saved > 60 * self.args.save_minutes:
                self.save()
                saved = now
            if now - start > 60 * self.args.minutes:
                break
        self.save()

    def _log(
        self,
        rate: float,
        pace: float,
        elapsed: float,
        sums: dict[str, list[float]],
        answers: dict[str, list[tuple[float, bool]]],
    ) -> None:
        row = {
            "step": self.step,
            "minutes": round(elapsed / 60, 1),
            "s_per_step": round(pace, 3),
            "rate": round(rate, 6),
            "losses": {name: round(sum(values) / len(values), 4) for name, values in sums.items()},
            "right": {k: round(sum(ok for _, ok in v) / len(v), 3) for k, v in sorted(answers.items())},
            "answer_loss": {k: round(sum(x for x, _ in v) / len(v), 3) for k, v in sorted(answers.items())},
        }
        line = json.dumps(row)
        print(line, flush=True)
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains pocket.")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run: checkpoint, export, log")
    parser.add_argument("--from", dest="pair", type=Path, help="folder of an exported pair to go on from")
    parser.add_argument("--minutes", type=float, required=True, help="how long to train")
    parser.add_argument(
        "--decay", type=float, default=0.3, help="last part of the time in which the learning rate falls"
    )
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument(
        "--dense-steps", type=int, default=600, help="first steps, in which the vision tower learns alone"
    )
    parser.add_argument(
        "--only-read",
        action="store_true",
        help="leave the vision tower as it is: its mergers and the text tower learn to use what it sees",
    )
    parser.add_argument("--load", type=int, default=2600, help="image tokens per batch, about")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-every", type=int, default=50, help="steps")
    parser.add_argument("--save-minutes", type=float, default=4)
    Trainer(parser.parse_args()).run()


if __name__ == "__main__":
    main()
