"""The networks of examples/papers: the small forms with their trained weights, the full-size ones with honest random
parameters."""

from __future__ import annotations

import contextlib
import functools
import gzip
import importlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch

import bnncc
from bnncc.inference.runners import Runtime
from bnncc.model import CompiledModel
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.verification import verify, verify_in
from tests.needs import RUNTIMES
from tests.networks.honest import honest, smooth_images
from tests.targets.runtime.emulated_runtime import emulated_runtimes

REPOSITORY = Path(__file__).parent.parent
PAPERS = REPOSITORY / "examples" / "papers"
IMAGES = REPOSITORY / "examples" / "fashion_mnist" / "test_images.npz"
MARKER = "<!-- table: examples/papers/table.py -->"

# binary layers of each small form, and of each full-size network with the size of its images
SMALL = {
    "rep_reactnet_small": 8,
    "rep_recu_resnet20_small": 6,
    "ftbnn_small": 4 + 1,  # the layer that halves the map has a binary shortcut
    "rbnet_small": 4,
    "sdbnn_resnet20_small": 4,
    "sdbnn_vgg_small": 3,
}
FULL_SIZE = {
    ("repbnn", "rep_adambnn_reactnet_a"): (13 + 13 + 5, 224),
    ("repbnn", "rep_recu_resnet20"): (18, 32),
    ("ftbnn", "ftbnn_resnet18"): (16 + 3, 224),
    ("rbnet", "rbnet_resnet18"): (16, 224),
    ("sdbnn", "sdbnn_resnet18"): (16, 224),
    ("sdbnn", "sdbnn_resnet20"): (18, 32),
    ("sdbnn", "sdbnn_vgg"): (5, 32),
}
VERIFIED_IMAGES = 4
# What a small network with shortcuts reaches on Fashion-MNIST.
RESIDUAL_ACCURACY = 0.88


@contextlib.contextmanager
def papers_on_path() -> Iterator[None]:
    """Their files import each other, as a script's do; no other test finds them."""
    sys.path.insert(0, str(PAPERS))
    try:
        yield
    finally:
        sys.path.remove(str(PAPERS))


@pytest.fixture(autouse=True)
def importable_papers() -> Iterator[None]:
    with papers_on_path():
        yield


def script(name: str) -> ModuleType:
    """A file of examples/papers as a module."""
    with papers_on_path():
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def emulated() -> Iterator[dict[str, Runtime]]:
    """Runtimes on emulated ARM processors, where this machine has them."""
    with emulated_runtimes() as runtimes:
        yield runtimes


@functools.cache
def compiled_small(name: str) -> CompiledModel:
    with papers_on_path():
        compiled: CompiledModel = script("table").compile_small(name)
    return compiled


def operators(compiled: CompiledModel) -> Counter[str]:
    return Counter(operator.name for operator in TfliteFile(compiled.content).operators)


def clauses(compiled: CompiledModel, text: str) -> int:
    """How many binary layers have `text` in their explanation."""
    return sum(any(text in clause for clause in layer.explanation) for layer in compiled.layers)


# The small forms


@pytest.mark.parametrize("name", SMALL)
def test_all_binary_layers_of_a_small_form_are_binary_and_its_sums_exact(name: str) -> None:
    compiled = compiled_small(name)
    assert [layer.reason for layer in compiled.layers] == [None] * SMALL[name]
    with np.load(IMAGES) as data:
        images = data["images"][:VERIFIED_IMAGES].astype(np.float32).reshape(-1, 1, 1, 28, 28)
    found = verify(compiled, [[image] for image in images])
    assert found.passed, found.problems
    assert {layer.module for layer in found.layers} == {layer.module for layer in compiled.layers}
    assert all(layer.sums > 0 and layer.wrong == 0 for layer in found.layers)
    assert all(sign.flipped == sign.explained for sign in found.signs)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_form_is_the_network_on_the_delegate_as_well(name: str) -> None:
    with np.load(IMAGES) as data:
        images = data["images"][:2].astype(np.float32).reshape(-1, 1, 1, 28, 28)
    found = verify(compiled_small(name), [[image] for image in images], runtime=Runtime.LITERT)
    assert found.passed, found.problems


@pytest.mark.parametrize("name", SMALL)
def test_a_small_form_and_its_file_name_the_same_class_on_every_image_or_a_rounding_flip_explains_it(name: str) -> None:
    table, compiled = script("table"), compiled_small(name)
    with np.load(IMAGES) as data:
        images, labels = data["images"].reshape(-1, 1, 28, 28), data["labels"]
    expected = table.reference_classes(name, torch.from_numpy(images))
    found = table.compiled_classes(compiled, images)
    differing = np.flatnonzero(expected != found)
    assert all(table.is_rounding_flip(compiled, images[index]) for index in differing)
    assert abs(int((found == labels).sum()) - int((expected == labels).sum())) <= len(differing) <= len(images) // 200


