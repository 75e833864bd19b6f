"""What the command line does with an exception that nothing expected: one line, and the rest in a file.

Where the system refuses what every program needs, that is no bug: one line, and the exit code of what users can mend.
"""

from __future__ import annotations

import errno
import platform
import sys
import tempfile
import traceback

from bnncc._version import __version__
from bnncc.cli.terminal import tell_error

# The exit code behind a bug: not 1, which says that the file disagrees with the network.
CRASHED = 3


# The system's errors of a machine, not of a program: a full or broken disk, no permission, too many open files.
_OF_THE_MACHINE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN,
}  # fmt: skip


def machine_refuses(error: Exception) -> str | None:
    """What to tell where the machine is at fault; None where bnncc is."""
    if isinstance(error, MemoryError):
        return "there is not enough memory: give the process more, or take smaller inputs"
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        where = f": {error.filename}" if error.filename is not None else ""
        return f"the system refuses{where}: {error.strerror}"
    return None


def report_crash(error: Exception) -> int:
    """Write the traceback to a temporary file and name it on standard error.  Returns the exit code."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    cause = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    content = (
        f"bnncc {__version__}, Python {platform.python_version()}, {platform.platform()}\n{sys.argv}\n\n"
        + "".join(traceback.format_exception(error))
    )
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="bnncc-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as stream:
            stream.write(content)
        where = f"report it to bnncc's authors with {stream.name}, which has the traceback"
    except OSError:
        where = f"report it to bnncc's authors with this:\n{content}"
    tell_error(f"a bug in bnncc: {cause}; {where}")
    return CRASHED
