"""Policies: what a class of content must keep, from TOML files.

about = "Scans and X-rays: what is faint may matter."
target = "konjnd=0.5"         # what the smallest file should reach; if no quality reaches it, quality 100 is used
floor = "psnr=40"             # what every file must reach, bounded: without it none is written
region_quality = 100          # of what a mask marks, 0 to 100
max_error = 4                 # levels that no sample is off by more, 2 or above, 0 for lossless; without it no bound
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from jnd_jax import bitstream, residual, search
from jnd_jax.errors import JndError

FOLDER = Path(__file__).parent / "policies"
_KEYS = {"about": str, "target": str, "floor": str, "region_quality": (int, float)}
_OPTIONAL = {"max_error": int}


@dataclass(frozen=True)
class Policy:
    """What a class of content must keep.

    Attributes:
        name: as `info` shows it.
        about: which content it is for.
        target: what the smallest file should reach.
        floor: what every file must reach.
        region_quality: quality of marked regions, 0 to 100.
        max_error: levels that no sample is off by more, 0 for lossless, None for no bound.
    """

    name: str
    about: str
    target: search.Target
    floor: search.Target
    region_quality: float
    max_error: int | None = None


def names() -> list[str]:
    """The policies that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name_or_path: str) -> Policy:
    """The policy of that name, or of a TOML file.

    Raises:
        JndError: no such policy, or a file that is none.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = FOLDER / f"{name_or_path}.toml"
        if name_or_path not in names():
            raise JndError(f"There is no policy {name_or_path!r}: give one of {', '.join(names())}, or a .toml file.")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JndError(
            f"{path} cannot be read as TOML ({error}): give one of {', '.join(names())}, or a .toml file."
        ) from error
    kinds = _KEYS | _OPTIONAL
    fits = lambda key: isinstance(table[key], kinds[key]) and not isinstance(table[key], bool)
    if not set(_KEYS) <= set(table) <= set(kinds) or not all(map(fits, table)):
        raise JndError(
            f"Give the policy {path} exactly {', '.join(_KEYS)}: texts, and a number; and max_error if you like."
        )
    goals = {key: search.parse_target(table[key]) for key in ("target", "floor")}
    if any(goal.metric == "bpp" for goal in goals.values()):
        raise JndError(
            f"Name qualities to reach in the policy {path}, such as psnr=45: a budget in bpp keeps no detail."
        )
    if not 0 <= table["region_quality"] <= 100:
        raise JndError(f"Give the policy {path} a region_quality of 0 to 100.")
    if "max_error" in table:
        residual.check_bound(table["max_error"], bitstream.BIT_DEPTHS[-1])
    return Policy(
        path.stem,
        table["about"],
        **goals,
        region_quality=float(table["region_quality"]),
        max_error=table.get("max_error"),
    )
