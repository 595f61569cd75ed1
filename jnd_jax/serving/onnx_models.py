"""ONNX models of the decoder, of any batch and size: what a range decoder needs pass by pass, and pixels.

`features` makes features of the hyper-latents; `pass-N`, for each pass of `codec.hyper`, scale indexes and means; `above`,
run after the first pass, the gained latents of its symbols and means; `synthesize` the image. The arithmetic is that of `codec.hyper` and `codec.lapped`, which say what each step does. The
integer scale path is matrix products of integers below 2^24 in float32, which every runtime computes exactly.

Arrays are (B, h, w, channels), h and w in blocks of 16 pixels, or halves (B, h/2, w/2, 2, channels) of them, see
`hyper.halves`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from jnd_jax import codec
from jnd_jax.codec import coding, hyper
from jnd_jax.codec.linear import BLOCK, BUCKET, TILE, synthesis_matrices
from jnd_jax.modelfile import ModelFile
from jnd_jax.serving import export as exporting
from jnd_jax.serving.onnx_graph import OPSET, Graph, Value

_HALF = ("B", "h/2", "w/2", 2)
_WHOLE = ("B", "h", "w")

Layer = Mapping[str, np.ndarray]


def _dense(g: Graph, layer: Layer, x: Value) -> Value:
    return g("Add", g("MatMul", x, layer["weight"]), layer["bias"])


def _shift(g: Graph, layer: Layer, x: Value) -> Value:
    return g("Floor", g("Add", g("Mul", x, layer["unit"]), 0.5))


def _integer_dense(g: Graph, layer: Layer, x: Value) -> Value:
    return _shift(g, layer, _dense(g, layer, x))


def _clip(g: Graph, x: Value) -> Value:
    return g("Clip", x, 0.0, float(hyper.ACTIVATION_MAX))


def _relu(g: Graph, x: Value) -> Value:
    return g("LeakyRelu", x, alpha=0.01)


def _integer_relu(g: Graph, layer: Layer, x: Value) -> Value:
    return _clip(g, _integer_dense(g, layer, x))


def _float_relu(g: Graph, layer: Layer, x: Value) -> Value:
    return _relu(g, _dense(g, layer, x))


def _magnitude(g: Graph, symbols: Value) -> Value:
    level = g("Min", g("Abs", symbols), float(len(hyper.MAGNITUDE) - 1))
    return g("Gather", hyper.MAGNITUDE, g.cast(level, np.int32))


def _patches(g: Graph, x: Value) -> Value:
    """3x3 neighbourhoods, edge-padded: (B, h, w, c) -> (B, h, w, 9 c)."""
    padded = g("Pad", x, [0, 1, 1, 0, 0, 1, 1, 0], mode="edge")
    ends = (0, -2), (1, -1), (2, None)
    rows = [g.slice(padded, 1, *end) for end in ends]
    return g.concat([g.slice(row, 2, *end) for row in rows for end in ends])


def _upsample(g: Graph, x: Value, channels: int) -> Value:
    """Depth to space by 2: (B, h, w, 4 c) -> (B, 2 h, 2 w, c)."""
    h, w = g.size(x, 1), g.size(x, 2)
    x = g("Transpose", g.reshape(x, 0, h, w, 2, 2, channels), perm=[0, 1, 3, 2, 4, 5])
    return g.reshape(x, 0, g("Mul", h, [2]), g("Mul", w, [2]), channels)


def _halves(g: Graph, x: Value) -> tuple[Value, Value]:
    rows = [g.slice(x, 1, i, step=2) for i in (0, 1)]
    at = lambda i, j: g("Unsqueeze", g.slice(rows[i], 2, j, step=2), [3])
    return g.concat([at(0, 0), at(1, 1)], 3), g.concat([at(0, 1), at(1, 0)], 3)


def _neighbours(g: Graph, anchors: Value) -> list[Value]:
    """As `hyper.neighbours`: the anchors above, below, left and right of each other block."""
    even, odd = (g("Squeeze", g.slice(anchors, 3, i, i + 1), [3]) for i in (0, 1))

    def moved(x: Value, axis: int, by: int) -> Value:
        before, after = [0] * 8, slice(0, -1) if by < 0 else slice(1, None)
        before[axis if by < 0 else 4 + axis] = 1
        return g.slice(g("Pad", x, before), axis, after.start, after.stop)

    pair = lambda *both: g.concat([g("Unsqueeze", x, [3]) for x in both], 3)
    return [
        pair(moved(odd, 1, -1), even),
        pair(odd, moved(even, 1, 1)),
        pair(even, moved(odd, 2, -1)),
        pair(moved(even, 2, 1), odd),
    ]


def _node(g: Graph, quality: Value) -> tuple[Value, Value]:
    """Index of the node below qualities (float32), int32, and the distance from it in 0..NODE_SPACING."""
    node = g("Min", g("Floor", g("Div", quality, float(hyper.NODE_SPACING))), float(hyper.NODES - 2))
    return g.cast(node, np.int32), g("Sub", quality, g("Mul", node, float(hyper.NODE_SPACING)))


def _between_nodes(g: Graph, table: np.ndarray, quality: Value) -> Value:
    """Rows of a (nodes, C) table at qualities (...), float32, each weighted by its distance: (..., C) in NODE_SPACING-ths."""
    node, t = _node(g, quality)
    t = g("Unsqueeze", t, [-1])
    rows = [g("Gather", table[i : i + hyper.NODES - 1], node) for i in (0, 1)]
    return g("Add", g("Mul", rows[0], g("Sub", float(hyper.NODE_SPACING), t)), g("Mul", rows[1], t))


def _scale_offset(g: Graph, table: np.ndarray, quality: Value) -> Value:
    """As `hyper.scale_offset`, in integers carried by float32."""
    spacing = float(hyper.NODE_SPACING)
    doubled = g("Mul", _between_nodes(g, table.astype(np.float32), quality), 2.0)
    return g("Floor", g("Div", g("Add", doubled, spacing), 2 * spacing))


def features(coder: coding.LatentCoder) -> onnx.ModelProto:
    """z (B, h/4, w/4, Cz) int32 -> halves of the features that all passes share."""
    g = Graph("features")
    z = g.cast(g.input("z", np.int32, ("B", "h/4", "w/4", coder.hyper_latent_channels)), np.float32)
    for name, path, layer in (("scale", coder.scale, _integer_relu), ("mean", coder.mean, _float_relu)):
        x = z
        for stage in ("up1", "up2"):
            width = path[stage]["bias"].shape[-1] // 4
            x = _upsample(g, layer(g, path[stage], _patches(g, x)), width)
        for half, value in zip(("anchors", "others"), _halves(g, x)):
            g.output(f"{name}_{half}", value, np.float32, (*_HALF, width))
    return g.model()


def latent_pass(coder: coding.LatentCoder, number: int) -> onnx.ModelProto:
    """Scale indexes and means of one pass: twice its group's number, plus 1 for the blocks that are no anchors.

    Inputs: the half of `features` that is meant; `quality`, 0..1000, (B, 1, 1, 1) or one for each block,
    (B, h/2, w/2, 2); and

    - for the anchors, if there are groups before theirs, `symbols` and `y`: symbols and gained latents of all these,
      (B, h, w, channels); `lower_scale` and `lower_mean` come out, for the next pass;
    - for the others `symbols` and `y` of the group's own anchors, halves, and `lower_scale` and `lower_mean`, if any.
    """
    group, half = divmod(number, 2)
    q, p = coder.scale["groups"][group], coder.mean["groups"][group]
    g = Graph(f"pass-{number}")
    scale, mean = _feature_inputs(g, coder, ("anchors", "others")[half])
    linear = None
    if group and not half:
        symbols, y = _latent_inputs(g, _WHOLE, q["embed"]["weight"].shape[0])
        for name, inputs, lower in (
            ("scale", scale, _scale_lower(g, q, symbols)),
            ("mean", mean, _mean_lower(g, p, y)),
        ):
            here, others = _halves(g, lower)
            inputs.append(here)
            g.output(f"lower_{name}", others, np.float32, (*_HALF, _width(q["context"])))
    elif group:
        for name, inputs in (("scale", scale), ("mean", mean)):
            inputs.append(g.input(f"lower_{name}", np.float32, (*_HALF, _width(q["context"]))))
    if half:
        symbols, y = _latent_inputs(g, _HALF, _width(q["out"]))
        own = _integer_relu(g, q["own1"], _magnitude(g, symbols))
        scale.append(_integer_relu(g, q["own2"], g.concat(_neighbours(g, own))))
        own = _float_relu(g, p["own1"], g("Asinh", y))
        mean.append(_float_relu(g, p["own2"], g.concat(_neighbours(g, own))))
        linear = g("Sum", *(g("Mul", near, weight) for near, weight in zip(_neighbours(g, y), p["cross"])))
    quality = g.cast(g.input("quality", np.int32, ("B", "qh", "qw", "q2")), np.float32)
    shape = (*_HALF, _width(q["out"]))
    g.output("indexes", g.cast(_indexes(g, coder, number, scale, quality), np.uint8), np.uint8, shape)
    g.output("means", _means(g, p, half, mean, linear), np.float32, shape)
    return g.model()


def from_above(coder: coding.LatentCoder) -> onnx.ModelProto:
    """`symbols` and `means` of the first pass, halves -> `y`, their gained latents; see `hyper.code_from_above`."""
    above = coder.mean["groups"][0]["above"]
    channels = above.shape[-1]
    row = Graph("row")
    last = row.input("last", np.float32, ("B", "w/2", channels))
    cells = row.input("cells", np.float32, ("B", "w/2", 2, channels))
    at = lambda i: row("Squeeze", row.slice(cells, 2, i, i + 1), [2])
    beside = lambda x, pads, start, stop: row.slice(row("Pad", x, pads), 1, start, stop)

    def deviations(symbols: Value, left: Value, right: Value) -> Value:
        return row("Add", symbols, row("Add", row("Mul", left, above[0]), row("Mul", right, above[1])))

    even = deviations(at(0), beside(last, [0, 1, 0, 0, 0, 0], 0, -1), last)
    odd = deviations(at(1), even, beside(even, [0, 0, 0, 0, 1, 0], 1, None))
    both = row.concat([row("Unsqueeze", x, [2]) for x in (even, odd)], 2)
    row.output("next", odd, np.float32, ("B", "w/2", channels))
    row.output("made", both, np.float32, ("B", "w/2", 2, channels))
    g = Graph("above")
    symbols, means = (g.input(name, np.float32, (*_HALF, channels)) for name in ("symbols", "means"))
    first = g("Squeeze", g.slice(g("Squeeze", g.slice(symbols, 1, 0, 1), [1]), 2, 0, 1), [2])
    g.output("y", g("Add", means, g.scan(row, g("Mul", first, 0.0), symbols, 1)), np.float32, (*_HALF, channels))
    return g.model()


def _width(layer: Layer) -> int:
    return layer["bias"].shape[-1]


def _feature_inputs(g: Graph, coder: coding.LatentCoder, half: str) -> tuple[list[Value], list[Value]]:
    given = lambda name, path: [g.input(f"{name}_{half}", np.float32, (*_HALF, _width(path["up2"]) // 4))]
    return given("scale", coder.scale), given("mean", coder.mean)


def _latent_inputs(g: Graph, positions: Sequence[str | int], channels: int) -> tuple[Value, Value]:
    shape = (*positions, channels)
    return g.input("symbols", np.float32, shape), g.input("y", np.float32, shape)


def _scale_lower(g: Graph, q: Mapping[str, Layer], symbols: Value) -> Value:
    return _integer_relu(g, q["context"], _patches(g, _integer_relu(g, q["embed"], _magnitude(g, symbols))))


def _mean_lower(g: Graph, p: Mapping[str, Layer], y: Value) -> Value:
    return _float_relu(g, p["context"], _patches(g, _float_relu(g, p["embed"], g("Asinh", y))))


def _without_own(group: Mapping[str, Layer], half: int) -> np.ndarray:
    """Weights of a group's layer "merge" for one half: the anchors have no features of own anchors, which come last."""
    weight = group["merge"]["weight"]
    return weight if half else weight[: -_width(group["own2"])]


