"""How is HBV called from torch: checked arguments, gradients, torch.compile, routing?"""

from __future__ import annotations

from typing import Any

import torch

from perf_kernels.hbv.kernel import backward_outputs, forward_outputs, launch_backward, launch_forward
from perf_kernels.hbv.launch import LaunchConfig
from perf_kernels.hbv.reference import PARAMETERS, STATES
from perf_kernels.hbv.routing import route
from perf_kernels.target import DEVICE_HINT, DEVICE_TYPE


def hbv(
    precipitation: torch.Tensor,
    temperature: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    *,
    smooth: bool = False,
    initial: torch.Tensor | None = None,
    routing: tuple[torch.Tensor, torch.Tensor] | None = None,
    config: LaunchConfig | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the HBV rainfall-runoff model over all days in one launch; its gradients are one launch more.

    Gradients flow to parameters, initial storages and forcings, and come from discharge and final storages. They are
    those of :func:`hbv_reference` under autograd, and cannot be differentiated once more. For the backward pass
    10/3 numbers a day and basin are kept at most, next to the inputs.

    What is not finite stays in its basin and does not reach the days before it. Of a forcing or a storage it shows
    where it does in :func:`hbv_reference`; so does NaN of a parameter, and where the reference raises 1 to it.

    Args:
        precipitation: [T, B] fp32, mm a day.
        temperature: [T, B] fp32, degrees Celsius.
        pet: [T, B] fp32, potential evapotranspiration, mm a day.
        parameters: [14, B] fp32, rows as :data:`PARAMETERS` names them. FC, LP and FC LP are not 0.
        smooth: the model with smooth thresholds, else that with hard ones.
        initial: [5, B] fp32, mm, rows as :data:`STATES` names them; by default every storage holds 1e-3 mm.
        routing: ``a`` and ``b``, each [B], of the gamma unit hydrograph that the discharge is routed with
            (:func:`route`); by default it is not routed.
        config: how to launch; by default :func:`launch_config` chooses.

    Returns:
        Discharge [T, B] in mm a day, and the storages [5, B] after the last day, which ``initial`` takes to go on.
        Tensors that are not contiguous are copied first.

    Raises:
        TypeError: a tensor that is not fp32.
        ValueError: a shape or device that cannot be used.
    """
    days, basins = _series_shape(precipitation)
    _check("precipitation", precipitation, (days, basins), precipitation)
    _check("temperature", temperature, (days, basins), precipitation)
    _check("pet", pet, (days, basins), precipitation)
    _check("parameters", parameters, (len(PARAMETERS), basins), precipitation)
    if initial is not None:
        _check("initial", initial, (len(STATES), basins), precipitation)
    tensors = (precipitation, temperature, pet, parameters, initial)
    wanted = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
    contiguous = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    if wanted:
        q, final = _Hbv.apply(*contiguous, smooth, config)
    elif torch.compiler.is_compiling():
        q, final, _, _ = hbv_forward_op(*contiguous, smooth, False)
    else:
        q, final, _, _ = launch_forward(*contiguous, smooth=smooth, save=False, config=config)
    return (q if routing is None else route(q, *routing)), final


class _Hbv(torch.autograd.Function):
    """The differentiable call. Under torch.compile its launches are the two operators below."""

    @staticmethod
    def forward(
        ctx: Any,
        precipitation: torch.Tensor,
        temperature: torch.Tensor,
        pet: torch.Tensor,
        parameters: torch.Tensor,
        initial: torch.Tensor | None,
        smooth: bool,
        config: LaunchConfig | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = (precipitation, temperature, pet, parameters, initial)
        if torch.compiler.is_compiling():
            q, final, soil, checkpoint = hbv_forward_op(*inputs, smooth, True)
        else:
            q, final, soil, checkpoint = launch_forward(*inputs, smooth=smooth, save=True, config=config)
        ctx.save_for_backward(precipitation, temperature, pet, parameters, soil, checkpoint)
        ctx.smooth, ctx.config = smooth, config
        ctx.set_materialize_grads(False)
        return q, final

    @staticmethod
    def backward(ctx: Any, q_gradient: torch.Tensor | None, final_gradient: torch.Tensor | None) -> Any:
        saved = ctx.saved_tensors
        forcings = any(ctx.needs_input_grad[:3])
        if q_gradient is None:
            q_gradient = saved[0].new_zeros(()).expand(saved[0].shape)
        if torch.compiler.is_compiling():
            gradients = hbv_backward_op(*saved, q_gradient, final_gradient, ctx.smooth, forcings)
        else:
            gradients = launch_backward(
                *saved, q_gradient, final_gradient, smooth=ctx.smooth, forcings=forcings, config=ctx.config
            )
        parameters, initial, *of_forcings = gradients
        if not forcings:
            of_forcings = [None, None, None]
        return *of_forcings, parameters, initial if ctx.needs_input_grad[4] else None, None, None


@torch.library.custom_op("perf_kernels::hbv_forward", mutates_args=())
def hbv_forward_op(
    precipitation: torch.Tensor,
    temperature: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    initial: torch.Tensor | None,
    smooth: bool,
    save: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run :func:`launch_forward`: the node that torch.compile sees."""
    return launch_forward(precipitation, temperature, pet, parameters, initial, smooth=smooth, save=save)


@hbv_forward_op.register_fake
def _(
    precipitation: torch.Tensor,
    temperature: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    initial: torch.Tensor | None,
    smooth: bool,
    save: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return forward_outputs(precipitation, parameters, save=save)


@torch.library.custom_op("perf_kernels::hbv_backward", mutates_args=())
def hbv_backward_op(
    precipitation: torch.Tensor,
    temperature: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    soil: torch.Tensor,
    checkpoint: torch.Tensor,
    q_gradient: torch.Tensor,
    final_gradient: torch.Tensor | None,
    smooth: bool,
    forcings: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run :func:`launch_backward`: the node that torch.compile sees."""
    return launch_backward(
        precipitation,
        temperature,
        pet,
        parameters,
        soil,
        checkpoint,
        q_gradient,
        final_gradient,
        smooth=smooth,
        forcings=forcings,
    )


@hbv_backward_op.register_fake
def _(
    precipitation: torch.Tensor,
    temperature: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    soil: torch.Tensor,
    checkpoint: torch.Tensor,
    q_gradient: torch.Tensor,
    final_gradient: torch.Tensor | None,
    smooth: bool,
    forcings: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return backward_outputs(precipitation, parameters, forcings=forcings)


def _series_shape(precipitation: torch.Tensor) -> tuple[int, int]:
    if precipitation.ndim != 2:
        raise ValueError(f"hbv: precipitation has {precipitation.ndim} dimensions; it must have 2, days and basins")
    days, basins = precipitation.shape
    return days, basins


def _check(name: str, tensor: torch.Tensor, shape: tuple[int, ...], like: torch.Tensor) -> None:
    """Raise unless a tensor is fp32, of this shape, and where the kernel runs."""
    if tensor.dtype != torch.float32:
        raise TypeError(f"hbv: {name} is {tensor.dtype}; it must be torch.float32")
    if tensor.shape != shape:
        raise ValueError(f"hbv: {name} is {list(tensor.shape)}; it must be {list(shape)}")
    if tensor.device.type != DEVICE_TYPE:
        raise ValueError(f"hbv: {name} is on {tensor.device}; {DEVICE_HINT}")
    if tensor.device != like.device:
        raise ValueError(f"hbv: {name} is on {tensor.device}, precipitation on {like.device}")
