"""PyTorch's operators for which its ONNX exporter has no form, or an inexact one, by others that it exports.

They are replaced in the exported program, each by a function that computes the same, so that what the user wrote keeps
its line: `copysign`, `hypot`, `kthvalue`, `median`, `cummax`, `cummin`, adaptive max-pools of any size, shifts of bits,
`searchsorted` and `bucketize` (thermometer codes, levels of hyperdimensional computing), `fake_quantize`, bags of as
many embeddings each, which the exporter writes as a Loop, `logsigmoid`, which it writes as log(sigmoid(x)), -∞ from
-104 down, `binary_cross_entropy_with_logits`, which it makes of that, `squeeze` of an axis longer than 1, which PyTorch
leaves and ONNX refuses, `cumprod`, `cdist` and `pdist`, of which TorchScript's exporter takes roots of sums of negative
numbers, and `einsum` with ellipses of several ranks, as "... d, e d -> ... e" is in einops: ONNX's have one.
Of a `clamp` between an integer and a float, as clamp(x, 0, 1.0), it makes a tensor of the one bound alone, and fails.
"""

from __future__ import annotations

import functools
import itertools
import math
import string
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

aten = torch.ops.aten

# Of more, thermometer codes are no sums of bits that pay.
_FEW_BOUNDARIES = 16
_SQUEEZES = {aten.squeeze.dim, aten.squeeze.dims}


def replace_operators(program: ExportedProgram) -> ExportedProgram:
    """The program with each such operator replaced; the same one where it has none."""
    _give_bounds_one_type(program)
    _spell_ellipses(program)
    nodes = [node for module in program.graph_module.modules() for node in _nodes(module)]
    called = {node.target for node in nodes}
    table = {operator: function for operator, function in REPLACEMENTS.items() if operator in called}
    if not all(_has_equal_bags(node) for node in nodes if node.target is aten.embedding_bag.padding_idx):
        del table[aten.embedding_bag.padding_idx]
    for operator in _SQUEEZES & table.keys():
        if not any(_leaves_an_axis(node) for node in nodes if node.target is operator):
            del table[operator]
    return program.run_decompositions(table) if table else program


def _nodes(module: torch.nn.Module) -> list[torch.fx.Node]:
    return list(module.graph.nodes) if isinstance(module, torch.fx.GraphModule) else []


def _give_bounds_one_type(program: ExportedProgram) -> None:
    """Let each `clamp` of floats have floats for bounds."""
    for module in program.graph_module.modules():
        for node in _nodes(module):
            if node.target is aten.clamp.default and any(isinstance(bound, float) for bound in node.args[1:]):
                node.args = (node.args[0], *(float(b) if isinstance(b, int) else b for b in node.args[1:]))


def _has_equal_bags(node: torch.fx.Node) -> bool:
    """True where the offsets of an `embedding_bag` are those that PyTorch gives indices [bags, size]."""
    offsets = node.args[2]
    return isinstance(offsets, torch.fx.Node) and offsets.target is aten.arange.start_step and not any(node.args[7:8])


def _spell_ellipses(program: ExportedProgram) -> None:
    """Give each `einsum` a letter for each axis of an ellipsis, counted from the last one."""
    for module in program.graph_module.modules():
        for node in _nodes(module):
            if node.target is aten.einsum.default:
                equation: Any
                tensors: Any
                equation, tensors = node.args[:2]
                node.args = (_spelt(equation, [one.meta["val"].ndim for one in tensors]), *node.args[1:])


def _spelt(equation: str, ranks: list[int]) -> str:
    """An equation without ellipses, for operands with so many axes; itself where its result is not written."""
    terms, arrow, result = equation.replace(" ", "").partition("->")
    if "..." not in terms or not arrow:
        return equation
    counts = [rank - len(term.replace("...", "")) for term, rank in zip(terms.split(","), ranks, strict=True)]
    letters = "".join([letter for letter in string.ascii_letters if letter not in equation][: max(counts)])
    spelt = [
        term.replace("...", letters[len(letters) - count :])
        for term, count in zip(terms.split(","), counts, strict=True)
    ]
    return ",".join(spelt) + arrow + result.replace("...", letters)


def _leaves_an_axis(node: torch.fx.Node) -> bool:
    """True for a `squeeze` of which an axis is longer than 1."""
    x: Any
    axes: Any
    x, axes = node.args[:2]
    shape = x.meta["val"].shape
    return len(shape) > 0 and any(shape[axis] != 1 for axis in ([axes] if isinstance(axes, int) else axes))


def _squeeze(x: Tensor, axes: int | list[int]) -> Tensor:
    dropped = {axis % x.ndim for axis in ([axes] if isinstance(axes, int) else axes)}
    return x.reshape([size for axis, size in enumerate(x.shape) if size != 1 or axis not in dropped])


