"""Writes a bundle: the folder with all that a device needs to run a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bnncc._version import __version__
from bnncc.bundle.android import write_android
from bnncc.bundle.android_toolchain import ABIS
from bnncc.bundle.check_data import make_check_data
from bnncc.bundle.manifest import MANIFEST, write_manifest
from bnncc.bundle.raspberry_pi import proven, write_raspberry_pi
from bnncc.errors import InputError
from bnncc.inference import Model
from bnncc.system.files import check_writable
from bnncc.targets.description import Target
from bnncc.targets.released import span_text
from bnncc.targets.tflite.runtimes import beyond, needs


def write_bundle(
    model: Model,
    target: Target,
    output: Path,
    *,
    compiler: str = "zig",
    data: str | None = None,
    force: bool = False,
) -> None:
    """Make the folder `output`, whole or not at all.

    compiler: zig, debian or ndk.  data: images for the device's check, as `DataSource` takes them; random ones without.
    force: an older bundle in `output` is replaced.

    Raises InputError where the folder cannot be made or the file takes something else than one image; BuildError of
    the compiler.
    """
    _check_output(output, force)
    if len(model.inputs) != 1:
        raise InputError(f"{model.path} takes {len(model.inputs)} inputs; the runner of a bundle feeds one")
    if not (model.inputs[0].is_float or model.inputs[0].is_bytes):
        raise InputError(f"{model.path} takes {model.inputs[0].dtype}; the runner of a bundle feeds images")
    _check_operators(model, target)
    with _temporary_folder(output) as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        _write_common(model, target, folder)
        check = make_check_data(model, data)
        if target.abi in ABIS:
            write_android(model, target, compiler, check, folder)
        else:
            write_raspberry_pi(model, target, compiler, check, folder)
        write_manifest(folder, _settings(model, target))
        _put(folder, output, Path(temporary) / "old")


@contextmanager
def _temporary_folder(output: Path) -> Iterator[str]:
    """A folder beside `output`, gone afterwards.  Raises InputError where the disk is full or the like."""
    try:
        with tempfile.TemporaryDirectory(prefix=".bnncc-", dir=output.absolute().parent) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}; nothing was left there") from error


def _put(folder: Path, output: Path, old: Path) -> None:
    """Rename `folder` to `output`; what is there goes to `old`, and comes back where that fails."""
    try:
        if output.exists():
            output.rename(old)
        folder.rename(output)
    except OSError as error:
        if old.exists():
            old.rename(output)
        raise InputError(f"{output} cannot be written: {error.strerror}") from error


def _check_output(output: Path, force: bool) -> None:
    try:
        if output.is_symlink() or (output.exists() and not output.is_dir()):
            raise InputError(f"{output} is there already and no folder; name a folder")
        is_used = output.is_dir() and any(output.iterdir())
    except (OSError, ValueError) as error:
        raise InputError(f"{output} cannot be written: {error}") from error
    if is_used and not force:
        raise InputError(f"{output} is there already and not empty; --force replaces a bundle")
    if is_used and not (output / MANIFEST).is_file():
        raise InputError(f"{output} is no bundle: --force replaces nothing else")
    # As every other thing that is written: its folder is there, it may be written to, and takes the name.
    check_writable(output.absolute() / MANIFEST if output.is_dir() else output.absolute())


def _check_operators(model: Model, target: Target) -> None:
    """Raise InputError for what an interpreter that may be the device's computes wrongly without a word."""
    missed = beyond(needs(model.file), *target.runtimes)
    if missed:
        lines = [f"  operator {need.index} {need}" for need in missed]
        raise InputError(
            f"{model.path} is not right on the interpreters that {target.name} may have, {span_text(target.runtimes)}; "
            "compile the network for that target:\n" + "\n".join(lines)
        )


def _write_common(model: Model, target: Target, folder: Path) -> None:
    """The model, and what its metadata say."""
    (folder / "model.tflite").write_bytes(model.content)
    if model.classes:
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in model.classes), encoding="utf-8")


def _settings(model: Model, target: Target) -> dict[str, Any]:
    """What the manifest says beside the list of files."""
    return {
        "bnncc": __version__,
        "target": target.name,
        "abi": target.abi,
        "input_layout": "NHWC" if model.options.channels_last else "NCHW",
        "input_type": model.inputs[0].dtype,
        "head": model.options.head.value,
        "preprocessing": model.preprocessing.as_json(),
        **({} if target.abi in ABIS else {"proven": proven(target)}),
    }
