"""How is the fused activation called where offsets pass 2**31?"""

from __future__ import annotations

import torch

from perf_kernels.index_width import Subject
from perf_kernels.silu_mul_quantization.inputs import random_gate_up
from perf_kernels.silu_mul_quantization.naive_twin import naive_silu_mul_quantize
from perf_kernels.silu_mul_quantization.ops import silu_mul_quantize
from perf_kernels.silu_mul_quantization.reference import silu_mul_quantize_reference


def _exact(gate_up: torch.Tensor) -> torch.Tensor:
    """Set every gate to 128 in place: silu(128) is 128, and the product is exact."""
    gate_up[:, : gate_up.shape[1] // 2] = 128.0
    return gate_up


SUBJECT = Subject(random_gate_up, silu_mul_quantize, naive_silu_mul_quantize, silu_mul_quantize_reference, exact=_exact)
