"""The page of a check, from its templates.

    ┌ summary ─────────── the verdict, six figures, what was left out, warnings
    ├ accuracy ────────── top-1 and top-5 with their intervals, paired differences
    ├ changed images ──── picture, label, both predictions
    ├ layers ──────────── flips and errors of each binary layer
    ├ outputs ─────────── errors, signal-to-noise ratio, images per second
    ├ sizes ───────────── the file, the baseline, the float32 weights
    ├ operators ───────── the file's operators in order
    └ notes ───────────── how the figures were made

Every text goes through Jinja's autoescaping.  The Content-Security-Policy allows the page's own style, by its hash, and
data: images; nothing else can be loaded or run, whatever a name in the page may hold.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePath

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from bnncc.check.page import charts
from bnncc.check.page.numbers import FILTERS, INTERVAL_NAME, percent_interval, points_interval
from bnncc.check.page.thumbnails import thumbnail
from bnncc.check.page.verdict import verdict
from bnncc.check.result import ChangedImage, CheckResult
from bnncc.inspect import OperatorSummary
from bnncc.statistics import Proportion
from bnncc.verification import CHANCE_OF_ZERO

# So many changed images are shown: the first of them at once, the others when asked for.
MOST_IMAGES, FIRST_IMAGES = 60, 12

# The folder beside this file.
TEMPLATES = jinja2.PackageLoader("bnncc.check.page")

# uint8 [H, W], [H, W, 1] or [H, W, 3] of a row of the data; None where it has no picture.
Picture = Callable[[int], "npt.NDArray[np.uint8] | None"]


def write_page(result: CheckResult, operators: Sequence[OperatorSummary], picture: Picture) -> str:
    """The HTML text of a check, to be stored as UTF-8.

    operators: of the compiled file (`bnncc.inspect.summarize`).  picture: asked for the first `MOST_IMAGES` of the
    images that changed their class.  Raises ValueError for a picture of another shape or type.
    """
    environment = _environment()
    style = TEMPLATES.get_source(environment, "page.css")[0]
    shown = result.changed[:MOST_IMAGES]
    pictures = {changed.row: picture(changed.row) for changed in shown}
    return environment.get_template("page.html").render(
        result=result,
        file_name=PurePath(result.facts.path).name or "compiled network",
        verdict=verdict(result),
        style=Markup(style),
        style_hash=_csp_hash(style),
        accuracies=_accuracies(result),
        files=result.files,
        shown=shown,
        first_images=FIRST_IMAGES,
        thumbnails={row: thumbnail(pixels) for row, pixels in pictures.items() if pixels is not None},
        outcomes=Counter(_outcome(changed) for changed in result.changed),
        operators=operators,
        operator_counts=Counter(operator.name for operator in operators),
        chance_of_zero=CHANCE_OF_ZERO,
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=TEMPLATES,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.globals.update(
        axis=charts.axis,
        bar=charts.bar,
        largest=charts.largest,
        interval_name=INTERVAL_NAME,
        percent_interval=percent_interval,
        points_interval=points_interval,
        outcome=_outcome,
    )
    return environment


def _csp_hash(style: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")


def _accuracies(result: CheckResult) -> dict[str, list[tuple[str, Proportion]]]:
    """Top-1 and, where there are more than five classes, top-5: of the reference and of each file."""
    every = [("reference", result.reference.top1, result.reference.top5)]
    every += [(file.name, file.top1, file.top5) for file in result.files]
    return {
        title: [(name, entry) for name, *tops in every if (entry := tops[top]) is not None]
        for top, title in enumerate(("Top-1", "Top-5"))
        if every[0][1 + top] is not None
    }


def _outcome(changed: ChangedImage) -> str:
    """What the change did: "lost", "won", "wrong" in both, or "unknown" without a label."""
    if changed.label is None:
        return "unknown"
    if changed.reference == changed.label:
        return "lost"
    return "won" if changed.compiled == changed.label else "wrong"
