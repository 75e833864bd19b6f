"""What a lowering works with: the file's tensors by ONNX value, layouts, constants, and the operators it emits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from ai_edge_litert.schema_py_generated import (
    ActivationFunctionType,
    BuiltinOperator,
    DequantizeOptionsT,
    TransposeOptionsT,
)

from bnncc.ir import ops
from bnncc.ir.graph import known_array
from bnncc.targets.tflite.layout import CHANNELS_LAST, PLAIN, Layout, ordered
from bnncc.targets.tflite.precision import (
    SMALLEST_ROUNDED,
    SMALLEST_ROUNDED_CONSTANT,
    WeightsPrecision,
    fits_float16,
    fits_int8,
    quantize,
)
from bnncc.targets.tflite.quantized import quantization_of
from bnncc.targets.tflite.writer import TENSOR_TYPES, ModelWriter, Quantization, Tensor

# Activations that a TensorFlow Lite operator applies to its own output, by the bounds of the equivalent Clip.
FUSED_CLIPS: dict[tuple[float, float], int] = {
    (0.0, np.inf): ActivationFunctionType.RELU,
    (0.0, 6.0): ActivationFunctionType.RELU6,
    (-1.0, 1.0): ActivationFunctionType.RELU_N1_TO_1,
}

# The first version of DEQUANTIZE that takes float16.
DEQUANTIZE_FLOAT16_VERSION = 3

# The first version of TRANSPOSE whose kernel takes these ranks.
TRANSPOSE_VERSIONS = {5: 4, 6: 6}
TRANSPOSE_RANK = 6


class UnsupportedError(Exception):
    """Raised by a lowering: this node has no exact form in the file.  The message is the reason."""


class LoweringContext:
    """The emission of one graph.

    Every ONNX value is stored once in the layout that its producer chose; `use` hands it out in any other, by a
    permuted copy of a constant or by one TRANSPOSE (RESHAPE where only axes of size 1 move), made once.
    """

    def __init__(
        self,
        graph: ir.Graph,
        writer: ModelWriter,
        precision: WeightsPrecision = WeightsPrecision.FLOAT32,
        half_convolutions: bool = True,
        whole_groups: bool = True,
    ) -> None:
        self.graph = graph
        self.writer = writer
        # False where runtimes are meant that misread float16 weights of convolutions (`runtimes.py`).
        self.half_convolutions = half_convolutions
        # With int8 weights and a float32 map, interpreters have no kernel for several groups.
        self.whole_groups = whole_groups and precision is not WeightsPrecision.INT8
        self._precision = precision
        self._dequantized: dict[Tensor, Tensor] = {}
        self._reshaped: dict[Tensor, Tensor] = {}
        self._arrays: dict[Tensor, npt.NDArray[np.generic]] = {}
        self._stored: dict[ir.Value, dict[Layout, Tensor]] = {}
        self._home: dict[ir.Value, Layout] = {}
        self._packed: dict[ir.Value, Tensor] = {}
        # The layout of the value behind a packed tensor that LceQuantize makes, by the tensor's name.
        self.packed_layouts: dict[str, Layout] = {}
        self._fused: set[ir.Node] = set()
        self._graph_outputs = set(graph.outputs)

    # Reading the graph

    def constant_value(self, value: ir.Value | None) -> npt.NDArray[np.generic] | None:
        """The NumPy array of an initializer or a Constant node, None for an activation or an absent input."""
        return known_array(value)

    def require_constant(self, node: ir.Node, index: int, what: str) -> npt.NDArray[np.generic]:
        """Input `index` as an array; UnsupportedError where it is absent or computed at run time."""
        array = self.constant_value(node.inputs[index] if index < len(node.inputs) else None)
        if array is None:
            raise UnsupportedError(f"{what} is not a constant")
        return array

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """The static ONNX shape."""
        if value.shape is None or not value.shape.is_static():
            raise UnsupportedError(f"{value.name} has no static shape")
        return tuple(int(size) for size in value.shape.numpy())

    def dtype(self, value: ir.Value) -> np.dtype[np.generic]:
        """The NumPy dtype as stored: ONNX's int64 and float64 activations are int32 and float32 in the file."""
        if value.dtype is None:
            raise UnsupportedError(f"{value.name} has no known element type")
        narrowed = {"int64": "int32", "float64": "float32"}
        name = value.dtype.numpy().name
        name = narrowed.get(name, name)
        if name not in TENSOR_TYPES:
            raise UnsupportedError(f"{value.name} is of type {name}")
        return np.dtype(name)

    def quantization(self, value: ir.Value) -> Quantization | None:
        """What the 8-bit integers of an activation stand for, where the graph says it."""
        return quantization_of(value)

    def is_fused(self, node: ir.Node) -> bool:
        """True where an earlier lowering emitted this node together with its own."""
        return node in self._fused

    def fuse_activation(self, value: ir.Value) -> tuple[int, ir.Value]:
        """Claim the Relu or Clip that is the only consumer of `value`, if TensorFlow Lite's operators can apply it.

        Returns the ActivationFunctionType and the value that the operator then yields (`value` itself and NONE
        where nothing can be claimed).
        """
        uses = list(value.uses())
        if len(uses) == 1 and value not in self._graph_outputs:
            node = uses[0].node
            activation = FUSED_CLIPS.get(self._clip_bounds(node) or (np.nan, np.nan))
            if activation is not None and uses[0].idx == 0:
                self._fused.add(node)
                return activation, node.outputs[0]
        return ActivationFunctionType.NONE, value

    def _clip_bounds(self, node: ir.Node) -> tuple[float, float] | None:
        if node.domain != "" or node.op_type not in ("Relu", "Clip"):
            return None
        if node.op_type == "Relu":
            return (0.0, np.inf)
        bounds = []
        for index, default in ((1, -np.inf), (2, np.inf)):
            given = node.inputs[index] if index < len(node.inputs) else None
            array = self.constant_value(given)
            if given is not None and array is None:
                return None
            bounds.append(default if array is None else float(array))
        return (bounds[0], bounds[1])

    # Tensors of the file

    def layout(self, value: ir.Value) -> Layout | None:
        """The layout in which an activation is stored; None for a constant, which takes any."""
        return self._home.get(value)

    def layouts(self) -> Mapping[str, Layout]:
        """The layouts of all activations so far, by their names."""
        return {value.name or "": layout for value, layout in self._home.items()}

    def common_layout(self, values: Sequence[ir.Value]) -> Layout:
        """The layout for an elementwise operator on `values`, one that costs the fewest transposes."""
        rank = max(len(self.shape(value)) for value in values)
        stored = [value for value in values if value in self._home]
        asked = {self._asked_layout(value, rank) for value in stored} - {None}
        if CHANNELS_LAST in asked or (not asked and any(self._home[value] == CHANNELS_LAST for value in stored)):
            return CHANNELS_LAST
        return asked.pop() or PLAIN if len(asked) == 1 else PLAIN

    def axes_layout(self, value: ir.Value) -> Layout:
        """The layout in which `value` is stored if each of its axes is one of the stored tensor's, else PLAIN."""
        home = self._home.get(value, PLAIN)
        return PLAIN if home.flat is not None else home

    def _asked_layout(self, value: ir.Value, rank: int) -> Layout | None:
        """The one layout that takes `value` without a TRANSPOSE; None where PLAIN and CHANNELS_LAST both do."""
        home, shape = self._home[value], self.shape(value)
        if home.flat is not None:
            return home if rank == len(shape) else PLAIN
        if len(shape) < rank:  # `use` pads it in PLAIN
            home, shape = PLAIN, (1,) * (rank - len(shape)) + shape
        plain, last = (ordered(layout.permutation(rank), shape) for layout in (PLAIN, CHANNELS_LAST))
        return None if plain == last and home in (PLAIN, CHANNELS_LAST) else home

    def use(self, value: ir.Value, layout: Layout, rank: int | None = None) -> Tensor:
        """The tensor that holds `value` in `layout`; with `rank`, as if its shape had leading ones up to that rank."""
        array = self.constant_value(value)
        if array is not None:
            if rank is not None:
                array = array.reshape((1,) * (rank - array.ndim) + array.shape)
            arranged = _narrow(layout.arrange(array))
            if (
                arranged.dtype == np.float32
                and arranged.size >= SMALLEST_ROUNDED_CONSTANT
                and not _is_correction(value)
            ):
                return self._half(arranged.astype(np.float32, copy=False), value.name or "constant")
            return self.constant(arranged, value.name or "constant")
        shape = self.shape(value)
        if rank is not None and rank > len(shape):
            padded = (1,) * (rank - len(shape)) + shape
            plain = self.use(value, PLAIN)
            return self._permute(self.reshape(plain, padded), PLAIN, layout, padded)
        stored = self._stored[value]
        if layout not in stored:
            home = self._home[value]
            stored[layout] = self._permute(stored[home], home, layout, shape)
        return stored[layout]

    def constant(self, array: npt.NDArray[np.generic], name: str) -> Tensor:
        """A constant in the file's own order."""
        tensor = self.writer.constant(name, array)
        self._arrays[tensor] = array
        return tensor

    def weight(
        self,
        array: npt.NDArray[np.generic],
        name: str,
        axis: int,
        *,
        hybrid: bool = True,
        shares_scale: bool = False,
        half: bool = True,
    ) -> Tensor:
        """The weights of a float operator, in the file's own order and in the precision asked for.

        axis: that of the output channels.  hybrid: its kernel takes int8 weights with float activations; the tensor
        returned is then int8 where the weights suit.  shares_scale: it takes one scale for all channels.  half: it
        takes float16.
        """
        floats = array.astype(np.float32, copy=False)
        if floats.size < SMALLEST_ROUNDED:
            return self.constant(floats, name)
        scaled = None if shares_scale else axis
        if self._precision is WeightsPrecision.INT8 and hybrid and fits_int8(floats, scaled):
            quotients, scales = quantize(floats, scaled)
            return self.writer.constant(name, quotients, Quantization(tuple(scales.tolist()), (0,) * scales.size, axis))
        return self._half(floats, name, axis) if half else self.constant(floats, name)

    def _half(self, array: npt.NDArray[np.float32], name: str, axis: int | None = None) -> Tensor:
        """A constant by way of float16, if that is asked for and the numbers suit."""
        if self._precision is not WeightsPrecision.FLOAT16 or not fits_float16(array, axis):
            return self.constant(array, name)
        stored = self.writer.constant(f"{name}/float16", array.astype(np.float16))
        if stored not in self._dequantized:
            self._dequantized[stored] = self.temporary(name, stored.shape, np.float32)
            outputs = [self._dequantized[stored]]
            self.emit(BuiltinOperator.DEQUANTIZE, [stored], outputs, DequantizeOptionsT(), DEQUANTIZE_FLOAT16_VERSION)
        return self._dequantized[stored]

    def define(self, value: ir.Value, layout: Layout) -> Tensor:
        """Create the tensor of an operator's output `value`, stored in `layout`."""
        shape = layout.shape(self.shape(value))
        tensor = self.writer.tensor(value.name or "value", shape, self.dtype(value), self.quantization(value))
        self.bind(value, layout, tensor)
        return tensor

    def bind(self, value: ir.Value, layout: Layout, tensor: Tensor) -> None:
        """State that `tensor` holds `value` in `layout` (for outputs that an existing tensor already is)."""
        self._stored[value] = {layout: tensor}
        self._home[value] = layout

    def packed(self, value: ir.Value) -> Tensor | None:
        """The int32 tensor that holds the bits of a binary value, channels last; None where there is none yet."""
        return self._packed.get(value)

    def bind_packed(self, value: ir.Value, tensor: Tensor) -> None:
        """State that `tensor` holds the bits of the binary `value`."""
        self._packed[value] = tensor
        self._home.setdefault(value, CHANNELS_LAST)

    def temporary(
        self, name: str, shape: Sequence[int], dtype: npt.DTypeLike, quantization: Quantization | None = None
    ) -> Tensor:
        """A tensor that no ONNX value corresponds to; `shape` in the file's order."""
        return self.writer.tensor(name, shape, dtype, quantization)

    # Operators

    def emit(
        self,
        builtin: int,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        options: object | None = None,
        version: int = 1,
    ) -> None:
        """Append a built-in operator."""
        self.writer.operator(builtin, inputs, outputs, options, version)

    def emit_custom(
        self, name: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], options: bytes
    ) -> None:
        """Append a custom operator with FlexBuffer options."""
        self.writer.custom(name, inputs, outputs, options)

    def reshape(self, tensor: Tensor, shape: Sequence[int], output: Tensor | None = None) -> Tensor:
        """RESHAPE `tensor` (file order) to `shape`, into `output` if given; a RESHAPE of a RESHAPE is one."""
        tensor = self.before_reshape(tensor)
        if output is None:
            if tuple(shape) == tensor.shape:
                return tensor
            if tensor in self._arrays:
                self.writer.replaced(tensor)
                return self.constant(self._arrays[tensor].reshape(shape), tensor.name.split("#")[0])
            output = self.temporary(f"{tensor.name}/reshape", shape, tensor.dtype, tensor.quantization)
        target = self.constant(np.asarray(output.shape, np.int32), "shape")
        self.emit(BuiltinOperator.RESHAPE, [tensor, target], [output])
        self._reshaped[output] = tensor
        return output

    def before_reshape(self, tensor: Tensor) -> Tensor:
        """The tensor that a RESHAPE made `tensor` from, `tensor` itself where none did: the same data."""
        return self._reshaped.get(tensor, tensor)

    def transpose(self, tensor: Tensor, permutation: Sequence[int], output: Tensor | None = None) -> Tensor:
        """TRANSPOSE `tensor` (file order), as a RESHAPE where only axes of size 1 move."""
        shape = tuple(tensor.shape[axis] for axis in permutation)
        moved = [axis for axis in permutation if tensor.shape[axis] != 1]
        if moved == sorted(moved):
            return self.reshape(tensor, shape, output)
        if len(shape) > TRANSPOSE_RANK:
            raise UnsupportedError(f"a transpose at rank {len(shape)}")
        if output is None:
            output = self.temporary(f"{tensor.name}/transpose", shape, tensor.dtype, tensor.quantization)
        order = self.constant(np.asarray(permutation, np.int32), "permutation")
        version = TRANSPOSE_VERSIONS.get(len(shape), 3 if tensor.dtype == "bool" else 1)
        self.emit(BuiltinOperator.TRANSPOSE, [tensor, order], [output], TransposeOptionsT(), version)
        return output

    def _permute(self, tensor: Tensor, source: Layout, target: Layout, shape: tuple[int, ...]) -> Tensor:
        if source.flat is not None:
            channels, *spatial = source.flat
            parts = self.reshape(tensor, (shape[0], *spatial, channels))
            rank = len(parts.shape)
            plain = self.reshape(self.transpose(parts, (0, rank - 1, *range(1, rank - 1))), shape)
            return self._permute(plain, PLAIN, target, shape)
        if target.flat is not None:
            if shape[-1] == 1:
                return tensor
            parts = self.reshape(tensor, (shape[0], *target.flat))
            return self.reshape(self.transpose(parts, (0, *range(2, len(parts.shape)), 1)), shape)
        from_axes, to_axes = source.permutation(len(shape)), target.permutation(len(shape))
        return self.transpose(tensor, [from_axes.index(axis) for axis in to_axes])


def _is_correction(value: ir.Value) -> bool:
    """True where a constant is combined with a binary convolution's result: what padding with +1 must be corrected by
    belongs to that layer, which is exact.
    """
    operands = (operand for node, _ in value.uses() for operand in node.inputs if operand is not None)
    producers = (operand.producer() for operand in operands)
    return any(producer is not None and producer.domain == ops.DOMAIN for producer in producers)


def _narrow(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """int64 and float64 constants as int32 and float32, as `LoweringContext.dtype` does for activations."""
    if array.dtype == np.int64:
        return np.clip(array, np.iinfo(np.int32).min, np.iinfo(np.int32).max).astype(np.int32)
    if array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype.name not in TENSOR_TYPES:
        raise UnsupportedError(f"a constant of type {array.dtype}")
    return array
