"""Read the safetensors format: u64 size of the header, little-endian; the header as JSON; the tensors' bytes.

    {"conv.weight": {"dtype": "F32", "shape": [8, 3, 3, 3], "data_offsets": [0, 864]}, "__metadata__": {…}}

Source: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor

from bnncc.errors import WeightsError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_SIZE_BYTES = 8
# The format's own bound on the header.
_LARGEST_HEADER = 100_000_000


def looks_like_safetensors(start: bytes) -> bool:
    """Whether a file that begins with `start` (16 bytes or more) is of this format, whatever its name."""
    size = int.from_bytes(start[:_SIZE_BYTES], "little")
    return 2 <= size <= _LARGEST_HEADER and start[_SIZE_BYTES : _SIZE_BYTES + 2] in (b'{"', b"{}", b"{ ")


def read_safetensors(content: bytes, name: str) -> dict[str, Tensor]:
    """The tensors by name; each has memory of its own.

    Args:
        content: the whole file.
        name: of the file, for messages.

    Raises:
        WeightsError: the header is damaged, the file is too short, or a type is not known.
    """
    size = int.from_bytes(content[:_SIZE_BYTES], "little")
    if size > len(content) - _SIZE_BYTES:
        raise WeightsError(f"{name} is a safetensors file whose header is cut off; download it again")
    data = memoryview(content)[_SIZE_BYTES + size :]
    try:
        header = json.loads(content[_SIZE_BYTES : _SIZE_BYTES + size].decode())
        entries = {key: entry for key, entry in header.items() if key != "__metadata__"}
        return {key: _tensor(entry, data) for key, entry in entries.items()}
    except _CutOffError as error:
        raise WeightsError(f"{name} is a safetensors file that ends within its tensors; download it again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{name} is a safetensors file with a damaged header: {error}") from error


class _CutOffError(Exception):
    pass


def _tensor(entry: Any, data: memoryview) -> Tensor:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"the type {entry['dtype']!r} is not known")
    dtype, shape = _DTYPES[entry["dtype"]], [int(size) for size in entry["shape"]]
    begin, end = (int(offset) for offset in entry["data_offsets"])
    if any(size < 0 for size in shape) or begin < 0 or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"the bytes {begin} to {end} are no {entry['dtype']} of {shape}")
    if end > len(data):
        raise _CutOffError
    if begin == end:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data[begin:end]), dtype=dtype).reshape(shape)
