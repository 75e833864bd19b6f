import json

import numpy as np
import pytest

from bnncc.ir.graph import NEGATED_KEY
from bnncc.passes.normalize_sign_input import NormalizeSignInput
from tests.passes.helpers import Array, build, check_pass, node_of, normal, operators, signs

X = "float[2, 6, 5, 5] x"
CONV = (
    "bnncc.BinaryConv <strides = [1, 1], dilations = [1, 1], group = {group}, pads = [1, 1, 1, 1], pad_value = {pad}>"
)
CHAIN = "a = Mul (x, scale)\nb = Add (a, shift)\n"


def constants(scale: Array, group: int = 1) -> dict[str, Array]:
    return {
        "scale": scale.reshape(1, -1, 1, 1).astype(np.float32),
        "shift": normal(1, 6, 1, 1, seed=5),
        "w": signs(4, 6 // group, 3, 3),
        "m": normal(4, seed=1),
        "b0": normal(4, seed=2),
    }


MIXED = np.array([0.5, -2.0, 0.1, -0.3, 1.5, -1.0])


def body(*, group: int = 1, pad: float = 0.0, chain: str = CHAIN, last: str = "b") -> str:
    return f"{chain}s = bnncc.Sign ({last})\ny = {CONV.format(group=group, pad=pad)} (s, w, m, b0)"


@pytest.mark.parametrize("group", [1, 2])
def test_a_scale_of_both_signs_becomes_one_add_and_negated_weights(group: int) -> None:
    model = check_pass(build(body(group=group), X, **constants(MIXED, group)), NormalizeSignInput())
    assert operators(model) == {"Add": 1, "bnncc.Sign": 1, "bnncc.BinaryConv": 1}
    assert json.loads(node_of(model, "Sign").outputs[0].metadata_props[NEGATED_KEY]) == [1, 3, 5]


def test_a_positive_scale_alone_is_dropped() -> None:
    model = build(body(chain="a = Mul (x, scale)\n", last="a"), X, **constants(np.abs(MIXED)))
    model = check_pass(model, NormalizeSignInput())
    assert operators(model) == {"bnncc.Sign": 1, "bnncc.BinaryConv": 1}
    assert NEGATED_KEY not in node_of(model, "Sign").outputs[0].metadata_props


def test_a_batch_norm_in_front_of_a_sign_becomes_one_add() -> None:
    model = build(
        body(chain="b = BatchNormalization (x, gamma, beta, mean, var)\n"),
        X,
        gamma=MIXED.astype(np.float32),
        beta=normal(6, seed=7),
        mean=normal(6, seed=8),
        var=np.linspace(0.2, 2, 6).astype(np.float32),
        **constants(MIXED),
    )
    assert operators(check_pass(model, NormalizeSignInput()))["Add"] == 1


def test_a_scale_of_zero_gives_a_constant_sign() -> None:
    scale = MIXED.copy()
    scale[[0, 3]] = 0
    model = check_pass(build(body(), X, **constants(scale)), NormalizeSignInput())
    assert operators(model)["Mul"] == 0


@pytest.mark.parametrize(
    "text",
    [
        body(pad=1.0) + "\nz = Relu (s)",
        body() + "\nz = Relu (s)",
        body() + "\nz = Identity (s)",
    ],
    ids=["padded with ones and also read by a float operator", "also read by a float operator", "an output"],
)
def test_a_negative_scale_stays_where_a_consumer_cannot_take_it(text: str) -> None:
    outputs = "y, z" if "z =" in text else "y"
    check_pass(build(text, X, outputs, **constants(MIXED)), NormalizeSignInput(), modified=False)


def test_the_same_consumers_take_a_positive_scale() -> None:
    model = build(body(pad=1.0), X, **constants(np.abs(MIXED)))
    assert operators(check_pass(model, NormalizeSignInput()))["Mul"] == 0


@pytest.mark.parametrize("text", ["\nz = Relu (b)", "\nz = Identity (b)"], ids=["an operator", "an output"])
def test_a_sign_reads_the_scaled_value_that_something_else_needs(text: str) -> None:
    check_pass(build(body() + text, X, "y, z", **constants(MIXED)), NormalizeSignInput(), modified=False)


def test_the_sign_of_scaled_integers_has_an_exact_threshold_whatever_else_reads_them() -> None:
    chain = CHAIN.replace("(x,", "(r,")
    model = build(f"r = Round (x)\n{body(chain=chain)}\nz = Relu (b)", X, "y, z", **constants(MIXED))
    model = check_pass(model, NormalizeSignInput())
    assert operators(model) == {"Round": 1, "Mul": 1, "Add": 2, "Relu": 1, "bnncc.Sign": 1, "bnncc.BinaryConv": 1}
