"""Files that are written whole or not at all, and files that are read whole.

A symbolic link is followed, as every program that opens a file for writing does: the file that it names is replaced, or
made, and the link stays.  What is there and no regular file is never replaced: a device, a pipe, a socket, a directory;
nor is it read: a pipe may wait for ever, a device never end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from bnncc.errors import InputError
from bnncc.system.memory import require_memory

# What the mode of a path says that it is, where it is no regular file.
KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def read_whole(path: Path) -> bytes:
    """The bytes of a file.  Raises InputError where it is no regular file, cannot be read or is larger than memory."""
    check_readable(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def check_readable(path: Path) -> None:
    """Raise InputError where `path` is no regular file, or is larger than memory; what it holds is not looked at."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path} cannot be read: {reason}") from error
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise InputError(f"{path} is {KINDS.get(kind, 'no regular file')}; name a file")
    require_memory(found.st_size, f"{path}")


def is_plain_file(path: Path) -> bool:
    """True for a regular file that is no symbolic link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return False


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path` and rename, so that a failure leaves neither a partial file nor a damaged old one.

    Raises InputError where that fails, or what is there is no regular file.
    """
    target, older = _target(path)
    # A short name of its own: with the file's it could be longer than file systems take.
    temporary = target.parent / f".bnncc-{secrets.token_hex(8)}"
    mask = os.umask(0)
    os.umask(mask)
    try:
        descriptor = _open_unnamed(temporary)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            # It is private so far; give it the permissions of the older file, or those that open would.
            os.fchmod(descriptor, stat.S_IMODE(older.st_mode) if older is not None else 0o666 & ~mask)
            os.fsync(descriptor)
            if not temporary.exists():
                # Only with a folder to begin at does Python follow the link in /proc, which names the file.
                os.link(f"/proc/self/fd/{descriptor}", temporary, src_dir_fd=descriptor)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; nothing was left there") from error
    finally:  # also where the user interrupts
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _open_unnamed(temporary: Path) -> int:
    """A file for writing in the folder of `temporary` that has no name, so that nothing is left where the process is
    killed; called `temporary` where the file system has no such files.
    """
    folder = temporary.parent
    with contextlib.suppress(OSError):
        if Path("/proc/self/fd").is_dir():
            return os.open(folder, os.O_WRONLY | os.O_TMPFILE, 0o600)
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


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


def keep_apart(outputs: Mapping[str, Path | None], inputs: Iterable[object]) -> None:
    """Raise InputError where writing an output would replace an input, or another output.

    Args:
        outputs: by the option that names them; None where it is not given.
        inputs: names of what is read: files, folders, and anything else, which is passed over.
    """
    read = {_place(Path(str(one))): one for one in inputs if one is not None and str(one)}
    written: dict[Path | tuple[int, int], str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        place = _place(path)
        if place in read and not path.is_dir():
            raise InputError(f"{option}: {path} is what the command reads, and would be replaced: name another file")
        if place in written:
            raise InputError(f"{option}: {path} is what {written[place]} writes as well: name another file")
        written[place] = option


def _place(path: Path) -> Path | tuple[int, int]:
    """The same for two names of one file: hard links, symbolic links, other ways through the folders."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # not there yet
        return Path(os.path.realpath(path)) if "\0" not in str(path) else path
    return found.st_dev, found.st_ino


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
        loss = "" if kind == stat.S_IFDIR else ", which a file would replace"
        raise InputError(f"{path} is {KINDS.get(kind, 'no regular file')}{loss}; name a file")
    return target, older
