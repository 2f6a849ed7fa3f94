"""How fast does this device copy memory? The ceiling that throughputs are compared with."""

from __future__ import annotations

import functools
import time

#: Bytes of the source; with its copy it is far larger than any L2 cache.
DEVICE_BYTES = 512 << 20
CPU_BYTES = 64 << 20


@functools.cache
def device_copy_bandwidth(index: int) -> float:
    """Measure the copy bandwidth of a GPU, once a process.

    Args:
        index: number of the device in this process.

    Returns:
        Bytes per second, counting bytes read plus bytes written.
    """
    import torch

    from perfgate.measure.device import time_device

    with torch.cuda.device(index):
        source = torch.empty(DEVICE_BYTES // 4, dtype=torch.int32, device="cuda").random_()
        target = torch.empty_like(source)

        # A kernel that reads and writes each element once. A plain copy becomes a memcpy node when it is captured, and
        # those run on the copy engine: 2.75 TB/s on an H200, where this reaches 4.21 and an eager copy 4.18.
        def copy() -> None:
            torch.bitwise_not(source, out=target)

        timing = time_device(copy, cache="warm", budget_s=0.1)
    return 2 * DEVICE_BYTES / timing.median_s


@functools.cache
def cpu_copy_bandwidth() -> float:
    """Measure the copy bandwidth of one CPU thread, once a process, in bytes per second (read plus written)."""
    import numpy as np

    source = np.ones(CPU_BYTES // 8)
    target = np.zeros_like(source)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - begin)
    return 2 * CPU_BYTES / sorted(times)[len(times) // 2]
