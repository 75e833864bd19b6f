import numpy as np
import pytest

from bnncc.passes.shrink_constants import ShrinkConstants
from tests.passes.helpers import Array, array_of, build, check_pass, node_of, normal

X = "float[2, 3, 5, 4] x"


def full(array: Array) -> Array:
    return np.ascontiguousarray(np.broadcast_to(array, (1, 3, 5, 4)))


@pytest.mark.parametrize(
    "node", ["Add (x, c)", "Add (c, x)", "Sub (c, x)", "Mul (x, c)", "Div (x, c)", "Max (x, c)", "PRelu (x, c)"]
)
def test_a_full_size_shift_becomes_one_value_a_channel(node: str) -> None:
    shift = normal(1, 3, 1, 1)
    model = check_pass(build(f"y = {node}", X, c=full(shift)), ShrinkConstants())
    (small,) = (
        value for value in next(iter(model.graph)).inputs if value is not None and value.const_value is not None
    )
    np.testing.assert_array_equal(array_of(small), shift)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 1, 1, 4), (1, 1, 1, 4)),
        ((1, 1, 5, 1), (1, 1, 5, 1)),
        ((1, 1, 1, 1), (1, 1, 1, 1)),
        ((1, 3, 5, 1), (1, 3, 5, 1)),
    ],
)
def test_only_axes_along_which_nothing_varies_shrink(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    model = check_pass(build("y = Mul (x, c)", X, c=full(normal(*shape))), ShrinkConstants())
    assert array_of(node_of(model, "Mul").inputs[1]).shape == expected


def test_a_constant_that_varies_everywhere_stays() -> None:
    check_pass(build("y = Mul (x, c)", X, c=normal(1, 3, 5, 4)), ShrinkConstants(), modified=False)


def test_a_constant_that_gives_the_result_its_shape_stays() -> None:
    model = build("y = Mul (x, c)", "float[2, 3, 1, 1] x", c=full(normal(1, 3, 1, 1)))
    check_pass(model, ShrinkConstants(), modified=False)
    rank = build("y = Mul (x, c)", "float[5, 4] x", c=np.ones((1, 3, 1, 1), np.float32))
    check_pass(rank, ShrinkConstants(), modified=False)


def test_a_shape_that_another_operand_gives_allows_shrinking() -> None:
    body = "k = Greater (x, z)\ny = Where (k, c, x)"
    model = build(body, X, z=full(normal(1, 3, 1, 1)), c=full(normal(1, 1, 1, 1, seed=5)))
    check_pass(model, ShrinkConstants())
    assert array_of(node_of(model, "Where").inputs[1]).shape == (1, 1, 1, 1)
    assert array_of(node_of(model, "Greater").inputs[1]).shape == (1, 3, 1, 1)


def test_a_constant_shared_with_another_reader_keeps_its_size_there() -> None:
    shift = full(normal(1, 3, 1, 1))
    model = check_pass(build("a = Add (x, c)\nb = ReduceSum (c)\ny = Mul (a, b)", X, c=shift), ShrinkConstants())
    assert array_of(node_of(model, "ReduceSum").inputs[0]).shape == shift.shape
