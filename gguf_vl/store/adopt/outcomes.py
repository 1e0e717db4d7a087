"""What became of every model that was found: one bad file never hides the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gguf_vl.catalogue import File
from gguf_vl.errors import GgufVlError, MissingOrInvalid, UsageError, VerificationFailed
from gguf_vl.store.library import LocalModel
from gguf_vl.store.place import check_name, folder_name
from gguf_vl.store.progress import Progress

from .candidates import Candidate, Group, Refused
from .linking import adopt, already_here, check_may_have, promised
from .naming import name_for
from .pairing import Pair, pairs_in

State = Literal["imported", "would import", "already here", "not taken", "broken"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done with a found model. `model` is its text model's path there, or whatever file it is about.

    `name` is what it is called here; `error` is why it is not here; `linked` whether its files are hard-linked, rather
    than used where they are.
    """

    state: State
    model: Path
    mmproj: Path | None = None
    source: str | None = None
    name: str | None = None
    linked: bool | None = None
    error: GgufVlError | None = None


def bring_in(
    found: Iterable[Group | Refused],
    *,
    name: str | None = None,
    only_qwen3vl: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Take in every model of what was found, and say of each what was done; with `dry_run`, what would be.

    A `name` is for one model: `UsageError` when there are more. Other errors of single files become outcomes.
    """
    if name is not None:
        check_name(name)
    items = list(_without_repeats(_paired(found, only_qwen3vl)))
    pairs = [item for item in items if isinstance(item, Pair)]
    if name is not None and len(pairs) > 1:
        raise UsageError(f"{len(pairs)} models were found, and --name is for one.", "Import each by its own path.")
    promised_names: set[str] = set()
    for item in items:
        if isinstance(item, Refused):
            yield Outcome("broken" if item.broken else "not taken", item.path, error=item.error)
            continue
        try:
            yield _foreseen(item, name, promised_names) if dry_run else _taken(item, name, progress)
        except (MissingOrInvalid, VerificationFailed) as error:
            yield _not_here("broken", item, error)
        except UsageError as error:
            yield _not_here("not taken", item, error)


def _taken(pair: Pair, name: str | None, progress: Progress | None) -> Outcome:
    adopted = adopt(pair, name, progress)
    return _here("imported" if adopted.new else "already here", pair, adopted.local)


def _foreseen(pair: Pair, name: str | None, promised_names: set[str]) -> Outcome:
    """Without hashing: a file counts as what the catalogue or its place says it is."""
    files = [_as_promised(file) for file in pair.files]
    if here := already_here(pair, name, [file.sha256 or "" for file in files]):
        return _here("already here", pair, here)
    name = name or name_for(pair, files)
    check_may_have(name, pair, files)
    if folder_name(name).casefold() in promised_names:
        raise UsageError(f"Another of these would be {name}.", "Import each by its own path, with --name.")
    promised_names.add(folder_name(name).casefold())
    return Outcome("would import", *_where(pair), name=name)


def _as_promised(file: Candidate) -> File:
    n_bytes = file.stat().st_size
    return File(file.name, n_bytes, next(filter(None, promised(file, n_bytes)), None))


def _paired(found: Iterable[Group | Refused], only_qwen3vl: bool) -> Iterator[Pair | Refused]:
    for item in found:
        if isinstance(item, Refused):
            yield item
        else:
            yield from pairs_in(item, only_qwen3vl=only_qwen3vl)


def _without_repeats(items: Iterable[Pair | Refused]) -> Iterator[Pair | Refused]:
    """Every pair once: two commits of one repository have links to the same files, as have two of Ollama's tags."""
    seen = set()
    for item in items:
        if isinstance(item, Pair):
            files = tuple(os.path.realpath(file.path) for file in item.files)
            if files in seen:
                continue
            seen.add(files)
        yield item


def _here(state: State, pair: Pair, local: LocalModel) -> Outcome:
    linked = not any(os.path.isabs(record.path) for record in local.receipt.files) if local.receipt else None
    return Outcome(state, *_where(pair), name=local.name, linked=linked)


def _not_here(state: State, pair: Pair, error: GgufVlError) -> Outcome:
    return Outcome(state, *_where(pair), error=error)


def _where(pair: Pair) -> tuple[Path, Path | None, str]:
    return pair.text.file.path, pair.mmproj.file.path if pair.mmproj else None, pair.source
