"""The web page at `/`, the description of the interfaces at `/docs`, and their files: all from this package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

FOLDER = Path(__file__).parent / "page"
PREFIX = "/page/"
PAGES = {"/": "index.html", "/docs": "docs.html"}
"""Which file a path shows. All files have addresses of their own, too, under `PREFIX`."""
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, nothing inline, and no text that becomes HTML: what a model writes stays text."""
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    type: str
    etag: str


def is_page(path: str) -> bool:
    """Whether a path is of the page and its files. They hold nothing of anybody, so they need no key."""
    return path in PAGES or path.startswith(PREFIX)


def router() -> APIRouter:
    """The paths. The files are read once."""
    files = {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in _TYPES}
    routes = APIRouter(include_in_schema=False)

    def shown(name: str, http: Request) -> Response:
        if not (file := files.get(name)):
            raise HTTPException(404, f"There is no file {name[:80]!r} of the page")
        headers = _HEADERS | {"ETag": file.etag}
        known = {each.strip().removeprefix("W/") for each in http.headers.get("if-none-match", "").split(",")}
        if file.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(file.data, media_type=file.type, headers=headers)

    @routes.api_route("/", methods=["GET", "HEAD"])
    @routes.api_route("/docs", methods=["GET", "HEAD"])
    async def page(http: Request) -> Response:
        return shown(PAGES[http.url.path], http)

    @routes.api_route("/favicon.ico", methods=["GET", "HEAD"])
    async def icon(http: Request) -> Response:
        return shown("icon.svg", http)

    @routes.api_route(PREFIX + "{name}", methods=["GET", "HEAD"])
    async def part(name: str, http: Request) -> Response:
        return shown(name, http)

    return routes


def _read(path: Path) -> _File:
    data = path.read_bytes()
    return _File(data, _TYPES[path.suffix], f'"{hashlib.sha256(data).hexdigest()[:32]}"')
