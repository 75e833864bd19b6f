"""TorchScript, wrapped and half modules compile to what they compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bnncc
from bnncc.errors import InputError
from bnncc.frontend import NetworkSource, load_network, source_of, trace_module
from bnncc.frontend.plain_module import plain_module
from bnncc.ir.input_spec import InputSpec
from tests.frontend.proven import assert_close, assert_single_output, file_outputs, proven

SHAPE = (1, 3, 6, 5)


class BinaryConv(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, channels, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        signs = torch.where(self.weight >= 0, 1.0, -1.0)
        return nn.functional.conv2d(torch.where(x >= 0, 1.0, -1.0), signs, padding=1)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 4)
    return nn.Sequential(nn.Conv2d(3, 8, 1), BinaryConv(8, 4), norm, nn.Hardtanh()).eval()


class Optional(nn.Module):
    """Control flow that scripting keeps and that no input decides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv(3, 4)

    def forward(self, x: Tensor, gain: Tensor | None = None, times: int = 2) -> Tensor:
        if gain is not None:
            x = x * gain
        for _ in range(times):
            x = x + 1
        return self.conv(x)


def compiled_in_place() -> nn.Module:
    module = network()
    module.compile()
    return module


FORMS: dict[str, Callable[[], nn.Module]] = {
    "traced": lambda: torch.jit.trace(network(), torch.randn(SHAPE)),  # type: ignore[no-untyped-call]
    "scripted": lambda: torch.jit.script(network()),
    "frozen": lambda: torch.jit.freeze(torch.jit.script(network())),
    "scripted with a default": lambda: torch.jit.script(Optional()),
    "a part is scripted": lambda: nn.Sequential(torch.jit.script(network()), nn.ReLU()),
    "a part is traced": lambda: nn.Sequential(nn.Tanh(), torch.jit.trace(network(), torch.randn(SHAPE))),  # type: ignore[no-untyped-call]
    "torch.compile": lambda: torch.compile(network()),  # type: ignore[return-value]
    "a part is compiled": lambda: nn.Sequential(torch.compile(network()), nn.ReLU()),  # type: ignore[arg-type]
    "compiled in place": compiled_in_place,
    "DataParallel": lambda: nn.DataParallel(network()),
    "a part in DataParallel": lambda: nn.Sequential(nn.DataParallel(network()), nn.ReLU()),
    "compiled DataParallel": lambda: torch.compile(nn.DataParallel(network())),  # type: ignore[return-value]
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(network()),
    "symbolically traced": lambda: torch.fx.symbolic_trace(network()),
    "channels last": lambda: network().to(memory_format=torch.channels_last),  # type: ignore[call-overload]
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_compiles_to_what_it_computes(name: str) -> None:
    compiled = assert_single_output(FORMS[name](), SHAPE)
    assert [layer.reason for layer in compiled.layers] == [None]


def test_wrappers_leave_no_trace_in_names() -> None:
    for name in ("torch.compile", "DataParallel", "compiled DataParallel"):
        traced = trace_module(FORMS[name](), [InputSpec("x", SHAPE)])
        assert "1.weight" in traced.model.graph.initializers


def test_an_optional_input_of_a_scripted_module_may_be_given() -> None:
    module = torch.jit.script(Optional())
    compiled = proven(module, ["1x3x6x5", "gain=1x3x1x1"])
    assert [spec.name for spec in compiled.traced.inputs] == ["x", "gain"]
    x, gain = torch.randn(SHAPE), torch.randn(1, 3, 1, 1)
    (found,) = file_outputs(compiled, [x, gain]).values()
    with torch.no_grad():
        assert_close(found, module(x, gain))


@pytest.mark.parametrize("name", ["traced", "scripted", "a part is traced"])
def test_source_lines_of_torchscript_are_kept(name: str) -> None:
    traced = trace_module(FORMS[name](), [InputSpec("x", SHAPE)])
    nodes = {node.op_type: source_of(node) for node in traced.model.graph}
    assert str(nodes["GreaterOrEqual"]).startswith("test_plain_module.py:")
    assert "in forward: " in str(nodes["GreaterOrEqual"])
    assert "torch.where(" in str(nodes["GreaterOrEqual"])
    assert nodes["BatchNormalization"] is None  # a module of PyTorch's, called by one of PyTorch's


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_converted_with_a_word(dtype: torch.dtype) -> None:
    module = network().to(dtype)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    compiled = proven(module, ["1x3x6x5"])
    (warning,) = compiled.traced.warnings
    assert f"{str(dtype).removeprefix('torch.')} tensors are converted to float32" in warning
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert next(module.parameters()).dtype == dtype
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
    (found,) = file_outputs(compiled, [x]).values()
    with torch.no_grad():
        assert_close(found, module.float()(x))


def test_tensors_that_are_mere_attributes_are_converted_too() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = nn.Conv2d(3, 4, 1), torch.rand(4, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) * self.scale

    module = Scaled().half()
    module.scale = module.scale.half()
    plain, _ = plain_module(module)
    assert plain(torch.randn(SHAPE)).dtype == torch.float32
    assert module.scale.dtype == torch.float16


def test_a_module_in_float32_is_taken_as_it_is() -> None:
    module = network()
    assert plain_module(module) == (module, [])


def test_weights_go_into_a_wrapped_network(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def make():\n    return torch.compile(nn.DataParallel(nn.Sequential(nn.Conv2d(3, 4, 1))).half())\n"
    )
    weights = {"0.weight": torch.randn(4, 3, 1, 1), "0.bias": torch.randn(4)}
    torch.save(weights, tmp_path / "net.pth")
    source = NetworkSource(f"{tmp_path}/net.py:make", tmp_path / "net.pth", input_shapes=("1x3x6x5",))
    loaded, warnings = load_network(source)
    assert torch.equal(loaded.module.state_dict()["0.bias"], weights["0.bias"].half().float())
    assert "converted to float32" in warnings[0]


def test_parameters_without_values_are_named() -> None:
    with pytest.raises(InputError, match=r"0\.weight has no values yet: it belongs to a lazy module"):
        bnncc.compile(nn.Sequential(nn.LazyConv2d(4, 3)), input_shapes=[SHAPE])
    with pytest.raises(InputError, match=r"0\.weight has no values yet: it is on the device 'meta'"):
        bnncc.compile(nn.Sequential(nn.Conv2d(3, 4, 3, device="meta")), input_shapes=[SHAPE])
