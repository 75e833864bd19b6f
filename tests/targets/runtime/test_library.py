import importlib
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from bnncc.inference.runners import Runtime
from bnncc.runtime import BuildError, LitertRunner, Platform, kernels, library_path, load_delegate, prebuilt
from bnncc.runtime.build import LONGEST_BUILD, stamp
from bnncc.runtime.trust import digest_of, digest_path
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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of one's own, with the library in it; what is built there is a copy, as a compiler takes long."""
    folder, built = tmp_path / "cache", tmp_path / "built"
    folder.mkdir(mode=0o700)
    shutil.copy2(library_path(), built)
    module = importlib.import_module("bnncc.runtime.build")
    monkeypatch.setattr(module, "compile_library", lambda command, machine, output: shutil.copy2(built, output))
    for path in library_path().parent.glob(library_path().name + "*"):
        shutil.copy2(path, folder)
    monkeypatch.setenv("BNNCC_CACHE", str(folder))
    return folder


def test_a_library_in_the_cache_is_loaded_as_it_is(cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert library_path().parent == cache
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no digest"])
def test_a_damaged_library_is_built_again(cache: Path, damage: str) -> None:
    library = library_path()
    content = library.read_bytes()
    if damage == "no digest":
        library.with_name(library.name + ".sha256").unlink()
    else:
        library.write_bytes({"cut": content[:-1], "flipped": content[:-1] + b"x", "empty": b""}[damage])
    assert library_path() == library
    assert library.read_bytes()[:4] == b"\x7fELF"
    assert len(library.read_bytes()) == len(content)
    assert kernels()[-1] == "portable"


@pytest.mark.parametrize("part", ["library", "digest"])
def test_a_pipe_in_the_cache_is_not_waited_for(cache: Path, part: str) -> None:
    library = library_path()
    path = library if part == "library" else library.with_name(library.name + ".sha256")
    path.unlink()
    os.mkfifo(path)
    assert library_path().read_bytes()[:4] == b"\x7fELF"  # it is replaced


def test_a_build_that_was_killed_is_cleared_away_by_a_later_one(cache: Path) -> None:
    for name, age in ((".build-old", 2 * LONGEST_BUILD), (".build-new", 0)):
        (cache / name).mkdir()
        os.utime(cache / name, (time.time() - age,) * 2)
    library_path().unlink()
    library_path()
    assert not (cache / ".build-old").exists()
    assert (cache / ".build-new").exists()


@pytest.mark.parametrize("place", ["library", "folder"])
@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_library_that_others_may_write_is_not_loaded(cache: Path, place: str, mode: int) -> None:
    (cache if place == "folder" else library_path()).chmod(mode)
    with pytest.raises(BuildError, match=rf"(?s)is not loaded.*others may write to .*mode {mode:o}"):
        library_path()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize("place", ["library", "folder"])
def test_a_library_of_another_user_is_not_loaded(cache: Path, place: str) -> None:
    os.chown(cache if place == "folder" else library_path(), 12345, 12345)
    with pytest.raises(BuildError, match=r"(?s)is not loaded.*belongs to another user"):
        library_path()


def test_a_cache_that_is_a_file_is_a_build_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BNNCC_CACHE", str(tmp_path / "file"))
    with pytest.raises(BuildError, match="cannot be used"):
        library_path()
    assert Runtime.LITERT.why_missing is not None


def test_without_a_home_directory_there_is_no_delegate(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("BNNCC_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(BuildError, match="BNNCC_CACHE"):
        library_path()


@pytest.mark.parametrize("command", ["/nowhere/c++", "c++ 'unclosed"])
def test_a_compiler_that_is_none_is_a_build_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.setenv("CXX", command)
    monkeypatch.setenv("BNNCC_CACHE", str(tmp_path))
    with pytest.raises(BuildError, match=r"cannot be run: No such file|\$CXX is no command"):
        library_path()


def elf(bits: int, machine: int, content: bytes = b"") -> bytes:
    return b"\x7fELF" + bytes([bits // 32, 1]) + bytes(12) + machine.to_bytes(2, "little") + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is no shared library"),
        (b"#!/bin/sh", "it is no shared library"),
        (elf(64, 183), "it is for AArch64, 64 bits"),
        (elf(32, 40), "it is for ARM, 32 bits"),
        (elf(64, 62), "it is another library"),
    ],
)
def test_a_variable_that_names_something_else_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(content)
    monkeypatch.setenv("BNNCC_RUNTIME", str(path))
    with pytest.raises(BuildError, match=message):
        library_path()


def test_a_variable_that_names_the_delegate_is_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = Path(shutil.copy(library_path(), tmp_path / "lib.so"))
    monkeypatch.setenv("BNNCC_RUNTIME", str(path))
    assert library_path() == path


def test_inputs_may_be_resized() -> None:
    runner = LitertRunner(quantize_file((2, 3, 40), "float32"))
    interpreter = runner._interpreter
    x = np.random.default_rng(0).normal(size=(4, 3, 40)).astype(np.float32)
    # The channels of an LceDequantize are those of the file, all other axes those of its input.
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    (_, signs) = runner.run([x])
    np.testing.assert_array_equal(signs, np.where(x < 0, -1, 1))


@pytest.mark.parametrize("lock", ["link", "pipe"])
def test_a_lock_that_another_user_put_there_is_not_written_through(cache: Path, tmp_path: Path, lock: str) -> None:
    library, precious = library_path(), tmp_path / "precious"
    precious.write_text("x")
    path = library.with_suffix(".lock")
    path.unlink(missing_ok=True)
    library.unlink()
    path.symlink_to(precious) if lock == "link" else os.mkfifo(path)
    with pytest.raises(BuildError, match="cannot be used"):
        library_path()
    assert precious.read_text() == "x"


def test_nothing_is_written_to_a_folder_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("BNNCC_CACHE", str(folder))
    with pytest.raises(BuildError, match=r"(?s)is not loaded.*others may write to"):
        library_path()
    assert list(folder.iterdir()) == []


@pytest.fixture
def wheel(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a wheel's library, with one that is the cache's; its path."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    library = folder / Platform.here().library
    shutil.copyfile(library_path(), library)
    digest_path(library).write_text(digest_of(library))
    (folder / prebuilt.STAMP).write_text(stamp(Platform.here()))
    monkeypatch.setattr(prebuilt, "FOLDER", folder)
    return library


def test_the_wheel_s_library_is_taken_before_the_cache_s(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library_path() == wheel
    assert kernels()[-1] == "portable"
    monkeypatch.setenv("BNNCC_RUNTIME", str(shutil.copyfile(wheel, wheel.with_name("other.so"))))
    assert library_path() == wheel.with_name("other.so")


@pytest.mark.parametrize("what", ["other sources", "no stamp", "damaged", "no digest"])
def test_a_wheel_s_library_that_does_not_fit_is_not_taken(wheel: Path, cache: Path, what: str) -> None:
    if what == "damaged":
        wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    elif what == "no digest":
        digest_path(wheel).unlink()
    elif what == "no stamp":
        (wheel.parent / prebuilt.STAMP).unlink()
    else:
        (wheel.parent / prebuilt.STAMP).write_text("0123456789abcdef")
    assert library_path().parent == cache


def test_without_a_compiler_the_wheel_s_library_does_and_without_that_the_error_says_what_to_install(
    wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(importlib.import_module("bnncc.runtime.build"), "zig_folder", lambda: None)
    assert library_path() == wheel
    wheel.unlink()
    message = r"a C\+\+ compiler .*or the package ziglang .*, or a wheel of bnncc that brings it \(this installation of"
    with pytest.raises(BuildError, match=message):
        library_path()
