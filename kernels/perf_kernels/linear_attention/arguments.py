"""Can these tensors be attended to? The checks that every implementation shares, each with a message that says why."""

from __future__ import annotations

import torch

#: A state with one or without a sum of keys: [B, H, K, V], or that and [B, 1, H, K] for the normalised form.
State = torch.Tensor | tuple[torch.Tensor, torch.Tensor]

#: What kernels take. The references take fp64, too.
KERNEL_TYPES = (torch.bfloat16, torch.float16, torch.float32)
REFERENCE_TYPES = (*KERNEL_TYPES, torch.float64)


def check_heads(
    caller: str,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    types: tuple[torch.dtype, ...] = KERNEL_TYPES,
    grouped: bool = False,
) -> None:
    """Check ``q, k: [B, T, H, K]`` and ``v: [B, T, H, V]``.

    Args:
        caller: the function to name in a message.
        q: queries.
        k: keys.
        v: values.
        types: data types that are supported.
        grouped: whether ``v`` may have a multiple of the heads of ``q``.

    Raises:
        TypeError: a data type that is not supported, or more than one.
        ValueError: shapes or devices that do not fit together.
    """
    if q.dtype not in types:
        names = [str(dtype) for dtype in types]
        raise TypeError(f"{caller}: q is {q.dtype}; it must be {', '.join(names[:-1])} or {names[-1]}")
    for name, tensor in (("k", k), ("v", v)):
        if tensor.dtype != q.dtype:
            raise TypeError(f"{caller}: {name} is {tensor.dtype} and q is {q.dtype}; they must be of one type")
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.ndim != 4:
            raise ValueError(
                f"{caller}: {name} has {tensor.ndim} dimensions; it must have 4: batch, tokens, heads and width"
            )
        if tensor.device != q.device:
            raise ValueError(f"{caller}: {name} is on {tensor.device} and q on {q.device}; they must be on one device")
    if k.shape != q.shape:
        raise ValueError(f"{caller}: k is {list(k.shape)}; it must be {list(q.shape)}, as q is")
    batch, tokens, heads, keys = q.shape
    if keys == 0:
        raise ValueError(f"{caller}: q is {list(q.shape)}; keys must be at least 1 wide")
    if v.shape[:2] != q.shape[:2] or not (
        v.shape[2] == heads or (grouped and heads and v.shape[2] % heads == 0 and v.shape[2])
    ):
        wanted = f"a multiple of {heads}" if grouped else str(heads)
        raise ValueError(f"{caller}: v is {list(v.shape)}; it must be [{batch}, {tokens}, {wanted}, any width]")


def check_tensor(
    caller: str, name: str, tensor: torch.Tensor, shape: tuple[int, ...], device: torch.device, *, fp32: bool = True
) -> None:
    """Check the shape, the device and (if ``fp32``) the type of a tensor that goes with the heads.

    Raises:
        ValueError: it does not fit.
    """
    if tuple(tensor.shape) != shape or tensor.device != device or (fp32 and tensor.dtype != torch.float32):
        wanted = f"{list(shape)} torch.float32" if fp32 else str(list(shape))
        raise ValueError(
            f"{caller}: {name} is {list(tensor.shape)} {tensor.dtype} on {tensor.device}; "
            f"it must be {wanted} on {device}"
        )


def unpack_state(
    caller: str, initial_state: State | None, q: torch.Tensor, v: torch.Tensor, *, normalize: bool
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Give the state [B, H, K, V] and the sum of keys [B, 1, H, K] of an initial state; None where there is none.

    Raises:
        TypeError: one tensor where two are needed, or the other way round.
        ValueError: a shape, type or device that does not fit.
    """
    if initial_state is None:
        return None, None
    if isinstance(initial_state, torch.Tensor) == normalize:
        wanted = "a tuple of the state and the sum of keys" if normalize else "one tensor"
        given = "one tensor" if normalize else type(initial_state).__name__
        raise TypeError(f"{caller}: initial_state is {given}; with normalize={normalize} it must be {wanted}")
    batch, _, heads, keys = q.shape
    state, key_sum = (initial_state, None) if isinstance(initial_state, torch.Tensor) else initial_state
    check_tensor(caller, "initial_state", state, (batch, heads, keys, v.shape[3]), q.device)
    if key_sum is not None:
        check_tensor(caller, "initial_state[1]", key_sum, (batch, 1, heads, keys), q.device)
    return state, key_sum