def _indexes(g: Graph, coder: coding.LatentCoder, number: int, inputs: Sequence[Value], quality: Value) -> Value:
    """As `hyper.scale_indexes`."""
    group, half = divmod(number, 2)
    q, width = coder.scale["groups"][group], _width(coder.scale["up2"]) // 4
    # The quality is the same everywhere in most images: its share of the sum is computed where it is given.
    level = g("Unsqueeze", g("Floor", g("Mul", quality, 0.25)), [-1])
    bias = g("Add", g("Mul", level, q["merge"]["weight"][width]), q["merge"]["bias"])
    weight = np.delete(_without_own(q, half), width, axis=0)
    x = _clip(g, _shift(g, q["merge"], g("Add", g("MatMul", g.concat(inputs), weight), bias)))
    x = _clip(g, g("Add", x, _integer_dense(g, q["mid"], x)))
    offset = _scale_offset(g, coder.scale_offset[:, coder.group_channels[group]], quality)
    return g("Clip", g("Add", _integer_dense(g, q["out"], x), offset), 0.0, float(hyper.SCALE_LEVELS - 1))


def _means(g: Graph, p: Mapping[str, Layer], half: int, inputs: Sequence[Value], linear: Value | None) -> Value:
    """As `hyper.means`."""
    x = _float_relu(g, {"weight": _without_own(p, half), "bias": p["merge"]["bias"]}, g.concat(inputs))
    x = g("Add", x, _float_relu(g, p["mid"], x))
    means = _dense(g, p["out"], x)
    return means if linear is None else g("Add", means, linear)


