"""ONNX's own backend node tests through bnncc: each case compiled, run in both runtimes, compared with ONNX's data.

    python -m tests.targets.tflite.onnx_backend            every case; rewrites docs/onnx_operators.md
    python -m tests.targets.tflite.onnx_backend NAME …     these cases, printed

A case's float32 inputs stay inputs; the others become constants, as shapes, axes, indices and scales are in a network.
An interpreter that aborts must not end the run: cases run in worker processes, and one on which a worker dies is
`crashed`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test.case.test_case import TestCase

import bnncc
from bnncc.errors import BnnccError
from bnncc.inference.runners import LceRunner, Runtime
from bnncc.ir.evaluate import Array
from bnncc.runtime import LitertRunner

ROOT = Path(__file__).parents[3]
TABLE = ROOT / "docs" / "onnx_operators.md"

EQUAL, REFUSED, DIFFERS = "equal", "refused", "differs"
# DIFFERS: where ONNX's own data are not what its text, ONNX Runtime and PyTorch say.  The text takes "the length of the
# resized tensor", which is whole; the data were computed with 0.6 · 2 = 1.2, and 0.8 · 4 = 3.2.
_WHOLE = "as in ONNX Runtime and PyTorch: a length is whole"
KNOWN_DIFFERENCES = {
    "test_resize_downsample_scales_linear_align_corners": _WHOLE,
    "test_resize_downsample_scales_cubic_align_corners": _WHOLE,
}
# What must not be: another result, an error that is none of bnncc's own, a dead process.
WRONG, TRACEBACK, CRASHED = "wrong", "traceback", "crashed"

_TYPES = {
    onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL,
    onnx.TensorProto.INT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64,
    onnx.TensorProto.UINT8, onnx.TensorProto.UINT16, onnx.TensorProto.UINT32, onnx.TensorProto.UINT64,
}  # fmt: skip
# Their result is drawn at random, or is random in training.
_RANDOM = ("test_bernoulli", "test_training_dropout", "test_random", "test_multinomial")
# Float inputs that are no data: of Resize and Upsample.
_PARAMETERS = {"scales", "roi"}
# Of the largest magnitude, beside the case's own rtol, for sums whose terms cancel.
_ATOL = 1e-6
# No case takes as long in a healthy process.
_TIMEOUT = 900


@dataclass(frozen=True)
class Outcome:
    """What became of one case: EQUAL, REFUSED, …, and why."""

    name: str
    operator: str
    kind: str
    reason: str = ""


@functools.cache
def all_cases() -> dict[str, TestCase]:
    """Every node test of the installed onnx, by name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases("")}


def is_eligible(case: TestCase) -> bool:
    """Float32, integers and booleans, static shapes, and at least one float32 input: without one all is constant."""
    graph = case.model.graph
    if case.name.startswith(_RANDOM) or not all(_is_static(value) for value in (*graph.input, *graph.output)):
        return False
    if any(domain.domain not in ("", "ai.onnx") for domain in case.model.opset_import):
        return False  # ONNX's classical machine learning and training domains are no networks
    return any(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for value in graph.input)


def _is_static(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    is_known = value.type.HasField("tensor_type") and tensor.elem_type in _TYPES
    return is_known and all(size.HasField("dim_value") for size in tensor.shape.dim)


def eligible_cases() -> list[str]:
    """The names, in ONNX's order."""
    return [name for name, case in all_cases().items() if is_eligible(case)]


def operator_of(case: TestCase) -> str:
    """The operator that a case is about, also where the case holds the operator's function body ("…_expanded")."""
    model = case.model
    name = case.name
    while "_expanded" in name:
        name = name[: name.rindex("_expanded")]
        if name in all_cases():
            model = all_cases()[name].model
            break
    operators = [node.op_type for node in model.graph.node if node.op_type not in ("Constant", "Identity")]
    return str(operators[-1]) if operators else "Identity"


def run_case(name: str) -> Outcome:
    """Compile one case and compare what both runtimes yield with its data sets."""
    case = all_cases()[name]
    operator = operator_of(case)
    try:
        for inputs, outputs in case.data_sets:
            difference = _difference(case, inputs, outputs)
            if difference and name in KNOWN_DIFFERENCES:
                return Outcome(name, operator, DIFFERS, KNOWN_DIFFERENCES[name])
            if difference:
                return Outcome(name, operator, WRONG, difference)
    except BnnccError as error:
        return Outcome(name, operator, REFUSED, _first_reason(error))
    except Exception as error:
        return Outcome(name, operator, TRACEBACK, f"{type(error).__name__}: {str(error)[:160]}")
    return Outcome(name, operator, EQUAL)


def _first_reason(error: BnnccError) -> str:
    """`MaxPool 'name': dilations` → "MaxPool: dilations"; the first line of any other message, without paths."""
    problems = getattr(error, "problems", None)
    if problems:
        nodes, _, reason = problems[0].partition("': ")
        return f"{nodes.split(' ')[0]}: {reason}"
    # What another library says holds numbers and paths of its own.
    text = str(error).splitlines()[0].split(", and the graph does not run")[0]
    # The path of the case is another one in every run.
    words = [word for word in text.split(" ") if not word.endswith(".onnx:")]
    return " ".join("the file" if word.endswith(".onnx") else word for word in words)


def _difference(case: TestCase, inputs: Sequence[Array], outputs: Sequence[Array]) -> str | None:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    given = list(zip(list(model.graph.input), inputs, strict=False))
    feeds = []
    del model.graph.input[:]
    for value, array in given:
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and value.name not in _PARAMETERS:
            model.graph.input.append(value)
            feeds.append(np.asarray(array))
        else:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), value.name))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.onnx"
        onnx.save(model, path)
        compiled = bnncc.compile(str(path))
    custom = b"LceQuantize" in compiled.content
    stored = [compiled.options.as_stored(array) for array in feeds]
    runners = {
        Runtime.LCE.title: LceRunner(compiled.content),
        "LiteRT": LitertRunner(compiled.content, delegate=custom),
    }
    for title, runner in runners.items():
        results = runner.run(stored)
        if len(results) != len(outputs):
            return f"{len(results)} outputs, not {len(outputs)}, in {title}"
        for wanted, found in zip(outputs, results, strict=True):
            problem = _compare(np.asarray(wanted), found, case.rtol)
            if problem:
                return f"{problem} in {title}"
    return None


