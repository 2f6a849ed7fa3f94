"""What do cases of text generation say of themselves: limits, budgets, progress, operators?"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from inspect import getsource, signature
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from perf_workloads.text_generation import Configuration, Generation  # noqa: E402
from perf_workloads.text_generation.bench import Figures, Models  # noqa: E402
from perf_workloads.text_generation.grid import EVERYTHING, QWEN3_4B, TINY, Case, Point  # noqa: E402
from perfgate.measure import profilers  # noqa: E402
from perfgate.profile import Operator, Profile  # noqa: E402

BASELINES = Path(__file__).resolve().parents[1] / "baselines/nvidia-h200/perf_tests/llm_generate/test_generation.json"
FP32 = Configuration(TINY["fp32-torch"])
SHORT = Case(FP32, Point(3, 8))


class Benchmark:
    """Keeps what a case says of itself."""

    def __init__(self) -> None:
        self.recorded: dict[str, float] = {}
        self.limits: dict[str, str] = {}
        self.reported: dict[str, float] = {}
        self.attached: dict[str, str] = {}
        self.events: list[str] = []
        self.rounds = 0

    def clock(self) -> float:
        return time.perf_counter()

    def record(self, name: str, value: float, *, limit: str, **_: object) -> None:
        self.recorded[name] = value
        self.limits[name] = limit

    def report(self, name: str, value: float, **_: object) -> None:
        self.reported[name] = value

    def attach(self, name: str, text: str) -> None:
        self.attached[name] = text

    def progress(self, text: str, **_: object) -> None:
        self.events.append(text)

    def pedantic(self, call: Callable[[], Any], *, rounds: int, **_: object) -> Any:
        self.events.append("timed")
        self.rounds = rounds
        return call()

    def profile(self, call: Callable[[], Any]) -> None:
        self.events.append("profile marked")

    def note(self, name: str, text: str) -> None: ...

    def work(self, **_: float) -> None: ...


class LoadedModels(Models):
    """Tells when a model may be loaded."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self._events = events

    def runner(self, *args: Any) -> Any:
        self._events.append("load")
        return super().runner(*args)


@pytest.fixture
def cases(imported: Callable[[str], ModuleType], pytestconfig: pytest.Config) -> ModuleType:
    """Give the cases that generate; a marker of theirs is not known outside of their folder."""
    pytestconfig.addinivalue_line("markers", "slow: a long experiment")
    return imported("perf_tests/llm_generate/test_generation.py")


@pytest.fixture
def passes(imported: Callable[[str], ModuleType]) -> ModuleType:
    """Give the cases of single passes."""
    return imported("perf_tests/llm_generate/test_forward.py")


@pytest.fixture
def shared(imported: Callable[[str], ModuleType]) -> ModuleType:
    """Give what the cases share."""
    return imported("perf_tests/llm_generate/conftest.py")


def reached(*_: Any) -> Figures:
    return Figures(1.0, 1.0, 0, 1)


def everything(cases: ModuleType, budget_s: float) -> Benchmark:
    """Run a case of the whole grid, in small, within a budget."""
    benchmark = Benchmark()
    cases.test_qwen3_4b_everything(benchmark, Models(), lambda on_gpu: 1.0, reached, SHORT, budget_s)
    return benchmark


def test_a_budget_that_holds_no_round_skips_the_case(cases: ModuleType) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"^takes about [1-9]\d* s: --slow-budget=0\.001$"):
        everything(cases, 0.001)
    assert everything(cases, 600).rounds == 5


def test_rounds_are_those_that_a_budget_still_holds(cases: ModuleType) -> None:
    """A quarter of a generation comes after them."""
    assert [cases.rounds_within(100, 50, once_s) for once_s in (1, 9.6, 10, 20, 40)] == [5, 4, 4, 2, 1]
    with pytest.raises(pytest.skip.Exception) as skipped:
        cases.rounds_within(100, 50.5, 40)
    assert str(skipped.value) == "takes about 101 s: --slow-budget=100"
    with pytest.raises(pytest.skip.Exception) as skipped:
        cases.rounds_within(30, 240, 2)
    assert str(skipped.value) == "takes about 243 s: --slow-budget=30"


