from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.ir.geometry import Scheme, common_scheme
from bnncc.ir.graph import MIRRORED_KEY
from bnncc.passes.mirror_frame import MirrorFrame
from bnncc.passes.windows import is_windowed, windows_of
from tests.passes.helpers import (
    OPSET,
    Array,
    assert_same,
    assert_sources_kept,
    build,
    check_pass,
    draw,
    finish,
    normal,
    operators,
    run_model,
    run_proto,
    signs,
)

BATCH = 2


def is_slice(node: ir.Node) -> bool:
    """The rotations at inputs and outputs come from no node of the user's."""
    return node.op_type == "Slice"


def rotated(
    body: str, inputs: str, outputs: str = "y", *, modified: bool = True, **constants: Array | float
) -> ir.Model:
    return check_pass(
        build(body, inputs, outputs, **constants), MirrorFrame(), modified=modified, without_source=is_slice
    )


class Network:
    """A random network that grows node by node; each is tried before the next one, and left out where ONNX Runtime does
    not take it or computes another shape than onnx infers, as it does for some pools and resizes.
    """

    def __init__(self, data: st.DataObject, size: tuple[int, int]) -> None:
        self.data = data
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {"x": (BATCH, 4, *size), "x2": (BATCH, 4, *size)}
        self.value = "x"
        self.maps = ["x", "x2"]
        self.outputs: list[str] = []

    def pick(self, strategy: st.SearchStrategy[int]) -> int:
        return self.data.draw(strategy)

    def constant(self, array: Array) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        self.shapes[name] = array.shape
        return name

    def weights(self, *shape: int) -> Array:
        return normal(*shape, seed=len(self.constants))

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def add(self, operator: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: object) -> list[str]:
        names = [f"v{len(self.nodes)}_{index}" for index in range(outputs)]
        node = onnx.helper.make_node(operator, list(inputs), names, domain=domain, **attributes)
        self.nodes.append(node)
        return names

    def infer(self, names: list[str]) -> bool:
        """Learn the shapes of the last node's outputs; False where the node is no good."""
        node = self.nodes[-1]
        if node.domain:
            return True
        inputs = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, self.shapes[name])
            for name in dict.fromkeys(node.input)
            if name in self.shapes and all(name != constant.name for constant in self.constants)
        ]
        needed = [constant for constant in self.constants if constant.name in node.input]
        graph = onnx.helper.make_graph([node], "g", inputs, [], needed)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=10)
        feeds = {value.name: np.zeros(self.shapes[value.name], np.float32) for value in inputs}
        try:
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.output
            computed = run_proto(model, feeds)
        except Exception as error:
            if (
                not isinstance(error, onnx.shape_inference.InferenceError)
                and "onnxruntime" not in type(error).__module__
            ):
                raise
            return False
        for value in inferred:
            self.shapes[value.name] = tuple(entry.dim_value for entry in value.type.tensor_type.shape.dim)
            if self.shapes[value.name] != computed[value.name].shape:
                return False
        return all(min(self.shapes[name]) > 0 for name in names)

    def follow(self, names: list[str], keep: int = 0) -> None:
        """Go on from the last node's output, unless its shape is impossible or too large."""
        if not self.infer(names) or np.prod(self.shapes[names[keep]]) > 6000:
            self.nodes.pop()
            return
        self.value = names[keep]
        self.maps.append(self.value)

    def grow(self) -> None:
        steps = [
            self.convolution, self.convolution, self.binary_convolution, self.pool, self.pool, self.strided_slice,
            self.pad, self.concat, self.split, self.spatial_constant, self.pointwise, self.reduction, self.resize,
            self.upright_operator, self.residual, self.gate, self.output_here,
        ]  # fmt: skip
        steps[self.pick(st.integers(0, len(steps) - 1))]()

    def shape(self) -> tuple[int, int, int, int]:
        batch, channels, height, width = self.shapes[self.value]
        return batch, channels, height, width

    def geometry(self, largest_kernel: int) -> dict[str, list[int]]:
        kernel = [self.pick(st.integers(1, largest_kernel)) for _ in range(2)]
        return {
            "kernel_shape": kernel,
            "strides": [self.pick(st.integers(1, 3)) for _ in range(2)],
            "dilations": [self.pick(st.sampled_from([1, 1, 2])) for _ in range(2)],
            "pads": [self.pick(st.integers(0, kernel[index % 2] - 1)) for index in range(4)],
        }

    def fitting(self, geometry: dict[str, list[int]]) -> list[int]:
        """How many windows fit along the height and the width; ONNX Runtime takes no convolution without one."""
        _, _, *size = self.shape()
        pads, strides = geometry["pads"], geometry["strides"]
        extents = [(k - 1) * d + 1 for k, d in zip(geometry["kernel_shape"], geometry["dilations"], strict=True)]
        return [(size[axis] + pads[axis] + pads[axis + 2] - extents[axis]) // strides[axis] + 1 for axis in (0, 1)]

    def convolution(self) -> None:
        geometry = self.geometry(7)
        if min(self.fitting(geometry)) < 1:
            return
        weight = self.constant(self.weights(4, self.shape()[1], *geometry["kernel_shape"]))
        self.follow(self.add("Conv", self.value, weight, self.constant(self.weights(4)), **geometry))

    def binary_convolution(self) -> None:
        channels = self.shape()[1]
        geometry = self.geometry(5)
        outputs = self.fitting(geometry)
        if min(outputs) < 1:
            return
        self.value = self.add("Sign", self.value, domain="bnncc")[0]
        weight = self.constant(signs(4, channels, *geometry.pop("kernel_shape"), seed=len(self.constants)))
        multiplier, bias = self.constant(self.weights(4)), self.constant(self.weights(4))
        pad_value = float(self.pick(st.integers(0, 1)))
        (name,) = self.add(
            "BinaryConv", self.value, weight, multiplier, bias, domain="bnncc", group=1, pad_value=pad_value, **geometry
        )
        self.shapes[name] = (BATCH, 4, outputs[0], outputs[1])
        self.value = name
        self.maps.append(name)

    def pool(self) -> None:
        geometry = self.geometry(3)
        ceil = self.pick(st.integers(0, 1))
        if self.pick(st.integers(0, 1)):
            self.follow(self.add("MaxPool", self.value, ceil_mode=ceil, **geometry))
        else:
            del geometry["dilations"]
            count = self.pick(st.integers(0, 1))
            self.follow(self.add("AveragePool", self.value, ceil_mode=ceil, count_include_pad=count, **geometry))

    def strided_slice(self) -> None:
        _, channels, height, width = self.shape()
        starts = [self.pick(st.integers(-size, size - 1)) for size in (height, width)]
        ends = [self.pick(st.sampled_from([size, 2**62, size - 1, -1])) for size in (height, width)]
        steps = [self.pick(st.integers(1, 3)) for _ in range(2)]
        operands = [self.ints(0, *starts), self.ints(channels, *ends), self.ints(1, 2, -1), self.ints(1, *steps)]
        self.follow(self.add("Slice", self.value, *operands))

    def pad(self) -> None:
        _, _, height, width = self.shape()
        mode = self.data.draw(st.sampled_from(["constant", "reflect", "edge"]))
        most = min(height, width) - 1 if mode == "reflect" else 2
        amounts = [self.pick(st.integers(0, min(most, 2))) for _ in range(4)]
        if mode == "constant":
            operands = [self.ints(*amounts), self.constant(np.float32(0.5)), self.ints(-2, 3)]
        else:
            operands = [self.ints(0, 0, *amounts[:2], 0, 0, *amounts[2:])]
        self.follow(self.add("Pad", self.value, *operands, mode=mode))

    def same_shape(self) -> str:
        """An earlier value of the same shape, or the value itself."""
        others = [name for name in self.maps if self.shapes.get(name) == self.shapes[self.value]]
        return others[self.pick(st.integers(0, len(others) - 1))]

    def concat(self) -> None:
        _, _, height, width = self.shape()
        constant = self.constant(self.weights(BATCH, 1, height, width))
        axis = self.pick(st.sampled_from([1, -3]))
        self.follow(self.add("Concat", self.value, self.same_shape(), constant, axis=axis))

    def split(self) -> None:
        if self.shape()[1] > 1:
            lengths = self.ints(1, self.shape()[1] - 1)
            self.follow(self.add("Split", self.value, lengths, outputs=2, axis=1), keep=self.pick(st.integers(0, 1)))

    def spatial_constant(self) -> None:
        _, channels, height, width = self.shape()
        full = (1, channels, height, width)
        shapes = [full, full[1:], full[2:], full[3:], (height, 1), (channels, 1, 1)]
        shape = shapes[self.pick(st.integers(0, len(shapes) - 1))]
        operator = self.data.draw(st.sampled_from(["Add", "Mul", "Sub", "PRelu"]))
        self.follow(self.add(operator, self.value, self.constant(self.weights(*shape))))

    def pointwise(self) -> None:
        known = ["Relu", "Tanh", "Sign", "BatchNormalization", "Clip", "Softmax", "Where"]
        operator = self.data.draw(st.sampled_from(known))
        channels = self.shape()[1]
        if operator == "BatchNormalization":
            parameters = [self.constant(self.weights(channels)) for _ in range(3)]
            variance = self.constant(np.abs(self.weights(channels)) + np.float32(0.2))
            self.follow(self.add(operator, self.value, *parameters, variance))
        elif operator == "Clip":
            self.follow(self.add(operator, self.value, self.constant(np.float32(-0.7)), self.constant(np.float32(1.2))))
        elif operator == "Softmax":
            self.follow(self.add(operator, self.value, axis=self.pick(st.sampled_from([1, -3, -1, 2]))))
        elif operator == "Where":
            _, _, height, width = self.shape()
            mask = self.constant(self.weights(height, width) > 0)
            self.follow(self.add(operator, mask, self.value, self.constant(self.weights(channels, 1, 1))))
        else:
            self.follow(self.add(operator, self.value))

    def reduction(self) -> None:
        axes = self.data.draw(st.sampled_from([(1,), (2,), (-1,), (2, 3), (1, 2, 3), (-3, -1)]))
        operator = self.data.draw(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceSum"]))
        names = self.add(operator, self.value, self.ints(*axes), keepdims=1)
        if self.infer(names) and self.pick(st.integers(0, 1)):
            self.follow(self.add("Add", self.value, names[0]))
        elif names[0] in self.shapes:
            self.follow(names)
        else:
            self.nodes.pop()

    def resize(self) -> None:
        _, _, height, width = self.shape()
        mode, transform, nearest = self.data.draw(
            st.sampled_from(
                [
                    ("nearest", "asymmetric", "floor"),
                    ("nearest", "half_pixel", "round_prefer_floor"),
                    ("nearest", "half_pixel", "round_prefer_ceil"),
                    ("nearest", "align_corners", "floor"),
                    ("linear", "half_pixel", "floor"),
                    ("linear", "pytorch_half_pixel", "floor"),
                    ("linear", "align_corners", "floor"),
                    ("linear", "asymmetric", "floor"),
                ]
            )
        )
        attributes = {"mode": mode, "coordinate_transformation_mode": transform, "nearest_mode": nearest}
        if self.pick(st.integers(0, 1)):
            factor = self.data.draw(st.sampled_from([2.0, 1.5, 3.0, 0.5, 2.4]))
            scales = self.constant(np.array([1, 1, factor, factor], np.float32))
            self.follow(self.add("Resize", self.value, "", scales, **attributes))
        else:
            sizes = [self.pick(st.sampled_from([size, 2 * size, 3 * size, size + 1, 1])) for size in (height, width)]
            self.follow(self.add("Resize", self.value, "", "", self.ints(BATCH, self.shape()[1], *sizes), **attributes))

    def upright_operator(self) -> None:
        batch, channels, height, width = self.shape()
        which = self.pick(st.integers(0, 3))
        if which == 0:
            self.follow(self.add("Transpose", self.value, perm=[0, 1, 3, 2]))
        elif which == 1:
            self.follow(self.add("Reshape", self.value, self.ints(batch, channels * height, width, 1)))
        elif which == 2 and channels % 4 == 0:
            self.follow(self.add("DepthToSpace", self.value, blocksize=2))
        elif which == 3:
            self.follow(self.add("MatMul", self.value, self.constant(self.weights(width, width))))

    def residual(self) -> None:
        self.follow(self.add("Add", self.same_shape(), self.value))

    def gate(self) -> None:
        """Squeeze-excite: a global pool, multiplied onto the map."""
        (pooled,) = self.add("GlobalAveragePool", self.value)
        self.follow(self.add("Mul", self.value, pooled)) if self.infer([pooled]) else self.nodes.pop()

    def output_here(self) -> None:
        if self.value not in ("x", "x2") and self.value not in self.outputs:
            self.outputs.append(self.value)

    def finish(self) -> ir.Model:
        ending = self.pick(st.integers(0, 3))
        if ending == 0:
            self.add("GlobalAveragePool", self.value)
        elif ending == 1:
            names = self.add("Flatten", self.value)
            if self.infer(names):
                self.add("MatMul", names[0], self.constant(self.weights(self.shapes[names[0]][1], 3)))
        elif ending == 2:
            self.add("ReduceMean", self.value, self.ints(2, 3), keepdims=0)
        else:
            self.add("Relu", self.value)
        outputs = [*self.outputs, self.nodes[-1].output[0]]
        shape = self.shapes["x"]
        inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "x2")]
        graph = onnx.helper.make_graph(self.nodes, "g", inputs, [], self.constants)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        imports = [onnx.helper.make_opsetid("", OPSET)]
        return finish(onnx.helper.make_model(graph, opset_imports=imports, ir_version=10))


