"""What native libraries write to the process's standard error, past Python."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

STANDARD_ERROR = 2
# How TensorFlow Lite begins a line that tells of nothing wrong.
INFO = b"INFO: "


@contextlib.contextmanager
def without_info() -> Iterator[None]:
    """Leave out the lines by which TensorFlow Lite announces its parts; all others are written when this ends."""
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(tempfile.TemporaryFile())
            saved = os.dup(STANDARD_ERROR)
        except OSError:  # no room for a file, or standard error was closed: nobody is told less than without this
            yield
            return
        os.dup2(stream.fileno(), STANDARD_ERROR)
        try:
            yield
        finally:
            os.dup2(saved, STANDARD_ERROR)
            os.close(saved)
            stream.seek(0)
            with contextlib.suppress(OSError):
                for line in stream:
                    if not line.startswith(INFO):
                        os.write(STANDARD_ERROR, line)
