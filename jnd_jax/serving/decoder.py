"""The decoder of the lapped codec in plain TensorFlow ops, made from a model file's arrays; imports no jax.

Arrays are (B, h, w, channels), h and w in blocks of 16 pixels unless noted; any B, h and w. What `codec.hyper` and
`codec.lapped` say of each step holds here: this is the same arithmetic. The integer scale path is matrix products over
shifted slices, never a convolution, whose fast algorithms leave the integers. Its operands have at most 8 bits and its
sums stay below 2^24, so that float32, and TF32 on a GPU too, gives the same indexes as NumPy, to the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any

import numpy as np
import tensorflow as tf

from jnd_jax.codec import coding, hyper, hyper_context
from jnd_jax.codec.linear import BLOCK, BUCKET, TILE, round_up, synthesis_matrices
from jnd_jax.errors import JndError
from jnd_jax.modelfile import ModelFile


def _variables(tree: Any) -> Any:
    """The same tree with float32 variables, which the signatures of a SavedModel share."""
    if isinstance(tree, Mapping):
        return {name: _variables(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_variables(value) for value in tree]
    return tf.Variable(np.asarray(tree, np.float32), trainable=False)


def _halves(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """As `hyper.halves`: (B, h, w, c) -> two of (B, h/2, w/2, 2, c)."""
    at = lambda row, column: x[:, row::2, column::2]
    return tf.stack([at(0, 0), at(1, 1)], axis=3), tf.stack([at(0, 1), at(1, 0)], axis=3)


def _interleave(anchors: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """As `hyper.interleave`: the inverse of `_halves`."""
    top = tf.stack([anchors[..., 0, :], others[..., 0, :]], axis=3)
    bottom = tf.stack([others[..., 1, :], anchors[..., 1, :]], axis=3)
    shape = tf.shape(top)
    x = tf.stack([top, bottom], axis=2)
    return tf.reshape(x, [shape[0], 2 * shape[1], 2 * shape[2], top.shape[-1]])


def _neighbours(anchors: tf.Tensor) -> list[tf.Tensor]:
    """As `hyper.neighbours`: the anchors above, below, left and right of each other block."""
    even, odd = anchors[..., 0, :], anchors[..., 1, :]
    above = lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 0], [0, 0]])[:, :-1]
    below = lambda x: tf.pad(x, [[0, 0], [0, 1], [0, 0], [0, 0]])[:, 1:]
    left = lambda x: tf.pad(x, [[0, 0], [0, 0], [1, 0], [0, 0]])[:, :, :-1]
    right = lambda x: tf.pad(x, [[0, 0], [0, 0], [0, 1], [0, 0]])[:, :, 1:]
    pairs = (above(odd), even), (odd, below(even)), (even, left(odd)), (right(even), odd)
    return [tf.stack(pair, axis=3) for pair in pairs]


def _patches(x: tf.Tensor) -> tf.Tensor:
    """3x3 neighbourhoods, edge-padded (which padding by one row "symmetrically" is): (..., c) -> (..., 9 c)."""
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    h, w = tf.shape(x)[1], tf.shape(x)[2]
    return tf.concat([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=-1)


def _layer(layer: Mapping[str, tf.Variable], x: tf.Tensor) -> tf.Tensor:
    return tf.tensordot(x, layer["weight"], 1) + layer["bias"]


def _magnitude(symbols: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.constant(hyper.MAGNITUDE), tf.minimum(tf.abs(symbols), len(hyper.MAGNITUDE) - 1))


def _integer_layer(layer: Mapping[str, tf.Variable], x: tf.Tensor) -> tf.Tensor:
    return tf.floor(_layer(layer, x) * layer["unit"] + 0.5)


def _clip(x: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(x, 0.0, float(hyper.ACTIVATION_MAX))


def _relu(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.leaky_relu(x, 0.01)


def _arcsinh(x: tf.Tensor) -> tf.Tensor:
    """In ops that TFLite has."""
    return tf.sign(x) * tf.math.log(tf.abs(x) + tf.sqrt(x * x + 1.0))


def _deviations(above: tf.Variable, symbols: tf.Tensor) -> tf.Tensor:
    """What `hyper.code_from_above` adds to means, plus the symbols themselves; both (B, h/2, w/2, 2, c)."""

    def row(last: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
        last = last[..., 1, :]
        even = cells[..., 0, :] + above[0] * tf.pad(last, [[0, 0], [1, 0], [0, 0]])[:, :-1] + above[1] * last
        odd = cells[..., 1, :] + above[0] * even + above[1] * tf.pad(even, [[0, 0], [0, 1], [0, 0]])[:, 1:]
        return tf.stack([even, odd], axis=-2)

    rows = tf.transpose(symbols, [1, 0, 2, 3, 4])
    return tf.transpose(tf.scan(row, rows, tf.zeros_like(rows[0])), [1, 0, 2, 3, 4])


def _conv(p: Mapping[str, tf.Variable], x: tf.Tensor) -> tf.Tensor:
    return tf.nn.conv2d(x, p["kernel"], 1, "SAME") + p["bias"]


def _interpolate(table: tf.Variable, quality: tf.Tensor) -> tf.Tensor:
    """Rows of a (nodes, C) table at (B,) qualities, linear between nodes: (B, 1, 1, C)."""
    position = tf.cast(quality, tf.float32) / hyper.NODE_SPACING
    node = tf.clip_by_value(tf.cast(tf.floor(position), tf.int32), 0, hyper.NODES - 2)
    t = (position - tf.cast(node, tf.float32))[:, None]
    return (tf.gather(table, node) * (1 - t) + tf.gather(table, node + 1) * t)[:, None, None, :]


def _modulate(p: Mapping[str, tf.Variable], x: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
    return x * (1 + _interpolate(p["scale"], quality)) + _interpolate(p["shift"], quality)


def _bottleneck(p: Mapping[str, Any], x: tf.Tensor) -> tf.Tensor:
    h = _relu(_conv(p["Conv_0"], x))
    return x + _conv(p["Conv_2"], _relu(_conv(p["Conv_1"], h)))


def _filter_borders(x: tf.Tensor, matrix: tf.Variable, axis: int) -> tf.Tensor:
    """Applies (16, 16) `matrix` to the 16 samples around every block border along `axis` (1 or 2) of pixels."""
    half = BLOCK // 2
    shape = tf.shape(x)
    if axis == 1:
        inner = tf.reshape(x[:, half:-half], [shape[0], -1, BLOCK, shape[2], 3])
        filtered = tf.reshape(tf.einsum("bniwc,oi->bnowc", inner, matrix), [shape[0], -1, shape[2], 3])
        return tf.concat([x[:, :half], filtered, x[:, -half:]], axis=1)
    inner = tf.reshape(x[:, :, half:-half], [shape[0], shape[1], -1, BLOCK, 3])
    filtered = tf.reshape(tf.einsum("bhnic,oi->bhnoc", inner, matrix), [shape[0], shape[1], -1, 3])
    return tf.concat([x[:, :, :half], filtered, x[:, :, -half:]], axis=2)


def _bucket(blocks: tf.Tensor) -> tf.Tensor:
    """Blocks that the encoder's side runs its networks on, for a side of `blocks`: zeros beyond the grid count."""
    return tf.where(blocks <= TILE, round_up(blocks, BUCKET), blocks)


