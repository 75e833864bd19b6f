"""`bnncc run` and `bnncc bench` as a user meets them; LCE's interpreter says what is right."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click.testing
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import bnncc
from bnncc.cli import main, options
from bnncc.data import Preprocessing
from bnncc.data.preprocessing import PIXELS
from bnncc.inference.runners import LceRunner
from bnncc.inference.timing import take_turns
from bnncc.options import Options
from bnncc.targets.tflite.digest import seal
from bnncc.targets.tflite.reader import TfliteFile
from bnncc.targets.tflite.writer import pack, unpack
from tests.bundle import example
from tests.data.videos import write_video
from tests.needs import needs_lce, needs_pyav


def invoke(*arguments: object) -> click.testing.Result:
    result = click.testing.CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example.write_model(tmp_path_factory.mktemp("file"))


def logits(count: int) -> np.ndarray:
    """[count, 10], by LCE's interpreter."""
    runner = LceRunner(example.content())
    images = example.images()[:count].transpose(0, 2, 3, 1).astype(np.float32)
    return np.concatenate([runner.run([image[np.newaxis]])[0] for image in images])


def test_the_classes_of_a_picture_are_printed_with_their_names(file: Path, tmp_path: Path) -> None:
    picture = example.write_picture(tmp_path / "boot.png")
    result = invoke("run", file, "--input", picture, "--top", 3)
    assert result.exit_code == 0
    (expected,) = logits(1)
    name, *lines = result.output.splitlines()
    assert name == str(picture)
    printed = [line.split(maxsplit=1) for line in lines]
    assert [name for _, name in printed] == [example.CLASSES[i] for i in np.argsort(-expected)[:3]]
    np.testing.assert_allclose([float(value) for value, _ in printed], np.sort(expected)[::-1][:3], atol=1e-3)


