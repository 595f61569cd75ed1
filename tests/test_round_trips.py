"""Round trips of anything: headers, chunks, orientation, opacity, sizes, depths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jnd_jax import bitstream, images, residual
from jnd_jax.formats import exif, png, tiff

headers = st.builds(
    bitstream.Header,
    model=st.binary(min_size=8, max_size=8).map(bytes.hex),
    width=st.integers(1, 16384),
    height=st.integers(1, 16384),
    quality=st.integers(0, 1000),
    coder=st.sampled_from(bitstream.CODERS),
    bit_depth=st.integers(8, 16),
    grey=st.booleans(),
)
others = st.dictionaries(st.sampled_from(sorted(set(bitstream.TAGS) - {"z", "y"})), st.binary(max_size=40))
samples = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda kind: arrays(kind, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)))
)


@settings(deadline=None)
@given(headers, st.binary(max_size=40), st.binary(max_size=40), others)
def test_files(header, z, y, chunks):
    packed = bitstream.pack(header, {"z": z, "y": y, **chunks})
    assert bitstream.unpack(packed) == (header, {"z": z, "y": y, **chunks})
    assert bitstream.probe(packed)["intact"]


@settings(deadline=None)
@given(samples, st.integers(1, 8))
def test_orientations(array, orientation):
    np.testing.assert_array_equal(exif.as_stored(exif.as_shown(array, orientation), orientation), array)


@settings(max_examples=60, deadline=None)
@given(samples, st.sampled_from([".png", ".tiff", ".webp"]), st.integers(0, 8))
def test_pictures(array, suffix, orientation):
    if array.dtype == np.uint16 and suffix == ".webp":
        return
    pixels = array[..., 0] if array.shape[2] < 3 else array[..., :3]
    alpha = array[..., -1] if array.shape[2] in (2, 4) else None
    block = exif.parse(None)
    block[exif.ORIENTATION] = orientation
    picture = images.Picture(pixels, alpha, exif=block.tobytes().removeprefix(exif.PREFIX) if orientation else None)
    picture = images.from_chunks(picture.pixels, images.to_chunks(picture))
    back = images.parse_image(images.format_image(picture, suffix))
    np.testing.assert_array_equal(images.as_shown(back), images.as_shown(picture))
    opaque = alpha is None or alpha.min() == np.iinfo(alpha.dtype).max
    assert (back.alpha is None) == opaque
    if not opaque:
        turned = [exif.as_shown(p.alpha, exif.orientation(p.exif)) for p in (back, picture)]
        np.testing.assert_array_equal(*turned)


@settings(deadline=None)
@given(samples)
def test_lossless_images(array):
    for part in (array[..., 0], array[..., :3] if array.shape[2] >= 3 else array[..., 0]):
        part = np.ascontiguousarray(part)
        np.testing.assert_array_equal(images.decode_lossless(images.encode_lossless(part), part.shape, "image"), part)


@settings(deadline=None)
@given(st.integers(8, 16), st.integers(0, 2**32 - 1), st.data())
def test_bounds_hold_at_any_depth(bits, seed, data):
    kind = np.uint8 if bits == 8 else np.uint16
    image, decoded = np.random.default_rng(seed).integers(0, 1 << bits, (2, 5, 7)).astype(kind)
    bound = data.draw(st.sampled_from([0, 2, 3, 9, (1 << bits - 1) - 1]))
    fixed = residual.apply(residual.pack(image, decoded, bound, bits), decoded, bits)
    assert abs(fixed.astype(int) - image).max() <= bound


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_deep_files_are_what_other_readers_expect(suffix):
    codec = pytest.importorskip("imagecodecs")
    deep = np.random.default_rng(0).integers(0, 65536, (40, 50, 3), dtype=np.uint16)
    if suffix == "png":
        np.testing.assert_array_equal(codec.png_decode(png.build(deep)), deep)
    else:
        tifffile = pytest.importorskip("tifffile")
        import io

        np.testing.assert_array_equal(tifffile.imread(io.BytesIO(tiff.build(deep))), deep)
