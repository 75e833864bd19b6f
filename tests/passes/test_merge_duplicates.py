import numpy as np

from bnncc.passes.merge_duplicates import MergeDuplicates
from tests.passes.helpers import build, check_pass, normal, operators

X = "float[2, 3, 5, 4] x"


def test_equal_nodes_on_equal_constants_become_one() -> None:
    body = "p = Clip (x, a, b)\nq = Clip (x, c, d)\ny = Mul (p, q)"
    model = check_pass(build(body, X, a=-1.0, b=1.0, c=-1.0, d=1.0), MergeDuplicates())
    assert operators(model) == {"Clip": 1, "Mul": 1}


def test_whole_equal_subgraphs_become_one() -> None:
    half = "{0}a = Less (x, c{0})\n{0}b = Cast <to = 1> ({0}a)\n{0}c = Mul ({0}b, x)\n"
    model = build(half.format("p") + half.format("q") + "y = Sub (pc, qc)", X, cp=0.5, cq=0.5)
    assert operators(check_pass(model, MergeDuplicates())) == {"Less": 1, "Cast": 1, "Mul": 1, "Sub": 1}


def test_what_differs_in_an_attribute_a_constant_or_the_order_stays() -> None:
    body = """
    a = Elu <alpha = 0.5> (x)
    b = Elu <alpha = 0.25> (x)
    c = Sub (a, b)
    d = Sub (b, a)
    e = Mul (c, v)
    f = Mul (d, w)
    y = Add (e, f)"""
    model = build(body, X, v=normal(3, 1, 1, seed=1), w=normal(3, 1, 1, seed=2))
    check_pass(model, MergeDuplicates(), modified=False)


def test_constants_of_equal_bytes_and_other_type_or_shape_stay_apart() -> None:
    body = "a = Mul (x, v)\nb = Add (a, w)\nc = Cast <to = 1> (i)\ny = Add (b, c)"
    zeros = np.zeros((3, 1, 1), np.float32)
    model = build(body, X, v=zeros, w=zeros.reshape(1, 3, 1, 1), i=np.zeros((3, 1, 1), np.int32))
    check_pass(model, MergeDuplicates(), modified=False)


def test_two_outputs_of_one_value_keep_their_names() -> None:
    model = build("y = Relu (x)\nz = Relu (x)", X, "y, z")
    before = [value.name for value in model.graph.outputs]
    MergeDuplicates()(model)
    assert [value.name for value in model.graph.outputs] == before
