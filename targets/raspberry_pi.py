"""Raspberry Pi boards.  Cores, counts and clocks: Raspberry Pi Ltd's product documentation, "Processors".

The memory's peak is that of its kind, 32 bits wide: LPDDR2-900 (Pi 3, Zero 2 W), LPDDR4-3200 (Pi 4), LPDDR4X-4267
(Pi 5).
"""

from bnncc.targets.description import CORTEX_A53, CORTEX_A72, CORTEX_A76, Target

# (clock in Hz, bytes per second)
PI_3 = (1.2e9, 3.6e9)
PI_4 = (1.5e9, 12.8e9)
PI_5 = (2.4e9, 17.1e9)
ZERO_2_W = (1.0e9, 3.6e9)

TARGETS = (
    Target("raspberry-pi-3", "Raspberry Pi 3, 64-bit", "aarch64-linux-gnu", CORTEX_A53, 4, *PI_3),
    Target("raspberry-pi-3-32bit", "Raspberry Pi 3, 32-bit", "arm-linux-gnueabihf", CORTEX_A53, 4, *PI_3),
    Target("raspberry-pi-4", "Raspberry Pi 4, 64-bit", "aarch64-linux-gnu", CORTEX_A72, 4, *PI_4),
    Target("raspberry-pi-4-32bit", "Raspberry Pi 4, 32-bit", "arm-linux-gnueabihf", CORTEX_A72, 4, *PI_4),
    Target("raspberry-pi-5", "Raspberry Pi 5, 64-bit", "aarch64-linux-gnu", CORTEX_A76, 4, *PI_5),
    Target("raspberry-pi-zero-2-w", "Raspberry Pi Zero 2 W, 64-bit", "aarch64-linux-gnu", CORTEX_A53, 4, *ZERO_2_W),
)
