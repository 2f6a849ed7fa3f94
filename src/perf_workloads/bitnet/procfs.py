"""How much memory do this process and the machine use now, and how much did the process at most? Read from Linux."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True)
class Memory:
    """One look, in bytes."""

    rss: int
    virtual: int
    system_used: int
    system_total: int


def read_memory(proc: Path = Path("/proc")) -> Memory:
    """Look at the memory of this process and of the machine.

    Raises:
        RuntimeError: this is not Linux.
    """
    try:
        virtual, resident = (proc / "self/statm").read_text(encoding="ascii").split()[:2]
        fields = _fields((proc / "meminfo").read_text(encoding="ascii"))
    except OSError as error:
        raise RuntimeError(f"memory is read from Linux's {error.filename}, which is not there") from error
    total = fields["MemTotal"]
    return Memory(int(resident) * _PAGE, int(virtual) * _PAGE, total - fields["MemAvailable"], total)


def reset_peak() -> bool:
    """Let the kernel's high-water mark start again from here; False where it cannot be reset."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_rss() -> int:
    """Give the kernel's high-water mark of resident memory, in bytes: since it was reset, or the process began."""
    return _fields(Path("/proc/self/status").read_text(encoding="ascii"))["VmHWM"]


def _fields(text: str) -> dict[str, int]:
    """Give the figures of lines such as ``MemTotal:  24588652 kB``, in bytes."""
    return {name: int(value) * 1024 for name, value in re.findall(r"^(\w+):\s*([0-9]+) kB$", text, re.MULTILINE)}
