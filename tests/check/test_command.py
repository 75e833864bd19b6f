"""`bnncc check` as a user meets it: figures, faults, exit codes, interruptions, other processes."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import bnncc
from bnncc.cli import main
from bnncc.cli.terminal import INTERRUPTED
from bnncc.data import Preprocessing
from bnncc.frontend import NetworkSource, load_network
from bnncc.inference.runners import LceRunner
from bnncc.targets.tflite.reader import Operator, TfliteFile
from bnncc.targets.tflite.writer import pack, unpack

Array = npt.NDArray[Any]
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "fashion_mnist"
NETWORK = (f"{EXAMPLE}/net.py:make_net", "--weights", f"{EXAMPLE}/net.pth")
COUNT = 96
# Both networks take pixels as they are.
RAW = bnncc.Options(preprocessing=Preprocessing(pixels="0..255"))

# Two binary convolutions without padding, so that the first one's output is thresholds, and a third one with a sign in
# front that reads exact zeros: a max-pool of a ReLU.
THRESHOLDS = """\
import torch
from torch import nn


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.sign(x)


class BinaryConv(nn.Conv2d):
    def forward(self, x):
        return torch.nn.functional.conv2d(Sign.apply(x), Sign.apply(self.weight), None, self.stride)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, stride=2)
        self.first = BinaryConv(32, 32, 3, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.second = BinaryConv(32, 32, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = self.norm(self.first(self.stem(x / 255)))
        x = self.norm2(self.second(x))
        return self.fc(x.mean((2, 3)))


def make_net():
    torch.manual_seed(0)
    net = Net()
    for norm in (net.norm, net.norm2):
        nn.init.uniform_(norm.weight, 0.5, 2.0)
        norm.weight.data[::3] *= -1
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean, std=5.0)
        nn.init.uniform_(norm.running_var, 20.0, 60.0)
    return net
"""


@dataclass(frozen=True)
class Workspace:
    """images, labels: the data in `npz`.  file: the shipped network compiled.  thresholds: a network of its own."""

    folder: Path
    images: Array
    labels: Array
    npz: str
    file: str
    thresholds: tuple[str, str]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("check")
    with np.load(EXAMPLE / "test_images.npz") as data:
        images, labels = data["images"][:COUNT], data["labels"][:COUNT]
    np.savez(folder / "data.npz", images=images, labels=labels)
    compiled = bnncc.compile(NETWORK[0], weights=NETWORK[2], input_shapes=["1x1x28x28"], options=RAW)
    compiled.save(folder / "net.tflite")
    (folder / "thresholds.py").write_text(THRESHOLDS)
    source = f"{folder}/thresholds.py:make_net"
    bnncc.compile(source, input_shapes=["1x1x28x28"], options=RAW).save(folder / "thresholds.tflite")
    return Workspace(
        folder, images, labels, f"{folder}/data.npz", f"{folder}/net.tflite", (f"{folder}/thresholds.tflite", source)
    )


def check(*arguments: str) -> click.testing.Result:
    result = click.testing.CliRunner().invoke(main, ["check", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def shipped(workspace: Workspace, *arguments: str, data: str | None = None) -> click.testing.Result:
    return check(workspace.file, "--model", *NETWORK, "--data", data or workspace.npz, *arguments)


def refused(result: click.testing.Result, code: int = 2) -> str:
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stderr


def without_rates(path: Path) -> Any:
    """The JSON, but for what depends on the clock."""
    entry = json.loads(path.read_text())
    for name in ("reference", "compiled", "delegate", "baseline"):
        if entry[name] is not None:
            del entry[name]["images_per_second"]
    return entry


# The figures


def test_every_figure_is_what_pytorch_and_the_interpreter_give(workspace: Workspace, tmp_path: Path) -> None:
    result = shipped(workspace, "--json", f"{tmp_path}/out.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text())

    network, _ = load_network(NetworkSource(NETWORK[0], Path(NETWORK[2]), {}, ("1x1x28x28",)))
    runner = LceRunner(Path(workspace.file).read_bytes(), fastest=True)
    with torch.no_grad():
        network.module.eval()
        expected = np.concatenate([network.module(torch.from_numpy(i[None]).float()).numpy() for i in workspace.images])
    outputs = np.concatenate([runner.run([i.transpose(1, 2, 0)[None].astype(np.float32)])[0] for i in workspace.images])
    labels = workspace.labels
    difference = np.abs(outputs.astype(np.float64) - expected)

    assert found["images"] == found["total"] == COUNT
    for name, logits in (("reference", expected), ("compiled", outputs)):
        assert found[name]["top1"]["count"] == np.sum(logits.argmax(1) == labels)
        top5 = np.argsort(logits, axis=1)[:, -5:]
        assert found[name]["top5"]["count"] == np.sum((top5 == labels[:, None]).any(1))
    same = expected.argmax(1) == outputs.argmax(1)
    assert found["compiled"]["agreement"]["count"] == np.sum(same)
    assert [entry["row"] for entry in found["changed"]] == np.flatnonzero(~same).tolist()
    assert found["compiled"]["largest_error"] == pytest.approx(difference.max(), rel=1e-3)
    assert found["compiled"]["mean_error"] == pytest.approx(difference.mean(), rel=1e-3)
    snr = 10 * math.log10(np.square(expected.astype(np.float64)).sum() / np.square(difference).sum())
    assert found["compiled"]["snr"] == pytest.approx(snr, abs=0.01)
    assert found["facts"]["bytes"] == len(Path(workspace.file).read_bytes())


def test_without_labels_there_is_agreement_and_no_accuracy(workspace: Workspace, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=workspace.images[:4])
    result = shipped(workspace, "--json", f"{tmp_path}/out.json", data=f"{tmp_path}/data.npz")
    found = json.loads((tmp_path / "out.json").read_text())
    assert result.exit_code == 0
    assert found["compiled"]["agreement"]["total"] == 4
    assert found["reference"]["top1"] is None
    assert found["compiled"]["difference"] is None
    assert "accuracy" not in result.stdout


def test_a_compiled_model_is_checked_from_python_with_the_same_figures(workspace: Workspace, tmp_path: Path) -> None:
    shipped(workspace, "--json", f"{tmp_path}/out.json")
    compiled = bnncc.compile(NETWORK[0], weights=NETWORK[2], input_shapes=["1x1x28x28"], options=RAW)
    told: list[tuple[str, int, int]] = []
    result = compiled.check((workspace.images, workspace.labels), progress=lambda *news: told.append(news))
    expected = json.loads((tmp_path / "out.json").read_text())
    for name in ("top1", "agreement", "largest_error", "snr"):
        assert result.as_json()["compiled"][name] == expected["compiled"][name]
    assert told[-1] == ("images", COUNT, COUNT)


def test_a_network_with_a_batch_of_several_images_gets_them_in_whole_batches(
    workspace: Workspace, tmp_path: Path
) -> None:
    shipped(workspace, "--json", f"{tmp_path}/one.json")
    compiled = bnncc.compile(NETWORK[0], weights=NETWORK[2], input_shapes=["7x1x28x28"], options=RAW)
    compiled.save(tmp_path / "seven.tflite")
    result = check(
        f"{tmp_path}/seven.tflite", "--model", *NETWORK, "--data", workspace.npz, "--json", f"{tmp_path}/seven.json"
    )
    assert result.exit_code == 0, result.output
    one, seven = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "seven.json"))
    assert seven["images"] == COUNT
    assert seven["reference"]["top1"] == one["reference"]["top1"]


def test_a_float_file_is_put_beside_the_compiled_one(workspace: Workspace, tmp_path: Path) -> None:
    options = replace(RAW, disabled_passes=("recognize-binary-conv",))
    floats = bnncc.compile(NETWORK[0], weights=NETWORK[2], input_shapes=["1x1x28x28"], options=options)
    floats.save(tmp_path / "float.tflite")
    result = shipped(workspace, "--baseline", f"{tmp_path}/float.tflite", "--json", f"{tmp_path}/out.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["baseline"]["bytes"] == len(floats.content)
    assert found["baseline"]["agreement"]["total"] == COUNT
    assert found["baseline"]["top1"]["count"] == found["reference"]["top1"]["count"]
    assert re.search(r"^ +reference .*baseline *$", result.stdout, re.MULTILINE)


class Doubled(nn.Module):
    """Yields a feature map, no logits."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_outputs_that_are_no_logits_are_checked_by_their_error() -> None:
    compiled = bnncc.compile(Doubled(), input_shapes=["1x3x4x4"])
    result = compiled.check(np.random.default_rng(0).random((3, 3, 4, 4), np.float32))
    assert result.images == 3
    assert result.compiled.agreement is None
    assert result.compiled.largest_error == 0
    assert result.failures == ()


class Decoder(nn.Module):
    """A vector becomes a feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 24)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).reshape(-1, 2, 3, 4)


@pytest.mark.parametrize(
    ("network", "shape"),
    [(Decoder(), (1, 6)), (Doubled(), (1, 3, 3, 3)), (nn.Conv2d(4, 3, 3, padding=1), (1, 4, 4, 4))],
)
@pytest.mark.parametrize("channels_last", [True, False])
def test_the_layout_of_a_file_is_its_own_where_the_shapes_do_not_tell(
    network: nn.Module, shape: tuple[int, ...], channels_last: bool
) -> None:
    options = bnncc.Options(channels_last=channels_last)
    compiled = bnncc.compile(network, input_shapes=[shape], options=options)
    result = compiled.check(np.random.default_rng(0).standard_normal((5, *shape[1:])).astype(np.float32))
    assert result.compiled.largest_error < 1e-5


def test_as_many_pictures_of_changed_images_are_kept_as_asked_for(workspace: Workspace, tmp_path: Path) -> None:
    compiled = bnncc.compile(NETWORK[0], weights=NETWORK[2], input_shapes=["1x1x28x28"], options=RAW)
    wrong = replace(compiled, content=Path(worse(workspace, tmp_path)).read_bytes())
    result = wrong.check((workspace.images[:8], workspace.labels[:8]), pictures=2)
    assert len(result.changed) > 2
    assert list(result.pictures) == [image.row for image in result.changed[:2]]
    for row, picture in result.pictures.items():
        np.testing.assert_array_equal(picture, workspace.images[row].transpose(1, 2, 0))


def test_without_a_bar_too_a_file_that_changes_most_classes_fails(workspace: Workspace, tmp_path: Path) -> None:
    compiled = bnncc.compile(NETWORK[0], weights=NETWORK[2], input_shapes=["1x1x28x28"], options=RAW)
    wrong = replace(compiled, content=Path(worse(workspace, tmp_path)).read_bytes())
    (failure,) = wrong.check((workspace.images, workspace.labels)).failures
    assert "of the images keep their class, with 95% confidence less than 90%" in failure
    assert compiled.check((workspace.images[:2], workspace.labels[:2])).failures == ()


def test_an_onnx_file_is_the_network_and_takes_no_weights(workspace: Workspace, tmp_path: Path) -> None:
    compiled = bnncc.compile(NETWORK[0], weights=NETWORK[2], input_shapes=["1x1x28x28"], options=RAW)
    network = str(tmp_path / "net.onnx")
    ir.save(compiled.traced.model, network)
    bnncc.compile(network, options=RAW).save(tmp_path / "net.tflite")
    arguments = (f"{tmp_path}/net.tflite", "--model", network, "--data", workspace.npz)
    result = check(*arguments)
    assert result.exit_code == 0, result.output
    assert f"{COUNT} images" in result.stdout
    assert "has its weights inside" in refused(check(*arguments, "--weights", NETWORK[2]))


def test_a_float_file_of_other_weights_is_refused(workspace: Workspace) -> None:
    message = refused(shipped(workspace, "--baseline", workspace.thresholds[0]))
    assert "was made from other weights" in message


# Layers


def test_a_right_file_passes_layer_by_layer(workspace: Workspace, tmp_path: Path) -> None:
    result = shipped(workspace, "--layers", "--layer-inputs", "2", "--json", f"{tmp_path}/out.json")
    assert result.exit_code == 0, result.output
    layers = json.loads((tmp_path / "out.json").read_text())["verification"]["layers"]
    assert len(layers) == 7
    assert all(layer["wrong"] == 0 and layer["sums"] > 0 for layer in layers)


def changed(path: str, output: str, index: int, change: Callable[[Array], object]) -> bytes:
    """The file with the constant input `index` of one LceBconv2d changed in place."""
    content = Path(path).read_bytes()
    file, model = TfliteFile(content), unpack(content)
    tensor = binary_convolution(file, output).inputs[index]
    assert tensor is not None
    data = file.data(tensor)
    assert data is not None
    array = data.copy()
    change(array)
    assert not np.array_equal(array, data)
    model.buffers[model.subgraphs[0].tensors[tensor.index].buffer].data = array.reshape(-1).view(np.uint8)
    return pack(model)


def binary_convolution(file: TfliteFile, output: str) -> Operator:
    (found,) = [o for o in file.operators if o.name == "LceBconv2d" and o.outputs[0].name.startswith(output)]
    return found


def flip_one_bit(words: Array) -> None:
    words.reshape(-1)[5] ^= 1 << 3


def one_percent_more(values: Array) -> None:
    values[np.argmax(np.abs(values))] *= 1.01


def one_more(values: Array) -> None:
    """A threshold among those that are compared with sums, not the ends that say always or never."""
    values[np.argmin(np.abs(values))] += 1


WEIGHTS, MULTIPLIERS, LAST = 1, 2, -1


@pytest.mark.parametrize(
    ("operator", "index", "change", "problem"),
    [
        (
            "second",
            WEIGHTS,
            flip_one_bit,
            "layer 'second': its integer sums differ from the reference's (channel 0; rows ",
        ),
        ("second", MULTIPLIERS, one_percent_more, "layer 'second': its multipliers or biases are not"),
        ("first", LAST, one_more, "layer 'first': its thresholds are not"),
    ],
    ids=["a weight bit", "a multiplier", "a threshold"],
)
def test_a_fault_put_in_on_purpose_is_found_and_named(
    workspace: Workspace, tmp_path: Path, operator: str, index: int, change: Callable[[Array], object], problem: str
) -> None:
    path, source = workspace.thresholds
    outputs = {"first": "norm", "second": "norm2"}
    names = [o.outputs[0].name for o in TfliteFile(Path(path).read_bytes()).operators if o.name == "LceBconv2d"]
    assert len(names) == 2, names
    name = names[list(outputs).index(operator)]
    (tmp_path / "wrong.tflite").write_bytes(changed(path, name, index, change))
    wrong = check(f"{tmp_path}/wrong.tflite", "--model", source, "--data", workspace.npz, "--layers")
    assert problem in refused(wrong, code=1)
    other = {"first": "second", "second": "first"}[operator]
    assert f"layer '{other}'" not in wrong.stderr
    right = check(path, "--model", source, "--data", workspace.npz, "--layers")
    assert right.exit_code == 0, right.output


def test_exact_zeros_at_a_sign_are_counted_with_their_share(workspace: Workspace, tmp_path: Path) -> None:
    images = workspace.images.copy()
    images[:, :, :3, :3] = 0
    (tmp_path / "zeros.py").write_text(THRESHOLDS.replace("stride=2)", "stride=2, bias=False)"))
    source = f"{tmp_path}/zeros.py:make_net"
    np.savez(tmp_path / "data.npz", images=images)
    bnncc.compile(source, input_shapes=["1x1x28x28"], options=RAW).save(tmp_path / "zeros.tflite")
    result = check(f"{tmp_path}/zeros.tflite", "--model", source, "--data", f"{tmp_path}/data.npz", "--layers")
    assert "signs read an exact 0 (most at '" in result.stderr


def test_a_file_with_other_operators_than_this_version_makes_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    content = Path(workspace.file).read_bytes()
    model = unpack(content)
    for entry in model.metadata:
        if entry.name == b"bnncc":
            settings = json.loads(bytes(model.buffers[entry.buffer].data))
            settings["padding"] = "one-padded"
            model.buffers[entry.buffer].data = np.frombuffer(json.dumps(settings).encode(), np.uint8)
    (tmp_path / "other.tflite").write_bytes(pack(model))
    result = check(f"{tmp_path}/other.tflite", "--model", *NETWORK, "--data", workspace.npz, "--layers")
    assert "other operators than the file has" in refused(result)


# Bars for a pipeline


def worse(workspace: Workspace, folder: Path) -> str:
    """The shipped network's file with a wrong last layer: another class for most images."""
    content = Path(workspace.file).read_bytes()
    file, model = TfliteFile(content), unpack(content)
    (linear,) = [o for o in file.operators if o.name == "FULLY_CONNECTED"]
    tensor = linear.inputs[1]
    assert tensor is not None
    weights = file.data(tensor)
    assert weights is not None
    model.buffers[model.subgraphs[0].tensors[tensor.index].buffer].data = (-weights).reshape(-1).view(np.uint8)
    (folder / "worse.tflite").write_bytes(pack(model))
    return f"{folder}/worse.tflite"


@pytest.mark.parametrize(
    ("bar", "message"),
    [
        (("--min-agreement", "50"), "of the images keep their class, less than 50 %"),
        (("--max-accuracy-drop", "1%"), "the accuracy drops by"),
    ],
)
def test_a_file_below_the_bar_is_exit_code_1_and_one_above_it_is_0(
    workspace: Workspace, tmp_path: Path, bar: tuple[str, str], message: str
) -> None:
    wrong = check(worse(workspace, tmp_path), "--model", *NETWORK, "--data", workspace.npz, *bar)
    assert message in refused(wrong, code=1)
    assert "top-1 accuracy" in wrong.stdout
    assert shipped(workspace, *bar).exit_code == 0


@pytest.mark.parametrize(
    ("bar", "message"),
    [
        (("--min-agreement", "0.99"), "Write 99.0% for that"),
        (("--min-agreement", "101"), "is no percentage"),
        (("--max-accuracy-drop", "little"), "cannot read 'little'"),
        (("--max-accuracy-drop", "1"), "the data have no labels"),
    ],
)
def test_a_bar_that_could_not_fail_is_refused(
    workspace: Workspace, tmp_path: Path, bar: tuple[str, str], message: str
) -> None:
    np.savez(tmp_path / "data.npz", images=workspace.images[:2])
    assert message in refused(shipped(workspace, *bar, data=f"{tmp_path}/data.npz"))


# Other processes, interruptions


@pytest.mark.slow
def test_two_processes_and_a_cluster_give_the_same_figures_as_one(workspace: Workspace, tmp_path: Path) -> None:
    from distributed import LocalCluster

    outputs = {name: tmp_path / f"{name}.json" for name in ("one", "two", "dask")}
    assert shipped(workspace, "--jobs", "1", "--json", str(outputs["one"])).exit_code == 0
    assert shipped(workspace, "--jobs", "2", "--json", str(outputs["two"])).exit_code == 0
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        result = shipped(workspace, "--dask", cluster.scheduler_address, "--json", str(outputs["dask"]))
    assert result.exit_code == 0, result.output
    one, two, dask = (without_rates(path) for path in outputs.values())
    assert one["images"] == COUNT
    assert one == two == dask


DEADLY = """\
import multiprocessing, os, signal
import numpy as np


class Deadly:
    def __len__(self):
        return 200

    def __getitem__(self, row):
        if row > 100 and "loky" in multiprocessing.current_process().name.lower():
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros((1, 28, 28), np.float32)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_is_told_and_what_is_measured_is_kept(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(DEADLY)
    resume, data = tmp_path / "resume.npz", f"{tmp_path}/data.py:Deadly"
    message = refused(shipped(workspace, "--jobs", "2", "--resume", str(resume), data=data))
    assert "a process that measured was killed" in message
    assert resume.is_file()
    again = shipped(workspace, "--resume", str(resume), data=data)
    assert again.exit_code == 0, again.output
    assert "200 images" in again.stdout


def test_a_scheduler_that_is_not_there_is_an_error(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnncc.check.run.DASK_TIMEOUT", 0.5)
    assert "there is no scheduler at tcp://127.0.0.1:1" in refused(shipped(workspace, "--dask", "tcp://127.0.0.1:1"))


SLOW_DATA = """\
import os
import time
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

FOLDER = Path(__file__).parent


class Slow(Dataset):
    def __init__(self):
        with np.load({npz!r}) as data:
            self.images, self.labels = data["images"], data["labels"]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        if 64 <= row < 95 and not (FOLDER / "fast").exists():
            (FOLDER / "reached").touch()
            time.sleep(600)
        return self.images[row], self.labels[row]


def make():
    return Slow()
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from bnncc.cli import main; main()", "check", *arguments]


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.slow
def test_ctrl_c_prints_what_was_measured_and_a_resumed_run_gives_the_figures_of_a_whole_one(
    workspace: Workspace, tmp_path: Path, jobs: str
) -> None:
    (tmp_path / "slow.py").write_text(SLOW_DATA.format(npz=workspace.npz))
    arguments = [workspace.file, "--model", *NETWORK, "--data", f"{tmp_path}/slow.py:make", "--jobs", jobs]
    resume = ["--resume", f"{tmp_path}/kept", "--json", f"{tmp_path}/resumed.json"]
    process = subprocess.Popen(
        command(*arguments, *resume),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What runs the tests may ignore SIGINT, and its children would too.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_for(tmp_path / "reached", process)
        time.sleep(1)  # with two jobs: the other one ends its chunk
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate()
    finally:
        process.kill()
    assert process.returncode == INTERRUPTED, errors
    assert "Traceback" not in errors
    # The first two chunks of 32; with two processes the second one may not be done.
    *progress, last = errors.splitlines()
    found = re.fullmatch(r"interrupted: (\d+) of 96 images were measured", last)
    assert found is not None, errors
    assert all(re.fullmatch(r"images: \d+ of 96 \(\d+ s\)", line) for line in progress), errors
    assert found[1] in (("64",) if jobs == "1" else ("32", "64"))
    assert f"{found[1]} images of 96: interrupted" in output
    assert json.loads((tmp_path / "resumed.json").read_text())["complete"] is False

    (tmp_path / "fast").touch()
    assert check(*arguments, *resume).exit_code == 0
    (tmp_path / "kept").unlink()
    assert check(*arguments, "--json", f"{tmp_path}/whole.json").exit_code == 0
    assert without_rates(tmp_path / "resumed.json") == without_rates(tmp_path / "whole.json")


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


@pytest.mark.slow
def test_a_run_is_not_resumed_with_other_data_or_another_file(workspace: Workspace, tmp_path: Path) -> None:
    kept = f"{tmp_path}/kept"
    assert shipped(workspace, "--resume", kept).exit_code == 0
    np.savez(tmp_path / "other.npz", images=workspace.images[:5], labels=workspace.labels[:5])
    assert "is of another check" in refused(shipped(workspace, "--resume", kept, data=f"{tmp_path}/other.npz"))
    images = workspace.images.copy()
    for name in ("same", "other"):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=workspace.labels)
        (tmp_path / "data.py").write_text(SLOW_DATA.format(npz=f"{tmp_path}/{name}.npz"))
        (tmp_path / "fast").touch()
        result = shipped(workspace, "--resume", f"{tmp_path}/of_code", data=f"{tmp_path}/data.py:make")
        images[-1] += 1
    assert "is of another check (its data)" in refused(result)
    Path(kept).write_bytes(b"something else")
    assert "does not hold an interrupted check" in refused(shipped(workspace, "--resume", kept))
    assert Path(kept).read_bytes() == b"something else"


def test_a_bar_with_rate_and_time_left_is_shown_on_a_terminal_and_nowhere_else(workspace: Workspace) -> None:
    arguments = command(workspace.file, "--model", *NETWORK, "--data", workspace.npz)
    controller, terminal = pty.openpty()
    try:
        with subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=terminal, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        ) as process:
            os.close(terminal)
            shown = read_all(controller)
        assert process.returncode == 0
    finally:
        os.close(controller)
    assert f"/{COUNT}" in shown
    assert "/s" in shown
    assert "0:00:0" in shown
    assert shipped(workspace).stderr == ""


