"""A file whose name others bear is imported, and its imports find what they mean."""

from __future__ import annotations

import inspect
import random
import subprocess
import sys
from pathlib import Path

import pytest

import bnncc
from bnncc.errors import InputError
from bnncc.frontend import NetworkSource, load_network
from tests.needs import needs_lce

NET = """
import torch
from torch import nn
class Net(nn.Module):
    SOURCE = __file__
    def __init__(self, width=2):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
    def forward(self, x):
        return self.conv(x)
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def source_of_network(source: str) -> str:
    """The file in which the loaded network's class is defined."""
    network, _ = load_network(NetworkSource(source, input_shapes=("1x1x4x4",)))
    network.run([network.inputs[0].zeros()])
    return str(network.module.SOURCE)  # type: ignore[union-attr]


@pytest.mark.parametrize("init", [{}, {"net/__init__.py": ""}], ids=["folder", "package"])
def test_a_file_beside_a_package_of_its_name_may_import_from_it(tmp_path: Path, init: dict[str, str]) -> None:
    write(
        tmp_path, {**init, "net/model.py": NET, "net.py": "from net.model import Net\ndef make():\n    return Net()\n"}
    )
    assert source_of_network(f"{tmp_path}/net.py:make") == f"{tmp_path}/net/model.py"


def test_a_package_of_the_files_name_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"models/__init__.py": "from models.small import Net", "models/small.py": NET})
    write(tmp_path, {"tools/models.py": "import models\ndef make():\n    return models.Net()\n"})
    monkeypatch.chdir(tmp_path)
    assert source_of_network("tools/models.py:make") == f"{tmp_path}/models/small.py"


def test_a_module_of_the_files_name_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"resnet.py": NET, "mine/resnet.py": "def make():\n    from resnet import Net\n    return Net()\n"})
    monkeypatch.chdir(tmp_path)
    assert source_of_network("mine/resnet.py:make") == f"{tmp_path}/resnet.py"


def test_what_the_file_imports_may_mean_the_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"models/__init__.py": "", "models/small.py": NET, "build.py": "from models.small import Net\n"})
    write(tmp_path, {"tools/models.py": "from build import Net\n"})
    monkeypatch.chdir(tmp_path)
    assert source_of_network("tools/models.py:Net") == f"{tmp_path}/models/small.py"


def test_an_import_inside_of_forward_means_the_other_one_too(tmp_path: Path) -> None:
    body = NET.replace(
        "        return self.conv(x)", "        from net.gain import GAIN\n        return self.conv(x) * GAIN"
    )
    write(tmp_path, {"net.py": body, "net/gain.py": "GAIN = 3.0\n"})
    assert source_of_network(f"{tmp_path}/net.py:Net") == f"{tmp_path}/net.py"


def test_a_sibling_that_imports_the_file_gets_the_file_itself(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": NET + "def make():\n    import other\n    assert other.Net is Net\n    return Net()\n"})
    write(tmp_path, {"other.py": "from net import Net\n"})
    assert source_of_network(f"{tmp_path}/net.py:make") == f"{tmp_path}/net.py"


@pytest.mark.parametrize("name", ["random", "inspect", "torch", "statistics", "queue", "numpy", "rich", "calendar"])
def test_a_file_named_like_a_module_that_everyone_imports(tmp_path: Path, name: str) -> None:
    write(tmp_path, {f"{name}.py": NET})
    modules = sys.modules.get(name)
    assert source_of_network(f"{tmp_path}/{name}.py:Net") == f"{tmp_path}/{name}.py"
    assert modules is None or sys.modules[name] is modules
    assert random.random() < 1
    assert inspect.isfunction(write)


@needs_lce
@pytest.mark.parametrize("name", ["random", "statistics"])
def test_it_compiles_in_a_process_of_its_own(tmp_path: Path, name: str) -> None:
    write(tmp_path, {f"{name}.py": NET})
    command = [sys.executable, "-c", "from bnncc.cli import main; main()", "compile", f"{name}.py:Net"]
    arguments = ["--input-shape", "1x1x8x8", "-o", "net.tflite", "--inputs", "1", "--runtime", "lce"]
    run = subprocess.run([*command, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (run.returncode, run.stderr.count("Traceback")) == (0, 0), run.stderr
    assert (tmp_path / "net.tflite").is_file()


def test_an_import_that_fails_inside_a_package_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the parent leaves sys.modules, the path of a namespace package within it is not known any more."""
    installed = {"outer/__init__.py": "import outer.inner.part\nimport not_there_at_all\n", "outer/inner/part.py": ""}
    write(tmp_path, {**{f"site/{name}": text for name, text in installed.items()}, "net.py": "import outer\n" + NET})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(InputError, match=r"No module named 'not_there_at_all'"):
        load_network(NetworkSource(f"{tmp_path}/net.py:Net", input_shapes=("1x1x4x4",)))
    sys.modules.pop("outer.inner", None)


def environment() -> dict[str, str]:
    import os

    root = str(Path(bnncc.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": root, "PYTHONSAFEPATH": "1"}


def test_two_files_of_one_name_do_not_meet(tmp_path: Path) -> None:
    write(tmp_path, {"a/net.py": NET, "b/net.py": NET.replace("width=2", "width=3")})
    first, _ = load_network(NetworkSource(f"{tmp_path}/a/net.py:Net", input_shapes=("1x1x4x4",)))
    second, _ = load_network(NetworkSource(f"{tmp_path}/b/net.py:Net", input_shapes=("1x1x4x4",)))
    assert [network.module.conv.out_channels for network in (first, second)] == [2, 3]  # type: ignore[union-attr]
    assert "net" not in sys.modules


def test_nested_attributes_and_what_needs_arguments(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": NET + "class Models:\n    small = Net\n    one = Net(5)\n    def large(self): ...\n"})
    assert source_of_network(f"{tmp_path}/net.py:Models.small") == f"{tmp_path}/net.py"
    network, _ = load_network(NetworkSource(f"{tmp_path}/net.py:Models.one", input_shapes=("1x1x4x4",)))
    assert network.module.conv.out_channels == 5  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"cannot call Models.large\(\): missing a required argument: 'self'"):
        load_network(NetworkSource(f"{tmp_path}/net.py:Models.large", input_shapes=("1x1x4x4",)))
    with pytest.raises(InputError, match=r"net.py has no 'Models.medium'"):
        load_network(NetworkSource(f"{tmp_path}/net.py:Models.medium", input_shapes=("1x1x4x4",)))


def test_a_file_that_fails_is_quoted_not_its_second_try(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": "import net_that_is_not_there\n", "net/__init__.py": ""})
    with pytest.raises(InputError, match="No module named 'net_that_is_not_there'"):
        load_network(NetworkSource(f"{tmp_path}/net.py:Net", input_shapes=("1x1x4x4",)))
