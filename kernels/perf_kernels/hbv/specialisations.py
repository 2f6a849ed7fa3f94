"""Which compiled forms of the HBV kernels do users get? Calls of the real launchers on tensors without data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from perf_kernels.hbv import kernel
from perf_kernels.hbv.function import hbv
from perf_kernels.hbv.kernel import forward_outputs, launch_backward, launch_forward
from perf_kernels.hbv.naive_twin import naive_hbv
from perf_kernels.hbv.reference import PARAMETERS, STATES
from perf_kernels.narrowed import narrowed

#: The largest series of the published benchmark.
DAYS, BASINS = 1461, 1024


def _inputs(basins: int) -> list[torch.Tensor]:
    shapes = [(DAYS, basins)] * 3 + [(len(PARAMETERS), basins)]
    return [torch.empty(shape, device="cuda") for shape in shapes]


def _initial(basins: int) -> torch.Tensor:
    return torch.empty(len(STATES), basins, device="cuda")


def _forward(basins: int, *, smooth: bool, initial: bool = True) -> object:
    return hbv(*_inputs(basins), smooth=smooth, initial=_initial(basins) if initial else None)


def _training(basins: int, *, smooth: bool) -> object:
    return launch_forward(*_inputs(basins), _initial(basins), smooth=smooth, save=True)


def _backward(basins: int, *, smooth: bool, everything: bool = False) -> object:
    """Launch the backward pass; ``everything`` has a gradient of the last storages, and wants those of the forcings."""
    inputs = _inputs(basins)
    _, _, soil, checkpoint = forward_outputs(inputs[0], inputs[3], save=True)
    # What the gradient of a sum looks like.
    q_gradient = torch.empty((), device="cuda").expand(DAYS, basins)
    final_gradient = _initial(basins) if everything else None
    return launch_backward(*inputs, soil, checkpoint, q_gradient, final_gradient, smooth=smooth, forcings=everything)


#: Each is compiled for every target by the static gate: both models, and the forward pass with and without what the
#: backward pass needs. The backward pass is the one that runs out of registers, and takes five seconds to compile; that
#: of the smooth model is the larger.
LAUNCHES: Mapping[str, Callable[[], object]] = {
    "forward-hard": lambda: _forward(BASINS, smooth=False),
    "backward-smooth": lambda: _backward(BASINS, smooth=True),
}
#: Compiled for one GPU of each vendor. They join what those above have in another way: the smooth model in chunks as
#: long as without gradients, and the backward pass of the hard one. For the other targets they took at most 8 % more
#: registers than their likes above, and like those none spilled. A regression of these alone, there, is not seen.
VENDOR_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "training-smooth": lambda: _training(BASINS, smooth=True),
    "forward-smooth-from-default-storages": lambda: _forward(BASINS, smooth=True, initial=False),
    "backward-hard": lambda: _backward(BASINS, smooth=False),
}
#: Other forms that users get.
MORE_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "backward-smooth-every-gradient": lambda: _backward(BASINS, smooth=True, everything=True),
    "backward-hard-every-gradient": lambda: _backward(BASINS, smooth=False, everything=True),
}


def _narrow_backward() -> object:
    with narrowed(kernel, "_backward_kernel"):
        return _backward(BASINS, smooth=False)


#: Deliberate mistakes, which the index check must find.
TWIN_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "forward-32-bit": lambda: naive_hbv(*_inputs(BASINS)),
    "backward-32-bit": _narrow_backward,
}
