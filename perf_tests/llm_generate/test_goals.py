"""Are the goals reached on an H200, and do the published findings hold there? For Qwen3-4B, one sequence."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perf_workloads.text_generation.bench import Figures
from perf_workloads.text_generation.grid import QWEN3_4B, Point
from perf_workloads.text_generation.setups import Configuration

POINT = Point(26, 100)
BF16 = Configuration(QWEN3_4B["bf16-triton"], "static", "graph")
INT8 = Configuration(QWEN3_4B["int8-weight-only-triton"], "static", "graph")
INT4 = Configuration(QWEN3_4B["int4-gptq-triton"], "static", "graph")
EAGER_FP16 = Configuration(QWEN3_4B["fp16-torch"])
EAGER_INT8 = Configuration(QWEN3_4B["int8-weight-only-rebuild"])
EAGER_INT4 = Configuration(QWEN3_4B["int4-gptq-rebuild"])

FiguresOf = Callable[[Configuration, Point], Figures]
pytestmark = [pytest.mark.cuda, pytest.mark.sm90, pytest.mark.vram(16)]


def test_bf16_takes_60_percent_of_the_bandwidth(figures: FiguresOf, copy_bandwidth: Callable[[bool], float]) -> None:
    """Static cache and graphs; bytes of the weights over inter-token latency times the measured copy bandwidth."""
    reached = figures(BF16, POINT)
    share = reached.bandwidth_share(copy_bandwidth(True))
    assert share >= 0.60, f"{share:.1%} of {copy_bandwidth(True) / 1e12:.2f} TB/s, {reached.inter_token_s * 1e3:.3f} ms"


def test_int8_gives_1_3_times_the_tokens_of_bf16(figures: FiguresOf) -> None:
    """Both with static cache and graphs."""
    ours, theirs = figures(INT8, POINT).tokens_per_s, figures(BF16, POINT).tokens_per_s
    assert ours >= 1.3 * theirs, f"{ours:.0f} tokens/s, bf16 {theirs:.0f}: {ours / theirs:.2f} times as many"


@pytest.mark.parametrize(("quantised", "share"), [(INT8, 0.60), (INT4, 0.40)])
def test_peak_memory_is_below_a_share_of_bf16(figures: FiguresOf, quantised: Configuration, share: float) -> None:
    """The peak of a generation, model and cache included."""
    ours, theirs = figures(quantised, POINT).peak_bytes, figures(BF16, POINT).peak_bytes
    assert ours < share * theirs, f"{ours / 1e9:.2f} GB, bf16 {theirs / 1e9:.2f} GB: {ours / theirs:.1%}"


@pytest.mark.parametrize("quantised", [EAGER_INT8, EAGER_INT4])
def test_quantised_is_slower_than_fp16_where_weights_are_rebuilt(figures: FiguresOf, quantised: Configuration) -> None:
    """The published finding: eager int8 and GPTQ make each full-precision weight again for each product."""
    ours, theirs = figures(quantised, POINT), figures(EAGER_FP16, POINT)
    assert ours.weight_bytes < 0.6 * theirs.weight_bytes
    assert ours.tokens_per_s < theirs.tokens_per_s, (
        f"{ours.tokens_per_s:.1f} tokens/s, fp16 {theirs.tokens_per_s:.1f}: rebuilding weights is no longer the slower"
    )


@pytest.mark.parametrize("quantised", [INT8, INT4])
def test_quantised_is_faster_than_fp16_where_weights_are_not_rebuilt(
    figures: FiguresOf, quantised: Configuration
) -> None:
    """Products that read codes, against the eager fp16 that the published figures compare with."""
    ours, theirs = figures(quantised, POINT).tokens_per_s, figures(EAGER_FP16, POINT).tokens_per_s
    assert ours > theirs, f"{ours:.0f} tokens/s, eager fp16 {theirs:.0f}"
