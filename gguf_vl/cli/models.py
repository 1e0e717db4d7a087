"""`gguf-vl list`, `show`, `verify` and `rm`: the models on this machine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gguf_vl.cli import options
from gguf_vl.cli.printing import harmless
from gguf_vl.store.progress import size

if TYPE_CHECKING:
    from gguf_vl.catalogue import Model
    from gguf_vl.errors import GgufVlError
    from gguf_vl.store.library import Broken, LocalModel
    from gguf_vl.store.place import Unfinished
    from gguf_vl.store.verify import Checked

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="A model's name, as `gguf-vl list` shows it.", show_default=False)]


def list_models(as_json: Json = False, offline: options.Offline = False, debug: options.Debug = False) -> None:
    """List the models on this machine."""
    settings = options.settings(debug)
    from gguf_vl.errors import GgufVlError
    from gguf_vl.hardware.machine import probe
    from gguf_vl.runtime.planning import plan_chosen
    from gguf_vl.store.library import Broken, scan
    from gguf_vl.store.place import unfinished

    entries, begun = scan(), unfinished()
    try:
        chosen, _ = plan_chosen(settings, probe())
        default, note = chosen.local.model, f"* used when no --model is given: {chosen.local.model}"
    except GgufVlError as error:
        default, note = None, f"The model chosen in the settings is not usable: {error.what}"
    rows = [_row(entry, default) for entry in entries]
    if as_json:
        print(json.dumps([*rows, *map(_row_of_unfinished, begun)], ensure_ascii=False, indent=2))
        return
    table = [("MODEL", "QUANT", "SIZE", "PROJECTOR", "VERIFIED", "WHERE")]
    for entry, row in zip(entries, rows, strict=True):
        if isinstance(entry, Broken):
            table.append((entry.name, "-", "-", "-", "-", f"{entry.folder}: {entry.trouble}"))
        else:
            name = row["name"] + (" *" if row["default"] else "")
            verified = "damaged" if row["damaged"] else (row["verified"] or "-")[:10]
            projector = row["projector"] or "none"
            table.append((name, row["quantisation"], size(row["bytes"]), projector, verified, row["model"]))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]) - 1)]
    for line in table:
        cells = (harmless(cell).ljust(width) for cell, width in zip(line, [*widths, 0], strict=True))
        print("  ".join(cells).rstrip())
    print(harmless(f"\n{note}"))
    for each in begun:
        what = f"A pull of {each.name} is not finished, with {size(each.n_bytes)} here."
        fix = f"The same pull goes on with them, `gguf-vl rm {each.name}` removes them."
        print(harmless(f"{what} {fix}"), file=sys.stderr)


def show(name: Name, as_json: Json = False, offline: options.Offline = False, debug: options.Debug = False) -> None:
    """Show what is known of a model: shape, context, sampling, licence, files."""
    options.settings(debug)
    facts = _facts(name)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        for number, line in enumerate(value if isinstance(value, list) else [value]):
            print(harmless(f"{key if number == 0 else '':{width}}  {_line(line)}"))


def verify(
    name: Annotated[str | None, typer.Argument(help="A model; all of them without.", show_default=False)] = None,
    as_json: Json = False,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Hash the files of models again and compare them with what was promised."""
    options.settings(debug)
    from gguf_vl.cli.failing import end_with
    from gguf_vl.cli.progress import progress
    from gguf_vl.errors import InvalidModelFile, ModelNotFound
    from gguf_vl.store import library
    from gguf_vl.store.verify import Checked
    from gguf_vl.store.verify import verify as verify_folder

    if name is None:
        folders = [(entry.name, entry.folder) for entry in library.scan()]
    else:
        folders = [(name, library.folder_meant(name))]
    checked: list[tuple[str, Checked]] = []
    errors: list[GgufVlError] = []
    with progress("Verifying") as told:
        for model, folder in folders:
            if folder is None:
                raise ModelNotFound(f"There is no model {model} here.", "See `gguf-vl list`.")
            try:
                found = verify_folder(folder, told)
                errors += [_damaged(model, each) for each in found if each.trouble]
            except InvalidModelFile as error:
                errors.append(error)
                found = [Checked(folder, 0, None, "none", error.what)]
            checked += [(model, each) for each in found]
    if as_json:
        rows = [
            {"model": m, "file": str(c.path), "sha256": c.sha256, "promised_by": c.promised_by, "trouble": c.trouble}
            for m, c in checked
        ]
        print(json.dumps(rows, ensure_ascii=False, indent=2))
    for model, each in checked:
        if not as_json and not each.trouble:
            by = f"as promised by the {each.promised_by}" if each.promised_by != "none" else f"sha256 {each.sha256}"
            print(harmless(f"{model}: {each.path.name} is {by}"))
    end_with(sorted(errors, key=lambda error: error.exit_code, reverse=True))


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models to remove.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Remove models from this machine."""
    options.settings(debug)
    from gguf_vl.cli.progress import progress
    from gguf_vl.errors import UsageError
    from gguf_vl.store.remove import plan_removals, remove

    removals = plan_removals(names)
    for removal in removals:
        folder = removal.folder or removal.unfinished[0].folder
        print(harmless(f"{removal.name}: removing {folder} frees {size(removal.frees)}."))
        if folder.is_symlink():
            print(harmless(f"  It is a link to {os.path.realpath(folder)}, which stays."))
        for begun in removal.unfinished:
            kind = "a pull" if removal.busy else "an unfinished pull"
            print(f"  {size(begun.n_bytes)} of that are what {kind} has fetched.")
        if removal.busy:
            print(f"  {removal.busy}")
        for path in removal.shared:
            name = harmless(path.name)
            print(f"  {name} frees nothing: it is on this disk under another name too, which stays.")
        for path in removal.referenced:
            print(f"  {harmless(path)} belongs to another program and stays.")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("Nobody is here to confirm the removal.", "Give --yes.")
        if not typer.confirm("Remove?", err=True):
            print("Nothing was removed.", file=sys.stderr)
            return
    with progress("Removing") as told:
        for removal in removals:
            remove(removal, told)


def _damaged(model: str, checked: Checked) -> GgufVlError:
    from gguf_vl import paths
    from gguf_vl.errors import VerificationFailed

    fix = "Install gguf-vl again." if checked.path.parent == paths.pocket_dir() else checked.fix
    return VerificationFailed(f"{checked.path} of {model} is damaged: {checked.trouble}.", fix)


_EMPTY_ROW: dict[str, Any] = dict.fromkeys(
    "name quantisation bytes projector model mmproj verified damaged source default where trouble".split()
)
"""What every row of `list --json` has. A row with `trouble` is of nothing that can be used; `damaged` is what `verify`
found."""


def _row(entry: LocalModel | Broken, default: Path | None) -> dict[str, Any]:
    from gguf_vl.store.library import Broken

    where = str(entry.folder) if entry.folder else None
    row = _EMPTY_ROW | {"name": entry.name, "default": False, "where": where}
    if isinstance(entry, Broken):
        return row | {"trouble": entry.trouble}
    return row | {
        "quantisation": entry.text.quantisation,
        "bytes": entry.n_bytes,
        "projector": entry.projector.quantisation if entry.projector else None,
        "model": str(entry.model),
        "mmproj": str(entry.mmproj) if entry.mmproj else None,
        "verified": min(record.verified for record in entry.receipt.files) or None if entry.receipt else None,
        "damaged": entry.receipt is not None and entry.receipt.is_damaged,
        "source": entry.receipt.source if entry.receipt else None,
        "default": entry.model == default,
    }


def _row_of_unfinished(begun: Unfinished) -> dict[str, Any]:
    about = {"bytes": begun.n_bytes, "where": str(begun.folder), "trouble": "its pull is not finished"}
    return _EMPTY_ROW | {"name": begun.name, "default": False} | about


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_line(each)}" for key, each in value.items() if each is not None)
    return str(value)


def _facts(name: str) -> dict[str, Any]:
    """What the machine and the catalogue know of a model, in the order in which it is shown."""
    from gguf_vl import catalogue
    from gguf_vl.errors import ModelNotFound
    from gguf_vl.runtime.models import named

    try:
        installed = named(name)
    except ModelNotFound:
        model, _ = catalogue.find(name)
        return {"name": name, "installed": "no", **_of_catalogue(model)}
    return {
        "name": installed.name,
        **_of_files(installed.local),
        **(_of_catalogue(installed.known) if installed.known else {}),
    }


def _of_files(local: LocalModel) -> dict[str, Any]:
    from gguf_vl.gguf import read_header
    from gguf_vl.gguf.wire import shown

    text, projector, receipt = local.text, local.projector, local.receipt
    facts: dict[str, Any] = {
        "architecture": text.architecture,
        "quantisation": text.quantisation,
        "text": {"layers": text.n_layer, "width": text.n_embd, "heads": text.n_head, "feed-forward": text.n_ff},
        "context": f"{text.n_ctx_train} tokens trained",
    }
    if projector:
        facts["vision"] = {
            "layers": projector.n_layer,
            "width": projector.n_embd,
            "quantisation": projector.quantisation,
        }
    if licence := read_header(local.model).metadata.get("general.license"):
        facts["licence"] = shown(licence)
    facts["files"] = [f"{path} ({size(path.stat().st_size)})" for path in (local.model, local.mmproj) if path]
    if receipt:
        facts["source"] = receipt.source
        facts["verified"] = [f"{r.path}: {r.verified or 'damaged'}, sha256 {r.sha256}" for r in receipt.files]
    return facts


def _of_catalogue(model: Model) -> dict[str, Any]:
    from dataclasses import asdict

    def told(sampling: Any) -> dict[str, Any]:
        return {key: value for key, value in asdict(sampling).items() if value not in (None, ())}

    return {
        "title": model.title,
        "licence": model.licence,
        "published": [
            f"{model.name}:{v.quant} {v.file.name}" + (f" ({size(v.file.size)})" if v.file.size else "")
            for v in model.variants
        ],
        "sampling with pictures": told(model.sampling(pictures=True)),
        "sampling, text alone": told(model.sampling(pictures=False)),
        "image tokens": f"{model.picture_limits.min_tokens} to {model.picture_limits.max_tokens}",
    }