@settings(max_examples=250)
@given(data=st.data())
def test_a_random_network_computes_the_same_in_the_mirrored_frame(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([(7, 9), (8, 8), (6, 5), (2, 2), (1, 1), (1, 4), (9, 6)]))
    network = Network(data, size)
    for _ in range(data.draw(st.integers(1, 8))):
        network.grow()
    model = network.finish()
    before = model.clone()
    MirrorFrame()(model)
    assert_same(before, model, tolerance=1e-3, force_jumps=True)
    assert_sources_kept(before, model, is_slice)
    assert not MirrorFrame()(model).modified


@pytest.mark.parametrize("size", [32, 30, 33])
def test_reactnets_stride_2_convolutions_become_same(size: int) -> None:
    """Stem, binary 3x3 at stride 2, average-pool shortcut: SAME or VALID everywhere, and one Slice."""
    body = """
    a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w0)
    s = bnncc.Sign (a)
    c = bnncc.BinaryConv <strides = [2, 2], dilations = [1, 1], group = 1, pads = [1, 1, 1, 1], pad_value = 0.0>
        (s, w1, m, m)
    p = AveragePool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (a)
    r = Add (c, p)
    t = bnncc.Sign (r)
    d = bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = 1, pads = [1, 1, 1, 1], pad_value = 0.0>
        (t, w2, m, m)
    g = GlobalAveragePool (d)
    y = Flatten (g)"""
    constants = {"w0": normal(4, 3, 3, 3), "w1": signs(4, 4, 3, 3), "w2": signs(4, 4, 3, 3, seed=2), "m": normal(4)}
    model = rotated(body, f"float[1, 3, {size}, {size}] x", **constants)
    assert operators(model)["Slice"] == 1
    schemes = {}
    for node in model.graph:
        if is_windowed(node):
            windows = windows_of(node)
            assert windows is not None
            schemes[node.outputs[0].name] = common_scheme(windows)
    if size % 4 == 0:
        assert schemes == {"a": Scheme.SAME, "c": Scheme.SAME, "p": Scheme.VALID, "d": Scheme.SAME}
    else:
        # On an odd map the pool's last window is half outside, in front in the mirrored frame.
        assert Scheme.EXPLICIT not in {scheme for name, scheme in schemes.items() if name != "p"}


