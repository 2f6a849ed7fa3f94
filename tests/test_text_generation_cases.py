"""Do the cases of text generation catch what the published run got wrong, and say what they ran?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from perf_workloads.text_generation import Configuration, GenerationSetup  # noqa: E402
from perf_workloads.text_generation import models as loading  # noqa: E402
from perf_workloads.text_generation.bench import Figures, Models, OtherImplementation, rounds_for  # noqa: E402
from perf_workloads.text_generation.grid import TINY  # noqa: E402
from perf_workloads.text_generation.watch import watch  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
FP32 = Configuration(TINY["fp32-torch"])


@pytest.fixture
def models():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    holder = Models()
    yield holder
    holder.release()
    torch.set_num_threads(before)


def test_what_ran_is_told(models):
    static = Configuration(TINY["int8-dynamic-int-mm"], "static")
    for configuration, cache, backend in ((FP32, "dynamic", "torch"), (static, "static", "int-mm")):
        runner = models.runner(configuration, 1, 20)
        seen = runner.observe(runner.prompt(18)[0])
        assert seen == {"backend": backend, "cache": cache, "mode": "eager", "sdpa_backend": "flash"}


def test_attention_in_pieces_is_an_error(models):
    runner = models.runner(FP32, 1, 20)
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        pytest.raises(OtherImplementation) as error,
    ):
        runner.observe(runner.prompt(18)[0])
    assert str(error.value) == "fp32-torch-dynamic-eager: attention ran in pieces; expected was a fused one"


def test_another_backend_than_the_configuration_says_is_an_error(models, monkeypatch):
    """A quantised layer that multiplies in full precision would otherwise pass for a fast int8."""
    monkeypatch.setattr(loading, "_prepared", lambda model, setup: model.float())
    runner = models.runner(Configuration(TINY["int8-dynamic-int-mm"]), 1, 20)
    with pytest.raises(OtherImplementation) as error:
        runner.observe(runner.prompt(18)[0])
    assert str(error.value) == (
        "int8-dynamic-int-mm-dynamic-eager: 0 aten::_int_mm in 2 passes; expected were 56 and those of the head"
    )


def test_another_cache_than_the_configuration_says_is_an_error(models):
    runner = models.runner(FP32, 1, 20)
    runner.configuration = Configuration(TINY["fp32-torch"], "static")
    runner.generate = lambda input_ids, new_tokens: runner.model.generate(input_ids, max_new_tokens=new_tokens)
    with pytest.raises(OtherImplementation) as error:
        runner.observe(runner.prompt(18)[0])
    assert str(error.value) == "fp32-torch-static-eager: 2 passes with DynamicCache; expected were 2 with StaticCache"


def test_a_mode_that_compiles_nothing_is_an_error(models):
    """Where it cannot compile, as on a CPU, transformers falls back to eager without a word."""
    runner = models.runner(Configuration(TINY["fp32-torch"], "static", "compile"), 1, 20)
    with pytest.raises(OtherImplementation) as error:
        runner.observe(runner.prompt(8)[0])
    assert str(error.value) == "fp32-torch-static-compile: nothing was compiled"


def test_operators_are_counted_exactly():
    model = torch.nn.Linear(4, 4, bias=False)
    x = torch.ones(3, 4)

    def call() -> None:
        with torch.no_grad():
            model(x)
            model(x) + 1

    seen = watch(model, call)
    assert (seen.operators["aten::mm"], seen.operators["aten::add"], seen.passes) == (2, 1, 2)
    assert seen.attention == "none"


def test_one_model_is_kept_and_another_takes_its_place(models):
    first = models.runner(FP32, 1, 20)
    assert models.runner(FP32, 1, 30) is first
    longer = models.runner(FP32, 1, 200)
    assert longer is not first
    assert longer.model is first.model
    other = models.runner(Configuration(TINY["int4-gptq-rebuild"]), 1, 20)
    assert other.model is not first.model
    assert other.load_s > 0


def test_real_weights_are_for_the_large_model_only(tmp_path):
    runner = Models(tmp_path).runner(FP32, 1, 20)
    assert runner.configuration.setup.weights is None
    with pytest.raises(ValueError) as error:
        Models(tmp_path).runner(Configuration(GenerationSetup("qwen3-4b", device="cpu")), 1, 20)
    assert str(error.value) == f"{tmp_path}: no config.json there, so these are not the weights of qwen3-4b"


def test_share_of_the_bandwidth():
    """8.04 GB in 1.87 ms are all of 4.3 TB/s."""
    figures = Figures(tokens_per_s=500, inter_token_s=1.87e-3, peak_bytes=0, weight_bytes=8_044_936_192)
    assert figures.bandwidth_share(4.3e12) == pytest.approx(1.0, rel=1e-3)


def test_generations_of_milliseconds_are_timed_more_often():
    captured = Configuration(GenerationSetup("qwen3-4b", backend="triton"), "static", "graph")
    assert [rounds_for(each, tokens) for each in (captured, FP32) for tokens in (50, 100)] == [3, 3, 2, 1]


def test_what_fails_or_is_profiled_has_an_outcome_and_no_figures(pytester):
    """The published GPTQ run raised, was caught, and printed "Done"; profiling slowed generations up to 1.85 times."""
    pytester.makepyfile(
        test_case="""
        import pytest
        import torch
        from perf_workloads.text_generation import GenerationSetup, generate, load, random_prompt

        pytestmark = [pytest.mark.cpu, pytest.mark.perf(budget=0.05)]

        @pytest.fixture(scope="module")
        def model():
            return load(GenerationSetup("tiny-qwen3", "float32", "cpu"))

        def test_profiled(benchmark, model):
            with torch.profiler.profile():
                benchmark(generate, model, random_prompt(model, 3), 2)

        def test_not_implemented(benchmark, model):
            def refuse(*_, **__):
                raise NotImplementedError("no kernel for these tensors")

            model.model.layers[2].mlp.down_proj.forward = refuse
            benchmark(generate, model, random_prompt(model, 3), 2)
        """
    )
    pytester.makeini(f"[pytest]\npythonpath = {ROOT / 'src'} {ROOT / 'kernels'}\n")
    result = pytester.runpytest_inprocess("--benchmark-compare", "--perf-json=run.json")
    result.assert_outcomes(failed=2)
    file = pytester.path / "run.json"
    text = result.stdout.str()
    assert "SettingError: this call is to be measured while torch's profiler runs" in text
    assert "NotImplementedError: no kernel for these tensors" in text
    told = [(case["id"], case["outcome"], case["metrics"]) for case in json.loads(file.read_text())["cases"]]
    assert told == [("test_case.py::test_profiled", "failed", []), ("test_case.py::test_not_implemented", "failed", [])]
