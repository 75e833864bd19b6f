"""Damage to files: of their bytes, whatever they are, and of what their format says, so that a reader gets further.

Every function takes a `random.Random` and returns other bytes than it was given.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message

from bnncc.targets.tflite.digest import seal
from bnncc.targets.tflite.writer import pack, unpack

Mutation = Callable[[Random, bytes], bytes]
# What lengths, offsets, indices and sizes are least expected to be.
NUMBERS = (
    0,
    1,
    2,
    3,
    255,
    256,
    2**15,
    2**16 - 1,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
TEXTS = ("", "x", "\0", "../../x", "-x", "x" * 300, "\ud7ff", "nan", "0", "{}")
JSON_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 2**64, float("nan"), "", "x" * 300, "../../etc/passwd", "-x", [], {}, [[]], {"x": 1},
)  # fmt: skip
# So many attempts until a mutation changes something.
ATTEMPTS = 50


def changed(random: Random, content: bytes, mutation: Mutation) -> bytes:
    """What `mutation` makes of it that is not the same."""
    for _ in range(ATTEMPTS):
        found = mutation(random, content)
        if found != content:
            return found
    return content + b"\0"


# Of bytes


def damage(random: Random, content: bytes) -> bytes:
    """One to three kinds of damage that disks, networks and programs do to bytes."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice(_DAMAGES)(random, bytearray(content))
    return content


def _place(random: Random, content: bytearray, size: int = 1) -> int:
    return random.randrange(max(1, len(content) - size + 1))


def _flip_bits(random: Random, content: bytearray) -> bytes:
    for _ in range(random.choice((1, 1, 2, 8))):
        if content:
            content[_place(random, content)] ^= 1 << random.randrange(8)
    return bytes(content)


def _set_bytes(random: Random, content: bytearray) -> bytes:
    size = random.choice((1, 2, 4, 16))
    at = _place(random, content, size)
    content[at : at + size] = bytes([random.choice((0, 1, 0x7F, 0x80, 0xFF))]) * size
    return bytes(content)


def _set_number(random: Random, content: bytearray) -> bytes:
    """A length, an offset or an index, as most formats have them: of 2, 4 or 8 bytes."""
    size = random.choice((2, 4, 4, 4, 8))
    at = _place(random, content, size)
    at -= random.choice((0, at % size))
    number = random.choice((*NUMBERS, len(content), len(content) - 1, len(content) + 1, at, random.getrandbits(64)))
    content[at : at + size] = (number % 256**size).to_bytes(size, random.choice(("little", "little", "big")))
    return bytes(content)


def _cut(random: Random, content: bytearray) -> bytes:
    return bytes(content[: random.choice((_place(random, content), max(0, len(content) - random.randrange(1, 64))))])


def _append(random: Random, content: bytearray) -> bytes:
    return bytes(content) + random.choice(
        (b"\0" * random.randrange(1, 5000), random.randbytes(random.randrange(1, 64)))
    )


def _region(random: Random, content: bytearray) -> tuple[int, int]:
    begin = _place(random, content)
    return begin, min(len(content), begin + random.choice((1, 4, 16, 64, 512)))


def _zero(random: Random, content: bytearray) -> bytes:
    begin, end = _region(random, content)
    content[begin:end] = bytes(end - begin)
    return bytes(content)


def _remove(random: Random, content: bytearray) -> bytes:
    begin, end = _region(random, content)
    return bytes(content[:begin] + content[end:])


def _repeat(random: Random, content: bytearray) -> bytes:
    begin, end = _region(random, content)
    return bytes(content[:end] + content[begin:end] * random.choice((1, 1, 100)) + content[end:])


def _swap(random: Random, content: bytearray) -> bytes:
    (a, b), (c, d) = sorted((_region(random, content), _region(random, content)))
    if b > c:
        return bytes(content)
    return bytes(content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:])


def _splice(random: Random, content: bytearray) -> bytes:
    """The beginning of the file and its end from another place."""
    return bytes(content[: _place(random, content)] + content[_place(random, content) :])


