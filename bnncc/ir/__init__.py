"""The graph's own things: what passes and targets know of an ONNX model with our operators.  In reading order:

- `arrays.py`         arrays, and random ones
- `input_spec.py`     an input of the network: its name, shape, type and range
- `modes.py`          what a user chooses of how passes treat a network
- `graph.py`          small questions about a graph, and the metadata that passes leave in it
- `geometry.py`       windows and padding of convolutions and pools
- `ops.py`            our operators, as ONNX functions
- `same_elements.py`  whether two values hold the same element in a place
- `value_facts.py`    what is known of a value: its range, its channels
- `bit_moves.py`      which moves of data can be done in packed words
- `left_in_float.py`  why a layer stays in float, as passes leave it and the report reads it
- `layers.py`         what became of each binary layer of the source
- `evaluate.py`       run a graph, or parts of it, in ONNX Runtime
- `choices.py`        operators that yield which element is the largest
- `rounding.py`       how large a difference rounding explains
- `step.py`           a pass in its place in the pipeline
- `pass_runner.py`    run the passes

It imports nothing else of bnncc but `errors`.
"""