def _conv(g: Graph, layer: Layer, x: Value) -> Value:
    """Stride 1, zero-padded, on (B, C, H, W)."""
    kernel = np.transpose(layer["kernel"], (3, 2, 0, 1))
    return g("Conv", x, kernel, layer["bias"], pads=[kernel.shape[-1] // 2] * 4)


def _bottleneck(g: Graph, layers: Mapping[str, Layer], x: Value) -> Value:
    h = _relu(g, _conv(g, layers["Conv_0"], x))
    return g("Add", x, _conv(g, layers["Conv_2"], _relu(g, _conv(g, layers["Conv_1"], h))))


def _interpolate(g: Graph, table: np.ndarray, quality: Value) -> Value:
    """Rows of a (nodes, C) table at qualities (...), linear between nodes: (..., C)."""
    return g("Mul", _between_nodes(g, np.asarray(table, np.float32), quality), 1.0 / hyper.NODE_SPACING)


def _repeat(g: Graph, x: Value, factor: int, channels: int) -> Value:
    """(B, h, w, C) as (B, C, h f, w f), each position f x f times; (B, 1, 1, C) as (B, C, 1, 1)."""
    h, w = g.size(x, 1), g.size(x, 2)
    times = g("Where", g("Equal", g("Mul", h, w), [1]), [1], [factor])
    x = g.reshape(g("Transpose", x, perm=[0, 3, 1, 2]), 0, channels, h, 1, w, 1)
    x = g("Expand", x, g.concat([g.constant([1, 1, 1]), times, g.constant([1]), times], 0))
    return g.reshape(x, 0, channels, g("Mul", h, times), g("Mul", w, times))


def _modulate(g: Graph, layer: Layer, x: Value, quality: Value, factor: int) -> Value:
    part = lambda name: _repeat(g, _interpolate(g, layer[name], quality), factor, layer[name].shape[-1])
    return g("Add", g("Mul", x, g("Add", part("scale"), 1.0)), part("shift"))


def _residual(g: Graph, model: ModelFile, y: Value, quality: Value) -> Value:
    """`lapped.SynthesisNet`: y (B, h, w, M), qualities (B, h, w) or (B, 1, 1) -> (B, 48, 4 h, 4 w)."""
    p, (fine, coarse) = model.params["synthesis_net"], codec.build(model.config).synthesis_depths
    h = g("DepthToSpace", _conv(g, p["Conv_0"], g("Transpose", y, perm=[0, 3, 1, 2])), blocksize=2)
    h = _relu(g, _modulate(g, p["Modulation_0"], _conv(g, p["Conv_1"], h), quality, 2))
    for i in range(coarse):
        h = _bottleneck(g, p[f"Bottleneck_{i}"], h)
    h = g("DepthToSpace", _conv(g, p["Conv_2"], h), blocksize=2)
    h = _relu(g, _modulate(g, p["Modulation_1"], h, quality, 4))
    for i in range(coarse, coarse + fine):
        h = _bottleneck(g, p[f"Bottleneck_{i}"], h)
    return _conv(g, p["Conv_3"], h)


def _border_filter(g: Graph, x: Value, matrix: np.ndarray, axis: int) -> Value:
    """Applies (16, 16) `matrix` across every border between two blocks along `axis` (1 or 2) of (B, H, W, 3)."""
    half, height, width = BLOCK // 2, g.size(x, 1), g.size(x, 2)
    inner = g.slice(x, axis, half, -half)
    if axis == 1:
        groups = g("MatMul", matrix, g.reshape(inner, 0, -1, BLOCK, g("Mul", width, [3])))
        filtered = g.reshape(groups, 0, -1, width, 3)
    else:
        groups = g.reshape(inner, 0, height, -1, BLOCK * 3)
        filtered = g.reshape(g("MatMul", groups, np.kron(matrix.T, np.eye(3, dtype=np.float32))), 0, height, -1, 3)
    return g.concat([g.slice(x, axis, 0, half), filtered, g.slice(x, axis, -half)], axis)


def _bucket(g: Graph, x: Value, mode: str, rank: int) -> Value:
    """(B, h, w, ...) padded as the codec pads its tiles: what lies beyond the grid counts at the border."""
    missing = []
    for axis in (1, 2):
        blocks = g.size(x, axis)
        rest = g("Mod", g("Sub", [BUCKET], g("Mod", blocks, [BUCKET])), [BUCKET])
        fits = g("And", g("LessOrEqual", blocks, [TILE]), g("Greater", blocks, [1]))
        missing.append(g("Where", fits, rest, [0]))
    start, end = g.constant([0] * (rank + 1)), g.constant([0] * (rank - 3)) if rank > 3 else None
    pads = g.concat([value for value in (start, *missing, end) if value], 0)
    return g("Pad", x, pads, mode=mode)


def synthesize(model: ModelFile) -> onnx.ModelProto:
    """Gained latents `y` (B, h, w, M) float32 -> `images` (B, height, width, 3) uint8.

    Further inputs, int32: `quality` 0..1000, (B, 1, 1) or (B, h, w), and the scalars `height`, `width`, at most 16 h and 16 w.
    """
    g, params = Graph("synthesize"), model.params
    y = g.input("y", np.float32, (*_WHOLE, params["linear_synthesis"].shape[0]))
    quality = g.cast(g.input("quality", np.int32, ("B", "qh", "qw")), np.float32)
    sides = [
        g("Cast", g("Unsqueeze", g.input(n, np.int32, ()), [0]), to=onnx.TensorProto.INT64) for n in ("height", "width")
    ]
    basis, postfilter = synthesis_matrices(params)
    y = g("Mul", y, g("Exp", _interpolate(g, params["log_inverse_gain"], quality)))
    h, w = g.size(y, 1), g.size(y, 2)
    rows, columns = g("Mul", h, [BLOCK]), g("Mul", w, [BLOCK])
    x = g("Transpose", g.reshape(g("MatMul", y, basis), 0, h, w, BLOCK, BLOCK, 3), perm=[0, 1, 3, 2, 4, 5])
    x = g.reshape(x, 0, rows, columns, 3)
    for axis in (1, 2):
        x = _border_filter(g, x, postfilter, axis)
    net = _residual(g, model, _bucket(g, y, "constant", 4), _bucket(g, quality, "edge", 3))
    net_h, net_w = g.size(net, 2), g.size(net, 3)
    net = g("Transpose", g.reshape(net, 0, 4, 4, 3, net_h, net_w), perm=[0, 4, 1, 5, 2, 3])
    net = g.reshape(net, 0, g("Mul", net_h, [4]), g("Mul", net_w, [4]), 3)
    cut = lambda value: g("Slice", value, [0, 0], g.concat(sides, 0), [1, 2])
    x = g("Add", g("Add", cut(x), cut(net)), 0.5)
    images = g("Clip", g("Round", g("Mul", x, 255.0)), 0.0, 255.0)
    g.output("images", g.cast(images, np.uint8), np.uint8, ("B", "height", "width", 3))
    return g.model()


def graphs(model: ModelFile) -> dict[str, onnx.ModelProto]:
    """All ONNX models of a decoder by name."""
    coder = coding.latent_coder(model.params, model.tables)
    passes = {f"pass-{i}": latent_pass(coder, i) for i in range(coder.passes)}
    return {"features": features(coder), **passes, "above": from_above(coder), "synthesize": synthesize(model)}


class Runner:
    """A decoder's ONNX models in onnxruntime, in the order of decoding: what any other runtime has to do as well.

    Args:
      models: as `graphs` gives them, each serialised or the path of its file.
    """

    def __init__(self, models: Mapping[str, bytes | str]):
        session = lambda model: onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._sessions = {name: session(model) for name, model in models.items()}

    def _run(self, name: str, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        session = self._sessions[name]
        wanted = {node.name: given[node.name] for node in session.get_inputs()}
        outputs: Any = session.run(None, wanted)
        return dict(zip((node.name for node in session.get_outputs()), outputs))

    def latents(
        self, z: np.ndarray, quality: np.ndarray, decode: Callable[[int, np.ndarray], np.ndarray]
    ) -> hyper.Coded:
        """All passes; the arrays are (B, h, w, M).

        Args:
          z: (B, h/4, w/4, Cz) int32.
          quality: int32 in 0..1000, (B, 1, 1) or (B, h, w).
          decode: symbols of a pass, float32, from its number and its scale indexes, halves (uint8).
        """
        shared = self._run("features", {"z": z})
        one = quality.shape[1] == 1
        qualities = [quality[..., None]] * 2 if one else [x[..., 0] for x in hyper.halves(np, quality[..., None])]
        joined = lambda coded: {"symbols": _join(coded, "symbols"), "y": _join(coded, "y_hat")} if coded else {}
        groups: list[hyper.Coded] = []
        passes = sum(name.startswith("pass-") for name in self._sessions)
        for number in range(0, passes, 2):
            given, pair = shared | joined(groups), []
            for half in (0, 1):
                out = self._run(f"pass-{number + half}", given | joined(pair) | {"quality": qualities[half]})
                symbols = decode(number + half, out["indexes"])
                first = number + half == 0
                y = self._run("above", out | {"symbols": symbols})["y"] if first else symbols + out["means"]
                pair.append(hyper.Coded(symbols, y, out["indexes"]))
                given |= out
            groups.append(hyper.Coded(*(hyper.interleave(np, a, b) for a, b in zip(*pair))))
        return hyper.Coded(*(np.concatenate(parts, axis=-1) for parts in zip(*groups)))

    def images(self, y: np.ndarray, quality: np.ndarray, height: int, width: int) -> np.ndarray:
        """(B, height, width, 3) uint8 of gained latents (B, h, w, M) and qualities as in `latents`."""
        sides = {"height": np.array(height, np.int32), "width": np.array(width, np.int32)}
        return self._run("synthesize", {"y": y, "quality": quality, **sides})["images"]


def _join(coded: Sequence[hyper.Coded], part: str) -> np.ndarray:
    return np.concatenate([getattr(one, part) for one in coded], axis=-1)


def export(model: ModelFile, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Writes the models, reads them back and returns what to report; `options` has nothing for this format.

    Raises:
      JndError: what was written decodes otherwise than the codec.
    """
    written = graphs(model)
    for name, graph in written.items():
        onnx.save(graph, folder / f"{name}.onnx")
    differences = _differences(model, Runner({name: str(folder / f"{name}.onnx") for name in written}))
    exporting.check(differences)
    return {
        "opset": OPSET,
        "onnxruntime": onnxruntime.__version__,
        "files": {name: _describe(graph) | {"bytes": graph.ByteSize()} for name, graph in written.items()},
        "differences": differences,
    }


def _describe(graph: onnx.ModelProto) -> dict[str, Any]:
    def ends(values):
        shape = lambda value: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        kind = lambda value: onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
        return {value.name: [kind(value), shape(value)] for value in values}

    ops = sorted({node.op_type for node in graph.graph.node})
    return {"inputs": ends(graph.graph.input), "outputs": ends(graph.graph.output), "ops": ops}


def _differences(model: ModelFile, runner: Runner) -> dict[str, Any]:
    coder, reference = coding.latent_coder(model.params, model.tables), exporting.reference_pixels(model)
    wrong, count, latents, ours, theirs = 0, 0, 0.0, [], []
    for quality, (h, w) in zip(exporting.QUALITIES, ((4, 4), (8, 12), (12, 8), (16, 20))):
        drawn = exporting.sample(coder, h, w, quality)
        parts = exporting.of_passes(coder, drawn.symbols.astype(np.float32))
        got = runner.latents(drawn.z, np.full((1, 1, 1), quality, np.int32), lambda number, _: parts[number])
        wrong += int(np.sum(got.indexes != drawn.indexes))
        count += drawn.indexes.size
        latents = max(latents, float(np.abs(got.y_hat - drawn.y_hat).max()))
        ours.append(runner.images(got.y_hat, np.full((1, 1, 1), quality, np.int32), 16 * h, 16 * w).reshape(-1))
        if reference:
            theirs.append(reference(drawn).reshape(-1))
    pixels = exporting.compare_pixels(np.concatenate(ours), np.concatenate(theirs)) if reference else None
    return {"scale_indexes": count, "scale_indexes_wrong": wrong, "latents": latents, "pixels": pixels}
