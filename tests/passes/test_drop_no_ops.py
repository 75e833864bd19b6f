import numpy as np
import pytest

from bnncc.passes.drop_no_ops import DropNoOps
from tests.passes.helpers import build, check_pass, operators

X = "float[2, 3, 5, 4] x"


@pytest.mark.parametrize(
    "node",
    [
        "m = Identity (r)",
        "m = Dropout (r)",
        "m = Dropout (r, ratio)",
        "m = Dropout (r, ratio, inference)",
        "m = Cast <to = 1> (r)",
        "m = CastLike (r, x)",
        "m = Expand (r, shape)",
        "m = Expand (r, ones)",
        "m = Reshape (r, shape)",
        "m = Reshape (r, inferred)",
        "f = Flatten (r)\nm = Reshape (f, shape)",
        "m = Transpose <perm = [0, 1, 2, 3]> (r)",
        "m = Pad (r, nothing)",
        "m = Concat <axis = 1> (r)",
        "m = Concat <axis = 1> (empty, r, empty)",
    ],
)
def test_what_hands_its_input_on_is_removed(node: str) -> None:
    model = build(
        f"r = Tanh (x)\n{node}\ny = Relu (m)",
        X,
        ratio=0.5,
        inference=np.array(False),
        shape=np.array([2, 3, 5, 4]),
        ones=np.array([1, 1]),
        inferred=np.array([0, -1, 5, 4]),
        nothing=np.zeros(8, np.int64),
        empty=np.zeros((2, 0, 5, 4), np.float32),
    )
    assert operators(check_pass(model, DropNoOps())) == {"Tanh": 1, "Relu": 1}


@pytest.mark.parametrize(
    "node",
    [
        "m = Reshape (r, other)",
        "m = Transpose <perm = [0, 1, 3, 2]> (r)",
        "m = Transpose (r)",
        "m = Pad (r, one)",
        "m = Pad (r, crop)",
        "m = Concat <axis = 1> (r, r)",
        "m = Expand (r, more)",
        "h = Cast <to = 10> (r)\nm = Cast <to = 1> (h)",
        "m = Unsqueeze (r, axis)",
    ],
)
def test_what_changes_elements_or_shape_stays(node: str) -> None:
    model = build(
        f"r = Tanh (x)\n{node}\ny = Relu (m)",
        X,
        other=np.array([2, 5, 3, 4]),
        one=np.array([0, 0, 0, 1, 0, 0, 0, 0]),
        crop=np.array([0, 0, 0, -1, 0, 0, 0, 0]),
        more=np.array([2, 1, 1, 1, 1]),
        axis=np.array([0]),
    )
    check_pass(model, DropNoOps(), modified=False)


def test_dropout_in_training_mode_or_with_a_used_mask_stays() -> None:
    model = build("r = Tanh (x)\nm, mask = Dropout (r)\nk = Cast <to = 1> (mask)\ny = Mul (m, k)", X)
    check_pass(model, DropNoOps(), modified=False)
    training = build("r = Tanh (x)\nm = Dropout <seed = 1> (r, half, on)\ny = Relu (m)", X, half=0.5, on=np.array(True))
    assert not DropNoOps()(training).modified


def test_dropout_whose_mode_is_computed_stays() -> None:
    body = "mode = Greater (z, zero)\nr = Tanh (x)\nm = Dropout <seed = 1> (r, half, mode)\ny = Relu (m)"
    model = build(body, f"{X}, float z", half=0.5, zero=0.0)
    assert not DropNoOps()(model).modified


def test_chains_and_outputs_keep_their_names() -> None:
    body = "r = Tanh (x)\na = Identity (r)\nb = Dropout (a)\nc = Cast <to = 1> (b)\ny = Expand (c, shape)"
    model = check_pass(build(body, X, shape=np.array([2, 3, 5, 4])), DropNoOps())
    assert operators(model) == {"Tanh": 1}
    assert model.graph.outputs[0].name == "y"


def test_an_identity_between_input_and_output_stays() -> None:
    check_pass(build("y = Identity (x)", X), DropNoOps(), modified=False)


def test_two_outputs_of_one_value_keep_both_names() -> None:
    model = build("r = Tanh (x)\ny = Identity (r)\nz = Identity (r)", X, "y, z")
    assert operators(check_pass(model, DropNoOps())) == {"Tanh": 1, "Identity": 1}


BROADCAST = [
    ("y = Add (m, x)", True),
    ("y = Mul (x, m)", True),
    ("g = Sub (x, m)\ny = Div (g, x)", True),
    ("g = Sub (x, m)\ny = Mul (g, m)", True),
    ("y = Add (m, m)", False),
    ("y = Add (m, r)", False),
    ("y = Relu (m)", False),
    ("g = Add (m, x)\nh = Relu (m)\ny = Add (g, h)", False),
]


@pytest.mark.parametrize(("body", "removed"), [*BROADCAST[:3], *BROADCAST[4:6]])
def test_so_is_a_tile_along_axes_of_one(body: str, removed: bool) -> None:
    used = {"axes": np.array([2, 3]), "times": np.array([1, 1, 5, 4])}
    model = build(f"r = ReduceMean <keepdims = 1> (x, axes)\nm = Tile (r, times)\n{body}", X, **used)
    assert operators(check_pass(model, DropNoOps(), modified=removed))["Tile"] == (0 if removed else 1)


def test_a_tile_that_repeats_values_one_after_the_other_stays() -> None:
    used = {"axes": np.array([2]), "times": np.array([1, 1, 5, 2]), "even": np.array([0, 1])}
    body = (
        "r = ReduceMean <keepdims = 1> (x, axes)\nh = Gather <axis = 3> (r, even)\nm = Tile (h, times)\ny = Add (m, x)"
    )
    assert operators(check_pass(build(body, X, **used), DropNoOps(), modified=False))["Tile"] == 1


@pytest.mark.parametrize(("body", "removed"), BROADCAST)
def test_an_expand_that_its_readers_do_themselves_is_removed(body: str, removed: bool) -> None:
    model = build(
        f"r = ReduceMean <keepdims = 1> (x, axes)\nm = Expand (r, shape)\n{body}",
        X,
        axes=np.array([2, 3]),
        shape=np.array([2, 3, 5, 4]),
    )
    assert operators(check_pass(model, DropNoOps(), modified=removed))["Expand"] == (0 if removed else 1)
