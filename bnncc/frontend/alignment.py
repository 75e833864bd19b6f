"""Find, for every operation of an eager run, the node of the traced graph that computes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import onnx_ir as ir

from bnncc.frontend.recording import JUMPING, SMOOTH, Operation
from bnncc.frontend.source import SourceLocation, source_of
from bnncc.ir.choices import result_of
from bnncc.ir.graph import shape_of

_KINDS = {*JUMPING, *SMOOTH.values(), "ConvTranspose"}


@dataclass
class Alignment:
    """Pairs in graph order, and what has no partner."""

    pairs: list[tuple[Operation, ir.Node]]
    only_in_pytorch: list[Operation]
    only_in_graph: list[ir.Node]


def align(operations: Sequence[Operation], graph: ir.Graph) -> Alignment:
    """Match the k-th operation of a kind with the k-th node of that kind.

    Where the numbers or shapes of a kind differ, the longest run of equal shapes and source lines is matched instead.
    """
    ours: defaultdict[str, list[Operation]] = defaultdict(list)
    theirs: defaultdict[str, list[ir.Node]] = defaultdict(list)
    for operation in operations:
        ours[operation.kind].append(operation)
    for node in graph:
        if node.domain == "" and node.op_type in _KINDS:
            theirs[node.op_type].append(node)
    partner: dict[ir.Node, Operation] = {}
    for kind in _KINDS:
        partner.update(_match(ours[kind], theirs[kind]))
    matched = {id(operation) for operation in partner.values()}
    return Alignment(
        pairs=[(partner[node], node) for node in graph if node in partner],
        only_in_pytorch=[operation for operation in operations if id(operation) not in matched],
        only_in_graph=[node for kind in _KINDS for node in theirs[kind] if node not in partner],
    )


def _match(operations: Sequence[Operation], nodes: Sequence[ir.Node]) -> Iterable[tuple[ir.Node, Operation]]:
    shapes = [operation.shape for operation in operations]
    node_shapes = [shape_of(result_of(node)) for node in nodes]
    if shapes == node_shapes:
        return list(zip(nodes, operations, strict=True))
    left: list[Hashable] = [(shape, _line(one.source)) for shape, one in zip(shapes, operations, strict=True)]
    right: list[Hashable] = [(shape, _line(source_of(one))) for shape, one in zip(node_shapes, nodes, strict=True)]
    blocks = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return [(nodes[b + step], operations[a + step]) for a, b, size in blocks for step in range(size)]


def _line(source: SourceLocation | None) -> tuple[str, int] | None:
    return (source.file, source.line) if source is not None else None
