"""`gguf-vl list`: the models that can be used here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gguf_vl.cli import options

GB = 1e9


def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, debug: options.Debug = False
) -> None:
    """List the models on this machine."""
    settings = options.settings(debug)
    from gguf_vl.errors import GgufVlError
    from gguf_vl.runtime.models import choose
    from gguf_vl.store.library import Broken, scan

    entries = scan()
    try:
        chosen = choose(settings)
        default, note = chosen.local.model, f"* used when no --model is given: {chosen.local.model}"
    except GgufVlError as error:
        default, note = None, f"The model chosen in the settings is not usable: {error.what}"
    rows = [_row(entry, default) for entry in entries]
    if as_json:
        import json

        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = [("MODEL", "QUANT", "SIZE", "PROJECTOR", "WHERE")]
    for entry, row in zip(entries, rows, strict=True):
        if isinstance(entry, Broken):
            table.append((entry.name, "-", "-", "-", f"{entry.folder}: {entry.trouble}"))
        else:
            name = row["name"] + (" *" if row["default"] else "")
            size = f"{row['bytes'] / GB:.2f} GB" if row["bytes"] >= GB / 10 else f"{row['bytes'] / 1e6:.1f} MB"
            table.append((name, row["quantisation"], size, row["projector"] or "none", row["model"]))
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=True)).rstrip())
    print(f"\n{note}")


def _row(entry: Any, default: Path | None) -> dict[str, Any]:
    from gguf_vl.store.library import Broken

    if isinstance(entry, Broken):
        return {"name": entry.name, "where": str(entry.folder), "trouble": entry.trouble}
    return {
        "name": entry.name,
        "quantisation": entry.text.quantisation,
        "bytes": entry.n_bytes,
        "projector": entry.projector.quantisation if entry.projector else None,
        "model": str(entry.model),
        "mmproj": str(entry.mmproj) if entry.mmproj else None,
        "default": entry.model == default,
    }
