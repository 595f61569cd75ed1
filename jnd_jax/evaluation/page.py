"""Filling self-contained HTML pages."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_TEMPLATES = Path(__file__).parent / "templates"


def data_uri(content: bytes, media_type: str) -> str:
    """`content` as a data: URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def lossless(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as a lossless WebP file, which every browser shows."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    return file.getvalue()


def fill(template: str, data: Any, **scripts: str) -> str:
    """The page `template` with the shared style, `data` as JSON and scripts by their placeholder's name."""
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    # "<" escaped, so that no data can end the script element it stands in.
    inserts = {
        "STYLE": (_TEMPLATES / "page.css").read_text(encoding="utf-8"),
        "DATA": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
        **scripts,
    }
    for name, content in inserts.items():
        text = text.replace(f"@@{name}@@", content)
    return text


def plotly() -> str:
    """Plotly's program, for a <script> element of a page."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().replace("</script", "<\\/script")
