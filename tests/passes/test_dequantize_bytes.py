"""Bytes of the input: their scale goes into weights, and their signs fall as the network's own roundings let them."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest

from bnncc.ir.graph import QUANTIZED_KEY
from bnncc.passes.dequantize_bytes import DequantizeBytes
from bnncc.passes.recognize_steps import RecognizeSteps
from tests.passes.helpers import Array, array_of, build, check_pass, node_of, normal, operators, run_model

MEAN = np.array([0.4, 0.2, 0.6], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.25, -0.5, 0.125], np.float32).reshape(1, 3, 1, 1)
PADDED = "<pads = [1, 1, 1, 1], kernel_shape = [3, 3]>"


def network(body: str, inputs: str = "uint8[1, 3, 6, 5] q", *, quantized: bool = True, **constants: Array) -> ir.Model:
    """x, the byte less a mean, over a deviation; and what `body` makes of it."""
    model = build(
        f"p = Cast <to = 1> (q)\nl = Div (p, most)\nc = Sub (l, mean)\nx = Div (c, std)\n{body}",
        inputs,
        mean=MEAN,
        std=STD,
        most=np.array(255, np.float32),
        **constants,
    )
    if quantized:
        model.graph.inputs[0].metadata_props[QUANTIZED_KEY] = json.dumps({"scale": 1 / 255, "zero_point": 0})
    return model


READERS = {
    "a padded convolution": (f"y = Conv {PADDED} (x, w, b)", (5, 3, 3, 3)),
    "in groups": ("y = Conv <group = 3> (x, w, b)", (6, 1, 3, 3)),
    "unshuffled": ("z = SpaceToDepth <blocksize = 1> (x)\ny = Conv (z, w, b)", (4, 3, 1, 1)),
    "flattened": ("z = Flatten (x)\ny = Gemm <transB = 1> (z, w, b)", (4, 90)),
    "two": (f"u = Conv {PADDED} (x, w, b)\nv = Conv {PADDED} (x, w, b)\ny = Mul (u, v)", (5, 3, 3, 3)),
}


@pytest.mark.parametrize("quantized", [True, False])
@pytest.mark.parametrize(("body", "shape"), READERS.values(), ids=READERS)
def test_the_scale_goes_into_all_weights_that_read_the_picture(
    body: str, shape: tuple[int, ...], quantized: bool
) -> None:
    model = network(body, quantized=quantized, w=normal(*shape), b=normal(shape[0], seed=1))
    check_pass(model, DequantizeBytes())
    found = operators(model)
    assert found["Mul"] == body.count("Mul")
    assert (found["Div"], found["Sub"], found["Add"]) == (0, 0, 1)
    assert (found["DequantizeLinear"], found["Cast"]) == ((1, 0) if quantized else (0, 1))


def test_what_is_no_layer_reads_the_picture_as_it_was() -> None:
    model = network(f"u = Conv {PADDED} (x, w)\nm = ReduceMean (x)\ny = Add (u, m)", w=normal(5, 3, 3, 3))
    check_pass(model, DequantizeBytes())
    assert operators(model)["Mul"] == 1


def test_in_front_of_a_rounding_the_numbers_stay_where_they_are() -> None:
    body = f"r = Round (x)\ny = Conv {PADDED} (r, w)"
    model = network(body, w=normal(5, 3, 3, 3))
    before = operators(model)
    check_pass(model, DequantizeBytes(), modified=False)
    assert operators(model) == before


def test_a_shift_that_would_round_the_picture_away_stays_behind_the_scale() -> None:
    model = network(f"z = Add (x, far)\ny = Conv {PADDED} (z, w)", w=normal(5, 3, 3, 3), far=np.array(3e4, np.float32))
    check_pass(model, DequantizeBytes())
    assert operators(model)["Mul"] == 1


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_the_sign_of_every_byte_is_the_network_s_own(dtype: str) -> None:
    """51/255 - 0.2 is 0 in float32, 102/255 - 0.4 and 153/255 - 0.6 as well, and of negative scale for one channel."""
    everything = np.arange(256).astype(np.uint8).view(np.int8 if dtype == "int8" else np.uint8)
    shifted = "p = Cast <to = 1> (q)\n" + ("s = Add (p, middle)\n" if dtype == "int8" else "s = Add (p, nothing)\n")
    model = build(
        shifted + "l = Div (s, most)\nc = Sub (l, mean)\nx = Div (c, std)\n"
        "g = GreaterOrEqual (x, zero)\ny = Where (g, one, minus)",
        f"{dtype}[1, 3, 16, 16] q",
        mean=MEAN, std=STD, most=np.array(255, np.float32), middle=np.array(128, np.float32),
        nothing=np.array(0, np.float32), zero=np.array(0, np.float32), one=np.array(1, np.float32),
        minus=np.array(-1, np.float32),
    )  # fmt: skip
    picture = np.broadcast_to(everything.reshape(16, 16), (1, 3, 16, 16)).copy()
    (wanted,) = run_model(model, {"q": picture}).values()
    RecognizeSteps()(model)
    assert operators(model)["bnncc.Sign"] == 1
    (found,) = run_model(model, {"q": picture}).values()
    np.testing.assert_array_equal(found, wanted)
    shift = array_of(node_of(model, "Add").inputs[1]).reshape(-1)
    np.testing.assert_array_equal(shift % 1, 0.5)  # half-way between two bytes