def test_cases_that_compile_have_a_process_and_a_limit_of_their_own(cases: ModuleType) -> None:
    (parameters,) = (mark for mark in cases.test_qwen3_4b_everything.pytestmark if mark.name == "parametrize")
    isolated = {
        parameter.values[0]: mark.kwargs
        for parameter in parameters.args[1]
        for mark in parameter.marks
        if mark.name == "isolate"
    }
    assert set(isolated) == {case for case in EVERYTHING if case.configuration.mode == "compile"}
    assert list(isolated.values()) == len(isolated) * [{"timeout": 1800}]


def limits_of(cases: ModuleType, configuration: Configuration) -> dict[str, str]:
    """Give the limits of a GPU's case."""
    benchmark = Benchmark()
    taken = [Generation(((1, 2, 3),), 1.0, (1.0, 1.0), 3.0)]
    shorter = Generation(((1, 2),), 1.0, (1.0,), 2.0)
    cases.record(benchmark, Case(configuration, Point(26, 3)), taken, shorter, reached(), 1.0)
    return benchmark.limits


def test_limits_of_graphs_are_as_narrow_as_what_was_recorded(cases: ModuleType) -> None:
    """The first token's, too, of all lengths of prompts that have a baseline."""
    graph = Configuration(QWEN3_4B["bf16-triton"], "static", "graph")
    limits = limits_of(cases, graph)
    assert limits == dict.fromkeys(("time_to_first_token", "inter_token_latency", "tokens_per_s"), "5%")
    assert limits_of(cases, replace(graph, mode="eager"))["time_to_first_token"] == "15%"
    stored = json.loads(BASELINES.read_text())["cases"]
    firsts = [case["metrics"]["time_to_first_token"]["values"] for name, case in stored.items() if "-graph-" in name]
    assert len(firsts) >= 21
    assert max(max(values) / min(values) for values in firsts) < 1.01


def test_a_generation_says_that_it_loads_before_it_does(cases: ModuleType) -> None:
    benchmark = Benchmark()
    models = LoadedModels(benchmark.events)
    cases.measure(benchmark, cases.rounds(benchmark, 1), models, lambda on_gpu: 1.0, reached, SHORT)
    assert benchmark.events == [
        "loading fp32-torch",
        "load",
        "loaded, looking at a generation",
        "the first generation of these lengths",
        "timing generations",
        "timed",
        "a shorter generation",
        "comparing tokens with those of whole passes",
    ]


def test_a_goal_says_where_it_is(shared: ModuleType) -> None:
    events: list[str] = []
    shared.measured(LoadedModels(events), FP32, Point(3, 4), events.append)
    assert events == [
        "loading fp32-torch",
        "load",
        "looking at fp32-torch-dynamic-eager",
        "the first generation of these lengths",
        "timing generations",
    ]


def forward(passes: ModuleType, label: str) -> Benchmark:
    """Run a pass of the tiny model beside logits that it is not far from."""
    benchmark = Benchmark()
    models = LoadedModels(benchmark.events)

    def reference(setup: Any) -> Any:
        benchmark.events.append("reference")
        runner = Models().runner(FP32, 1, passes.PROMPT)
        return runner.model(runner.prompt(passes.PROMPT)[0], use_cache=False).logits

    profilers.watch()
    before = profilers.starts()
    runner = passes.forward(benchmark, lambda call: benchmark.pedantic(call, rounds=1), models, reference, TINY[label])
    # It would slow down what is timed afterwards.
    assert profilers.starts() == before
    passes.profiled(benchmark, runner)
    assert profilers.starts() == before + 1
    return benchmark


def test_a_pass_has_its_operators_and_the_share_of_copies(passes: ModuleType) -> None:
    benchmark = forward(passes, "int8-weight-only-rebuild")
    assert benchmark.events == [
        "loading the model in fp32, for its logits",
        "reference",
        "loading int8-weight-only-rebuild",
        "load",
        "timing passes",
        "timed",
        "counting products",
        "profile marked",
        "profiling a pass",
    ]
    table = benchmark.attached["operators.txt"].splitlines()
    head, rows = table[1], [line.split()[0] for line in table if line.strip().startswith("aten::")]
    for column in ("Self CPU", "CPU total", "CPU Mem", "Self CPU Mem", "# of Calls"):
        assert column in head
    assert 5 < len(rows) <= 10
    assert {"aten::mm", "aten::copy_"} <= set(rows)
    assert 0 < benchmark.reported["copy_share"] < 1
    assert (benchmark.recorded["products"], benchmark.limits["products"]) == (29, "0")


