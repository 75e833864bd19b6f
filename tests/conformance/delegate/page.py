"""docs/conformance_delegate.md, from what `matrix` found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.conformance.delegate.served import MISSING

# By runtime, by configuration, by check.
Results = Mapping[str, Mapping[str, Mapping[str, str]]]

# By the checks' names: their columns.
COLUMNS = {
    "loads": "loads",
    "runs": "runs",
    "shared": "one for two interpreters",
    "all_tensors_kept": "`preserve_all_tensors`",
    "resized": "resized inputs",
    "several": "signatures, IF",
    "created_and_destroyed": "1,000 times",
}
COMPILED_COLUMNS = {
    "compiled_runs": "runs",
    "compiled_resized": "resized inputs",
    "compiled_several": "signatures, IF",
    "compiled_created_and_destroyed": "1,000 times",
}

HEAD = """\
# The delegate in every runtime

Made by `make conformance-delegate`; not by hand.  Each runtime is in a virtual environment of its own, each
configuration (XNNPACK and built-in kernels, one thread and two) a process of its own: {processes} of {runtimes}
runtimes.  The runtimes named aarch64 and armv7 ran under qemu.  What is right was computed by bnncc's own interpreter
(the network of `examples/fashion_mnist`) and by NumPy.

- **runs**: the trained network on pictures; **one for two interpreters**: one delegate in two interpreters, in turns;
- **`preserve_all_tensors`**: the same with `experimental_preserve_all_tensors`;
- **resized inputs**: a binary convolution on five batches and maps, one after the other;
- **signatures, IF**: three subgraphs, each with a signature; two have binary convolutions, and the third calls one of
  the two by an IF;
- **1,000 times** ({emulated} under qemu): delegate and interpreter are made, run and destroyed, beside the same without
  a delegate: no thread, no open file and, but for qemu's own, no memory stays.  (Interpreters up to LiteRT 2.0.3 lose
  0.7 kB each, with a delegate or without.)

✓ is right in all configurations; – is what the runtime does not have.

bnncc's files claim TensorFlow Lite 2.14 and later.  On 2.11 to 2.13 a struct that the delegate hands over by value is
shorter: the calling conventions of x86-64 and 64-bit ARM pass it so that the delegate's longer one does no harm; that
of 32-bit ARM does not.
"""

COMPILED = """\
## LiteRT's CompiledModel

A CompiledModel takes neither external delegates nor, in Python and Kotlin, custom operators.  In C and C++ it takes
custom operators (`LiteRtAddCustomOpKernelOption`, `Options::AddCustomOpKernel`), which do not suffice for LCE's: a
kernel has one state for all nodes of its name, and sees a node's options in `Init` alone, so that it cannot tell one
convolution's strides, padding and channels from another's.  It also takes *accelerators*: libraries that bring a
delegate, found by their names.  bnncc's library is one (`targets/runtime/accelerator.cc`):

    from ai_edge_litert.compiled_model import CompiledModel
    from bnncc_runtime import litert_environment       # or: from bnncc.runtime import litert_environment

    model = CompiledModel.from_file("net.tflite", environment=litert_environment())

- In C++, `libbnncc_runtime.so` lies as `libLiteRtGpuAccelerator.so` in a folder, and the environment's option
  `RuntimeLibraryDir` (`kLiteRtEnvOptionTagRuntimeLibraryDir`, 22) names the folder; LiteRT looks there when the
  environment is made (`LiteRtCreateEnvironment`).  An app that links both sets the symbol
  `LiteRtStaticLinkedAcceleratorGpuDef` of libLiteRt.so to `&LiteRtAcceleratorImpl` of bnncc's library instead.
- In Kotlin the environment has no such option (`Environment.Option` of LiteRT's sources of October 2026), and LiteRT
  asks the system's loader for `libLiteRtGpuAccelerator.so`: a copy of that name in the app's `jniLibs/` is what it
  should find.  No Android package of LiteRT 2 was at hand, and nobody has tried that.
- LiteRT takes the first library that it finds by these names: its own accelerator for GPUs is then not there.
- LiteRT 2.1 and earlier look for other structs (2.1.6: `LiteRtAcceleratorImpl` without a header of size and version;
  2.1.0 and 2.0.3 without that symbol) and refuse the library; there, files run in the Interpreter alone.
- On Raspberry Pi 3, 4 and Zero 2 a CompiledModel of the wheel ends the process, whatever the file: LiteRT loads
  its `libLiteRtWebGpuAccelerator.so`, which needs ARMv8.1's atomics ("This binary was compiled with lse enabled"; seen
  in 2.3.0 under qemu with a Cortex-A72, and not with a Cortex-A76; that of 2.1.6, 2.2.0 and the nightly has the
  same text).  `litert_environment()` refuses with that reason.
"""


def page(results: Results, emulated_rounds: int) -> str:
    """The page, in Markdown."""
    processes = sum(map(len, results.values()))
    compiled = {
        runtime: found
        for runtime, found in results.items()
        if any(said[check] != MISSING for said in found.values() for check in COMPILED_COLUMNS)
    }
    parts = [
        HEAD.format(processes=processes, runtimes=len(results), emulated=emulated_rounds),
        "\n".join(_table(results, COLUMNS)),
        COMPILED,
        "\n".join(_table(compiled, COMPILED_COLUMNS)),
        "\n".join(_wrong(results)),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _table(results: Results, columns: Mapping[str, str]) -> Iterator[str]:
    yield f"| runtime | {' | '.join(columns.values())} |"
    yield f"| --- |{' --- |' * len(columns)}"
    for runtime, found in results.items():
        yield f"| {runtime} | {' | '.join(_cell([said[check] for said in found.values()]) for check in columns)} |"


def _cell(said: Sequence[str]) -> str:
    """Of all configurations."""
    wrong = [text for text in said if text not in ("", MISSING)]
    if wrong:
        return f"**{wrong[0].split(':')[0].split()[0] if wrong[0].startswith(('refused', 'ends')) else 'wrong'}**"
    return "–" if MISSING in said else "✓"


def _wrong(results: Results) -> Iterator[str]:
    """What each runtime said that is not right, if any."""
    rows = [
        f"- {runtime}, {configuration}, {check}: {text}"
        for runtime, found in results.items()
        for configuration, said in found.items()
        for check, text in said.items()
        if text not in ("", MISSING)
    ]
    if rows:
        yield "## What is not right\n"
        yield from rows
