"""The bars of `--min-agreement` and `--max-accuracy-drop`: what a compiled file must keep to, asked for or not."""

from __future__ import annotations

import contextlib

from bnncc.check.options import CheckOptions
from bnncc.check.result import CheckResult
from bnncc.check.task import OpenedTask
from bnncc.data import BadImageError, Dataset
from bnncc.errors import InputError
from bnncc.statistics import LEVEL

# Where no bar is given: rounding flips a sign now and then, and a class with it, but not one in ten.
LEAST_AGREEMENT = 0.9


def check_bars(options: CheckOptions, opened: OpenedTask) -> None:
    """Raise InputError now where a bar could never be missed."""
    for option, bar in (("min_agreement", options.min_agreement), ("max_accuracy_drop", options.max_accuracy_drop)):
        if bar is not None and opened.class_count is None:
            name = option.replace("_", "-")
            raise InputError(f"--{name}: the network's first output is no row of logits")
    if options.max_accuracy_drop is not None and _first_label(opened.data) is None:
        raise InputError("--max-accuracy-drop: the data have no labels")


def _first_label(dataset: Dataset) -> int | None:
    """The label of the first image that can be read."""
    for row in range(len(dataset)):
        with contextlib.suppress(BadImageError):
            return dataset.read(row).label
    return None


def missed_bars(result: CheckResult, options: CheckOptions) -> list[str]:
    """What falls short of `min_agreement`, or without it surely of `LEAST_AGREEMENT`, and of `max_accuracy_drop`."""
    missed = []
    least, agreement = options.min_agreement, result.compiled.agreement
    if least is not None and (agreement is None or agreement.value < least):
        kept = 0.0 if agreement is None else agreement.value
        missed.append(f"{100 * kept:g} % of the images keep their class, less than {100 * least:g} %")
    if least is None and agreement is not None and agreement.high < LEAST_AGREEMENT:
        missed.append(
            f"{100 * agreement.value:g} % of the images keep their class, with {LEVEL:.0%} confidence less than "
            f"{LEAST_AGREEMENT:.0%}: that is no rounding (--min-agreement 0 to accept it)"
        )
    most, drop = options.max_accuracy_drop, result.accuracy_drop
    if most is not None and (drop is None or drop > most):
        missed.append(
            "not every image has a label: there is no accuracy"
            if drop is None
            else f"the accuracy drops by {100 * drop:g} points, more than {100 * most:g}"
        )
    return missed