def _bags_of_embeddings(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The sum (mode 0), mean (1) or maximum (2) of the rows of each bag, without those at `padding_idx`; 0 of none."""
    indices = indices.reshape(offsets.shape[0], -1)
    rows = weight[indices]
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(*indices.shape, 1)
    if padding_idx is None:
        result = (rows.sum(1), rows.mean(1), rows.amax(1))[mode]
        return result, offsets, offsets, offsets
    kept = (indices != padding_idx % weight.shape[0]).unsqueeze(2)
    count = kept.to(rows.dtype).sum(1)
    if mode == 2:
        largest = torch.where(kept, rows, torch.finfo(rows.dtype).min).amax(1)
        return torch.where(count > 0, largest, 0.0), offsets, offsets, offsets
    total = torch.where(kept, rows, 0.0).sum(1)
    return total / count.clamp(min=1) if mode else total, offsets, offsets, offsets


def _copysign(x: Tensor, other: Tensor | float) -> Tensor:
    """As for the exporter's own `signbit`, the sign of -0.0 is that of 0."""
    magnitude = x.abs()
    sign = other if isinstance(other, Tensor) else torch.full_like(magnitude, other)
    return torch.where(sign < 0, -magnitude, magnitude)


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y)


def _kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    values, indices = torch.topk(x, k, dim, largest=False, sorted=True)
    values, indices = values.narrow(dim, k - 1, 1), indices.narrow(dim, k - 1, 1)
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


