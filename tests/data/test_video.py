"""The frames of a video as data."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import bnncc.bundle
from bnncc.data import DataSource, Preprocessing
from bnncc.data.video import VideoDataset
from bnncc.errors import InputError
from bnncc.ir.input_spec import InputSpec
from tests.data.videos import steps, write_video
from tests.needs import needs_pyav

DEVICE = Path(bnncc.bundle.__file__).parent / "files" / "raspberry_pi" / "network.py"
SPECS = [InputSpec("x", (1, 3, 24, 32))]
TOLERANCE = 12  # of the lossy format, on flat pixels


@needs_pyav
def test_a_video_is_its_frames_in_their_order_read_in_any_order(tmp_path: Path) -> None:
    frames = steps(7, 24, 32)
    video = DataSource(write_video(tmp_path / "x.MP4", frames)).open(SPECS, Preprocessing())
    assert isinstance(video, VideoDataset)
    assert len(video) == 7
    for row in (0, 1, 6, 3, 3, 0):
        sample = video.read(row)
        assert sample.label is None
        error = sample.inputs[0].transpose(1, 2, 0)[16:] - frames[row, 16:].astype(np.int16)
        assert np.abs(error).max() <= TOLERANCE
    assert video.name(6) == f"{tmp_path / 'x.MP4'}: frame 6"


@needs_pyav
def test_the_first_of_every_few_frames_is_taken(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", steps(7, 24, 32))
    all_frames, some = (DataSource(path, every).open(SPECS, Preprocessing()) for every in (1, 3))
    assert len(some) == 3
    assert some.name(2) == f"{path}: frame 6"
    for row in range(3):
        np.testing.assert_array_equal(some.read(row).inputs[0], all_frames.read(3 * row).inputs[0])
    assert some.fingerprint != all_frames.fingerprint


@needs_pyav
@pytest.mark.parametrize("exif", ["apply", "ignore"])
def test_a_turned_video_s_frames_are_upright_and_those_of_the_device(tmp_path: Path, exif: str) -> None:
    path = write_video(tmp_path / "x.mov", steps(3, 48, 64), turned=True)
    shape = (3, 20, 30) if exif == "ignore" else (3, 30, 20)
    preprocessing = Preprocessing(resize=24, crop=shape[1:], exif=exif)
    video = VideoDataset(path, [InputSpec("x", (1, *shape))], preprocessing, 2)
    red = video.read(0).inputs[0][0].astype(int) - video.read(0).inputs[0][1]
    corners = {(top, left): red[top, left] > 100 for top in (3, -3) for left in (3, -3)}
    assert corners == {corner: corner == ((3, -3) if exif == "apply" else (3, 3)) for corner in corners}

    module = runpy.run_path(str(DEVICE), run_name="network")
    channels_last = (*shape[1:], shape[0])
    found = [
        module["picture_pixels"](frame, "a frame", channels_last, preprocessing.as_json())
        for frame in module["video_frames"](str(path), 2, preprocessing.as_json())
    ]
    assert len(found) == len(video) == 2
    for row, pixels in enumerate(found):
        np.testing.assert_array_equal(pixels.transpose(2, 0, 1), video.read(row).inputs[0])


@needs_pyav
def test_what_is_no_video_is_an_error_here_and_on_the_device(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(InputError, match=r"x\.mp4 cannot be decoded"):
        DataSource(path).open(SPECS, Preprocessing())
    with pytest.raises(SystemExit, match=r"x\.mp4: "):
        next(runpy.run_path(str(DEVICE), run_name="network")["video_frames"](str(path), 1, {}))


def test_without_pyav_it_says_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "x.mp4"
    path.touch()
    with pytest.raises(InputError, match=r"x\.mp4 is a video, which PyAV decodes: pip install 'bnncc\[video\]'"):
        DataSource(path).open(SPECS, Preprocessing())
    with pytest.raises(SystemExit, match=r"pip install 'av>=14\.1'"):
        next(runpy.run_path(str(DEVICE), run_name="network")["video_frames"](str(path), 1, {}))


def test_a_network_that_takes_no_pictures_takes_no_videos(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()
    with pytest.raises(InputError, match="does not take one picture"):
        DataSource(tmp_path / "x.mp4").open([InputSpec("x", (1, 10))], Preprocessing())
