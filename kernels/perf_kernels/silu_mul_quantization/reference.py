"""What must activating, multiplying and quantising compute? Plain torch, readable, no faster than it needs to be."""

from __future__ import annotations

import torch

from perf_kernels.row_quantization import quantize_rows_reference


def product(gate_up: torch.Tensor) -> torch.Tensor:
    """Give ``silu(gate) * up`` of ``gate_up: [M, 2 I]`` in fp64, [M, I]: what every rounding is an error against."""
    gate, up = gate_up.double().chunk(2, dim=1)
    return torch.nn.functional.silu(gate) * up


def silu_mul_quantize_reference(
    gate_up: torch.Tensor, dtype: torch.dtype = torch.int8
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise ``silu(gate) * up``, correctly rounded to the input's type.

    :func:`silu_mul_quantize` may round a product to the other neighbour where fp32 cannot tell them apart. Needs some
    60 bytes an element of the result: pass large inputs in slices of rows.

    Returns:
        ``q``: [M, I] ``dtype``, and ``scale``: [M] fp32.
    """
    return quantize_rows_reference(product(gate_up).to(gate_up.dtype), dtype)
