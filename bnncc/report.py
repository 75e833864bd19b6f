"""What `bnncc compile` and `bnncc inspect` print; `bnncc.check.report` has what `bnncc check` does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bnncc.errors import InputError
from bnncc.inspect import OperatorSummary, summarize
from bnncc.latency import Latency
from bnncc.sensitivity import Drop, Sensitivity
from bnncc.statistics import LEVEL
from bnncc.system.names import shown
from bnncc.targets import TARGETS, Target
from bnncc.targets.costs import Range
from bnncc.targets.released import ORDINARY, span_text, title
from bnncc.targets.tflite.digest import METADATA_NAME, has_none
from bnncc.targets.tflite.integer_file import SHORT
from bnncc.targets.tflite.integer_plan import LAYERS
from bnncc.targets.tflite.integers import FLOAT32, INT8, INT16, Integers
from bnncc.targets.tflite.precision import WeightsPrecision
from bnncc.targets.tflite.public_metadata import PUBLIC_NAME, describe, packed_files
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.runtimes import NONE, beyond, needs, oldest
from bnncc.targets.tflite.writer import Tensor

if TYPE_CHECKING:  # `bnncc inspect` does not wait for PyTorch
    from bnncc.ir.layers import BinaryLayer
    from bnncc.model import CompiledModel
    from bnncc.verification import Verification


# Columns of a terminal below which a table of figures is not squeezed further: a figure is never cut.
NARROWEST = 78
# Of one on which the table of operators has room between its columns.
ROOMY = 100
# Of the names of TensorFlow Lite's operators, the longest; a custom one's may be of any length.
LONGEST_BUILTIN = len("RESIZE_NEAREST_NEIGHBOR")
# Weights of float layers are worth a word where they are so many bytes and such a share of a file, and so many layers.
HEAVY_BYTES = 10_000
HEAVY_SHARE = 1 / 2
LISTED_LAYERS = 3


def print_compilation(
    console: Console,
    compiled: CompiledModel,
    verifications: Sequence[Verification] = (),
) -> None:
    """The table of `bnncc compile`, then every binary layer that stayed in float with its reason.

    verifications: in each runtime.
    """
    file = TfliteFile(compiled.content)
    binary = [layer for layer in compiled.layers if layer.reason is None]
    floats = compiled.float_weight_bytes
    table = facts_table()
    table.add_row("target", f"{compiled.target.name} ({compiled.target.title})")
    table.add_row("traced by", compiled.traced.exporter)
    table.add_row("binary layers", f"{len(binary)} of {len(compiled.layers)}")
    share = f", {times(len(compiled.content), floats)} than the float32 weights ({size_text(floats)})" if floats else ""
    table.add_row("file", size_text(len(compiled.content)) + share)
    precision = compiled.options.weights_precision
    if precision is not WeightsPrecision.FLOAT32:
        table.add_row("float weights", _rounded_weights(file, precision.value))
    elif compiled.options.integers is None:
        sizes = _float_weights(compiled, file)
        if sizes.total() > max(HEAVY_BYTES, HEAVY_SHARE * len(compiled.content)):
            table.add_row("float weights", _heaviest(sizes, len(compiled.content)))
    for name, text in _integer_rows(file, compiled.options.integers):
        table.add_row(name, text)
    table.add_row("operators", _operators(file))
    table.add_row("right on", _right_on(file, compiled.target, compiled.options.min_runtime))
    if verifications:
        verification = verifications[0]
        reference = "ONNX Runtime" if compiled.traced.run_module is None else "PyTorch"
        for name, text in verification_rows(verification, reference):
            table.add_row(name, text)
        if verification.agreeing is not None:
            table.add_row("same class", f"{verification.agreeing} of {verification.inputs} inputs")
        table.add_row("verification", "passed" if verification.passed else "FAILED")
    for verification in verifications[1:]:
        table.add_row("verified also", also_verified(verification))
    if compiled.sensitivity is not None:
        for name, text in _sensitivity_rows(compiled.sensitivity):
            table.add_row(name, text)
    console.print(table)
    if compiled.sensitivity is not None:
        print_sensitivity(console, compiled.sensitivity)
    for line in compiled.traced.frozen:
        console.print(f"frozen for all inputs: {line}", markup=False)
    for need in _needs(file):
        console.print(shown(need), markup=False)
    for line in _left_in_float(compiled.layers):
        console.print(line, markup=False)


def _left_in_float(layers: Sequence[BinaryLayer]) -> Iterator[str]:
    """Why layers stay in float, a line for all of one line of the source and one reason: blocks and steps repeat it."""
    found: dict[tuple[str, str, str, str], Counter[str]] = {}
    for layer in layers:
        if layer.reason is not None:
            key = layer.in_float, layer.operator, layer.source, layer.reason
            found.setdefault(key, Counter())[layer.module] += 1
    for (word, operator, source, reason), modules in found.items():
        names = ", ".join(f"'{name}'{f' ({count} times)' if count > 1 else ''}" for name, count in modules.items())
        place = f" ({source})" if source else ""
        yield f"{word}: {operator} {names}{place}: {reason}"


def compilation(compiled: CompiledModel, verifications: Sequence[Verification] = ()) -> dict[str, Any]:
    """The same for a program, with every layer and the time of each stage and pass.

    verifications: all that was found in each runtime, by its name.
    """
    file = TfliteFile(compiled.content)
    return {
        "target": compiled.target.name,
        "traced_by": compiled.traced.exporter,
        "bytes": len(compiled.content),
        "float32_bytes": compiled.float_weight_bytes,
        "float_weights": _float_weights(compiled, file),
        "layers": [{**asdict(layer), "binary": layer.reason is None} for layer in compiled.layers],
        "operators": dict(Counter(operator.name for operator in file.operators)),
        "oldest_runtime": oldest(needs(file)),
        "target_runtimes": compiled.target.runtimes,
        "frozen_branches": compiled.traced.frozen,
        "sensitivity": compiled.sensitivity,
        "verified": bool(verifications) and all(found.passed for found in verifications),
        "verifications": {found.runtime.value: found for found in verifications},
        "seconds": compiled.seconds,
        "pass_seconds": compiled.pass_seconds,
    }


def _sensitivity_rows(found: Sensitivity) -> Iterator[tuple[str, str]]:
    """(name, text) of what `--quantize auto` measured of whole files."""
    if found.reference is None:
        what, of = "other classes than float32", "data have no labels"
    else:
        what, of = "accuracy drop", f"float32: {found.reference.value:.2%}"
    parts = f"on {found.images:,} of the images to calibrate on, others than those for ranges; {of}"
    if found.drop is None:
        yield what, f"none: no layer can be in int8 within {100 * found.bound:g} points, the file is float32"
        yield "with all in int8", f"{drop_text(found.all_int8)} {parts}"
        return
    yield what, f"{drop_text(found.drop)} {parts}; at most {100 * found.bound:g} asked for"
    if found.drop != found.all_int8:
        yield "with all in int8", drop_text(found.all_int8)


def drop_text(drop: Drop) -> str:
    """In points, with its interval."""
    return f"{100 * drop.value:.2f} points ({LEVEL:.0%} interval {100 * drop.low:.2f} to {100 * drop.high:.2f})"


def print_sensitivity(console: Console, found: Sensitivity) -> None:
    """Of each float layer, what it loses alone in int8, and which it is in."""
    loss = "other\nclasses" if found.reference is None else "drop\nalone"
    table = table_of(("float layer", "operator"), (loss, f"{LEVEL:.0%} interval", "mean squared\nerror"), ("in",))
    for layer in found.layers:
        drop = layer.drop
        table.add_row(
            shown(layer.module),
            "\n".join(Counter(layer.operators)),
            "" if drop is None else f"{100 * drop.value:.2f}",
            "" if drop is None else f"{100 * drop.low:.2f} … {100 * drop.high:.2f}",
            "" if layer.error is None else f"{layer.error:.2e}",
            "int8" if layer.in_int8 else f"float: {layer.reason}",
        )
    print_table(console, table)


def facts_table() -> Table:
    """Names and what is said of them."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    return table


