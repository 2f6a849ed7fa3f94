"""Which compiled forms of the kernel does the launcher ask for, and how are they compiled without a GPU?"""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from perf_kernels.row_quantization import kernel
from perf_kernels.row_quantization.launch import LaunchConfig, launch_config

_ITEMSIZE = {"bf16": 2, "fp16": 2, "fp32": 4}
_LARGEST = {"i8": 127.0, "fp8e4nv": 448.0}
_DIVISIBLE = [["tt.divisibility", 16]]


def compile_for(
    target: GPUTarget,
    width: int,
    codes: str = "i8",
    values: str = "bf16",
    *,
    rows: int = 65536,
    config: LaunchConfig | None = None,
) -> Any:
    """Compile what :func:`quantize_rows` would run on ``target``.

    Args:
        target: e.g. ``GPUTarget("cuda", 90, 32)``.
        width: columns of a contiguous ``[rows, width]``; a multiple of 16 gives wide accesses.
        codes: Triton's name of the output type, "i8" or "fp8e4nv".
        values: Triton's name of the input type, "bf16", "fp16" or "fp32".
        rows: rows of the input.
        config: how to launch; by default as :func:`launch_config` says.

    Returns:
        Triton's compiled kernel, with ``asm`` and ``metadata``.
    """
    config = config or launch_config(rows, width, _ITEMSIZE[values], target.warp_size)
    constants: dict[str, Any] = {"x_column_stride": 1, "LARGEST": _LARGEST[codes]}
    constants |= {"TILE": config.tile, "TILES": config.tiles(width)}
    if config.one_pass:
        function = kernel._one_pass_kernel
        constants["RAGGED"] = width % config.tile != 0
    else:
        function = kernel._two_pass_kernel
    types = {"x_ptr": f"*{values}", "q_ptr": f"*{codes}", "scale_ptr": "*fp32"}
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in function.arg_names}
    divisible = {"x_ptr", "q_ptr", "scale_ptr"}
    if width % 16 == 0:
        divisible |= {"width", "x_row_stride", "q_row_stride"}
    hints = {(i,): _DIVISIBLE for i, name in enumerate(function.arg_names) if name in divisible}
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=hints)
    return triton.compile(source, target=target, options={"num_warps": config.num_warps})