@pytest.mark.parametrize("name", SMALL)
def test_the_log_says_what_the_small_form_was_trained_to(name: str) -> None:
    *_, last_epoch, final, record = (PAPERS / "weights" / f"{name}.log").read_text().splitlines()
    accuracy = re.fullmatch(r"test accuracy ([\d.]+)% on 10,000 images", final)
    assert accuracy is not None
    assert f"test accuracy {accuracy[1]}%" in last_epoch
    assert f"reference {round(float(accuracy[1]) * 100):,}," in record
    assert "vgg" in name or float(accuracy[1]) / 100 > RESIDUAL_ACCURACY


def test_the_committed_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in (PAPERS / "weights").iterdir()) < 10e6


# Which passes did the work


def test_repconv_is_merged_into_filters_or_repeated_as_the_cost_says() -> None:
    compiled = compiled_small("rep_reactnet_small")
    repetitions = script("table").repetitions(TfliteFile(compiled.content))
    # Seven RepConvs in the output form; the eighth binary layer is the one in the input form.
    merged = clauses(compiled, "4 copies of its output merged into the weights")
    assert merged + repetitions == 7
    assert merged >= 5
    resnet = compiled_small("rep_recu_resnet20_small")
    merged = clauses(resnet, "4 copies of its output merged into the weights")
    assert merged + script("table").repetitions(TfliteFile(resnet.content)) == 6


def test_recus_weights_are_bits_and_its_learnt_scale_is_in_the_multipliers() -> None:
    counts = operators(compiled_small("rep_recu_resnet20_small"))
    assert counts["LceQuantize"] == counts["LceBconv2d"] == 6
    for unwanted in ("DIV", "SUB", "MINIMUM", "MAXIMUM", "SQRT", "LOG", "LceDequantize"):
        assert counts[unwanted] == 0, unwanted


def test_groups_of_whole_words_are_split_as_bits() -> None:
    compiled = compiled_small("ftbnn_small")
    file, counts = TfliteFile(compiled.content), operators(compiled)
    assert clauses(compiled, "split into 2 convolutions") == 4
    assert counts["LceBconv2d"] == 4 * 2 + 1
    assert [o.inputs[1].dtype for o in file.operators if o.name == "SPLIT" and o.inputs[1] is not None] == ["int32"] * 4
    assert counts["LceQuantize"] == 5


def test_fprelu_is_one_operator_whatever_its_slopes() -> None:
    counts = operators(compiled_small("ftbnn_small"))
    assert counts["PRELU"] == 5
    for unwanted in ("WHERE", "SELECT", "SELECT_V2", "GREATER", "RELU", "NEG"):
        assert counts[unwanted] == 0, unwanted


def test_pixel_unshuffle_moves_words_and_pixel_shuffle_is_one_copy() -> None:
    compiled = compiled_small("rbnet_small")
    file, counts = TfliteFile(compiled.content), operators(compiled)
    unshuffled = [o.inputs[0].dtype for o in file.operators if o.name == "SPACE_TO_DEPTH" and o.inputs[0] is not None]
    assert unshuffled == ["int32"] * 4
    # The layer at stride 2 has none.
    assert counts["DEPTH_TO_SPACE"] == 3
    for unwanted in ("TRANSPOSE", "LceDequantize", "GATHER", "RESHAPE"):
        assert counts[unwanted] == 0, unwanted


def test_the_batch_norms_behind_pixel_shuffle_are_in_the_convolutions() -> None:
    # What remains is the pixels' standard deviation and the balanced activation's scale behind each shortcut.
    assert operators(compiled_small("rbnet_small"))["MUL"] == 1 + 4


@pytest.mark.parametrize("name", ["sdbnn_resnet20_small", "sdbnn_vgg_small"])
def test_of_sd_bnn_the_branch_of_each_activation_shift_stays_in_float_and_wsd_is_gone(name: str) -> None:
    counts, layers = operators(compiled_small(name)), SMALL[name]
    assert counts["LceQuantize"] == counts["LceBconv2d"] == counts["LOGISTIC"] == layers
    assert counts["FULLY_CONNECTED"] == 2 * layers + 1
    assert counts["BROADCAST_TO"] == 0
    assert counts["LceDequantize"] == 0


# The full-size networks