def print_explanation(console: Console, compiled: CompiledModel) -> None:
    """`--explain`: for each binary layer of the source, what it became and why."""
    for layer in compiled.layers:
        console.print(f"{layer.module}: {layer.operator}", markup=False)
        if layer.source:
            console.print(f"    {layer.source}", markup=False)
        for clause in layer.explanation or (f"{layer.in_float}: {layer.reason}",):
            console.print(f"    - {clause}", markup=False)


def print_layers(console: Console, verification: Verification) -> None:
    """The verification of each layer: integer sums, then signs."""
    table = table_of(("binary convolution",), ("integer sums", "wrong", "largest error"), ("where",))
    for layer in verification.layers:
        table.add_row(layer.module, f"{layer.sums:,}", f"{layer.wrong:,}", f"{layer.largest_error:g}", layer.where)
    print_table(console, table)
    figures = ("signs", "error\nof x", "flipped", "explained", "largest\n|x|", "zeros", "flips free-\nrunning")
    signs = table_of(("sign",), figures)
    for sign in verification.signs:
        signs.add_row(
            sign.module, f"{sign.signs:,}", f"{sign.error:.1e}", f"{sign.flipped:,}", f"{sign.explained:,}",
            f"{sign.largest_flip:.1e}" if sign.flipped else "",
            f"{sign.zeros:,}", f"{sign.free_running_flips:,}",
        )  # fmt: skip
    print_table(console, signs)
    if verification.integers:
        integers = table_of(("int8 layer", "operator"), ("values", "differ by 1", "wrong", "signal to\nnoise"))
        for one in verification.integers:
            decibels = one.decibels
            integers.add_row(
                one.module, one.operator, f"{one.values:,}", f"{one.differing - one.wrong:,}", f"{one.wrong:,}",
                "" if decibels is None else f"{decibels:.1f} dB",
            )  # fmt: skip
        print_table(console, integers)
    if verification.steps:
        steps = table_of(("rounding", "operator"), ("values", "ties", "differ", "explained", "differ free-\nrunning"))
        for step in verification.steps:
            steps.add_row(
                step.module, step.operator, f"{step.values:,}", f"{step.ties:,}", f"{step.differing:,}",
                f"{step.explained:,}", f"{step.free_running_differing:,}",
            )  # fmt: skip
        print_table(console, steps)


