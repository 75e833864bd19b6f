"""Small videos, made by PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

IDENTITY = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
# ISO/IEC 14496-12, 8.3.2: what a phone writes that was held upright, of a sensor that lies.
TURNED = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], ">i4").tobytes()


def write_video(path: Path, frames: np.ndarray, *, turned: bool = False) -> Path:
    """An MPEG-4 video of uint8 frames [count, height, width, 3]; turned: is to be shown turned to the right."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    if turned:
        content = path.read_bytes()
        track = content.index(b"tkhd")
        matrix = content.index(IDENTITY, track)
        path.write_bytes(content[:matrix] + TURNED + content[matrix + len(TURNED) :])
    return path


def steps(count: int, height: int, width: int) -> np.ndarray:
    """Frames of which each is brighter than the one before, and whose left upper quarter is red."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames += np.arange(count, dtype=np.uint8)[:, np.newaxis, np.newaxis, np.newaxis] * np.uint8(200 // count) + 20
    frames[:, : height // 2, : width // 2] = (200, 10, 10)
    return frames
