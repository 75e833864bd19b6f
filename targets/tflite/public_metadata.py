"""The entry TFLITE_METADATA, in which other tools look for what a file's tensors mean, and the label file behind it.

Its content is a flatbuffer of its own, `TFLMetadata` with the identifier M001 (tensorflow/tflite-support,
metadata_schema.fbs, 1.1.0); labels are a text file in a zip archive behind the file's bytes, which readers of the
flatbuffer do not see.  The tables that bnncc writes, with the numbers of their fields:

    ModelMetadata     name 0, description 1, version 2, subgraph_metadata 3, author 4, license 5, min_parser_version 7
    SubGraphMetadata  name 0, input_tensor_metadata 2, output_tensor_metadata 3
    TensorMetadata    name 0, description 1, content 3, process_units 4, stats 5, associated_files 6
    Content           content_properties 0 (its type) and 1
    ImageProperties   color_space 0, default_size 1        ImageSize  width 0, height 1
    ProcessUnit       options 0 (their type) and 1         NormalizationOptions  mean 0, std 1
    Stats             max 0, min 1                         AssociatedFile  name 0, description 1, type 2

A tool normalises a picture, (pixel − mean) / std, and then quantizes the result by the tensor's own scale and zero
point.  So a file of bytes, whose scale is 1/255, has the mean 0 and the deviation 255: together they leave the byte.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import flatbuffers
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table

from bnncc.errors import InputError

PUBLIC_NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
MIN_PARSER_VERSION = "1.0.0"
LABELS_FILE = "labels.txt"

# Numbers of the schema's enumerations and unions.
_IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = 2, 1
COLOR_SPACES = {1: 2, 3: 1}  # by channels: GRAYSCALE, RGB
_AXIS_LABELS, _VALUE_LABELS = 2, 3
# A zip archive's files have a date; that of all of them, so that the same network gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
# So many fields has the largest table.
_MOST_FIELDS = 12
# Bytes of an offset in a flatbuffer.
_OFFSET = 4


@dataclass(frozen=True)
class Information:
    """What the author says of the file; "" where nothing."""

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        """Raises InputError for what is no text."""
        for field, text in vars(self).items():
            if not isinstance(text, str) or "\0" in text:
                raise InputError(f"--{field}: {text!r} is no text")


@dataclass(frozen=True)
class TensorNote:
    """What is known of an input or output.

    picture: (height, width, channels), where it is one.  mean, std: of its pixels, 0…255, a number a channel or one for
    all; empty where nobody said.  least, most: of the tensor's numbers.  labels: "axis" where its numbers belong to the
    classes one by one, "value" where a number is a class, else "".
    """

    name: str
    description: str = ""
    picture: tuple[int, int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    least: tuple[float, ...] = ()
    most: tuple[float, ...] = ()
    labels: str = ""


def build(information: Information, inputs: Sequence[TensorNote], outputs: Sequence[TensorNote]) -> bytes:
    """The content of the entry; the same notes give the same bytes."""
    builder = flatbuffers.Builder(1024)
    graph = _table(
        builder,
        {0: _text(builder, "main"), 2: _tables(builder, _tensor, inputs), 3: _tables(builder, _tensor, outputs)},
    )
    graphs = _vector(builder, [graph])
    texts = {
        0: information.name,
        1: information.description,
        2: information.version,
        4: information.author,
        5: information.license,
        7: MIN_PARSER_VERSION,
    }
    offsets = {slot: _text(builder, text) for slot, text in texts.items() if text}
    builder.Finish(_table(builder, {**offsets, 3: graphs}), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def archive(labels: Sequence[str]) -> Callable[[bytes], bytes]:
    """What puts the labels, one a line, behind a file's bytes: a zip archive with offsets from their beginning on."""

    def append(content: bytes) -> bytes:
        stream = io.BytesIO(content)
        with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as files:
            files.writestr(zipfile.ZipInfo(LABELS_FILE, _DATE), "".join(f"{label}\n" for label in labels))
        return stream.getvalue()

    return append