def test_rebuilt_weights_are_copied_more(passes: ModuleType) -> None:
    rebuilt, kept = (
        forward(passes, label).reported["copy_share"] for label in ("int8-weight-only-rebuild", "fp32-torch")
    )
    assert rebuilt > 2 * kept


def test_copies_are_a_share_of_the_device_s_time_where_there_is_one(passes: ModuleType) -> None:
    copies = Operator("aten::copy_", 3, 1.0, 1.5, 57.0, 60.0, 0, 0)
    products = Operator("aten::mm", 1, 3.0, 3.0, 43.0, 43.0, 0, 0)
    on_gpu = Profile((copies, products), {}, {}, {}, (), 4.0, 100.0, None, None)
    assert passes.copy_share(on_gpu) == pytest.approx(0.57)
    assert passes.copy_share(replace(on_gpu, device_s=0.0)) == pytest.approx(0.25)
    assert passes.copy_share(replace(on_gpu, operators=(products,))) == 0


def test_cases_that_profile_have_a_process_of_their_own_and_no_others(passes: ModuleType) -> None:
    """A process of its own loads the model again, and would load the reference in fp32, too."""
    on_gpu = [case for name, case in vars(passes).items() if name.startswith("test_qwen3_4b")]
    for case in on_gpu:
        profiles = bool({"capture", "profiled"} & set(re.findall(r"\w+(?=\()", getsource(case))))
        assert profiles == ("isolate" in {mark.name for mark in case.pytestmark}), case.__name__
        assert profiles == ("reference_logits" not in signature(case).parameters), case.__name__
    assert len(on_gpu) == 4


def a_profile(kernels: dict[str, int], device_s: float = 1e-3, operator_s: float = 1e-3) -> Profile:
    """Give a profile with so much time on a device, and so much of it in one operator."""
    averages = SimpleNamespace(table=lambda **_: "")
    product = Operator("aten::mm", 1, 3.0, 3.0, operator_s, operator_s, 0, 0)
    return Profile((product,), kernels, {}, {}, (), 4.0, device_s, averages, None)


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [
        ((1e-3, 1e-3), contextlib.nullcontext()),
        ((0.0, 1e-3), pytest.raises(AssertionError)),
        ((1e-3, 0.0), pytest.raises(AssertionError)),
    ],
)
def test_a_profile_without_time_on_the_device_fails(
    passes: ModuleType, monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, float], outcome: Any
) -> None:
    """As when the columns are read by names that torch has given up; its launches are a figure all the same."""
    benchmark = Benchmark()
    monkeypatch.setattr("perfgate.profile.capture", lambda call: a_profile({"a": 2, "b": 3}, *seconds))
    with outcome:
        passes.test_qwen3_4b_forward_profile(benchmark, Models(), TINY["fp32-torch"])
    assert (benchmark.recorded, benchmark.limits) == ({"launches": 5}, {"launches": "0"})


@pytest.mark.parametrize(
    ("products", "attentions", "outcome"),
    [
        (9, 2, contextlib.nullcontext()),
        (8, 2, pytest.raises(AssertionError)),
        (9, 1, pytest.raises(AssertionError)),
    ],
)
def test_a_fused_step_of_other_launches_fails(
    passes: ModuleType, monkeypatch: pytest.MonkeyPatch, products: int, attentions: int, outcome: Any
) -> None:
    """Of two layers: four products each and the head's, and an attention each."""
    found = a_profile({"_token_kernel": products, "_decode_kernel": attentions, "of torch": 3})
    monkeypatch.setattr("perfgate.profile.capture", lambda call, warmed_up: found)
    step = SimpleNamespace(token=torch.zeros(1, dtype=torch.int64))
    runner = SimpleNamespace(
        model=SimpleNamespace(config=SimpleNamespace(num_hidden_layers=2)),
        prompt=lambda tokens: (torch.ones(1, tokens, dtype=torch.int64), "random tokens"),
        graphed=SimpleNamespace(start=lambda input_ids: None, step=step),
    )
    models = SimpleNamespace(runner=lambda *_: runner)
    benchmark, configuration = Benchmark(), Configuration(QWEN3_4B["bf16-triton"], "static", "graph")
    with outcome:
        passes.test_qwen3_4b_fused_step_profile(benchmark, models, configuration)
    assert benchmark.recorded == {"launches": products + attentions + 3}
