"""Give the passes that ask something of the user or of the target their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import onnx_ir as ir

from bnncc.ir.modes import ReplicationMode, SignOfZero, ZeroWeights
from bnncc.ir.step import Step
from bnncc.passes.cost import CostModel
from bnncc.passes.merge_replication import MergeReplication
from bnncc.passes.recognize_binary_conv import RecognizeBinaryConv
from bnncc.passes.recognize_sign import RecognizeSign
from bnncc.passes.split_groups import SplitGroups
from bnncc.passes.split_scaled_sums import SplitScaledSums


def configured(
    steps: Sequence[Step],
    cost: CostModel,
    *,
    grouped_bconv: bool = False,
    replication: ReplicationMode = ReplicationMode.AUTO,
    zero_weights: ZeroWeights = ZeroWeights.EXACT,
    sign_of_zero: SignOfZero = SignOfZero.ZERO,
) -> tuple[Step, ...]:
    """`steps` with these choices.

    cost: the target's.  grouped_bconv: its binary convolution takes groups.  replication, zero_weights,
    sign_of_zero: the user's.
    """
    makers: dict[str, Callable[[], ir.passes.PassBase]] = {
        "recognize-sign": lambda: RecognizeSign(sign_of_zero),
        "recognize-binary-conv": lambda: RecognizeBinaryConv(zero_weights, cost),
        "merge-replication": lambda: MergeReplication(replication, cost),
        "split-scaled-sums": lambda: SplitScaledSums(cost),
        "split-groups": lambda: SplitGroups(cost, grouped_bconv),
    }
    return tuple(replace(step, make=makers.get(step.name, step.make)) for step in steps)
