"""What a .tflite file says of itself, read from the FlatBuffer without its schema.

bnncc keeps a description in the file's metadata, as JSON, and a digest by which a damaged copy is known.  The numbers
of the fields are those of TensorFlow Lite's schema.fbs.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

MODEL_BUFFERS, MODEL_METADATA = 4, 6
METADATA_NAME, METADATA_BUFFER = 0, 1
BUFFER_DATA = 0

DESCRIPTION, DIGEST = "bnncc", "bnncc_sha256"
# What stands for the digest while it is computed.
PLACEHOLDER = b"here is the SHA-256 of the file "


class DamagedFileError(ValueError):
    """The file is none, is cut off, or is not the one that was compiled."""


def read_description(content: bytes) -> dict[str, Any]:
    """What bnncc says of the file; nothing where it is another compiler's.  DamagedFileError where it is damaged."""
    try:
        entries = _entries(content)
        if DESCRIPTION not in entries:
            return {}
        if DIGEST in entries:
            _check_digest(content, *entries[DIGEST])
        elif list(entries)[-1] != DESCRIPTION or DIGEST.encode() in content:
            raise ValueError("the digest is lost: only versions that wrote none end with the description")
        start, size = entries[DESCRIPTION]
        description = json.loads(content[start : start + size])
        if not isinstance(description, dict):
            raise ValueError("no description")
        return description
    except (struct.error, ValueError, KeyError, RecursionError) as error:
        raise DamagedFileError("it is damaged: copy it again") from error


def _check_digest(content: bytes, start: int, size: int) -> None:
    digest = hashlib.sha256(content[:start])
    digest.update(PLACEHOLDER)
    digest.update(content[start + size :])
    if content[start : start + size] != digest.digest():
        raise ValueError("another digest")


def _entries(content: bytes) -> dict[str, tuple[int, int]]:
    """Where the bytes of each entry of the metadata lie, and how many there are; by its name."""
    if content[4:8] != b"TFL3":
        raise ValueError("no .tflite file")
    model = _follow(content, 0)
    buffers = _tables(content, _field(content, model, MODEL_BUFFERS))
    found = {}
    for entry in _tables(content, _field(content, model, MODEL_METADATA)):
        name = _field(content, entry, METADATA_NAME)
        index = _field(content, entry, METADATA_BUFFER)
        if name is None:
            continue
        number = 0 if index is None else _number(content, index)
        if number >= len(buffers):
            raise ValueError("no such buffer")
        data = _field(content, buffers[number], BUFFER_DATA)
        start, size = _vector(content, name)
        found[content[start : start + size].decode()] = (0, 0) if data is None else _vector(content, data)
    return found


def _number(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", content, at)[0])


def _follow(content: bytes, at: int) -> int:
    """Where the offset at `at` leads."""
    return at + _number(content, at)


def _field(content: bytes, table: int, number: int) -> int | None:
    """Where a table's field lies; None where it has its default."""
    fields = table - int(struct.unpack_from("<i", content, table)[0])
    if fields < 0:
        raise ValueError("an offset out of the file")
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", content, fields)[0]:
        return None
    offset = int(struct.unpack_from("<H", content, fields + slot)[0])
    return table + offset if offset else None


def _vector(content: bytes, at: int) -> tuple[int, int]:
    """Where the vector that the field at `at` names begins, and its length."""
    start = _follow(content, at)
    return start + 4, _number(content, start)


def _tables(content: bytes, at: int | None) -> list[int]:
    """The tables of a vector."""
    if at is None:
        return []
    start, size = _vector(content, at)
    if start + 4 * size > len(content):
        raise ValueError("a vector out of the file")
    return [_follow(content, start + 4 * index) for index in range(size)]
