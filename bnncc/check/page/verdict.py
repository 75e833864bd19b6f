"""The page's first sentences: what a reader who reads no further should take home."""

from __future__ import annotations

from dataclasses import dataclass

from bnncc.check.page.numbers import INTERVAL_NAME, count, decimal, p_value, percent, points, points_interval
from bnncc.check.result import CheckResult
from bnncc.statistics import LEVEL, Difference
from bnncc.verification import Verification


@dataclass(frozen=True)
class Verdict:
    """headline: a few words.  sentences: the accuracy and the proof, where they were measured."""

    headline: str
    sentences: tuple[str, ...]


def verdict(result: CheckResult) -> Verdict:
    """The verdict on a check."""
    sentences = [_accuracy(result)]
    if result.verification is not None:
        sentences.append(_proof(result.verification))
    return Verdict(_headline(result), tuple(sentence for sentence in sentences if sentence))


def _headline(result: CheckResult) -> str:
    agreement = result.compiled.agreement
    if agreement is None:
        return f"The outputs differ by {decimal(result.compiled.largest_error)} at most"
    if agreement.count == agreement.total:
        return f"The same class on all {count(agreement.total)} images"
    return f"The same class on {count(agreement.count)} of {count(agreement.total)} images"


def _accuracy(result: CheckResult) -> str:
    mine, reference, paired = result.compiled.top1, result.reference.top1, result.compiled.difference
    if mine is None or reference is None or paired is None:
        return ""
    return (
        f"The compiled file is right on {percent(mine.value)} of them, the reference on {percent(reference.value)}: "
        f"a difference of {points(paired.value)}, {INTERVAL_NAME} {points_interval(paired.low, paired.high)}, "
        f"McNemar {p_value(paired.p_value)}. {_meaning(paired)}"
    )


def _proof(found: Verification) -> str:
    if not found.passed:
        more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
        return f"The verification of the layers FAILED: {found.problems[0]}{more}."
    sums = sum(layer.sums for layer in found.layers)
    free = sum(sign.free_running_flips for sign in found.signs)
    signs = sum(sign.signs for sign in found.signs)
    flips = f"{count(free)} of {count(signs)} signs flip" if free else f"none of {count(signs)} signs flips"
    convolutions = "1 binary convolution" if len(found.layers) == 1 else f"{len(found.layers)} binary convolutions"
    return (
        f"The verification of the layers passed: all {count(sums)} integer sums of {convolutions} equal the "
        f"reference's, and {flips} when the file runs by itself."
    )


def _meaning(difference: Difference) -> str:
    """What McNemar's test says about a difference."""
    if not difference.won + difference.lost:
        return "No image is right in one and wrong in the other."
    if difference.p_value < 1 - LEVEL:
        return "That is more than chance would do."
    return "Chance alone may do as much."
