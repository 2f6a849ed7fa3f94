"""One training step: by length of the sequence, and by size of the model. Time, tokens a second, memory, parameters.

Forward, loss, backward, clipping and AdamW on random ids; fp32 weights, on a GPU with bf16 arithmetic.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from perf_workloads.attention.cases import grid, skip_unless_it_runs
from perf_workloads.attention.config import (
    PUBLISHED_DELTA_NET_SIZES,
    SIZES,
    DecoderConfig,
    decoder,
    published_delta_net,
)

#: About as many characters as WikiText-2 has different ones.
VOCABULARY = 1024
#: Sequences of a batch; warm-up steps and timed steps, as published.
BATCH = {"cuda": 128, "cpu": 4}
STEPS = {"cuda": (5, 20), "cpu": (1, 5)}
#: Heads of 64 in every size: fla tunes its kernels for each shape of a head, for minutes. The state is that of the main
#: experiments, and that of linear attention only in between: both are reported.
DELTA_NET_HEADS = {"heads": 4, "key_width": 64, "value_width": 64}


@pytest.mark.perf(clock="wall", budget=0.3)
@pytest.mark.parametrize(("device", "row", "tokens"), [*grid("cuda", (256, 512, 1024)), *grid("cpu", (64,))])
def test_training_efficiency(benchmark: Any, torch: ModuleType, device: str, row: str, tokens: int) -> None:
    changes = {} if device == "cuda" else {"hidden": 64, "layers": 2, "heads": 2}
    config = decoder(row, device, vocabulary=VOCABULARY, positions=1024, **changes)
    measure(benchmark, config, device, tokens)


@pytest.mark.perf(clock="wall", budget=0.3)
@pytest.mark.parametrize(("device", "row", "size"), [*grid("cuda", SIZES), *grid("cpu", ["1M"])])
def test_model_scaling(benchmark: Any, torch: ModuleType, device: str, row: str, size: str) -> None:
    hidden, layers, heads = SIZES[size]
    changes: dict[str, Any] = {"hidden": hidden, "layers": layers, "heads": heads}
    if device == "cuda" and row.startswith("gated_deltanet"):
        changes |= DELTA_NET_HEADS
    tokens = 512 if device == "cuda" else 64
    config = decoder(row, device, vocabulary=VOCABULARY, positions=512, **changes)
    measure(benchmark, config, device, tokens)


@pytest.mark.perf(clock="wall", budget=0.3, outcomes=("out_of_memory",))
@pytest.mark.parametrize(("device", "row", "tokens"), list(grid("cuda", (256, 512, 1024), rows=["gated_deltanet"])))
def test_published_delta_net(benchmark: Any, torch: ModuleType, device: str, row: str, tokens: int) -> None:
    """With fla's default widths, at half the hidden width: 32 times the state of the matched one."""
    measure(benchmark, published_delta_net(device, vocabulary=VOCABULARY, positions=1024), device, tokens)


@pytest.mark.perf(clock="wall", budget=0.3, outcomes=("out_of_memory",))
@pytest.mark.parametrize(
    ("device", "row", "size"), list(grid("cuda", PUBLISHED_DELTA_NET_SIZES, rows=["gated_deltanet"]))
)
def test_published_delta_net_scaling(benchmark: Any, torch: ModuleType, device: str, row: str, size: str) -> None:
    config = published_delta_net(device, vocabulary=VOCABULARY, positions=512, size=size)
    measure(benchmark, config, device, 512)


def measure(benchmark: Any, config: DecoderConfig, device: str, tokens: int) -> None:
    """Measure one training step, and check what computed it."""
    from perf_workloads.attention.decoder import parameters
    from perf_workloads.attention.stepping import stepping, time_steps
    from perf_workloads.attention.training import logits
    from perf_workloads.attention.verify import assert_implementation

    skip_unless_it_runs(config)
    run = stepping(config, device, BATCH[device], tokens)
    before = run.step().item()

    benchmark.progress("first step made, timing")
    benchmark(run.step)

    benchmark.progress("timed, steps as published")
    warm_up, steps = STEPS[device]
    mean_s, deviation_s = time_steps(run.step, device, warm_up=warm_up, steps=steps)
    benchmark.record("parameters", parameters(run.training.model), limit="0")
    benchmark.report("step_time", mean_s, unit="s")
    benchmark.report("step_time_deviation", deviation_s, unit="s")
    benchmark.report("tokens_per_s", BATCH[device] * tokens / mean_s, unit="tokens/s")
    benchmark.report("state", config.state_elements(tokens))
    if device == "cuda":
        benchmark.report("peak_memory", peak_memory(run.step), unit="B")
    assert_implementation(lambda: logits(run.training.model, run.inputs), config)
    assert run.step().item() < before, "hundreds of steps on one batch have not lowered its loss"


def peak_memory(step: Any) -> int:
    """Give all that a step has allocated at its peak, weights and optimizer included, as published tables show it."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated())
