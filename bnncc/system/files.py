"""Files that are written whole or not at all.

A symbolic link is followed, as every program that opens a file for writing does: the file that it names is replaced, or
made, and the link stays.  What is there and no regular file is never replaced: a device, a pipe, a socket, a directory.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from bnncc.errors import InputError

# What the mode of a path says that it is, where it is no regular file.
KINDS = {
    stat.S_IFDIR: "a directory; name a file",
    stat.S_IFCHR: "a device, which a file would replace; name a file",
    stat.S_IFBLK: "a device, which a file would replace; name a file",
    stat.S_IFIFO: "a pipe, which a file would replace; name a file",
    stat.S_IFSOCK: "a socket, which a file would replace; name a file",
}


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path` and rename, so that a failure leaves neither a partial file nor a damaged old one.

    Raises InputError where that fails, or what is there is no regular file.
    """
    target, older = _target(path)
    temporary = None
    try:
        # A short name of its own: with the file's it could be longer than file systems take.
        handle, temporary = tempfile.mkstemp(prefix=".bnncc-", dir=target.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes the file private; give it the permissions of the older file, or those that open would.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, stat.S_IMODE(older.st_mode) if older is not None else 0o666 & ~mask)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; nothing was left there") from error
    finally:  # also where the user interrupts
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise InputError now where `path` cannot be written later, so that nobody waits for a compilation in vain."""
    target, _ = _target(path)
    try:
        is_folder = target.parent.is_dir()
        limit = os.pathconf(target.parent, "PC_NAME_MAX") if is_folder else 0
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    if not is_folder:
        raise InputError(f"{path} cannot be written: there is no directory {target.parent}")
    if len(os.fsencode(target.name)) > limit:
        raise InputError(f"{path} cannot be written: its name is longer than {limit} bytes")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: no permission to write in {target.parent}")


def _target(path: Path) -> tuple[Path, os.stat_result | None]:
    """The path behind symbolic links, and what is there; None where nothing is.  InputError where it is no file."""
    try:
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        older = target.lstat()
    except FileNotFoundError:
        return target, None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path} cannot be written: {reason}") from error
    kind = stat.S_IFMT(older.st_mode)
    if kind == stat.S_IFLNK:
        raise InputError(f"{path} cannot be written: its symbolic links go in a circle")
    if kind != stat.S_IFREG:
        raise InputError(f"{path} is {KINDS.get(kind, 'no regular file; name a file')}")
    return target, older
