"""How do models call our kernel? By a function that checks and launches, and is one operator to ``torch.compile``."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from perf_kernels.arguments import FLOATS, check_device, check_type, described
from perf_kernels.decode_attention.kernel import _decode_kernel
from perf_kernels.decode_attention.launch import (
    MOST_SPLITS,
    ROWS,
    LaunchConfig,
    launch_config,
    power_of_two,
    shape_class,
)
from perf_kernels.target import current_target
from perf_kernels.tuned import Chooser

#: Widths of a head: its halves are operands of tensor cores, and all of it stays in registers.
_WIDTHS = (32, 64, 128, 256)


class Step(NamedTuple):
    """The tensors of one step, as :func:`decode_attention` takes them, in its order."""

    qkv: torch.Tensor
    q_norm: torch.Tensor
    k_norm: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    position: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor


class Workspace(NamedTuple):
    """Memory in which programs that share a head meet; one for all launches that follow each other on a stream.

    Attributes:
        partial: fp32, what each of them found.
        arrived: int32, how many have finished: zero between launches.
    """

    partial: torch.Tensor
    arrived: torch.Tensor


def workspace_for(keys: torch.Tensor, heads: int) -> Workspace:
    """Allocate what launches on a cache need to share its heads.

    Args:
        keys: [B, G, L, D], of the cache.
        heads: heads of queries, H.
    """
    batch, kv_heads, _, width = keys.shape
    shape = (batch * kv_heads, MOST_SPLITS, heads // kv_heads, width + 4)
    partial = torch.empty(shape, dtype=torch.float32, device=keys.device)
    return Workspace(partial, torch.zeros(batch * kv_heads, dtype=torch.int32, device=keys.device))


def decode_attention(
    qkv: torch.Tensor,
    q_norm: torch.Tensor,
    k_norm: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    position: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    epsilon: float = 1e-6,
    workspace: Workspace | None = None,
    config: LaunchConfig | None = None,
) -> torch.Tensor:
    """Attend from one new token of each sequence to those before it, and put its key and value into the cache.

    Queries and keys are normed head by head (RMS) and rotated first; scores are scaled by ``D**-0.5``. Works under
    ``torch.compile``, as the operator ``perf_kernels::decode_attention``, which changes ``keys`` and ``values``.
    Results depend on the launch's tiles and splits in the last place, and not on which program is the last. What is not
    finite shows in the heads of queries that look at it, of values in its column, and nowhere else.

    Args:
        qkv: [B, (H + 2 G) D] bf16, fp16 or fp32: projections of H heads of queries, then of G heads of keys, then of G
            heads of values; D is 32, 64, 128 or 256.
        q_norm: [D], weights of the norm of queries.
        k_norm: [D], of keys.
        cos: [>= L, D], its second half equal to the first, as transformers makes it.
        sin: [>= L, D], likewise.
        position: one int64: how many tokens the cache holds, 0 to L - 1. Read on the device, so it is not checked: from
            L on nothing is stored and nothing behind the cache is read, but the outputs mean nothing.
        keys: [B, G, L, D], changed in place.
        values: [B, G, L, D], changed in place.
        epsilon: of the norms.
        workspace: of :func:`workspace_for`: lets several programs share a head, which a long cache needs to fill a GPU.
            Two launches at the same time must not have the same. On NVIDIA GPUs; others ignore it.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.
            Not under ``torch.compile``.

    Returns:
        out: [B, H D].

    Raises:
        TypeError: a data type that is not supported.
        ValueError: a shape or device that cannot be used.
    """
    step = Step(qkv, q_norm, k_norm, cos, sin, position, keys, values)
    _check(step, workspace)
    if torch.compiler.is_compiling():
        return torch.ops.perf_kernels.decode_attention(*step, *(workspace or (None, None)), epsilon)
    return _attend(step, workspace, epsilon, config)


def _attend(
    step: Step, workspace: Workspace | None, epsilon: float, config: LaunchConfig | None = None
) -> torch.Tensor:
    batch, kv_heads, length, width = step.keys.shape
    out = _empty(step.qkv, step.keys)
    if config is None:
        config = choose(length, width)
    group = out.shape[1] // width // kv_heads
    if not 1 <= config.splits <= MOST_SPLITS:
        raise ValueError(f"decode_attention: config.splits is {config.splits}; it must be 1 to {MOST_SPLITS}")
    # On AMD's CDNA a barrier does not wait for the stores of other waves: what one counts, another may not have stored.
    splits = 1 if workspace is None or current_target().backend == "hip" else config.splits
    shared = (None, None) if workspace is None or splits == 1 else workspace
    arguments = (*step, out, length, width**-0.5, epsilon, *shared)
    constants = (kv_heads, group, max(ROWS, power_of_two(group)), width, config.block, splits)
    launch = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    grid = (batch * kv_heads * splits,)
    if out.is_cuda and out.device.index != torch.cuda.current_device():
        with torch.cuda.device(out.device):
            _decode_kernel[grid](*arguments, *constants, **launch)
    else:
        _decode_kernel[grid](*arguments, *constants, **launch)
    return out


def _empty(qkv: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    _, kv_heads, _, width = keys.shape
    return qkv.new_empty((qkv.shape[0], qkv.shape[1] - 2 * kv_heads * width))


def _fallback(length: int, width: int) -> LaunchConfig:
    target = current_target()
    return launch_config(length, width, target.backend == "hip" and target.lanes == 32)


choose = Chooser("decode_attention", _fallback, shape_class)


def _check(step: Step, workspace: Workspace | None) -> None:
    """Raise TypeError or ValueError for what cannot be used."""
    qkv, q_norm, k_norm, cos, sin, position, keys, values = step
    check_type("decode_attention", "qkv", qkv.dtype, FLOATS)
    check_device("decode_attention", "qkv", qkv)
    if keys.ndim != 4 or keys.shape[3] not in _WIDTHS or min(keys.shape) == 0:
        raise ValueError(
            f"decode_attention: keys are {list(keys.shape)}; they must be [B, G, L, D] with D one of "
            f"{', '.join(map(str, _WIDTHS))}"
        )
    batch, kv_heads, length, width = keys.shape
    heads, rest = divmod(qkv.shape[-1], width)
    if qkv.ndim != 2 or qkv.shape[0] != batch or rest or heads <= 2 * kv_heads or heads % kv_heads:
        raise ValueError(
            f"decode_attention: qkv is {list(qkv.shape)}; for keys {list(keys.shape)} it must be "
            f"[{batch}, (H + {2 * kv_heads}) * {width}], H a multiple of {kv_heads}"
        )
    wanted = {
        "qkv": (qkv, list(qkv.shape)),
        "q_norm": (q_norm, [width]),
        "k_norm": (k_norm, [width]),
        "keys": (keys, list(keys.shape)),
        "values": (values, list(keys.shape)),
    }
    for name, table in (("cos", cos), ("sin", sin)):
        wanted[name] = (table, [max(table.shape[0], length) if table.ndim else length, width])
    for name, (tensor, shape) in wanted.items():
        if (
            list(tensor.shape) != shape
            or tensor.dtype != qkv.dtype
            or tensor.device != qkv.device
            or not tensor.is_contiguous()
        ):
            raise ValueError(
                f"decode_attention: {name} must be {shape} {qkv.dtype} on {qkv.device}, contiguous; it is "
                f"{described(tensor)}"
            )
    if position.numel() != 1 or position.dtype != torch.int64 or position.device != qkv.device:
        raise ValueError(
            f"decode_attention: position must be one torch.int64 on {qkv.device}; it is {list(position.shape)} "
            f"{position.dtype} on {position.device}"
        )
    if workspace is not None:
        _check_workspace(workspace, [batch * kv_heads, MOST_SPLITS, heads // kv_heads - 2, width + 4], qkv.device)


def _check_workspace(workspace: Workspace, shape: list[int], device: torch.device) -> None:
    """Raise ValueError for memory of another cache: programs would write behind its end."""
    wanted = {
        "partial": (workspace.partial, shape, torch.float32),
        "arrived": (workspace.arrived, shape[:1], torch.int32),
    }
    for name, (tensor, sizes, dtype) in wanted.items():
        if (
            list(tensor.shape) != sizes
            or tensor.dtype != dtype
            or tensor.device != device
            or not tensor.is_contiguous()
        ):
            raise ValueError(
                f"decode_attention: workspace.{name} must be {sizes} {dtype} on {device}, contiguous, as "
                f"workspace_for(keys, heads) makes it; it is {described(tensor)}"
            )


@torch.library.custom_op("perf_kernels::decode_attention", mutates_args=("keys", "values", "partial", "arrived"))
def _operator(
    qkv: torch.Tensor,
    q_norm: torch.Tensor,
    k_norm: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    position: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    partial: torch.Tensor | None,
    arrived: torch.Tensor | None,
    epsilon: float,
) -> torch.Tensor:
    step = Step(qkv, q_norm, k_norm, cos, sin, position, keys, values)
    if (partial is None) != (arrived is None):
        raise ValueError(
            "decode_attention: partial and arrived come together, as workspace_for(keys, heads) makes them"
        )
    workspace = None if partial is None or arrived is None else Workspace(partial, arrived)
    _check(step, workspace)
    return _attend(step, workspace, epsilon)


@_operator.register_fake
def _(*arguments: Any) -> torch.Tensor:
    step = Step(*arguments[: len(Step._fields)])
    return _empty(step.qkv, step.keys)
