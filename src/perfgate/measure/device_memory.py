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
#: Peak allocated bytes repeated exactly in 12 fresh processes of every case tried, so there is no noise to allow for.
MEMORY_NOISE = Noise()
#: Nothing but one granule is allowed by default.
MEMORY_LIMIT = Limit(0.0, GRANULE_BYTES)


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of one call, in bytes.

    Args:
        peak_bytes: peak allocated over what was allocated before the call.
        reserved_bytes: peak that the allocator had taken from the device, everything included.
    """

    peak_bytes: int
    reserved_bytes: int


def peak_memory(call: Callable[[], Any]) -> DeviceMemory:
    """Call once, untimed, and read the allocator's peak. Warm up before: a first call also compiles and tunes."""
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    resident = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = call()
    torch.cuda.synchronize()
    peak = DeviceMemory(max(torch.cuda.max_memory_allocated() - resident, 0), int(torch.cuda.max_memory_reserved()))
    del result
    return peak