def _compare(wanted: Array, found: Array, rtol: float) -> str | None:
    if found.ndim == 4:
        found = found.transpose(0, 3, 1, 2)
    if found.shape != wanted.shape:
        return f"shape {found.shape}, not {wanted.shape}"
    if wanted.dtype.kind == "f":
        finite = np.abs(wanted[np.isfinite(wanted)])
        atol = _ATOL * float(finite.max(initial=0))
        equal = np.isclose(found, wanted, rtol=rtol, atol=atol, equal_nan=True)
        # TensorFlow Lite's arithmetic clamps to finite numbers: -∞ + x is the lowest float.
        limits = np.copysign(np.finfo(np.float32).max, wanted)
        equal |= np.isinf(wanted) & (found == limits)
    else:
        equal = found == wanted
    return None if np.all(equal) else f"{np.count_nonzero(~equal)} of {wanted.size} elements differ"


def run_cases(names: Sequence[str]) -> list[Outcome]:
    """`run_case` of each, in worker processes: one that dies is replaced."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(names):
        rest = names[len(outcomes) :]
        command = [sys.executable, "-m", "tests.targets.tflite.onnx_backend", "--worker"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        worker = subprocess.run(
            command,
            input="\n".join(rest),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
            timeout=_TIMEOUT,
            check=False,
        )
        lines = [line for line in worker.stdout.splitlines() if line.startswith("{")]
        outcomes += [Outcome(**json.loads(line)) for line in lines]
        if len(lines) < len(rest):
            name = rest[len(lines)]
            last = worker.stderr.strip().splitlines()[-1:] or [f"exit {worker.returncode}"]
            operator = operator_of(all_cases()[name]) if name in all_cases() else ""
            outcomes.append(Outcome(name, operator, CRASHED, last[0]))
    return outcomes


def _work() -> None:
    for name in sys.stdin.read().split():
        print(json.dumps(asdict(run_case(name))), flush=True)


def table(outcomes: Iterable[Outcome]) -> str:
    """The page docs/onnx_operators.md."""
    by_operator = defaultdict(list)
    for outcome in outcomes:
        by_operator[outcome.operator].append(outcome)
    everything = [outcome for group in by_operator.values() for outcome in group]
    equal = sum(outcome.kind == EQUAL for outcome in everything)
    refused = sum(outcome.kind == REFUSED for outcome in everything)
    lines = [
        "# ONNX operators",
        "",
        f"ONNX {onnx.__version__}'s own backend node tests, compiled: the cases of float32, integers and booleans with "
        "static shapes and at",
        "least one float32 input (others are all constant, and folded).  Float inputs stay inputs; the others, and",
        "a Resize's scales, are constants, as in a network.  The file runs in Larq Compute Engine's interpreter and in",
        "LiteRT, and must yield the case's data in both (±∞ as the largest float of that sign: their kernels clamp",
        "sums).  Made by `make onnx-backend`; `tests/targets/tflite/test_onnx_backend.py` fails where it is stale.",
        "",
        f"**{equal} of {len(everything)} equal in both runtimes ({equal / len(everything):.1%}), "
        f"{refused} refused, {len(everything) - equal - refused} otherwise.**",
        "",
        "| operator | cases | equal | refused, and why |",
        "| --- | --- | --- | --- |",
    ]
    for operator in sorted(by_operator):
        group = by_operator[operator]
        reasons: dict[str, list[str]] = defaultdict(list)
        for outcome in group:
            if outcome.kind != EQUAL:
                label = outcome.reason if outcome.kind == REFUSED else f"{outcome.kind}: {outcome.reason}"
                reasons[label].append(outcome.name.removeprefix("test_"))
        text = "; ".join(f"{reason} ({', '.join(names)})" for reason, names in sorted(reasons.items()))
        count = sum(outcome.kind == EQUAL for outcome in group)
        lines.append(f"| {operator} | {len(group)} | {count} | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def main(names: Sequence[str]) -> None:
    """The command line."""
    if list(names) == ["--worker"]:
        _work()
        return
    outcomes = run_cases(names or eligible_cases())
    for outcome in outcomes:
        if names or outcome.kind in (WRONG, TRACEBACK, CRASHED):
            print(f"{outcome.kind:10} {outcome.name}: {outcome.reason}")
    if not names:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(table(outcomes))
        print(f"{len(outcomes)} cases: {dict(Counter(outcome.kind for outcome in outcomes))}")


if __name__ == "__main__":
    main(sys.argv[1:])
