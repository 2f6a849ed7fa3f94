"""Memory of the two passes by length of the sequence, each for itself; running out of it is an outcome.

What each figure covers is said in ``perf_workloads.attention.memory``.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from perf_workloads.attention.cases import grid, skip_unless_it_runs
from perf_workloads.attention.config import decoder

pytestmark = pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")

VOCABULARY = 1024
#: Sequences of a batch.
BATCH = {"cuda": 16, "cpu": 4}
LENGTHS = (256, 512, 1024, 2048, 4096)
#: Here the scores of one layer of softmax attention alone are 64 GiB in fp32.
LONGEST = 16384


@pytest.mark.perf(outcomes=("out_of_memory",))
@pytest.mark.parametrize(("device", "row", "tokens"), [*grid("cuda", LENGTHS), *grid("cpu", (256,))])
def test_memory_scaling(benchmark: Any, torch: ModuleType, device: str, row: str, tokens: int) -> None:
    measure(benchmark, device, row, tokens)


@pytest.mark.isolate(timeout=120)
@pytest.mark.perf(outcomes=("out_of_memory",))
@pytest.mark.parametrize(("device", "row", "tokens"), list(grid("cuda", (LONGEST,), rows=["softmax"])))
def test_out_of_memory(benchmark: Any, torch: ModuleType, device: str, row: str, tokens: int) -> None:
    """Expected to end as out of memory on every GPU there is, and to leave a row that says so."""
    measure(benchmark, device, row, tokens)


@pytest.mark.perf(outcomes=("out_of_memory",))
@pytest.mark.parametrize(
    ("device", "row", "tokens"),
    list(grid("cuda", (LONGEST,), rows=["flash", "linear", "gated_deltanet", "gated_deltanet_kda"])),
)
def test_beyond_softmax(benchmark: Any, torch: ModuleType, device: str, row: str, tokens: int) -> None:
    """What softmax by the math backend cannot hold, the others can."""
    measure(benchmark, device, row, tokens)


def measure(benchmark: Any, device: str, row: str, tokens: int) -> None:
    """Measure the memory of one step."""
    from perf_workloads.attention.memory import memory_of_step
    from perf_workloads.attention.stepping import stepping
    from perf_workloads.attention.training import logits
    from perf_workloads.attention.verify import assert_implementation

    changes = {} if device == "cuda" else {"hidden": 64, "layers": 2, "heads": 2}
    config = decoder(row, device, vocabulary=VOCABULARY, positions=tokens, **changes)
    skip_unless_it_runs(config)
    benchmark.note("mixer", config.implementation)
    run = stepping(config, device, BATCH[device], tokens)
    benchmark.profile(run.step)
    run.step()
    benchmark.progress("first step made, weighing another")
    assert_implementation(lambda: logits(run.training.model, run.inputs[:1, :64]), config)
    figures = memory_of_step(run.training.model, run.inputs, run.targets)
    for name, figure in figures.items():
        benchmark.record(name, figure, unit="B", limit="1%")
    assert figures["backward_memory"] >= figures["held_memory"], "the activations are part of the backward pass"
