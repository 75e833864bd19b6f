"""Run the passes, and on request write the model after each and have each compared with the one before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from bnncc.errors import InputError, PassError
from bnncc.ir.graph import drop_unread_initializers, forget_names
from bnncc.ir.step import Step
from bnncc.system.files import write_atomically

# Where the second model computes something else than the first, in words; None where it does not.
Comparison = Callable[[ir.Model, ir.Model], str | None]


@dataclass
class PassRunner:
    """Runs steps on one model.

    dump_dir: write `00-traced.onnx`, `01-lift-constants.onnx`, … there.  compare: told the model before and
    after each pass (`bnncc.verification.first_difference`).
    seconds: the time of every step, without dumps and checks.
    """

    dump_dir: Path | None = None
    compare: Comparison | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    _count: int = 0

    def run(self, model: ir.Model, steps: Sequence[Step]) -> None:
        """Apply `steps` in place.  Raises PassError, with the name of the pass, where one changed the result."""
        if self._count == 0:
            self._dump(model, "traced")
        for step in steps:
            before = model.clone() if self.compare is not None else None
            start = time.perf_counter()
            forget_names(model.graph)
            step.make()(model)
            drop_unread_initializers(model.graph)
            self.seconds[step.name] = self.seconds.get(step.name, 0.0) + time.perf_counter() - start
            self._count += 1
            self._dump(model, step.name)
            if self.compare is not None and before is not None:
                try:
                    difference = self.compare(before, model)
                except Exception as error:  # ONNX Runtime's own errors have no common base class
                    raise PassError(f"pass '{step.name}' left a graph that does not run: {error}") from error
                if difference is not None:
                    raise PassError(f"pass '{step.name}' changed the result: {difference}")

    def _dump(self, model: ir.Model, name: str) -> None:
        if self.dump_dir is None:
            return
        path = self.dump_dir / f"{self._count:02}-{name}.onnx"
        try:
            self.dump_dir.mkdir(parents=True, exist_ok=True)
            # A dump stands alone: it must not refer to the weights beside the user's .onnx file.
            ir.external_data.load_to_model(model)
            write_atomically(path, ir.to_proto(model).SerializeToString())
        except OSError as error:
            raise InputError(f"--dump-dir: {path} cannot be written: {error.strerror or error}") from error
        except InputError as error:
            raise InputError(f"--dump-dir: {error}") from error
