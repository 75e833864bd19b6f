"""Command lines that nobody should type, and parameters that no network can be right with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tests.torture.forked import Place, bnncc, run_forked
from tests.torture.rows import REFUSED, Found, Trial, judge
from tests.torture.subjects import SHAPE, Subjects

# No file is called so; none of them has an end, or can be read.
NO_FILES = ("/dev/zero", "/dev/null", "/proc/self/mem", ".", "gone", "x" * 300, "a/" * 3000, os.fsdecode(b"\xff\xfe"))
VALUES: dict[str, tuple[Sequence[str], ...]] = {
    "compile": (
        ("--seed", "-1"), ("--seed", str(2**32)), ("--inputs", "0"), ("--inputs", "9" * 20), ("--target", "../x"),
        ("--weights-key", "gone"), ("--weights-key", os.fsdecode(b"\xff")), ("--strip-prefix", "gone"),
        ("--arg", "x"), ("--arg", "="), ("--arg", "gone=1"), ("--arg", f"gone={'[' * 10_000}"),
        ("--input-range", "0:0"), ("--input-range", "nan:1"), ("--input-range", "0:inf"), ("--input-range", ":"),
        ("--resize", "0"), ("--resize", "9" * 30), ("--crop", "0"), ("--crop", "8x8x8"), ("--crop", "²"),
        ("--crop", "9" * 20), ("--mean", "nan", "--std", "1"), ("--mean", "1,2"), ("--mean", "0", "--std", "0"),
        ("--mean", "0", "--std", "-1"), ("--mean", "0", "--std", "1e-320"), ("--mean", "1e39", "--std", "1"),
        ("--std", "1"), ("--mean", "x", "--std", "1"), ("--disable-pass", "gone"), ("--disable-pass", "pad-with-ones"),
        ("--data", ""), ("--data", "gone.py:x"), ("--data", "gone:"), ("--padding", "x"), ("--runtime", "x"),
        *((option, name) for option in ("--weights", "--classes", "--data") for name in NO_FILES),
        *(
            ("--input-shape", shape)
            for shape in (
                "1x3x0x8", "0x3x8x8", "1x3x-8x8", "1x3x8x", "x", "", "1x3x8x²", "1" * 5000, "1x3x8x8:float64",
                f"1x3x{10**11}x{10**11}", "1x3x1000000x1000000", f"{10**20}x3x8x8", "y=1x3x8x8", "1x3x8x8x8",
            )
        ),
    ),
    "check": (
        ("--jobs", "0"), ("--jobs", "-1"), ("--dask", "x"), ("--dask", "tcp://"), ("--dask", "file:///etc"),
        ("--layer-inputs", "0"), ("--min-agreement", "nan"), ("--min-agreement", "-1"), ("--min-agreement", "0.999"),
        ("--max-accuracy-drop", "inf"), ("--max-accuracy-drop", ""),
        *((option, name) for option in ("--data", "--baseline") for name in NO_FILES),
    ),
    "run": (
        ("--threads", "0"), ("--threads", "65"), ("--top", "0"), ("--pixels", "0..255"),
        *(("--input", name) for name in NO_FILES),
    ),
    "bench": (
        ("--runs", "0"), ("--runs", "9" * 30), ("--warm-up", "-1"), ("--warm-up", "9" * 30), ("--threads", "0"),
        ("--kernel", "gone"), ("--kernel", ""), ("--kernel", "auto\n"),
    ),
    "bundle": (("--target", "gone"), ("--compiler", "gone"), *(("--data", name) for name in NO_FILES)),
    "deploy": (
        ("--port", "0"), ("--port", "99999"), ("--identity", "/dev/zero"), ("--identity", "-x"), ("--serial", "x"),
        ("--threads", "0"),
    ),
}  # fmt: skip
HOSTS = ("-oProxyCommand=touch x", "a b", "a;b", "host:/x", "", "$(x)", "user@-x", "::1%x y", "a\nb", "@", "user@")
# Of a parameter: the value, the parameter.
PARAMETERS = (
    (float("nan"), "stem.weight"), (float("inf"), "stem.bias"), (float("nan"), "conv1.weight"),
    (float("-inf"), "bn1.weight"), (float("nan"), "bn1.running_mean"), (-1.0, "bn1.running_var"),
    (-1e-3, "bn2.running_var"), (float("inf"), "bn2.running_var"), (float("nan"), "fc.weight"),
    (float("inf"), "fc.bias"),
)  # fmt: skip


def _command(command: str, subjects: Subjects) -> Sequence[object]:
    """A command that is right but for what is put behind it."""
    return {
        "compile": ("compile", *subjects.network, "-o", "made"),
        "check": ("check", subjects["net.tflite"], *subjects.model, "--data", subjects["data.npz"]),
        "run": ("run", subjects["net.tflite"], "--input", subjects["images.npy"], "-o", "made"),
        "bench": ("bench", subjects["net.tflite"], "--runs", 1, "--json", "made"),
        "bundle": ("bundle", subjects["net.tflite"], "-o", "made"),
        "deploy": ("deploy", "host.invalid", subjects["bundle"]),
    }[command]


def _value(command: str, options: Sequence[str], subjects: Subjects, folder: Path) -> Found:
    place = Place.make(folder, PATH=f"{subjects['programs']}:{os.environ['PATH']}")
    outcome = run_forked(bnncc((*_command(command, subjects), *options)), place)
    return outcome, judge(outcome, (REFUSED,))


def _host(host: str, subjects: Subjects, folder: Path) -> Found:
    place = Place.make(folder, PATH=f"{subjects['programs']}:{os.environ['PATH']}")
    outcome = run_forked(bnncc(("deploy", "--", host, subjects["bundle"])), place)
    return outcome, judge(outcome, (REFUSED,))


def _file(command: str, name: str, subjects: Subjects, folder: Path) -> Found:
    """`name` is the .tflite file, or the bundle."""
    first, _, *rest = _command(command, subjects)
    arguments = ("deploy", "host.invalid", name) if command == "deploy" else (first, name, *rest)
    if command == "inspect":
        arguments = ("inspect", name)
    place = Place.make(folder, PATH=f"{subjects['programs']}:{os.environ['PATH']}")
    outcome = run_forked(bnncc(arguments), place)
    return outcome, judge(outcome, (REFUSED,))


def _parameter(value: float, name: str, subjects: Subjects, folder: Path) -> Found:
    """One number of a parameter is `value`; the message names the parameter."""
    place = Place.make(folder)
    state = torch.load(subjects["weights.pth"], weights_only=True)
    state[name].reshape(-1)[np.random.default_rng(0).integers(state[name].numel())] = value
    torch.save(state, folder / "weights.pth")
    network = (f"{subjects['net.py']}:Net", "--input-shape", SHAPE, "--weights", folder / "weights.pth")
    outcome = run_forked(bnncc(("compile", *network, "-o", "made")), place)
    problems = [*judge(outcome, (REFUSED,))]
    if f"'{name}'" not in outcome.output:
        problems.append(f"the message does not name {name}: {outcome.output.strip()[-200:]}")
    return outcome, problems


def trials() -> list[Trial]:
    """All of them."""
    found = []
    for command, values in VALUES.items():
        for options in values:
            name = " ".join(option[:40] for option in options).encode("ascii", "backslashreplace").decode()
            found.append(Trial("option", command, "2", name, partial(_value, command, options)))
    for command in ("run", "bench", "check", "bundle", "deploy"):
        found += [
            Trial("name of the file", command, "2", ascii(name[:40]), partial(_file, command, name))
            for name in NO_FILES
        ]
    found += [Trial("address of a host", "deploy", "2", ascii(host), partial(_host, host)) for host in HOSTS]
    found += [
        Trial(
            "parameter NaN, infinite or a negative variance", "compile", "2, with its name", f"{name} = {value}",
            partial(_parameter, value, name),
        )
        for value, name in PARAMETERS
    ]  # fmt: skip
    return found