@needs_pyav
def test_a_video_s_frames_are_classified(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three frames of each of four images, in black margins: MPEG-4 loses little in that size."""
    shown = np.zeros((12, 112, 112), np.uint8)
    for index in range(4):
        shown[3 * index : 3 * index + 3] = np.kron(example.images()[index, 0], np.ones((4, 4), np.uint8))
    monkeypatch.chdir(tmp_path)  # long names are wrapped
    video = write_video(Path("clothes.mp4"), np.repeat(shown[..., np.newaxis], 3, axis=-1))
    result = invoke("run", file, "--input", video, "--top", 1, "--every", 3)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[::2] == [f"{video}: frame {frame}" for frame in (0, 3, 6, 9)]
    expected = [example.CLASSES[index] for index in logits(4).argmax(axis=1)]
    assert [line.split(maxsplit=1)[1] for line in lines[1::2]] == expected


def test_larger_pictures_are_resized_as_the_metadata_say(file: Path, tmp_path: Path) -> None:
    pixels = np.kron(example.images()[0, 0], np.ones((2, 2), np.uint8))
    Image.fromarray(pixels).save(tmp_path / "large.png")
    result = invoke("run", file, "--input", tmp_path / "large.png", "--top", 1)
    assert result.output.split(maxsplit=2)[2].strip() == "Ankle boot"


def test_the_command_s_own_size_takes_the_place_of_the_file_s(file: Path, tmp_path: Path) -> None:
    """A boot in the middle of a picture that is larger than what the file's own --resize expects."""
    wide = np.zeros((56, 56), np.uint8)
    wide[14:42, 14:42] = example.images()[0, 0]
    Image.fromarray(wide).save(tmp_path / "wide.png")
    result = invoke("run", file, "--input", tmp_path / "wide.png", "--resize", 56, "--crop", 28, "--top", 1)
    assert result.exit_code == 0, result.output
    plain = invoke("run", file, "--input", example.write_picture(tmp_path / "boot.png"), "--top", 1)
    assert result.output.splitlines()[1] == plain.output.splitlines()[1]


@pytest.mark.parametrize("ends", [example.PIXELS_TO_BYTES, example.PIXELS_TO_CLASS])
def test_files_that_take_bytes_print_the_class_of_a_picture(ends: example.Ends, tmp_path: Path) -> None:
    path = example.write_model(tmp_path, ends=ends)
    result = invoke("run", path, "--input", example.write_picture(tmp_path / "boot.png"), "--top", 1)
    assert result.exit_code == 0, result.output
    *score, name = result.output.splitlines()[1].strip().split(maxsplit=1 if ends.head == "softmax" else 0)
    assert name == "Ankle boot"
    assert all(0.9 < float(text) < 1 for text in score)


def test_all_outputs_are_written(file: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=example.images()[:5])
    np.save(tmp_path / "one.npy", example.images()[0])
    np.save(tmp_path / "floats.npy", example.images()[:2].transpose(0, 2, 3, 1).astype(np.float32))
    inputs = [text for name in ("images.npz", "one.npy", "floats.npy") for text in ("--input", tmp_path / name)]
    result = invoke("run", file, *inputs, "-o", tmp_path / "out.npz", "--threads", 2)
    assert result.exit_code == 0
    assert "the outputs of 8 images" in " ".join(result.output.split())
    (found,) = np.load(tmp_path / "out.npz").values()
    expected = logits(5)
    np.testing.assert_allclose(found, np.concatenate([expected, expected[:1], expected[:2]]), atol=1e-4)


def test_a_name_that_standard_output_cannot_say_is_written_and_said_as_escapes(file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", example.images()[0])
    name = os.fsdecode(bytes(tmp_path) + b"/\xff.npz")
    result = invoke("run", file, "--input", tmp_path / "one.npy", "-o", name)
    assert result.exit_code == 0, result.output
    assert "\\udcff.npz: the outputs of 1 images" in " ".join(result.output.split())
    assert Path(name).is_file()


def test_inner_feature_maps_need_an_output_file(tmp_path: Path) -> None:
    parsed = TfliteFile(example.content())
    convolution = next(entry for entry in parsed.operators if entry.name == "LceBconv2d")
    (tmp_path / "part.tflite").write_bytes(parsed.variant(parsed.inputs, convolution.outputs))
    np.save(tmp_path / "one.npy", example.images()[0])
    arguments = ("run", tmp_path / "part.tflite", "--input", tmp_path / "one.npy")
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "no row of logits: write the outputs to a file, -o OUT.npz" in result.output
    assert invoke(*arguments, "-o", tmp_path / "out.npz").exit_code == 0
    (found,) = np.load(tmp_path / "out.npz").values()
    image = example.images()[0].transpose(1, 2, 0).astype(np.float32)
    (expected,) = LceRunner((tmp_path / "part.tflite").read_bytes()).run([image[np.newaxis]])
    np.testing.assert_allclose(found, expected, atol=1e-4)


class Sums(nn.Module):
    """Two sums of an image's channels, in a batch of two."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0].sum((1, 2)), x[:, 1].sum((1, 2))], 1)


def test_pixels_are_normalised_and_batches_filled_up(tmp_path: Path) -> None:
    options = Options(preprocessing=Preprocessing(mean=(0.5, 0.25, 0), std=(0.5, 1, 1)))
    bnncc.compile(Sums(), input_shapes=["2x3x4x4"], options=options).save(tmp_path / "sums.tflite")
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    result = invoke("run", tmp_path / "sums.tflite", "--input", tmp_path / "images.npy", "-o", tmp_path / "out.npz")
    assert result.exit_code == 0
    (found,) = np.load(tmp_path / "out.npz").values()
    expected = (images / 255 - np.array([0.5, 0.25, 0])) / np.array([0.5, 1, 1])
    np.testing.assert_allclose(found, expected.sum((1, 2))[:, :2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.png", None, "gone.png does not exist"),
        ("text.png", b"no picture", "text.png is no picture"),
        ("text.npy", b"no array", "text.npy is no readable .npy file"),
        ("text.npz", b"no archive", "text.npz is no readable .npz file"),
    ],
)
def test_inputs_that_cannot_be_used_are_named(
    file: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = invoke("run", file, "--input", tmp_path / name)
    assert result.exit_code == 2
    assert message in result.output
    assert "--data" not in result.output


def test_arrays_of_another_shape_are_refused(file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((1, 3, 28, 28), np.float32))
    result = invoke("run", file, "--input", tmp_path / "wrong.npy")
    assert result.exit_code == 2
    assert "images of shape (3, 28, 28) do not fit the input" in result.output


@pytest.mark.parametrize("command", [("run", "--input", "x.png"), ("bench",)])
def test_what_is_no_file_of_tensorflow_lite_is_an_error(tmp_path: Path, command: tuple[str, ...]) -> None:
    path = tmp_path / "x.tflite"
    assert "x.tflite does not exist" in invoke(command[0], path, *command[1:]).output
    path.write_bytes(b"something else")
    result = invoke(command[0], path, *command[1:])
    assert result.exit_code == 2
    assert "TFL3 is missing" in result.output


@needs_lce
def test_both_interpreters_are_measured_whole_and_operator_by_operator(file: Path, tmp_path: Path) -> None:
    result = invoke("bench", file, "--runs", 4, "--warm-up", 1, "--threads", 2, "--json", tmp_path / "bench.json")
    assert result.exit_code == 0
    assert "LiteRT with the delegate" in result.output
    assert "LCE's interpreter at its best" in result.output
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert figures["threads"] == 2
    for interpreter in ("litert", "lce"):
        found = figures["interpreters"][interpreter]
        assert len(found["seconds"]) == 4
        assert found["p10_seconds"] <= found["median_seconds"] <= found["p90_seconds"]
    operators = TfliteFile(example.content()).operators
    assert [entry["name"] for entry in figures["operators"]] == [operator.name for operator in operators]
    assert all(set(entry["median_seconds"]) == {"litert", "lce"} for entry in figures["operators"])


def test_a_kernel_can_be_named(file: Path) -> None:
    assert invoke("bench", file, "--runs", 1, "--kernel", "portable").exit_code == 0
    result = invoke("bench", file, "--runs", 1, "--kernel", "mmx")
    assert result.exit_code == 2
    assert "portable, not 'mmx'" in result.output


def test_runs_take_turns_and_those_that_warm_up_do_not_count() -> None:
    calls: list[str] = []
    timings = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 1, 3)
    assert calls == ["a", "b"] * 4
    assert [len(timing.seconds) for timing in timings.values()] == [3, 3]


def test_a_picture_is_refused_where_nobody_said_what_pixels_become(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 28), torch.nn.Flatten())
    path, picture = tmp_path / "net.tflite", example.write_picture(tmp_path / "boot.png")
    bnncc.compile(network, input_shapes=["1x1x28x28"]).save(path)
    result = invoke("run", path, "--input", picture)
    assert result.exit_code == 2
    assert "--pixels 0..1" in result.output
    rows = {}
    for pixels in ("0..1", "0..255"):
        result = invoke("run", path, "--input", picture, "--pixels", pixels, "-o", tmp_path / "out.npz")
        assert result.exit_code == 0, result.output
        (rows[pixels],) = np.load(tmp_path / "out.npz").values()
    with torch.no_grad():
        image = torch.from_numpy(example.images()[:1].astype(np.float32))
        np.testing.assert_allclose(rows["0..255"], network(image).numpy(), rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(rows["0..1"], network(image / 255).numpy(), rtol=1e-4, atol=1e-4)


def test_what_the_metadata_say_of_pixels_is_not_said_again(file: Path, tmp_path: Path) -> None:
    result = invoke("run", file, "--input", example.write_picture(tmp_path / "boot.png"), "--pixels", "0..1")
    assert result.exit_code == 2
    assert "says what pixels become" in result.output


def test_the_command_line_offers_what_preprocessing_knows_of_pixels() -> None:
    assert tuple(options.PIXELS.choices) == PIXELS


def renamed(name: bytes, folder: Path) -> Path:
    """The file with another name of its output, and of a custom operator."""
    model = unpack(example.content())
    graph = model.subgraphs[0]
    graph.tensors[graph.outputs[0]].name = name
    (folder / "renamed.tflite").write_bytes(seal(pack(model)))
    return folder / "renamed.tflite"


@pytest.mark.parametrize("name", [b"file", b"allow_pickle", b"", b"a\0b", b"x" * 70_000])
def test_an_output_of_any_name_is_written(name: bytes, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", example.images()[:1])
    arguments = ("--input", tmp_path / "one.npy", "-o", tmp_path / "out.npz")
    result = invoke("run", renamed(name, tmp_path), *arguments)
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "out.npz") as archive:
        (array,) = archive.values()
        assert archive.files == [name.decode() if name in (b"file", b"allow_pickle") else "output 0"]
    np.testing.assert_allclose(array, logits(1), atol=1e-4)


def test_the_output_is_not_the_file_that_is_run(file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", example.images()[:1])
    before = file.read_bytes()
    for name in (file, tmp_path / "one.npy"):
        result = invoke("run", file, "--input", tmp_path / "one.npy", "-o", name)
        assert result.exit_code == 2
        assert "would be replaced" in result.stderr
    assert invoke("bench", file, "--runs", 1, "--json", file).exit_code == 2
    assert file.read_bytes() == before


def test_an_operators_name_is_no_markup_and_moves_no_cursor(tmp_path: Path) -> None:
    model = unpack(example.content())
    next(code for code in model.operatorCodes if code.customCode).customCode = b"[/b]\x1b[2J"
    (tmp_path / "net.tflite").write_bytes(seal(pack(model)))
    result = invoke("inspect", tmp_path / "net.tflite")
    assert result.exit_code == 0, result.output
    assert "[/b]\\x1b[2J" in result.output
    assert "\x1b" not in result.output
