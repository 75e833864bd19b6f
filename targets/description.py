"""What the compiler knows of a device."""

from __future__ import annotations

from dataclasses import dataclass

# A guess at what calling an operator and setting up a matrix multiplication costs; it decides only between tiny layers.
OPERATOR_SECONDS = 5e-6


@dataclass(frozen=True)
class Core:
    """One core: estimates derived from its vector units, not measured; good for choosing between two ways only.

    name: as in compilers' `-mcpu`.
    float_macs_per_cycle: of the vector unit: lanes of a fused multiply-add that it starts in a cycle.
    binary_macs_per_cycle: bits that it multiplies: an EOR, a CNT and an accumulating add a register of bits, so the
    bits it processes in a cycle over 3.
    """

    name: str
    float_macs_per_cycle: float
    binary_macs_per_cycle: float


# Vector widths after Arm's Software Optimization Guides (Cortex-A72, A76) and Technical Reference Manuals (A53, A7).
# A7: a 64-bit unit whose multiply-add takes one lane a cycle.  A53: a 64-bit unit.  A72: two 64-bit multiply-add units,
# two 128-bit integer units.  A76: two 128-bit units.
CORTEX_A7 = Core("cortex-a7", 1, 64 / 3)
CORTEX_A53 = Core("cortex-a53", 2, 64 / 3)
CORTEX_A72 = Core("cortex-a72", 4, 256 / 3)
CORTEX_A76 = Core("cortex-a76", 8, 256 / 3)

# Of the peak above that a convolution is taken to reach, for loads and the edges of tiles.  The same for both kinds, so
# it weighs arithmetic against memory only.
EFFICIENCY = 0.5
# One core's share of the memory's peak: assumed.
MEMORY_SHARE = 1 / 3


@dataclass(frozen=True)
class Target:
    """A device that LCE's kernels run on.

    name: as on the command line.  title: as people call it.  abi: the GNU triple, or Android's ABI name.
    core_type: its cores.  cores: how many of them.  hertz: their clock.
    memory_bytes_per_second: the memory's peak: width of the bus times transfers a second.
    grouped_bconv: the binary convolution kernel takes groups of a multiple of 32 channels.  LCE's indirect kernel does,
    its default one does not.
    """

    name: str
    title: str
    abi: str
    core_type: Core
    cores: int
    hertz: float
    memory_bytes_per_second: float
    grouped_bconv: bool = False

    @property
    def core(self) -> str:
        """The core's name in compilers' `-mcpu`."""
        return self.core_type.name

    def cost(
        self, *, binary_macs: float = 0, float_macs: float = 0, moved_bytes: float = 0, operators: int = 0
    ) -> float:
        """Estimated seconds on one core: arithmetic, plus memory traffic at one core's share, plus the calls.

        Feature maps that fit the caches move faster than this says, on all the devices alike.
        """
        reached = self.hertz * EFFICIENCY
        arithmetic = (
            binary_macs / self.core_type.binary_macs_per_cycle + float_macs / self.core_type.float_macs_per_cycle
        ) / reached
        memory = moved_bytes / (self.memory_bytes_per_second * MEMORY_SHARE)
        return arithmetic + memory + operators * OPERATOR_SECONDS
