"""Tries the delegate in one runtime, in a process of its own: Python 3.8 on, NumPy and that runtime are all it needs.

    python served.py KIND XNNPACK THREADS LIBRARY TASKS FIRST

KIND: tflite_runtime, ai_edge_litert or tensorflow.  XNNPACK: 1 or 0.  TASKS: a pickle of `files.write_tasks`.  Begins
with number FIRST of CHECKS, and writes pickles to standard output as tests/conformance/served.py does; what is done is
a text: "" for right, MISSING for a runtime that has no such thing, or what is wrong.
"""

import gc
import importlib
import os
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")

MISSING = "-"
# Of the largest element.
TOLERANCE = 1e-5
# So many bytes may be in use after a round of creating and destroying: pages come and go, and a delegate takes more.
KEPT = 512
PACKAGE = Path(__file__).resolve().parents[3] / "targets" / "bnncc_runtime"


class MissingError(Exception):
    """The runtime has no such thing."""


class Runtime:
    """What the command line names."""

    def __init__(self, kind, xnnpack, threads, library):
        name = "tensorflow.lite.python.interpreter" if kind == "tensorflow" else kind + ".interpreter"
        self.module = importlib.import_module(name)
        self.has_compiled_model = kind == "ai_edge_litert"
        self.library = library
        self.threads = threads
        self.options = {"num_threads": threads}
        if not xnnpack:
            self.options["experimental_op_resolver_type"] = self.module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES

    def load(self):
        return self.module.load_delegate(self.library)

    def opened(self, content, delegate=None, **options):
        return self.module.Interpreter(
            model_content=content, experimental_delegates=[delegate or self.load()], **self.options, **options
        )

    def interpreter(self, content, delegate=None, **options):
        interpreter = self.opened(content, delegate, **options)
        interpreter.allocate_tensors()
        return interpreter


def run(interpreter, x):
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def difference(found, wanted):
    """What is wrong, or an empty text."""
    if found.shape != wanted.shape:
        return f"shape {found.shape}, not {wanted.shape}"
    error = np.abs(found.astype(np.float64) - wanted).max()
    limit = TOLERANCE * np.abs(wanted).max()
    return "" if error <= limit else f"an error of {error:.2g}, where {limit:.2g} is rounding"


def differences(pairs):
    """Of (found, wanted)."""
    return next((text for text in (difference(found, wanted) for found, wanted in pairs) if text), "")


def loads(runtime, tasks):
    runtime.load()
    return ""


def runs(runtime, tasks, **options):
    content, pairs = tasks["network"]
    interpreter = runtime.interpreter(content, **options)
    return differences((run(interpreter, x), wanted) for x, wanted in pairs)


def all_tensors_kept(runtime, tasks):
    return runs(runtime, tasks, experimental_preserve_all_tensors=True)


def resized(runtime, tasks):
    content, pairs = tasks["resized"]
    interpreter = runtime.interpreter(content)
    found = []
    for x, wanted in pairs:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
        interpreter.allocate_tensors()
        found.append((run(interpreter, x), wanted))
    return differences(found)


def several(runtime, tasks):
    content, triples = tasks["several"]
    interpreter = runtime.opened(content)  # stock runners refuse to run what an allocated IF calls
    return differences((interpreter.get_signature_runner(key)(**x)["y"], wanted) for key, x, wanted in triples)


def shared(runtime, tasks):
    """One delegate, two interpreters, in turns."""
    delegate = runtime.load()
    interpreters = [(runtime.interpreter(content, delegate), pairs[0]) for content, pairs in
                    (tasks["network"], tasks["resized"])]  # fmt: skip
    return differences([(run(interpreter, x), wanted) for interpreter, (x, wanted) in 2 * interpreters])


