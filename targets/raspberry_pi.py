"""Raspberry Pi boards.  Cores and counts: Raspberry Pi Ltd's product documentation, "Processors"."""

from bnncc.targets.description import Target

TARGETS = (
    Target("raspberry-pi-3", "Raspberry Pi 3, 64-bit", "aarch64-linux-gnu", "cortex-a53", 4),
    Target("raspberry-pi-3-32bit", "Raspberry Pi 3, 32-bit", "arm-linux-gnueabihf", "cortex-a53", 4),
    Target("raspberry-pi-4", "Raspberry Pi 4, 64-bit", "aarch64-linux-gnu", "cortex-a72", 4),
    Target("raspberry-pi-4-32bit", "Raspberry Pi 4, 32-bit", "arm-linux-gnueabihf", "cortex-a72", 4),
    Target("raspberry-pi-5", "Raspberry Pi 5, 64-bit", "aarch64-linux-gnu", "cortex-a76", 4),
    Target("raspberry-pi-zero-2-w", "Raspberry Pi Zero 2 W, 64-bit", "aarch64-linux-gnu", "cortex-a53", 4),
)
