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
# How pictures are sent to browsers: at such a quality a transcoded file hides little of what the .jnd file holds.
GATEWAY = {"webp": {"lossless": False, "exact": False, "quality": 90, "method": 4}, "jpg": {"quality": 90}, "png": {}}


def choose(accept: str | None, transparent: bool) -> str:
    """The form to send: WebP to a client that names it, else PNG for a transparent picture and JPEG for others.

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
    """An ETag that names the model, the file by its SHA-256, and the form with its settings.

    Weak: another processor or batch may round a pixel otherwise.
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
