"""Android phones, by ABI: the lowest core that the ABI promises, so that the file runs on all of them.

Clock and memory are assumed: 1.3 GHz; LPDDR3-1600 (64-bit) and LPDDR3-1066 (32-bit), 32 bits wide, of whose peak one
core moves a quarter to a half.

Interpreters: an app brings its own, of any age; TensorFlow Lite 2.14 is the oldest that takes the delegate.
"""

from bnncc.targets.costs import Range
from bnncc.targets.description import CORTEX_A7, CORTEX_A53, Target

TARGETS = (
    Target("android-arm64", "Android, 64-bit", "arm64-v8a", CORTEX_A53, 8, 1.3e9, Range(1.6e9, 3.2e9)),
    Target("android-armv7", "Android, 32-bit", "armeabi-v7a", CORTEX_A7, 4, 1.3e9, Range(1.1e9, 2.1e9)),
)
