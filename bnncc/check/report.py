"""What `bnncc check` prints, and what `bnncc compile --data` adds to its table."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from bnncc.check.result import CheckResult, FileFigures
from bnncc.check.statistics import LEVEL, Difference, Proportion
from bnncc.report import print_layers, size_text, verification_rows

# So many images that changed their class are printed; more are counted.
LISTED = 10


def print_check(console: Console, result: CheckResult) -> None:
    """The table, the layers where they were checked, and the images that changed their class."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts = result.facts
    table.add_row("file", f"{facts.path} ({size_text(facts.bytes)}, {facts.target}, bnncc {facts.version})")
    for name, text in check_rows(result):
        table.add_row(name, text)
    if result.verification is not None:
        for name, text in verification_rows(result.verification, "the network"):
            table.add_row(name, text)
        table.add_row("flips, free-running", _spread(result))
    console.print(table)
    if result.verification is not None:
        print_layers(console, result.verification)
        for problem in result.verification.problems:
            console.print(f"problem: {problem}", markup=False)
    for image in result.changed[:LISTED]:
        label = "" if image.label is None else f", labelled {result.class_name(image.label)}"
        console.print(
            f"changed: {image.name}{label}: reference {result.class_name(image.reference)}, "
            f"compiled {result.class_name(image.compiled)}",
            markup=False,
        )
    if len(result.changed) > LISTED:
        console.print(f"… and {len(result.changed) - LISTED:,} more that changed their class")
    for name in result.skipped[:LISTED]:
        console.print(f"skipped: {name}", markup=False)
    if len(result.skipped) > LISTED:
        console.print(f"… and {len(result.skipped) - LISTED:,} more skipped")


def check_rows(result: CheckResult) -> list[tuple[str, str]]:
    """(name, text) of every figure."""
    rows = [("images", _images(result))]
    files = [file for file in (result.compiled, result.baseline) if file is not None]
    for top in ("top1", "top5"):
        name = "accuracy" if top == "top1" else "top-5"
        for who, proportion in (
            ("reference", getattr(result.reference, top)),
            *((file.name, getattr(file, top)) for file in files),
        ):
            if proportion is not None:
                rows.append((f"{name}, {who}", _proportion(proportion)))
    for file in files:
        suffix = "" if file is result.compiled else f", {file.name}"
        if file.difference is not None:
            rows.append((f"difference{suffix}", _difference(file.difference)))
        if file.agreement is not None:
            rows.append((f"same class{suffix}", _agreement(file.agreement)))
        rows.append((f"outputs{suffix}", _errors(file)))
    rates = [
        ("reference", result.reference.images_per_second),
        *((file.name, file.images_per_second) for file in files),
    ]
    rows.append(("images per second", ", ".join(f"{who} {rate:.4g}" for who, rate in rates) + " (one thread)"))
    if result.baseline is not None:
        ratio = result.baseline.bytes / result.compiled.bytes
        rows.append(("size, baseline", f"{size_text(result.baseline.bytes)}, {ratio:.1f} times the compiled file"))
    return rows


def _images(result: CheckResult) -> str:
    text = f"{result.images:,}"
    if result.skipped:
        text += f", {len(result.skipped):,} skipped"
    if not result.complete:
        text += f" of {result.total:,}: interrupted"
    return text


def _proportion(found: Proportion) -> str:
    return (
        f"{found.value:.2%} ({found.count:,} of {found.total:,} images; {LEVEL:.0%} interval {100 * found.low:.2f} to "
        f"{found.high:.2%})"
    )


def _difference(found: Difference) -> str:
    return (
        f"{100 * found.value:+.2f} points ({found.won:,} won, {found.lost:,} lost; {LEVEL:.0%} interval "
        f"{100 * found.low:+.2f} to {100 * found.high:+.2f}; McNemar p = {found.p_value:.2g})"
    )


def _agreement(found: Proportion) -> str:
    return f"{found.count:,} of {found.total:,} images ({LEVEL:.0%} interval {100 * found.low:.2f} to {found.high:.2%})"


def _errors(file: FileFigures) -> str:
    snr = "all equal" if math.isinf(file.snr) and file.snr > 0 else f"signal-to-noise ratio {file.snr:.1f} dB"
    return f"largest error {file.largest_error:.1e}, mean {file.mean_error:.1e}; {snr}"


def _spread(result: CheckResult) -> str:
    """Where flips start, and which sign loses most."""
    verification = result.verification
    assert verification is not None
    most = verification.most_flipped
    if most is None:
        return "none"
    starts = ", ".join(f"'{sign.module}' ({sign.started:,})" for sign in verification.signs if sign.started)
    return f"start at {starts}; most at '{most.module}' ({most.free_running_flips / most.signs:.3%} of its signs)"
