"""How is a file read without surprises, replaced in one step, and kept to one writer at a time?"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from perfgate.baseline.layout import display_path
from perfgate.errors import BaselineError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

#: No honest baseline file comes near; a larger one is not worth the memory.
MAX_BYTES = 64 * 2**20
#: Flags that some systems lack: not to wait at a named pipe, and not to translate line ends.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_TEMPORARY = ".perfgate-{}.tmp"
_LOCK_FILE = ".perfgate.lock"
_POLL_S = 0.01


def read_file(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        OSError: it is missing, not a regular file, larger than MAX_BYTES, or unreadable.
    """
    with os.fdopen(os.open(path, _READ), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"Larger than {MAX_BYTES // 2**20} MiB")
    return data


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file so that at any moment, and after a power failure, it is either the old or the new one.

    The caller holds the lock: temporary files that lie beside the file are those of dead writers, and are removed.

    Raises:
        OSError: the new file could not be written; the old one is as it was.
    """
    _make_folder(path.parent)
    for stale in path.parent.glob(_TEMPORARY.format("*")):
        with contextlib.suppress(OSError):
            stale.unlink()
    temporary = path.with_name(_TEMPORARY.format(os.getpid()))
    try:
        with os.fdopen(os.open(temporary, _CREATE, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def remove_file(path: Path, root: Path) -> None:
    """Remove a file, and the folders up to the root that are empty without it. The caller holds the lock."""
    path.unlink()
    folder = path.parent
    with contextlib.suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent
    _sync_folder(folder)


@contextlib.contextmanager
def locked(root: Path, timeout_s: float) -> Iterator[None]:
    """Hold the only right to write below a folder, which is made if need be.

    The folder itself is locked, so no lock file is left behind and the lock of a killed writer is free at once. Where
    that is impossible (no ``fcntl``, some network file systems), a lock file stands in for it.

    Raises:
        BaselineError: the folder cannot be used, or another writer did not finish in time.
    """
    try:
        _make_folder(root)
        release = _lock_folder(root, timeout_s) if fcntl is not None else None
        lock_file = None if release is not None else _make_lock_file(root, timeout_s)
    except OSError as error:
        raise BaselineError(
            f"{display_path(root)}: the folder of baselines cannot be written: {error.strerror}",
            "The new results are not stored.",
            "check its permissions, or name another folder with --perf-baselines=DIR",
        ) from error
    try:
        yield
    finally:
        if release is not None:
            os.close(release)
        if lock_file is not None:
            lock_file.unlink(missing_ok=True)


def _lock_folder(root: Path, timeout_s: float) -> int | None:
    """Give the descriptor that holds the lock; None where folders cannot be locked."""
    descriptor = os.open(root, os.O_RDONLY)
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise _busy(root, timeout_s, "find it with: fuser -v " + display_path(root)) from None
                time.sleep(_POLL_S)
            else:
                return descriptor
    except OSError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise


def _make_lock_file(root: Path, timeout_s: float) -> Path:
    path = root / _LOCK_FILE
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            descriptor = os.open(path, _CREATE, 0o666)
        except FileExistsError:
            if time.monotonic() >= deadline:
                hint = f"delete {display_path(path)} if no other perfgate is running"
                raise _busy(root, timeout_s, hint) from None
            time.sleep(_POLL_S)
        else:
            os.close(descriptor)
            return path


def _busy(root: Path, timeout_s: float, hint: str) -> BaselineError:
    return BaselineError(
        f"{display_path(root)}: another process has been writing baselines for more than {timeout_s:g} s",
        "Two writers at once would lose each other's results, so the new ones are not stored.",
        hint,
    )


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, and have them survive a power failure."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # The file is in place by now, and some file systems cannot do this: no reason to call the write a failure.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
