"""Runs files in one runtime, in a process of its own: Python 3.8 on, NumPy and that runtime are all it needs.

    python served.py KIND XNNPACK THREADS DELEGATE FORMS FIRST

KIND: tflite_runtime, ai_edge_litert, tensorflow, lce or bnncc.  XNNPACK: 1 or 0.  DELEGATE: a library, or "".  FORMS: a
pickled list of pickles, each of (content, needs_lce, [inputs, …]), inputs in the file's order and layout, one list for
each kind of values.  Begins with number FIRST.

Writes pickles to standard output: ("begin", number) before it touches a form, then ("refused", number, message) or
("done", number, [outputs or None, …]); at last ("end",).  None: the run was refused.
"""

import importlib
import inspect
import os
import pickle
import sys
import warnings

import numpy as np

warnings.simplefilter("ignore")


class Interpreted:
    """A file in TensorFlow's Python class, of any package."""

    def __init__(self, content, module, xnnpack, threads, delegates):
        known = inspect.signature(module.Interpreter.__init__).parameters
        options = {}
        if "num_threads" in known:
            options["num_threads"] = threads
        if not xnnpack and "experimental_op_resolver_type" in known:
            options["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        if delegates:
            options["experimental_delegates"] = delegates
        try:
            self.interpreter = module.Interpreter(model_content=content, **options)
        except AttributeError:  # LiteRT 1.1 sets the threads of an interpreter that is not there yet
            options.pop("num_threads")
            self.interpreter = module.Interpreter(model_content=content, **options)
        self.interpreter.allocate_tensors()
        self.inputs, self.outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        self.input_shapes = [tuple(detail["shape"]) for detail in self.inputs]
        self.output_shapes = [tuple(detail["shape"]) for detail in self.outputs]

    def run(self, inputs):
        for detail, array in zip(self.inputs, inputs):  # noqa: B905 - Python 3.8
            self.interpreter.set_tensor(detail["index"], array)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(detail["index"]) for detail in self.outputs]


def loader(kind, xnnpack, threads, delegate):
    """What makes a runner of a file's bytes; `needs_lce` says whether the delegate is wanted."""
    if kind == "lce":
        from bnncc.inference.runners import LceRunner

        return lambda content, needs_lce: LceRunner(content, threads, fastest=xnnpack)
    if kind == "bnncc":
        from tests.targets.interpreter.native import InterpreterRunner

        return lambda content, needs_lce: InterpreterRunner(content, threads)
    if kind == "tensorflow":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        module = importlib.import_module("tensorflow.lite.python.interpreter")
    else:
        module = importlib.import_module(kind + ".interpreter")
    loaded = [module.load_delegate(delegate)] if delegate else []
    return lambda content, needs_lce: Interpreted(content, module, xnnpack, threads, loaded if needs_lce else [])


def own(array):
    """The array with NumPy's own element type."""
    copy = np.empty(array.shape, array.dtype.type)
    copy[...] = array
    return copy


def outcome(load, content, needs_lce, batches):
    """("refused", message) or ("done", outputs of each batch)."""
    try:
        runner = load(content, needs_lce)
    except Exception as error:  # whatever a runtime raises is its refusal
        return ("refused", f"{type(error).__name__}: {str(error)[:300]}")
    results = []
    for batch in batches:
        try:
            results.append([np.array(output) for output in runner.run(batch)])
        except Exception as error:
            if not results:
                return ("refused", f"{type(error).__name__}: {str(error)[:300]}")
            results.append(None)
    return ("done", results)


def main():
    kind, xnnpack, threads, delegate, path, first = sys.argv[1:]
    # What a runtime prints must not come between the pickles.
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with open(path, "rb") as source:
        forms = pickle.load(source)
    load = loader(kind, xnnpack == "1", int(threads), delegate)
    for number in range(int(first), len(forms)):
        pickle.dump(("begin", number), stream, 4)
        stream.flush()
        content, needs_lce, batches = pickle.loads(forms[number])
        # LCE's extension knows NumPy's own types only, and a pickle brings copies of them.
        batches = [[own(array) for array in batch] for batch in batches]
        verb, answer = outcome(load, content, needs_lce, batches)
        pickle.dump((verb, number, answer), stream, 4)
    pickle.dump(("end",), stream, 4)
    stream.flush()


if __name__ == "__main__":
    main()
