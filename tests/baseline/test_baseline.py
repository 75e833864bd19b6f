"""The float baseline: its graph, its check and the converter's process; with the extra `baseline`, onnx2tf itself.

Most tests put a fake onnx2tf in the real one's place.  It writes the file with bnncc's own lowerings, or misbehaves.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional as F

from bnncc.baseline import make_baseline, process
from bnncc.baseline.check import check
from bnncc.baseline.convert import CALIBRATION_FILE, RESULT
from bnncc.baseline.graph import float_graph
from bnncc.baseline.process import ConversionError
from bnncc.data import Preprocessing
from bnncc.errors import InputError, VerificationError
from bnncc.frontend import TracedModel, input_specs, trace, trace_module
from bnncc.inference.graph_runner import OrtRunner
from bnncc.inference.runners import LceRunner
from bnncc.ir.evaluate import Array, random_inputs
from bnncc.ir.rounding import relative_error
from bnncc.options import FileMetadata, Options
from bnncc.targets.tflite.emit import emit
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import pack, unpack
from tests.fuzz.networks import Network, RandomNetwork, networks
from tests.networks.randomize import randomize

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "fashion_mnist"
# On maps that are not square, so that no axis is taken for another.
SHAPE = "1x3x12x8"
NETWORKS = 10
needs_onnx2tf = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in process.PACKAGES),
    reason="onnx2tf or TensorFlow, which has none for Python 3.14, is not installed: pip install 'bnncc[baseline]'",
)


class BinaryConv(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        signs = torch.sign(x)
        scale = self.weight.abs().mean((1, 2, 3), keepdim=True)
        return F.conv2d((signs - x).detach() + x, scale * torch.sign(self.weight), None, self.stride, self.padding)


class Small(nn.Module):
    """A stride of 2 with padding, a residual add, a PReLU, batch norms, a straight-through estimator."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = BinaryConv(8, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.act = nn.PReLU(8)
        self.conv2 = BinaryConv(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((2, 3)))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.bn1(self.conv1(self.stem(x))))
        return self.bn2(self.conv2(x)) + x


class Pair(Small):
    """Two inputs of one shape, two outputs of one shape, a map among the outputs."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first, second = self.features(left), self.features(right - 2 * left)
        return self.fc(second.mean((2, 3))), self.fc(first.mean((2, 3))), first


def traced(module: nn.Module, *shapes: str) -> TracedModel:
    module = randomize(module)
    return trace_module(module, input_specs(module, shapes or [SHAPE]))


@pytest.fixture(scope="module")
def small() -> TracedModel:
    return traced(Small())


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which temporary directories are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# The graph


def test_the_float_graph_has_only_standard_operators_and_folded_batch_norms(small: TracedModel) -> None:
    model = float_graph(small)
    assert {node.domain for node in model.graph} == {""}
    counts = Counter(node.op_type for node in model.graph)
    assert counts == {"Conv": 3, "Sign": 2, "PRelu": 1, "Add": 1, "ReduceMean": 1, "Gemm": 1}


def test_the_float_graph_keeps_the_size_of_a_float_network(small: TracedModel) -> None:
    weights = [value.const_value for value in float_graph(small).graph.initializers.values()]
    sizes = sorted(tensor.size for tensor in weights if tensor is not None and tensor.dtype == ir.DataType.FLOAT)
    assert sizes[-3:] == [3 * 8 * 9, 8 * 8 * 9, 8 * 8 * 9]


@pytest.mark.slow
def test_the_float_graph_of_a_random_network_computes_what_pytorch_computes() -> None:
    @hypothesis.seed(0)
    @settings(max_examples=NETWORKS)
    @given(networks())
    def run(spec: Network) -> None:
        module = RandomNetwork(spec)
        network = trace_module(module, input_specs(module, [f"1x3x{spec.size[0]}x{spec.size[1]}"]))
        image = random_inputs(network.model, spec.seed)
        with torch.no_grad():
            expected = module(torch.from_numpy(image[0]))
        found = OrtRunner(float_graph(network)).run(image)
        for array, tensor in zip(found, expected if isinstance(expected, tuple) else [expected], strict=True):
            assert relative_error(array, tensor.numpy()) < 1e-5

    run()


# The check


def edited(content: bytes, edit: Callable[[TfliteFile, Any], None]) -> bytes:
    """The file after `edit`, which is given the parsed file and the schema's object tree, to change."""
    model = unpack(content)
    edit(TfliteFile(content), model)
    return pack(model)