def table_of(names: Sequence[str], figures: Sequence[str], texts: Sequence[str] = (), gap: int = 2) -> Table:
    """A table whose figures stay whole, and whose names and texts go on in the next line where there is no room.

    gap: blanks between columns.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, gap - 1, 0, 0))  # one blank is the box's
    for name in names:
        table.add_column(name, overflow="fold", vertical="top")
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    for name in texts:
        table.add_column(name, overflow="fold")
    return table


def print_table(console: Console, table: Table) -> None:
    """As wide as the terminal, or where that is too narrow, as wide as the figures need it."""
    width = console.width
    console.width = max(width, NARROWEST)
    console.print(table)
    console.width = width


def print_seconds(console: Console, compiled: CompiledModel, passes: bool = True) -> None:
    """How long each stage took, and with `passes` each pass."""
    stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in compiled.seconds.items())
    console.print(f"time: {stages}", markup=False)
    if passes:
        for name, seconds in compiled.pass_seconds.items():
            console.print(f"  {name:24}{seconds * 1000:8.1f} ms", markup=False)


def print_inspection(console: Console, file: TfliteFile) -> None:
    """The table of `bnncc inspect`."""
    rows = summarize(file)
    gap = 2 if console.width >= ROOMY else 1
    table = table_of(("", "operator", "inputs", "output"), ("weights", "MACs"), gap=gap)
    table.columns[0].no_wrap = True
    table.columns[1].no_wrap = all(len(row.name) <= LONGEST_BUILTIN for row in rows)
    for row in rows:
        table.add_row(
            str(row.index), shown(row.name), "\n".join(row.inputs), "\n".join(row.outputs),
            f"{size_text(row.weight_bytes)}{row.weight_type}" if row.weight_bytes else "",
            f"{row.binary_macs:,} binary" if row.binary_macs else f"{row.float_macs:,}" if row.float_macs else "",
        )  # fmt: skip
    print_table(console, table)
    console.print(_totals(rows), markup=False)
    for line in _notes(file):
        console.print(shown(line), markup=False)


def print_latency(console: Console, latency: Latency) -> None:
    """The table of `bnncc inspect --latency`: of each operator, and in all."""
    gap = 2 if console.width >= ROOMY else 1
    table = table_of(("", "operator"), ("milliseconds", "of most", "10⁶ cycles", "MB to and\nfrom DRAM"), gap=gap)
    table.columns[0].no_wrap = True
    whole = latency.seconds
    for row in latency.operators:
        table.add_row(
            str(row.index), shown(row.name) + (" (?)" if row.is_guessed else ""), _between(row.seconds, 1e-3, 3),
            f"{row.seconds.most / whole.most:.1%}" if whole.most else "", _between(row.cycles, 1e6, 3),
            _between(row.dram_bytes, 1e6, 2),
        )  # fmt: skip
    print_table(console, table)
    target = latency.target
    console.print(
        f"{_between(whole, 1e-3, 1)} ms predicted on one core of {target.title} ({target.core}, {target.hertz / 1e9:g} "
        f"GHz, {_between(target.bandwidth, 1e9, 1)} GB/s), {latency.instructions / 1e6:,.1f} million instructions, "
        f"{_between(latency.dram_bytes, 1e6, 1)} MB to and from DRAM",
        markup=False,
    )
    for line in latency.assumptions:
        console.print(f"- {line}", markup=False)
    if any(row.is_guessed for row in latency.operators):
        console.print("- (?): an operator that was never counted, taken for one that moves its outputs", markup=False)


def _between(figures: Range, unit: float, digits: int) -> str:
    return f"{figures.least / unit:,.{digits}f}–{figures.most / unit:,.{digits}f}"


def latency_document(latency: Latency) -> dict[str, Any]:
    """The same for a program."""
    target = latency.target
    return {
        "target": target.name,
        "core": target.core,
        "hertz": target.hertz,
        "bandwidth": target.bandwidth,
        "seconds": latency.seconds,
        "instructions": latency.instructions,
        "dram_bytes": latency.dram_bytes,
        "operators": latency.operators,
        "assumptions": latency.assumptions,
    }


def _notes(file: TfliteFile) -> Iterator[str]:
    """What is said below the table: which runtimes it needs, what metadata and tensors mean, what is packed."""
    yield from _needs(file)
    entries = _metadata(file)
    yield f"right on {_right_on(file, TARGETS.get(str(entries.get('target'))), entries.get('min_runtime'))}"
    yield from (f"frozen for all inputs: {line}" for line in entries.pop("frozen_branches", ()))
    yield from _ranges(entries.pop("int8", {}))
    if entries:
        yield ", ".join(f"{key} {value}" for key, value in entries.items())
    if has_none(file.content):
        yield "no digest: an earlier bnncc made it, and not all damage to it would be noticed"
    yield from _public_metadata(file)
    for side, tensor, scale, point in _quantized(file):
        yield f"{side} {tensor.name}: {tensor.dtype} q stands for {scale:.6g} * (q - {point})"
    yield from (f"packed: {name}, {size_text(len(packed))}" for name, packed in packed_files(file.content).items())


def _ranges(entry: Mapping[str, Any]) -> Iterator[str]:
    """What the metadata say of a file's int8 layers."""
    ranges = entry.get("ranges", {})
    if ranges:
        kept = f"; kept in float: {', '.join(entry['keep_float'])}" if entry.get("keep_float") else ""
        yield f"int8: {len(ranges)} ranges, {entry.get('method')}, of {entry.get('inputs'):,} inputs{kept}"
    for name, (low, high) in ranges.items():
        kind = INT16 if name.endswith(SHORT) else INT8
        yield f"{kind} range of {name.removesuffix(SHORT)}: {low:.6g} to {high:.6g}"