def test_rotated_values_keep_their_names_and_are_marked() -> None:
    body = """
    c = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)
    r = Relu (c)
    g = GlobalAveragePool (r)
    y = Flatten (g)"""
    model = rotated(body, "float[1, 3, 8, 8] x", w=normal(4, 3, 3, 3))
    marked = {v.name for node in model.graph for v in node.outputs if MIRRORED_KEY in v.metadata_props}
    assert marked == {"x/mirrored", "c", "r"}


def test_a_map_that_is_flattened_is_turned_back() -> None:
    body = "c = Conv (x, w)\nf = Flatten (c)\ny = MatMul (f, v)"
    model = rotated(body, "float[1, 3, 4, 5] x", w=normal(2, 3, 2, 2), v=normal(24, 3))
    assert operators(model)["Slice"] == 2


def test_a_value_turned_back_for_two_readers_is_turned_once() -> None:
    body = "c = Conv (x, w)\na = Transpose <perm = [0, 1, 3, 2]> (c)\nb = Flatten (c)\ny = Relu (c)\nz = Relu (a)"
    model = rotated(body, "float[1, 3, 4, 5] x", "y, z, b, c", w=normal(2, 3, 2, 2))
    # x, c for its two readers and as an output, the output y; the transposed one is upright.
    assert operators(model)["Slice"] == 3


