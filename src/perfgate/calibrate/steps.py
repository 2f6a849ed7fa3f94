"""Which extra work is a case measured again with? A share of its time, or memory held while it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from perfgate.errors import SettingError
from perfgate.model import Limit
from perfgate.units import parse_limit

#: Slow-downs, as shares of the time of a call.
TIME = (0.01, 0.02, 0.03, 0.05, 0.10)
#: Memory, as an amount or a share of the peak of a call: the page of CUDA's allocator, and something for small calls.
MEMORY = ("4KiB", "2MiB", "1%")
MEMORY_CPU = ("2MiB", "8MiB", "10%")
#: The limit that a slow-down is also judged with, as a share of it.
HALF = 0.5
#: The step of a measurement without extra work.
NONE = ""


@dataclass(frozen=True)
class Steps:
    """What one process adds.

    Attributes:
        time: shares of the time of a call.
        memory: amounts of memory, or shares of the peak of a call.
    """

    time: tuple[float, ...] = ()
    memory: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give the values that travel to a fresh process."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Steps:
        """Turn what :meth:`to_json` gave back into steps."""
        return Steps(tuple(data["time"]), tuple(data["memory"]))

    @property
    def labels(self) -> tuple[str, ...]:
        """Give the names of the steps."""
        return (*map(label, self.time), *map(memory_label, self.memory))


def label(share: float) -> str:
    """Name a slow-down, e.g. ``3%``."""
    return f"{round(share * 100, 6):g}%"


def memory_label(amount: str) -> str:
    """Name a memory step, e.g. ``memory 2MiB``."""
    return f"memory {amount}"


def share_of(name: str) -> float | None:
    """Give the share that the name of a slow-down says; None for memory."""
    return float(name.removesuffix("%")) / 100 if name[:1].isdigit() and name.endswith("%") else None


def half_of(name: str) -> Limit | None:
    """Give a limit of half a slow-down, which a step is also judged with; None for memory."""
    share = share_of(name)
    return None if share is None else Limit(share * HALF)


def read_time(text: str) -> tuple[float, ...]:
    """Read slow-downs as the command line has them: ``0.01,0.05``, ``1%,5%`` or ``none``.

    Raises:
        SettingError: one of them is no share above 0.
    """
    if text == "none":
        return ()
    shares = []
    for part in text.split(","):
        try:
            found = float(part.strip().removesuffix("%")) / (100 if "%" in part else 1)
        except ValueError:
            found = math.nan
        if not 0 < found <= 1:
            raise SettingError(
                f"--steps: {part.strip()!r} is not a slow-down", hint="--steps 0.01,0.05, --steps 1%,5% or --steps none"
            )
        shares.append(found)
    return tuple(sorted(set(shares)))


def read_memory(text: str) -> tuple[str, ...]:
    """Read memory steps as the command line has them: ``2MiB,1%`` or ``none``.

    Raises:
        SettingError: one of them is no amount of memory.
    """
    if text == "none":
        return ()
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        try:
            parse_limit(name, "B")
        except SettingError as error:
            raise SettingError(f"--memory-steps: {error.what}", hint="--memory-steps 2MiB,1% or none") from None
    return names


def bytes_of(name: str, peak_bytes: float) -> int:
    """Give the bytes of a memory step for a call with this peak."""
    return round(parse_limit(name, "B").of(peak_bytes))