def _right_on(file: TfliteFile, target: Target | None, min_runtime: str | None) -> str:
    """From which runtime on the file is right, and which ones are meant."""
    least = oldest(needs(file))
    own = "no released runtime" if least == NONE else f"{title(least)} and later"
    if min_runtime is not None:
        return f"{own}; asked for: {title(min_runtime)} and later"
    return own if target is None else f"{own}; {target.name}: {span_text(target.runtimes)}"


def _needs(file: TfliteFile) -> list[str]:
    """What the file holds that older runtimes than the ordinary ones compute wrongly or refuse, and what some would if
    the delegate did not compute it.
    """
    found = needs(file)
    missed = beyond(found, ORDINARY)
    return [str(need) for need in found if need in missed or need.by_delegate]


def _public_metadata(file: TfliteFile) -> list[str]:
    """What other tools read of the file; nothing where it has none."""
    content = file.metadata().get(PUBLIC_NAME)
    return [] if content is None else [f"{what}: {text}" if text else what for what, text in describe(content)]


def _quantized(file: TfliteFile) -> Iterator[tuple[str, Tensor, float, int]]:
    """(input or output, the tensor, scale, zero point) of each whose integers stand for other numbers."""
    for side, tensors in (("input", file.inputs), ("output", file.outputs)):
        for tensor in tensors:
            if tensor.quantization is not None and len(tensor.quantization.scales) == 1:
                yield side, tensor, tensor.quantization.scales[0], tensor.quantization.zero_points[0]


