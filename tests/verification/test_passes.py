from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bnncc.errors import InputError, PassError
from bnncc.ir.modes import Padding
from bnncc.ir.pass_runner import PassRunner
from bnncc.ir.step import Step
from bnncc.passes import PIPELINE
from bnncc.passes.legalize import legalization
from bnncc.verification.passes import first_difference
from tests.passes.helpers import Array, array_of, build, draw, normal, run_proto, signs

X = "float[1, 4, 8, 9] x"


def network() -> ir.Model:
    """A small BNN with shifts, a batch norm, two binary convolutions, a residual, a pool and a Linear."""
    body = """
    a = Add (x, shift)
    s = Sign (a)
    c = Conv <pads = [1, 1, 1, 1]> (s, w)
    n = BatchNormalization (c, gamma, beta, mean, var)
    r = Add (n, x)
    p = PRelu (r, slope)
    b = Add (p, shift2)
    t = Sign (b)
    d = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (t, v)
    e = Mul (d, scale)
    g = GlobalAveragePool (e)
    f = Flatten (g)
    y = Gemm <transB = 1> (f, fc, bias)"""
    constants: dict[str, Array] = {
        "shift": normal(4, 1, 1),
        "shift2": normal(4, 1, 1, seed=8),
        "w": (signs(4, 4, 3, 3) * np.array([0.1, 0.2, 0.3, 0.4])[:, None, None, None]).astype(np.float32),
        "v": signs(6, 4, 3, 3, seed=1),
        "gamma": np.array([0.5, -1.1, 0.7, 1.3], np.float32),
        "beta": normal(4, seed=2),
        "mean": normal(4, seed=3),
        "var": np.array([0.5, 1, 2, 0.7], np.float32),
        "slope": np.array([0.1, -0.3, 0.25, 0.5], np.float32).reshape(4, 1, 1),
        "scale": normal(6, 1, 1, seed=4),
        "fc": normal(5, 6, seed=5),
        "bias": normal(5, seed=6),
    }
    return build(body, X, **constants)


class Break(ir.passes.InPlacePass):
    """Apply `change` to the graph."""

    def __init__(self, change: Callable[[ir.Graph], None]) -> None:
        super().__init__()
        self.change = change

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        self.change(model.graph)
        return ir.passes.PassResult(model, modified=True)


def replace(graph: ir.Graph, name: str, change: Callable[[Array], Array]) -> None:
    """Change the array of an initializer."""
    value = graph.initializers[name]
    value.const_value = ir.tensor(change(array_of(value).copy()), name=name)


def node_that_yields(graph: ir.Graph, name: str) -> ir.Node:
    (node,) = (node for node in graph if node.outputs[0].name == name)
    return node


def set_element(array: Array, index: tuple[int, ...], number: float) -> Array:
    array[index] = number
    return array


def negate_one_weight(graph: ir.Graph) -> None:
    replace(graph, "v", lambda v: set_element(v, (1, 2, 0, 1), -v[1, 2, 0, 1]))


def negate_one_binary_weight_before_a_sign(graph: ir.Graph) -> None:
    replace(graph, "w", lambda w: set_element(w, (1, 2, 0, 1), -w[1, 2, 0, 1]))


def drop_an_add(graph: ir.Graph) -> None:
    node = node_that_yields(graph, "r")
    node.outputs[0].replace_all_uses_with(node_that_yields(graph, "n").outputs[0])


def drop_a_shift_before_a_sign(graph: ir.Graph) -> None:
    node = node_that_yields(graph, "s")
    node.replace_input_with(0, graph.inputs[0])


def shift_a_threshold(graph: ir.Graph) -> None:
    """By 2 %: a hundredth of the values of one channel lie in between."""
    replace(graph, "shift2", lambda shift: set_element(shift, (1, 0, 0), shift[1, 0, 0] + 0.05))


def swap_two_channels(graph: ir.Graph) -> None:
    replace(graph, "beta", lambda beta: beta[[1, 0, 2, 3]])


def swap_two_channels_of_the_filter(graph: ir.Graph) -> None:
    replace(graph, "v", lambda v: v[:, [1, 0, 2, 3]])


def swap_two_classes(graph: ir.Graph) -> None:
    replace(graph, "fc", lambda fc: fc[[1, 0, 2, 3, 4]])


