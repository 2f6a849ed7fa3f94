"""The short causal convolution of a gated delta net as an operation: fla's kernel, and torch's convolution."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from perf_workloads.attention.cases import CPU_TIME

SEED = 43
WIDTH = 4
#: Relative RMS in bf16, and in fp32.
ERROR = {"cuda": 0.005, "cpu": 1e-5}
#: Batch, tokens, channels: training, a long prompt.
SHAPES = ((8, 4096, 1024), (1, 32768, 1024))
SMALL = (1, 128, 256)


def shape_id(shape: tuple[int, ...]) -> str:
    """Write a shape as it stands in the id of a case."""
    return "x".join(map(str, shape))


@pytest.mark.sm80
@pytest.mark.perf(time="3% or 0.5us", memory="1%", clock="device")
@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
@pytest.mark.parametrize("implementation", ["fla", "torch"])
def test_causal_conv1d(benchmark: Any, torch: ModuleType, implementation: str, shape: tuple[int, int, int]) -> None:
    measure(benchmark, torch, implementation, shape, "cuda")


@pytest.mark.cpu
@pytest.mark.perf(time=CPU_TIME, budget=0.3)
def test_causal_conv1d_on_a_cpu(benchmark: Any, torch: ModuleType) -> None:
    measure(benchmark, torch, "torch", SMALL, "cpu")


def measure(benchmark: Any, torch: ModuleType, implementation: str, shape: tuple[int, int, int], device: str) -> None:
    """Measure one implementation; the last sequence is compared with sums of shifted inputs in fp32."""
    from perf_kernels.linear_attention import relative_rms
    from perf_workloads.attention.delta_net import short_convolution

    if implementation == "fla":
        pytest.importorskip("fla", reason="fla is not installed: pip install fla-core einops")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    generator = torch.Generator(device).manual_seed(SEED)
    x = torch.randn(shape, generator=generator, device=device, dtype=dtype)
    weight = torch.randn((shape[2], WIDTH), generator=generator, device=device, dtype=dtype)
    benchmark.work(bytes=2 * x.numel() * x.element_size(), flops=2 * x.numel() * WIDTH)

    output = benchmark(short_convolution, x, weight, fla=implementation == "fla")

    last, taps = x[-1].float(), weight.float()
    padded = torch.cat([last.new_zeros(WIDTH - 1, shape[2]), last])
    summed = sum(padded[tap : tap + shape[1]] * taps[:, tap] for tap in range(WIDTH))
    error = relative_rms(output[-1], torch.nn.functional.silu(summed))
    assert error <= ERROR[device]
    benchmark.report("relative_rms", error)
