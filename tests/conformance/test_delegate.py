"""A sample of `make conformance-delegate`: the LiteRT that is installed, its CompiledModel included."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from types import SimpleNamespace

import ai_edge_litert
import pytest

from bnncc.runtime import compiled_model, library_path
from tests.conformance import environments
from tests.conformance.batch import Outcome, run_batch
from tests.conformance.delegate import served
from tests.conformance.delegate.files import write_tasks
from tests.conformance.delegate.matrix import SCRIPT, results, run, say
from tests.conformance.delegate.page import page
from tests.conformance.environments import Environment

ROUNDS = 40


def test_the_delegate_is_right_in_the_installed_litert_and_in_its_compiled_model(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    write_tasks(tasks, ROUNDS, network=False, memory=False)
    environment = Environment("litert", "ai_edge_litert")
    library = str(library_path())
    line = environments.command(environment, tmp_path, xnnpack=True, threads=2, library=library, script=SCRIPT)
    found = say(lambda: run_batch(line, tasks, len(served.CHECKS), environments.variables(environment)))
    assert found == {check.__name__: "" for check in served.CHECKS}


def test_a_runtime_that_was_tried_with_the_same_files_is_not_tried_again(tmp_path: Path) -> None:
    found = {"XNNPACK, 1 thread": {"loads": ""}}
    runtime = Environment("litert-9", "nothing that could be started")
    (tmp_path / "litert-9.delegate.json").write_text(json.dumps({"digest": "these", "results": found}))
    run(runtime, tmp_path, tmp_path / "tasks", "these")
    assert results(runtime, tmp_path, "these") == found
    assert results(runtime, tmp_path, "others") is None


class EnvironmentOption(ctypes.Structure):
    """LiteRtEnvOption, whose value is a text."""

    _fields_ = (("tag", ctypes.c_int), ("type", ctypes.c_int64), ("text", ctypes.c_char_p))


RUNTIME_LIBRARY_DIR, TEXT = 22, 8  # kLiteRtEnvOptionTagRuntimeLibraryDir, kLiteRtAnyTypeString


def accelerators(litert: ctypes.CDLL, *options: EnvironmentOption) -> list[bytes | None]:
    """The names of those of an environment, in the order in which they are applied to a model."""
    environment, count = ctypes.c_void_p(), ctypes.c_size_t()
    given = (EnvironmentOption * len(options))(*options)
    assert litert.LiteRtCreateEnvironment(len(options), given, ctypes.byref(environment)) == 0
    assert litert.LiteRtGetNumAccelerators(environment, ctypes.byref(count)) == 0
    names = []
    for number in range(count.value):
        accelerator, name = ctypes.c_void_p(), ctypes.c_char_p()
        assert litert.LiteRtGetAccelerator(environment, ctypes.c_size_t(number), ctypes.byref(accelerator)) == 0
        assert litert.LiteRtGetAcceleratorName(accelerator, ctypes.byref(name)) == 0
        names.append(name.value)
    litert.LiteRtDestroyEnvironment(environment)
    return names


def test_the_library_is_an_accelerator_of_litert_s_c_interface(tmp_path: Path) -> None:
    """By its name in a folder, and linked; XNNPACK comes behind it."""
    litert = ctypes.CDLL(str(Path(ai_edge_litert.__file__).with_name("libLiteRt.so")))
    (tmp_path / "libLiteRtGpuAccelerator.so").symlink_to(library_path())
    option = EnvironmentOption(RUNTIME_LIBRARY_DIR, TEXT, str(tmp_path).encode())
    assert accelerators(litert, option) == [b"bnncc", b"CpuAccelerator"]
    linked = ctypes.c_void_p.in_dll(litert, "LiteRtStaticLinkedAcceleratorGpuDef")
    own = ctypes.c_char.in_dll(ctypes.CDLL(str(library_path())), "LiteRtAcceleratorImpl")
    linked.value = ctypes.addressof(own)
    try:
        assert accelerators(litert) == [b"bnncc", b"CpuAccelerator"]
    finally:
        linked.value = None


def test_what_is_not_right_is_said(tmp_path: Path) -> None:
    outcomes = [Outcome(outputs=""), Outcome(outputs="an error"), Outcome(outputs=served.MISSING)]  # type: ignore[arg-type]
    outcomes += [Outcome(refused="ValueError: no"), Outcome(died="ends with status -11: ")]
    outcomes += [Outcome(outputs="")] * (len(served.CHECKS) - len(outcomes))
    text = page({"litert-9": {"XNNPACK, 1 thread": say(lambda: outcomes)}}, emulated_rounds=1)
    assert "| litert-9 | ✓ | **wrong** | – | **refused** | **ends** | ✓ | ✓ |" in text
    assert "- litert-9, XNNPACK, 1 thread, runs: an error" in text


@pytest.mark.parametrize("features", [0xFF, 0x1FF])
def test_a_processor_on_which_a_compiled_model_ends_the_process_is_refused(
    features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_environment(**_: str) -> None:
        raise RuntimeError("an environment was made")

    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("ctypes.CDLL", lambda name: SimpleNamespace(getauxval=Features(features)))
    monkeypatch.setattr("ai_edge_litert.environment.Environment.create", no_environment)
    with pytest.raises(RuntimeError, match="was made" if features & 0x100 else "Raspberry Pi 3, 4 and Zero 2"):
        compiled_model.accelerated_environment(Path("lib.so"))


class Features:
    """getauxval."""

    def __init__(self, features: int) -> None:
        self._features = features

    def __call__(self, entry: int) -> int:
        assert entry == 16
        return self._features


@pytest.mark.parametrize("version", ["2.1.6", "1.4.0"])
def test_an_older_litert_has_no_such_environment(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda package: version)
    with pytest.raises(ImportError, match=rf"needs ai-edge-litert 2\.2 or later, not {version}"):
        compiled_model.accelerated_environment(Path("lib.so"))