def read_all(descriptor: int) -> str:
    content = b""
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            return content.decode(errors="replace")
        content += part


# Pictures


def save_pictures(folder: Path, images: Array, labels: Sequence[int]) -> None:
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(folder / f"class{label}" / f"{index:03}.png")


def test_a_folder_of_pictures_gives_the_figures_of_the_same_arrays(workspace: Workspace, tmp_path: Path) -> None:
    save_pictures(tmp_path / "images", workspace.images, workspace.labels)
    assert shipped(workspace, "--json", f"{tmp_path}/npz.json").exit_code == 0
    assert shipped(workspace, "--json", f"{tmp_path}/png.json", data=f"{tmp_path}/images").exit_code == 0
    arrays, pictures = (json.loads((tmp_path / f"{kind}.json").read_text()) for kind in ("npz", "png"))
    assert pictures["classes"][3] == "class3"
    for name in ("reference", "compiled"):
        assert arrays[name]["top1"] == pictures[name]["top1"]


def test_preprocessing_and_class_names_are_given_once_and_kept_in_the_file(
    workspace: Workspace, tmp_path: Path
) -> None:
    names = [f"class{index}" for index in range(10)]
    (tmp_path / "names.txt").write_bytes("\r\n".join(names).encode("utf-8-sig"))  # as Windows' editor writes it
    compile_arguments = (
        "compile", *NETWORK, "--input-shape", "1x1x28x28", "-o", f"{tmp_path}/net.tflite", "--no-verify",
        "--resize", "30", "--crop", "28", "--mean", "0.1", "--std", "0.004", "--classes", f"{tmp_path}/names.txt",
    )  # fmt: skip
    assert click.testing.CliRunner().invoke(main, compile_arguments).exit_code == 0
    # Four of the ten classes: the names tell which.
    chosen = [index for index in range(COUNT) if workspace.labels[index] in (2, 4, 7, 8)]
    pictures = [np.asarray(Image.fromarray(workspace.images[i][0]).resize((40, 32)))[None] for i in chosen]
    save_pictures(tmp_path / "images", np.stack(pictures), workspace.labels[chosen].tolist())
    result = check(
        f"{tmp_path}/net.tflite", "--model", *NETWORK, "--data", f"{tmp_path}/images", "--json", f"{tmp_path}/out.json"
    )
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["classes"] == names

    network, _ = load_network(NetworkSource(NETWORK[0], Path(NETWORK[2]), {}, ("1x1x28x28",)))
    right = 0
    for picture, index in zip(pictures, chosen, strict=True):
        resized = Image.fromarray(picture[0]).resize((37, 30), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized)[1:29, 4:32].astype(np.float32)
        (logits,) = network.run([((pixels / 255 - 0.1) / 0.004)[None, None]])
        right += int(np.argmax(logits) == workspace.labels[index])
    assert found["reference"]["top1"]["count"] == right
    other = check(
        f"{tmp_path}/net.tflite", "--model", *NETWORK, "--data", f"{tmp_path}/images", "--mean", "0.5", "--std", "1"
    )
    assert "was compiled with the preprocessing" in refused(other)


