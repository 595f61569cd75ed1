"""Perceptual metrics that other people's packages and tools compute; each is imported when first asked for."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from jnd_jax.errors import JndError

_importing = threading.Lock()


@functools.cache
def _hvs_package() -> ModuleType:
    try:
        # The package prints a hint about torch on import. The lock: standard output is one for all threads.
        with _importing, contextlib.redirect_stdout(io.StringIO()):
            import psnr_hvsm
    except ImportError as error:
        raise JndError("Install the metrics with `pip install jnd_jax[eval]` to measure PSNR-HVS.") from error
    return psnr_hvsm


def _psnr_hvs_pair(reference: np.ndarray, distorted: np.ndarray) -> tuple[float, float]:
    package = _hvs_package()
    # Blocks are 8x8: sides are padded by their last row or column.
    rows, columns = -reference.shape[0] % 8, -reference.shape[1] % 8
    planes = [
        np.pad(package.bt601ycbcr(image)[0], ((0, rows), (0, columns)), mode="edge") for image in (reference, distorted)
    ]
    backend = package.BACKENDS.get("cpp", package.BACKENDS["numpy"])
    hvs, hvsm = backend["psnr_hvs_hvsm"](*planes)
    return float(hvs), float(hvsm)


def psnr_hvs(reference: np.ndarray, distorted: np.ndarray) -> float:
    """PSNR-HVS in dB of studio-range BT.601 luma (Egiazarian et al., VPQM 2006); 100 for equal images.

    Args:
        reference: (H, W, 3) uint8.
        distorted: (H, W, 3) uint8.

    Raises:
        JndError: the package psnr-hvsm is missing.
    """
    return _psnr_hvs_pair(reference, distorted)[0]


def psnr_hvs_m(reference: np.ndarray, distorted: np.ndarray) -> float:
    """PSNR-HVS-M in dB: PSNR-HVS with contrast masking (Ponomarenko et al., VPQM 2007); 100 for equal
    images.
    """
    return _psnr_hvs_pair(reference, distorted)[1]


def _bitmap(image: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "BMP")
    file.seek(0)
    return file


def ssimulacra2(reference: np.ndarray, distorted: np.ndarray) -> float:
    """SSIMULACRA2 score (Cloudinary), at most 100; about 64 at one JND, 30 for low quality, may be negative.

    Args:
        reference: (H, W, 3) uint8, sides of at least 8.
        distorted: (H, W, 3) uint8.

    Raises:
        JndError: the package ssimulacra2 is missing or the image is too small.
    """
    if min(reference.shape[:2]) < 8:
        raise JndError("SSIMULACRA2 needs images of at least 8 pixels a side.")
    try:
        from ssimulacra2 import compute_ssimulacra2
    except ImportError as error:
        raise JndError("Install the metrics with `pip install jnd_jax[eval]` to measure SSIMULACRA2.") from error
    return float(compute_ssimulacra2(_bitmap(reference), _bitmap(distorted)))


def butteraugli(reference: np.ndarray, distorted: np.ndarray) -> float:
    """Butteraugli distance, 3-norm, by libjxl's tool at its default 80 nits; 0 for equal images.

    Args:
        reference: (H, W, 3) uint8.
        distorted: (H, W, 3) uint8.

    Raises:
        JndError: `butteraugli_main` is not installed or fails.
    """
    tool = shutil.which("butteraugli_main")
    if tool is None:
        raise JndError("Install libjxl's butteraugli_main (Debian: libjxl-devtools) to measure Butteraugli.")
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, image in (("reference", reference), ("distorted", distorted)):
            path = Path(folder) / f"{name}.ppm"
            Image.fromarray(image).save(path)
            paths.append(str(path))
        result = subprocess.run([tool, *paths, "--pnorm", "3"], capture_output=True, text=True)
    found = re.search(r"3-norm: ([0-9.eE+-]+)", result.stdout)
    if result.returncode != 0 or found is None:
        raise JndError(f"butteraugli_main failed: {result.stderr.strip() or result.stdout.strip()}.")
    return float(found[1])
