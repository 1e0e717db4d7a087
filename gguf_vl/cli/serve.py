"""`gguf-vl serve`: the models of this machine for every client that speaks HTTP."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from gguf_vl.cli import options
from gguf_vl.cli.printing import harmless


@options.with_flags(options.LOADING)
def serve(
    name: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="The model for who names none; all that are here can be asked."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; beyond this machine a key is needed.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    open_page: Annotated[bool, typer.Option("--open", help="Show the page in a browser once the model is ready.")] = (
        False
    ),
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            "--api-key", help="A key; other users of this machine can see it, in a file they cannot. Repeatable."
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="File of keys, one a line, each with a name before it.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Also answer to this host name. Repeatable.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option("--allow-origin", help="Let pages of https://NAME use the server. Repeatable.")
    ] = None,
    allow_media_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-media-host",
            help="Fetch pictures from NAME, NAME:PORT, or at a private address NAME=ADDRESS. Repeatable.",
        ),
    ] = None,
    allow_pull: Annotated[
        bool, typer.Option("--allow-pull", help="Let clients have models fetched by Ollama's /api/pull.")
    ] = False,
    media_root: Annotated[
        Path | None, typer.Option("--media-root", help="Read pictures of file: URLs under this folder.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate for HTTPS, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key, PEM, without a password.")] = None,
    max_requests: Annotated[
        int, typer.Option("--max-requests", min=1, help="Requests answered or waiting at once; more get 429.")
    ] = 256,
    max_body: Annotated[int, typer.Option("--max-body", min=1, help="MiB of a request's body at most.")] = 128,
    max_pictures: Annotated[int, typer.Option("--max-pictures", min=0, help="Pictures of a request at most.")] = 64,
    max_pixels: Annotated[int, typer.Option("--max-pixels", min=1, help="Pixels of a picture at most.")] = 120_000_000,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds a request may take at most.")] = 600.0,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Most tokens of an answer, whatever is asked for.")
    ] = None,
    log_requests: Annotated[
        bool, typer.Option("--log-requests/--no-log-requests", help="A line of JSON for each, on standard error.")
    ] = True,
    *,
    flags: dict[str, Any],
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Serve the models that are here over HTTP: OpenAI's, Anthropic's and Ollama's interfaces, and a page."""
    settings = options.settings(debug, **flags | {"max_tokens": max_tokens} | ({"model": name} if name else {}))
    from gguf_vl.server.keys import read_keys
    from gguf_vl.server.run import Options
    from gguf_vl.server.run import serve as run

    keys = read_keys(api_key_file) if api_key_file else []
    keys += [(f"--api-key {number}", key) for number, key in enumerate(api_key or (), 1)]
    if key := os.environ.get("GGUF_VL_API_KEY"):
        keys.append(("GGUF_VL_API_KEY", key))
    asked = Options(
        host=host,
        port=port,
        keys=keys,
        allowed_hosts=allow_host or (),
        allowed_origins=allow_origin or (),
        media_hosts=allow_media_host or (),
        media_root=media_root,
        max_body=max_body << 20,
        max_pixels=max_pixels,
        max_pictures=max_pictures,
        max_requests=max_requests,
        limit_s=timeout,
        tls_cert=tls_cert,
        tls_key=tls_key,
        allows_pull=allow_pull,
        opens=open_page,
        logs=log_requests,
    )
    run(settings, asked, _tell)


def _tell(line: str) -> None:
    """A line on standard error; whoever read that may be gone, and the server stays."""
    with suppress(OSError):
        print(harmless(line), file=sys.stderr, flush=True)
