"""How is a report written, so that nobody ever reads half of one?"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from perfgate.errors import RunFileError


def write(path: Path, text: str, *, what: str, setting: str) -> None:
    """Write a report, whole or not at all; folders that are missing are made.

    Args:
        path: the file.
        text: what it is to hold; what has no UTF-8 is replaced.
        what: what it is, for the message: ``the run``.
        setting: what the user named the file with: ``--perf-json``.

    Raises:
        RunFileError: the file cannot be written.
    """
    try:
        # A folder such as "." has no name that the file beside it could be called by.
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise RunFileError(
            f"{path}: cannot write {what}: {error.strerror}",
            "The tests have run; only this file is missing." if setting.startswith("--perf-") else "",
            f"give {setting} a file in a folder that can be written to",
        ) from error
