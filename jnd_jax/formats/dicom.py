"""DICOM images (PS3): stored samples at full depth, and their attributes as JSON, without the patient's."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jnd_jax.errors import JndError

# What a file of this kind has behind its preamble of 128 bytes.
MARK = b"DICM"
# Attributes that say how stored samples become shown ones, and what was photographed how: none names a person, a place,
# a device or a time (PS3.15, E.1 removes or replaces all that do).
KEPT = (
    *(
        "Modality",
        "SOPClassUID",
        "BodyPartExamined",
        "ViewPosition",
        "Laterality",
        "ImageLaterality",
        "PatientOrientation",
    ),
    *("RescaleIntercept", "RescaleSlope", "RescaleType", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("ModalityLUTSequence", "VOILUTSequence", "PresentationLUTShape", "PhotometricInterpretation", "BitsStored"),
    *("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "SliceThickness", "ImageOrientationPatient"),
    *("ImagePositionPatient", "KVP", "Exposure", "EchoTime", "RepetitionTime", "MagneticFieldStrength"),
)
# Groups of attributes and kinds of values that never hold more than numbers and pixels.
_LEFT_OUT = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "OverlayData", "IconImageSequence")


class Image(NamedTuple):
    """A DICOM image.

    Attributes:
        samples: (H, W) grey or (H, W, 3) RGB, uint8 or uint16. Signed ones begin at their lowest value, which the
            attributes' RescaleIntercept allows for.
        attributes: DICOM JSON model (PS3.18, F), UTF-8.
    """

    samples: np.ndarray
    attributes: bytes


def matches(data: bytes) -> bool:
    """Whether bytes are a DICOM file."""
    return data[128:132] == MARK


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise JndError("DICOM files need the package pydicom: install it with pip install 'jnd-jax[dicom]'.") from error
    return pydicom


def _attributes(dataset: Any, lowest: int, patient: bool) -> bytes:
    """The attributes that are kept, as JSON, for samples from which `lowest` was taken."""
    pydicom = _pydicom()
    kept = pydicom.Dataset()
    for element in dataset:
        if (
            element.keyword in _LEFT_OUT
            or element.VR in ("OB", "OW", "OF", "OD", "UN")
            or (element.tag.is_private and not patient)
        ):
            continue
        if patient or element.keyword in KEPT:
            kept.add(element)
    if lowest:
        intercept, slope = float(dataset.get("RescaleIntercept", 0)), float(dataset.get("RescaleSlope", 1))
        kept.RescaleIntercept, kept.RescaleSlope = intercept + slope * lowest, slope
    return kept.to_json(suppress_invalid_tags=True).encode()


def read(data: bytes, check: Callable[[int, int], None], patient: bool = False) -> Image:
    """Takes a DICOM file apart.

    Args:
        data: the file.
        check: called with width and height before pixels are decoded; raises JndError where they are too many.
        patient: whether attributes that name the patient, places and times are kept.

    Raises:
        JndError: pydicom is missing, or the file is damaged, holds several frames, or pixels that are not read.
    """
    pydicom = _pydicom()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(io.BytesIO(data))
            kind = dataset.get("PhotometricInterpretation")
            if kind is None:
                raise JndError("The DICOM file holds no image: give one that does.")
            if int(dataset.get("NumberOfFrames") or 1) > 1:
                raise JndError("The DICOM file holds several frames: extract them as one file each.")
            if kind not in ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"):
                raise JndError(f"The DICOM file has the colours {kind}, which are not read: convert it first.")
            if int(dataset.get("BitsAllocated", 0)) not in (8, 16):
                raise JndError(
                    "The DICOM file has samples of other than 8 or 16 bits, which are not read: convert it first."
                )
            check(int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0))
            samples = pydicom.pixels.pixel_array(dataset)  # in RGB
            lowest = min(0, int(samples.min()))
            samples = (samples.astype(np.int32) - lowest).astype(np.uint16 if samples.itemsize > 1 else np.uint8)
            return Image(samples, _attributes(dataset, lowest, patient))
        except (JndError, MemoryError):
            raise
        # pydicom and its decoders raise whatever they meet in a damaged file.
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise JndError(
                f"The DICOM file is damaged, or of a kind that is not read ({reason}): export it again."
            ) from error
