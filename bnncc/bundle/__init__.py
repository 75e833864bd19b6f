"""What a device needs to run a compiled file, in one folder.  In reading order:

- `model.py`         a .tflite file as its user meets it; `inputs.py`: the images that it is given
- `timing.py`        how long it takes on this machine
- `bundle.py`        writes the folder
- `check_data.py`    the images and outputs with which the device compares itself
- `raspberry_pi.py`  what is special to a Raspberry Pi; `files/raspberry_pi/` goes there as it is
- `toolchain.py`     compiles the delegate for it
- `android.py`       what is special to Android; `files/android/` is compiled for it by `android_toolchain.py`
"""

from bnncc.bundle.bundle import write_bundle
from bnncc.bundle.model import Model

__all__ = ["Model", "write_bundle"]
