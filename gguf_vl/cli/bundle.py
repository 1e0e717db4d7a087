"""`gguf-vl bundle`: models, and gguf-vl itself, on a stick for a machine without a network."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gguf_vl.cli import options
from gguf_vl.cli.printing import harmless
from gguf_vl.store.progress import size

if TYPE_CHECKING:
    from gguf_vl.store.bundle.reading import Verified

app = typer.Typer(help="Carry models to a machine without a network.")
app.callback(invoke_without_command=True)(options.help_without_verb)

Bundle = Annotated[Path, typer.Argument(metavar="FILE", help="The bundle, or the first of its parts.")]
Trust = Annotated[
    Path | None,
    typer.Option("--trust", metavar="KEY", help="Who must have signed it: a public key or an allowed_signers file."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


@app.command("create")
def create(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Installed models: 2b, 8b:q8_0, …")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The bundle, a plain tar.")],
    with_packages: Annotated[
        bool, typer.Option("--with-packages", help="Put in gguf-vl and all it needs, for machines like this one.")
    ] = False,
    wheel: Annotated[
        list[Path] | None,
        typer.Option("--wheel", metavar="FILE", help="Another wheel to put in, for another kind of machine too."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="SIZE", help="Write parts of this size; 4G suits a FAT stick.")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="Sign it with this private key of OpenSSH.")
    ] = None,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Pack models into one file, with their hashes. An interrupted packing goes on where it stopped."""
    settings = options.settings(debug)
    from contextlib import nullcontext

    from gguf_vl.cli.progress import progress
    from gguf_vl.errors import UsageError
    from gguf_vl.store.bundle import create as store
    from gguf_vl.store.bundle.packages import collected

    if wheel and not with_packages:
        raise UsageError("--wheel adds to the packages, and none are asked for.", "Give --with-packages too.")
    part = _bytes(split) if split else None
    with progress("Packing") as shown:
        packages = collected(wheel or [], shown, offline=settings.offline) if with_packages else nullcontext()
        with packages as found:
            made = store.create(models, out, shown, packages=found, split=part, sign=sign)
    print("\n".join(str(file) for file in made.files))
    for platform in made.manifest.platforms:
        print(f"installs by itself on {platform}", file=sys.stderr)
    print(f"{size(made.n_bytes)}. On the other side: gguf-vl bundle install {made.files[0].name}", file=sys.stderr)


@app.command("verify")
def verify(
    bundle: Bundle,
    trust: Trust = None,
    as_json: Json = False,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Read a bundle and check every byte of it. Nothing is installed."""
    options.logging_to_stderr(debug)
    from gguf_vl.cli.progress import progress
    from gguf_vl.errors import VerificationFailed
    from gguf_vl.store.bundle import reading

    try:
        with progress("Verifying") as shown:
            verified = reading.verify(bundle, shown, trust)
    except VerificationFailed as error:
        if as_json:  # what is wrong is what was asked for
            _print_json({"bundle": str(bundle), "trouble": error.what})
        raise
    plain = _plain(verified) | {"trouble": None}
    if as_json:
        _print_json(plain)
        return
    for model in plain["models"]:
        facts = f"{model['title']}, {model['quantisation']}, {size(model['bytes'])}, {model['licence']}"
        print(harmless(f"{model['name']}  {facts}"))
    for platform in verified.manifest.platforms:
        print(harmless(f"gguf-vl itself, for {platform}"))
    print(harmless(f"Every byte is right. {_signed(verified)}"))


@app.command("install")
def install(
    bundle: Bundle,
    trust: Trust = None,
    as_json: Json = False,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Verify a bundle and install its models: all of them, or none where a byte is wrong."""
    options.logging_to_stderr(debug)
    from gguf_vl.cli.progress import progress
    from gguf_vl.store.bundle import install as store

    with progress("Installing") as shown:
        done = store.install(bundle, shown, trust)
    rows = [
        {"name": each.model.name, "state": each.state, "bytes": each.model.n_bytes, "folder": str(each.folder)}
        for each in done.outcomes
    ]
    if as_json:
        _print_json(_plain(done.bundle) | {"models": rows})
        return
    states = {"installed": "installed", "already here": "was already here", "embedded": "is inside gguf-vl already"}
    for each in done.outcomes:
        print(harmless(f"{each.model.name} {states[each.state]}, {size(each.model.n_bytes)}, in {each.folder}"))
    print(harmless(_signed(done.bundle)))


def _plain(verified: Verified) -> dict[str, Any]:
    from dataclasses import asdict

    models = [
        {
            "name": model.name,
            "title": model.title,
            "licence": model.licence,
            "quantisation": model.quantisation,
            "source": model.source,
            "bytes": model.n_bytes,
            "files": [asdict(file) for file in model.files],
        }
        for model in verified.manifest.models
    ]
    return {
        "bundle": str(verified.path),
        "bytes": verified.n_bytes,
        "packed_by": f"gguf-vl {verified.manifest.program}",
        "models": models,
        "platforms": [asdict(platform) for platform in verified.manifest.platforms],
        "signed": verified.signed,
        "signed_by": verified.signed_by,
    }


def _signed(verified: Verified) -> str:
    if verified.signed_by:
        return f"Signed by {verified.signed_by}."
    return "Signed, by whom was not asked (--trust KEY)." if verified.signed else "Not signed."


def _bytes(text: str) -> int:
    from gguf_vl.errors import UsageError

    found = re.fullmatch(r"(\d{1,15})([KMG]?)B?", text.strip().upper())
    if not found:
        raise UsageError(f"--split {text} is not a size.", "Give it in bytes, or as 700M or 4G (4,000,000,000 bytes).")
    return int(found[1]) * _UNITS[found[2]]


def _print_json(plain: dict[str, Any]) -> None:
    import json

    print(json.dumps(plain, ensure_ascii=False, indent=2))
