"""Read what a checkpoint file holds, whichever format it is in.  The first bytes tell the format, not the name.

    torch.save (zip, and the one before PyTorch 1.6)   torch.load(weights_only=True); with restricted_pickle.py where
                                                        there are other objects beside the tensors
    a TorchScript archive                              its tensors; its code is not loaded
    pickle                                             restricted_pickle.py
    safetensors, NumPy's .npz                          by name
    gzip, bzip2, xz, zip and tar around one of these   unpacked in memory

Nothing of it runs code.  What is no checkpoint at all is named: a Git LFS pointer, a web page, an ONNX model.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from bnncc.errors import BnnccError, InputError, WeightsError
from bnncc.frontend import restricted_pickle
from bnncc.frontend.export import silence
from bnncc.frontend.safetensors_file import looks_like_safetensors, read_safetensors
from bnncc.system.files import read_whole
from bnncc.system.memory import require_memory

# A checkpoint is packed into so many archives at most: each is unpacked in memory.
_DEEPEST = 3
# Formats are told by so many of the first bytes.
_START = 512
_COMPRESSIONS: dict[bytes, tuple[str, Callable[[io.BytesIO], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda packed: gzip.GzipFile(fileobj=packed)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMAFile),
}
# A compressed file is unpacked in pieces of so many bytes: a few of it can stand for more than fits into memory.
_PIECE = 2**24
_HDF5 = b"\x89HDF\r\n\x1a\n"
# Names of files that hold weights, where a message or an archive has to choose.
WEIGHT_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".pkl", ".npz", ".tar")
_SAVE_AGAIN = "Save the weights again: torch.save(network.state_dict(), path)"


@dataclass
class CheckpointContent:
    """What a file holds.

    content: mappings, sequences, tensors, `Placeholder`s and `NumPyArray`s.  notes: what the user should know of the
    format, one sentence each.
    """

    content: Any
    notes: list[str] = field(default_factory=list)


def read_checkpoint(path: Path) -> CheckpointContent:
    """Raises WeightsError, which says what the file is instead."""
    try:
        if path.is_dir():
            raise WeightsError(_describe_directory(path))
        content = read_whole(path)
    except WeightsError:
        raise
    except (InputError, OSError) as error:
        raise WeightsError(str(error)) from error
    try:
        return _read(content, str(path), _DEEPEST)
    except BnnccError:
        raise
    except Exception as error:  # what zipfile, tarfile, pickle and NumPy make of damaged bytes is of many types
        raise _damaged(str(path), error) from error


def _read(content: bytes, name: str, depth: int) -> CheckpointContent:
    start = content[:_START]
    _refuse_what_is_no_checkpoint(start, name)
    for magic, (compression, opened) in _COMPRESSIONS.items():
        if start.startswith(magic):
            try:
                with opened(io.BytesIO(content)) as stream:
                    inner = _unpack(stream, name)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise WeightsError(f"{name} is {compression}-compressed and damaged: {error}") from error
            return _unpacked(inner, name, f"{name} is {compression}-compressed", depth)
    if looks_like_safetensors(start):
        return CheckpointContent(read_safetensors(content, name))
    if start.startswith(b"PK\x03\x04"):
        return _read_zip(content, name, depth)
    if _is_tar(content):
        return _read_tar(content, name, depth)
    return _read_pickle(content, name)


def _unpack(stream: Any, name: str) -> bytes:
    """All that a compressed stream holds.  Raises InputError where that is more than fits into memory."""
    inner = bytearray()
    while piece := stream.read(_PIECE):
        inner += piece
        require_memory(len(inner), f"{name}, unpacked,")
    return bytes(inner)


def _unpacked(content: bytes, name: str, note: str, depth: int) -> CheckpointContent:
    if depth == 0:
        raise WeightsError(f"{name} is an archive in archives; unpack it")
    found = _read(content, name, depth - 1)
    return CheckpointContent(found.content, [note, *found.notes])


def mistaken_for(content: bytes) -> str | None:
    """What a file is that was to hold a network or its weights, where a download went wrong; None otherwise."""
    if not content:
        return "empty; download or save it again"
    text = content[:_START].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return (
            "a web page (HTML): the download gave a page that asks for a login or a confirmation. "
            "Download the file itself"
        )
    return None


def _refuse_what_is_no_checkpoint(start: bytes, name: str) -> None:
    mistaken = mistaken_for(start)
    if mistaken is not None:
        raise WeightsError(f"{name} is {mistaken}")
    if start.startswith(_HDF5):
        raise WeightsError(f"{name} is an HDF5 file, as Keras writes them, not a checkpoint of PyTorch")
    if start[4:8] == b"TFL3":
        raise WeightsError(f"{name} is a TensorFlow Lite file, not a checkpoint of PyTorch")
    if start.startswith(b"\x08") and b"\x12" in start[:4]:
        raise WeightsError(f"{name} looks like an ONNX model: give it as NETWORK, under a name that ends in .onnx")
    if start.lstrip().startswith((b"{", b"[")) and not looks_like_safetensors(start):
        raise WeightsError(f"{name} is a text file (JSON), not a checkpoint: name the file with the tensors")


def _describe_directory(path: Path) -> str:
    names = sorted(entry.name for entry in path.iterdir())
    if ".metadata" in names:
        return (
            f"{path} is a directory of torch.distributed.checkpoint: make one file of it with "
            "torch.distributed.checkpoint.format_utils.dcp_to_torch_save"
        )
    if {"data.pkl", "data"} <= set(names):
        return f"{path} is an unpacked checkpoint (data.pkl, data/): give the file that torch.save wrote"
    inside = [name for name in names if name.endswith(WEIGHT_SUFFIXES)]
    return f"{path} is a directory; name a file" + (f" in it: {_few(inside)}" if inside else "")


def _is_tar(content: bytes) -> bool:
    """A .pth.tar is most often no tar, only called so."""
    return content[257:262] == b"ustar"


def _read_tar(content: bytes, name: str, depth: int) -> CheckpointContent:
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            members = {member.name: member for member in archive.getmembers() if member.isfile()}
            if {"pickle", "storages", "tensors"} <= set(members):
                raise WeightsError(
                    f"{name} was written by PyTorch 0.1, whose format bnncc does not read. {_SAVE_AGAIN}"
                )
            inner = _only(list(members), name, "tar archive")
            stream = archive.extractfile(members[inner])
            assert stream is not None
            data = stream.read()
    except tarfile.TarError as error:
        raise WeightsError(f"{name} is a damaged tar archive: {error}") from error
    return _unpacked(data, f"{name}/{inner}", f"{name} is a tar archive; read {inner} in it", depth)


def _only(members: Sequence[str], name: str, kind: str) -> str:
    """The one checkpoint among the members of an archive."""
    members = [member for member in members if not PurePosixPath(member).name.startswith(".")]
    weights = [member for member in members if member.endswith(WEIGHT_SUFFIXES)] or members
    if len(weights) != 1:
        raise WeightsError(f"{name} is a {kind} with {_few(weights)}: unpack it and name one of them")
    return weights[0]


def _read_zip(content: bytes, name: str, depth: int) -> CheckpointContent:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            require_memory(sum(member.file_size for member in archive.infolist()), f"{name}, unpacked,")
            members = [member for member in archive.namelist() if not member.endswith("/")]
            # torch.save puts everything below one folder, named after the file.
            inner = {member.partition("/")[2] for member in members}
            if "constants.pkl" in inner and "data.pkl" in inner:
                return _read_torchscript(archive, name)
            if "data.pkl" in inner:
                return _read_pickle(content, name)
            if members and all(member.endswith(".npy") for member in members):
                return CheckpointContent(_read_npz(content, name))
            if any(member.startswith("models/") or "/models/" in member for member in members):
                raise WeightsError(f"{name} is a program of torch.export (.pt2), not a checkpoint. {_SAVE_AGAIN}")
            chosen = _only(members, name, "zip archive")
            data = archive.read(chosen)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(name, error) from error
    return _unpacked(data, f"{name}/{chosen}", f"{name} is a zip archive; read {chosen} in it", depth)


def _read_npz(content: bytes, name: str) -> dict[str, Any]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except Exception as error:  # zipfile, zlib and NumPy raise errors of many types
        raise WeightsError(f"{name} is a NumPy archive that cannot be read: {error}") from error


def _read_torchscript(archive: zipfile.ZipFile, name: str) -> CheckpointContent:
    """The tensors of a scripted or traced module.

    Without its constants and code the archive is one of torch.save's; torch.jit.load would run its __setstate__.
    """
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as stripped:
        for member in archive.namelist():
            if not member.endswith("/constants.pkl") and "/code/" not in member:
                stripped.writestr(member, archive.read(member))
    content = _load(plain.getvalue(), name)
    return CheckpointContent(content, [f"{name} is a TorchScript archive: its tensors are taken, its code is not"])


def _read_pickle(content: bytes, name: str) -> CheckpointContent:
    try:
        with silence():
            return CheckpointContent(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except Exception:  # Other objects beside the tensors, a plain pickle, or no whole file: the reader below tells.
        return CheckpointContent(_load(content, name))


def _load(content: bytes, name: str) -> Any:
    """With placeholders for what is neither a tensor, an array nor a plain container."""
    is_zip = content.startswith(b"PK\x03\x04")
    failure: Exception | None = None
    for encoding in ("utf-8", "latin1"):  # Python 2 pickled bytes as str.
        with silence():
            try:
                return torch.load(
                    io.BytesIO(content),
                    map_location="cpu",
                    pickle_module=restricted_pickle,
                    weights_only=False,  # which is about Python's own pickle module
                    encoding=encoding,
                )
            except Exception as error:
                failure = error
        if not is_zip:
            with contextlib.suppress(Exception):
                found = restricted_pickle.load(io.BytesIO(content), encoding=encoding)
                if found != torch.serialization.MAGIC_NUMBER:  # which begins PyTorch's own files before 1.6
                    return found
    assert failure is not None
    raise _damaged(name, failure) from failure


def _damaged(name: str, error: Exception) -> WeightsError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, pickle.UnpicklingError | EOFError):
        reason = f"{type(error).__name__}: {reason}"
    return WeightsError(
        f"{name} cannot be read ({reason}). It is truncated or damaged, or is no checkpoint; download or save it again"
    )


def _few(names: Sequence[str]) -> str:
    listed = 8
    return ", ".join(names[:listed]) + (f" and {len(names) - listed} more" if len(names) > listed else "") or "no files"