class Decoder(tf.Module):
    """Latents to pixels. Methods take and return tensors, and can be traced with any batch and size.

    Attributes:
      hash: of the model, 16 hexadecimal digits.
      latents, hyper_latents: M and Cz, the channels of y and z.
      group_channels: the channels of each group, as slices; each group has two passes.
      passes: in which y is coded.
    """

    def __init__(self, model: ModelFile):
        """Raises JndError for a model that cannot code."""
        super().__init__(name="jnd_decoder")
        if not model.is_lapped or not model.tables:
            raise JndError(
                f"Model {model.name!r} is of the family {model.config.get('name')!r}: only 'lapped' itself is exported."
            )
        coder = coding.latent_coder(model.params, model.tables)
        self.hash = model.hash
        self.latents, self.hyper_latents = coder.scale_offset.shape[1], coder.hyper_latent_channels
        self._scale, self._mean = _variables(coder.scale), _variables(coder.mean)
        self._hyper_context = _variables(coder.hyper_context)
        self._net = _variables(model.params["synthesis_net"])
        basis = dict(zip(("synthesis", "postfilter"), synthesis_matrices(model.params)))
        self._linear = _variables(basis | {"log_inverse_gain": model.params["log_inverse_gain"]})
        self.group_channels = coder.group_channels
        self.passes = coder.passes
        self._scale_offset, self._hyper_offset = (
            tf.Variable(table.astype(np.int32), trainable=False) for table in (coder.scale_offset, coder.hyper_offset)
        )
        self._coarse, self._fine = _bottlenecks(self._net)

    def scale_features(self, z: tf.Tensor) -> tf.Tensor:
        """As `hyper.scale_features`: z (B, h/4, w/4, Cz) float32 -> (B, h, w, C)."""
        x = tf.nn.depth_to_space(_clip(_integer_layer(self._scale["up1"], _patches(z))), 2)
        return tf.nn.depth_to_space(_clip(_integer_layer(self._scale["up2"], _patches(x))), 2)

    def pass_indexes(self, number: int, features: tf.Tensor, symbols: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
        """Scale indexes 0..63 of the latents of a pass, (B, h/2, w/2, 2, channels of its group) int32.

        Args:
          number: of the pass: twice that of its group, plus 1 for the other blocks.
          features: from `scale_features`.
          symbols: (B, h, w, M) int32 residual symbols of the passes before; what else is in it has no effect.
          quality: (B,) int32 in 0..1000.
        """
        group, half = divmod(number, 2)
        channels = self.group_channels[group]
        lower = self._lower(group, symbols[..., : channels.start])[half]
        own = _halves(symbols[..., channels])[0] if half else None
        return self._indexes(group, _halves(features)[half], lower, own, quality)

    def _lower(self, group: int, symbols: tf.Tensor) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Both halves of `hyper.scale_lower` of the symbols (B, h, w, .) before a group; None before the first."""
        if not group:
            return None, None
        layers = self._scale["groups"][group]
        x = _clip(_integer_layer(layers["embed"], _magnitude(symbols)))
        return _halves(_clip(_integer_layer(layers["context"], _patches(x))))

    def _indexes(self, group: int, features, lower, own, quality: tf.Tensor) -> tf.Tensor:
        """As `hyper.scale_indexes`, of one half; `lower` and `own` are None where there are none."""
        layers, size = self._scale["groups"][group], tf.shape(features)[:-1]
        near = tf.zeros(tf.concat([size, tf.shape(layers["own2"]["bias"])], 0))
        if own is not None:
            x = _clip(_integer_layer(layers["own1"], _magnitude(own)))
            near = _clip(_integer_layer(layers["own2"], tf.concat(_neighbours(x), axis=-1)))
        level = tf.broadcast_to(self._level(quality), tf.concat([size, [1]], 0))
        inputs = [features, level, *([] if lower is None else [lower]), near]
        x = _clip(_integer_layer(layers["merge"], tf.concat(inputs, axis=-1)))
        x = _clip(x + _integer_layer(layers["mid"], x))
        offset = _offset(self._scale_offset, quality)[:, None, None, None, self.group_channels[group]]
        return tf.clip_by_value(tf.cast(_integer_layer(layers["out"], x), tf.int32) + offset, 0, hyper.SCALE_LEVELS - 1)

    def decode_symbols(self, z: tf.Tensor, quality: tf.Tensor, decode: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """(B, h, w, M) int32 residual symbols; `decode` gives those of a pass from its scale indexes, of the same shape."""
        features, groups = _halves(self.scale_features(tf.cast(z, tf.float32))), []
        for group in range(len(self.group_channels)):
            lower = self._lower(group, tf.concat(groups, axis=-1)) if groups else (None, None)
            anchors = decode(self._indexes(group, features[0], lower[0], None, quality))
            others = decode(self._indexes(group, features[1], lower[1], anchors, quality))
            groups.append(_interleave(anchors, others))
        return tf.concat(groups, axis=-1)

    def hyper(self, z: tf.Tensor, quality: tf.Tensor, symbols: tf.Tensor, number: tf.Tensor) -> dict[str, tf.Tensor]:
        """What entropy decoding of a pass needs.

        Args:
          z: (B, h/4, w/4, Cz) int32.
          quality: (B,) int32 in 0..1000.
          symbols: (B, h, w, M) int32 residual symbols of the passes before.
          number: int32 scalar, that of the pass, 0 to `passes` - 1.

        Returns:
          {"indexes": (B, h/2, w/2, 2, channels of the pass's group) int32 in 0..63}
        """
        features = self.scale_features(tf.cast(z, tf.float32))
        branch = lambda i: lambda: tf.ensure_shape(self.pass_indexes(i, features, symbols, quality), [None] * 5)
        return {"indexes": tf.switch_case(number, [branch(i) for i in range(self.passes)])}

    def _level(self, quality: tf.Tensor) -> tf.Tensor:
        """`hyper.quality_level` of (B,) qualities, (B, 1, 1, 1, 1) float32."""
        return tf.cast(hyper.quality_level(quality), tf.float32)[:, None, None, None, None]

    def hyper_context(self, around: tf.Tensor, quality: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """As `hyper_context.predict`: around (n, 4, Cz) int32, quality int32 scalar -> levels and means, (n, Cz) int32."""
        flat, count = tf.reshape(around, [-1, around.shape[1] * self.hyper_latents]), tf.shape(around)[0]
        level = tf.fill([count, 1], tf.cast(hyper.quality_level(quality), tf.float32))
        inputs = [*(_magnitude(tf.maximum(sign * flat, 0)) for sign in hyper_context.SIGNS), level]
        x = _clip(_integer_layer(self._hyper_context["hidden"], tf.concat(inputs, axis=-1)))
        x = tf.cast(_integer_layer(self._hyper_context["out"], x), tf.int32)
        level, mean = tf.split(x + _offset(self._hyper_offset, quality[None]), 2, axis=-1)
        most = hyper_context.MEAN_MAX
        return tf.clip_by_value(level, 0, hyper_context.SCALES - 1), tf.clip_by_value(mean, -most, most)

    def mean_features(self, z: tf.Tensor) -> tf.Tensor:
        """As `hyper.mean_features`: z (B, h/4, w/4, Cz) float32 -> (B, h, w, C)."""
        x = tf.nn.depth_to_space(_relu(_layer(self._mean["up1"], _patches(z))), 2)
        return tf.nn.depth_to_space(_relu(_layer(self._mean["up2"], _patches(x))), 2)

    def _group_means(self, group: Mapping[str, Any], features, lower, own) -> tf.Tensor:
        """As `hyper.means`, of one half; `lower` and `own` are None where there are none."""
        size = tf.shape(features)[:-1]
        near = tf.zeros(tf.concat([size, tf.shape(group["own2"]["bias"])], 0))
        linear = 0.0
        if own is not None:
            x = _relu(_layer(group["own1"], _arcsinh(own)))
            near = _relu(_layer(group["own2"], tf.concat(_neighbours(x), axis=-1)))
            linear = tf.add_n([x * group["cross"][i] for i, x in enumerate(_neighbours(own))])
        inputs = [features, *([] if lower is None else [lower]), near]
        x = _relu(_layer(group["merge"], tf.concat(inputs, axis=-1)))
        x = x + _relu(_layer(group["mid"], x))
        return _layer(group["out"], x) + linear

    def gained_latents(self, symbols: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """Gained latents (B, h, w, M) float32 of residual symbols (B, h, w, M) and z (B, h/4, w/4, Cz), both int32."""
        features, groups = _halves(self.mean_features(tf.cast(z, tf.float32))), []
        for channels, group in zip(self.group_channels, self._mean["groups"]):
            anchors, others = _halves(tf.cast(symbols[..., channels], tf.float32))
            lower = None, None
            if groups:
                x = _relu(_layer(group["embed"], _arcsinh(tf.concat(groups, axis=-1))))
                lower = _halves(_relu(_layer(group["context"], _patches(x))))
            if not groups:
                anchors = _deviations(group["above"], anchors)
            anchors += self._group_means(group, features[0], lower[0], None)
            others += self._group_means(group, features[1], lower[1], anchors)
            groups.append(_interleave(anchors, others))
        return tf.concat(groups, axis=-1)

    def synthesis(self, y_hat: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
        """Pixels, nominally in [0, 1], not clipped: gained y_hat (B, h, w, M), quality (B,) -> (B, 16 h, 16 w, 3)."""
        y_hat = y_hat * tf.exp(_interpolate(self._linear["log_inverse_gain"], quality))
        x = tf.nn.depth_to_space(tf.tensordot(y_hat, self._linear["synthesis"], 1), BLOCK)
        for axis in (1, 2):
            x = _filter_borders(x, self._linear["postfilter"], axis)
        h, w = tf.shape(y_hat)[1], tf.shape(y_hat)[2]
        padded = tf.pad(y_hat, [[0, 0], [0, _bucket(h) - h], [0, _bucket(w) - w], [0, 0]])
        return x + self._residual(padded, quality)[:, : h * BLOCK, : w * BLOCK] + 0.5

    def _residual(self, y: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
        """`codec.lapped.SynthesisNet`."""
        p = self._net
        h = tf.nn.depth_to_space(_conv(p["Conv_0"], y), 2)
        h = _relu(_modulate(p["Modulation_0"], _conv(p["Conv_1"], h), quality))
        for name in self._coarse:
            h = _bottleneck(p[name], h)
        h = tf.nn.depth_to_space(_conv(p["Conv_2"], h), 2)
        h = _relu(_modulate(p["Modulation_1"], h, quality))
        for name in self._fine:
            h = _bottleneck(p[name], h)
        return tf.nn.depth_to_space(_conv(p["Conv_3"], h), 4)

    def synthesize(
        self, symbols: tf.Tensor, z: tf.Tensor, quality: tf.Tensor, height: tf.Tensor, width: tf.Tensor
    ) -> tf.Tensor:
        """(B, height, width, 3) uint8 images of what the range coder decodes.

        Args:
          symbols: (B, h, w, M) int32 residual symbols.
          z: (B, h/4, w/4, Cz) int32 hyper-latents.
          quality: (B,) int32 in 0..1000.
          height, width: int32 scalars, at most 16 h and 16 w.
        """
        x = self.synthesis(self.gained_latents(symbols, z), quality)[:, :height, :width]
        return tf.cast(tf.clip_by_value(tf.round(255.0 * x), 0.0, 255.0), tf.uint8)


def _offset(table: tf.Variable, quality: tf.Tensor) -> tf.Tensor:
    """`hyper.scale_offset` of a (nodes, C) table at (B,) qualities, (B, C) int32."""
    spacing = hyper.NODE_SPACING
    node = tf.minimum(quality // spacing, hyper.NODES - 2)
    t = (quality - node * spacing)[:, None]
    low, high = tf.gather(table, node), tf.gather(table, node + 1)
    return (2 * (low * (spacing - t) + high * t) + spacing) // (2 * spacing)


def _bottlenecks(net: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Names of the synthesis network's blocks at 1/8 and at 1/4 resolution, told apart by their widths."""
    names = sorted((name for name in net if name.startswith("Bottleneck_")), key=lambda name: int(name.split("_")[1]))
    coarse, fine = net["Conv_1"]["kernel"].shape[-1], net["Conv_3"]["kernel"].shape[-2]
    if coarse == fine:
        raise JndError(
            f"A model with the same width {fine} at 1/4 and 1/8 resolution cannot be exported: train one "
            "with two widths."
        )
    first = list(takewhile(lambda name: net[name]["Conv_0"]["kernel"].shape[-2] == coarse, names))
    return first, names[len(first) :]