def test_a_corrupt_picture_is_named_and_left_out_only_where_that_is_asked_for(
    workspace: Workspace, tmp_path: Path
) -> None:
    save_pictures(tmp_path / "images", workspace.images[:40], list(range(10)) * 4)
    wrong = sorted((tmp_path / "images").rglob("*.png"))[7]
    wrong.write_bytes(wrong.read_bytes()[:80])
    message = refused(shipped(workspace, data=f"{tmp_path}/images"))
    assert str(wrong.relative_to(tmp_path / "images")) in message
    result = shipped(workspace, "--skip-bad-images", "--json", f"{tmp_path}/out.json", data=f"{tmp_path}/images")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["images"], found["total"]) == (39, 40)
    assert found["skipped"] == [str(wrong.relative_to(tmp_path / "images"))]
    assert "39 images, 1 skipped" in result.stdout


# What a user may get wrong


def test_images_of_nan_and_labels_out_of_range_are_named(workspace: Workspace, tmp_path: Path) -> None:
    images = workspace.images[:8].astype(np.float32)
    images[5, 0, 3, 3] = np.nan
    np.savez(tmp_path / "nan.npz", images=images)
    assert "image 5 holds NaN" in refused(shipped(workspace, data=f"{tmp_path}/nan.npz"))
    np.savez(tmp_path / "labels.npz", images=workspace.images[:3], labels=np.array([1, 10, 2]))
    message = refused(shipped(workspace, data=f"{tmp_path}/labels.npz"))
    assert "image 1 has the label 10, and the network has the classes 0 to 9" in message


