"""Which configurations of the HBV kernels does ``perfgate tune hbv`` try, and on which shapes?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from perf_kernels.hbv.inputs import published_inputs
from perf_kernels.hbv.kernel import choose, launch_backward, launch_forward
from perf_kernels.hbv.launch import BASINS, LaunchConfig
from perf_kernels.target import DEVICE_TYPE, current_target
from perfgate.tune.check import close
from perfgate.tune.tunable import Tunable

#: The longest series of the published benchmark.
_DAYS = 1461
#: The most basins of that benchmark.
_COMPARED = 1024
_MOST_DAYS, _MOST_AHEAD, _MOST_WARPS = 10, 4, 4

Shape = tuple[int, int, bool, bool, bool]


def _shapes() -> Iterator[Shape]:
    """Give the hard and the smooth model: without gradients, forward for training, and backward."""
    for smooth in (False, True):
        for training, backward in ((False, False), (True, False), (True, True)):
            for basins in BASINS:
                yield basins, _DAYS, smooth, training, backward


def _candidates(basins: int, days: int, smooth: bool, training: bool, backward: bool) -> Iterator[LaunchConfig]:
    """Give chunks of 2 to 8 days and 1 to 3 of them ahead; in training both passes share the days of a chunk."""
    default = choose.fallback(basins, days, smooth, training, backward)
    for chunk in (default.days,) if training else (2, 3, 4, 6, 8):
        for ahead in (1, 2, 3):
            yield replace(default, days=chunk, ahead=ahead)


def _neighbours(config: LaunchConfig, *shape: Any) -> Iterator[LaunchConfig]:
    """Give a day and a chunk more or less, and programs of more basins."""
    training = shape[3]
    near = [replace(config, ahead=config.ahead + step) for step in (-1, 1)]
    near += [] if training else [replace(config, days=config.days + step) for step in (-1, 1)]
    near += [replace(config, block=2 * config.block, num_warps=2 * config.num_warps)]
    near += [replace(config, block=2 * config.block), replace(config, block=config.block // 2)]
    for other in near:
        basins_a_thread = other.block / (other.num_warps * current_target().lanes)
        days, ahead = 1 <= other.days <= _MOST_DAYS, 1 <= other.ahead <= _MOST_AHEAD
        if days and ahead and other.num_warps <= _MOST_WARPS and 0.5 <= basins_a_thread <= 2:
            yield other


def _inputs(basins: int, days: int, smooth: bool, training: bool, backward: bool) -> tuple[Any, ...]:
    given = published_inputs(days, basins, DEVICE_TYPE)
    if not backward:
        return smooth, training, backward, *given
    _, _, soil, checkpoint = launch_forward(*given, smooth=smooth, save=True)
    # The gradient of a sum.
    gradient = torch.ones((), device=DEVICE_TYPE).expand(days, basins)
    return smooth, training, backward, *given[:4], soil, checkpoint, gradient


def _launch(config: LaunchConfig, smooth: bool, training: bool, backward: bool, *tensors: torch.Tensor) -> Any:
    if backward:
        return launch_backward(*tensors, None, smooth=smooth, forcings=False, config=config)[:2]
    return launch_forward(*tensors, smooth=smooth, save=training, config=config)


def _gated(shape_class: str) -> bool:
    """Leave out other numbers of basins, and the smooth model's training: only programs differ in size.

    Each takes 3 to 5 s to compile.
    """
    return shape_class.endswith(f"-{_COMPARED}") and not shape_class.startswith("smooth-training")


TUNABLE = Tunable(
    kernel=choose.kernel,
    shapes=_shapes,
    shape_class=choose.shape_class,
    default=choose.fallback,
    candidates=_candidates,
    neighbours=_neighbours,
    inputs=_inputs,
    launch=_launch,
    # The compiler joins multiplications and additions otherwise in chunks of other lengths.
    check=partial(close, relative=1e-4),
    gated=_gated,
)