def _median_of_axis(x: Tensor, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower one of two."""
    return _kthvalue(x, (x.shape[dim] + 1) // 2, dim, keepdim)


def _median(x: Tensor) -> Tensor:
    return _median_of_axis(x.reshape(-1), 0)[0]


def _running(wins: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """The best so far along an axis, and the last place that holds it, in log₂ n steps."""

    def scan(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        size = x.shape[dim]
        shape = [1] * x.dim()
        shape[dim] = size
        best, where = x, torch.arange(size, device=x.device).reshape(shape).expand(x.shape)
        step = 1
        while step < size:
            later, before = best.narrow(dim, step, size - step), best.narrow(dim, 0, size - step)
            stays = wins(later, before)
            places = torch.where(stays, where.narrow(dim, step, size - step), where.narrow(dim, 0, size - step))
            where = torch.cat([where.narrow(dim, 0, step), places], dim)
            best = torch.cat([best.narrow(dim, 0, step), torch.where(stays, later, before)], dim)
            step *= 2
        return best, where

    return scan


def _running_product(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """In log₂ n steps."""
    product, step = x if dtype is None else x.to(dtype), 1
    while step < x.shape[dim]:
        rest = x.shape[dim] - step
        later = product.narrow(dim, step, rest) * product.narrow(dim, 0, rest)
        product, step = torch.cat([product.narrow(dim, 0, step), later], dim), 2 * step
    return product


def _adaptive_max_pool(x: Tensor, output_size: list[int]) -> tuple[Tensor, Tensor]:
    """Pixel i of n takes the inputs ⌊i·size/n⌋ … ⌈(i + 1)·size/n⌉ - 1 along each axis; also each maximum's place."""
    axes = len(output_size)
    sizes = x.shape[-axes:]
    windows = [
        [(index * size // count, -(-(index + 1) * size // count)) for index in range(count)]
        for count, size in zip(output_size, sizes, strict=True)
    ]
    largest = x
    for axis, ranges in enumerate(windows):
        parts = [largest.narrow(axis - axes, begin, end - begin) for begin, end in ranges]
        largest = torch.cat([part.amax(axis - axes, keepdim=True) for part in parts], axis - axes)
    numbers = torch.arange(sizes.numel(), device=x.device).reshape(sizes)
    places = []
    for corner in itertools.product(*windows):
        part, place = x, numbers
        for axis, (begin, end) in enumerate(corner):
            part, place = (one.narrow(axis - axes, begin, end - begin) for one in (part, place))
        places.append(place.flatten()[part.flatten(-axes).argmax(-1)])
    return largest, torch.stack(places, -1).reshape(largest.shape)


def _right(x: Tensor, amount: int | Tensor) -> Tensor:
    """An arithmetic shift rounds down."""
    return torch.div(x, 2**amount, rounding_mode="floor")


def _left(x: Tensor, amount: int | Tensor) -> Tensor:
    return torch.mul(x, 2**amount)


def _log_sigmoid(x: Tensor) -> Tensor:
    return torch.clamp(x, max=0) - torch.log(1 + torch.exp(-x.abs()))


def _cross_entropy_with_logits(
    x: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = 1
) -> Tensor:
    """Of each element (reduction 0), their mean (1) or sum (2)."""
    softplus = torch.log(1 + torch.exp(-x.abs())) + torch.clamp(-x, min=0)  # of -x
    share = 1 if pos_weight is None else 1 + (pos_weight - 1) * target
    loss = (1 - target) * x + share * softplus
    loss = loss if weight is None else loss * weight
    return (loss, loss.mean(), loss.sum())[reduction]


def _searchsorted(
    boundaries: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """How many of `boundaries` [n] or [..., n] are below each of `x`, or not above it (`right`); n where it is NaN."""
    if sorter is not None:
        boundaries = torch.gather(boundaries, -1, sorter)
    is_right, dtype = right or side == "right", torch.int32 if out_int32 else torch.int64
    if 0 < boundaries.shape[-1] <= _FEW_BOUNDARIES:  # steps of each element, whose sum is no reduction
        each = boundaries.unsqueeze(-2).unbind(-1) if boundaries.ndim > 1 else boundaries.unbind()
        steps = [torch.logical_not(one > x if is_right else one >= x).to(dtype) for one in each]
        return functools.reduce(torch.add, steps)
    if boundaries.ndim > 1:
        boundaries = boundaries.unsqueeze(-2)
    x = x.unsqueeze(-1)
    passed = torch.logical_not(boundaries > x if is_right else boundaries >= x)
    return passed.to(torch.int32).sum(-1).to(dtype)


def _bucketize(x: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    return _searchsorted(boundaries, x, out_int32=out_int32, right=right)


def _norm(x: Tensor, p: float) -> Tensor:
    """The p-norm over the last axis; of p = 0, how many are not 0."""
    if p == 0:
        return (x != 0).to(x.dtype).sum(-1)
    if p == 2:
        return (x * x).sum(-1).sqrt()
    size = x.abs()
    if p == math.inf:
        return size.amax(-1)
    return size.sum(-1) if p == 1 else size.pow(p).sum(-1).pow(1 / p)


def _distances(a: Tensor, b: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    """Of each of `a` [..., n, d] to each of `b` [..., m, d]: [..., n, m]."""
    return _norm(a.unsqueeze(-2) - b.unsqueeze(-3), p)


def _distances_among(x: Tensor, p: float = 2.0) -> Tensor:
    """Of each row of `x` [n, d] to each that follows it."""
    first, second = torch.triu_indices(x.shape[0], x.shape[0], 1, device=x.device).unbind()
    return _norm(x[first] - x[second], p)


def _fake_quantize(x: Tensor, scale: Tensor | float, zero_point: Tensor | int, low: int, high: int) -> Tensor:
    """The exporter's form has steps of 8 bits only, and divides by the scale, where PyTorch multiplies by 1/scale."""
    inverse = 1.0 / scale if isinstance(scale, Tensor) else float(torch.tensor(1.0) / torch.tensor(scale))
    steps = torch.clamp(torch.round(x * inverse) + zero_point, low, high)
    return (steps - zero_point) * scale


def _fake_quantize_channels(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, low: int, high: int) -> Tensor:
    shape = [1] * x.dim()
    shape[axis] = -1
    return _fake_quantize(x, scale.reshape(shape), zero_point.reshape(shape), low, high)


REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    aten.copysign.Tensor: _copysign,
    aten.copysign.Scalar: _copysign,
    aten.hypot.default: _hypot,
    aten.kthvalue.default: _kthvalue,
    aten.median.dim: _median_of_axis,
    aten.median.default: _median,
    aten.cummax.default: _running(torch.ge),
    aten.cummin.default: _running(torch.le),
    aten.adaptive_max_pool1d.default: _adaptive_max_pool,
    aten.adaptive_max_pool2d.default: _adaptive_max_pool,
    aten.adaptive_max_pool3d.default: _adaptive_max_pool,
    aten.fake_quantize_per_tensor_affine.default: _fake_quantize,
    aten.fake_quantize_per_tensor_affine.tensor_qparams: _fake_quantize,
    aten.fake_quantize_per_channel_affine.default: _fake_quantize_channels,
    aten.embedding_bag.padding_idx: _bags_of_embeddings,
    aten.squeeze.dim: _squeeze,
    aten.squeeze.dims: _squeeze,
    aten.__rshift__.Scalar: _right,
    aten.bitwise_right_shift.Tensor_Scalar: _right,
    aten.__rshift__.Tensor: _right,
    aten.bitwise_right_shift.Tensor: _right,
    aten.__lshift__.Tensor: _left,
    aten.bitwise_left_shift.Tensor: _left,
    aten.__lshift__.Scalar: _left,
    aten.bitwise_left_shift.Tensor_Scalar: _left,
    aten.searchsorted.Tensor: _searchsorted,
    aten.bucketize.Tensor: _bucketize,
    aten.cumprod.default: _running_product,
    aten.cdist.default: _distances,
    aten._cdist_forward.default: _distances,
    aten.pdist.default: _distances_among,
    aten._pdist_forward.default: _distances_among,
    aten.binary_cross_entropy_with_logits.default: _cross_entropy_with_logits,
    aten.log_sigmoid.default: _log_sigmoid,
    aten.log_sigmoid_forward.default: lambda x: (_log_sigmoid(x), torch.zeros(0, dtype=x.dtype)),
}