_DAMAGES: tuple[Callable[[Random, bytearray], bytes], ...] = (
    _flip_bits, _flip_bits, _set_bytes, _set_number, _set_number, _set_number, _cut, _append, _zero, _remove, _repeat,
    _swap, _splice,
)  # fmt: skip


# Of what a format says


def tflite_field(random: Random, content: bytes) -> bytes:
    """A TensorFlow Lite file with one to three other fields; its digest is that of the file as it is then."""
    model = unpack(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        _other_attribute(random, model)
    try:
        return seal(pack(model))
    except Exception:  # what the schema's code cannot write
        return damage(random, content)


def tflite_bytes(random: Random, content: bytes) -> bytes:
    """A TensorFlow Lite file with other bytes, and the digest of them, where there still is a place for it."""
    content = damage(random, content)
    try:
        return seal(content)
    except Exception:  # as above
        return content


def _other_attribute(random: Random, thing: Any) -> None:
    """Follow random attributes of the schema's objects down to a number, a name or a list, and make it another."""
    names = [name for name, value in vars(thing).items() if value is not None]
    if not names:
        return
    name = random.choice(names)
    value = getattr(thing, name)
    if isinstance(value, list | np.ndarray) and len(value) and random.random() < 0.9:
        items = list(value)
        index = random.randrange(len(items))
        if hasattr(items[index], "__dict__"):
            if random.random() < 0.9:
                _other_attribute(random, items[index])
                return
            items.insert(random.randrange(len(items) + 1), copy.copy(items[index]))
        elif random.random() < 0.8:
            items[index] = _other_number(random, value)
        else:
            del items[index]
        setattr(thing, name, np.array(items, value.dtype) if isinstance(value, np.ndarray) else items)
    elif hasattr(value, "__dict__"):
        _other_attribute(random, value)
    elif isinstance(value, bool):
        setattr(thing, name, not value)
    elif isinstance(value, int | np.integer):
        setattr(thing, name, random.choice((-1, 0, 1, 2, 3, 5, 17, 100, 127)))
    elif isinstance(value, float):
        setattr(thing, name, random.choice((0.0, -1.0, float("nan"), float("inf"), 1e38)))
    elif isinstance(value, bytes | str):
        setattr(thing, name, random.choice(TEXTS).encode(errors="replace"))
    elif isinstance(value, list | np.ndarray):
        setattr(thing, name, None if random.random() < 0.5 else value[:0])


def _other_number(random: Random, values: Any) -> Any:
    if isinstance(values, np.ndarray) and values.dtype.kind == "u":
        return random.randrange(256)
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return random.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
    return random.choice((-2, -1, 0, 1, 2, 3, 7, 8, 9, 64, 1000, 2**15, 2**20, 2**24, 2**31 - 1, -(2**31)))


def onnx_field(random: Random, content: bytes) -> bytes:
    """An ONNX file with one to three other fields."""
    model = onnx.load_model_from_string(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        _other_protobuf_field(random, model)
    serialized: bytes = model.SerializeToString()
    return serialized


def _other_protobuf_field(random: Random, message: Message) -> None:
    fields = message.ListFields()
    if not fields:
        return
    field, value = random.choice(fields)
    if field.is_repeated:
        index = random.randrange(len(value))
        if isinstance(value[index], Message):
            act = random.random()
            if act < 0.85:
                _other_protobuf_field(random, value[index])
            elif act < 0.93:
                del value[index]
            else:
                value.add().CopyFrom(value[random.randrange(len(value))])
        elif random.random() < 0.2:
            del value[index]
        else:
            value[index] = _other_scalar(random, value[index])
    elif isinstance(value, Message):
        _other_protobuf_field(random, value)
    else:
        try:
            setattr(message, field.name, _other_scalar(random, value))
        except (ValueError, TypeError):  # another range, an enumeration
            message.ClearField(field.name)


def _other_scalar(random: Random, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice((-1, 0, 1, 2, 3, 5, 7, 8, 13, 22, 100, 2**31 - 1))
    if isinstance(value, float):
        return random.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
    if isinstance(value, str):
        return random.choice((*TEXTS, "Conv", "Add", "Sign", "Reshape", "x"))
    return changed(random, value, damage) if random.random() < 0.7 else value[: len(value) // 2]


def zip_member(random: Random, content: bytes) -> bytes:
    """An archive with another member, whose checksum is right; or one without it, or with one more."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    index = random.randrange(len(members))
    name, inner = members[index]
    act = random.random()
    if act < 0.75:
        mutation = npy_header if name.endswith(".npy") and random.random() < 0.6 else damage
        members[index] = (name, mutation(random, inner))
    elif act < 0.85:
        del members[index]
    else:
        members.append((random.choice(("x", "x/../y", name, "data.pkl", "x.npy", "a/b.npy")), inner))
    with zipfile.ZipFile(stream, "w") as archive:
        for name, inner in members:
            info = zipfile.ZipInfo(name)  # a constant date: the same seed makes the same file
            archive.writestr(info, inner)
    return stream.getvalue()


def npy_header(random: Random, content: bytes) -> bytes:
    """A .npy file whose header says another type, order or shape."""
    size = int.from_bytes(content[8:10], "little")
    header = content[10 : 10 + size].decode("latin-1")
    old, new = random.choice((
        ("'descr': '", "'descr': '>"), ("'<f4'", "'<f8'"), ("'<f4'", "'|O'"), ("'|u1'", "'|O'"), ("'|u1'", "'<c16'"),
        ("'|u1'", "'<U4'"), ("'|u1'", "'<M8[s]'"), ("'<i8'", "'<f8'"), ("'<f4'", "'<V4'"), ("False", "True"),
        ("'shape': (", "'shape': (0, "), ("'shape': (", "'shape': (-1, "), ("'shape': (", "'shape': (99999999999, "),
        ("'shape': (", "'shape': (1, "), (",)", ")"), ("{", "[" * 1000), ("}", ""), ("'shape'", "'shapes'"),
        ("'descr'", "__import__('os')"), ("'descr'", "b'descr'"), ("(", "(True, "), ("(", "(1e3, "),
    ))  # fmt: skip
    header = header.replace(old, new, 1).encode("latin-1")
    return content[:8] + (len(header) % 2**16).to_bytes(2, "little") + header + content[10 + size :]


def safetensors_header(random: Random, content: bytes) -> bytes:
    """A safetensors file with another header."""
    size = int.from_bytes(content[:8], "little")
    header = json_value(random, content[8 : 8 + size])
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def json_value(random: Random, content: bytes) -> bytes:
    """JSON with another value somewhere, or without one."""
    entry = json.loads(content)
    for _ in range(random.choice((1, 1, 2))):
        _other_json(random, entry)
    return json.dumps(entry).encode()


def _other_json(random: Random, entry: Any) -> None:
    keys = list(entry) if isinstance(entry, dict) else list(range(len(entry)))
    if not keys:
        return
    key = random.choice(keys)
    if isinstance(entry[key], dict | list) and entry[key] and random.random() < 0.7:
        _other_json(random, entry[key])
    elif random.random() < 0.2:
        del entry[key]
    else:
        entry[key] = random.choice(JSON_VALUES)


def gzip_content(random: Random, content: bytes) -> bytes:
    """A compressed file of other bytes."""
    return gzip.compress(damage(random, gzip.decompress(content)), mtime=0)


def png_chunk(random: Random, content: bytes) -> bytes:
    """A PNG with another chunk, whose checksum is right."""
    at, chunks = 8, []
    while at < len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    index = random.randrange(len(chunks))
    name, data = chunks[index]
    act = random.random()
    if act < 0.7:
        chunks[index] = (name, damage(random, data))
    elif act < 0.85:
        del chunks[index]
    else:
        chunks.insert(index, (name, data))
    return content[:8] + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def one_of(*mutations: Mutation) -> Mutation:
    """One of them, drawn anew for each file."""
    return lambda random, content: random.choice(mutations)(random, content)
