"""What operators decompose into: `DECOMPOSITIONS` maps an ONNX operator to a small function.

A decomposition takes a `Builder` for the node, builds nodes, and returns a value for each of the node's outputs (None
for one that nothing uses).  It raises `NotDecomposableError` where this node has none.

In reading order: `builder`; `function_body` (ONNX's own definition, for operators that have one); `normalization`,
`elementwise`, `indexing`, `windows`, `unpool`, `resize`, `grid_sample`,
`recurrent`, `bitwise`, `small_integers`, `integer_products`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from bnncc.passes.decompositions import (
    bitwise,
    elementwise,
    grid_sample,
    indexing,
    integer_products,
    normalization,
    recurrent,
    resize,
    small_integers,
    windows,
)
from bnncc.passes.decompositions.builder import Builder
from bnncc.passes.decompositions.function_body import inline_function_body

Decomposition = Callable[[Builder], Sequence[ir.Value | None]]

# Operators that ONNX defines by others, and that are better off so.
FUNCTIONS = (
    "AffineGrid", "Attention", "Bernoulli", "BlackmanWindow", "CausalConvWithState", "CenterCropPad",
    "DynamicQuantizeLinear", "HammingWindow", "HannWindow", "LinearAttention", "NegativeLogLikelihoodLoss", "Range",
    "ReduceLogSum", "RotaryEmbedding", "Shrink", "SoftmaxCrossEntropyLoss", "SwiGLU", "Swish",
    "ThresholdedRelu",
)  # fmt: skip

DECOMPOSITIONS: Mapping[str, Decomposition] = {
    **dict.fromkeys(FUNCTIONS, inline_function_body),
    **normalization.DECOMPOSITIONS,
    **indexing.DECOMPOSITIONS,
    **recurrent.DECOMPOSITIONS,
    **windows.DECOMPOSITIONS,
    **elementwise.DECOMPOSITIONS,
    **grid_sample.DECOMPOSITIONS,
    **resize.DECOMPOSITIONS,
    **bitwise.DECOMPOSITIONS,
    **small_integers.DECOMPOSITIONS,
    **integer_products.DECOMPOSITIONS,
}