def drop_the_border(graph: ir.Graph) -> None:
    node = node_that_yields(graph, "d")
    node.attributes["pads"] = ir.AttrInt64s("pads", [0, 1, 1, 0])


def make_slopes_positive(graph: ir.Graph) -> None:
    replace(graph, "slope", np.abs)


def ask_for_other_channels(graph: ir.Graph) -> None:
    """The graph does not even run."""
    replace(graph, "shift2", lambda shift: np.concatenate([shift, shift]))


def rename_an_output(graph: ir.Graph) -> None:
    graph.outputs[0].name = "z"


BREAKS = [
    negate_one_weight,
    negate_one_binary_weight_before_a_sign,
    drop_an_add,
    drop_a_shift_before_a_sign,
    shift_a_threshold,
    swap_two_channels,
    swap_two_channels_of_the_filter,
    swap_two_classes,
    drop_the_border,
    make_slopes_positive,
    ask_for_other_channels,
    rename_an_output,
]


@pytest.mark.parametrize("change", BREAKS)
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_broken_pass_is_named(change: Callable[[ir.Graph], None], place: str) -> None:
    correct = [step for step in PIPELINE if step.name in ("drop-no-ops", "recognize-sign")]
    broken = Step("broken-pass", lambda: Break(change), "a bug")
    steps = [broken, *correct] if place == "first" else [*correct, broken]
    with pytest.raises(PassError, match="pass 'broken-pass'"):
        PassRunner(compare=first_difference).run(network(), steps)


def test_without_verify_nothing_is_compared() -> None:
    PassRunner().run(network(), [Step("broken-pass", lambda: Break(swap_two_classes), "a bug")])


def test_the_message_says_which_sign_flipped_and_where_it_comes_from() -> None:
    with pytest.raises(PassError, match=r"Sign 'layer\.7' \(net\.py:7 in forward.*of 288 values differ"):
        PassRunner(compare=first_difference).run(
            network(), [Step("broken-pass", lambda: Break(shift_a_threshold), "a bug")]
        )


@pytest.mark.parametrize("padding", list(Padding))
def test_the_pipeline_passes_and_its_times_are_kept(padding: Padding) -> None:
    model = network()
    runner = PassRunner(compare=first_difference)
    runner.run(model, PIPELINE)
    steps = legalization(model, padding)
    runner.run(model, steps)
    assert set(runner.seconds) == {step.name for step in (*PIPELINE, *steps)}
    assert all(seconds >= 0 for seconds in runner.seconds.values())


def test_rounding_is_no_difference() -> None:
    before, after = network(), network()
    replace(after.graph, "shift", lambda shift: shift * np.float32(1 + 1e-6))
    replace(after.graph, "fc", lambda fc: fc * np.float32(1 + 1e-6))
    assert first_difference(before, after) is None


def test_a_flip_within_rounding_of_the_threshold_is_no_difference_even_where_it_spreads() -> None:
    """The shift is such that one element of the sign's operand is exactly 0 before, and a rounding below 0 after."""
    before, after = network(), network()
    x = np.random.default_rng(0).standard_normal((1, 4, 8, 9)).astype(np.float32)  # what first_difference draws
    shift = -x[0, 2, 3, 3]
    for model, amount in ((before, shift), (after, np.nextafter(shift, np.float32(-9)))):
        replace(model.graph, "shift", lambda array, amount=amount: set_element(array, (2, 0, 0), amount))
    assert first_difference(before, after) is None


def test_dumps_are_valid_models_that_run(tmp_path: Path) -> None:
    model = network()
    runner = PassRunner(dump_dir=tmp_path / "dumps")
    runner.run(model, PIPELINE)
    steps = legalization(model, Padding.MIRRORED)
    runner.run(model, steps)
    files = sorted((tmp_path / "dumps").iterdir())
    expected = ["traced", *(step.name for step in (*PIPELINE, *steps))]
    assert [file.name for file in files] == [f"{index:02}-{name}.onnx" for index, name in enumerate(expected)]
    feeds = draw(network())
    results = []
    for file in files:
        proto = onnx.load(file)
        onnx.checker.check_model(proto)
        results.append(run_proto(proto, feeds)["y"])
    for result in results:
        np.testing.assert_allclose(result, results[0], rtol=1e-3, atol=1e-4)


def test_a_dump_dir_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--dump-dir: .*cannot be written"):
        PassRunner(dump_dir=tmp_path / "file").run(network(), PIPELINE)
