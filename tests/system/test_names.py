"""Names that a stranger chose are printed and written without doing anything."""

import json

import pytest

from bnncc.system.names import as_utf8, shown


def test_what_a_terminal_would_obey_is_printed_as_escapes() -> None:
    assert shown("\x1b[2J\rnet\u202e\x00\n\tü") == "\\x1b[2J\\rnet\\u202e\\x00\n\tü"


@pytest.mark.parametrize("name", ["net", "ü", "\udcff.tflite"])
def test_any_file_name_comes_back_out_of_json(name: str) -> None:
    assert json.loads(as_utf8(json.dumps(name, ensure_ascii=False))) == name
