"""The exceptions of perfgate, and the wording of what a user can do about them.

PerfgateError
├── SettingError      a flag, an ini value or a marker cannot be used
├── BaselineError     a baseline file cannot be read or written
├── ReplicaError      a fresh process did not deliver what it was started for
├── RunFileError      a stored run (--perf-json) cannot be read
└── HistoryError      the history cannot be read or written, or a file added to it
"""

from __future__ import annotations


class PerfgateError(Exception):
    """Say what is wrong and where, why it matters, and what to type next.

    Args:
        what: what is wrong and where, one line.
        why: why it matters; may be empty.
        hint: what to type or change next; may be empty.
    """

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, why, hint)
        self.what, self.why, self.hint = what, why, hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(self.why)
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class SettingError(PerfgateError):
    """A flag, an ini value or a marker cannot be used."""


class BaselineError(PerfgateError):
    """A baseline file cannot be read or written."""


class ReplicaError(PerfgateError):
    """A fresh process did not deliver what it was started for."""


class RunFileError(PerfgateError):
    """A stored run cannot be read."""


class HistoryError(PerfgateError):
    """The history cannot be read or written, or a file cannot be added to it."""
