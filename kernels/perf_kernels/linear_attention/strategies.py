"""Which types, shapes, launches and strides is linear attention tested with?"""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st

from perf_kernels.linear_attention import LaunchConfig
from perf_kernels.target import DEVICE_TYPE

DEVICE = DEVICE_TYPE
FP64 = torch.float64
TYPES = [torch.bfloat16, torch.float16, torch.float32]

examples = settings.get_profile("perf_kernels")
half = settings(examples, max_examples=max(examples.max_examples // 2, 1))
few = settings(examples, max_examples=max(examples.max_examples // 5, 1))
seeds = st.integers(0, 2**31 - 1)
shapes = st.tuples(st.integers(1, 2), st.integers(1, 70), st.integers(1, 2), st.integers(1, 33), st.integers(1, 33))
cuts = st.builds(
    LaunchConfig,
    chunk=st.sampled_from([16, 32]),
    value_block=st.sampled_from([16, 32]),
    segments=st.integers(1, 3),
    num_stages=st.sampled_from([1, 2]),
)
configs = st.one_of(st.none(), cuts)
layouts = st.sampled_from(["contiguous", "heads first", "padded", "every other column", "packed"])


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """Give a tensor equal to ``x`` [B, T, H, D] in value with the strides that ``layout`` names; NaN lies around it."""
    batch, tokens, heads, width = x.shape
    if layout == "heads first":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "contiguous":
        return x.contiguous()
    shape, columns = {
        "padded": ((batch, tokens + 1, heads + 1, width + 3), slice(3, None)),
        "every other column": ((batch, tokens, heads, 2 * width), slice(None, None, 2)),
        "packed": ((batch, tokens, 3 * heads, width), slice(None)),
    }[layout]
    view = torch.full(shape, torch.nan, dtype=x.dtype, device=x.device)[:, :tokens, :heads, columns]
    view.copy_(x)
    return view


def carried(state: Any, number: int) -> torch.Tensor:
    """Give the state (0) or the sum of keys (1) of a state in either form."""
    return state[number] if isinstance(state, tuple) else state
