"""Messages between two programs over pipes: a list of byte strings, the first one a verb.

A message is a count, then each part with its length ahead, all numbers unsigned 64-bit little-endian.  Arrays travel as
.npy files.  Needs NumPy alone, as it runs on the emulated machine as well.
"""

import io
import struct
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


def _number(stream: IO[bytes]) -> int:
    (number,) = NUMBER.unpack(_exactly(stream, NUMBER.size))
    return int(number)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise EOFError(f"the message ends {length - len(content)} bytes early")
    return content
