"""Which networks `trace` accepts: files, packages, classes, functions, instances; and how it runs their code."""

import sys
from pathlib import Path

import numpy as np
import pytest

from bnncc.errors import InputError
from bnncc.frontend import NetworkSource, load_network, trace

HEADER = "import torch\nfrom torch import nn\n"
NET = """
class Net(nn.Module):
    def __init__(self, channels=2):
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3)

    def forward(self, x):
        return torch.sign(self.conv(x))
"""
SHAPE = ("1x1x6x6",)


def write(folder: Path, code: str, name: str = "net.py") -> str:
    (folder / name).write_text(HEADER + code)
    return str(folder / name)


@pytest.mark.parametrize(
    "name", ["Net", "make", "instance", "Holder.make"], ids=["class", "function", "instance", "attribute"]
)
def test_a_file_may_name_a_class_a_function_an_instance_or_an_attribute(tmp_path: Path, name: str) -> None:
    path = write(
        tmp_path,
        NET + "def make():\n    return Net()\ninstance = Net()\nclass Holder:\n    make = staticmethod(make)\n",
    )
    traced = trace(f"{path}:{name}", input_shapes=SHAPE)
    assert traced.exporter == "torch.export"
    assert [(spec.name, spec.shape) for spec in traced.inputs] == [("x", (1, 1, 6, 6))]
    assert [tuple(value.shape or ()) for value in traced.model.graph.outputs] == [(1, 2, 4, 4)]


def test_a_package_module_is_named_with_dots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").touch()
    write(tmp_path / "some_package", NET)
    monkeypatch.chdir(tmp_path)
    assert trace("some_package.net:Net", input_shapes=SHAPE).inputs[0].name == "x"


def test_arguments_reach_the_callable(tmp_path: Path) -> None:
    traced = trace(f"{write(tmp_path, NET)}:Net", arguments={"channels": 5}, input_shapes=SHAPE)
    assert tuple(traced.model.graph.outputs[0].shape or ()) == (1, 5, 4, 4)


def test_an_unknown_argument_is_refused_with_the_signature(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unexpected keyword argument 'depth'; its signature is Net\(channels=2\)"):
        trace(f"{write(tmp_path, NET)}:Net", arguments={"depth": 5}, input_shapes=SHAPE)


def test_files_beside_the_network_and_in_the_current_folder_are_importable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "beside.py").write_text("SIZE = 3\n")
    (tmp_path / "in_cwd.py").write_text("STRIDE = 1\n")
    path = write(
        tmp_path / "models",
        "from beside import SIZE\nclass Net(nn.Module):\n    def forward(self, x):\n"
        "        import in_cwd\n        return torch.nn.functional.max_pool2d(x, SIZE, in_cwd.STRIDE)\n",
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path), sys.argv, sys.dont_write_bytecode
    traced = trace(f"{path}:Net", input_shapes=SHAPE)
    assert (list(sys.path), sys.argv, sys.dont_write_bytecode) == before
    assert traced.run_module is not None
    assert traced.run_module([np.zeros((1, 1, 6, 6), np.float32)])[0].shape == (1, 1, 4, 4)


def test_relative_imports_work_in_a_folder_of_a_package(tmp_path: Path) -> None:
    package = tmp_path / "relative_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sizes.py").write_text("CHANNELS = 4\n")
    path = write(package, "from .sizes import CHANNELS\n" + NET.replace("channels=2", "channels=CHANNELS"))
    traced = trace(f"{path}:Net", input_shapes=SHAPE)
    assert tuple(traced.model.graph.outputs[0].shape or ()) == (1, 4, 4, 4)


def test_two_repositories_may_use_the_same_file_names(tmp_path: Path) -> None:
    channels = []
    for index in (2, 3):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / "sizes.py").write_text(f"CHANNELS = {index}\n")
        path = write(folder, "from sizes import CHANNELS\n" + NET.replace("channels=2", "channels=CHANNELS"))
        channels.append((trace(f"{path}:Net", input_shapes=SHAPE).model.graph.outputs[0].shape or ())[1])
    assert channels == [2, 3]


def test_the_file_sees_its_own_name_as_its_only_argument(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["bnncc", "--nonsense"])
    path = write(
        tmp_path,
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--channels', type=int, default=3)\n"
        "args = parser.parse_args()\n" + NET.replace("channels=2", "channels=args.channels"),
    )
    traced = trace(f"{path}:Net", input_shapes=SHAPE)
    assert tuple(traced.model.graph.outputs[0].shape or ()) == (1, 3, 4, 4)


def test_an_argument_parser_that_ends_the_process_is_an_input_error(tmp_path: Path) -> None:
    path = write(tmp_path, "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('data')\n"
                 "args = parser.parse_args()\n" + NET)  # fmt: skip
    with pytest.raises(InputError, match=r"ended the process(.|\n)*at net.py:6 in <module>: args = parser.parse_args"):
        trace(f"{path}:Net", input_shapes=SHAPE)


