"""What does a forward pass consist of, and how far are its logits from those of full precision?

On a GPU cases that profile time nothing and have a process each: torch's profiler slows down what is timed later in the
same one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.profiles import copy_share
from perf_workloads.text_generation import linear_layer_count, logit_error, prompt_logits
from perf_workloads.text_generation.bench import Models, Runner
from perf_workloads.text_generation.grid import FP32_REFERENCE, QWEN3_4B, TINY, TINY_REFERENCE
from perf_workloads.text_generation.observe import OPERATORS, assert_products
from perf_workloads.text_generation.setups import Configuration, GenerationSetup

#: Rows of the published table of operators.
TABLE_ROWS = 10
#: A published length of the prompt; long enough for torch's integer products on a GPU.
PROMPT = 26
#: How far the logits of random weights may be off, in standard deviations: rounding of the dtype, of 8 and of 4 bits.
#: Real weights, and GPTQ proper instead of rounding to nearest, come out better.
LARGEST_ERROR = {"dense": 0.05, "int8-weight-only": 0.15, "int8-dynamic": 0.3, "fp8": 0.6, "int4-gptq": 1.2}


def eager(setups: dict[str, GenerationSetup]) -> list[Any]:
    """List the setups that torch multiplies for, whatever the number of tokens."""
    return [
        pytest.param(setup, marks=[pytest.mark.fp8] if setup.method == "fp8" else [])
        for setup in setups.values()
        if setup.backend != "triton"
    ]


GRAPHED = [
    pytest.param(Configuration(setup, "static", "graph"), marks=[pytest.mark.fp8] if setup.method == "fp8" else [])
    for setup in QWEN3_4B.values()
    if setup.backend == "triton"
]
#: Seconds that a process which profiles may take: it loads a model of its own.
PROFILE_TIMEOUT_S = 900
#: It times no call.
untimed = pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")


@pytest.fixture(scope="session")
def reference_logits(models: Models) -> Callable[[GenerationSetup], Any]:
    """Give ``reference_logits(setup)``: those of the same weights in fp32 for the prompt, kept on the CPU."""

    @functools.lru_cache(maxsize=2)
    def compute(setup: GenerationSetup) -> Any:
        runner = models.runner(Configuration(setup), 1, PROMPT)
        logits = prompt_logits(runner.model, runner.prompt(PROMPT)[0])
        # Held, it would keep its memory from the cases that follow.
        del runner
        models.release()
        return logits

    return lambda setup: compute(FP32_REFERENCE if setup.model == "qwen3-4b" else TINY_REFERENCE)


@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.vram(24)
@pytest.mark.perf(time="10%", clock="wall")
@pytest.mark.parametrize("setup", eager(QWEN3_4B))
def test_qwen3_4b_forward(benchmark: Any, models: Models, reference_logits: Any, setup: GenerationSetup) -> None:
    def timed(call: Callable[[], Any]) -> Any:
        return benchmark.pedantic(call, rounds=5, warmup_rounds=1)

    forward(benchmark, timed, models, reference_logits, setup)


@untimed
@pytest.mark.isolate(timeout=PROFILE_TIMEOUT_S, group="profiles of text generation")
@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.vram(24)
@pytest.mark.parametrize("setup", eager(QWEN3_4B))
def test_qwen3_4b_forward_profile(benchmark: Any, models: Models, setup: GenerationSetup) -> None:
    benchmark.progress(f"loading {setup.label}")
    profile = profiled(benchmark, models.runner(Configuration(setup), 1, PROMPT))
    benchmark.record("launches", profile.launches, unit="1", better="lower", limit="0")
    # The columns of torch's tables that are in use today: the old names show zeros without a word.
    assert any(operator.self_device_s > 0 for operator in profile.operators)
    assert profile.device_s > 0


@pytest.mark.cpu
@pytest.mark.perf(time="20%", clock="wall", budget=0.3)
@pytest.mark.parametrize("setup", eager(TINY))
def test_tiny_qwen3_forward(benchmark: Any, models: Models, reference_logits: Any, setup: GenerationSetup) -> None:
    """Profiled, too: cases of a CPU come last, so that what the profiler leaves behind slows down none of a GPU."""
    profiled(benchmark, forward(benchmark, benchmark, models, reference_logits, setup))


def forward(
    benchmark: Any,
    timed: Callable[[Callable[[], Any]], Any],
    models: Models,
    reference_logits: Callable[[GenerationSetup], Any],
    setup: GenerationSetup,
) -> Runner:
    """Time a pass over a prompt, compare its logits, and count its products with weights exactly; give what ran it."""
    from perf_workloads.text_generation.watch import watch

    benchmark.progress("loading the model in fp32, for its logits")
    reference = reference_logits(setup)
    benchmark.progress(f"loading {setup.label}")
    runner = models.runner(Configuration(setup), 1, PROMPT)
    call = one_pass(runner)

    benchmark.progress("timing passes")
    output = timed(call)

    error = logit_error(output.logits.float().cpu(), reference)
    benchmark.record("logit_error", error, unit="1", better="lower", limit="10% or 1e-5")
    assert error < LARGEST_ERROR[setup.method]
    say_what_runs(benchmark, setup)
    benchmark.progress("counting products")
    seen = watch(runner.model, call)
    products = sum(seen.operators[name] for name in {"aten::mm", *OPERATORS.values()})
    benchmark.record("products", products, unit="1", better="lower", limit="0")
    assert products == linear_layer_count(setup.model)
    assert_products(setup.label, setup, runner.model, seen, 1)
    return runner


def profiled(benchmark: Any, runner: Runner) -> Any:
    """Profile a pass over a prompt; attach its operators, show the share of copies, and give the profile."""
    from perfgate.profile import capture

    call = one_pass(runner)
    benchmark.profile(call)
    say_what_runs(benchmark, runner.configuration.setup)
    benchmark.progress("profiling a pass")
    profile = capture(call)
    benchmark.attach("operators.txt", profile.table(TABLE_ROWS))
    benchmark.report("copy_share", copy_share(profile))
    return profile


def one_pass(runner: Runner) -> Callable[[], Any]:
    """Give a pass over the prompt as a call."""
    input_ids, _ = runner.prompt(PROMPT)
    return lambda: runner.model(input_ids, use_cache=False)


def say_what_runs(benchmark: Any, setup: GenerationSetup) -> None:
    """Note what figures of a pass depend on."""
    benchmark.note("backend", setup.backend)
    benchmark.note("transformers", version("transformers"))


@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.vram(24)
@pytest.mark.perf(time="5%", clock="wall")
@pytest.mark.parametrize("configuration", GRAPHED)
def test_qwen3_4b_fused_step(
    benchmark: Any, torch: ModuleType, models: Models, reference_logits: Any, configuration: Configuration
) -> None:
    """One replay, and its logits for the last token of the prompt."""
    benchmark.progress("loading the model in fp32, for its logits")
    reference = reference_logits(configuration.setup)
    benchmark.progress(f"loading {configuration.setup.label}, capturing its step")
    runner = models.runner(configuration, 1, PROMPT)
    graphed = runner.graphed

    def replay() -> None:
        # Back to the same position each time.
        graphed.step.position.fill_(PROMPT - 1)
        graphed.replay()
        torch.cuda.synchronize()

    benchmark.progress("capturing the prompt, timing replays")
    at_the_end_of_the_prompt(runner)
    benchmark.note("transformers", version("transformers"))
    benchmark.work(bytes=runner.weight_bytes)
    benchmark.pedantic(replay, rounds=20, iterations=5, warmup_rounds=1)

    at_the_end_of_the_prompt(runner)
    error = logit_error(graphed.step().cpu(), reference[:, -1])
    benchmark.record("logit_error", error, unit="1", better="lower", limit="10% or 1e-5")
    assert error < LARGEST_ERROR[configuration.setup.method]


@untimed
@pytest.mark.isolate(timeout=PROFILE_TIMEOUT_S, group="profiles of text generation")
@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.vram(24)
@pytest.mark.parametrize("configuration", GRAPHED)
def test_qwen3_4b_fused_step_profile(benchmark: Any, models: Models, configuration: Configuration) -> None:
    """Launches of the step for the last token of the prompt, one by one instead of replayed."""
    from perfgate.profile import capture

    benchmark.progress(f"loading {configuration.setup.label}, capturing its step")
    runner = models.runner(configuration, 1, PROMPT)
    benchmark.note("transformers", version("transformers"))
    at_the_end_of_the_prompt(runner)
    benchmark.profile(runner.graphed.step)
    benchmark.progress("profiling a step")
    # It ran before it was captured.
    profile = capture(runner.graphed.step, warmed_up=True)
    benchmark.record("launches", profile.launches, unit="1", better="lower", limit="0")
    ours = {name: count for name, count in profile.kernels.items() if name in ("_token_kernel", "_decode_kernel")}
    layers = runner.model.config.num_hidden_layers
    assert ours == {"_token_kernel": 4 * layers + 1, "_decode_kernel": layers}


def at_the_end_of_the_prompt(runner: Runner) -> None:
    """Let the next step be that of the prompt's last token."""
    input_ids, _ = runner.prompt(PROMPT)
    runner.graphed.start(input_ids[:, :-1])
    runner.graphed.step.token.copy_(input_ids[:, -1])
