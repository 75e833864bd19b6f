"""Options that several commands take, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bnncc.errors import InputError

if TYPE_CHECKING:
    from bnncc.data import Preprocessing
    from bnncc.frontend import NetworkSource
    from bnncc.runners import Runtime

Command = TypeVar("Command", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)


def network_options(command: Command) -> Command:
    """--weights, --arg, --input-shape, --allow-partial-weights: how the network is built."""
    options = (
        click.option("--weights", type=FILE, help="Checkpoint: a state_dict, or one under state_dict/model."),
        click.option(
            "--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="Argument of the callable; repeatable."
        ),
        click.option(
            "--input-shape",
            "input_shapes",
            multiple=True,
            metavar="[NAME=]1x3x224x224",
            help="Shape of an input, NCHW; repeat for several.",
        ),
        click.option(
            "--allow-partial-weights", is_flag=True, help="Accept missing and unexpected keys in the checkpoint."
        ),
    )
    return _apply(command, options)


def network_source(
    source: str, weights: Path | None, arguments: Sequence[str], input_shapes: Sequence[str], allow_partial: bool
) -> NetworkSource:
    """The network that these options name."""
    from bnncc.frontend import NetworkSource, parse_argument

    parsed = dict(parse_argument(argument) for argument in arguments)
    return NetworkSource(source, weights, parsed, tuple(input_shapes), allow_partial)


def preprocessing_options(command: Command) -> Command:
    """--resize, --crop, --mean, --std, --interpolation, --classes: kept in the file's metadata."""
    options = (
        click.option("--resize", type=click.IntRange(1), metavar="PIXELS", help="Resize pictures: the shorter side."),
        click.option("--crop", metavar="HEIGHT[xWIDTH]", help="Keep the centre of each picture."),
        click.option(
            "--mean", metavar="R,G,B", help="Subtract from uint8 pixels scaled to 0…1, as Normalize(mean, std) does."
        ),
        click.option("--std", metavar="R,G,B", help="Divide by it, behind --mean."),
        click.option(
            "--interpolation",
            type=click.Choice(["bilinear", "bicubic"]),
            default="bilinear",
            show_default=True,
            help="How --resize computes pixels.",
        ),
        click.option("--classes", type=FILE, help="Names of the classes, one a line, in the order of the logits."),
    )
    return _apply(command, options)


def preprocessing(
    resize: int | None, crop: str | None, mean: str | None, std: str | None, interpolation: str
) -> Preprocessing:
    """What these options say.  Raises InputError where one cannot be read."""
    from bnncc.data import Preprocessing

    return Preprocessing(resize, _size(crop), _numbers("--mean", mean), _numbers("--std", std), interpolation)


def runtime_option(command: Command) -> Command:
    """--runtime: what runs the file."""
    option = click.option(
        "--runtime",
        type=click.Choice(["auto", "lce", "litert"]),
        default="auto",
        show_default=True,
        help="What runs the file: LCE's interpreter, LiteRT with bnncc's delegate, or each that this machine has.",
    )
    return option(command)


def chosen_runtimes(name: str) -> tuple[Runtime, ...]:
    """What --runtime says.  Raises InputError where it is not there."""
    from bnncc.runners import Runtime, available_runtimes

    if name == "auto":
        found = available_runtimes()
        if not found:
            raise InputError("--runtime: neither LCE's interpreter nor a compiler for bnncc's delegate is installed")
        return found
    runtime = Runtime(name)
    if not runtime.is_available:
        raise InputError(f"--runtime: {runtime.title} is not there")
    return (runtime,)


def class_names(path: Path | None) -> tuple[str, ...]:
    """The lines of --classes."""
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--classes: {path} cannot be read: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(set(names)) != len(names) or not names:
        raise InputError(f"--classes: {path} must name every class once, one a line")
    return names


def _apply(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--crop: cannot read {text!r}: write 224, or 224x192 (height x width)")
    return int(parts[0]), int(parts[-1])


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option}: cannot read {text!r}: write numbers with commas, as 0.485,0.456,0.406") from error
