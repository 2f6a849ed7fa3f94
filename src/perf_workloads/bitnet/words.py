"""How are the figures of the report written?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def busy(conditions: Mapping[str, float]) -> str:
    """Say how many cores this process and others kept busy."""
    if "cpu_others" not in conditions:
        return "unknown"
    return f"{conditions['cpu_own']:.2f} cores by this process, {conditions['cpu_others']:.2f} by others"


def layer_times(conditions: Mapping[str, float]) -> str:
    """Say what the times of layers are of."""
    if "late_warm_calls" not in conditions:
        return "the thread's, without waiting for a core that others had"
    return (
        f"the GPU's; {conditions['late_warm_calls']:.0f} of {conditions['warm_calls']:.0f} warm calls hold a wait for "
        "their launches. The GPU is kept busy before each call, so stages and tokens take longer"
    )


def ms(seconds: float | None) -> str:
    """Write seconds as milliseconds with three significant digits or more."""
    if seconds is None:
        return "unknown"
    milliseconds = seconds * 1e3
    return f"{milliseconds:.2f}" if abs(milliseconds) >= 1 else f"{milliseconds:.4f}"


def mb(size: int) -> str:
    """Write bytes as megabytes."""
    return f"{size / 1e6:.1f}"


def mhz(frequency: float | None) -> str:
    """Write a frequency."""
    return "unknown" if frequency is None else f"{frequency:.0f} MHz"


def percent(share: float) -> str:
    """Write a share as a percentage."""
    return f"{share * 100:.1f} %"


def millions(number: int) -> str:
    """Write a number in millions."""
    return f"{number / 1e6:.2f}"


def shape(sizes: Sequence[int]) -> str:
    """Write a shape, e.g. ``1 x 1 x 2560``."""
    return " x ".join(map(str, sizes))
