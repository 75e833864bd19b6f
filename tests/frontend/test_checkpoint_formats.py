import argparse
import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bnncc.errors import WeightsError
from bnncc.frontend.checkpoint import load_weights, state_digest


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    made(torch.randn(4, 1, 5, 5))
    return made


def loads(path: Path) -> list[str]:
    """The warnings; the weights are those of `network()`."""
    fresh = network(1)
    warnings = load_weights(fresh, path)
    assert state_digest(fresh) == state_digest(network())
    return warnings


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    return {key: value.numpy() for key, value in network().state_dict().items()}


def safetensors(tensors: dict[str, np.ndarray[Any, Any]], indent: int | None = None) -> bytes:
    names = {"float32": "F32", "int64": "I64", "float16": "F16"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for key, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[key] = {"dtype": names[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header, indent=indent).encode()
    return len(text).to_bytes(8, "little") + text + data


def npz(tensors: dict[str, np.ndarray[Any, Any]]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **tensors)
    return stream.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def script() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(network().eval()), stream)
    return stream.getvalue()


STATE = network().state_dict()
FORMATS: dict[str, tuple[Callable[[], bytes], str]] = {
    "zip of torch.save": (lambda: saved(STATE), ""),
    "torch.save before 1.6": (lambda: saved(STATE, _use_new_zipfile_serialization=False), ""),
    "pickle protocol 4": (lambda: saved(STATE, pickle_protocol=4), ""),
    "before 1.6 with other objects": (
        lambda: saved({"net": STATE, "o": argparse.Namespace(a=Path("b"))}, _use_new_zipfile_serialization=False),
        "",
    ),
    "NumPy arrays in torch.save": (lambda: saved(arrays()), ""),
    "pickled NumPy arrays": (lambda: pickle.dumps({"model": arrays(), "__author__": "x"}), ""),
    "pickled NumPy arrays, protocol 2": (lambda: pickle.dumps(arrays(), 2), ""),
    "pickled NumPy arrays, protocol 5": (lambda: pickle.dumps(arrays(), 5), ""),
    "arrays of the other byte order": (
        lambda: pickle.dumps({key: value.astype(value.dtype.newbyteorder(">")) for key, value in arrays().items()}),
        "",
    ),
    "pickled tensors": (lambda: pickle.dumps({"model": STATE, "args": argparse.Namespace(a=1)}), ""),
    "pickled tensors, protocol 2": (lambda: pickle.dumps(STATE, 2), ""),
    "npz": (lambda: npz(arrays()), ""),
    "safetensors": (lambda: safetensors(arrays()), ""),
    "gzip": (lambda: gzip.compress(saved(STATE)), "gzip-compressed"),
    "bzip2": (lambda: bz2.compress(saved(STATE)), "bzip2-compressed"),
    "xz": (lambda: lzma.compress(saved(STATE)), "xz-compressed"),
    "zip around it": (lambda: zipped({"out/net.pth": saved(STATE), "readme.txt": b"x"}), "read out/net.pth in it"),
    "tar around it": (lambda: tarred({"net.pth": saved(STATE), "log.txt": b"x"}), "read net.pth in it"),
    "tar.gz around it": (lambda: tarred({"net.pth": saved(STATE)}, "w:gz"), "gzip-compressed"),
    "TorchScript": (script, "TorchScript archive: its tensors are taken, its code is not"),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors", "weights"])
def test_a_checkpoint_loads_in_every_format_under_any_name(tmp_path: Path, kind: str, name: str) -> None:
    make, note = FORMATS[kind]
    (tmp_path / name).write_bytes(make())
    warnings = loads(tmp_path / name)
    if note:
        assert note in warnings[0]
    else:
        assert warnings == []


REFUSED: dict[str, tuple[bytes, str]] = {
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n", "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html><title>Google Drive</title>", r"web page \(HTML\)"),
    "empty": (b"", "is empty"),
    "text": (b"not a checkpoint", "cannot be read"),
    "JSON": (b'{"weight_map": {}}', "JSON"),
    "HDF5": (b"\x89HDF\r\n\x1a\n\0\0", "HDF5"),
    "truncated": (saved(STATE)[:-100], r"truncated"),
    "truncated in the middle": (saved(STATE)[:700], r"truncated"),
    "truncated, before 1.6": (saved(STATE, _use_new_zipfile_serialization=False)[:-50], "truncated"),
    "truncated safetensors": (safetensors(arrays())[:-4], "ends within its tensors"),
    "truncated safetensors header": (safetensors(arrays())[:40], "header is cut off"),
    "truncated gzip": (gzip.compress(saved(STATE))[:-30], "gzip-compressed and damaged"),
    "safetensors with wrong bounds": (safetensors(arrays()).replace(b"[0, 108]", b"[0, 104]"), "no F32 of"),
    "two checkpoints in a tar": (tarred({"a.pth": b"x", "b.pth": b"y"}), "a.pth, b.pth: unpack it"),
    "arrays of objects": (saved({"a": np.array([argparse.Namespace()], dtype=object)}), "left out|no key in common"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, kind: str) -> None:
    content, message = REFUSED[kind]
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_weights(network(), tmp_path / "weights.pt")


@pytest.mark.parametrize("size", range(0, 3000, 61))
def test_a_file_cut_anywhere_is_refused_without_a_traceback(tmp_path: Path, size: int) -> None:
    (tmp_path / "weights.pt").write_bytes(saved({"net": network(), "rest": Path("x")})[:size])
    with pytest.raises(WeightsError):
        load_weights(network(), tmp_path / "weights.pt")


def test_a_directory_is_refused_with_the_checkpoints_in_it(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(saved(STATE))
    with pytest.raises(WeightsError, match=r"is a directory; name a file in it: net\.pth"):
        load_weights(network(), tmp_path)


class Marker:
    """Leaves a file behind when its pickle is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({self.path!r}, 'w').close()",)


class Storage:
    """What a pickle holds in place of a tensor's storage."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (self.content,)


class Attribute:
    """Sets an attribute of a function of PyTorch when its pickle is loaded."""

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (), (None, {"changed": True})


@pytest.mark.parametrize("is_zip", [True, False])
def test_nothing_in_a_checkpoint_is_called(tmp_path: Path, is_zip: bool) -> None:
    content = {"state_dict": STATE, "hook": Marker(str(tmp_path / "ran"))}
    (tmp_path / "weights.pt").write_bytes(saved(content, _use_new_zipfile_serialization=is_zip))
    assert loads(tmp_path / "weights.pt") == []
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"state_dict": arrays(), "hook": content["hook"]}))
    assert loads(tmp_path / "weights.pkl") == []
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["pickle", "zip", "before 1.6", "TorchScript"])
def test_nothing_in_a_pickled_storage_is_called(tmp_path: Path, form: str) -> None:
    marker = Marker(str(tmp_path / "ran"))
    content = {
        "pickle": lambda: pickle.dumps(marker),
        "zip": lambda: saved(marker),
        "before 1.6": lambda: saved(marker, _use_new_zipfile_serialization=False),
        "TorchScript": script,
    }[form]()
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"state_dict": STATE, "rest": Storage(content)}))
    if form == "before 1.6":
        assert loads(tmp_path / "weights.pkl") == []
    else:
        with pytest.raises(WeightsError):
            load_weights(network(), tmp_path / "weights.pkl")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_cannot_set_attributes_of_what_it_names(tmp_path: Path) -> None:
    class Names(pickle.Unpickler):
        pass

    # GLOBAL torch._utils _rebuild_tensor_v2, an empty tuple's state of slots, BUILD.
    content = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x07\x00\x00\x00changed\x88s\x86b."
    Names(io.BytesIO(content)).load()
    assert vars(torch._utils._rebuild_tensor_v2).pop("changed")
    (tmp_path / "weights.pkl").write_bytes(content)
    with pytest.raises(WeightsError):
        load_weights(network(), tmp_path / "weights.pkl")
    assert "changed" not in vars(torch._utils._rebuild_tensor_v2)


