import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.targets.tflite.compare import assert_same, node_model, normal, operators

X = "float[2, 6, 4, 9] x"


def ints(*numbers):
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    "target",
    [
        (2, 216),
        (12, 36),
        (2, 6, 36),
        (2, 24, 9),
        (9, 4, 6, 2),
        (432,),
        (2, 2, 3, 4, 9),
        (1, 2, 6, 4, 9),
        (2, 6, 4, 3, 3),
    ],
)
def test_reshape(target):
    assert_same(node_model("y = Reshape(x, s)", X, constants={"s": ints(*target)}))


@given(data=st.data())
@settings(max_examples=60)
def test_any_reshapes_and_transposes(data):
    """A random chain of Reshape and Transpose on the factors of 48: the layouts must not lose track."""

    def shape(rank):
        sizes = [1] * rank
        for factor in (2, 2, 2, 2, 3):
            sizes[data.draw(st.integers(0, rank - 1))] *= factor
        return sizes

    first = shape(4)
    body, constants, name, rank = [], {}, "x", 4
    for step in range(data.draw(st.integers(1, 4))):
        output = f"v{step}"
        if data.draw(st.booleans()):
            rank = data.draw(st.integers(1, 5))
            constants[f"s{step}"] = ints(*shape(rank))
            body.append(f"{output} = Reshape({name}, s{step})")
        else:
            permutation = data.draw(st.permutations(range(rank)))
            body.append(f"{output} = Transpose<perm={list(permutation)}>({name})")
        name = output
    body.append(f"y = Relu({name})")
    assert_same(node_model(" ".join(body), f"float{first} x", constants=constants))


@pytest.mark.parametrize(
    ("node", "dims"),
    [("Flatten(x)", "2, 6, 1, 1"), ("Squeeze(x, a)", "2, 6, 1, 1"), ("Reshape(x, s)", "2, 6, 1, 1")],
)
def test_dropping_axes_of_size_one_moves_nothing(node, dims):
    constants = {"a": ints(2, 3), "s": ints(2, 6), "w": normal(6, 3)}
    content = assert_same(node_model(f"f = {node} y = MatMul(f, w)", f"float[{dims}] x", constants=constants))
    assert set(operators(content)) <= {"RESHAPE", "FULLY_CONNECTED"}


def test_unsqueeze_and_squeeze():
    assert_same(node_model("y = Unsqueeze(x, a)", "float[2, 6] x", constants={"a": ints(2, 3)}))
    assert_same(node_model("y = Unsqueeze(x, a)", X, constants={"a": ints(0, -1)}))
    assert_same(node_model("y = Squeeze(x)", "float[1, 6, 1, 9] x"))


def test_unflatten_of_a_flattened_map_moves_nothing():
    body = "f = Flatten(x) r = Relu(f) y = Reshape(r, s)"
    content = assert_same(node_model(body, X, constants={"s": ints(2, 6, 4, 9)}))
    assert operators(content)["TRANSPOSE"] == 0


def test_a_flattened_map_meets_a_plain_vector():
    assert_same(node_model("f = Flatten(x) y = Add(f, z)", f"{X}, float[216] z"))
    assert_same(node_model("f = Flatten(x) y = Add(f, z)", f"{X}, float[2, 216] z"))
    assert_same(node_model("f = Flatten(x) y = Concat<axis=1>(f, z)", f"{X}, float[2, 3] z"))


@pytest.mark.parametrize("permutation", ["0,2,3,1", "0,3,1,2", "0,1,3,2", "3,2,1,0", "1,0,2,3", "0,1,2,3"])
def test_transpose(permutation):
    assert_same(node_model(f"y = Transpose<perm=[{permutation}]>(x)", X))
    assert_same(node_model(f"t = Transpose<perm=[{permutation}]>(x) y = Softmax(t)", X))


def test_transpose_without_perm():
    assert_same(node_model("y = Transpose(x)", X))


def test_channels_last_linear_moves_nothing():
    """ConvNeXt's spelling: permute, Linear, permute back."""
    body = "t = Transpose<perm=[0, 2, 3, 1]>(x) l = MatMul(t, w) y = Transpose<perm=[0, 3, 1, 2]>(l)"
    content = assert_same(node_model(body, X, constants={"w": normal(6, 5)}))
    assert operators(content) == {"FULLY_CONNECTED": 1}


def test_channel_shuffle_is_one_transpose():
    body = "a = Reshape(x, s) b = Transpose<perm=[0, 2, 1, 3, 4]>(a) y = Reshape(b, t)"
    content = assert_same(node_model(body, X, constants={"s": ints(2, 2, 3, 4, 9), "t": ints(2, 6, 4, 9)}))
    assert operators(content) == {"RESHAPE": 2, "TRANSPOSE": 1}


