"""What the compiler knows of a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bnncc.targets.core_costs import COSTS
from bnncc.targets.costs import Cost, Range, Work
from bnncc.targets.released import NEWEST, ORDINARY

# A guess at what calling an operator and setting up a matrix multiplication costs; it decides only between tiny layers.
OPERATOR_SECONDS = 5e-6

# Of the caches of all cores below.
LINE_BYTES = 64
# What a multiply-accumulate costs is that of a 3x3 convolution of 64 to 64 channels: its work for each output pixel.
TYPICAL_MACS = 9 * 64 * 64
TYPICAL_BINARY = {Work.BINARY_PRODUCT: 9 * 2 * 16, Work.BINARY_SUM: 64, Work.PATCH_WORD: 9 * 2}
TYPICAL_FLOAT = {Work.FLOAT_PRODUCT: TYPICAL_MACS, Work.FLOAT_OUTPUT: 64, Work.FLOAT_TAP: 9}
# Of its vector units' peak that a convolution is taken to reach on a core whose kernels nobody has counted, for loads
# and the edges of tiles.
EFFICIENCY = 0.5


@dataclass(frozen=True)
class Cache:
    """A level for data: bytes, and lines of a set."""

    size: int
    ways: int


@dataclass(frozen=True)
class Core:
    """One core: figures that are derived from instructions and from its vector units, and not measured on it.

    name: as in compilers' `-mcpu`.
    float_macs_per_cycle: of the vector unit: lanes of a fused multiply-add that it starts in a cycle.
    binary_macs_per_cycle: bits that it multiplies: an EOR, a CNT and an accumulating add a register of bits, so the
    bits it processes in a cycle over 3.
    caches: the nearest first, with what it shares with other cores.  costs: of units of work, by kind.  Both empty
    where nobody has looked.
    """

    name: str
    float_macs_per_cycle: float
    binary_macs_per_cycle: float
    caches: tuple[Cache, ...] = ()
    costs: Mapping[Work, Cost] = field(default_factory=dict)

    def cycles(self, binary_macs: float, float_macs: float) -> float:
        """An estimate of what so many multiply-accumulates take, the middle of what their costs say."""
        if self.costs:
            binary, floats = (
                sum(self.costs[kind].cycles.middle * units for kind, units in typical.items()) / TYPICAL_MACS
                for typical in (TYPICAL_BINARY, TYPICAL_FLOAT)
            )
            return binary_macs * binary + float_macs * floats
        peak = binary_macs / self.binary_macs_per_cycle + float_macs / self.float_macs_per_cycle
        return peak / EFFICIENCY


# Vector widths after Arm's Software Optimization Guides (Cortex-A72, A76) and Technical Reference Manuals (A53, A7).
# A7: a 64-bit unit whose multiply-add takes one lane a cycle.  A53: a 64-bit unit.  A72: two 64-bit multiply-add units,
# two 128-bit integer units.  A76: two 128-bit units.
#
# Caches: those of the boards, by Linux's device trees (bcm2837.dtsi, bcm2711.dtsi, bcm2712.dtsi), which name Arm's
# Technical Reference Manuals for the ways and Raspberry Pi's documentation, "Processors", for the sizes.
CORTEX_A7 = Core("cortex-a7", 1, 64 / 3)
CORTEX_A53 = Core("cortex-a53", 2, 64 / 3, (Cache(32 * 1024, 4), Cache(512 * 1024, 16)), COSTS.get("cortex-a53", {}))
CORTEX_A72 = Core("cortex-a72", 4, 256 / 3, (Cache(32 * 1024, 2), Cache(1024 * 1024, 16)), COSTS.get("cortex-a72", {}))
CORTEX_A76 = Core(
    "cortex-a76", 8, 256 / 3, (Cache(64 * 1024, 4), Cache(512 * 1024, 8), Cache(2048 * 1024, 16)),
    COSTS.get("cortex-a76", {}),
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A device that LCE's kernels, or bnncc's, run on.

    name: as on the command line.  title: as people call it.  abi: the GNU triple, or Android's ABI name.
    core_type: its cores.  cores: how many of them.  hertz: their clock.
    bandwidth: bytes a second that one core moves to and from DRAM.
    grouped_bconv: the binary convolution kernel takes groups of a multiple of 32 channels.  LCE's indirect kernel does,
    its default one does not.
    runtimes: the oldest and the newest interpreter that it may have (`bnncc.targets.released`): a file
    for it is right on both and all between them, unless `--min-runtime` says otherwise.
    """

    name: str
    title: str
    abi: str
    core_type: Core
    cores: int
    hertz: float
    bandwidth: Range
    grouped_bconv: bool = False
    runtimes: tuple[str, str] = (ORDINARY, NEWEST)

    @property
    def core(self) -> str:
        """The core's name in compilers' `-mcpu`."""
        return self.core_type.name

    @property
    def is_modelled(self) -> bool:
        """Whether `bnncc.latency` can say how long a file takes: the costs are those of 64-bit code."""
        return bool(self.core_type.costs) and self.abi.startswith(("aarch64", "arm64"))

    def cost(
        self, *, binary_macs: float = 0, float_macs: float = 0, moved_bytes: float = 0, operators: int = 0
    ) -> float:
        """Estimated seconds on one core: arithmetic, plus memory traffic, plus the calls.

        Feature maps that fit the caches move faster than this says, on all the devices alike.
        """
        arithmetic = self.core_type.cycles(binary_macs, float_macs) / self.hertz
        return arithmetic + moved_bytes / self.bandwidth.middle + operators * OPERATOR_SECONDS
