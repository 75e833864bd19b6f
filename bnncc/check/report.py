"""What `bnncc check` prints, and what `bnncc compile --data` adds to its own report."""

from __future__ import annotations

import math
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from bnncc.check.result import CheckResult, FileFigures
from bnncc.check.same_file import Differences
from bnncc.report import also_verified, facts_table, print_layers, size_text, verification_rows
from bnncc.statistics import LEVEL, Proportion
from bnncc.verification import Verification

# So many images that changed their class, or were skipped, are printed; more are counted.
LISTED = 10
INTERVAL = f"  {LEVEL:.0%} interval"


def print_check(console: Console, result: CheckResult) -> None:
    """The figures, the layers where they were checked, and the images that changed their class."""
    facts = result.facts
    console.print(
        f"{facts.path} ({size_text(facts.bytes)}, compiled for {facts.target} by bnncc {facts.version})", markup=False
    )
    if result.differences is not None and not result.differences.problems:
        console.print(identity(result.differences, facts.reference), markup=False)
    print_figures(console, result)
    if result.verification is not None:
        console.print()
        _print_layers(console, result.verification, result.delegate_verification)
    for problem in result.problems:
        console.print(f"problem: {problem}", markup=False)
    for image in result.changed[:LISTED]:
        label = "" if image.label is None else f", labelled {result.class_name(image.label)}"
        console.print(
            f"changed: {image.name}{label}: reference {result.class_name(image.reference)}, "
            f"compiled {result.class_name(image.compiled)}",
            markup=False,
        )
    _print_more(console, len(result.changed), "changed their class")
    for name in result.skipped[:LISTED]:
        console.print(f"skipped: {name}", markup=False)
    _print_more(console, len(result.skipped), "were skipped")


def identity(differences: Differences, network: str) -> str:
    """That the file is the network's, in one sentence."""
    if differences.is_same_bytes:
        return f"it is, to the byte, what {network} compiles to"
    if not differences.roundings:
        return (
            f"its operators, weights, inputs and outputs are those that {network} compiles to; other bytes differ, as "
            "of its metadata, of a description or in the order of what it holds"
        )
    count = len(differences.roundings)
    return f"it is what {network} compiles to, but for the rounding of {count:,} float constants"


def print_figures(console: Console, result: CheckResult) -> None:
    """How many images, then a column for the network and for each file."""
    console.print(_images(result))
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    for name in ("reference", *(file.name for file in result.files)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in _accuracy_rows(result) + _file_rows(result):
        table.add_row(*row)
    console.print(table)


def _images(result: CheckResult) -> str:
    text = f"{result.images:,} images"
    if result.skipped:
        text += f", {len(result.skipped):,} skipped"
    if not result.complete:
        text += f" of {result.total:,}: interrupted"
    return text


def _accuracy_rows(result: CheckResult) -> list[list[str]]:
    rows = []
    for title, top in (("top-1 accuracy", "top1"), ("top-5 accuracy", "top5")):
        found: list[Proportion | None] = [getattr(entry, top) for entry in (result.reference, *result.files)]
        if found[0] is not None:
            rows.append([title, *(f"{entry.value:.2%}" if entry else "" for entry in found)])
            rows.append([INTERVAL, *(_interval(entry) if entry else "" for entry in found)])
    return rows


def _file_rows(result: CheckResult) -> list[list[str]]:
    """What is said of a file beside the reference."""
    rows: list[list[str]] = []

    def add(title: str, text: Callable[[FileFigures], str], reference: str = "") -> None:
        row = [title, reference, *map(text, result.files)]
        if any(row[1:]):
            rows.append(row)

    add("difference (points)", lambda file: f"{100 * file.difference.value:+.2f}" if file.difference else "")
    add(
        INTERVAL,
        lambda file: f"{100 * file.difference.low:+.2f}…{100 * file.difference.high:+.2f}" if file.difference else "",
    )
    add("  McNemar's p", lambda file: f"{file.difference.p_value:.2g}" if file.difference else "")
    add("same class", lambda file: f"{file.agreement.count:,}" if file.agreement else "")
    add(INTERVAL, lambda file: _interval(file.agreement) if file.agreement else "")
    add("largest error", lambda file: f"{file.largest_error:.1e}")
    add("mean error", lambda file: f"{file.mean_error:.1e}")
    add("signal to noise", lambda file: "all equal" if file.snr == math.inf else f"{file.snr:.1f} dB")
    add("images per second", lambda file: _rate(file.images_per_second), _rate(result.reference.images_per_second))
    add("size", lambda file: size_text(file.bytes), size_text(result.facts.float_bytes))
    return rows


def _rate(images_per_second: float) -> str:
    return f"{images_per_second:,.0f}" if images_per_second >= 100 else f"{images_per_second:.3g}"


def _interval(found: Proportion) -> str:
    return f"{100 * found.low:.2f}–{found.high:.2%}"


def _print_layers(console: Console, found: Verification, delegate: Verification | None) -> None:
    table = facts_table()
    for name, text in verification_rows(found, "the network"):
        table.add_row(name, text)
    table.add_row("flips, free-running", _spread(found))
    if delegate is not None:
        table.add_row("once more", also_verified(delegate))
    console.print(table)
    print_layers(console, found)


def _spread(found: Verification) -> str:
    """Where flips start, and which sign loses most."""
    most = found.most_flipped
    if most is None:
        return "none"
    starts = ", ".join(f"'{sign.module}' ({sign.started:,})" for sign in found.signs if sign.started)
    return f"start at {starts}; most at '{most.module}' ({most.free_running_flips / most.signs:.3%} of its signs)"


def _print_more(console: Console, count: int, what: str) -> None:
    if count > LISTED:
        console.print(f"… and {count - LISTED:,} more that {what}")