def test_a_folder_with_another_number_of_classes_and_no_names_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    save_pictures(tmp_path / "images", workspace.images[:3], [0, 1, 2])
    message = refused(shipped(workspace, data=f"{tmp_path}/images"))
    assert "3 class folders, and the network has 10 classes" in message


def test_a_file_of_other_weights_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    state = torch.load(NETWORK[2], weights_only=True)
    state["fc.bias"][0] += 1
    torch.save(state, tmp_path / "other.pth")
    result = check(workspace.file, "--model", NETWORK[0], "--weights", f"{tmp_path}/other.pth", "--data", workspace.npz)
    message = refused(result)
    assert "was compiled from other weights than" in message
    assert "other.pth" in message


def test_a_file_that_is_none_of_bnncc_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    def message(content: bytes) -> str:
        (tmp_path / "file.tflite").write_bytes(content)
        result = check(f"{tmp_path}/file.tflite", "--model", *NETWORK, "--data", workspace.npz)
        return refused(result)

    assert "is no TensorFlow Lite file" in message(b"not a model at all, only some text")
    model = unpack(Path(workspace.file).read_bytes())
    model.metadata = []
    assert "was not compiled by bnncc" in message(pack(model))
    result = check(f"{tmp_path}/missing.tflite", "--model", *NETWORK, "--data", workspace.npz)
    assert "missing.tflite does not exist" in refused(result)


@pytest.mark.parametrize("option", ["--json", "--html", "--resume"])
def test_a_report_that_cannot_be_written_is_told_before_the_run(workspace: Workspace, option: str) -> None:
    result = shipped(workspace, option, f"{workspace.folder}/none/file")
    assert "there is no directory" in refused(result)
    assert result.stdout == ""
