"""Which GPU would a kernel launched now be compiled for?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton.runtime import driver


@triton.jit
def _probe():
    pass


#: Triton's interpreter (TRITON_INTERPRET=1 when kernels were imported) runs on the CPU and only there.
INTERPRETED = not isinstance(_probe, triton.JITFunction)
#: Where tensors must be.
DEVICE_TYPE = "cpu" if INTERPRETED else "cuda"
DEVICE_HINT = (
    "with TRITON_INTERPRET=1 it must be on the CPU"
    if INTERPRETED
    else "it must be on a GPU; on a CPU the kernel runs in Triton's interpreter, with TRITON_INTERPRET=1"
)


@dataclass(frozen=True)
class Target:
    """What launchers ask about a GPU.

    Attributes:
        backend: "cuda", "hip" or "interpreter".
        arch: compute capability times ten (90) or AMD architecture ("gfx942"); 0 in the interpreter.
        lanes: threads of a warp.
    """

    backend: str
    arch: int | str
    lanes: int

    @property
    def has_fp8(self) -> bool:
        """Whether Triton converts to FP8 e4m3 for it; AMD's are served by a conversion in software."""
        return self.backend != "cuda" or int(self.arch) >= 89


def current_target() -> Target:
    """Give the target of the current device, or the one that is compiled for ahead of time."""
    if INTERPRETED:
        return Target("interpreter", 0, 32)
    return _target(driver.active, driver.active.get_current_device())


@functools.lru_cache(maxsize=64)
def _target(active: Any, device: Any) -> Target:
    target = active.get_current_target()
    return Target(target.backend, target.arch, target.warp_size)


def launch_beside(x: torch.Tensor, launch: Callable[..., None], *arguments: Any) -> None:
    """Call ``launch`` with the device of ``x`` as the current one: kernels run on that, wherever their tensors are."""
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        with torch.cuda.device(x.device):
            launch(*arguments)
    else:
        launch(*arguments)
