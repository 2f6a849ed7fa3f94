"""How many warps can a multiprocessor hold at once, as a part of the most it can hold?"""

from __future__ import annotations

from perfgate.static.targets import Limits


def occupancy(limits: Limits, *, registers: int, shared: int, warps: int, scalars: int = 0) -> float:
    """Estimate the occupancy of a kernel, from 0 (it does not fit) to 1.

    Args:
        limits: of the multiprocessor.
        registers: of a thread, vector and accumulation registers together.
        shared: bytes of shared memory of a block.
        warps: of a block.
        scalars: scalar registers of a wave (AMD).
    """
    per_scheduler = limits.warps
    if registers:
        per_scheduler = min(per_scheduler, limits.registers // _raised(registers, limits.register_step))
    if scalars and limits.scalars:
        per_scheduler = min(per_scheduler, limits.scalars // _raised(scalars, limits.scalar_step))
    blocks = min(limits.blocks, limits.schedulers * per_scheduler // warps)
    if needed := shared + limits.shared_reserved:
        blocks = min(blocks, limits.shared // _raised(needed, limits.shared_step))
    return blocks * warps / (limits.schedulers * limits.warps)


def _raised(amount: int, step: int) -> int:
    return -(-amount // step) * step
