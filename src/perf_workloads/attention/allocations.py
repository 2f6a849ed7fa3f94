"""How much does torch allocate on a CPU while a call runs? Counted block by block, so that it repeats exactly.

The high-water mark of a process moves by what malloc keeps for later, a sixth from one process to the next. Torch's
profiler tells of every block that torch takes and gives back. What libraries take for themselves is not among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.profiler import ProfilerActivity, profile

#: What the profiler calls a block that is taken (bytes above 0) or given back (below).
_EVENT = "[memory]"


@dataclass(frozen=True)
class Allocated:
    """What a call allocated, in bytes over what there was before.

    Args:
        result: of the call; what it holds is still there.
        peak: at most.
        left: when the call was done; negative where it gave back more than it took.
    """

    result: Any
    peak: int
    left: int


def count(call: Callable[[], Any]) -> Allocated:
    """Run a call under the profiler, and add its blocks up. Warm up before: some blocks are taken once.

    Raises:
        RuntimeError: the profiler told of no block: nothing was counted.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    blocks = [event for event in profiler.profiler.kineto_results.events() if event.name() == _EVENT]
    if not blocks:
        raise RuntimeError("torch's profiler told of no allocation: what the call took is not known")
    peak = left = 0
    for block in sorted(blocks, key=lambda event: event.start_ns()):
        left += block.nbytes()
        peak = max(peak, left)
    return Allocated(result, peak, left)
