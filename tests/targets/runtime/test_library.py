import numpy as np
import pytest

from bnncc.runtime import BuildError, LitertRunner, kernels, library_path, load_delegate
from tests.targets.runtime.models import quantize_file


def test_kernels_end_with_the_portable_one() -> None:
    assert kernels()[-1] == "portable"


def test_the_library_is_built_once() -> None:
    before = library_path().stat().st_mtime_ns
    assert library_path().stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kernel": "mmx"}, "no such kernel"), ({"threads": -1}, "threads must"), ({"threads": 1000}, "threads must")],
)
def test_an_unknown_option_is_a_value_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_delegate(**options)


def test_a_variable_that_names_no_file_is_a_build_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNNCC_RUNTIME", "/nowhere/lib.so")
    with pytest.raises(BuildError, match=r"/nowhere/lib\.so"):
        library_path()


def test_the_compiler_s_message_is_in_the_error(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho no space left >&2\nexit 3\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("BNNCC_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BuildError, match=r"(?s)failed with status 3.*no space left"):
        library_path()


def test_inputs_may_be_resized() -> None:
    runner = LitertRunner(quantize_file((2, 3, 40), "float32"))
    interpreter = runner._interpreter
    x = np.random.default_rng(0).normal(size=(4, 3, 40)).astype(np.float32)
    # The channels of an LceDequantize are those of the file, all other axes those of its input.
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    (_, signs) = runner.run([x])
    np.testing.assert_array_equal(signs, np.where(x < 0, -1, 1))
