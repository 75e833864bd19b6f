"""Raspberry Pi boards.  Cores, counts and clocks: Raspberry Pi Ltd's product documentation, "Processors".

One core's bandwidth is what others measured on boards, not the memory's peak, which one core does not reach:

- Pi 3: `tinymembench` on a Pi 3 B+ copies 1.05 to 1.23 GB/s, so it moves 2.1 to 2.5, and fills memory with 1.5 to 1.8
  (github.com/ThomasKaiser/sbc-bench, Results.md; the memory is the Pi 3 B's, LPDDR2-900).
- Zero 2 W, at 1 GHz: copies 1.3, fills 1.6 (the same).
- Pi 4, at 1.5 GHz: copies 2.5, fills 3.2 to 3.4 (the same); STREAM moves 4.8 to 5.6 (sci-pi.org.uk/bench/stream.html).
- Pi 5: copies 5.6 to 6.2, reads 9.1 to 9.4 (github.com/raspberrypi/firmware/issues/1876).

Interpreters: what pip gives with the Python of Raspberry Pi OS.  64-bit: ai-edge-litert, 2.1.0 on Bullseye (Python
3.9), 2.3.0 on Bookworm (3.11) and Trixie (3.13).  32-bit: tflite-runtime 2.14.0 for Python 3.11 at most, so none on
Trixie, where bnncc's own interpreter runs the file.
"""

from bnncc.targets.costs import Range
from bnncc.targets.description import CORTEX_A53, CORTEX_A72, CORTEX_A76, Core, Target

# (clock in Hz, bytes per second of one core)
PI_3 = (1.2e9, Range(1.5e9, 2.5e9))
PI_4 = (1.5e9, Range(3.2e9, 5.6e9))
PI_5 = (2.4e9, Range(9.1e9, 12.3e9))
ZERO_2_W = (1.0e9, Range(1.6e9, 2.6e9))


def _wide(name: str, title: str, core: Core, hertz: float, bandwidth: Range) -> Target:
    return Target(
        name, f"{title}, 64-bit", "aarch64-linux-gnu", core, 4, hertz, bandwidth, runtimes=("litert-2.1", "litert-2.3")
    )


def _narrow(name: str, title: str, core: Core, hertz: float, bandwidth: Range) -> Target:
    only = "tflite-2.14"
    return Target(name, f"{title}, 32-bit", "arm-linux-gnueabihf", core, 4, hertz, bandwidth, runtimes=(only, only))


TARGETS = (
    _wide("raspberry-pi-3", "Raspberry Pi 3", CORTEX_A53, *PI_3),
    _narrow("raspberry-pi-3-32bit", "Raspberry Pi 3", CORTEX_A53, *PI_3),
    _wide("raspberry-pi-4", "Raspberry Pi 4", CORTEX_A72, *PI_4),
    _narrow("raspberry-pi-4-32bit", "Raspberry Pi 4", CORTEX_A72, *PI_4),
    _wide("raspberry-pi-5", "Raspberry Pi 5", CORTEX_A76, *PI_5),
    _wide("raspberry-pi-zero-2-w", "Raspberry Pi Zero 2 W", CORTEX_A53, *ZERO_2_W),
)
