import pytest

from tests.targets.tflite.compare import assert_same, node_model


@pytest.mark.parametrize("kind", ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
@pytest.mark.parametrize("dtype", ["float", "int32", "int64"])
def test_comparison(kind, dtype):
    assert_same(node_model(f"y = {kind}(x, z)", f"{dtype}[2, 3, 5, 7] x, {dtype}[3, 1, 1] z"))


@pytest.mark.parametrize("kind", ["And", "Or", "Xor", "Equal"])
def test_logic(kind):
    assert_same(node_model(f"y = {kind}(x, z)", "bool[2, 3, 5, 7] x, bool[3, 1, 1] z"))
    assert_same(node_model(f"y = {kind}(x, z)", "bool[2, 3, 2, 2, 2] x, bool[3, 1, 1, 1] z"))


def test_not():
    assert_same(node_model("y = Not(x)", "bool[2, 3, 5, 7] x"))


@pytest.mark.parametrize("condition", ["3, 1, 1", "2, 3, 5, 7", "1"])
@pytest.mark.parametrize("other", ["7", "2, 3, 5, 7"])
def test_where(condition, other):
    assert_same(node_model("y = Where(c, x, z)", f"bool[{condition}] c, float[2, 3, 5, 7] x, float[{other}] z"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("float", 6),
        ("float", 9),
        ("float", 7),
        ("float", 2),
        ("float", 3),
        ("int32", 1),
        ("int32", 9),
        ("bool", 1),
        ("bool", 7),
        ("int64", 1),
        ("int64", 6),
    ],
)
def test_cast(before, after):
    assert_same(node_model(f"y = Cast<to={after}>(x)", f"{before}[2, 3, 5, 7] x"))


def test_a_sign_spelt_with_where_and_one_with_cast():
    body = "z = Constant<value_float=0.0>() p = Constant<value_float=1.0>() n = Constant<value_float=-1.0>() "
    assert_same(node_model(body + "c = GreaterOrEqual(x, z) y = Where(c, p, n)", "float[2, 3, 5, 7] x"))
    assert_same(
        node_model(body + "c = Greater(x, z) f = Cast<to=1>(c) d = Add(f, f) y = Add(d, n)", "float[2, 3, 5, 7] x")
    )
