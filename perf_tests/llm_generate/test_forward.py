"""What does a forward pass consist of, and how far are its logits from those of full precision?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from perf_workloads.profiles import copy_share
from perf_workloads.text_generation import linear_layer_count, logit_error, prompt_logits
from perf_workloads.text_generation.bench import Models
from perf_workloads.text_generation.grid import FP32_REFERENCE, QWEN3_4B, TINY, TINY_REFERENCE
from perf_workloads.text_generation.observe import OPERATORS
from perf_workloads.text_generation.setups import Configuration, GenerationSetup

if TYPE_CHECKING:
    pass

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


@pytest.fixture(scope="session")
def reference_logits(models: Models) -> Callable[[GenerationSetup], Any]:
    """Give ``reference_logits(setup)``: those of the same weights in fp32 for the prompt, kept on the CPU."""

    @functools.lru_cache(maxsize=2)
    def compute(setup: GenerationSetup) -> Any:
        runner = models.runner(Configuration(setup), 1, PROMPT)
        logits = prompt_logits(runner.model, runner.prompt(PROMPT)[0])
        models.release()
        return logits

    return lambda setup: compute(FP32_REFERENCE if setup.model == "qwen3-4b" else TINY_REFERENCE)


# In a process of its own: what it profiles would slow down the cases after it.
@pytest.mark.isolate(timeout=900)
@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.vram(24)
@pytest.mark.perf(time="10%", clock="wall")
@pytest.mark.parametrize("setup", eager(QWEN3_4B))
def test_qwen3_4b_forward(benchmark: Any, models: Models, reference_logits: Any, setup: GenerationSetup) -> None:
    def timed(call: Callable[[], Any]) -> Any:
        return benchmark.pedantic(call, rounds=5, warmup_rounds=1)

    forward(benchmark, timed, models, reference_logits, setup)


@pytest.mark.cpu
@pytest.mark.perf(time="20%", clock="wall", budget=0.3)
@pytest.mark.parametrize("setup", eager(TINY))
def test_tiny_qwen3_forward(benchmark: Any, models: Models, reference_logits: Any, setup: GenerationSetup) -> None:
    forward(benchmark, benchmark, models, reference_logits, setup)


def forward(
    benchmark: Any,
    timed: Callable[[Callable[[], Any]], Any],
    models: Models,
    reference_logits: Callable[[GenerationSetup], Any],
    setup: GenerationSetup,
) -> None:
    """Time a pass over a prompt, compare its logits, and count its products with weights exactly."""
    from perfgate.profile import capture

    benchmark.progress("loading the model in fp32, for its logits")
    reference = reference_logits(setup)
    benchmark.progress(f"loading {setup.label}")
    runner = models.runner(Configuration(setup), 1, PROMPT)
    input_ids, _ = runner.prompt(PROMPT)

    benchmark.progress("timing passes")
    output = timed(lambda: runner.model(input_ids, use_cache=False))

    error = logit_error(output.logits.float().cpu(), reference)
    benchmark.record("logit_error", error, unit="1", better="lower", limit="10% or 1e-5")
    assert error < LARGEST_ERROR[setup.method]
    benchmark.note("backend", setup.backend)
    benchmark.note("transformers", version("transformers"))
    benchmark.progress("profiling a pass")
    profile = capture(lambda: runner.model(input_ids, use_cache=False), warmed_up=True)
    benchmark.attach("operators.txt", profile.table(TABLE_ROWS))
    benchmark.report("copy_share", copy_share(profile))
    products = sum(profile.calls(name) for name in {"aten::mm", *OPERATORS.values()})
    benchmark.record("products", products, unit="1", better="lower", limit="0")
    assert products == linear_layer_count(setup.model)
    if runner.on_gpu:
        benchmark.record("launches", profile.launches, unit="1", better="lower", limit="0")
        # The columns of torch's tables that are in use today: the old names show zeros without a word.
        assert any(operator.self_device_s > 0 for operator in profile.operators)
        assert profile.device_s > 0


# In a process of its own: what it profiles would slow down the cases after it.
@pytest.mark.isolate(timeout=900)
@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.vram(24)
@pytest.mark.perf(time="5%", clock="wall")
@pytest.mark.parametrize("configuration", GRAPHED)
def test_qwen3_4b_fused_step(
    benchmark: Any, torch: ModuleType, models: Models, reference_logits: Any, configuration: Configuration
) -> None:
    """One replay, its launches, and its logits for the last token of the prompt."""
    from perfgate.profile import capture

    benchmark.progress("loading the model in fp32, for its logits")
    reference = reference_logits(configuration.setup)
    benchmark.progress(f"loading {configuration.setup.label}, capturing its step")
    runner = models.runner(configuration, 1, PROMPT)
    graphed, input_ids = runner.graphed, runner.prompt(PROMPT)[0]

    def at_the_end_of_the_prompt() -> None:
        graphed.start(input_ids[:, :-1])
        graphed.step.token.copy_(input_ids[:, -1])

    def replay() -> None:
        # Back to the same position each time.
        graphed.step.position.fill_(PROMPT - 1)
        graphed.replay()
        torch.cuda.synchronize()

    benchmark.progress("capturing the prompt, timing replays")
    at_the_end_of_the_prompt()
    benchmark.note("transformers", version("transformers"))
    benchmark.work(bytes=runner.weight_bytes)
    benchmark.pedantic(replay, rounds=20, iterations=5, warmup_rounds=1)

    at_the_end_of_the_prompt()
    error = logit_error(graphed.step().cpu(), reference[:, -1])
    benchmark.record("logit_error", error, unit="1", better="lower", limit="10% or 1e-5")
    assert error < LARGEST_ERROR[configuration.setup.method]
    at_the_end_of_the_prompt()
    profile = capture(graphed.step, warmed_up=True)
    benchmark.record("launches", profile.launches, unit="1", better="lower", limit="0")
    ours = {name: count for name, count in profile.kernels.items() if name in ("_token_kernel", "_decode_kernel")}
    layers = runner.model.config.num_hidden_layers
    assert ours == {"_token_kernel": 4 * layers + 1, "_decode_kernel": layers}
