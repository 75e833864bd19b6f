"""Damaged .tflite files: `bnncc inspect` prints them or says what is wrong, and never ends in a traceback."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import click.testing
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema

import bnncc
from bnncc.cli import main
from bnncc.errors import InputError
from bnncc.targets.tflite.digest import DIGEST_NAME, METADATA_NAME, has_none
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import pack, unpack
from tests.networks import VggSmall, randomize

FILES = 150
# The structure of a file lies at its ends; most of what is between are weights.
ENDS = (400, 9000)
METADATA_FIELD = 16  # of the model's table: its place in the vtable


@pytest.fixture(scope="module")
def content() -> bytes:
    torch.manual_seed(0)
    network = VggSmall((8, 16, 16), padding=1)
    network(torch.zeros(2, 3, 16, 16))
    return bnncc.compile(randomize(network), input_shapes=["1x3x16x16"]).content


def damaged(content: bytes, rng: random.Random) -> bytes:
    data, size = bytearray(content), len(content)

    def place() -> int:
        return rng.choice((rng.randrange(min(ENDS[0], size)), size - 1 - rng.randrange(min(ENDS[1], size))))

    kind = rng.choice(("bytes", "word", "cut", "zeros"))
    if kind == "bytes":
        for _ in range(rng.choice((1, 2, 8))):
            data[place()] = rng.randrange(256)
    elif kind == "word":
        start = place() & ~3
        data[start : start + 4] = struct.pack("<I", rng.choice((0, 1, 2**31 - 1, 2**32 - 1, rng.getrandbits(32))))
    elif kind == "cut":
        del data[rng.randrange(size) :]
    else:
        start = place()
        data[start : start + 64] = bytes(64)
    return bytes(data)


def without(content: bytes, *names: str) -> bytes:
    """The file without these entries of its metadata: with neither of bnncc's it is as other programs write files."""
    model = unpack(content)
    model.metadata = [entry for entry in model.metadata if entry.name.decode() not in names]
    return pack(model)


def without_digest(content: bytes) -> bytes:
    return without(content, DIGEST_NAME, METADATA_NAME)


def test_a_file_with_a_digest_is_printed_as_it_is_and_not_damaged(content: bytes, tmp_path: Path) -> None:
    rng, path = random.Random(1), tmp_path / "net.tflite"
    for _ in range(FILES // 3):
        path.write_bytes(damaged(content, rng))
        result = click.testing.CliRunner().invoke(main, ["inspect", str(path)])
        assert result.exit_code == (0 if path.read_bytes() == content else 2), (result.output, result.exception)


def test_a_file_of_bnncc_that_lost_its_digest_is_damaged(content: bytes, tmp_path: Path) -> None:
    assert content.count(DIGEST_NAME.encode()) == 1
    path = tmp_path / "net.tflite"
    path.write_bytes(content.replace(DIGEST_NAME.encode(), b"bnncc_sha25\x76"))
    with pytest.raises(InputError, match="the file is damaged"):
        TfliteFile.open(path)
    path.write_bytes(without_digest(content))
    TfliteFile.open(path)
    model = schema.Model.GetRootAs(content)
    assert [model.Metadata(index).Name() for index in range(model.MetadataLength())] == [b"bnncc", DIGEST_NAME.encode()]
    fewer, count = bytearray(content), model._tab.Vector(model._tab.Offset(METADATA_FIELD)) - 4
    struct.pack_into("<I", fewer, count, 1)  # what led to the digest
    path.write_bytes(fewer)
    with pytest.raises(InputError, match="the file is damaged"):
        TfliteFile.open(path)


def test_a_file_of_an_earlier_bnncc_which_wrote_no_digest_is_not_damaged(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    for text, expected in ((content, False), (without(content, DIGEST_NAME), True), (without_digest(content), False)):
        path.write_bytes(text)
        assert has_none(text) == expected
        result = click.testing.CliRunner().invoke(main, ["inspect", str(path)])
        assert result.exit_code == 0, result.output
        assert ("no digest: an earlier bnncc made it" in result.output) == expected


def test_inspect_prints_a_damaged_file_or_says_what_is_wrong(content: bytes, tmp_path: Path) -> None:
    content = without_digest(content)
    rng, path = random.Random(0), tmp_path / "net.tflite"
    codes = []
    for _ in range(FILES):
        path.write_bytes(damaged(content, rng))
        result = click.testing.CliRunner().invoke(main, ["inspect", str(path)])
        assert result.exit_code in (0, 2), (result.output, result.exception)
        if result.exit_code == 2:
            assert str(path) in result.output
        codes.append(result.exit_code)
    # Both kinds were met: the test is about files, not about one early check.
    assert min(codes.count(0), codes.count(2)) > FILES // 10


def test_a_constant_of_too_few_bytes_is_named(content: bytes) -> None:
    file = TfliteFile(content)
    entry = next(tensor for tensor in file.tensors if file.data(tensor) is not None)
    model = file._model
    buffer = model.buffers[file._subgraph.tensors[entry.index].buffer]
    buffer.data = buffer.data[:-1]
    with pytest.raises(InputError, match=rf"the tensor \d+ '.*', {entry.dtype} .*, has .* bytes"):
        TfliteFile(pack(model))
