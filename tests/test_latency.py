"""`bnncc.latency` and `bnncc inspect --latency`, against numbers worked out by hand; tests/benchmarks has the costs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import click.testing
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema

import bnncc
from benchmarks.runtime import convolution_files
from bnncc import latency
from bnncc.cli import main
from bnncc.errors import InputError
from bnncc.latency import dram_bytes, predict
from bnncc.runtime.build import source_folder
from bnncc.targets import TARGETS, Target, find_target
from bnncc.targets.costs import Work
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.work import DELEGATED, work
from bnncc.targets.tflite.writer import ModelWriter, Tensor
from tests.networks import randomize
from tests.test_inspect import Net

MODELLED = [target for target in TARGETS.values() if target.is_modelled]
MB = 1 << 20


@pytest.fixture(scope="module")
def content() -> bytes:
    torch.manual_seed(0)
    return bytes(bnncc.compile(randomize(Net()), input_shapes=["1x3x8x8"]).content)


@pytest.fixture(scope="module")
def file(content: bytes) -> TfliteFile:
    return TfliteFile(content)


def chain(operator: int, size: int) -> TfliteFile:
    """Two operators on maps of `size` bytes, one behind the other."""
    writer = ModelWriter("test")
    shape = (1, 64, 64, size // 64 // 64 // 4)
    x, y, z = (writer.tensor(name, shape, np.float32) for name in "xyz")
    writer.operator(operator, [x], [y])
    writer.operator(operator, [y], [z])
    return TfliteFile(writer.finish([x], [z], ["x"], ["z"]))


def test_tiles_are_cut_with_the_constants_of_the_delegate() -> None:
    """A tile's share of the cache differs on x86-64, whose definition comes first."""
    text = (source_folder() / "partition.cc").read_text() + (source_folder() / "kernels" / "dispatch.cc").read_text()
    constants = dict(re.findall(r"constexpr int64_t (k\w+) = ([\d *]+);", text))
    found = {name: math.prod(map(int, value.split(" * "))) for name, value in constants.items()}
    assert found["kFewestUnits"] == latency.FEWEST_UNITS
    assert found["kLeastTileBytes"] == latency.LEAST_TILE_BYTES
    assert found["kSmallestCache"] == latency.LEAST_SECOND_LEVEL
    assert 1 / found["kTileShare"] == latency.TILE_SHARE


def test_the_units_of_work_are_those_of_a_hand_calculation(file: TfliteFile) -> None:
    units = {(operator.name, operator.outputs[0].shape[-1]): work(file, operator) for operator in file.operators}
    pixels = 8 * 8
    # 8 channels take one word, 40 filters ten vectors; then 40 channels two words, 16 filters four vectors.
    assert units["LceBconv2d", 40] == {
        Work.CALL: 1, Work.BINARY_PRODUCT: pixels * 9 * 10, Work.BINARY_SUM: pixels * 40, Work.PATCH_WORD: pixels * 9,
    }  # fmt: skip
    assert units["LceBconv2d", 16] == {
        Work.CALL: 1, Work.BINARY_PRODUCT: pixels * 2 * 4, Work.BINARY_SUM: pixels * 16, Work.PATCH_WORD: pixels * 2,
    }  # fmt: skip
    assert units["CONV_2D", 8] == {
        Work.CALL: 1, Work.FLOAT_PRODUCT: pixels * 9 * 3 * 8, Work.FLOAT_OUTPUT: pixels * 8, Work.FLOAT_TAP: pixels * 9,
    }  # fmt: skip
    assert units["FULLY_CONNECTED", 5] == {Work.CALL: 1, Work.VECTOR_PRODUCT: 4 * 5}


@pytest.mark.parametrize("target", MODELLED, ids=lambda target: target.name)
def test_a_prediction_is_a_range_of_cycles_and_of_bytes_at_the_boards_rates(target: Target, file: TfliteFile) -> None:
    found = predict(file, target)
    assert [row.index for row in found.operators] == [operator.index for operator in file.operators]
    for operator, row in zip(file.operators, found.operators, strict=True):
        units = work(file, operator)
        assert units is not None
        costs = {kind: target.core_type.costs[kind] for kind in units}
        assert row.cycles.least == pytest.approx(sum(costs[kind].cycles.least * units[kind] for kind in units))
        assert row.cycles.most == pytest.approx(sum(costs[kind].cycles.most * units[kind] for kind in units))
        alone = row.cycles.least / target.hertz, row.dram_bytes.least / target.bandwidth.most
        assert row.seconds.least == pytest.approx(max(alone))
        assert row.seconds.most == pytest.approx(
            row.cycles.most / target.hertz + row.dram_bytes.most / target.bandwidth.least
        )
        assert 0 < row.seconds.least < row.seconds.most
    assert found.seconds.most == pytest.approx(sum(row.seconds.most for row in found.operators))


def test_what_fits_the_cache_does_not_move_and_what_does_not_moves_as_worked_out_by_hand() -> None:
    file = chain(schema.BuiltinOperator.RELU, 2 * MB)
    # The least: both run tile by tile, so the map between them never moves.  All else fits into 8 MB; into 1 MB
    # nothing does: the first reads its input, the second fetches its output and writes it.
    assert dram_bytes(file, 8 * MB)[0] == [0, 0]
    assert dram_bytes(file, MB)[0] == [2 * MB, 4 * MB]
    # The most: a third of 8 MB holds one map.  The first operator's input pushes the last output out, so 2 MB are read
    # and 2 written; its own output is fetched.  The second finds that, fetches its output, and pushes the other out.
    assert dram_bytes(file, 8 * MB)[1] == [6 * MB, 4 * MB]


