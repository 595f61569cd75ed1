"""Content negotiation and conditional requests (RFC 9110), with Werkzeug's parsers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_etags

MEDIA = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}
# Pillow's options for answers to /decode: PNG at level 1 takes a third of level 6's time and is a tenth larger.
DECODED = {"png": {"compress_level": 1}, "webp": {}, "jpg": {}}
# Pillow's options for browsers: high qualities, so that transcoding loses little of what the .jnd file holds.
GATEWAY = {"webp": {"lossless": False, "exact": False, "quality": 90, "method": 4}, "jpg": {"quality": 90}, "png": {}}


def choose(accept: str | None, transparent: bool) -> str:
    """Chooses the form to send: WebP if the client names it, else PNG for transparent pictures and JPEG for others.

    Raises:
      HTTPException: 406, the client takes none of these.
    """
    plain = "png" if transparent else "jpg"
    if not accept or not accept.strip():
        return plain
    ranges = parse_accept_header(accept, MIMEAccept)
    named = set(ranges.values())
    rank = lambda kind: (ranges.quality(MEDIA[kind]), MEDIA[kind] in named)
    best = max((plain, "webp"), key=rank)
    if not ranges.quality(MEDIA[best]):
        raise HTTPException(406, f"Accept {MEDIA['webp']} or {MEDIA[plain]}: the picture has no other form.")
    return best


def entity_tag(digest: str, model: str, kind: str, options: Mapping[str, Any], version: str) -> str:
    """An ETag of the model, the file's SHA-256, the form and its settings.

    It is weak, because another processor may round a pixel differently.
    """
    settings = hashlib.sha256(f"{sorted(options.items())} {version}".encode()).hexdigest()[:8]
    return f'W/"{model}-{digest[:32]}-{kind}-{settings}"'


def not_modified(request: Request, tag: str) -> bool:
    """Whether If-None-Match names the tag, by weak comparison, or is "*"."""
    header = request.headers.get("if-none-match")
    return header is not None and parse_etags(header).contains_weak(tag.removeprefix("W/").strip('"'))


def disposition(kind: str, name: str) -> str:
    """Content-Disposition, "inline" or "attachment", with a file name (RFC 6266)."""
    return f"{kind}; filename*=UTF-8''{quote(name, safe='')}"
