"""The converter's process: `python -m bnncc.baseline.convert DIRECTORY`.

Reads DIRECTORY/network.onnx, which onnx2tf rewrites in place, and leaves DIRECTORY/converted/network_float32.tflite.
onnx2tf loads a calibration file, which only quantization uses, from its working directory, or else from the internet.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import numpy as np

SOURCE = Path("network.onnx")
RESULT = Path("converted") / f"{SOURCE.stem}_float32.tflite"
CALIBRATION_FILE = "calibration_image_sample_data_20x128x128x3_float32.npy"
CALIBRATION_SHAPE = (20, 128, 128, 3)


def main(directory: str) -> None:
    """Convert in `directory`."""
    os.chdir(directory)
    np.save(CALIBRATION_FILE, np.zeros(CALIBRATION_SHAPE, np.float32))
    importlib.import_module("onnx2tf").convert(
        input_onnx_file_path=str(SOURCE),
        output_folder_path=str(RESULT.parent),
        non_verbose=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
