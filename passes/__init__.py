"""The passes, in the order in which they run.

Each works on the ONNX graph in place, keeps what the graph computes up to float rounding (`Sign` at an exact zero
aside), and keeps the name of every value that keeps its meaning: verification finds the reference by it.  None knows
the target.  Behind them, `legalize` chooses how padding is expressed.

To read: `PIPELINE` below, each step the file of its name; then `legalize.py` with `trim_kernels.py`, `mirror_frame.py`
and `pad_with_ones.py`; `balance_rows.py`, for int8 weights, and `balance_channels.py`, for int8 activations.  What they
share, from the general to the particular:

- `each_node.py`              go through a graph while it is rewritten
- `insertion.py`              put a node into a graph
- `traced.py`                 what is left in the graph for verification
- `configure.py`              what the user and the target choose
- `cost.py`                   what operators cost on a target
- `affine.py`                 an operator as an affine function a channel
- `affines_behind.py`         … behind what moves a layer's output
- `kept_order.py`             … which stays where the network has it, in front of a rounding
- `windows.py`                the windows of a convolution or pool
- `border.py`                 what padding adds to the sums of a convolution
- `piecewise.py`              piecewise-linear functions
- `piecewise_operations.py`   … and what is computed of them
- `elementwise.py`            an expression as such a function of each value behind it
- `positive.py`               … factors that keep a sign
- `ranges.py`                 between which numbers a value lies
- `elementwise_operators.py`  … what each operator computes
- `pointwise.py`              … the same where operators broadcast, join and move elements
- `expression.py`             … replaced by a chain of operators
- `steps.py`                  such a function as two values and a jump
- `byte_steps.py`             … of a byte, of which all values are known
- `strict_threshold.py`       … with > in place of ≥
- `binarizer.py`              … as a sign and an affine
- `binary_operand.py`         a value as an affine function of bits
- `binary_weights.py`         weights as signs and scales
- `weight_terms.py`           … as sums of such, where some are 0
- `levels.py`                 a function of a few levels as a sum of bits
- `few_levels.py`             … and a layer's input as such
- `sum_of_products.py`        … and the layer as a sum of layers
- `weighted_layer.py`         Conv, Gemm and MatMul as one kind of layer
- `binary_product.py`         … replaced by a BinaryConv
- `flat_bits.py`              … where the map that it reads is packed flat
- `replication.py`            copies along the channels, however they are spelt
- `give_vectors_rows.py`      vectors as batches of one row, before all others
- `give_sequences_height.py`  sequences as maps of height 1, before all others
- `form_convolutions.py`      products with unfolded windows as convolutions, before all others
- `moved_windows.py`          … the windows that a matrix holds
- `split_phases.py`           transposed convolutions as convolutions, before all others
- `fuse_clip.py`             a ReLU between a BinaryConv and the affines behind it
- `free_padding.py`          padding with ±1 as zeros and a constant border
- `repeat_channels.py`        … computed by the operator in front
- `hoist_branches.py`         … brought in front of what each copy has for itself
- `pixel_shuffle.py`          pixel_shuffle and pixel_unshuffle, as exporters spell them
- `rotated_operators.py`      operators on maps that are rotated by 180°
"""

from __future__ import annotations

from bnncc.ir.step import Step
from bnncc.passes.average_early import AverageEarly
from bnncc.passes.binary_max_pool import BinaryMaxPool
from bnncc.passes.cancel_residue import CancelResidue
from bnncc.passes.carry_pixel_shuffle import CarryPixelShuffle
from bnncc.passes.carry_shifts import CarryShifts
from bnncc.passes.clamp_before_rounding import ClampBeforeRounding
from bnncc.passes.compare_differences import CompareDifferences
from bnncc.passes.decompose import Decompose
from bnncc.passes.dequantize_bytes import DequantizeBytes
from bnncc.passes.drop_no_ops import DropNoOps
from bnncc.passes.express_pad_value import ExpressPadValue
from bnncc.passes.fill_known_zeros import FillKnownZeros
from bnncc.passes.flatten_means import FlattenMeans
from bnncc.passes.fold_affine import FoldAffine
from bnncc.passes.fold_constants import FoldConstants
from bnncc.passes.fuse_pad import FusePad
from bnncc.passes.fuse_unshuffle import FuseUnshuffle
from bnncc.passes.gather_bits import GatherBits
from bnncc.passes.join_groups import JoinGroups
from bnncc.passes.lift_constants import LiftConstants
from bnncc.passes.merge_clips import MergeClips
from bnncc.passes.merge_duplicates import MergeDuplicates
from bnncc.passes.merge_replication import MergeReplication
from bnncc.passes.merge_slices import MergeSlices
from bnncc.passes.normalize_sign_input import NormalizeSignInput
from bnncc.passes.recognize_binary_conv import RecognizeBinaryConv
from bnncc.passes.recognize_gates import RecognizeGates
from bnncc.passes.recognize_logic import RecognizeLogic
from bnncc.passes.recognize_prelu import RecognizePRelu
from bnncc.passes.recognize_sign import RecognizeSign
from bnncc.passes.recognize_steps import RecognizeSteps
from bnncc.passes.recognize_thermometer import RecognizeThermometer
from bnncc.passes.reduce_maps import ReduceMaps
from bnncc.passes.remove_unused import RemoveUnused
from bnncc.passes.replace_cast_like import ReplaceCastLike
from bnncc.passes.settle_ties import SettleTies
from bnncc.passes.shrink_constants import ShrinkConstants
from bnncc.passes.sink_moves import SinkMoves
from bnncc.passes.sink_rectifiers import SinkRectifiers
from bnncc.passes.sink_row_scales import SinkRowScales
from bnncc.passes.sink_scales import SinkScales
from bnncc.passes.split_groups import SplitGroups
from bnncc.passes.split_joined_levels import SplitJoinedLevels
from bnncc.passes.split_scaled_sums import SplitScaledSums
from bnncc.passes.split_step_weights import SplitStepWeights
from bnncc.passes.threshold import Threshold
from bnncc.passes.trim_kernels import TrimKernels
from bnncc.passes.unstack_reductions import UnstackReductions

