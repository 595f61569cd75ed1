"""DICOM images: levels, what says how they are shown, and nothing of the patient. The files are made here."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import ImageCms

import jnd_jax
from jnd_jax import bitstream, files, images, preview
from jnd_jax.cli import main
from jnd_jax.errors import JndError

pydicom = pytest.importorskip("pydicom")

LEVELS = (np.arange(40 * 30, dtype=np.int32).reshape(40, 30) * 3 % 4096).astype(np.uint16)


def file(samples: np.ndarray, **attributes) -> bytes:
    """A CT image of one frame."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = pydicom.uid.CTImageStorage, "1.2.3"
    dataset = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    dataset.Rows, dataset.Columns = samples.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(samples.dtype == np.int16)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.PixelData = samples.tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def value(attributes: bytes, tag: str):
    return json.loads(attributes)[tag]["Value"][0]


def test_levels_are_those_of_the_file():
    picture = images.parse_image(file(LEVELS))
    np.testing.assert_array_equal(picture.pixels, LEVELS)


def test_signed_levels_mean_the_same_units():
    signed = LEVELS.astype(np.int16) - 1000
    picture = images.parse_image(file(signed, RescaleIntercept=-24, RescaleSlope=2))
    assert picture.pixels.dtype == np.uint16 and picture.pixels.min() == 0
    slope, intercept = (float(value(picture.dicom, tag)) for tag in ("00281053", "00281052"))
    np.testing.assert_array_equal(picture.pixels * slope + intercept, signed * 2.0 - 24)


def test_the_patient_is_left_out_unless_asked():
    private = {"PatientName": "Doe^Jane", "PatientBirthDate": "19700101", "InstitutionName": "A clinic"}
    data = file(LEVELS, **private, StudyDate="20260101", WindowCenter=40, WindowWidth=400)
    kept = images.parse_image(data).dicom
    assert not any(text in kept for text in (b"Jane", b"1970", b"clinic", b"2026", b"1.2.3"))
    assert value(kept, "00281050") == 40 and value(kept, "00281051") == 400
    assert b"Jane" in images.parse_image(data, patient=True).dicom


def items(*attributes: dict):
    """A sequence of items with these attributes."""
    datasets = [pydicom.Dataset() for _ in attributes]
    for dataset, values in zip(datasets, attributes):
        for name, content in values.items():
            setattr(dataset, name, content)
    return pydicom.Sequence(datasets)


def test_nothing_of_the_patient_is_left_inside_sequences():
    lut = {
        "LUTDescriptor": [2, 0, 8],
        "LUTData": b"\0\0\xff\0",
        "LUTExplanation": "for Jane Doe",
        "PatientName": "Doe^Jane",
    }
    data = file(LEVELS, VOILUTSequence=items(lut))
    kept = images.parse_image(data).dicom
    assert b"Jane" not in kept and value(kept, "00283010")["00283006"] == {"vr": "OW", "InlineBinary": "AAD/AA=="}
    assert b"Jane" in images.parse_image(data, patient=True).dicom


def test_levels_of_an_enhanced_image_mean_the_units_of_its_functional_groups():
    signed = LEVELS.astype(np.int16) - 1000
    transformation = items({"RescaleIntercept": -500, "RescaleSlope": 2})
    groups = items({"PixelValueTransformationSequence": transformation})
    for patient in (False, True):
        picture = images.parse_image(file(signed, SharedFunctionalGroupsSequence=groups), patient=patient)
        slope, intercept = (float(value(picture.dicom, tag)) for tag in ("00281053", "00281052"))
        np.testing.assert_array_equal(picture.pixels * slope + intercept, signed * 2.0 - 500)
        assert "52009229" not in json.loads(picture.dicom)


def test_a_lut_and_the_padding_follow_signed_levels():
    signed = LEVELS.astype(np.int16) - 1000
    lut = {"LUTDescriptor": [3, -990, 16], "LUTData": bytes(6), "ModalityLUTType": "HU"}
    picture = images.parse_image(file(signed, ModalityLUTSequence=items(lut), PixelPaddingValue=-1000), patient=True)
    assert value(picture.dicom, "00283000")["00283002"]["Value"] == [3, 10, 16]
    assert value(picture.dicom, "00280120") == 0 and value(picture.dicom, "00280103") == 0
    assert "00281052" not in json.loads(picture.dicom)