def packed_files(content: bytes) -> Mapping[str, bytes]:
    """The files of the archive behind a file's bytes; none where there is no archive.

    Raises InputError where there is one that cannot be read.
    """
    stream = io.BytesIO(content)
    if not zipfile.is_zipfile(stream):
        return {}
    try:
        with zipfile.ZipFile(stream) as files:
            return {name: files.read(name) for name in files.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise InputError(f"the archive behind the file is damaged: {error}") from error


def describe(content: bytes) -> list[tuple[str, str]]:
    """What an entry says, as (what, text) in the order of the schema.  Raises InputError where it is damaged."""
    try:
        return list(_describe(content))
    except Exception as error:  # flatbuffers indexes the raw bytes
        raise InputError(f"{PUBLIC_NAME} is damaged: {type(error).__name__}: {error}") from error


# Writing


def _tensor(builder: flatbuffers.Builder, note: TensorNote) -> int:
    fields = {0: _text(builder, note.name)}
    if note.description:
        fields[1] = _text(builder, note.description)
    if note.picture is not None:
        height, width, channels = note.picture
        size = _table(builder, {}, {0: width, 1: height}, number_types.Uint32Flags)
        colors = {0: COLOR_SPACES.get(channels, 0)}
        image = _table(builder, {1: size}, colors, number_types.Int8Flags)
        fields[3] = _table(builder, {1: image}, {0: _IMAGE_PROPERTIES}, number_types.Uint8Flags)
    if note.mean:
        options = _table(builder, {0: _floats(builder, note.mean), 1: _floats(builder, note.std)})
        unit = _table(builder, {1: options}, {0: _NORMALIZATION_OPTIONS}, number_types.Uint8Flags)
        fields[4] = _vector(builder, [unit])
    if note.least:
        fields[5] = _table(builder, {0: _floats(builder, note.most), 1: _floats(builder, note.least)})
    if note.labels:
        texts = {0: _text(builder, LABELS_FILE), 1: _text(builder, "the classes, one a line")}
        kind = _AXIS_LABELS if note.labels == "axis" else _VALUE_LABELS
        fields[6] = _vector(builder, [_table(builder, texts, {2: kind}, number_types.Int8Flags)])
    return _table(builder, fields)


def _table(
    builder: flatbuffers.Builder,
    offsets: Mapping[int, int],
    numbers: Mapping[int, int] | None = None,
    flags: type = number_types.Uint8Flags,
) -> int:
    """A table with these offsets of other objects, and numbers of one type, by their fields' numbers."""
    builder.StartObject(_MOST_FIELDS)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in (numbers or {}).items():
        if number:
            builder.Prepend(flags, number)
            builder.Slot(slot)
    return int(builder.EndObject())


def _tables(
    builder: flatbuffers.Builder, write: Callable[[flatbuffers.Builder, TensorNote], int], notes: Sequence[TensorNote]
) -> int:
    return _vector(builder, [write(builder, note) for note in notes])


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(_OFFSET, len(offsets), _OFFSET)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: flatbuffers.Builder, numbers: Sequence[float]) -> int:
    builder.StartVector(4, len(numbers), 4)
    for number in reversed(numbers):
        builder.PrependFloat32(number)
    return int(builder.EndVector())


def _text(builder: flatbuffers.Builder, text: str) -> int:
    return int(builder.CreateString(text))


# Reading


def _describe(content: bytes) -> list[tuple[str, str]]:
    if content[4:8] != IDENTIFIER:
        raise ValueError("the identifier M001 is missing")
    root = Table(content, encode.Get(packer.uoffset, content, 0))
    found = [
        (what, text)
        for slot, what in ((0, "name"), (1, "description"), (2, "version"), (4, "author"), (5, "license"))
        if (text := _text_of(root, slot))
    ]
    for graph in _tables_of(root, 3):
        for slot, side in ((2, "input"), (3, "output")):
            for tensor in _tables_of(graph, slot):
                parts = [_text_of(tensor, 1)]
                for unit in _tables_of(tensor, 4):
                    options = _table_of(unit, 1)
                    if _number_of(unit, 0) == _NORMALIZATION_OPTIONS and options is not None:
                        mean, std = (", ".join(f"{x:g}" for x in _floats_of(options, field)) for field in (0, 1))
                        parts.append(f"(pixel - {mean}) / {std}")
                parts += [_text_of(file, 0) for file in _tables_of(tensor, 6)]
                found.append((f"{side} {_text_of(tensor, 0)}", "; ".join(part for part in parts if part)))
    return found


def _field(table: Table, slot: int) -> int:
    return int(table.Offset(4 + 2 * slot))


def _text_of(table: Table, slot: int) -> str:
    field = _field(table, slot)
    return table.String(field + table.Pos).decode() if field else ""


def _number_of(table: Table, slot: int) -> int:
    field = _field(table, slot)
    return int(table.Get(number_types.Uint8Flags, field + table.Pos)) if field else 0


def _table_of(table: Table, slot: int) -> Table | None:
    field = _field(table, slot)
    return Table(table.Bytes, table.Indirect(field + table.Pos)) if field else None


def _tables_of(table: Table, slot: int) -> list[Table]:
    field = _field(table, slot)
    if not field:
        return []
    start = table.Vector(field)
    return [Table(table.Bytes, table.Indirect(start + _OFFSET * i)) for i in range(table.VectorLen(field))]


def _floats_of(table: Table, slot: int) -> list[float]:
    field = _field(table, slot)
    if not field:
        return []
    start = table.Vector(field)
    return [float(table.Get(number_types.Float32Flags, start + 4 * i)) for i in range(table.VectorLen(field))]
