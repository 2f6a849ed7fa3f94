"""Training steps under torch's profiler: operators, spans, kernels, memory; a trace and tables with --perf-profile.

The first operators by time in themselves are a table in the run's JSON, too.

The spans forward, loss, backward and optimizer show the time on the device of whatever was launched while they lasted,
on any thread: autograd launches the backward pass from one of its own.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from perf_workloads.attention.cases import grid, skip_unless_it_runs
from perf_workloads.attention.config import decoder

VOCABULARY = 1024
BATCH = {"cuda": 128, "cpu": 4}
#: fla tunes its kernels for minutes when they are run for the first time.
TIMEOUT_S = 1800.0
#: Steps under the profiler, as published on a GPU.
STEPS = {"cuda": 10, "cpu": 2}


#: What a case profiles on a GPU would slow down launches of the cases after it.
PROFILED = [
    pytest.mark.isolate(timeout=TIMEOUT_S, group="profiles of training steps"),
    pytest.mark.filterwarnings("ignore:Benchmark fixture was not used"),
]


@pytest.mark.perf(clock="wall", budget=0.2)
@pytest.mark.parametrize(
    ("device", "row", "tokens"), [*grid("cuda", (256, 512, 1024), marks=PROFILED), *grid("cpu", (64,))]
)
def test_profiler(benchmark: Any, torch: ModuleType, device: str, row: str, tokens: int) -> None:
    from perf_workloads.attention.profiling import SPANS, assert_adds_up
    from perf_workloads.attention.stepping import stepping
    from perf_workloads.attention.training import logits
    from perf_workloads.attention.verify import assert_implementation, assert_kernels
    from perf_workloads.profiles import copy_share
    from perfgate.profile import capture

    changes = {} if device == "cuda" else {"hidden": 64, "layers": 2, "heads": 2}
    config = decoder(row, device, vocabulary=VOCABULARY, positions=1024, **changes)
    skip_unless_it_runs(config)
    run = stepping(config, device, BATCH[device], tokens)
    steps = STEPS[device]
    if device == "cuda":
        # The cases of training steps time it. fla tunes its kernels when they run first.
        benchmark.progress("the first step")
        benchmark.profile(run.step)
        run.step()
    else:
        benchmark(run.step)

    def some_steps() -> None:
        for _ in range(steps):
            run.step()

    benchmark.progress(f"{steps} steps under the profiler")
    profile = capture(some_steps, warmed_up=True)

    assert_adds_up(profile)
    benchmark.attach("operators.txt", profile.table())
    benchmark.report("copy_share", copy_share(profile))
    spans = {span.name: span for span in profile.spans}
    for name in SPANS:
        assert spans[name].calls == steps
        benchmark.report(f"{name}_cpu_time", spans[name].cpu_s, unit="s")
        benchmark.report(f"{name}_device_time", spans[name].device_s, unit="s")
    benchmark.report("self_cpu_time", profile.cpu_s, unit="s")
    benchmark.report("self_device_time", profile.device_s, unit="s")
    benchmark.record("matmuls", sum(profile.calls(name) for name in ("aten::mm", "aten::addmm")) / steps, limit="0")
    assert_implementation(lambda: logits(run.training.model, run.inputs), config)
    if device == "cuda":
        assert_kernels(profile.kernels, config.implementation)
        assert spans["backward"].device_s > spans["forward"].device_s > 0
        benchmark.record("launches", profile.launches / steps, limit="0")
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        run.step()
        benchmark.report("peak_memory", torch.cuda.max_memory_allocated(), unit="B")