def test_pixel_unshuffle_is_one_transpose():
    body = "a = Reshape(x, s) b = Transpose<perm=[0, 1, 3, 5, 2, 4]>(a) y = Reshape(b, t)"
    constants = {"s": ints(2, 6, 2, 2, 3, 3), "t": ints(2, 36, 2, 3)}
    assert operators(assert_same(node_model(body, X, constants=constants)))["TRANSPOSE"] == 1


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_concat(axis):
    content = assert_same(node_model(f"y = Concat<axis={axis}>(x, x, c)", X, constants={"c": normal(2, 6, 4, 9)}))
    assert operators(content) == {"CONCATENATION": 1}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_split(axis):
    size = (2, 6, 4)[axis]
    equal = {"s": ints(size // 2, size // 2)}
    assert_same(node_model(f"y, z = Split<axis={axis}>(x, s)", X, constants=equal, outputs="y z"))
    uneven = {"s": ints(1, size - 1)}
    assert_same(node_model(f"y, z = Split<axis={axis}>(x, s)", X, constants=uneven, outputs="y z"))


def test_split_of_integers():
    body = "y, z = Split<axis=1, num_outputs=2>(x)"
    assert_same(node_model(body, "int32[2, 6] x", outputs="y z"))


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ((1,), (3,), (1,), (1,)),
        ((0, 0), (1000, 1000), (2, 3), (2, 2)),
        ((-3, 1), (-1, 1000), (3, 2), (1, 2)),
        ((-1, 5), (-1000, 1), (0, 3), (-1, -1)),
        ((-1, 2), (-1000, 1000), (1, 3), (-2, 1)),
        ((0,), (-1,), (1,), (1,)),
    ],
)
def test_slice(starts, ends, axes, steps):
    constants = {"s": ints(*starts), "e": ints(*ends), "a": ints(*axes), "k": ints(*steps)}
    assert operators(assert_same(node_model("y = Slice(x, s, e, a, k)", X, constants=constants))) == {
        "STRIDED_SLICE": 1
    }


@pytest.mark.parametrize(("axes", "count"), [((2, 3), 2), ((1,), 1), ((1, 2, 3), 3), ((0, 2), 2), ((1, 2), 2)])
def test_slice_of_whole_axes_backwards_is_a_reverse(axes, count):
    number = len(axes)
    constants = {
        "s": ints(*[-1] * number),
        "e": ints(*[-(2**31)] * number),
        "a": ints(*axes),
        "k": ints(*[-1] * number),
    }
    content = assert_same(node_model("y = Slice(x, s, e, a, k)", X, constants=constants))
    assert operators(content) == {"REVERSE_V2": count}


def test_slice_of_everything_is_nothing():
    constants = {"s": ints(0), "e": ints(2**31), "a": ints(2)}
    assert operators(assert_same(node_model("y = Slice(x, s, e, a)", X, constants=constants))) == {}


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(0, 0, 1, 2, 0, 0, 3, 1), (0, 1, 0, 0, 1, 0, 0, 0), (0, 0, -1, 2, 0, 0, 0, -3)])
def test_pad(mode, pads):
    body = f'y = Pad<mode="{mode}">(x, p)'
    assert_same(node_model(body, X, constants={"p": ints(*pads)}, opset=19))


def test_pad_with_a_value_on_some_axes():
    constants = {"p": ints(1, 2), "v": np.float32(-1.5), "a": ints(-1)}
    assert operators(assert_same(node_model("y = Pad(x, p, v, a)", X, constants=constants))) == {"PADV2": 1}
    constants = {"p": ints(0, 0, 0, 0, -1, 0, -2, 0)}
    assert operators(assert_same(node_model("y = Pad(x, p)", X, constants=constants))) == {"STRIDED_SLICE": 1}


def test_tile_and_expand():
    assert_same(node_model("y = Tile(x, r)", X, constants={"r": ints(1, 2, 3, 1)}))
    for dims in ("2, 6, 1, 1", "6, 1, 1", "9", "1", "2, 6, 4, 9"):
        assert_same(node_model("y = Expand(x, r)", f"float[{dims}] x", constants={"r": ints(2, 6, 4, 9)}))


@pytest.mark.parametrize("axis", [0, 1, 3])
@pytest.mark.parametrize("index", [ints(1, -1, 0, 0), np.array(-1), ints(1, -1, 0, 0).reshape(2, 2)])
def test_gather(axis, index):
    assert_same(node_model(f"y = Gather<axis={axis}>(x, i)", X, constants={"i": index}))


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_gather_with_a_computed_index_counts_from_either_end(axis):
    model = node_model(f"y = Gather<axis={axis}>(x, i)", f"{X}, int64[4] i")
    size = (2, 6, 4, 9)[axis]
    content = assert_same(model, inputs=[normal(2, 6, 4, 9), ints(0, size - 1, -1, -size)])
    assert operators(content)["SELECT_V2"] == 1


def test_a_position_of_a_largest_element_needs_no_test_for_its_sign():
    body = "i = ArgMax<axis=1, keepdims=0>(x) y = Gather(w, i)"
    content = assert_same(node_model(body, "float[2, 6] x", constants={"w": normal(6, 5)}))
    assert operators(content) == {"ARG_MAX": 1, "GATHER": 1}


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode):
    assert_same(node_model(f'y = DepthToSpace<blocksize=2, mode="{mode}">(x)', "float[2, 12, 3, 5] x"))


def test_space_to_depth():
    assert operators(assert_same(node_model("y = SpaceToDepth<blocksize=2>(x)", "float[2, 3, 4, 6] x"))) == {
        "SPACE_TO_DEPTH": 1
    }
