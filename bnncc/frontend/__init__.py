"""From a PyTorch module or a .onnx file to a checked ONNX graph with static shapes.  In reading order:

- `trace.py`             the entry points `trace`, `trace_source` and `trace_module`
- `network.py`           the network in PyTorch, and what names it
- `command_line.py`      the spellings name=value, 1x3x224x224 and 0:100
- `input_types.py`       the type and range of an input where the user does not say them
- `first_run.py`         does the network take these inputs?
- `user_code.py`, `user_file.py`
                         find, import and call the user's code
- `copying.py`           a copy of the network, whatever it holds
- `plain_module.py`      without wrappers, in float32
- `cpu_only.py`          code that asks for a GPU
- `legacy_functions.py`  autograd functions in PyTorch's old form
- `removed_names.py`     names that Python, NumPy and PyTorch have dropped
- `checkpoint.py`        load the weights
- `key_differences.py`    why its keys are not the network's
- `checkpoint_file.py`, `safetensors_file.py`, `restricted_pickle.py`, `state_dicts.py`
                         checkpoints of all formats, read without running code; the state_dict that fits the network
- `flatten_outputs.py`, `signature.py`, `named_tensors.py`
                         call the network with flat inputs, name its outputs
- `data_assignment.py`   `x.data = …` inside forward
- `export.py`            PyTorch's two exporters
- `known_numbers.py`     numbers that forward reads from parameters, known to them
- `without_onnx_form.py` operators that they do not know
- `dataflow.py`, `repeatable.py`, `frozen_values.py`
                         what an exporter reads only once: random numbers, state, branches on data
- `onnx_file.py`         .onnx files; for them
  `onnx_structure.py`, `qonnx.py`, `single_precision.py`, `constant_branches.py`, `channels_first.py`, `onnx_run.py`
- `parameter_values.py`  NaN, infinite parameters, negative variances
- `normalize.py`         names and metadata
- `source.py`            the user's source line of a node
- `sequences.py`, `mask_assignment.py`, `boolean_choices.py`, `shapes.py`, `written_products.py`, `integer_products.py`
                         plain operators with static shapes; `levels.py` and `put.py` help
- `constant_reductions.py` what weights are reduced to, computed once
- `recording.py`, `alignment.py`, `flips.py`, `sensitivity.py`, `constant_signs.py`, `trace_check.py`
                         does the graph compute what PyTorch computes?
"""

from bnncc.frontend.checkpoint import WeightsChoice, state_digest
from bnncc.frontend.command_line import parse_argument
from bnncc.frontend.network import Network, NetworkSource, input_specs, load_network
from bnncc.frontend.source import SourceLocation, source_of
from bnncc.frontend.trace import TracedModel, trace, trace_module, trace_source
from bnncc.ir.input_spec import InputSpec

__all__ = [
    "InputSpec",
    "Network",
    "NetworkSource",
    "SourceLocation",
    "TracedModel",
    "WeightsChoice",
    "input_specs",
    "load_network",
    "parse_argument",
    "source_of",
    "state_digest",
    "trace",
    "trace_module",
    "trace_source",
]