def test_the_delegate_claims_what_the_model_takes_it_to_claim() -> None:
    source = (source_folder() / "operator.cc").read_text()
    builtin, lce = re.findall(r"abi::kBuiltin(\w+), create", source), re.findall(r'{"(Lce\w+)", create', source)
    assert len(builtin) > len(lce) > 0
    assert {name.lower() for name in builtin + lce} == {name.replace("_", "").lower() for name in DELEGATED}


def after_a_binary_convolution(write: Callable[[ModelWriter, Tensor], Sequence[Tensor]]) -> TfliteFile:
    """An LceDequantize of a map of 32x32 pixels and 256 channels, 1 MB, and what `write` makes of it."""
    writer = ModelWriter("test")
    x, y = writer.tensor("x", (1, 32, 32, 8), np.int32), writer.tensor("y", (1, 32, 32, 256), np.float32)
    writer.custom("LceDequantize", [x], [y], b"")
    outputs = write(writer, y)
    return TfliteFile(writer.finish([x], outputs, ["x"], [f"out{i}" for i in range(len(outputs))]))


def pool(kernel: int) -> Callable[[ModelWriter, Tensor], Sequence[Tensor]]:
    """A pool of stride 2, and a ReLU behind it."""

    def write(writer: ModelWriter, y: Tensor) -> Sequence[Tensor]:
        options = schema.Pool2DOptionsT()
        options.strideH = options.strideW = 2
        options.filterHeight = options.filterWidth = kernel
        pooled, z = (writer.tensor(name, (1, 16, 16, 256), np.float32) for name in ("pooled", "z"))
        writer.operator(schema.BuiltinOperator.MAX_POOL_2D, [y], [pooled], options)
        writer.operator(schema.BuiltinOperator.RELU, [pooled], [z])
        return [z]

    return write


@pytest.mark.parametrize(("kernel", "is_joined"), [(2, True), (3, False)])
def test_windows_that_do_not_overlap_run_tile_by_tile_with_what_they_read(kernel: int, is_joined: bool) -> None:
    moved = dram_bytes(after_a_binary_convolution(pool(kernel)), MB // 4)[1]
    # Where it is one group, only the input of 32 kB and the output of 256 kB move.
    assert (sum(moved) < MB) == is_joined


def test_without_an_operator_of_lce_nothing_runs_tile_by_tile() -> None:
    relu = schema.BuiltinOperator.RELU
    assert sum(dram_bytes(chain(relu, MB), MB // 4)[1]) > 4 * MB


def test_weights_that_no_cache_holds_are_read_for_every_tile() -> None:
    file = TfliteFile(convolution_files(size=20, channels=512, filters=1024, kernel=3, stride=1)[0])
    (convolution,) = [operator for operator in file.operators if operator.name == "LceBconv2d"]
    weights, pixels = 1024 * 512 * 9 // 8, 20 * 20
    patches = pixels * 512 * 9 // 8
    # Beside the weights: the packed map, multipliers and biases are read, the output is fetched and written, and so is
    # what the last inference left to write, a pixel.
    others = pixels * 512 // 8 + 2 * 1024 * 4 + 2 * pixels * 1024 * 4 + 1024 * 4
    second_level = 5 * MB // 4
    tiles = -(-patches // (second_level // 8))
    assert tiles == 2
    assert dram_bytes(file, 512 * 1024, second_level)[1][convolution.index] == tiles * weights + others
    # Where they do not stay in the second-level cache either, tiles are as large as they.
    assert patches < weights
    assert dram_bytes(file, 512 * 1024, MB)[1][convolution.index] == weights + others


def test_a_target_whose_kernels_were_not_counted_has_no_prediction(file: TfliteFile) -> None:
    for name in ("android-armv7", "raspberry-pi-4-32bit"):
        with pytest.raises(InputError, match=f"no model of {name}.*raspberry-pi-5"):
            predict(file, find_target(name))


def test_an_operator_that_was_never_counted_is_marked() -> None:
    found = predict(chain(schema.BuiltinOperator.CUMSUM, MB), find_target("raspberry-pi-4"))
    assert [row.is_guessed for row in found.operators] == [True, True]
    assert found.seconds.least > 0


def run(*arguments: str) -> str:
    result = click.testing.CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_inspect_prints_the_prediction_for_the_files_own_target_or_another(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    text = run("inspect", str(path), "--latency")
    assert "predicted on one core of Raspberry Pi 4, 64-bit (cortex-a72, 1.5 GHz" in " ".join(text.split())
    assert "not measured" in text
    assert max(map(len, text.splitlines())) <= 80
    document = json.loads(run("inspect", str(path), "--latency", "--target", "raspberry-pi-5", "--json"))
    latency = document["latency"]
    assert latency["target"] == "raspberry-pi-5"
    assert 0 < latency["seconds"]["least"] < latency["seconds"]["most"]
    assert len(latency["operators"]) == len(document["operators"])
    assert any("not measured" in line for line in latency["assumptions"])


def test_inspect_refuses_a_target_without_latency_and_one_without_a_model(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    for arguments, message in (
        (["--target", "raspberry-pi-4"], "give both"),
        (["--latency", "--target", "android-armv7"], "no model of android-armv7"),
        (["--latency", "--target", "pdp-11"], "unknown target 'pdp-11'"),
    ):
        result = click.testing.CliRunner().invoke(main, ["inspect", str(path), *arguments])
        assert result.exit_code == 2
        assert message in result.output