def change_weights(change: Callable[[Array], Array], index: int = 1) -> Callable[[TfliteFile, Any], None]:
    """Change the constant `index` of the second convolution, the first that reads signs."""

    def edit(file: TfliteFile, model: Any) -> None:
        tensor = [operator for operator in file.operators if operator.name == "CONV_2D"][1].inputs[index]
        array = None if tensor is None else file.data(tensor)
        assert tensor is not None
        assert array is not None
        data = np.ascontiguousarray(change(array.copy())).reshape(-1).view(np.uint8)
        buffer = model.subgraphs[0].tensors[tensor.index].buffer
        model.buffers[buffer].data = data

    return edit


def negate_one(array: Array) -> Array:
    array[3, 1, 1, 4] *= -1
    return array


def exceed_one(array: Array) -> Array:
    array[2] += 0.001 * np.abs(array).max()
    return array


def same_padding(file: TfliteFile, model: Any) -> None:
    """TensorFlow's padding for PyTorch's: the kernel of stride 2 is applied one position further."""
    pad = next(operator for operator in file.operators if operator.name == "PAD")
    amounts = np.array([[0, 0], [0, 1], [0, 1], [0, 0]], np.int32)
    buffer = model.subgraphs[0].tensors[pad.inputs[1].index].buffer
    model.buffers[buffer].data = amounts.reshape(-1).view(np.uint8)


def skip_sign(file: TfliteFile, model: Any) -> None:
    """The second sign's reader reads its operand."""
    sign = [operator for operator in file.operators if operator.name == "SIGN"][1]
    for operator in model.subgraphs[0].operators:
        operator.inputs = [sign.inputs[0].index if i == sign.outputs[0].index else i for i in operator.inputs]


def test_a_file_that_computes_the_graph_passes(small: TracedModel) -> None:
    model = float_graph(small)
    found = check(emit(model), model, [random_inputs(model, seed) for seed in range(3)])
    assert found.error < 1e-5
    assert found.values == 3 * (8 * 12 * 8 + 8 * 6 * 4 + 5)  # what two signs read, and the logits


@pytest.mark.parametrize(
    "edit",
    [
        change_weights(negate_one),
        change_weights(lambda weights: weights.transpose(0, 2, 1, 3)),
        change_weights(lambda weights: weights[:, ::-1, ::-1]),
        change_weights(lambda weights: weights.transpose(3, 1, 2, 0)),
        change_weights(lambda weights: weights * np.float32(1.001)),
        change_weights(exceed_one, index=2),
        same_padding,
        skip_sign,
    ],
    ids=[
        "one weight of another sign", "kernels transposed", "kernels rotated", "channels transposed",
        "weights off by 0.1 %", "a bias off by 0.1 %", "padding on the other side", "a sign left out",
    ],
)  # fmt: skip
def test_a_file_that_computes_something_else_is_rejected(
    small: TracedModel, edit: Callable[[TfliteFile, Any], None]
) -> None:
    model = float_graph(small)
    content = edited(emit(model), edit)
    assert content != emit(model)
    with pytest.raises(VerificationError, match="is off by"):
        check(content, model, [random_inputs(model, 0)])


def test_the_message_names_the_layer_that_is_wrong(small: TracedModel) -> None:
    model = float_graph(small)
    with pytest.raises(VerificationError, match=r"what Sign 'conv2' \(test_baseline.py:\d+ .*\) reads is off by"):
        check(edited(emit(model), change_weights(negate_one)), model, [random_inputs(model, 0)])


