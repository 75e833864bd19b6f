"""Messages between two programs over pipes: a list of byte strings, the first one a verb; and a program that answers.

A message is a count, then each part with its length ahead, all numbers unsigned 64-bit little-endian.  Arrays travel as
.npy files.  Needs NumPy alone, as it runs on the emulated machine as well.

What `serve` is asked, and what it answers behind `ok`:

    load CONTENT        the file's handle; an array of two counts, of inputs and outputs; an array for the shape of each
    run HANDLE ARRAY…   the outputs
    drop HANDLE…        nothing; the files are closed

What a runtime refuses is answered with `refused` and its message.  Any other fault ends the program.
"""

import io
import os
import struct
import sys
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
NUMBER = struct.Struct("<Q")


def send(stream: IO[bytes], *parts: bytes) -> None:
    """Write one message."""
    stream.write(NUMBER.pack(len(parts)))
    for part in parts:
        stream.write(NUMBER.pack(len(part)))
        stream.write(part)
    stream.flush()


def receive(stream: IO[bytes]) -> list[bytes]:
    """Read one message; EOFError where the other program has ended."""
    return [_exactly(stream, _number(stream)) for _ in range(_number(stream))]


def from_array(array: Array) -> bytes:
    """The bytes of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def to_array(content: bytes) -> Array:
    """The array of a .npy file's bytes."""
    array: Array = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def serve(load: Callable[[bytes], Any]) -> None:
    """Answer on standard output until the other program ends.

    load: gives a runner, like `bnncc.inference.runners.FileRunner`, of a file's bytes.
    """
    # What native code prints to standard output must not come between the messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    server = _Server(load)
    while True:
        try:
            verb, *parts = receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = {b"load": server.load, b"run": server.run, b"drop": server.drop}[verb](*parts)
        except (RuntimeError, ValueError) as error:
            send(answers, b"refused", str(error).encode())
        else:
            send(answers, b"ok", *answer)


class _Server:
    """The loaded files, by their handles."""

    def __init__(self, load: Callable[[bytes], Any]) -> None:
        self._load = load
        self._files: dict[bytes, Any] = {}
        self._loaded = 0

    def load(self, content: bytes) -> list[bytes]:
        file = self._load(content)
        self._loaded += 1
        handle = str(self._loaded).encode()
        self._files[handle] = file
        counts = np.array([len(file.input_shapes), len(file.output_shapes)])
        shapes = [np.array(shape, np.int64) for shape in (*file.input_shapes, *file.output_shapes)]
        return [handle, *map(from_array, [counts, *shapes])]

    def run(self, handle: bytes, *inputs: bytes) -> list[bytes]:
        return [from_array(array) for array in self._files[handle].run([to_array(array) for array in inputs])]

    def drop(self, *handles: bytes) -> list[bytes]:
        for handle in handles:
            del self._files[handle]
        return []


def _number(stream: IO[bytes]) -> int:
    (number,) = NUMBER.unpack(_exactly(stream, NUMBER.size))
    return int(number)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise EOFError(f"the message ends {length - len(content)} bytes early")
    return content
