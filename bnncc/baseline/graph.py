"""The network as a float ONNX graph: what its author would convert and deploy instead of the binary file.

    Traced:  x ─ Sign ─ Sub(p) ─ Add(p) ─ Conv(mean|W| · Sign(W)) ─ BatchNormalization ─ y
    Float:   x ─ Sign ─ Conv(±α·γ/σ, β − μ·γ/σ) ─ y

Only the passes run that any float deployment wants: estimators cancel, weight expressions become weights, PReLUs and
convolution padding are one operator each, batch norms fold.  None of the passes run that exist for bits (recognised
signs, split groups, thresholds, shifts carried to where a sign reads them) or for LCE's padding (the mirrored frame,
padding with +1 and its correction): they would cost the float file operators that nobody deploys.

So the graph is in standard operators and binarises as the network itself does, with PyTorch's sign of 0 where that is
how it is written; its weights are float32, of the size that a float network of this architecture has.
"""

from __future__ import annotations

import onnx_ir as ir

from bnncc.errors import PassError
from bnncc.frontend import TracedModel
from bnncc.ir.pass_runner import PassRunner
from bnncc.passes import PIPELINE
from bnncc.verification.passes import first_difference

STEPS = (
    "lift-constants",
    "drop-no-ops",
    "merge-duplicates",
    "cancel-residue",
    "remove-unused",
    "fold-constants",
    "shrink-constants",
    "recognize-prelu",
    "fuse-pad",
    "fold-affine",
    "remove-unused",
)


def float_graph(traced: TracedModel) -> ir.Model:
    """The traced network (NCHW), cleaned and with its batch norms folded; the traced graph stays as it is.

    Raises PassError where the result computes something else: a bug in bnncc.
    """
    model = traced.model.clone()
    PassRunner().run(model, [next(step for step in PIPELINE if step.name == name) for name in STEPS])
    difference = first_difference(traced.model, model)
    if difference is not None:
        raise PassError(f"the cleaned float graph is not the network: {difference}")
    return model