def test_a_mark_is_set_on_nothing_that_is_upright() -> None:
    body = "a = Transpose <perm = [0, 1, 3, 2]> (x)\nb = Relu (a)\ny = Flatten (b)"
    model = rotated(body, "float[1, 3, 4, 5] x")
    marked = {v.name for node in model.graph for v in node.outputs if MIRRORED_KEY in v.metadata_props}
    assert marked == {"x/mirrored"}


def test_maps_of_one_position_and_other_ranks_are_left() -> None:
    rotated("y = Relu (x)", "float[1, 3, 1, 1] x", modified=False)
    rotated("y = Relu (x)", "float[3, 5] x", modified=False)
    rotated("y = Conv <pads = [1, 1]> (x, w)", "float[1, 3, 5] x", modified=False, w=normal(2, 3, 3))


@pytest.mark.parametrize("pads", [[1, 0, 0, 0], [0, 0, 1, 0]])
def test_a_1x1_convolution_that_is_padded_along_one_axis_and_skips_along_the_other(pads: list[int]) -> None:
    body = f"y = Conv <strides = [2, 2], pads = {pads}> (x, w)"
    rotated(body, "float[1, 3, 4, 4] x", w=normal(2, 3, 1, 1))


def test_a_convolution_whose_weights_are_an_input_stays_upright() -> None:
    body = "y = Conv <strides = [2, 2], pads = [1, 0, 0, 2]> (x, w)"
    model = rotated(body, "float[1, 3, 6, 6] x, float[4, 3, 3, 3] w")
    feeds = draw(model)
    assert run_model(model, feeds)["y"].shape == (1, 4, 3, 3)


