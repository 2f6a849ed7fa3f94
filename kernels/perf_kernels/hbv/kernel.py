"""How is HBV launched over all days, forward and back: what is allocated, and in which configuration?"""

from __future__ import annotations

import contextlib
from dataclasses import replace

import torch
import triton

from perf_kernels.hbv.backward_kernel import _backward_kernel
from perf_kernels.hbv.forward_kernel import _forward_kernel
from perf_kernels.hbv.launch import LaunchConfig, checkpoints, launch_config, shape_class
from perf_kernels.hbv.reference import INITIAL_STATE, STATES
from perf_kernels.target import current_target
from perf_kernels.tuned import Chooser


def launch_forward(
    precipitation: torch.Tensor,
    temperature: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    initial: torch.Tensor | None,
    *,
    smooth: bool,
    save: bool,
    config: LaunchConfig | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run all days; arguments as :func:`hbv` checks them, contiguous.

    Returns:
        Discharge [T, B], storages [5, B]; and, with ``save``, what :func:`launch_backward` needs (else empty tensors):
        soil moisture at the start of each day [T, B], the other storages at checkpoints [N, 4, B].
    """
    days, basins = precipitation.shape
    config = config or _config(precipitation, smooth=smooth, training=save)
    q, final, soil, checkpoint = forward_outputs(precipitation, parameters, save=save, config=config)
    if days == 0:
        return q, final.fill_(INITIAL_STATE) if initial is None else final.copy_(initial), soil, checkpoint
    if basins > 0:
        with _device_of(precipitation):
            _forward_kernel[(triton.cdiv(basins, config.block),)](
                precipitation,
                temperature,
                pet,
                parameters,
                initial,
                q,
                final,
                soil if save else None,
                checkpoint if save else None,
                days,
                basins,
                SMOOTH=smooth,
                PTX=current_target().backend == "cuda",
                DAYS=min(config.days, days),
                AHEAD=config.ahead,
                BLOCK=config.block,
                num_warps=config.num_warps,
                num_stages=1,
                enable_fp_fusion=True,
            )
    return q, final, soil, checkpoint


def launch_backward(
    precipitation: torch.Tensor,
    temperature: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    soil: torch.Tensor,
    checkpoint: torch.Tensor,
    q_gradient: torch.Tensor,
    final_gradient: torch.Tensor | None,
    *,
    smooth: bool,
    forcings: bool,
    config: LaunchConfig | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give the gradients of what :func:`launch_forward` ran, with the same ``config``.

    Args:
        precipitation: as it was given.
        temperature: as it was given.
        pet: as it was given.
        parameters: as they were given.
        soil: as it was returned.
        checkpoint: as it was returned.
        q_gradient: [T, B], any strides.
        final_gradient: [5, B], or None for zeros.
        smooth: as it was given.
        forcings: whether their gradients are wanted.
        config: as it was given.

    Returns:
        Gradients of the parameters [14, B], of the initial storages [5, B], and of precipitation, temperature and
        potential evapotranspiration [T, B] (empty tensors unless ``forcings``).
    """
    days, basins = precipitation.shape
    config = config or _config(precipitation, smooth=smooth, backward=True)
    of_parameters, of_initial, *of_forcings = backward_outputs(precipitation, parameters, forcings=forcings)
    if days == 0:
        of_initial = of_initial.zero_() if final_gradient is None else of_initial.copy_(final_gradient)
        return of_parameters.zero_(), of_initial, *of_forcings
    if basins > 0:
        row_stride, column_stride = q_gradient.stride()
        with _device_of(precipitation):
            _backward_kernel[(triton.cdiv(basins, config.block),)](
                precipitation,
                temperature,
                pet,
                parameters,
                soil,
                checkpoint,
                q_gradient,
                final_gradient if final_gradient is None else final_gradient.contiguous(),
                of_parameters,
                of_initial,
                *(of_forcings if forcings else (None, None, None)),
                days,
                basins,
                row_stride,
                column_stride,
                SMOOTH=smooth,
                PTX=current_target().backend == "cuda",
                DAYS=min(config.days, days),
                AHEAD=config.ahead,
                BLOCK=config.block,
                num_warps=config.num_warps,
                num_stages=1,
                enable_fp_fusion=True,
            )
    return of_parameters, of_initial, *of_forcings


def forward_outputs(
    precipitation: torch.Tensor, parameters: torch.Tensor, *, save: bool, config: LaunchConfig | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Allocate what :func:`launch_forward` returns."""
    days, basins = precipitation.shape
    spacing = min((config or _config(precipitation, training=True)).days, max(days, 1))
    return (
        torch.empty_like(precipitation),
        parameters.new_empty((len(STATES), basins)),
        parameters.new_empty((days, basins) if save else (0,)),
        parameters.new_empty((checkpoints(days, spacing), len(STATES) - 1, basins) if save else (0,)),
    )


def backward_outputs(
    precipitation: torch.Tensor, parameters: torch.Tensor, *, forcings: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Allocate what :func:`launch_backward` returns."""
    days, basins = precipitation.shape
    shape = (days, basins) if forcings else (0,)
    return (
        torch.empty_like(parameters),
        parameters.new_empty((len(STATES), basins)),
        parameters.new_empty(shape),
        parameters.new_empty(shape),
        parameters.new_empty(shape),
    )


def _fallback(basins: int, days: int, smooth: bool, training: bool, backward: bool) -> LaunchConfig:
    return launch_config(basins, days, current_target().lanes, smooth=smooth, training=training, backward=backward)


choose = Chooser("hbv", _fallback, shape_class)


def _config(
    precipitation: torch.Tensor, *, smooth: bool = False, training: bool = True, backward: bool = False
) -> LaunchConfig:
    days, basins = precipitation.shape
    shape = (basins, days, smooth, training or backward, backward)
    config = choose(*shape)
    # Whatever was tuned, both passes have to agree on the days between two checkpoints.
    return replace(config, days=_fallback(*shape).days) if training or backward else config


def _device_of(tensor: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """Make the tensor's GPU the current one."""
    if tensor.is_cuda and tensor.device.index != torch.cuda.current_device():
        return torch.cuda.device(tensor.device)
    return contextlib.nullcontext()
