"""What a file remembers of its compilation."""

import json

import numpy as np
import pytest

from bnncc.errors import InputError
from bnncc.ir.modes import ZeroWeights
from bnncc.options import FileMetadata, Options
from bnncc.targets.tflite.digest import METADATA_NAME
from bnncc.targets.tflite.precision import WeightsPrecision


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3), (2, 3, 4)])
def test_the_shape_of_what_is_stored_is_brought_back_to_nchw(channels_last: bool, shape: tuple[int, ...]) -> None:
    options = Options(channels_last=channels_last)
    array = np.arange(np.prod(shape)).reshape(shape)
    stored = options.as_stored(array)
    assert options.as_nchw(stored.shape) == shape
    expected = np.moveaxis(array, 1, -1) if channels_last and len(shape) == 4 else array
    np.testing.assert_array_equal(stored, expected)
    assert stored.flags.c_contiguous


def test_choices_may_be_given_in_the_command_lines_words() -> None:
    given = Options(zero_weights="plus-one", weights_precision="int8")  # type: ignore[arg-type]
    assert given == Options(zero_weights=ZeroWeights.PLUS_ONE, weights_precision=WeightsPrecision.INT8)
    with pytest.raises(InputError, match="replication: 'never' is none of 'auto'"):
        Options(replication="never")  # type: ignore[arg-type]


METADATA = {
    "bnncc": "0", "target": "raspberry-pi-4", "weights_sha256": "", "float32_bytes": 1, "input_layout": "NHWC",
    "weights_precision": "float32", "padding": "auto", "replication": "auto", "zero_weights": "exact",
}  # fmt: skip


class _File:
    """As much of a TfliteFile as its metadata."""

    def __init__(self, content: str) -> None:
        self._content = content.encode()

    def metadata(self) -> dict[str, bytes]:
        return {METADATA_NAME: self._content}


def read(content: str) -> FileMetadata:
    return FileMetadata.read(_File(content))  # type: ignore[arg-type]


def test_metadata_with_nothing_odd_are_read() -> None:
    assert read(json.dumps(METADATA)).target == "raspberry-pi-4"


INTEGERS = {"keep_float": [], "ranges": {}, "exponents": {}, "method": "mse", "inputs": 1}


@pytest.mark.parametrize(("stored", "kind"), [(True, "int8"), ("int8", "int8"), ("int16", "int16")])
def test_shortcuts_of_earlier_revisions_are_read(stored: object, kind: str) -> None:
    """There they were in int8, or not."""
    integers = read(json.dumps({**METADATA, "int8": {**INTEGERS, "shortcuts": stored}})).options.integers
    assert integers is not None
    assert integers.shortcuts == kind


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("float32_bytes", "1e400"), ("target", "[]"), ("target", "null"), ("bnncc", "5"), ("weights_sha256", "{}"),
        ("classes", '"abc"'), ("classes", "[1, 2]"), ("classes", '["a\\nb"]'), ("classes", '["\\u001b[2J"]'),
        ("classes", '["\\ud800"]'), ("disabled_passes", "[5]"), ("frozen_branches", "7"),
        ("preprocessing", '{"crop": [1e400, 8]}'), ("preprocessing", '{"resize": 8.5}'),
        ("preprocessing", '{"mean": ["0"], "std": ["1"]}'), ("preprocessing", '{"mean": [[0]], "std": [[1]]}'),
        ("int8", json.dumps({**INTEGERS, "shortcuts": "int4"})), ("int8", json.dumps({**INTEGERS, "shortcuts": []})),
    ],
)  # fmt: skip
def test_metadata_of_other_types_than_bnncc_writes_are_the_files_error(name: str, value: str) -> None:
    content = json.dumps({**METADATA, name: "HERE"}).replace('"HERE"', value)
    with pytest.raises(InputError):
        read(content)