def test_nothing_is_written_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("SIZE = 3\n")
    trace(f"{write(tmp_path, 'import beside_it' + NET)}:Net", input_shapes=SHAPE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside_it.py", "net.py"]


def test_dataclasses_and_postponed_annotations_find_their_module(tmp_path: Path) -> None:
    path = tmp_path / "configured.py"
    path.write_text(
        "from __future__ import annotations\nimport dataclasses\n" + HEADER + "@dataclasses.dataclass\n"
        "class Config:\n    channels: dataclasses.InitVar[int] = 2\n" + NET
    )
    assert trace(f"{path}:Net", input_shapes=SHAPE).inputs


def test_calls_for_a_gpu_are_made_on_the_cpu(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3).cuda()
        self.conv.to("cuda:0")
        self.shift = nn.Parameter(torch.ones(2, 1, 1, device="cuda"))
        self.legacy = torch.cuda.FloatTensor(1).fill_(3)

    def forward(self, x):
        x = x.to(torch.device("cuda")).type(torch.cuda.FloatTensor)
        ones = torch.ones(1, device="cuda").cuda(0)
        return torch.sign(self.conv(x.cuda()) + self.shift * ones) * self.legacy.to(0)

def make():
    return nn.DataParallel(Net()).cuda()
""",
    )
    legacy = sys.modules["torch"].cuda.FloatTensor
    traced = trace(f"{path}:make", input_shapes=SHAPE)
    assert sys.modules["torch"].cuda.FloatTensor is legacy
    assert traced.run_module is not None
    assert np.abs(traced.run_module([np.ones((1, 1, 6, 6), np.float32)])[0]).max() == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("net.py", "path/to/file.py:callable"),
        ("absent.py:Net", "there is no file absent.py"),
        ("absent.onnx", "absent.onnx does not exist"),
        ("no_such_package_here:Net", "No module named 'no_such_package_here'"),
    ],
)
def test_a_source_that_does_not_exist_is_refused(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trace(source, input_shapes=SHAPE)


def test_a_missing_callable_is_refused_with_what_the_file_defines(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no 'Network'; it defines Net$"):
        trace(f"{write(tmp_path, NET)}:Network", input_shapes=SHAPE)


def test_an_error_in_the_constructor_names_the_users_line(tmp_path: Path) -> None:
    path = write(tmp_path, NET + "def make():\n    return Net(channels=-1)\n")
    with pytest.raises(InputError, match=r"make\(\) failed: .*\n  at net.py:7 in __init__: self.conv = nn.Conv2d"):
        trace(f"{path}:make", input_shapes=SHAPE)


def test_a_callable_that_returns_no_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"returned a int, not an nn.Module"):
        trace(f"{write(tmp_path, 'def make(): return 3')}:make", input_shapes=SHAPE)


def test_a_missing_shape_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--input-shape 1x3x224x224"):
        trace(f"{write(tmp_path, NET)}:Net")


def test_a_wrong_shape_quotes_torch_and_the_users_line(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"x of 1x3x6x6:\n  RuntimeError: .*expected input.* to have 1 channels(.|\n)*"
        r"at net.py:10 in forward: return torch.sign\(self.conv\(x\)\)\nCheck the input shape",
    ):
        trace(f"{write(tmp_path, NET)}:Net", input_shapes=["1x3x6x6"])


TWO = """
class Two(nn.Module):
    def forward(self, image, mask, scale=None):
        return image.sign() * mask
"""


@pytest.mark.parametrize("shapes", [("1x1x4x4", "4"), ("mask=4", "1x1x4x4"), ("mask=4", "image=1x1x4x4")])
def test_shapes_of_several_inputs_go_by_name_and_by_order(tmp_path: Path, shapes: tuple[str, ...]) -> None:
    traced = trace(f"{write(tmp_path, TWO)}:Two", input_shapes=shapes)
    assert [(spec.name, spec.shape) for spec in traced.inputs] == [("image", (1, 1, 4, 4)), ("mask", (4,))]
    assert [value.name for value in traced.model.graph.inputs] == ["image", "mask"]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (("1x1x4x4",), "forward also needs mask"),
        (("masks=4", "4"), "'masks' is no input of forward, which takes image, mask, scale"),
        (("mask=4", "mask=4"), "given twice"),
        (("4", "4", "4", "4"), "4 input shapes are given, but forward takes 3"),
    ],
)
def test_shapes_that_do_not_match_the_parameters_are_refused(
    tmp_path: Path, shapes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        trace(f"{write(tmp_path, TWO)}:Two", input_shapes=shapes)


def test_a_network_that_goes_back_to_training_mode_is_run_in_eval_mode(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout()

    def forward(self, x):
        x = self.dropout(x)
        self.dropout.train()
        return x + 1
""",
    )
    network, _ = load_network(NetworkSource(f"{path}:Net", input_shapes=SHAPE))
    ones = np.ones((1, 1, 6, 6), np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(network.run([ones])[0], ones + 1)
