"""What the tests of a step of attention share: how it is compared with the reference, and how often."""

from __future__ import annotations

import torch
from hypothesis import settings

from perf_kernels.decode_attention import LaunchConfig, decode_attention, workspace_for
from perf_kernels.decode_attention.inputs import Step
from perf_kernels.decode_attention.oracle import Allowed, relative_rms
from perf_kernels.target import DEVICE_TYPE, INTERPRETED

DEVICE = DEVICE_TYPE
FLOATS = [torch.bfloat16, torch.float16, torch.float32]

examples = settings.get_profile("perf_kernels")
few = settings(examples, max_examples=min(examples.max_examples, 10) if INTERPRETED else examples.max_examples)


def heads_of(step: Step) -> int:
    """Give the heads of queries."""
    return step.qkv.shape[1] // step.keys.shape[3] - 2 * step.keys.shape[1]


def assert_equals_the_reference(
    step: Step, position: int, config: LaunchConfig | None = None, *, shared: bool = False
) -> torch.Tensor:
    """Check outputs and the stored key by the oracle rule, the value and the rest of the cache bit for bit.

    ``shared``: several programs share a head, in memory that has held something else, and leave their counters at 0.
    """
    before = step.keys.clone(), step.values.clone()
    allowed = Allowed(*step[:5], position, *before)
    workspace = workspace_for(step.keys, heads_of(step)) if shared else None
    if workspace is not None:
        workspace.partial.fill_(torch.nan)
    y = decode_attention(*step, workspace=workspace, config=config)
    assert workspace is None or not workspace.arrived.any()
    assert y.dtype == step.qkv.dtype
    assert relative_rms(y, allowed.output) <= allowed.output_error
    assert relative_rms(step.keys[:, :, position], allowed.key) <= allowed.key_error
    assert torch.equal(step.values[:, :, position].double(), allowed.value)
    for cache, old in zip((step.keys, step.values), before, strict=True):
        rest = torch.arange(cache.shape[2], device=cache.device) != position
        assert torch.equal(cache[:, :, rest].nan_to_num(9.0), old[:, :, rest].nan_to_num(9.0))
    return y
