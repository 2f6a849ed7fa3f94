"""Which GPUs are compiled for, and what does one multiprocessor of each hold?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from perfgate.errors import SettingError

#: How the hardware keys of compiled code begin.
KEY_PREFIX = "static-"
#: Id of the one case that stands for all of a test while its launches cannot even be listed.
PLACEHOLDER = "needs-compiler"


@dataclass(frozen=True)
class Limits:
    """What the waves or warps of one multiprocessor share.

    A scheduler is a partition of an NVIDIA SM or a SIMD of an AMD compute unit (of a work-group processor on RDNA).

    Attributes:
        schedulers: of a multiprocessor; a warp stays on one.
        warps: that one scheduler holds.
        registers: 32-bit registers a thread has, summed over the warps of one scheduler.
        register_step: a warp's registers a thread are raised to a multiple of this.
        blocks: that a multiprocessor holds.
        shared: bytes of shared memory (LDS) of a multiprocessor.
        shared_step: a block's bytes are raised to a multiple of this.
        shared_reserved: bytes that the system takes of each block.
        shared_block: the most bytes that one block may ask for.
        scalars: scalar registers of one scheduler, 0 where they limit nothing.
        scalar_step: a wave's scalar registers are raised to a multiple of this.
    """

    schedulers: int
    warps: int
    registers: int
    register_step: int
    blocks: int
    shared: int
    shared_step: int
    shared_block: int
    shared_reserved: int = 0
    scalars: int = 0
    scalar_step: int = 1


@dataclass(frozen=True)
class Target:
    """One GPU to compile for.

    Attributes:
        name: as in ``--target`` and in ids of cases; the pytest marker that selects its cases, too.
        backend: Triton's name of the vendor.
        arch: compute capability times ten, or AMD's name.
        lanes: threads of a warp.
        limits: what a multiprocessor holds.
        model: the card whose properties a launcher is told.
        multiprocessors: of that card.
        memory_bytes: of that card.
        l2_bytes: of that card.
    """

    name: str
    backend: Literal["cuda", "hip"]
    arch: int | str
    lanes: int
    limits: Limits
    model: str
    multiprocessors: int
    memory_bytes: int
    l2_bytes: int

    @property
    def key(self) -> str:
        """Give the hardware key of its baselines."""
        return f"{KEY_PREFIX}{self.name}"

    @property
    def capability(self) -> tuple[int, int]:
        """Give what ``torch.cuda.get_device_capability`` answers."""
        if isinstance(self.arch, int):
            return divmod(self.arch, 10)
        # torch on ROCm: gfx942 is (9, 4), gfx1100 is (11, 0).
        digits = self.arch.removeprefix("gfx")
        return int(digits[:-2]), int(digits[-2], 16)


def _sm(warps: int, blocks: int, shared_kib: int) -> Limits:
    """Give the limits of an NVIDIA SM: 4 partitions of 16384 registers, 256 at a time; 1 KiB of each block reserved.

    Sources: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; ``cuda_occupancy.h`` of the
    CUDA toolkit for the steps.
    """
    return Limits(4, warps // 4, 512, 8, blocks, shared_kib << 10, 128, (shared_kib - 1) << 10, 1024)


#: 512 registers a lane for vector and accumulation registers together, in steps of 8; 8 waves a SIMD; 800 scalar
#: registers in steps of 16. Source: LLVM, AMDGPUBaseInfo.cpp (getTotalNumVGPRs, getVGPRAllocGranule,
#: getMaxWavesPerEU, getTotalNumSGPRs, getSGPRAllocGranule, getMaxWorkGroupsPerCU); CDNA 2 and 3 ISA guides for LDS.
_CDNA = Limits(4, 8, 512, 8, 16, 64 << 10, 512, 64 << 10, scalars=800, scalar_step=16)
#: A work-group processor: 4 SIMDs of 16 waves and 1536 registers a lane of 32, in steps of 24; 128 KiB of LDS, of which
#: a work-group may have 64. Source: LLVM as above (FeatureGFX11FullVGPRs); RDNA 3 ISA guide.
_RDNA3 = Limits(4, 16, 1536, 24, 32, 128 << 10, 1024, 64 << 10)

_GIB = 1 << 30
_MIB = 1 << 20

#: Every target, by name.
TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("sm80", "cuda", 80, 32, _sm(64, 32, 164), "NVIDIA A100-SXM4-80GB", 108, 80 * _GIB, 40 * _MIB),
        Target("sm89", "cuda", 89, 32, _sm(48, 24, 100), "NVIDIA L40S", 142, 48 * _GIB, 96 * _MIB),
        Target("sm90", "cuda", 90, 32, _sm(64, 32, 228), "NVIDIA H200", 132, 141 * _GIB, 50 * _MIB),
        Target("sm100", "cuda", 100, 32, _sm(64, 32, 228), "NVIDIA B200", 148, 180 * _GIB, 126 * _MIB),
        Target("gfx90a", "hip", "gfx90a", 64, _CDNA, "AMD Instinct MI250X", 110, 64 * _GIB, 8 * _MIB),
        Target("gfx942", "hip", "gfx942", 64, _CDNA, "AMD Instinct MI300X", 304, 192 * _GIB, 4 * _MIB),
        Target("gfx1100", "hip", "gfx1100", 32, _RDNA3, "AMD Radeon RX 7900 XTX", 48, 24 * _GIB, 6 * _MIB),
    )
}


def find(name: str) -> Target:
    """Give a target by its name.

    Raises:
        SettingError: there is none of this name.
    """
    if name not in TARGETS:
        raise SettingError(f"there is no target {name!r}", hint=f"targets are {', '.join(TARGETS)}")
    return TARGETS[name]


def of_device(backend: str, arch: int | str) -> Target | None:
    """Give the target that Triton's name of a GPU stands for, or None."""
    plain = arch.split(":")[0] if isinstance(arch, str) else arch
    return next((each for each in TARGETS.values() if (each.backend, each.arch) == (backend, plain)), None)


#: The models of each target, as the hardware keys of their cards begin.
_MODELS = {
    "sm80": r"nvidia-(a100|a30|a800)",
    "sm89": r"nvidia-(l4|l40|l40s|geforce-rtx-40\d\d|rtx-\d+-ada)",
    "sm90": r"nvidia-(h100|h200|h800|h20|gh200)",
    "sm100": r"nvidia-(b100|b200|gb200)",
    "gfx90a": r"amd-instinct-mi2[15]0x?",
    "gfx942": r"amd-instinct-mi3(00[ax]|25x)",
    "gfx1100": r"amd-radeon-(rx-7900|pro-w7[89]00)",
}


def of_key(key: str) -> Target | None:
    """Give the target that the card of a hardware key is compiled for, or None: ``nvidia-h200-500w`` is sm90."""
    return next((TARGETS[name] for name, models in _MODELS.items() if re.match(f"{models}(-|$)", key)), None)
