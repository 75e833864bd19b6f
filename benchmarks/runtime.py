"""The delegate on this machine, side by side with LCE's interpreter and with float networks.

First the binary convolutions of ResNet-18 and ReActNet-A, one thread: every kernel of the delegate, LCE's default and
indirect kernels, and XNNPACK's float convolution of the same shape, in LiteRT; and memset over as many bytes as the
result has, the least that writing it takes.  Then whole networks: the delegate, LCE's interpreter at its best (indirect
kernel and XNNPACK) and at its default, and the float baseline: the same graph with every binary convolution a float one
on the floats that were to be packed, in LiteRT with XNNPACK.

All runners of a row take turns, run by run, so that whatever else the machine does meets all alike; the figure is the
shortest run of each, which other work disturbs least, in brackets how much longer it takes than the delegate's fastest
kernel.  No ARM board's speed follows from these.

    python benchmarks/runtime.py [--network NAME] [--runs N] [--threads N] [--no-convolutions] [--no-networks]
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bnncc.compiler import Options, compile_traced  # noqa: E402
from bnncc.frontend import trace  # noqa: E402
from bnncc.inference.runners import LceRunner  # noqa: E402
from bnncc.ir.evaluate import Array  # noqa: E402
from bnncc.runtime import LitertRunner, kernels  # noqa: E402
from bnncc.targets import find_target  # noqa: E402
from bnncc.targets.tflite.bitpack import bitpack, unpack, words  # noqa: E402
from bnncc.targets.tflite.reader import Operator, TfliteFile  # noqa: E402
from bnncc.targets.tflite.writer import ModelWriter, Tensor  # noqa: E402

NETWORKS = {"reactnet_a": "1x3x224x224", "bireal_net_18": "1x3x224x224"}
TARGET = "raspberry-pi-4"

# (size, channels, filters, kernel, stride) of the binary convolutions, each shape once.
RESNET_18 = [
    (56, 64, 64, 3, 1), (56, 64, 128, 3, 2), (28, 128, 128, 3, 1), (28, 128, 256, 3, 2), (14, 256, 256, 3, 1),
    (14, 256, 512, 3, 2), (7, 512, 512, 3, 1),
]  # fmt: skip
REACTNET_A = [
    (112, 32, 32, 3, 1), (112, 32, 32, 1, 1), (112, 64, 64, 3, 2), (56, 64, 64, 1, 1), (56, 128, 128, 3, 1),
    (56, 128, 128, 1, 1), (56, 128, 128, 3, 2), (28, 128, 128, 1, 1), (28, 256, 256, 3, 1), (28, 256, 256, 1, 1),
    (28, 256, 256, 3, 2), (14, 256, 256, 1, 1), (14, 512, 512, 3, 1), (14, 512, 512, 1, 1), (14, 512, 512, 3, 2),
    (7, 512, 512, 1, 1), (7, 1024, 1024, 3, 1), (7, 1024, 1024, 1, 1),
]  # fmt: skip


def signs(*shape: int) -> Array:
    """Reproducible ±1."""
    return np.random.default_rng(0).choice([-1.0, 1.0], shape).astype(np.float32)


def convolution_files(size: int, channels: int, filters: int, kernel: int, stride: int) -> tuple[bytes, bytes]:
    """The convolution as an LceBconv2d with zero padding, and as a float CONV_2D; one pixel of the result comes out."""
    weights, affine = signs(filters, kernel, kernel, channels), np.ones(filters, np.float32)
    shape = (1, -(-size // stride), -(-size // stride), filters)
    binary = ModelWriter("bnncc")
    x, y = binary.tensor("x", (1, size, size, words(channels)), np.int32), binary.tensor("y", shape, np.float32)
    constants = [binary.constant("w", bitpack(weights)), binary.constant("m", affine), binary.constant("b", affine * 2)]
    binary.custom("LceBconv2d", [x, *constants, None], [y], bconv2d_options(channels, stride))
    pixel = first_pixel(binary, y)
    plain = ModelWriter("bnncc")
    u, v = plain.tensor("x", (1, size, size, channels), np.float32), plain.tensor("y", shape, np.float32)
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = stride
    inputs = [u, plain.constant("w", weights), plain.constant("b", affine)]
    plain.operator(schema.BuiltinOperator.CONV_2D, inputs, [v], options)
    float_pixel = first_pixel(plain, v)
    return binary.finish([x], [pixel], ["x"], ["y"]), plain.finish([u], [float_pixel], ["x"], ["y"])


def first_pixel(writer: ModelWriter, y: Tensor) -> Tensor:
    """A slice of `y`: what LCE's interpreter copies out of itself is then too little to count."""
    pixel = writer.tensor("pixel", (1, 1, 1, y.shape[3]), np.float32)
    begin = writer.constant("begin", np.zeros(4, np.int32))
    size = writer.constant("size", np.array(pixel.shape, np.int32))
    writer.operator(schema.BuiltinOperator.SLICE, [y, begin, size], [pixel], schema.SliceOptionsT())
    return pixel


