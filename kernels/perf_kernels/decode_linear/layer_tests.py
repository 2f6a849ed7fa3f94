"""What the tests of a layer share: types, launches, what rounding may cost, and how often examples are drawn."""

from __future__ import annotations

import torch
from hypothesis import settings
from hypothesis import strategies as st

from perf_kernels.decode_linear import LaunchConfig
from perf_kernels.target import DEVICE_TYPE, INTERPRETED

DEVICE = DEVICE_TYPE
FLOATS = [torch.bfloat16, torch.float16, torch.float32]
INT8, FP8 = torch.int8, torch.float8_e4m3fn
#: What the rounding of operands to the type of x, which one token does not take, and fp32 sums may cost.
ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 1e-6}

examples = settings.get_profile("perf_kernels")
#: For examples that run the kernel in the interpreter, which takes up to a second each.
few = settings(examples, max_examples=min(examples.max_examples, 8) if INTERPRETED else examples.max_examples)
seeds = st.integers(0, 2**31 - 1)
groups = st.sampled_from([32, 64, 128])


def config_for(tokens: int, seed: int) -> LaunchConfig | None:
    """Choose a launch: few programs, because the interpreter runs them one after the other; sometimes the default."""
    rows = [16, 32][seed % 2] if tokens > 1 else [4, 8, 16][seed % 3]
    if seed % 5 == 0 and not INTERPRETED:
        return None
    return LaunchConfig(rows, [32, 64, 128][seed % 3], num_warps=1 if tokens == 1 else 4)
