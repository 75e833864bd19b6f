"""The numbers that every form is run on, by kind; the same in every run."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnncc.ir.evaluate import Array
from tests.conformance.form import Form

ORDINARY, TIES, ZEROS, DENORMAL, LARGEST, INFINITE, NAN = KINDS = (
    "ordinary", "ties", "zeros", "denormal", "largest", "infinite", "NaN",
)  # fmt: skip
# What a network computes with.
FINITE = (ORDINARY, TIES, ZEROS)

_SMALLEST = float(np.finfo(np.float32).tiny)
_MOST = float(np.finfo(np.float32).max)
# What a kind mixes into ordinary numbers.
_MIXED: dict[str, tuple[float, ...]] = {
    ZEROS: (0.0, -0.0),
    DENORMAL: (_SMALLEST / 2, -_SMALLEST / 2, 1e-45, -1e-45),
    LARGEST: (_MOST, -_MOST, 1e38, -1e38, 1e25),
    INFINITE: (np.inf, -np.inf),
    NAN: (np.nan,),
}
# Of the elements, one in so many is a mixed-in one.
_MIXED_SHARE = 3


def kinds_of(form: Form, model: ir.Model) -> tuple[str, ...]:
    """The kinds on which the form is run: without float inputs there are only ordinary ones."""
    if form.kinds is not None:
        return form.kinds
    has_floats = any(value.dtype == ir.DataType.FLOAT for value in model.graph.inputs if value.name not in form.given)
    return KINDS if has_floats else (ORDINARY,)


def inputs_of(form: Form, model: ir.Model, kind: str) -> dict[str, Array]:
    """Of every graph input, an array in PyTorch's order (NCHW)."""
    generator = np.random.default_rng(KINDS.index(kind))
    arrays = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        assert value.name is not None
        assert value.shape is not None
        assert value.dtype is not None
        shape, dtype = tuple(int(size) for size in value.shape.numpy()), value.dtype.numpy()
        if value.name in form.given:
            arrays[value.name] = form.given[value.name]
        elif dtype == np.float32:
            arrays[value.name] = _floats(shape, kind, form.domain, generator)
        elif dtype == np.bool_:
            arrays[value.name] = generator.random(shape) < 0.5
        else:
            low = 1 if form.domain == "positive" or dtype == np.uint8 else -5
            drawn = generator.integers(low, 6, shape)
            arrays[value.name] = np.where((drawn == 0) & (form.domain == "nonzero"), 3, drawn).astype(dtype)
    return arrays


def _floats(shape: tuple[int, ...], kind: str, domain: str, generator: np.random.Generator) -> Array:
    values = generator.integers(-5, 6, shape) / 2 if kind == TIES else generator.standard_normal(shape) * 2
    if kind in _MIXED:
        taken = generator.random(shape) < 1 / _MIXED_SHARE
        values = np.where(taken, generator.choice(_MIXED[kind], shape), values)
    values = np.asarray(values, np.float32)
    if domain == "positive":
        values = np.abs(values)
        values = np.where(values == 0, np.float32(0.5), values) if kind != ZEROS else values
    return values
