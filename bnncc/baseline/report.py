"""What `bnncc baseline` prints."""

from __future__ import annotations

from importlib.metadata import version

from rich.console import Console

from bnncc.baseline.make import Baseline
from bnncc.frontend import TracedModel
from bnncc.report import facts_table, size_text
from bnncc.targets.tflite.reader import TfliteFile


def print_baseline(console: Console, traced: TracedModel, baseline: Baseline) -> None:
    """A table of the file and of what its check found."""
    reference = "ONNX Runtime" if traced.run_module is None else "PyTorch"
    operators = len(TfliteFile(baseline.content).operators)
    table = facts_table()
    table.add_row("float file", f"{size_text(len(baseline.content))}, {operators} operators")
    table.add_row("made by", f"onnx2tf {version('onnx2tf')}, TensorFlow {version('tensorflow')}")
    table.add_row("checked on", f"{baseline.inputs} inputs, in LCE's interpreter, against {reference}")
    table.add_row("compared", f"{baseline.check.values:,} values: all that signs read, and the outputs")
    table.add_row("largest error", f"{baseline.check.error:.1e} layer by layer, {baseline.free_error:.1e} free-running")
    if baseline.agreeing is not None:
        table.add_row("same class", f"{baseline.agreeing} of {baseline.inputs} inputs")
    console.print(table)