PIPELINE: tuple[Step, ...] = (
    Step("lift-constants", LiftConstants, "Constant nodes become initializers"),
    Step("replace-cast-like", ReplaceCastLike, "types that follow another value's are known"),
    Step("drop-no-ops", DropNoOps, "identities, inference dropout, casts and shapes that change nothing"),
    Step("merge-duplicates", MergeDuplicates, "equal expressions become one value, so that residue can be seen"),
    Step("cancel-residue", CancelResidue, "straight-through estimators: (s - p) + p is s"),
    Step("remove-unused", RemoveUnused, "what only the residue needed"),
    Step("fold-constants", FoldConstants, "weight expressions become weights"),
    Step("decompose", Decompose, "normalisations, attention, recurrent layers, … become arithmetic and data movement"),
    Step("shrink-constants", ShrinkConstants, "one value a channel instead of a full-size constant"),
    Step("reduce-maps", ReduceMaps, "means and maxima of a flattened map are those of the map"),
    Step("merge-slices", MergeSlices, "one Slice a crop instead of one an axis"),
    Step("sink-rectifiers", SinkRectifiers, "a ReLU in front of a max-pool goes behind it where a sign follows"),
    Step("clamp-before-rounding", ClampBeforeRounding, "what is rounded and clamped has few values to be rounded to"),
    Step("recognize-gates", RecognizeGates, "a comparison's 0 or 1 selects instead of multiplying"),
    Step("recognize-prelu", RecognizePRelu, "whatever has two slopes becomes PRelu between affines"),
    Step("recognize-thermometer", RecognizeThermometer, "comparisons with several thresholds become one bnncc.Sign"),
    Step("compare-differences", CompareDifferences, "a comparison of two maps is one of their difference with 0"),
    Step("recognize-steps", RecognizeSteps, "whatever has two values and one jump becomes bnncc.Sign and an affine"),
    Step("recognize-sign", RecognizeSign, "binarisers become bnncc.Sign"),
    Step("unstack-reductions", UnstackReductions, "sums and products of maps that are stacked first"),
    Step("recognize-logic", RecognizeLogic, "arithmetic of ±1 maps that takes two values becomes bnncc.Sign"),
    Step("gather-bits", GatherBits, "the nearest pixels of ±1 maps are gathered: no kernel resizes words of bits"),
    Step("fuse-unshuffle", FuseUnshuffle, "blocks of pixels that bits cannot express become a convolution's windows"),
    Step("fuse-pad", FusePad, "a zero Pad becomes the convolution's own padding"),
    Step("fill-known-zeros", FillKnownZeros, "zeros among bits become +1, and a constant behind the layer"),
    Step("split-scaled-sums", SplitScaledSums, "a layer of a sum of scaled signs becomes a layer for each"),
    Step("split-joined-levels", SplitJoinedLevels, "a layer of joined maps of other levels becomes a layer for each"),
    Step("sink-row-scales", SinkRowScales, "computed scales of the rows of a product go behind it"),
    Step("split-step-weights", SplitStepWeights, "weights of 0 and α on signs become ±α/2 on the signs, twice"),
    Step("recognize-binary-conv", RecognizeBinaryConv, "±1 by ±1 becomes bnncc.BinaryConv"),
    Step("merge-clips", MergeClips, "a Max and a Min are one Clip"),
    Step("merge-replication", MergeReplication, "copies of a convolution's output become filters of it"),
    Step("carry-pixel-shuffle", CarryPixelShuffle, "filters in the order of DEPTH_TO_SPACE, affines in front of it"),
    Step("fold-affine", FoldAffine, "batch norms, scales and shifts go into the convolution in front"),
    Step("sink-scales", SinkScales, "scales behind sums, pools and gates go into the convolutions in front"),
    Step("dequantize-bytes", DequantizeBytes, "scales of pixels go into the weights that read them"),
    Step("average-early", AverageEarly, "means over maps before the arithmetic on maps"),
    Step("express-pad-value", ExpressPadValue, "padding with neither 0 nor +1 becomes zero padding and a correction"),
    Step("normalize-sign-input", NormalizeSignInput, "one Add, and no Mul, in front of a sign"),
    Step("carry-shifts", CarryShifts, "shifts move into biases, through residual adds, pools and concatenations"),
    Step("merge-duplicates", MergeDuplicates, "a layer of a value's sign and one of its upper bit are one layer"),
    Step("split-groups", SplitGroups, "a grouped convolution becomes one for each group"),
    Step("sink-moves", SinkMoves, "what only moves data moves bits"),
    Step("binary-max-pool", BinaryMaxPool, "max-pools pool bits"),
    Step("join-groups", JoinGroups, "convolutions of the parts of a map, side by side, are one in groups"),
    Step("fold-affine", FoldAffine, "what stood behind a max-pool now stands behind a convolution"),
    Step("trim-kernels", TrimKernels, "taps that only meet padding would keep a layer from thresholds"),
    Step("settle-ties", SettleTies, "a sum at which a convolution is 0 by design yields no rounding of 0"),
    Step("threshold", Threshold, "a convolution and the sign behind it become bnncc.BinaryConvSign"),
    Step("flatten-means", FlattenMeans, "a mean over the map yields the rows that a Linear reads"),
    Step("remove-unused", RemoveUnused, "what the passes left over"),
)
