"""Do the cases of text generation catch what the published run got wrong, and say what they ran?"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from perf_workloads.implementation import WrongImplementation  # noqa: E402
from perf_workloads.text_generation import Configuration, GenerationSetup, bench, observe, setups  # noqa: E402
from perf_workloads.text_generation import models as loading  # noqa: E402
from perf_workloads.text_generation.bench import Figures, Models, rounds_for  # noqa: E402
from perf_workloads.text_generation.grid import TINY, Case, Point  # noqa: E402
from perf_workloads.text_generation.layers import GptqLinear, StoredLinear  # noqa: E402
from perf_workloads.text_generation.observe import OtherImplementation  # noqa: E402
from perf_workloads.text_generation.setups import SHAPES  # noqa: E402
from perf_workloads.text_generation.watch import watch  # noqa: E402
from perfgate.errors import SettingError  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
FP32 = Configuration(TINY["fp32-torch"])
COMPILED = Configuration(TINY["fp32-torch"], "static", "compile")
LAYERS = SHAPES["tiny-qwen3"]["num_hidden_layers"]
FUSED = torch.nn.attention.SDPBackend.FLASH_ATTENTION


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
        seen = observe.observe(runner, runner.prompt(18)[0])
        assert seen == {"backend": backend, "cache": cache, "mode": "eager", "sdpa_backend": "flash"}


def test_attention_in_pieces_is_an_error(models):
    runner = models.runner(FP32, 1, 20)
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        pytest.raises(OtherImplementation) as error,
    ):
        observe.observe(runner, runner.prompt(18)[0])
    assert str(error.value) == (
        "fp32-torch-dynamic-eager: attention ran in pieces 16 of 16 times; expected was a fused one"
    )


def test_another_backend_than_the_configuration_says_is_an_error(models, monkeypatch):
    """A quantised layer that multiplies in full precision would otherwise pass for a fast int8."""
    monkeypatch.setattr(loading, "_prepared", lambda model, setup: model.float())
    runner = models.runner(Configuration(TINY["int8-dynamic-int-mm"]), 1, 20)
    with pytest.raises(OtherImplementation) as error:
        observe.observe(runner, runner.prompt(18)[0])
    assert str(error.value) == (
        "int8-dynamic-int-mm-dynamic-eager: 0 aten::_int_mm in 4 passes; expected were 112 and those of the head"
    )


@pytest.mark.parametrize(
    ("label", "wanted"),
    [("int8-weight-only-rebuild", "int8"), ("int4-gptq-rebuild", "int32"), ("fp32-torch", "float32")],
)
def test_weights_of_another_type_than_the_method_says_are_an_error(models, monkeypatch, label, wanted):
    """Rebuilt weights are multiplied by what multiplies those that were never quantised."""
    prepare = loading._prepared
    other = TINY["fp32-torch" if "rebuild" in label else "int8-weight-only-rebuild"]
    monkeypatch.setattr(loading, "_prepared", lambda model, setup: prepare(model, other))
    runner = models.runner(Configuration(TINY[label]), 1, 20)
    with pytest.raises(OtherImplementation) as error:
        observe.observe(runner, runner.prompt(18)[0])
    found = "float32" if "rebuild" in label else "int8"
    assert str(error.value) == f"{label}-dynamic-eager: weights are {found}; expected were {wanted}"


def test_a_single_pass_is_looked_at_too(models, imported, monkeypatch):
    """As many products ran, and they were those of full precision."""
    passes = imported("perf_tests/llm_generate/test_forward.py")
    monkeypatch.setattr(loading, "_prepared", lambda model, setup: model.float())
    setup, benchmark = TINY["int8-dynamic-int-mm"], Statements(time.perf_counter)
    full = models.runner(FP32, 1, passes.PROMPT)
    with torch.no_grad():
        reference = full.model(full.prompt(passes.PROMPT)[0], use_cache=False).logits
    with pytest.raises(OtherImplementation) as error:
        passes.forward(benchmark, lambda call: call(), models, lambda _: reference, setup)
    assert (
        str(error.value) == "int8-dynamic-int-mm: 0 aten::_int_mm in 1 passes; expected were 28 and those of the head"
    )
    assert benchmark.recorded["products"] == 29


@pytest.mark.parametrize("label", ["int8-weight-only-rebuild", "int4-gptq-rebuild"])
def test_weights_that_are_rebuilt_once_and_kept_are_an_error(models, monkeypatch, label):
    """What the published run was slow by would be gone from the case that is named after it."""
    runner = models.runner(Configuration(TINY[label]), 1, 20)
    first, *_ = (layer for layer in runner.model.model.layers.modules() if isinstance(layer, StoredLinear | GptqLinear))
    kept = torch.zeros(256, 160)
    monkeypatch.setattr(first, "forward", lambda x: torch.nn.functional.linear(x, kept))
    with pytest.raises(OtherImplementation) as error:
        observe.observe(runner, runner.prompt(18)[0])
    assert str(error.value) == f"{label}-dynamic-eager: weights were made again 108 times for 112 products"


def test_another_cache_than_the_configuration_says_is_an_error(models):
    runner = models.runner(FP32, 1, 20)
    runner.configuration = Configuration(TINY["fp32-torch"], "static")
    runner.generate = lambda input_ids, new, **_: runner.model.generate(input_ids, max_new_tokens=new)
    with pytest.raises(OtherImplementation) as error:
        observe.observe(runner, runner.prompt(18)[0])
    assert str(error.value) == "fp32-torch-static-eager: 4 passes with DynamicCache; expected were 4 with StaticCache"


def test_a_mode_that_compiles_nothing_is_an_error(models):
    """Where it is told not to, torch falls back to eager without a word."""
    runner = models.runner(COMPILED, 1, 20)
    with torch.compiler.set_stance("force_eager"), pytest.raises(OtherImplementation) as error:
        observe.observe(runner, runner.prompt(8)[0])
    assert str(error.value) == "fp32-torch-static-compile: nothing was compiled"


@pytest.fixture
def traced(monkeypatch):
    """Let torch.compile trace and compile, but generate nothing, and a model of one layer: that takes a second.

    With the layers and the code that the cases have it takes half a minute.
    """
    torch._dynamo.reset()
    one_layer = {**SHAPES, "tiny-qwen3": {**SHAPES["tiny-qwen3"], "num_hidden_layers": 1}}
    for module in (setups, loading, observe):
        monkeypatch.setattr(module, "SHAPES", one_layer)
    compile_it = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **_: compile_it(call, backend="aot_eager"))
    yield
    torch._dynamo.reset()


def test_what_is_traced_and_not_generated_is_an_error(models, traced):
    runner = models.runner(COMPILED, 1, 20)
    with pytest.raises(OtherImplementation) as error:
        observe.observe(runner, runner.prompt(8)[0])
    assert str(error.value) == (
        "fp32-torch-static-compile: 20 norms and 1 attentions ran as plain operators in the prompt's and 3 compiled "
        "passes; expected were 5 and 1, the prompt's"
    )


def test_passes_that_fall_back_to_eager_ones_are_an_error(models, traced, monkeypatch):
    """As they do when something was compiled too often."""
    runner = models.runner(COMPILED, 1, 20)
    compile_once = observe.compile_passes

    def then_fall_back(*args):
        graphs = compile_once(*args)
        torch.compiler.set_stance("force_eager")
        return graphs

    monkeypatch.setattr(observe, "compile_passes", then_fall_back)
    try:
        with pytest.raises(OtherImplementation, match=": 20 norms and 4 attentions ran as plain operators"):
            observe.observe(runner, runner.prompt(8)[0])
    finally:
        torch.compiler.set_stance("default")


@pytest.mark.parametrize("part", ["cache", "attention"])
def test_the_model_behind_what_is_compiled_is_looked_at(models, traced, part):
    runner = models.runner(COMPILED, 1, 20)
    if part == "cache":
        runner.generate = lambda input_ids, new, **_: runner.model.generate(input_ids, max_new_tokens=new)
        told = "fp32-torch-static-compile: 4 passes with DynamicCache; expected were 4 with StaticCache"
        choice = FUSED
    else:
        told = "fp32-torch-static-compile: attention ran in pieces 4 of 4 times; expected was a fused one"
        choice = torch.nn.attention.SDPBackend.MATH
    with torch.nn.attention.sdpa_kernel(choice), pytest.raises(OtherImplementation) as error:
        observe.observe(runner, runner.prompt(8)[0])
    assert str(error.value) == told


@pytest.fixture
def compiling_again(traced, monkeypatch):
    """Forget what was compiled just before generations are timed."""
    monkeypatch.setattr(observe, "assert_compiled_passes", lambda *_: None)
    warm_up = bench.Runner.warm_up

    def forget(*args):
        first = warm_up(*args)
        torch._dynamo.reset()
        return first

    monkeypatch.setattr(bench.Runner, "warm_up", forget)


@pytest.mark.parametrize("of", ["case", "goal"])
def test_compiling_again_while_generations_are_timed_is_an_error(models, cases, shared, compiling_again, of):
    point, benchmark = Point(3, 4), Statements(time.perf_counter)
    measure = {
        "case": lambda: cases.measure(benchmark, lambda call: call(), models, None, None, Case(COMPILED, point)),
        "goal": lambda: shared.measured(models, COMPILED, point),
    }[of]
    with pytest.raises(WrongImplementation) as error:
        measure()
    assert str(error.value) == "torch.compile compiled 1 graphs while steps were timed"
    assert benchmark.told_at_once == (["loaded, compiling, which may take minutes"] if of == "case" else [])


def test_compiling_for_the_shorter_generation_is_an_error(models, cases, traced, monkeypatch):
    """Its latency is fitted together with those of the others."""
    monkeypatch.setattr(observe, "assert_compiled_passes", lambda *_: None)

    def timed(call):
        generation = call()
        torch._dynamo.reset()
        return generation

    benchmark = Statements(time.perf_counter)
    with pytest.raises(WrongImplementation):
        cases.measure(benchmark, timed, models, None, None, Case(COMPILED, Point(3, 8)))


@pytest.mark.parametrize("which", ["first", "shorter", "goal"])
def test_a_generation_beside_the_timed_ones_under_a_profiler_is_refused(models, cases, shared, monkeypatch, which):
    """Their latencies are figures, too, and ``benchmark(...)`` does not see them."""
    point, benchmark = Point(3, 8), Statements(time.perf_counter)
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    warm_up = bench.Runner.warm_up

    def then_profile(*args):
        done = warm_up(*args)
        profiler.start()
        return done

    def profile_then(*args):
        profiler.start()
        return warm_up(*args)

    def timed(call):
        generation = call()
        if which == "shorter":
            profiler.start()
        return generation

    if which != "shorter":
        monkeypatch.setattr(bench.Runner, "warm_up", profile_then if which == "first" else then_profile)
    measure = {
        True: lambda: shared.measured(models, FP32, point),
        False: lambda: cases.measure(benchmark, timed, models, None, None, Case(FP32, point)),
    }[which == "goal"]
    try:
        with pytest.raises(SettingError) as refused:
            measure()
    finally:
        profiler.stop()
    assert str(refused.value).startswith("this call is to be measured while torch's profiler runs\n")


def test_attention_in_pieces_where_a_generation_ends_is_an_error(models, monkeypatch):
    """The last of 8 new tokens after 3 is computed with 10 keys: in pieces, here, once in each of the four layers."""
    runner = models.runner(FP32, 1, 20)
    fused = torch.nn.functional.scaled_dot_product_attention

    def attend(query, key, *others, **named):
        choice = torch.nn.attention.SDPBackend.MATH if key.shape[-2] == 10 else FUSED
        with torch.nn.attention.sdpa_kernel(choice):
            return fused(query, key, *others, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    with pytest.raises(OtherImplementation) as error:
        observe.observe(runner, runner.prompt(3)[0], 8)
    assert str(error.value) == (
        "fp32-torch-dynamic-eager: attention ran in pieces 4 of 16 times; expected was a fused one"
    )


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


class Clock:
    """Seconds that pass as a model says."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def planning(monkeypatch):
    """Let a pass take 1 s, and 1 s more the first time that attention has so many queries and keys: give the clock."""
    clock, planned = Clock(), set()
    fused = torch.nn.functional.scaled_dot_product_attention

    def attend(query, key, *others, **named):
        lengths = query.shape[-2], key.shape[-2]
        if lengths not in planned:
            planned.add(lengths)
            clock.now_s += 1
        clock.now_s += 1 / LAYERS
        return fused(query, key, *others, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    generate = bench.generate
    monkeypatch.setattr(bench, "generate", lambda *args, **named: generate(*args, **{**named, "clock": clock}))
    return clock


class Statements:
    """Keeps what a case says of itself."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.told_at_once: list[str] = []
        self.recorded: dict[str, float] = {}
        self.reported: dict[str, float] = {}

    def record(self, name: str, value: float, **_: object) -> None:
        self.recorded[name] = value

    def report(self, name: str, value: float, **_: object) -> None:
        self.reported[name] = value

    def note(self, name: str, text: str) -> None: ...

    def progress(self, text: str, *, at_once: bool = False) -> None:
        if at_once:
            self.told_at_once.append(text)

    def work(self, **_: float) -> None: ...


@pytest.fixture
def shared(imported):
    """Give what the cases of text generation share."""
    return imported("perf_tests/llm_generate/conftest.py")


@pytest.fixture
def cases(imported, pytestconfig):
    """Give the cases; a marker of theirs is not known outside of their folder."""
    pytestconfig.addinivalue_line("markers", imported("perf_tests/conftest.py").SLOW)
    return imported("perf_tests/llm_generate/test_generation.py")


@pytest.mark.parametrize("order", [(8, 16), (16, 8)])
def test_timed_generations_meet_no_length_for_the_first_time(models, cases, shared, planning, order):
    """Whichever case ran before: first tokens are looked at, the others planned in a generation that is not timed."""
    first = {}
    for new_tokens in order:
        benchmark = Statements(planning)
        cases.measure(
            benchmark,
            lambda call: call(),
            models,
            lambda on_gpu: 1e9,
            lambda _, generations, peak, runner: shared.reached(generations, peak, runner),
            Case(FP32, Point(3, new_tokens)),
        )
        figures = {**benchmark.recorded, **benchmark.reported}
        assert figures["latency"] == pytest.approx(new_tokens)
        assert figures["inter_token_latency"] == figures["inter_token_latency_p99"] == pytest.approx(1)
        assert (figures["time_to_first_token"], figures["time_to_first_token_fit"]) == pytest.approx((1, 1))
        assert figures["first_generation"] == pytest.approx(new_tokens + figures["first_generation_new_lengths"])
        first[new_tokens] = figures["first_generation_new_lengths"]
        assert "first_generation" not in benchmark.recorded
    # Of the n lengths three were looked at before: those of the first two passes, and of the last.
    assert first == ({8: 5, 16: 7} if order == (8, 16) else {16: 13, 8: 0})


def test_goals_are_compared_of_generations_that_meet_no_length_for_the_first_time(models, shared, planning):
    figures = shared.measured(models, FP32, Point(3, 8))
    assert (figures.inter_token_s, figures.tokens_per_s) == pytest.approx((1, 1))


def test_a_static_cache_has_no_lengths_to_meet(models):
    runner = models.runner(Configuration(TINY["fp32-torch"], "static"), 1, 20)
    assert runner.warm_up(runner.prompt(3)[0], 4).new_lengths is None


def test_lengths_are_met_by_batch_and_arithmetic(models):
    """What is planned for one sequence serves the quantised model of the same arithmetic, and not eight sequences."""
    new = [
        runner.warm_up(runner.prompt(3)[0], 4).new_lengths
        for configuration, batch in (
            (FP32, 1),
            (FP32, 1),
            (Configuration(TINY["int8-weight-only-rebuild"]), 1),
            (FP32, 8),
            (Configuration(replace(TINY["fp32-torch"], dtype="bfloat16")), 1),
        )
        for runner in [models.runner(configuration, batch, 7)]
    ]
    assert new == [4, 0, 0, 4, 4]


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