def test_a_flip_by_rounding_is_no_fault() -> None:
    """Weights of ±0.1 that cancel: PyTorch and the file add them in another order, and a sign reads what is left."""

    class Cancelling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.next = nn.Conv2d(64, 32, 3, bias=False), nn.Conv2d(32, 8, 1)
            with torch.no_grad():
                self.conv.weight.copy_(0.1 * torch.sign(torch.randn(32, 64, 3, 3)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.next(torch.sign(self.conv(torch.sign(x))))

    torch.manual_seed(0)
    network = trace_module(module := Cancelling().eval(), input_specs(module, ["1x64x12x8"]))
    model = float_graph(network)
    images = [random_inputs(model, seed) for seed in range(4)]
    content = emit(model)
    apart = [
        relative_error(LceRunner(content).run([image[0].transpose(0, 2, 3, 1)])[0], expected.transpose(0, 2, 3, 1))
        for image in images
        for expected in OrtRunner(model).run(image)
    ]
    assert max(apart) > 0.01  # flips, seen in the outputs
    assert check(content, model, images).error < 1e-5


# The converter's process

CONVERT = """
import pathlib
import onnx_ir as ir
from bnncc.targets.tflite.emit import emit

def convert(input_onnx_file_path, output_folder_path, non_verbose):
    assert pathlib.Path("{calibration}").exists()
    model = ir.load(input_onnx_file_path)
    pathlib.Path(input_onnx_file_path).write_bytes(b"rewritten in place")
    pathlib.Path(output_folder_path).mkdir()
    content = emit(model)
    {edit}
    pathlib.Path("{result}").write_bytes(content)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts code in the place of onnx2tf, in this process and in those that it starts."""

    def install(code: str) -> None:
        folder = tmp_path / "packages"
        folder.mkdir()
        (folder / "onnx2tf.py").write_text(code)
        (folder / "tensorflow.py").write_text("raise ImportError('nothing of bnncc imports TensorFlow')")
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return install


def converter(edit: str = "") -> str:
    return CONVERT.format(calibration=CALIBRATION_FILE, result=RESULT, edit=edit)


def test_a_baseline_is_made_and_checked(
    small: TracedModel, fake: Callable[[str], None], temporary: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake("print('a banner')\n" + converter())
    baseline = make_baseline(small)
    assert (baseline.inputs, baseline.agreeing) == (2, 2)
    assert baseline.check.error < 1e-5
    assert baseline.free_error < 1e-5
    assert TfliteFile(baseline.content).inputs[0].shape == (1, 12, 8, 3)
    assert small.weights_digest.encode() in TfliteFile(baseline.content).metadata()["bnncc"]
    baseline.save(tmp_path / "float.tflite")
    assert TfliteFile.open(tmp_path / "float.tflite").content == baseline.content
    assert not list(temporary.glob("bnncc-*"))
    assert capfd.readouterr() == ("", "")


def test_a_wrong_file_is_rejected_and_nothing_is_left(
    small: TracedModel, fake: Callable[[str], None], temporary: Path
) -> None:
    fake(
        converter("""
    import numpy as np
    from bnncc.targets.tflite.writer import pack, unpack
    model = unpack(content)
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    weights = np.array(largest.data).view(np.float32)
    weights[7] *= -1
    largest.data = weights.view(np.uint8)
    content = pack(model)
    """)
    )
    with pytest.raises(VerificationError, match=r"the file that onnx2tf made is not the network: .* is off by"):
        make_baseline(small)
    assert not list(temporary.glob("bnncc-*"))


def test_a_file_with_another_input_layout_is_rejected(small: TracedModel, fake: Callable[[str], None]) -> None:
    fake(converter("content = emit(model, channels_last=False)"))
    with pytest.raises(
        VerificationError, match=r"its inputs are of shape \[\(1, 3, 12, 8\)\], not \[\(1, 12, 8, 3\)\]"
    ):
        make_baseline(small)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def convert(**_): raise ValueError('no such layer')", "\n  ValueError: no such layer$"),
        (
            "def convert(**_):\n print('ERROR: onnx_op_name: layer', '\\x1b[31mERROR:\\x1b[0m it is odd', sep='\\n')\n"
            " raise SystemExit(1)",
            "\n  ERROR: onnx_op_name: layer\n  ERROR: it is odd$",
        ),
        ("def convert(**_): pass", "onnx2tf cannot convert the network$"),
        ("import os\ndef convert(**_): os.kill(os.getpid(), 9)", ": it was ended by signal 9$"),
        ("import no_such_module", "\n  ModuleNotFoundError: No module named 'no_such_module'$"),
    ],
    ids=["an exception", "an exit", "no file", "a kill", "a missing dependency"],
)
def test_a_failure_of_the_converter_is_one_error_and_nothing_is_left(
    small: TracedModel, fake: Callable[[str], None], temporary: Path, code: str, message: str
) -> None:
    fake(code)
    with pytest.raises(ConversionError, match=message):
        make_baseline(small)
    assert not list(temporary.glob("bnncc-*"))


def test_a_failure_names_the_users_own_layer(small: TracedModel, fake: Callable[[str], None]) -> None:
    node = next(node for node in float_graph(small).graph if node.op_type == "PRelu")
    fake(f"def convert(**_):\n print('ERROR: onnx_op_name: {node.name}')\n raise ValueError('no PReLU')")
    with pytest.raises(ConversionError, match=r"\n  PRelu 'act' \(test_baseline.py:\d+ .*\)\n  ValueError: no PReLU$"):
        make_baseline(small)


def test_ctrl_c_ends_the_converter(
    small: TracedModel, fake: Callable[[str], None], temporary: Path, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    fake(
        "import os, pathlib, time\n"
        f"def convert(**_):\n pathlib.Path({str(started)!r}).write_text(str(os.getpid()))\n time.sleep(600)"
    )

    def interrupt() -> None:
        while not (started.exists() and started.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)

    def raise_interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGUSR1, raise_interrupt)  # pytest has its own way with Ctrl-C
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            make_baseline(small)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
    assert not list(temporary.glob("bnncc-*"))


def test_a_missing_extra_is_named(small: TracedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PACKAGES", ("numpy", "no_such_package"))
    with pytest.raises(InputError, match=r"needs no_such_package: pip install 'bnncc\[baseline\]'"):
        make_baseline(small)


def test_only_the_converters_process_imports_tensorflow() -> None:
    code = "import sys, bnncc.baseline.make; sys.exit('tensorflow' in sys.modules or 'onnx2tf' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


# onnx2tf itself


@pytest.mark.slow
@needs_onnx2tf
def test_the_baseline_of_the_shipped_network_is_the_network(temporary: Path) -> None:
    network = trace(f"{EXAMPLE}/net.py:make_net", weights=EXAMPLE / "net.pth", input_shapes=["1x1x28x28"])
    images = np.load(EXAMPLE / "test_images.npz")["images"][:50].astype(np.float32).reshape(-1, 1, 1, 28, 28)
    options = Options(preprocessing=Preprocessing(mean=(0.5,), std=(0.25,)), classes=("shirt", "boot"))
    baseline = make_baseline(network, [[image] for image in images], options)
    metadata = FileMetadata.read(TfliteFile(baseline.content))
    assert metadata.weights_sha256 == network.weights_digest
    assert metadata.options == options
    assert baseline.check.error < 1e-4
    assert baseline.agreeing == 50
    assert not list(temporary.glob("bnncc-*"))
    names = Counter(operator.name for operator in TfliteFile(baseline.content).operators)
    assert names["SIGN"] == 5
    assert names["CONV_2D"] == 8
    parameters = sum(value.const_value.size for value in network.model.graph.initializers.values())
    assert 4 * parameters < len(baseline.content) < 4.2 * parameters
    module = network.run_module
    assert module is not None
    runner = LceRunner(baseline.content)
    for image in images:
        assert relative_error(runner.run([image.transpose(0, 2, 3, 1)])[0], module([image])[0]) < 1e-4


@pytest.mark.slow
@needs_onnx2tf
def test_inputs_and_outputs_keep_their_order_and_maps_are_channels_last() -> None:
    network = traced(Pair(), "left=1x3x12x8", "right=1x3x12x8")
    baseline = make_baseline(network)
    file = TfliteFile(baseline.content)
    assert [tensor.shape for tensor in file.outputs] == [(1, 5), (1, 5), (1, 6, 4, 8)]
    left, right = random_inputs(network.model, 5)
    found = LceRunner(baseline.content).run([array.transpose(0, 2, 3, 1) for array in (left, right)])
    assert network.run_module is not None
    expected = network.run_module([left, right])
    expected[2] = expected[2].transpose(0, 2, 3, 1)
    for array, reference in zip(found, expected, strict=True):
        assert relative_error(array, reference) < 1e-5
