"""The chat page: one self-contained document with a policy that allows its own two blocks only.

Its parts lie in `web/` and are joined once per process; nothing is built.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from fastapi import APIRouter, Request, Response

from ..models import SEVEN_PNG

_BLOCKS = re.compile(r"<(script|style)>(.*?)</\1>", re.S)
_SCRIPTS = (
    "base",
    "markdown",
    "store",
    "server",
    "media",
    "answering",
    "messages",
    "figures",
    "chats",
    "settings",
    "main",
)
"""Parts of one script, in order: later parts may use earlier ones while they are read."""


@dataclass(frozen=True)
class Page:
    """The document and its headers."""

    body: bytes
    headers: dict[str, str]


def policy_of(html: str) -> str:
    """The Content-Security-Policy of a page with one inline script and one inline style.

    Nothing else runs, and nothing but this server is asked. Text can't become markup either: the
    browser refuses `innerHTML` and its like.
    """
    blocks = dict(_BLOCKS.findall(html))
    script, style = (_hash_of(blocks[name]) for name in ("script", "style"))
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src '{script}'",
            f"style-src '{style}'",
            "connect-src 'self'",
            "img-src data: blob:",
            "media-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def document() -> str:
    """The whole page, as it is served."""
    picture = base64.b64encode(SEVEN_PNG.read_bytes()).decode("ascii")
    script = '"use strict";\n\n' + "\n".join(_part(f"{name}.js") for name in _SCRIPTS)
    html = _part("page.html").replace("/* style.css */", _part("style.css"))
    return html.replace("/* scripts */", script.replace("/* seven.png */", picture))


@lru_cache(maxsize=1)
def page() -> Page:
    """The page, made once per process."""
    body = document().encode("utf-8")
    return Page(
        body,
        {
            "Content-Security-Policy": policy_of(body.decode("utf-8")),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-cache",  # kept, but shown only after a look for a newer one
            "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        },
    )


def page_router(serving: object = None) -> APIRouter:
    """The route `/`. It needs no key: the page asks for one when the API wants it."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def chat_page(request: Request) -> Response:
        served = page()
        if _knows(request.headers.get("if-none-match", ""), served.headers["ETag"]):
            return Response(status_code=304, headers=served.headers)
        return Response(served.body, headers=served.headers, media_type="text/html; charset=utf-8")

    return router


def _part(name: str) -> str:
    folder = resources.files(__package__) / "web"
    return (folder / name).read_text(encoding="utf-8")


def _hash_of(block: str) -> str:
    digest = hashlib.sha256(block.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _knows(wanted: str, etag: str) -> bool:
    """Whether an If-None-Match names the tag; a proxy that packs the body weakens it to W/…"""
    tags = [tag.strip().removeprefix("W/") for tag in wanted.split(",")]
    return etag in tags or tags == ["*"]
