"""Hold weights once: in the module, and not in the graph that was exported from a copy of it as well."""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch import nn


def share_weights(model: ir.Model, module: nn.Module) -> None:
    """Let the initializers of `model` be the parameters and buffers of `module` of the same names that are equal.

    They then share memory: `module` must not be changed any more.
    """
    tensors: dict[str, torch.Tensor] = dict(module.named_buffers(remove_duplicate=False))
    tensors.update(module.named_parameters(remove_duplicate=False))
    for name, value in model.graph.initializers.items():
        held = value.const_value
        tensor = tensors.get(name)
        if held is None or tensor is None or tensor.layout is not torch.strided or tensor.dtype is not torch.float32:
            continue
        array = tensor.detach().numpy()
        exported = held.numpy()
        same_form = (array.shape, array.dtype) == (exported.shape, exported.dtype) and array.flags.c_contiguous
        if same_form and array.tobytes() == exported.tobytes():
            value.const_value = ir.tensor(array, name=name)