def inspection(file: TfliteFile) -> dict[str, Any]:
    """The same for a program: operators, their totals, and what the metadata say."""
    rows = summarize(file)
    return {
        "operators": rows,
        "weight_bytes": sum(row.weight_bytes for row in rows),
        "binary_macs": sum(row.binary_macs for row in rows),
        "float_macs": sum(row.float_macs for row in rows),
        "needs": _needs(file),
        "oldest_runtime": oldest(needs(file)),
        "metadata": _metadata(file),
        "public_metadata": _public_metadata(file),
        "quantized": [
            {"side": side, "name": tensor.name, "type": tensor.dtype, "scale": scale, "zero_point": point}
            for side, tensor, scale, point in _quantized(file)
        ],
        "packed_files": list(packed_files(file.content)),
    }


def _metadata(file: TfliteFile) -> dict[str, Any]:
    """What a file of bnncc's says of itself; nothing of another's.  Raises InputError where that cannot be read."""
    content = file.metadata().get(METADATA_NAME)
    if content is None:
        return {}
    try:
        entries = dict(json.loads(content))
        entries["frozen_branches"] = list(entries.get("frozen_branches", ()))
        list(_ranges(entries.get("int8", {})))  # that it can be shown
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise InputError(f"its metadata '{METADATA_NAME}' are damaged: {error}") from error
    return entries


def _totals(rows: Sequence[OperatorSummary]) -> str:
    weights, binary, floats = (
        sum(getattr(row, field) for row in rows) for field in ("weight_bytes", "binary_macs", "float_macs")
    )
    return f"{len(rows)} operators, {size_text(weights)} of weights, {binary:,} binary MACs, {floats:,} float MACs"


def also_verified(found: Verification) -> str:
    """One line for the verification in a second runtime."""
    if not found.inputs:
        return f"FAILED in {found.runtime.title}, where it did not run"
    sums, wrong = sum(layer.sums for layer in found.layers), sum(layer.wrong for layer in found.layers)
    return (
        f"{'passed' if found.passed else 'FAILED'} in {found.runtime.title}: {sums - wrong:,} of {sums:,} sums equal, "
        f"largest error {found.output_error:.1e} layer by layer, {found.free_error:.1e} free-running"
    )


def verification_rows(found: Verification, reference: str) -> list[tuple[str, str]]:
    """(name, text) of the totals over all layers; `reference` is what the file was compared with.

    Of a file that was refused before it ran there are none.
    """
    if not found.inputs:
        return [("verified on", f"no inputs: the file did not run in {found.runtime.title}")]
    sums = sum(layer.sums for layer in found.layers)
    wrong = sum(layer.wrong for layer in found.layers)
    signs = sum(sign.signs for sign in found.signs)
    flipped = sum(sign.flipped for sign in found.signs)
    explained = sum(sign.explained for sign in found.signs)
    free = sum(sign.free_running_flips for sign in found.signs)
    rows = [
        (
            "verified on",
            f"{found.inputs} input{'s'[: found.inputs > 1]}, in {found.runtime.title}, against {reference}",
        ),
        ("integer sums", f"{sums - wrong:,} of {sums:,} equal"),
        ("signs, layer by layer", f"{flipped:,} of {signs:,} flipped, {explained:,} of them by rounding"),
        ("signs, free-running", f"{free:,} of {signs:,} flipped"),
        ("largest error", f"{found.output_error:.1e} layer by layer, {found.free_error:.1e} free-running"),
    ]
    if found.rounded or found.integers:
        rounded = sum(sign.rounded_flips for sign in found.signs)
        largest = max((sign.largest_rounded_flip for sign in found.signs), default=0.0)
        moved = f", where |x| was up to {largest:.1%} of its channel's largest" if rounded else ""
        effect = f"{rounded:,} of {signs:,} signs flipped{moved}; outputs off by {found.rounded_error:.1e}"
        rows[3:3] = [("int8's rounding" if found.integers else "the weights' rounding", effect)]
    if found.integers:
        values, differing, wrong = (
            sum(getattr(one, field) for one in found.integers) for field in ("values", "differing", "wrong")
        )
        text = f"{values - differing:,} of {values:,} are the specification's"
        text += f", {differing - wrong:,} differ by 1, which it allows" if differing > wrong else ""
        rows[3:3] = [("int8 operators", text + (f", {wrong:,} are wrong" if wrong else ""))]
    if found.steps:
        values, differing, explained, ties, alone = (
            sum(getattr(step, field) for step in found.steps)
            for field in ("values", "differing", "explained", "ties", "free_running_differing")
        )
        rows.append(
            (
                "roundings, comparisons, choices",
                f"{differing:,} of {values:,} differ, {explained:,} of them by rounding at one of {ties:,} ties; "
                f"{alone:,} free-running",
            )
        )
    if found.zeros:
        rows.append(
            ("exact zeros at signs", f"{found.zeros:,} of {signs:,}: PyTorch's sign gives 0 there, a bit gives +1")
        )
    return rows


