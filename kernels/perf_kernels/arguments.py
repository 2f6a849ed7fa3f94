"""Which arguments can a kernel of rows not be launched with? What launchers check, and how they say it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from perf_kernels.rows import LARGEST_CODE
from perf_kernels.target import DEVICE_HINT, DEVICE_TYPE, current_target

#: What values may be.
FLOATS = (torch.bfloat16, torch.float16, torch.float32)


def check_values(caller: str, name: str, x: torch.Tensor, types: Sequence[torch.dtype] = FLOATS) -> None:
    """Check a matrix of values.

    Args:
        caller: the function to name in a message.
        name: of the argument.
        x: what must be [M, K].
        types: data types that are supported.

    Raises:
        TypeError: a data type that is not supported.
        ValueError: not a matrix.
    """
    check_type(caller, name, x.dtype, types)
    if x.ndim != 2:
        raise ValueError(f"{caller}: {name} has {x.ndim} dimensions; it must have 2, rows and columns")


def check_type(caller: str, name: str, dtype: torch.dtype, types: Sequence[torch.dtype]) -> None:
    """Check a data type.

    Raises:
        TypeError: it is not one of ``types``.
    """
    if dtype not in types:
        names = [str(each) for each in types]
        raise TypeError(f"{caller}: {name} is {dtype}; it must be {', '.join(names[:-1])} or {names[-1]}")


def check_quantizable(caller: str, name: str, x: torch.Tensor, codes: torch.dtype, max_width: int) -> None:
    """Check rows of values, and the type that their codes are to have.

    Args:
        caller: the function to name in a message.
        name: of the argument.
        x: what must be [M, K].
        codes: what must be a type of codes.
        max_width: the widest rows that are supported.

    Raises:
        TypeError: a data type that is not supported.
        ValueError: a shape that is not.
    """
    check_values(caller, name, x)
    check_type(caller, "dtype", codes, tuple(LARGEST_CODE))
    if x.shape[1] > max_width:
        raise ValueError(f"{caller}: {name} has rows of {x.shape[1]} elements; at most {max_width} are supported")


def check_device(caller: str, name: str, x: torch.Tensor, codes: torch.dtype | None = None) -> None:
    """Check that kernels run where ``x`` is, and that the device there has the type of the codes.

    Raises:
        ValueError: it does not.
    """
    if x.device.type != DEVICE_TYPE:
        raise ValueError(f"{caller}: {name} is on {x.device}; {DEVICE_HINT}")
    if codes is torch.float8_e4m3fn and not (target := current_target()).has_fp8:
        raise ValueError(
            f"{caller}: torch.float8_e4m3fn needs compute capability 8.9 or more; this device has "
            f"{int(target.arch) / 10}"
        )


def check_out(
    caller: str, name: str, out: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    """Check that a result can be written: to a matrix with unit column stride, or to a vector without gaps.

    Raises:
        ValueError: it cannot.
    """
    matrix = len(shape) == 2
    fits = out.shape == shape and out.dtype == dtype and out.device == device
    if not fits or not (out.numel() == 0 or out.stride(1) == 1 if matrix else out.is_contiguous()):
        raise ValueError(
            f"{caller}: {name} must be {list(shape)} {dtype} on {device}"
            f"{' with unit column stride' if matrix else ', contiguous'}; it is {described(out)}"
        )


def described(tensor: torch.Tensor) -> str:
    """Describe a tensor as messages do, e.g. ``[2, 3] torch.int8 on cpu with strides [3, 1]``."""
    return f"{list(tensor.shape)} {tensor.dtype} on {tensor.device} with strides {list(tensor.stride())}"
