"""`bnncc run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnncc.cli.options import FILE, preprocessing_options
from bnncc.cli.reporting import json_option, quiet_option, reporter
from bnncc.cli.terminal import say
from bnncc.errors import InputError
from bnncc.system.names import shown

if TYPE_CHECKING:
    from bnncc.data import Dataset
    from bnncc.inference import Model
    from bnncc.ir.arrays import Array


# Of characters: what is longer is no name, and more bytes than a .npz file takes.
LONGEST_NAME = 1000


@click.command("run")
@click.argument("path", metavar="FILE.tflite", type=FILE)
@click.option(
    "--input",
    "inputs",
    type=FILE,
    multiple=True,
    required=True,
    help="A picture, a video, or arrays in a .npy or .npz file; repeat for several.",
)
@click.option("--every", type=click.IntRange(1), default=1, metavar="N", help="Of a video take every Nth frame.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Threads of the interpreter.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many classes to print.")
@click.option("-o", "--output", type=FILE, help="Write all outputs to this .npz file.")
@preprocessing_options
@json_option
@quiet_option
def run_command(
    path: Path,
    inputs: Sequence[Path],
    every: int,
    threads: int,
    top: int,
    output: Path | None,
    given: dict[str, object],
) -> None:
    """Run FILE.tflite in LiteRT, with bnncc's delegate, on your own images.

    Pictures, frames of videos and uint8 arrays go through the preprocessing in the file's metadata; float arrays are
    taken as they are.  --resize, --crop, --interpolation and --exif take the place of the file's own, for pictures of
    another kind.  Prints the classes with the largest logits.
    """
    import numpy as np

    from bnncc.inference import Model, open_input, open_litert
    from bnncc.system.arrays import npz
    from bnncc.system.files import check_writable, keep_apart, write_atomically

    model = Model.read(path)
    model = model.with_preprocessing(given)
    if output is None and model.class_count is None:
        shape = "x".join(map(str, model.file.outputs[0].shape))
        raise InputError(f"{path} yields {shape}, no row of logits: write the outputs to a file, -o OUT.npz")
    if output is not None:
        check_writable(output)
        keep_apart({"-o": output}, (path, *inputs))
    runner = open_litert(model, threads)
    rows: list[list[Array]] = []
    entries: list[dict[str, Any]] = []
    reporter().document = {"file": path, "images": entries}
    try:
        for file in inputs:
            images = open_input(file, model, every)
            for index, batch in _batches(images, model.inputs[0].shape[0]):
                outputs = runner.run([model.options.as_stored(array) for array in batch])
                for row in range(min(len(batch[0]), len(images) - index)):
                    rows.append([array[row] for array in outputs])
                    name = images.name(index + row)
                    classes = [] if model.class_count is None else _classes(model, rows[-1][0], top)
                    entries.append({"name": name, "classes": classes})
                    if classes:
                        _print_classes(name, classes)
    except InputError as error:
        raise InputError(f"--input: {str(error).removeprefix('--data: ')}") from error
    except RuntimeError as error:  # an index that has no row, above all
        raise InputError(f"--input: the file does not take these values: {error}") from error
    if output is not None:
        names = _array_names([tensor.name for tensor in model.file.outputs])
        arrays = {name: np.stack([row[index] for row in rows]) for index, name in enumerate(names)}
        write_atomically(output, npz(arrays))
        reporter().document["output"] = output
        say(f"wrote {output}: the outputs of {len(rows):,} images")


def _array_names(names: Sequence[str]) -> list[str]:
    """What the outputs are called in the .npz file: their names, numbered where one has none or another's."""
    return [
        name if name.isprintable() and 0 < len(name) <= LONGEST_NAME and names.count(name) == 1 else f"output {index}"
        for index, name in enumerate(names)
    ]


def _batches(images: Dataset, size: int) -> Iterator[tuple[int, list[Array]]]:
    """(number of the first image, a batch of `size` filled up with its last image)."""
    from bnncc.data import stack

    for begin in range(0, len(images), size):
        samples = [images.sample(row)[0] for row in range(begin, min(begin + size, len(images)))]
        yield begin, stack(samples, size)


def _classes(model: Model, output: Array, top: int) -> list[dict[str, Any]]:
    """The classes of the largest logits or probabilities; or the class alone, where that is what the file yields."""
    if output.ndim == 0:
        return [{"index": int(output), "name": model.class_name(int(output))}]
    scores = model.scores(output)
    order = (-scores).argsort(kind="stable")[:top].tolist()
    return [{"index": index, "name": model.class_name(index), "score": float(scores[index])} for index in order]


def _print_classes(image: str, classes: Sequence[Mapping[str, Any]]) -> None:
    """One a line."""
    say(shown(image))
    for entry in classes:
        score = f"{entry['score']:.4f}" if "score" in entry else ""
        say(f"{score:>12}  {entry['name']}")