class Custom(nn.Module):
    """A module whose class refuses to be built from a pickle."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("the checkpoint's code ran")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"model": m, "epoch": 3}], ids=["alone", "in a dict"])
def test_the_parameters_of_a_pickled_module_are_read_without_its_class(tmp_path: Path, wrap: Any) -> None:
    trained, fresh = Custom(), Custom()
    fresh.body = network(1)
    (tmp_path / "weights.pt").write_bytes(saved(wrap(trained)))
    (warning,) = load_weights(fresh, tmp_path / "weights.pt")
    assert "pickled module: its parameters and buffers are taken, its code is not run" in warning
    assert state_digest(fresh) == state_digest(trained)


class Config(OrderedDict[str, Any]):
    """A kind of dict, as configuration libraries have them."""


class Items(list[Any]):
    """A kind of list."""


def test_objects_of_any_class_beside_the_weights_are_no_trouble(tmp_path: Path) -> None:
    content = {
        "config": Config(lr=0.1, nested=Config(a=1)),
        "items": Items([1, 2]),
        "path": Path("a/b"),
        "best": np.float64(0.5),
        "array": np.zeros(3),
        "dtype": torch.bfloat16,
        "error": ValueError("x"),
        "function": network,
        "device": torch.device("cuda:0"),
        "generator": torch.get_rng_state(),
        "state_dict": STATE,
    }
    (tmp_path / "weights.pt").write_bytes(saved(content))
    assert loads(tmp_path / "weights.pt") == []


@pytest.mark.parametrize("kind", [Config, Items])
def test_a_state_dict_may_be_a_kind_of_dict(tmp_path: Path, kind: type) -> None:
    content = Config(STATE) if kind is Config else Items([Config(STATE)])
    (tmp_path / "weights.pt").write_bytes(saved(content))
    assert loads(tmp_path / "weights.pt") == []


class _Module:
    """Pickled as a module is."""

    def __init__(self, children: dict[str, object]) -> None:
        self._modules, self._parameters, self._buffers = children, {"weight": np.zeros(3, np.float32)}, {}


def test_dicts_that_share_others_are_refused_where_their_names_have_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60^6 names in a file of a few kilobytes."""
    monkeypatch.setattr("bnncc.frontend.state_dicts._MOST_ENTRIES", 20_000)
    tree: dict[str, object] = {str(index): np.zeros(3, np.float32) for index in range(60)}
    for _ in range(6):
        tree = {str(index): tree for index in range(60)}
    module = _Module({})
    for _ in range(40):
        module = _Module({"a": module, "b": module})
    for content in (tree, module):
        (tmp_path / "net.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(WeightsError, match="no end of names"):
            load_weights(nn.Linear(2, 2), tmp_path / "net.pkl")