def test_empty_attributes_are_as_good_as_none():
    data = file(LEVELS.astype(np.int16) - 1000, PixelPaddingValue=None, RescaleIntercept=None, HighBit=None)
    picture = images.parse_image(data)
    assert value(picture.dicom, "00281052") == -1000 and "00280120" not in json.loads(picture.dicom)


def test_a_folder_s_images_are_found_whatever_their_names(tmp_path):
    (tmp_path / "IM0001").write_bytes(file(LEVELS))
    (tmp_path / "1.2.840.55").write_bytes(file(LEVELS))
    (tmp_path / "README").write_text("no image")
    assert [path.name for path in files.find(tmp_path, images.READ_SUFFIXES)] == ["1.2.840.55", "IM0001"]
    assert not files.find(tmp_path, (".jnd",))


def test_colours_are_described_as_they_are_stored():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ybr = np.tile(np.array([81, 90, 240], np.uint8), (40, 30, 1))
    picture = images.parse_image(
        file(
            ybr,
            PhotometricInterpretation="YBR_FULL",
            SamplesPerPixel=3,
            PlanarConfiguration=0,
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
            ICCProfile=profile,
        )
    )
    assert picture.pixels[0, 0, 0] > 200 and picture.pixels[0, 0, 1] < 50
    assert value(picture.dicom, "00280004") == "RGB" and picture.icc == profile


def test_negatives_and_overlays_are_named():
    data = file(LEVELS, PhotometricInterpretation="MONOCHROME1")
    assert "negative" in images.parse_image(data).lost[0]
    dataset = pydicom.dcmread(io.BytesIO(file(LEVELS)))
    dataset.add_new((0x6000, 0x3000), "OW", bytes(150))
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    assert images.parse_image(buffer.getvalue()).lost == ("its overlays are left out",)


def test_a_lossless_file_gives_levels_and_attributes_back(tmp_path, tiny_model, capsys):
    (tmp_path / "a.dcm").write_bytes(file(LEVELS, WindowCenter=40, WindowWidth=400))
    policy = tmp_path / "exact.toml"
    policy.write_text('about = ""\ntarget = "psnr=1"\nfloor = "psnr=1"\nregion_quality = 90\nmax_error = 0\n')
    model = ["--model", str(tiny_model)]
    coded = str(tmp_path / "a.jnd")
    assert main(["encode", str(tmp_path / "a.dcm"), "-o", coded, "--policy", str(policy), *model]) == 0
    for suffix in ("png", "tiff"):
        assert main(["decode", coded, "-o", str(tmp_path / f"b.{suffix}"), *model]) == 0
        np.testing.assert_array_equal(images.read_image(tmp_path / f"b.{suffix}").pixels, LEVELS)
    capsys.readouterr()
    assert main(["info", coded, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dicom"]["00281050"]["Value"] == [40]
    assert bitstream.unpack((tmp_path / "a.jnd").read_bytes())[0].bit_depth == 12


def test_pictures_of_eight_bits_show_the_levels_from_black_to_white(tiny_model):
    ramp = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))
    picture = images.parse_image(file(ramp, BitsStored=12, HighBit=11))
    np.testing.assert_allclose(images.of_eight_bits(picture).pixels[0], np.linspace(0, 255, 64), atol=1)
    data = jnd_jax.load(tiny_model).encode(picture.pixels, 100, extras=images.to_chunks(picture))
    small = preview.load(tiny_model).decode(data, 8).pixels
    assert small.min() < 60 and small.max() > 195


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"NumberOfFrames": 2}, "several frames"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "convert it first"),
        ({"BitsAllocated": 32}, "other than 8 or 16 bits"),
        ({"BitsStored": 12, "HighBit": 15}, "upper bits"),
        ({"Rows": 0}, "does not say its Rows"),
        ({"Rows": 4000}, "damaged"),
    ],
)
def test_what_is_not_read_is_refused(attributes, message):
    with pytest.raises(JndError, match=message):
        images.parse_image(file(LEVELS, **attributes))
