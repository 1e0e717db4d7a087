"""What the person who carries a bundle reads."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from gguf_vl import __version__
from gguf_vl.store.bundle.manifest import INSTALLERS, MANIFEST, SIGNATURE, BundledModel, Platform
from gguf_vl.store.bundle.signature import NAMESPACE
from gguf_vl.store.progress import size

INSTALL_SH = """#!/bin/sh
# Installs gguf-vl and the models of a bundle: sh install.sh BUNDLE [--venv DIR] [--trust KEY]
# -I: nothing that lies beside install.py is imported.
exec "${PYTHON:-python3}" -I "$(dirname "$0")/install.py" "$@"
"""


def readme(
    bundle: str, models: Sequence[BundledModel], platforms: Sequence[Platform], *, is_split: bool, is_signed: bool
) -> str:
    """The bundle's README.txt: what is in it, and how to check and install it."""
    bundle = shlex.quote(bundle)
    first = f"{bundle}.001" if is_split else bundle
    lines = [f"A bundle of gguf-vl {__version__}, to run Qwen3-VL without a network.", "", "Models:"]
    for model in models:
        lines.append(
            f"  {model.name}: {model.title}, {model.quantisation}, {size(model.n_bytes)}, licence {model.licence}"
        )
    if is_split:
        lines += ["", f"Its parts are {bundle}.001, {bundle}.002 and so on. Keep them in one folder."]
    lines += [
        "",
        "Where gguf-vl is installed:",
        f"  gguf-vl bundle verify {first}",
        f"  gguf-vl bundle install {first}",
    ]
    if platforms:
        lines += ["", "Where only Python is, on one of these machines, with nothing but this bundle:"]
        lines += [f"  {platform}" for platform in platforms]
        lines += ["run", f"  {_tar(bundle, INSTALLERS, is_split)}", f"  sh {INSTALLERS[0]} {first}"]
        lines += ["It checks every byte of the bundle before anything of it is run, makes a virtual environment in"]
        lines += ["~/gguf-vl (--venv DIR: elsewhere) and installs the models."]
        lines += ["On Windows: python -I install.py instead of sh install.sh."]
        lines += _about_installers(bundle, is_split=is_split, is_signed=is_signed)
    if is_signed:
        lines += ["", "It is signed. To demand that, add --trust KEY.pub (or an allowed_signers file) to verify and"]
        lines += ["install. With OpenSSH alone, before anything of it is run:"]
        lines += [f"  {_tar(bundle, (MANIFEST, SIGNATURE), is_split)}"]
        lines += [f"  ssh-keygen -Y verify -f ALLOWED_SIGNERS -I WHO -n {NAMESPACE} -s {SIGNATURE} < {MANIFEST}"]
        lines += ["where ALLOWED_SIGNERS is a file of your own, not of this stick, with the line: WHO KEY.pub's text."]
    return "\n".join([*lines, ""])


def _about_installers(bundle: str, *, is_split: bool, is_signed: bool) -> list[str]:
    """Who checks the checkers."""
    first, second = INSTALLERS
    lines = [
        "",
        f"{first} and {second} check all the rest, and nothing checks them: whoever could change this bundle could",
    ]
    lines += ["change them, --trust or not. You trust them by running them."]
    if not is_signed:
        return [*lines, "This bundle is not signed: run them if you trust whoever had it in hand."]
    lines += [f"So check first that the packer's signature is over {MANIFEST}, as below, and then that it names them:"]
    lines += [f"  {_tar(bundle, INSTALLERS, is_split)}", f"  sha256sum {first} {second}"]
    lines += [f"  grep -A2 '\"install' {MANIFEST}"]
    return [*lines, "Both sums must stand there. (Or take both files from the packer by a way of which you are sure.)"]


def _tar(bundle: str, names: Sequence[str], is_split: bool) -> str:
    words = " ".join(names)
    return f"cat {bundle}.[0-9]?? | tar xf - {words}" if is_split else f"tar xf {bundle} {words}"
