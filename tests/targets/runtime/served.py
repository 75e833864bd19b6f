"""Runs files with the delegate on another machine, for a program that talks to it over standard input and output.

    python served.py LIBRARY [KERNEL]

Requests, as of `messages`, and what is answered behind `ok`:

    load CONTENT        the file's handle; an array of two counts, of inputs and outputs; an array for the shape of each
    run HANDLE ARRAY…   the outputs
    drop HANDLE…        nothing; the files are closed

What the interpreter refuses is answered with `refused` and its message.  Any other fault ends the program.
"""

import os
import sys

import messages
import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter, load_delegate
except ImportError:
    from tflite_runtime.interpreter import Interpreter, load_delegate


class Server:
    """The loaded files, by their handles."""

    def __init__(self, library: str, options: dict[str, str]) -> None:
        self.library, self.options = library, options
        self.files: dict[bytes, Interpreter] = {}
        self.loaded = 0

    def load(self, content: bytes) -> list[bytes]:
        delegate = load_delegate(self.library, self.options)
        file = Interpreter(model_content=content, num_threads=1, experimental_delegates=[delegate])
        file.allocate_tensors()
        self.loaded += 1
        handle = str(self.loaded).encode()
        self.files[handle] = file
        inputs, outputs = file.get_input_details(), file.get_output_details()
        counts = np.array([len(inputs), len(outputs)])
        arrays = [counts, *(detail["shape"] for detail in (*inputs, *outputs))]
        return [handle, *map(messages.from_array, arrays)]

    def run(self, handle: bytes, *inputs: bytes) -> list[bytes]:
        file = self.files[handle]
        for detail, array in zip(file.get_input_details(), inputs, strict=True):
            file.set_tensor(detail["index"], messages.to_array(array))
        file.invoke()
        return [messages.from_array(file.get_tensor(detail["index"])) for detail in file.get_output_details()]

    def drop(self, *handles: bytes) -> list[bytes]:
        for handle in handles:
            del self.files[handle]
        return []


def main() -> None:
    """Answer until the other program ends."""
    # What native code prints to standard output must not come between the messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    server = Server(sys.argv[1], {"kernel": sys.argv[2]} if len(sys.argv) > 2 else {})
    while True:
        try:
            verb, *parts = messages.receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = {b"load": server.load, b"run": server.run, b"drop": server.drop}[verb](*parts)
        except (RuntimeError, ValueError) as error:
            messages.send(answers, b"refused", str(error).encode())
        else:
            messages.send(answers, b"ok", *answer)


if __name__ == "__main__":
    main()
