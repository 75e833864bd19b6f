"""TFLITE_METADATA and the label file, read by code that was written for the schema's own names and numbers alone."""

from __future__ import annotations

import io
import zipfile

import pytest
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table

from bnncc.errors import InputError
from bnncc.targets.tflite.public_metadata import Information, TensorNote, archive, build, describe, packed_files

# Of the schema's unions; fields are named by their place in metadata_schema.fbs.
NORMALIZATION, IMAGE = 1, 2
NOTE = TensorNote(
    "image", "pixels", (28, 32, 3), mean=(1.5, 2.0, 3.0), std=(255.0, 4.0, 5.0), least=(-128.0,), most=(127.0,)
)


def offset(table: Table, place: int) -> int:
    found = int(table.Offset(4 + 2 * place))
    assert found, f"field {place} is absent"
    return found + int(table.Pos)


def inner(table: Table, place: int) -> Table:
    return Table(table.Bytes, table.Indirect(offset(table, place)))


def elements(table: Table, place: int) -> list[Table]:
    start, count = table.Vector(table.Offset(4 + 2 * place)), table.VectorLen(table.Offset(4 + 2 * place))
    return [Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(count)]


def numbers(table: Table, place: int) -> list[float]:
    start, count = table.Vector(table.Offset(4 + 2 * place)), table.VectorLen(table.Offset(4 + 2 * place))
    return [table.Get(number_types.Float32Flags, start + 4 * index) for index in range(count)]


def text(table: Table, place: int) -> str:
    return str(table.String(offset(table, place)).decode())


def root(content: bytes) -> Table:
    assert content[4:8] == b"M001"
    return Table(content, encode.Get(packer.uoffset, content, 0))


def test_every_field_stands_where_the_schema_has_it() -> None:
    information = Information("net", "what it does", "1.2", "who", "MIT")
    model = root(build(information, [NOTE], [TensorNote("logits", labels="axis")]))
    assert [text(model, place) for place in (0, 1, 2, 4, 5, 7)] == ["net", "what it does", "1.2", "who", "MIT", "1.0.0"]
    (graph,) = elements(model, 3)
    (image,) = elements(graph, 2)
    assert (text(image, 0), text(image, 1)) == ("image", "pixels")
    content = inner(image, 3)
    assert content.Get(number_types.Uint8Flags, offset(content, 0)) == IMAGE
    properties = inner(content, 1)
    assert properties.Get(number_types.Int8Flags, offset(properties, 0)) == 1  # RGB
    size = inner(properties, 1)
    assert [size.Get(number_types.Uint32Flags, offset(size, place)) for place in (0, 1)] == [32, 28]  # width first
    (unit,) = elements(image, 4)
    assert unit.Get(number_types.Uint8Flags, offset(unit, 0)) == NORMALIZATION
    options = inner(unit, 1)
    assert (numbers(options, 0), numbers(options, 1)) == ([1.5, 2.0, 3.0], [255.0, 4.0, 5.0])
    assert (numbers(inner(image, 5), 0), numbers(inner(image, 5), 1)) == ([127.0], [-128.0])
    (logits,) = elements(graph, 3)
    (labels,) = elements(logits, 6)
    assert text(labels, 0) == "labels.txt"
    assert labels.Get(number_types.Int8Flags, offset(labels, 2)) == 2  # TENSOR_AXIS_LABELS


def test_the_same_notes_give_the_same_bytes_and_read_back() -> None:
    content = build(Information(author="who"), [NOTE], [])
    assert content == build(Information(author="who"), [NOTE], [])
    assert describe(content) == [
        ("author", "who"),
        ("input image", "pixels; (pixel - 1.5, 2, 3) / 255, 4, 5"),
    ]


def test_labels_are_an_archive_behind_the_file_that_zip_tools_read() -> None:
    content = archive(["cat", "dog ö"])(b"some bytes in front")
    assert content.startswith(b"some bytes in front")
    assert content == archive(["cat", "dog ö"])(b"some bytes in front")
    assert zipfile.ZipFile(io.BytesIO(content)).read("labels.txt").decode() == "cat\ndog ö\n"
    assert packed_files(content) == {"labels.txt": "cat\ndog ö\n".encode()}
    assert packed_files(b"no archive") == {}


def test_damaged_metadata_are_an_error_that_says_so() -> None:
    content = build(Information("net"), [NOTE], [])
    for damaged in (b"", content[:8], content[:-40], b"\xff\xff" + content[2:], content.replace(b"M001", b"M002")):
        with pytest.raises(InputError, match="TFLITE_METADATA is damaged"):
            describe(damaged)
