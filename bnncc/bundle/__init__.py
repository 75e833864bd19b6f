"""What a device needs to run a compiled file, in one folder.  In reading order:

- `bundle.py`        writes the folder
- `manifest.py`      which files belong to it
- `check_data.py`    the images and outputs with which the device compares itself
- `raspberry_pi.py`  what is special to a Raspberry Pi; `files/raspberry_pi/` goes there as it is
- `toolchain.py`     compiles the delegate for it
- `android.py`       what is special to Android; `files/android/` is compiled for it by `android_toolchain.py`
"""

from bnncc.bundle.bundle import write_bundle

__all__ = ["write_bundle"]