def test_the_indices_of_a_max_pool_stay_those_of_the_upright_map() -> None:
    rotated("r = Tanh (x)\ny, z = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)", "float[1, 2, 6, 6] x", "y, z")


@pytest.mark.parametrize("count_include_pad", [0, 1])
@pytest.mark.parametrize("size", [5, 6, 7, 8])
def test_average_pools_in_ceil_mode(size: int, count_include_pad: int) -> None:
    """Windows that reach beyond the padding are divided by the part that lies within."""
    window = "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]"
    attributes = f"{window}, ceil_mode = 1, count_include_pad = {count_include_pad}"
    rotated(f"r = Relu (x)\ny = AveragePool <{attributes}> (r)", f"float[1, 2, {size}, {size}] x")


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_a_pool_in_ceil_mode_whose_last_window_lies_behind_the_data(operator: str) -> None:
    attributes = "kernel_shape = [2, 1], strides = [2, 1], pads = [1, 0, 1, 0], ceil_mode = 1"
    rotated(f"r = Relu (x)\ny = {operator} <{attributes}> (r)", "float[1, 2, 1, 4] x")
    rotated(f"r = Relu (x)\ny = {operator} <{attributes}> (r)", "float[1, 2, 3, 4] x")


@pytest.mark.parametrize("factor", [1.5, 2.4, 0.5])
@pytest.mark.parametrize(
    "attributes",
    [
        'mode = "linear"',
        'mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"',
        'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"',
    ],
)
def test_a_resize_by_a_factor_that_does_not_divide(attributes: str, factor: float) -> None:
    """The factor, not the ratio of the sizes, places the samples: on 5 positions 1.5 is not symmetric."""
    scales = np.array([1, 1, factor, factor], np.float32)
    rotated(f"r = Relu (x)\ny = Resize <{attributes}> (r, , scales)", "float[1, 2, 5, 2] x", scales=scales)