def _rounded_weights(file: TfliteFile, dtype: str) -> str:
    """How much of the float constants is stored in `dtype`."""
    sizes = {
        kind: sum(
            data.nbytes for tensor in file.tensors if tensor.dtype == kind and (data := file.data(tensor)) is not None
        )
        for kind in ("float32", dtype)
    }
    return f"{dtype}: {size_text(sizes[dtype])}; {size_text(sizes['float32'])} stay float32"


def _float_weights(compiled: CompiledModel, file: TfliteFile) -> Counter[str]:
    """Bytes of the float32 weights of each layer that has such in the file, by its module."""
    from bnncc.targets.tflite.modules import module_of, values_by_name  # `bnncc inspect` does not wait for ONNX

    values, sizes = values_by_name(compiled.graph.graph), Counter[str]()
    for operator in file.operators:
        weights = operator.inputs[1] if operator.name in LAYERS else None
        data = None if weights is None else file.data(weights)
        if data is not None and data.dtype == np.float32:
            sizes[module_of(operator, values)] += data.nbytes
    return sizes


def _heaviest(sizes: Counter[str], file_bytes: int) -> str:
    """The layers with most of these bytes, and what makes them less."""
    total = sizes.total()
    listed = ", ".join(f"'{shown(name)}' {size_text(size)}" for name, size in sizes.most_common(LISTED_LAYERS))
    more = f", {len(sizes) - LISTED_LAYERS} more" if len(sizes) > LISTED_LAYERS else ""
    share = f"{size_text(total)}, {total / file_bytes:.0%} of the file"
    return f"{share}: {listed}{more}; --weights-precision int8 makes them a quarter"


def _integer_rows(file: TfliteFile, integers: Integers | None) -> Iterator[tuple[str, str]]:
    """(name, text) of what runs in int8 and what of the layers does not."""
    if integers is None:
        return
    layers = [operator for operator in file.operators if operator.name in LAYERS]
    count = sum(operator.outputs[0].dtype == "int8" for operator in layers)
    sizes = {
        kind: sum(
            data.nbytes for tensor in file.tensors if tensor.dtype == kind and (data := file.data(tensor)) is not None
        )
        for kind in ("float32", "int8")
    }
    borders = Counter(operator.name for operator in file.operators if operator.name in ("QUANTIZE", "DEQUANTIZE"))
    yield (
        "in int8",
        f"{count} of {len(layers)} float layers, with {size_text(sizes['int8'])} of weights; "
        f"{size_text(sizes['float32'])} of constants stay float32",
    )
    yield (
        "ranges",
        f"{len(integers.ranges)}, {integers.method}, of {integers.inputs:,} inputs; {borders['QUANTIZE']} QUANTIZE and "
        f"{borders['DEQUANTIZE']} DEQUANTIZE between int8 and float32, in which the binary layers' shortcuts "
        + ("stay" if integers.shortcuts == FLOAT32 else f"are added, and kept in {integers.shortcuts}"),
    )
    if integers.keep_float:
        yield "kept in float", ", ".join(integers.keep_float)


def _operators(file: TfliteFile) -> str:
    counts = Counter(operator.name for operator in file.operators)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def times(size: int, other: int) -> str:
    """How a size compares with another, that is not 0: "16.1 times smaller", "1.25 times larger"."""
    return f"{other / size:,.1f} times smaller" if size <= other else f"{size / other:,.2f} times larger"


def size_text(count: int) -> str:
    """Bytes as a reader wants them: 312 bytes, 45.3 kB, 7.85 MB."""
    if count < 10_000:
        return f"{count:,} bytes"
    return f"{count / 1e3:,.1f} kB" if count < 1e6 else f"{count / 1e6:,.2f} MB"
