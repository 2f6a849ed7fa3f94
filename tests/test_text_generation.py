"""Does the text-generation driver generate the right tokens, and report the right figures about them?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_workloads.text_generation import (
    Generation,
    GenerationSetup,
    fit_line,
    generate,
    generation_work,
    greedy_gap,
    linear_layer_count,
    load,
    percentile,
    random_prompt,
    weight_bytes,
)
from perf_workloads.text_generation.models import linear_layers
from perf_workloads.text_generation.setups import SHAPES

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[1]
TINY = GenerationSetup("tiny-qwen3", dtype="float32", device="cpu")


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread: several wait for each other at every small operation when a core is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny():
    return load(TINY)


def greedy_loop(model: Any, input_ids: Any, new_tokens: int) -> tuple[tuple[int, ...], ...]:
    """Generate the slow way: the whole sequence through the model for every token, no cache, no generate()."""
    ids = input_ids
    with torch.no_grad():
        for _ in range(new_tokens):
            ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], dim=-1)
    return tuple(map(tuple, ids[:, input_ids.shape[1] :].tolist()))


class ScriptedModel:
    """Stream what a script says, as ``generate`` does: the prompt first, then the tokens of one step at a time."""

    def __init__(self, *steps: int | list[int]) -> None:
        self.steps = steps
        self.asked: dict[str, Any] = {}

    def generate(self, input_ids: Any, *, streamer: Any, **asked: Any) -> None:
        self.asked = asked
        streamer.put(input_ids)
        for step in self.steps:
            streamer.put(torch.tensor(step if isinstance(step, list) else [step]))
        streamer.end()


def test_figures_come_from_the_stamps_and_count_new_tokens_only():
    clock = iter([100.0, 100.5, 100.75, 101.75, 102.5]).__next__
    generation = generate(ScriptedModel(7, 8, 9), torch.zeros(1, 26, dtype=torch.int64), 3, clock=clock)
    assert generation == Generation(
        tokens=((7, 8, 9),), time_to_first_token_s=0.5, inter_token_latencies_s=(0.25, 1.0), latency_s=2.5
    )
    assert generation.tokens_per_s == 3 / 2.5


def test_tokens_of_all_sequences_count():
    clock = iter([0.0, 1.0, 2.0, 4.0]).__next__
    generation = generate(ScriptedModel([1, 2], [3, 4]), torch.zeros(2, 5, dtype=torch.int64), 2, clock=clock)
    assert generation.tokens == ((1, 3), (2, 4))
    assert generation.tokens_per_s == 4 / 4.0


@pytest.mark.parametrize(
    ("how", "asked"),
    [
        ({}, {}),
        ({"cache": "static"}, {"cache_implementation": "static", "disable_compile": True}),
        ({"cache": "static", "compiled": True}, {"cache_implementation": "static", "disable_compile": False}),
    ],
    ids=["dynamic", "static", "compiled"],
)
def test_what_is_asked_for(how, asked):
    """As many tokens at the least as at the most; a static cache does not compile by itself."""
    model = ScriptedModel(1, 2, 3, 4)
    generate(model, torch.zeros(1, 2, dtype=torch.int64), 4, **how)
    fixed = {"do_sample": False, "min_new_tokens": 4, "max_new_tokens": 4, "use_cache": True}
    settings = model.asked.pop("compile_config", None)
    assert model.asked == {**fixed, **asked}
    # Without these transformers does not compile on a CPU, where there are no graphs to capture.
    assert (settings is not None) == ("compiled" in how)
    assert settings is None or (settings.mode, settings._compile_all_devices) == ("default", True)


def test_a_single_token_has_a_time_to_first_token_and_no_inter_token_latency():
    clock = iter([1.0, 3.0, 4.0]).__next__
    generation = generate(ScriptedModel(5), torch.zeros(1, 2, dtype=torch.int64), 1, clock=clock)
    assert (generation.time_to_first_token_s, generation.inter_token_latencies_s) == (2.0, ())


@pytest.mark.parametrize("streamed", [2, 4])
def test_another_number_of_tokens_than_asked_for_is_an_error(streamed):
    with pytest.raises(RuntimeError) as error:
        generate(ScriptedModel(*[1] * streamed), torch.zeros(1, 5, dtype=torch.int64), 3)
    assert str(error.value) == f"3 tokens were asked for and {streamed} streamed"


@pytest.mark.parametrize("shape", [(1, 0), (0, 3), (3,)])
def test_a_prompt_that_is_no_batch_of_sequences_is_an_error(shape):
    with pytest.raises(ValueError) as error:
        generate(ScriptedModel(1), torch.zeros(shape, dtype=torch.int64), 1)
    assert str(error.value) == f"the prompt must have the shape [B, n], not {list(shape)}"


def test_no_new_tokens_is_an_error():
    with pytest.raises(ValueError) as error:
        generate(ScriptedModel(), torch.zeros(1, 3, dtype=torch.int64), 0)
    assert str(error.value) == "new_tokens must be at least 1, not 0"


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=120), st.floats(0, 1))
def test_percentile_agrees_with_numpy(values, share):
    numpy = pytest.importorskip("numpy")
    assert percentile(values, share) == pytest.approx(numpy.percentile(values, 100 * share), rel=1e-9, abs=1e-9)


def test_percentile_of_nothing_is_an_error():
    with pytest.raises(ValueError) as error:
        percentile([], 0.5)
    assert str(error.value) == "no inter-token latency: fewer than two tokens were generated"


@given(st.floats(0, 10), st.floats(1e-3, 1), st.sets(st.integers(1, 200), min_size=2, max_size=6))
def test_a_line_gives_back_what_it_was_made_of(first_s, step_s, lengths):
    line = fit_line([(tokens, first_s + step_s * (tokens - 1)) for tokens in lengths])
    assert line.inter_token_s == pytest.approx(step_s, rel=1e-6)
    assert line.first_token_s == pytest.approx(first_s, rel=1e-6, abs=1e-6)


def test_a_line_through_one_length_is_an_error():
    with pytest.raises(ValueError) as error:
        fit_line([(50, 1.0), (50, 1.1)])
    assert str(error.value) == "a line takes generations of at least two lengths"


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_the_first_token_is_stamped_after_one_pass_and_each_other_one_pass_later(tiny, cache):
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    hook = tiny.register_forward_pre_hook(count)
    try:
        # The clock tells the number of passes so far: time to first token is 1 pass, so is each token after it.
        generation = generate(tiny, random_prompt(tiny, 26), 5, cache=cache, clock=lambda: float(passes))
    finally:
        hook.remove()
    assert generation.time_to_first_token_s == 1
    assert generation.inter_token_latencies_s == (1, 1, 1, 1)
    assert generation.latency_s == 5


@pytest.mark.parametrize(("input_tokens", "batch", "cache"), [(1, 1, "dynamic"), (26, 2, "dynamic"), (3, 1, "static")])
def test_generation_equals_a_plain_loop_of_forward_and_argmax(tiny, input_tokens, batch, cache):
    input_ids = random_prompt(tiny, input_tokens, batch=batch)
    generation = generate(tiny, input_ids, 12, cache=cache)
    assert generation.tokens == greedy_loop(tiny, input_ids, 12)
    # A model that repeats one token would agree with any cache.
    assert all(len(set(tokens)) > 4 for tokens in generation.tokens)
    assert len(generation.inter_token_latencies_s) == 11


def test_generation_is_the_same_for_the_same_seed_and_another_for_another(tiny):
    input_ids = random_prompt(tiny, 3)
    tokens = generate(tiny, input_ids, 8).tokens
    assert generate(load(TINY), input_ids, 8).tokens == tokens
    other = load(GenerationSetup("tiny-qwen3", dtype="float32", device="cpu", seed=1))
    assert generate(other, input_ids, 8).tokens != tokens


def test_all_types_have_the_same_weights(tiny):
    other = load(GenerationSetup("tiny-qwen3", dtype="bfloat16", device="cpu"))
    for name, weight in tiny.state_dict().items():
        assert torch.equal(other.state_dict()[name].float(), weight)


def test_greedy_gap_is_zero_for_the_greedy_choice_and_large_for_any_other(tiny):
    input_ids = random_prompt(tiny, 3, batch=2)
    tokens = generate(tiny, input_ids, 8).tokens
    assert greedy_gap(tiny, input_ids, tokens) == pytest.approx(0, abs=1e-3)
    for step in range(8):
        wrong = [list(tokens[0]), list(tokens[1])]
        wrong[step % 2][step] = (wrong[step % 2][step] + 1) % tiny.config.vocab_size
        assert greedy_gap(tiny, input_ids, wrong) > 1


@pytest.mark.parametrize(("name", "products"), [("tiny-qwen3", 29), ("qwen3-4b", 253)])
def test_one_forward_pass_runs_every_linear_layer_once(name, products):
    model = load(GenerationSetup(name, dtype="bfloat16", device="meta"))
    runs: list[Any] = []
    for layer in linear_layers(model):
        layer.register_forward_hook(lambda module, *_: runs.append(module))
    with torch.no_grad():
        model(torch.zeros(1, 3, dtype=torch.int64, device="meta"))
    assert len(runs) == len(set(runs)) == linear_layer_count(name) == products


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_said_in_the_words_of_the_installed_configuration(name):
    """A figure under a name that the configuration does not know would be ignored without a word."""
    default = transformers.Qwen3Config()
    model = load(GenerationSetup(name, dtype="bfloat16", device="meta"))
    for field, value in SHAPES[name].items():
        assert type(getattr(default, field)) is type(value)
        assert getattr(model.config, field) == value


def test_qwen3_4b_has_the_published_number_of_parameters():
    model = load(GenerationSetup("qwen3-4b", dtype="bfloat16", device="meta"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_022_468_096
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert weight_bytes(model) == 8_044_936_192
    assert generation_work(model, 3, 50)[0] == 50 * 8_044_936_192


@pytest.mark.parametrize("batch", [1, 2])
def test_work_counts_what_the_linear_layers_do_in_a_generation(tiny, batch):
    flops = 0.0

    def count(layer: Any, inputs: tuple[Any, ...], _: Any) -> None:
        nonlocal flops
        flops += 2.0 * layer.weight.numel() * inputs[0].numel() / inputs[0].shape[-1]

    hooks = [layer.register_forward_hook(count) for layer in linear_layers(tiny)]
    try:
        generate(tiny, random_prompt(tiny, 26, batch=batch), 5)
    finally:
        for hook in hooks:
            hook.remove()
    assert generation_work(tiny, 26, 5, batch) == (5 * sum(weight.nbytes for weight in tiny.parameters()), flops)


def test_importing_the_driver_imports_neither_torch_nor_transformers():
    code = (
        "import sys, perf_workloads.text_generation.grid, perf_workloads.text_generation.observe;"
        "print(sorted({'torch', 'transformers'} & {*sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