def usage():
    """(bytes of memory, threads, open files) of this process."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident, len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def growth(rounds, once):
    """(what is wrong, bytes of memory that a round keeps).  `once` gives a difference."""
    before = None
    for number in range(rounds):
        if number == rounds // 4:
            before = usage()
        wrong = once()
        if wrong:
            return f"round {number + 1}: {wrong}", 0
        if number % 50 == 0:
            yield_life()
    after = usage()
    kept = (after[0] - before[0]) / (rounds - rounds // 4)
    wrong = "" if after[1:] == before[1:] else f"{before[1:]} threads and open files, then {after[1:]}"
    return wrong, kept


def repeatedly(tasks, once, stock):
    """Beside `stock`, which does the same without the delegate: old runtimes lose 0.7 kB of every interpreter."""
    wrong, kept = growth(tasks["rounds"], once)
    if wrong or not tasks["memory"]:
        return wrong
    if kept > KEPT:
        kept -= growth(tasks["rounds"] // 3, stock)[1]
    return "" if kept <= KEPT else f"{kept:.0f} bytes more in use after each round"


def created_and_destroyed(runtime, tasks):
    content, pairs = tasks["resized"]
    x, wanted = pairs[0]

    def stock():
        interpreter = runtime.module.Interpreter(model_content=tasks["stock"], **runtime.options)
        interpreter.allocate_tensors()
        run(interpreter, x)

    return repeatedly(tasks, lambda: difference(run(runtime.interpreter(content), x), wanted), stock)


class CompiledModels:
    """LiteRT's other interface."""

    def __init__(self, runtime):
        if not runtime.has_compiled_model:
            raise MissingError
        sys.path.append(str(PACKAGE))
        try:
            from ai_edge_litert import compiled_model, options
            from bnncc_runtime.compiled_model import accelerated_environment

            self.environment = accelerated_environment(Path(runtime.library))
        except (ImportError, RuntimeError) as error:
            raise MissingError from error
        self.make = compiled_model.CompiledModel.from_buffer
        self.options = options.Options(
            hardware_accelerators=compiled_model.HardwareAccelerator.CPU,
            cpu_options=options.CpuOptions(num_threads=runtime.threads),
        )

    def load(self, content):
        return self.make(content, environment=self.environment, options=self.options)

    @staticmethod
    def run(model, key, arrays, wanted):
        """The output of signature `key`, as flat as a buffer is, and `wanted` alike."""
        index = model.get_signature_index(key)
        inputs, outputs = model.create_input_buffers(index), model.create_output_buffers(index)
        for buffer, name in zip(inputs, model.get_signature_by_index(index)["inputs"]):  # noqa: B905 - Python 3.8
            buffer.write(arrays[name] if isinstance(arrays, dict) else arrays)
        model.run_by_index(index, inputs, outputs)
        return outputs[0].read(wanted.size, np.float32), wanted.reshape(-1)


def compiled_runs(runtime, tasks):
    models, (content, pairs) = CompiledModels(runtime), tasks["network"]
    model = models.load(content)
    return differences(models.run(model, "serving_default", x, wanted) for x, wanted in pairs)


def compiled_resized(runtime, tasks):
    models, (content, pairs) = CompiledModels(runtime), tasks["resized"]
    model = models.load(content)
    found = []
    for x, wanted in pairs:
        model.resize_input_tensor(0, list(x.shape), strict=False)
        found.append(models.run(model, "serving_default", x, wanted))
    return differences(found)


def compiled_several(runtime, tasks):
    models, (content, triples) = CompiledModels(runtime), tasks["several"]
    model = models.load(content)
    return differences(models.run(model, key, x, wanted) for key, x, wanted in triples)


def compiled_created_and_destroyed(runtime, tasks):
    models, (content, pairs) = CompiledModels(runtime), tasks["resized"]
    x, wanted = pairs[0]
    once = lambda: difference(*models.run(models.load(content), "serving_default", x, wanted))  # noqa: E731
    return repeatedly(tasks, once, lambda: compiled_stock(models, tasks["stock"], x))


def compiled_stock(models, content, x):
    models.run(models.load(content), "serving_default", x, x)


CHECKS = (
    loads, runs, shared, all_tensors_kept, resized, several, created_and_destroyed,
    compiled_runs, compiled_resized, compiled_several, compiled_created_and_destroyed,
)  # fmt: skip

stream = None
current = 0


def say(*message):
    pickle.dump(message, stream, 4)
    stream.flush()


def yield_life():
    """Tell who waits that this goes on."""
    say("begin", current)


def outcome(check, runtime, tasks):
    try:
        return ("done", check(runtime, tasks))
    except MissingError:
        return ("done", MISSING)
    except Exception as error:  # whatever a runtime raises is its refusal
        return ("refused", f"{type(error).__name__}: {str(error)[:300]}")


def main():
    global stream, current
    kind, xnnpack, threads, library, path, first = sys.argv[1:]
    # What a runtime prints must not come between the pickles.
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with open(path, "rb") as source:
        tasks = pickle.load(source)
    runtime = Runtime(kind, xnnpack == "1", int(threads), library)
    for current in range(int(first), len(CHECKS)):
        say("begin", current)
        verb, answer = outcome(CHECKS[current], runtime, tasks)
        say(verb, current, answer)
    say("end")


if __name__ == "__main__":
    main()
