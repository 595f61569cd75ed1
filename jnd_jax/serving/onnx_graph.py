"""A small builder of ONNX graphs: ops on values by name, constants in the smallest type that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jnd_jax.serving.export import smallest

OPSET = 17
_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.uint8): TensorProto.UINT8,
}

# Elements of a constant from which on a smaller type is worth a node that casts it back.
_LARGE = 64

Value = str
Constant = np.ndarray | float | Sequence[int]


class Graph:
    """One ONNX model under construction. `graph(op, *inputs, **attributes)` adds a node and returns its value."""

    def __init__(self, name: str):
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[Value, onnx.TensorProto] = {}

    def __call__(self, op: str, *inputs: Value | Constant, **attributes) -> Value:
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        return self._node(op, names, **attributes)

    def _node(self, op: str, inputs: Sequence[Value], **attributes) -> Value:
        output = f"{self._name}_{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def constant(self, value: Constant) -> Value:
        """A constant; floats are float32, integers int64."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        small = smallest(array) if array.dtype == np.float32 and array.size >= _LARGE else array
        name = f"{self._name}_constant_{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(small, name)
        return name if small.dtype == array.dtype else self._node("Cast", [name], to=TensorProto.FLOAT)

    def input(self, name: str, dtype: type, shape: Sequence[int | str]) -> Value:
        """An input; dimensions given by name are dynamic."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], shape))
        return name

    def output(self, name: str, value: Value, dtype: type, shape: Sequence[int | str]) -> None:
        """Makes `value` an output of this name."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], shape))

    def model(self) -> onnx.ModelProto:
        """The checked model."""
        model = helper.make_model(
            self._graph(), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="jnd_jax"
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _graph(self) -> onnx.GraphProto:
        constants = list(self._constants.values())
        return helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, constants)

    def scan(self, body: Graph, start: Value, rows: Value, axis: int) -> Value:
        """Runs `body`, (state, row) -> (state, row), over `rows` along an axis: the rows that it gives, along the same one."""
        state, made = (f"{self._name}_scan_{len(self._nodes)}_{part}" for part in ("state", "rows"))
        along: dict[str, Any] = dict(num_scan_inputs=1, scan_input_axes=[axis], scan_output_axes=[axis])
        self._nodes.append(helper.make_node("Scan", [start, rows], [state, made], body=body._graph(), **along))
        return made

    def cast(self, value: Value, dtype: type) -> Value:
        return self("Cast", value, to=_TYPES[np.dtype(dtype)])

    def concat(self, values: Sequence[Value], axis: int = -1) -> Value:
        return values[0] if len(values) == 1 else self._node("Concat", values, axis=axis)

    def slice(self, value: Value, axis: int, start: int, stop: int | None = None, step: int = 1) -> Value:
        stop = np.iinfo(np.int64).max if stop is None else stop
        return self("Slice", value, [start], [stop], [axis], [step])

    def size(self, value: Value, axis: int) -> Value:
        """(1,) int64: the length of one axis."""
        return self("Shape", value, start=axis, end=axis + 1)

    def reshape(self, value: Value, *dimensions: Value | int) -> Value:
        """To dimensions that are numbers (0: as in `value`, -1: what is left) or (1,) values."""
        shape = [d if isinstance(d, str) else self.constant([d]) for d in dimensions]
        return self("Reshape", value, self.concat(shape, 0))
