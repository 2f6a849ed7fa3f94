"""Which figures do profiles of several suites give?"""

from __future__ import annotations

from typing import Any


def copy_share(profile: Any) -> float:
    """Give the share of a profile's time that copies take: on the device, or on the CPU when the device did nothing.

    Conversions between types are copies, too.

    Args:
        profile: a ``perfgate.profile.Profile``.
    """
    copies = [row for row in profile.operators if row.name == "aten::copy_"]
    if profile.device_s:
        return float(sum(row.self_device_s for row in copies) / profile.device_s)
    return float(sum(row.self_cpu_s for row in copies) / profile.cpu_s)