def bconv2d_options(channels: int, stride: int) -> bytes:
    """SAME with zeros, no activation."""
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Int("channels_in", channels)
        builder.Int("dilation_height_factor", 1)
        builder.Int("dilation_width_factor", 1)
        builder.Int("fused_activation_function", 0)
        builder.Int("pad_values", 0)
        builder.Int("padding", 0)
        builder.Int("stride_height", stride)
        builder.Int("stride_width", stride)
    return bytes(builder.Finish())


def float_baseline(content: bytes) -> bytes:
    """The network in float: every LceBconv2d a CONV_2D with multiplier and bias folded in, on what LceQuantize read."""
    file = TfliteFile(content)
    writer = ModelWriter("float baseline")
    tensors: dict[int, Tensor] = {}
    for tensor in file.tensors:
        data = file.data(tensor)
        if data is not None:
            tensors[tensor.index] = writer.constant(tensor.name, data, tensor.quantization)
        elif tensor.dtype == "float32":
            tensors[tensor.index] = writer.tensor(tensor.name, tensor.shape, tensor.dtype)
    for operator in file.operators:
        if operator.name == "LceQuantize":
            (x,) = operator.inputs
            assert x is not None
            tensors[operator.outputs[0].index] = tensors[x.index]
        elif operator.name == "LceBconv2d":
            lower_in_float(operator, file, writer, tensors)
        elif operator.name.startswith("Lce"):
            raise SystemExit(f"the float baseline knows no {operator.name}")
        else:
            inputs = [None if tensor is None else tensors[tensor.index] for tensor in operator.inputs]
            outputs = [tensors[tensor.index] for tensor in operator.outputs]
            writer.operator(getattr(schema.BuiltinOperator, operator.name), inputs, outputs, file.options(operator))
    return writer.finish(
        [tensors[tensor.index] for tensor in file.inputs],
        [tensors[tensor.index] for tensor in file.outputs],
        [tensor.name for tensor in file.inputs],
        [tensor.name for tensor in file.outputs],
    )


def lower_in_float(operator: Operator, file: TfliteFile, writer: ModelWriter, tensors: dict[int, Tensor]) -> None:
    """Add the CONV_2D of an LceBconv2d with float output."""
    found = flexbuffers.GetRoot(file.custom_options(operator)).AsMap.Value
    x, filters, multiplier, bias, _ = operator.inputs
    weights = unpack(file.data(filters), found["channels_in"]) * file.data(multiplier)[:, None, None, None]
    options = schema.Conv2DOptionsT()
    options.padding = found["padding"]
    options.strideH, options.strideW = found["stride_height"], found["stride_width"]
    options.dilationHFactor, options.dilationWFactor = found["dilation_height_factor"], found["dilation_width_factor"]
    y = operator.outputs[0]
    inputs = [tensors[x.index], writer.constant(f"{y.name}/weights", weights), tensors[bias.index]]
    writer.operator(schema.BuiltinOperator.CONV_2D, inputs, [tensors[y.index]], options)


def fastest_runs(runs: Sequence[Callable[[], object]], count: int) -> list[float]:
    """The shortest time of each, in seconds, of `count` runs in turn behind one that is not counted."""
    seconds: list[list[float]] = [[] for _ in runs]
    for index in range(count + 1):
        for run, found in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            if index:
                found.append(time.perf_counter() - start)
    return [min(found) for found in seconds]


