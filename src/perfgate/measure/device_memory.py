"""How much device memory does a call need at its peak? Imports torch: import it where it is used."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from perfgate.model import Limit, Noise

#: The caching allocator hands out multiples of this many bytes.
GRANULE_BYTES = 512
#: Peak requested bytes repeated exactly in 12 fresh processes of every case tried, so there is no noise to allow for.
MEMORY_NOISE = Noise()
#: Nothing but one granule is allowed by default.
MEMORY_LIMIT = Limit(0.0, GRANULE_BYTES)


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of one call, in bytes.

    Args:
        peak_bytes: peak over what was there before the call.
        reserved_bytes: peak that the allocator had taken from the device, everything included.
        method: "requested", or "allocated" where the allocator does not know what was requested of it.
    """

    peak_bytes: int
    reserved_bytes: int
    method: str


def peak_memory(call: Callable[[], Any], *, collect: bool = True) -> DeviceMemory:
    """Call once, untimed, and read the allocator's peak. Warm up before: a first call also compiles and tunes.

    Counted is what was requested of the allocator, not the blocks that it handed out: it may hand out one of 4 MiB for
    3 MiB where that is what other tensors left free, so the same call read 33 % more or less with the cases before it.

    Args:
        call: the call.
        collect: collect garbage first, which takes 0.1 s where torch is loaded; not needed where it has just been done.
    """
    if collect:
        gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    method = "requested" if torch.cuda.memory_stats().get("requested_bytes.all.allocated") else "allocated"
    counter = "requested_bytes" if method == "requested" else "allocated_bytes"
    resident = torch.cuda.memory_stats().get(f"{counter}.all.current", 0)
    torch.cuda.reset_peak_memory_stats()
    result = call()
    torch.cuda.synchronize()
    stats = torch.cuda.memory_stats()
    peak = DeviceMemory(
        max(stats.get(f"{counter}.all.peak", 0) - resident, 0), stats.get("reserved_bytes.all.peak", 0), method
    )
    del result
    return peak
