"""Does the text-generation driver generate the right tokens, and report the right figures about them?"""

from __future__ import annotations

import importlib.util
import os
import socket
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
    generate,
    generation_work,
    greedy_gap,
    load,
    random_prompt,
)
from perf_workloads.text_generation.driver import percentile
from perf_workloads.text_generation.models import linear_layers

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[1]
TINY = GenerationSetup("tiny-qwen3", dtype="float32", device="cpu")
LINEAR_LAYERS_IN_A_LAYER = 7


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


def greedy_loop(model: Any, input_ids: Any, new_tokens: int) -> tuple[int, ...]:
    """Generate the slow way: the whole sequence through the model for every token, no cache, no generate()."""
    ids = input_ids
    with torch.no_grad():
        for _ in range(new_tokens):
            ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], dim=-1)
    return tuple(ids[0, input_ids.shape[1] :].tolist())


class ScriptedModel:
    """Stream what a script says, as ``generate`` does: the prompt first, then one token at a time."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens
        self.asked: dict[str, Any] = {}

    def generate(self, input_ids: Any, *, streamer: Any, **asked: Any) -> None:
        self.asked = asked
        streamer.put(input_ids)
        for token in self.tokens:
            streamer.put(torch.tensor([token]))
        streamer.end()


def test_figures_come_from_the_stamps_and_count_new_tokens_only():
    clock = iter([100.0, 100.5, 100.75, 101.75, 102.5]).__next__
    model = ScriptedModel([7, 8, 9])

    generation = generate(model, torch.zeros(1, 26, dtype=torch.int64), 3, clock=clock)

    assert generation == Generation(
        tokens=(7, 8, 9), time_to_first_token_s=0.5, inter_token_latencies_s=(0.25, 1.0), latency_s=2.5
    )
    assert generation.tokens_per_s == 3 / 2.5
    assert generation.p50_s == 0.625
    assert generation.p90_s == pytest.approx(0.25 + 0.9 * 0.75)
    assert generation.p99_s == pytest.approx(0.25 + 0.99 * 0.75)


def test_as_many_tokens_at_the_least_as_at_the_most_are_asked_for():
    model = ScriptedModel([1, 2, 3, 4])
    generate(model, torch.zeros(1, 2, dtype=torch.int64), 4)
    assert model.asked == {"do_sample": False, "min_new_tokens": 4, "max_new_tokens": 4, "use_cache": True}


def test_a_single_token_has_a_time_to_first_token_and_no_inter_token_latency():
    clock = iter([1.0, 3.0, 4.0]).__next__
    generation = generate(ScriptedModel([5]), torch.zeros(1, 2, dtype=torch.int64), 1, clock=clock)
    assert (generation.time_to_first_token_s, generation.inter_token_latencies_s) == (2.0, ())
    with pytest.raises(ValueError) as error:
        _ = generation.p50_s
    assert str(error.value) == "no inter-token latency: fewer than two tokens were generated"


@pytest.mark.parametrize("streamed", [2, 4])
def test_another_number_of_tokens_than_asked_for_is_an_error(streamed):
    with pytest.raises(RuntimeError) as error:
        generate(ScriptedModel([1] * streamed), torch.zeros(1, 5, dtype=torch.int64), 3)
    assert str(error.value) == f"3 tokens were asked for and {streamed} streamed"


@pytest.mark.parametrize("shape", [(2, 3), (1, 0), (3,)])
def test_a_prompt_that_is_not_one_sequence_is_an_error(shape):
    with pytest.raises(ValueError) as error:
        generate(ScriptedModel([1]), torch.zeros(shape, dtype=torch.int64), 1)
    assert str(error.value) == f"the prompt must have the shape [1, n], not {list(shape)}"


def test_no_new_tokens_is_an_error():
    with pytest.raises(ValueError) as error:
        generate(ScriptedModel([]), torch.zeros(1, 3, dtype=torch.int64), 0)
    assert str(error.value) == "new_tokens must be at least 1, not 0"


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=120), st.floats(0, 1))
def test_percentile_agrees_with_numpy(values, share):
    numpy = pytest.importorskip("numpy")
    assert percentile(values, share) == pytest.approx(numpy.percentile(values, 100 * share), rel=1e-9, abs=1e-9)


def test_the_first_token_is_stamped_after_one_pass_and_each_other_one_pass_later(tiny):
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    hook = tiny.register_forward_pre_hook(count)
    try:
        # The clock tells the number of passes so far: time to first token is 1 pass, so is each token after it.
        generation = generate(tiny, random_prompt(tiny, 26), 5, clock=lambda: float(passes))
    finally:
        hook.remove()
    assert generation.time_to_first_token_s == 1
    assert generation.inter_token_latencies_s == (1, 1, 1, 1)
    assert generation.latency_s == 5


@pytest.mark.parametrize("input_tokens", [1, 3, 26])
def test_generation_equals_a_plain_loop_of_forward_and_argmax(tiny, input_tokens):
    input_ids = random_prompt(tiny, input_tokens)
    generation = generate(tiny, input_ids, 12)
    assert generation.tokens == greedy_loop(tiny, input_ids, 12)
    # A model that repeats one token would agree with any cache.
    assert len(set(generation.tokens)) > 4
    assert len(generation.inter_token_latencies_s) == 11


def test_generation_is_the_same_for_the_same_seed_and_another_for_another(tiny):
    input_ids = random_prompt(tiny, 3)
    tokens = generate(tiny, input_ids, 8).tokens
    assert generate(load(TINY), input_ids, 8).tokens == tokens
    other = load(GenerationSetup("tiny-qwen3", dtype="float32", device="cpu", seed=1))
    assert generate(other, input_ids, 8).tokens != tokens


def test_a_prompt_is_the_same_for_the_same_seed(tiny):
    first = random_prompt(tiny, 26)
    assert first.shape == (1, 26)
    assert torch.equal(first, random_prompt(tiny, 26))
    assert not torch.equal(first, random_prompt(tiny, 26, seed=1))


def test_greedy_gap_is_zero_for_the_greedy_choice_and_large_for_any_other(tiny):
    input_ids = random_prompt(tiny, 3)
    tokens = list(generate(tiny, input_ids, 8).tokens)
    assert greedy_gap(tiny, input_ids, tokens) == pytest.approx(0, abs=1e-3)
    for step in range(8):
        wrong = [*tokens]
        wrong[step] = (wrong[step] + 1) % tiny.config.vocab_size
        assert greedy_gap(tiny, input_ids, wrong) > 1


@pytest.mark.parametrize(("name", "layers"), [("tiny-qwen3", 4), ("qwen3-4b", 36)])
def test_one_forward_pass_runs_every_linear_layer_once(name, layers):
    model = load(GenerationSetup(name, dtype="bfloat16", device="meta"))
    runs: list[Any] = []
    for layer in linear_layers(model):
        layer.register_forward_hook(lambda module, *_: runs.append(module))
    with torch.no_grad():
        model(torch.zeros(1, 3, dtype=torch.int64, device="meta"))
    assert len(runs) == len(set(runs)) == LINEAR_LAYERS_IN_A_LAYER * layers + 1
    if name == "qwen3-4b":
        assert len(runs) == 253


def test_qwen3_4b_has_the_published_number_of_parameters():
    model = load(GenerationSetup("qwen3-4b", dtype="bfloat16", device="meta"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_022_468_096
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    read, _ = generation_work(model, 3, 50)
    assert read == 50 * 8_044_936_192


def test_work_counts_what_the_linear_layers_do_in_a_generation(tiny):
    flops = 0.0

    def count(layer: Any, inputs: tuple[Any, ...], _: Any) -> None:
        nonlocal flops
        flops += 2.0 * layer.weight.numel() * inputs[0].numel() / inputs[0].shape[-1]

    hooks = [layer.register_forward_hook(count) for layer in linear_layers(tiny)]
    try:
        generate(tiny, random_prompt(tiny, 26), 5)
    finally:
        for hook in hooks:
            hook.remove()
    assert generation_work(tiny, 26, 5) == (5 * sum(weight.nbytes for weight in tiny.parameters()), flops)


def test_loading_leaves_the_global_random_state_and_dtype_alone():
    before = torch.random.get_rng_state()
    load(GenerationSetup("tiny-qwen3", dtype="bfloat16", device="cpu"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32


def test_loading_and_generating_need_no_network(monkeypatch, tmp_path, tiny):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    tiny.save_pretrained(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for setup in (TINY, GenerationSetup("tiny-qwen3", dtype="float32", device="cpu", weights=str(tmp_path))):
        model = load(setup)
        assert len(generate(model, random_prompt(model, 3), 2).tokens) == 2


def test_real_weights_are_used_and_their_end_of_sequence_token_is_ignored(tmp_path):
    other = load(GenerationSetup("tiny-qwen3", dtype="float32", device="cpu", seed=5))
    input_ids = random_prompt(other, 3)
    expected = greedy_loop(other, input_ids, 8)
    other.generation_config.eos_token_id = expected[0]
    other.generation_config.pad_token_id = 0
    other.save_pretrained(tmp_path)
    assert f'"eos_token_id": {expected[0]}' in (tmp_path / "generation_config.json").read_text()

    model = load(GenerationSetup("tiny-qwen3", dtype="float32", device="cpu", weights=str(tmp_path)))

    assert generate(model, input_ids, 8).tokens == expected


def test_an_unknown_model_is_an_error():
    with pytest.raises(ValueError) as error:
        load(GenerationSetup("qwen9", device="cpu"))
    assert str(error.value) == "unknown model 'qwen9': the known ones are qwen3-4b, tiny-qwen3"


def test_a_folder_without_weights_is_an_error(tmp_path):
    with pytest.raises(ValueError) as error:
        load(GenerationSetup("tiny-qwen3", device="cpu", weights=str(tmp_path)))
    assert str(error.value) == f"{tmp_path}: no config.json there, so these are not the weights of tiny-qwen3"


def test_the_weights_of_another_model_are_an_error(tmp_path, tiny):
    tiny.config.save_pretrained(tmp_path)
    with pytest.raises(ValueError) as error:
        load(GenerationSetup("qwen3-4b", device="cpu", weights=str(tmp_path)))
    assert str(error.value) == f"{tmp_path}: not the weights of qwen3-4b: hidden_size is 160, not 2560"


def test_importing_the_driver_imports_neither_torch_nor_transformers():
    code = "import sys, perf_workloads.text_generation; print(sorted({'torch', 'transformers'} & {*sys.modules}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_skips_with_the_line_that_installs_it(package, monkeypatch):
    spec = importlib.util.spec_from_file_location("cases_conftest", ROOT / "perf_tests" / "conftest.py")
    shared = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shared)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(pytest.skip.Exception) as skip:
        shared.require(package)
    assert str(skip.value) == f"{package} is not installed: pip install -e '.[suite]'"