@pytest.mark.slow
@pytest.mark.parametrize(("file", "name"), FULL_SIZE)
def test_all_binary_layers_of_a_full_size_network_are_binary_and_its_sums_exact(file: str, name: str) -> None:
    layers, size = FULL_SIZE[file, name]
    torch.manual_seed(0)
    network = honest(getattr(script(file), name)(), size)
    compiled = bnncc.compile(network, input_shapes=[(1, 3, size, size)])
    assert [(layer.module, layer.reason) for layer in compiled.layers if layer.reason is not None] == []
    assert len(compiled.layers) == layers
    inputs = [[smooth_images(1, size, seed=1).numpy()]]
    # The small forms run on emulated ARM as well; these do in `make verify-emulated`.
    for found in verify_in(RUNTIMES, compiled, inputs):
        assert found.passed, found.problems
        assert len({layer.module for layer in found.layers}) == layers
        assert all(layer.sums > 0 and layer.wrong == 0 for layer in found.layers)


# Training


@pytest.mark.parametrize("name", ["rep_recu_resnet20_small", "sdbnn_vgg_small"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    train, threads = script("train"), torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2 * train.BATCH + 5, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (len(images),), generator=generator)
    torch.set_num_threads(1)
    try:
        whole, first, second = (train.Run(name, 3, len(images), torch.device("cpu")) for _ in range(3))
        losses = [whole.train_epoch(images, labels) for _ in range(3)]
        first.train_epoch(images, labels)
        first.save(tmp_path / "checkpoint.pth")
        torch.rand(7)
        second.resume(tmp_path / "checkpoint.pth")
        assert [second.train_epoch(images, labels) for _ in range(2)] == losses[1:]
    finally:
        torch.set_num_threads(threads)
    expected = whole.network.state_dict()
    for key, value in second.network.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_a_checkpoint_of_a_run_of_another_length_is_refused(tmp_path: Path) -> None:
    train = script("train")
    train.Run("sdbnn_vgg_small", 3, 256, torch.device("cpu")).save(tmp_path / "checkpoint.pth")
    with pytest.raises(SystemExit, match="a run of 3 epochs"):
        train.Run("sdbnn_vgg_small", 4, 256, torch.device("cpu")).resume(tmp_path / "checkpoint.pth")


def test_training_writes_weights_and_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = script("train")
    generator = np.random.default_rng(0)
    for split, count in (("train", train.BATCH), ("t10k", 20)):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", generator.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", generator.integers(0, 10, count))
    threads = torch.get_num_threads()
    arguments = ["sdbnn_vgg_small", "--epochs", "2", "--data-dir", str(tmp_path), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, "--checkpoint", str(tmp_path / "checkpoint.pth")])
    train.main()
    torch.set_num_threads(threads)
    lines = (tmp_path / "sdbnn_vgg_small.log").read_text().splitlines()
    assert [line.split("  ")[0] for line in lines[1:3]] == ["epoch 1/2", "epoch 2/2"]
    assert lines[3].endswith("on 20 images")
    train.make_network("sdbnn_vgg_small").load_state_dict(torch.load(tmp_path / "sdbnn_vgg_small.pth"))


def test_without_the_data_the_error_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="apt-get install dataset-fashion-mnist"):
        script("train").load(tmp_path, "t10k")


def write_idx(path: Path, array: npt.NDArray[np.int64]) -> None:
    """A gzipped IDX file of unsigned bytes."""
    with gzip.open(path, "wb") as file:
        file.write(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes())
        file.write(array.astype(np.uint8).tobytes())


# The README's table


def readme_rows() -> dict[str, dict[str, str]]:
    """The rows of the README's table behind MARKER, by network: column to cell."""
    text = (REPOSITORY / "README.md").read_text()
    if MARKER not in text:
        return {}
    lines = text.split(MARKER)[1].strip().split("\n\n")[0].splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {cells[0].strip("`").split(":")[1]: dict(zip(header, cells, strict=True)) for cells in rows}


@pytest.mark.parametrize("name", SMALL)
def test_the_readmes_table_says_what_is_true(name: str) -> None:
    table, compiled, rows = script("table"), compiled_small(name), readme_rows()
    record = (PAPERS / "weights" / f"{name}.log").read_text().splitlines()[-1]
    counts = [int(count.replace(",", "")) for count in re.findall(r"\d[\d,]*", record.removeprefix(table.RECORD))]
    reference, right, images, agreeing = counts
    expected = table.row(name, compiled, table.Measured(images, reference, right, agreeing))
    if not rows:
        pytest.skip(f"the README has no {MARKER}")
    assert list(rows) == list(SMALL)
    assert tuple(rows[name]) == table.HEADER
    # The file also holds bnncc's version and options: a few bytes more or less are no news.
    size = float(rows[name].pop("file").removesuffix(" kB").replace(",", ""))
    assert size * 1e3 == pytest.approx(len(compiled.content), rel=0.01)
    assert tuple(rows[name].values()) == (*expected[:2], *expected[3:])
