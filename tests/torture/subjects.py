"""What the commands are given while it is whole: a network, its weights, pictures, files made of them."""

from __future__ import annotations

import gzip
import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from tests.frontend.test_checkpoint_formats import npz, safetensors, saved, tarred
from tests.networks.user_file import load_file, randomize_state
from tests.torture.forked import Outcome, Place, bnncc, run_forked

SHAPE = "1x3x8x8"
CLASSES, IMAGES, MANY = 4, 12, 200
NET = """\
import torch
from torch import nn
from torch.nn import functional as F


class BinaryConv(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(torch.sign(x), torch.sign(self.weight), None, self.stride, self.padding)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = BinaryConv(8, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = BinaryConv(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.bn1(self.conv1(self.stem(x)))
        x = self.bn2(self.conv2(x)) + x
        return self.fc(x.mean((2, 3)))
"""
# Pillow's names of formats.
PICTURES = ("png", "jpeg", "bmp", "gif", "webp", "tiff", "ppm")


class CannotBuildError(Exception):
    """The commands fail on what is whole: nothing below would mean anything."""


@dataclass(frozen=True)
class Subjects:
    """A user's folder: net.py, net.onnx, weights.*, data.npz, images.npy, pictures, net.tflite, resume.npz, bundle."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    @property
    def network(self) -> tuple[object, ...]:
        """For `compile`."""
        return (f"{self['net.py']}:Net", "--weights", self["weights.pth"], "--input-shape", SHAPE)

    @property
    def model(self) -> tuple[object, ...]:
        """For `check` and `verify`."""
        return ("--model", f"{self['net.py']}:Net", "--weights", self["weights.pth"])

    def must(self, place: Place, *arguments: object) -> Outcome:
        """A command that has to end with 0."""
        outcome = run_forked(bnncc(arguments), place, hang=600)
        if outcome.code != 0:
            raise CannotBuildError(f"bnncc {' '.join(map(str, arguments))}: {outcome}")
        return outcome


def make_subjects(folder: Path) -> Subjects:
    """Make them in `folder`."""
    folder.mkdir(parents=True)
    subjects = Subjects(folder)
    subjects["net.py"].write_text(NET)
    network = _network(subjects["net.py"])
    state = network.state_dict()
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    for name, content in {
        "weights.pth": saved(state),
        "weights.old.pth": saved({"model": state, "epoch": 3}, _use_new_zipfile_serialization=False),
        "weights.safetensors": safetensors(arrays),
        "weights.npz": npz(arrays),
        "weights.pkl": pickle.dumps(arrays),
        "weights.pth.gz": gzip.compress(saved(state)),
        "weights.tar": tarred({"net.pth": saved(state)}),
    }.items():
        subjects[name].write_bytes(content)
    _write_data(subjects)
    _write_programs(subjects["programs"])
    torch.onnx.export(
        network, (torch.zeros(1, 3, 8, 8),), subjects["net.onnx"], input_names=["x"], verbose=False, external_data=False
    )
    place = Place.make(folder / "making")
    command = (*subjects.network, "--classes", subjects["classes.txt"], "--pixels", "0..1")
    subjects.must(place, "compile", *command, "-o", subjects["net.tflite"])
    subjects.must(place, "bundle", subjects["net.tflite"], "-o", subjects["bundle"])
    check = ("check", subjects["net.tflite"], *subjects.model, "--data")
    subjects.must(place, *check, subjects["data.npz"], "--resume", subjects["resume.npz"])
    subjects.must(place, *check, subjects["many.npz"], "--json", subjects["many.json"])
    return subjects


def _network(path: Path) -> nn.Module:
    """Net of the file, with random parameters."""
    network: nn.Module = load_file(path).Net()
    randomize_state(network, torch.Generator().manual_seed(0))
    return network.eval()


def _write_data(subjects: Subjects) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 3, 8, 8), np.uint8)
    labels = np.arange(IMAGES) % CLASSES
    subjects["data.npz"].write_bytes(npz({"images": images, "labels": labels}))
    many = rng.integers(0, 256, (MANY, 3, 8, 8), np.uint8)
    subjects["many.npz"].write_bytes(npz({"images": many, "labels": np.arange(MANY) % CLASSES}))
    stream = io.BytesIO()
    np.savez_compressed(stream, images=images.astype(np.float32), labels=labels)
    subjects["data.packed.npz"].write_bytes(stream.getvalue())
    np.save(subjects["images.npy"], images)
    subjects["classes.txt"].write_text("".join(f"class {index}\n" for index in range(CLASSES)))
    for index, kind in enumerate(PICTURES):
        Image.fromarray(images[index].transpose(1, 2, 0)).save(subjects[f"picture.{kind}"], kind)
        folder = subjects[f"pictures/class {index % CLASSES}"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.{kind}").write_bytes(subjects[f"picture.{kind}"].read_bytes())


def _write_programs(folder: Path) -> None:
    """What is called instead of ssh and scp: nothing of a test gets to another machine."""
    folder.mkdir()
    for name in ("ssh", "scp", "adb"):
        (folder / name).write_text("#!/bin/sh\nexit 0\n")
        (folder / name).chmod(0o755)
