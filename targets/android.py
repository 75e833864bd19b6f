"""Android phones, by ABI: the lowest core that the ABI promises, so that the file runs on all of them."""

from bnncc.targets.description import Target

TARGETS = (
    Target("android-arm64", "Android, 64-bit", "arm64-v8a", "cortex-a53", 8),
    Target("android-armv7", "Android, 32-bit", "armeabi-v7a", "cortex-a7", 4),
)
