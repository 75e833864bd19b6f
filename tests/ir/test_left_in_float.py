"""Every reason for which a layer stays in float has a word that leads to the line that makes it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import bnncc
from bnncc.ir.graph import LEFT_IN_FLOAT_KEY
from bnncc.ir.left_in_float import Reason, leave_in_float
from bnncc.ir.modes import ZeroWeights
from bnncc.options import Options
from bnncc.report import print_compilation, print_explanation
from tests.passes.helpers import build, signs

ROOT = Path(__file__).parents[2]
# bnncc/passes and bnncc/targets are links to the others.
SOURCES = [path for folder in ("bnncc", "passes", "targets") for path in sorted((ROOT / folder).rglob("*.py"))]


def reasons_made() -> Iterator[tuple[str, ast.expr]]:
    """(place, first argument) of every call of Reason in the source."""
    for path in dict.fromkeys(path.resolve() for path in SOURCES):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Reason":
                yield f"{path.name}:{node.lineno}", node.args[0]


def words() -> list[str]:
    return [str(ast.literal_eval(word)) for _, word in reasons_made()]


def test_every_reason_is_made_with_a_literal_word() -> None:
    made = list(reasons_made())
    assert len(made) >= 18
    for place, word in made:
        assert isinstance(word, ast.Constant), place
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", str(word.value)), place


@pytest.mark.parametrize("word", words())
def test_a_reasons_word_stands_once_in_the_source(word: str) -> None:
    files = {path.resolve(): path.read_text() for path in SOURCES}
    assert sum(text.count(word) for text in files.values()) == 1


def test_the_readme_lists_every_word_once() -> None:
    table = (ROOT / "README.md").read_text().split("| word | ")[1].split("\n\n")[0]
    listed = [match[1] for line in table.splitlines() if (match := re.match(r"\| `([a-z-]+)` \|", line))]
    assert sorted(listed) == sorted(words())


def test_only_leave_in_float_writes_the_reason_into_a_graph() -> None:
    for path in dict.fromkeys(path.resolve() for path in SOURCES):
        if "LEFT_IN_FLOAT_KEY" in path.read_text():
            assert path.name in ("graph.py", "left_in_float.py")


def test_a_stored_reason_begins_with_its_word() -> None:
    node = ir.node("Conv", [])
    assert Reason.of(node) is None
    leave_in_float(node, Reason("some-word", "it is: so"))
    assert node.metadata_props[LEFT_IN_FLOAT_KEY] == "some-word: it is: so"
    assert Reason.of(node) == Reason("some-word", "it is: so")


def test_the_report_prints_the_word_with_the_reason(tmp_path: Path) -> None:
    filters = signs(3, 4, 2, 2)
    filters[0, 0, 0, 0] = 0
    body = "t = Add (x, c)\ns = Sign (t)\ny = Conv (s, w)"
    model = build(body, "float[1, 4, 6, 7] x", w=filters, c=np.array([0.3], np.float32))
    path = tmp_path / "net.onnx"
    ir.save(model, path)
    compiled = bnncc.compile(str(path), options=Options(zero_weights=ZeroWeights.FLOAT))
    (layer,) = compiled.layers
    assert layer.word == "weights-exactly-zero"
    text = StringIO()
    print_explanation(Console(file=text, width=200), SimpleNamespace(layers=[layer]))  # type: ignore[arg-type]
    assert f"in float [weights-exactly-zero]: {layer.reason}" in text.getvalue()


def test_layers_of_one_line_with_one_reason_are_one_line_of_the_report() -> None:
    class Depthwise(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return self._conv_forward(torch.sign(x), torch.sign(self.weight), None)

    class Steps(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[1](self[0](x)) + self[2](self[1](x))

    network = Steps(*(Depthwise(8, 8, 3, padding=1, groups=8) for _ in range(3))).eval()
    compiled = bnncc.compile(network, input_shapes=["1x8x6x6"], options=Options(sign_of_zero="plus-one"))
    text = StringIO()
    print_compilation(Console(file=text, width=1000), compiled)
    (line,) = [line for line in text.getvalue().splitlines() if line.startswith("in float")]
    assert line.startswith("in float [depthwise-conv]: Conv '0', '1' (2 times), '2' (test_left_in_float.py:")
