"""Run an ONNX graph in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from bnncc.ir.arrays import Array
from bnncc.ir.evaluate import between, given_name, session, skeleton, weights_of
from bnncc.system.onnx_runtime import onnxruntime


class OrtRunner:
    """An ONNX graph in ONNX Runtime, kept loaded, graph optimisations off."""

    def __init__(self, model: ir.Model, extra_outputs: Sequence[ir.Value] = ()) -> None:
        """`extra_outputs`: inner values to return behind the graph's outputs."""
        wanted = [*model.graph.outputs, *extra_outputs]
        self._load(model, list(model.graph.inputs), wanted, skeleton(model, list(dict.fromkeys(wanted))))

    @classmethod
    def between(cls, model: ir.Model, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> OrtRunner:
        """The part of the graph between inner values: `inputs`, each given once, and `outputs`."""
        runner = cls.__new__(cls)
        given = list(dict.fromkeys(inputs))
        runner._load(model, given, outputs, between(model, given, list(dict.fromkeys(outputs))))
        runner._feed_names = [given_name(name) for name in runner.input_names]
        return runner

    def _load(
        self, model: ir.Model, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], proto: onnx.ModelProto
    ) -> None:
        self.input_names = [value.name or "" for value in inputs]
        self._feed_names = self.input_names
        self._outputs = [value.name or "" for value in outputs]
        self._weights = weights_of(model)
        self._session = session(proto)

    def run(self, inputs: Sequence[Array], chosen: slice = slice(None)) -> list[Array]:
        """One array for each graph input, in order, in; one for each graph output, then the extra ones, out.

        chosen: which of them; only what these need is computed.
        """
        feeds = {**self._weights, **dict(zip(self._feed_names, inputs, strict=True))}
        known = {entry.name for entry in self._session.get_inputs()}
        feeds = {name: array for name, array in feeds.items() if name in known}
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = len(self._outputs[chosen]) < len(self._outputs)
        return [np.asarray(output) for output in self._session.run(self._outputs[chosen], feeds, options)]
