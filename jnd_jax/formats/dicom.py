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
    *("ModalityLUTSequence", "VOILUTSequence", "LUTDescriptor", "LUTData", "ModalityLUTType", "PresentationLUTShape"),
    *("PhotometricInterpretation", "BitsStored", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "SliceThickness", "ImageOrientationPatient"),
    *("ImagePositionPatient", "KVP", "Exposure", "EchoTime", "RepetitionTime", "MagneticFieldStrength"),
)
# What an image of one frame says in these stands at the top.
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Pixels, and what is kept in another way.
_LEFT_OUT = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "OverlayData", "IconImageSequence", *_GROUPS)
# Attributes that are stored samples.
_SAMPLES = ("PixelPaddingValue", "PixelPaddingRangeLimit", "SmallestImagePixelValue", "LargestImagePixelValue")


class Image(NamedTuple):
    """A DICOM image.

    Attributes:
        samples: (H, W) grey or (H, W, 3) RGB, uint8 or uint16. Signed ones begin at their lowest value, which the
            attributes' RescaleIntercept or modality LUT allows for.
        attributes: DICOM JSON model (PS3.18, F), UTF-8; they describe `samples`.
        icc: colour profile.
        notes: what a user should know of it, in clauses.
    """

    samples: np.ndarray
    attributes: bytes
    icc: bytes | None
    notes: list[str]


def matches(data: bytes) -> bool:
    """Whether bytes are a DICOM file."""
    return data[128:132] == MARK


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise JndError("DICOM files need the package pydicom: install it with pip install 'jnd-jax[dicom]'.") from error
    return pydicom


def _with_groups(dataset: Any) -> Any:
    """The attributes of an image of one frame, those of its functional groups among them (PS3.3, C.7.6.16)."""
    for name in _GROUPS:
        for group in dataset.get(name) or ():
            for macro in group:
                for item in macro.value if macro.VR == "SQ" else ():
                    for element in item:
                        if element.tag not in dataset:
                            dataset.add(element)
    return dataset


def _kept(dataset: Any, patient: bool) -> Any:
    """The attributes that are kept, in the items of sequences too."""
    pydicom = _pydicom()
    kept = pydicom.Dataset()
    for element in dataset:
        name = element.keyword
        if name in _LEFT_OUT or (element.VR in ("OB", "OW", "OF", "OD", "UN") and name != "LUTData"):
            continue
        if patient or name in KEPT:
            value = [_kept(item, patient) for item in element.value] if element.VR == "SQ" else element.value
            kept.add_new(element.tag, element.VR, value)
    return kept


def _shifted(kept: Any, lowest: int) -> None:
    """Makes attributes of signed samples describe those samples minus `lowest`."""
    if kept.get("ModalityLUTSequence"):
        for item in kept.ModalityLUTSequence:
            entries, first, bits = item.LUTDescriptor
            first -= (first > 0x7FFF) << 16  # Some files have the first sample as unsigned.
            item.add_new("LUTDescriptor", "US" if first >= lowest else "SS", [entries, first - lowest, bits])
    else:
        intercept, slope = float(kept.get("RescaleIntercept") or 0), float(kept.get("RescaleSlope") or 1)
        kept.RescaleIntercept, kept.RescaleSlope = intercept + slope * lowest, slope
    for name in _SAMPLES:
        if name in kept:
            value = kept[name].value
            del kept[name]
            if value is not None and 0 <= value - lowest < 1 << 16:
                kept.add_new(name, "US", value - lowest)
    if "PixelRepresentation" in kept:
        kept.PixelRepresentation = 0


def _attributes(dataset: Any, samples: np.ndarray, lowest: int, patient: bool) -> bytes:
    """The attributes that are kept, as JSON, for samples from which `lowest` was taken."""
    kept = _kept(dataset, patient)
    if lowest:
        _shifted(kept, lowest)
    if samples.ndim == 3:
        kept.PhotometricInterpretation = "RGB"
        if "PlanarConfiguration" in kept:
            kept.PlanarConfiguration = 0
    return kept.to_json(suppress_invalid_tags=True).encode()


def _notes(dataset: Any) -> list[str]:
    notes = []
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        notes.append("its samples are those of a negative (MONOCHROME1), and are kept so: PNG and TIFF show it as one")
    if any(element.tag.group & 0xFF00 == 0x6000 for element in dataset):
        notes.append("its overlays are left out")
    return notes


def _check(dataset: Any) -> None:
    """Raises JndError for images of a kind that is not read."""
    kind = dataset.get("PhotometricInterpretation")
    if kind is None:
        raise JndError("The DICOM file holds no image: give one that does.")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise JndError("The DICOM file holds several frames: extract them as one file each.")
    if kind not in ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"):
        raise JndError(f"The DICOM file has the colours {kind}, which are not read: convert it first.")
    for name in ("Rows", "Columns", "BitsAllocated", "BitsStored"):
        if not dataset.get(name):
            raise JndError(f"The DICOM file does not say its {name}: export it again.")
    if dataset.BitsAllocated not in (8, 16):
        raise JndError("The DICOM file has samples of other than 8 or 16 bits, which are not read: convert it first.")
    if dataset.get("HighBit") not in (None, dataset.BitsStored - 1):
        raise JndError(
            "The DICOM file has samples in the upper bits of their words, which are not read: convert it first."
        )


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
            _check(dataset)
            check(int(dataset.Columns), int(dataset.Rows))
            samples = pydicom.pixels.pixel_array(dataset)  # in RGB
            lowest = min(0, int(samples.min()))
            samples = (samples.astype(np.int32) - lowest).astype(np.uint16 if samples.itemsize > 1 else np.uint8)
            paths = dataset.get("OpticalPathSequence") or [dataset]
            profile = dataset.get("ICCProfile") or paths[0].get("ICCProfile") if samples.ndim == 3 else None
            attributes = _attributes(_with_groups(dataset), samples, lowest, patient)
            return Image(samples, attributes, profile, _notes(dataset))
        except (JndError, MemoryError):
            raise
        # pydicom and its decoders raise whatever they meet in a damaged file.
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if "missing dependencies" in reason:
                raise JndError(
                    f"The DICOM file is compressed as {dataset.file_meta.TransferSyntaxUID.name}, for which pydicom lacks a decoder: "
                    "install one (such as pylibjpeg-libjpeg or python-gdcm), or decompress the file."
                ) from error
            raise JndError(
                f"The DICOM file is damaged, or of a kind that is not read ({reason}): export it again."
            ) from error