def cells(seconds: Sequence[float], unit: float, digits: int) -> list[str]:
    """Times, each but the first with how much longer it is than the first."""
    first, *others = seconds
    return [f"{first / unit:.{digits}f}", *(f"{other / unit:.{digits}f} ({other / first:.1f}x)" for other in others)]


def convolution_table(title: str, shapes: Sequence[tuple[int, int, int, int, int]], runs: int) -> Table:
    """Every shape's row, in microseconds, one thread."""
    names = kernels()
    table = Table(
        "convolution", *names, "LCE indirect", "LCE default", "float, XNNPACK", "memset", "GOP/s", title=title
    )  # fmt: skip
    for size, channels, filters, kernel, stride in shapes:
        binary, plain = convolution_files(size, channels, filters, kernel, stride)
        x = bitpack(signs(1, size, size, channels))
        floats = signs(1, size, size, channels)
        result = np.empty((-(-size // stride)) ** 2 * filters, np.float32)
        seconds = fastest_runs(
            [
                *(timed(LitertRunner(binary, kernel=name), [x]) for name in names),
                *(timed(LceRunner(binary, fastest=fastest), [x]) for fastest in (True, False)),
                timed(LitertRunner(plain, delegate=False), [floats]),
                partial(ctypes.memset, result.ctypes.data, 0, result.nbytes),
            ],
            runs,
        )
        operations = 2 * kernel * kernel * channels * filters * (-(-size // stride)) ** 2
        name = f"{kernel}x{kernel}/{stride} {channels}→{filters}, {size}x{size}"
        table.add_row(name, *cells(seconds, 1e-6, 0), f"{operations / seconds[0] / 1e9:.0f}")
    return table


def timed(runner: LitertRunner | LceRunner, inputs: list[Array]) -> Callable[[], object]:
    """A run to time, without the copies in and out where the interpreter lets them be left out."""
    if isinstance(runner, LceRunner):
        return lambda: runner.run(inputs)
    runner.set_inputs(inputs)
    return runner.invoke


def network_row(name: str, runs: int, threads: int) -> list[str]:
    """A network's row, in milliseconds."""
    traced = trace(f"tests.networks:{name}", input_shapes=[NETWORKS[name]])
    content = compile_traced(traced, find_target(TARGET), Options()).content
    plain = float_baseline(content)
    inputs = [np.random.default_rng(0).standard_normal(t.shape, dtype=np.float32) for t in TfliteFile(content).inputs]
    runners: list[LitertRunner | LceRunner] = [
        *(LitertRunner(content, threads, kernel=kernel) for kernel in kernels()),
        LitertRunner(content, threads, fuse=False),
        LceRunner(content, threads, fastest=True),
        LceRunner(content, threads),
        LitertRunner(plain, threads, delegate=False),
    ]
    return [name, *cells(fastest_runs([timed(runner, inputs) for runner in runners], runs), 1e-3, 2)]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="only this one; repeat for several")
    parser.add_argument("--runs", type=int, default=21, help="timed runs of each")
    parser.add_argument("--threads", type=int, default=1, help="of the whole networks")
    parser.add_argument("--no-convolutions", action="store_true", help="whole networks only")
    parser.add_argument("--no-networks", action="store_true", help="convolutions only")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    if not arguments.no_convolutions:
        for title, shapes in (("ResNet-18", RESNET_18), ("ReActNet-A", REACTNET_A)):
            console.print(
                convolution_table(f"{title}: binary convolutions, microseconds, 1 thread", shapes, arguments.runs)
            )
    if not arguments.no_networks:
        threads = f"{arguments.threads} thread{'s' if arguments.threads > 1 else ''}"
        table = Table(
            "network", *kernels(), "LCE's operators alone", "LCE at its best", "LCE's default", "float, XNNPACK",
            title=f"Whole networks, milliseconds, {threads}",
        )  # fmt: skip
        for name in arguments.network or list(NETWORKS):
            table.add_row(*network_row(name, arguments.runs, arguments.threads))
        console.print(table)


if __name__ == "__main__":
    main()
