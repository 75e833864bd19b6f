"""Which runtimes: those of the matrix that take delegates of today's interface, and a few more."""

from __future__ import annotations

from tests.conformance.environments import ENVIRONMENTS, Environment

# Those whose external delegates have another interface, or that have none.
WITHOUT = ("tensorflow-2.2.0",)
DELEGATE_KINDS = ("tflite_runtime", "ai_edge_litert", "tensorflow")

MORE = (
    Environment("litert-2.3.0 aarch64 (Cortex-A76)", "ai_edge_litert", machine="aarch64", processor="cortex-a76"),
    Environment(
        "tensorflow-2.11.0", "tensorflow", "3.9", ("tensorflow-cpu==2.11.0", "protobuf<3.20", "numpy<1.27"),
        delegate=True,
    ),
)  # fmt: skip


def delegate_runtimes() -> list[Environment]:
    """The oldest first, as the matrix has them."""
    own = [one for one in ENVIRONMENTS if one.kind in DELEGATE_KINDS and one.name not in WITHOUT and not one.claims]
    return [*own, *MORE]
