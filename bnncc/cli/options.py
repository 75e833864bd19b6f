"""Options that several commands take, and what becomes of them.

A command gets a group of options as one object:

    @network_options(click.argument("source", metavar="NETWORK"))      command(network: NetworkSource, …)
    @data_options("Images to check on.")                               command(data: DataOptions, …)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnncc.errors import InputError
from bnncc.system.files import read_whole
from bnncc.system.memory import without_collections

if TYPE_CHECKING:
    from bnncc.data import DataSource, Preprocessing
    from bnncc.frontend import InputSpec, NetworkSource
    from bnncc.inference.runners import Runtime
    from bnncc.ir.arrays import Array

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

FILE = click.Path(path_type=Path)
# Of digits: Python reads no number of thousands of them.
LONGEST_NUMBER = 20
# Of --inputs: more take hours, and prove nothing more.
INPUT_COUNT = click.IntRange(1, 10_000)
# `bnncc.data.preprocessing.PIXELS`, said again because importing it takes PyTorch.
PIXELS = click.Choice(["0..1", "0..255"])


def choice_option(name: str, choices: Sequence[str], text: str) -> Decorator:
    """An option whose value is one of `choices`; the first of them is the default.  text: its help."""
    return click.option(name, type=click.Choice(choices), default=choices[0], show_default=True, help=text)


runtime_option = choice_option(
    "--runtime",
    ("auto", "lce", "litert"),
    "What runs the file: LCE's interpreter, LiteRT with bnncc's delegate, or each that this machine has.",
)


def chosen_runtimes(name: str) -> tuple[Runtime, ...]:
    """What --runtime says.  Raises InputError where it is not there."""
    from bnncc.inference.runners import Runtime, available_runtimes

    if name == "auto":
        return available_runtimes()
    runtime = Runtime(name)
    reason = runtime.why_missing
    if reason is not None:
        raise InputError(f"--runtime: {runtime.title} is not there: {reason}")
    return (runtime,)


# Of a command that takes a file: NETWORK, for `network_options`.
model_option = click.option(
    "--model", "source", required=True, metavar="NETWORK", help="What the file was compiled from."
)


def network_options(source: Decorator) -> Decorator:
    """NETWORK and how it is built: the command's parameter `network`, a NetworkSource.

    source: click's argument or option `source`, which names the network.
    """
    options = (
        source,
        click.option("--weights", type=FILE, help="Checkpoint: a state_dict, or any file with one in it."),
        click.option(
            "--weights-key",
            metavar="KEY[.KEY]",
            help="Where in the checkpoint the weights are, as ema or model.state_dict; else what fits best.",
        ),
        click.option(
            "--strip-prefix",
            "strip_prefixes",
            multiple=True,
            metavar="PREFIX",
            help="What the checkpoint's keys begin with and the network's do not; repeatable.",
        ),
        click.option(
            "--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="Argument of the callable; repeatable."
        ),
        click.option(
            "--input-shape",
            "input_shapes",
            multiple=True,
            metavar="[NAME=]1x3x224x224[:TYPE]",
            help="Shape of an input, NCHW, and its type if not float32 (ids=1x128:int64); repeat for several.",
        ),
        click.option(
            "--input-range",
            "input_ranges",
            multiple=True,
            metavar="[NAME=]LOW:HIGH",
            help="Random values of an input: LOW and up, below HIGH (ids=0:100); repeat for several.",
        ),
        click.option(
            "--allow-partial-weights", is_flag=True, help="Accept missing and unexpected keys in the checkpoint."
        ),
        click.option(
            "--freeze-branches",
            is_flag=True,
            help="Where forward decides in Python by its input, keep for all inputs what the traced one leads to.",
        ),
    )
    return as_one("network", _network_source, options)


def _network_source(
    source: str,
    weights: Path | None,
    weights_key: str | None,
    strip_prefixes: Sequence[str],
    arguments: Sequence[str],
    input_shapes: Sequence[str],
    input_ranges: Sequence[str],
    allow_partial_weights: bool,
    freeze_branches: bool,
) -> NetworkSource:
    from bnncc.frontend import NetworkSource, WeightsChoice, parse_argument

    if weights is None and (weights_key is not None or strip_prefixes):
        raise InputError("--weights-key and --strip-prefix say how to read a checkpoint: give --weights as well")

    parsed = dict(parse_argument(argument) for argument in arguments)
    choice = WeightsChoice(weights_key, tuple(strip_prefixes))
    return NetworkSource(
        source,
        weights,
        parsed,
        tuple(input_shapes),
        tuple(input_ranges),
        allow_partial_weights,
        choice,
        freeze_branches,
    )


@dataclass(frozen=True)
class DataOptions:
    """The user's images, and what becomes of them.

    source: None without --data.  classes: their names, by label.  every: of a video, the first of so many frames.
    """

    source: DataSource | None
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    skip_bad_images: bool
    classes_file: Path | None = None
    every: int = 1

    @property
    def files(self) -> tuple[str, ...]:
        """The names of what is read: the data or the code that returns them, the names of the classes."""
        source = () if self.source is None else self.source.files
        return (*source, *(() if self.classes_file is None else (str(self.classes_file),)))

    def batches(self, specs: Sequence[InputSpec], count: int) -> list[list[Array]]:
        """The first `count` batches for a network with the inputs `specs`, as `Dataset.batches`; none without --data.

        Raises InputError where the data do not fit.
        """
        if self.source is None:
            return []
        return self.source.open(specs, self.preprocessing, self.classes).batches(count, self.skip_bad_images)


def data_options(text: str, *, required: bool = False, skip_bad_images: bool = True) -> Decorator:
    """--data, how pictures become the network's input, class names: the command's parameter `data`, a DataOptions.

    text: the help of --data.  skip_bad_images: whether there is an option for that.
    """
    options: list[Decorator] = [
        click.option("--data", required=required, help=text),
        click.option(
            "--every", type=click.IntRange(1), default=1, metavar="N", help="Of a video take every Nth frame."
        ),
        click.option("--resize", type=click.IntRange(1), metavar="PIXELS", help="Resize pictures: the shorter side."),
        click.option("--crop", metavar="HEIGHT[xWIDTH]", help="Keep the centre of each picture."),
        click.option(
            "--mean", metavar="R,G,B", help="Subtract from uint8 pixels scaled to 0…1, as Normalize(mean, std) does."
        ),
        click.option("--std", metavar="R,G,B", help="Divide by it, behind --mean."),
        click.option(
            "--pixels",
            type=PIXELS,
            help="What pixels become where there is no --mean and --std: scaled to 0…1, or as they are.",
        ),
        choice_option("--interpolation", ("bilinear", "bicubic"), "How --resize computes pixels."),
        choice_option("--exif", ("apply", "ignore"), "Whether pictures are turned as their EXIF orientation says."),
        click.option("--classes", type=FILE, help="Names of the classes, one a line, in the order of the logits."),
    ]
    if skip_bad_images:
        text = "Leave out images that cannot be decoded, and count them."
        options.append(click.option("--skip-bad-images", is_flag=True, help=text))
    return as_one("data", _data, options)


def _data(
    data: str | None,
    every: int,
    resize: int | None,
    crop: str | None,
    mean: str | None,
    std: str | None,
    pixels: str | None,
    interpolation: str,
    exif: str,
    classes: Path | None,
    skip_bad_images: bool = False,
) -> DataOptions:
    from bnncc.data import DataSource, Preprocessing

    return DataOptions(
        None if data is None else DataSource(data, every),
        Preprocessing(
            resize, _size(crop), _numbers("--mean", mean), _numbers("--std", std), interpolation, pixels or "", exif
        ),
        _class_names(classes),
        skip_bad_images,
        classes,
        every,
    )


def _given_preprocessing(
    resize: int | None,
    crop: str | None,
    mean: str | None,
    std: str | None,
    pixels: str | None,
    interpolation: str | None,
    exif: str | None,
) -> dict[str, object]:
    given = {
        "resize": resize,
        "crop": _size(crop),
        "mean": _numbers("--mean", mean) or None,
        "std": _numbers("--std", std) or None,
        "pixels": pixels,
        "interpolation": interpolation,
        "exif": exif,
    }
    return {name: value for name, value in given.items() if value is not None}


def preprocessing_options(command: Command) -> Command:
    """Of a command that takes a file whose metadata may say it: its parameter `given`, the fields of `Preprocessing`
    that were given.
    """
    options = (
        click.option("--resize", type=click.IntRange(1), metavar="PIXELS", help="Resize pictures: the shorter side."),
        click.option("--crop", metavar="HEIGHT[xWIDTH]", help="Keep the centre of each picture."),
        click.option("--mean", metavar="R,G,B", help="As in training, for a file whose metadata do not say."),
        click.option("--std", metavar="R,G,B", help="Goes with --mean."),
        click.option("--pixels", type=PIXELS, help="What pixels become, for a file whose metadata do not say."),
        click.option(
            "--interpolation", type=click.Choice(["bilinear", "bicubic"]), help="How --resize computes pixels."
        ),
        click.option("--exif", type=click.Choice(["apply", "ignore"]), help="Whether EXIF orientation turns pictures."),
    )
    return as_one("given", _given_preprocessing, options)(command)


def require_memory_for(count: int, specs: Sequence[InputSpec]) -> None:
    """Raise InputError where `count` inputs of the network do not fit into memory."""
    from bnncc.system.memory import require_memory

    require_memory(count * sum(spec.size_in_bytes for spec in specs), f"--inputs {count:,}")


def as_one(name: str, make: Callable[..., object], options: Sequence[Decorator]) -> Decorator:
    """A decorator that gives a command these options, and their values as one parameter: what `make` returns for them.

    The parameters of `make` are those of the options.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def called(**values: Any) -> Any:
            own = {key: values.pop(key) for key in inspect.signature(make).parameters if key in values}
            with without_collections():  # it imports PyTorch
                made = make(**own)
            return command(**values, **{name: made})

        decorated: Command = called
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _class_names(path: Path | None) -> tuple[str, ...]:
    """The lines of --classes."""
    if path is None:
        return ()
    try:
        lines = read_whole(path).decode("utf-8-sig").splitlines()  # Windows' editor marks UTF-8
    except InputError as error:
        raise InputError(f"--classes: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--classes: {path} cannot be read: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(set(names)) != len(names) or not names:
        raise InputError(f"--classes: {path} must name every class once, one a line")
    return names


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdecimal() and len(part) < LONGEST_NUMBER and int(part) > 0 for part in parts):
        raise InputError(f"--crop: cannot read {text!r}: write 224, or 224x192 (height x width)")
    return int(parts[0]), int(parts[-1])


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option}: cannot read {text!r}: write numbers with commas, as 0.485,0.456,0.406") from error
