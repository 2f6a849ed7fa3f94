"""Is a training step what was published, and is it timed, weighed and fitted as the cases say?"""

from __future__ import annotations

import importlib.util
import math
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perf_workloads.attention import allocations, memory, stepping
from perf_workloads.attention.cases import grid
from perf_workloads.attention.config import ROWS, decoder
from perf_workloads.attention.operations import operation, softmax_bytes, softmax_flops
from perf_workloads.attention.statistics import exponent
from perf_workloads.attention.training import Recipe, Training
from perfgate import outcomes, plan
from perfgate.errors import SettingError
from perfgate.model import Limit, Outcome
from perfgate.profile import capture

ROOT = Path(__file__).resolve().parents[1]


def test_a_cosine_to_a_tenth() -> None:
    recipe = Recipe(110, 8, rate=1.0, warm_up=10)
    assert [recipe.rate_at(update) for update in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert recipe.rate_at(60) == pytest.approx(0.55)
    assert [recipe.rate_at(update) for update in (110, 1000)] == pytest.approx([0.1, 0.1])


def test_the_published_recipe() -> None:
    recipe = Recipe(1, 128)
    assert (recipe.rate, recipe.last, recipe.decay, recipe.clip, recipe.warm_up) == (5e-4, 0.1, 0.1, 1.0, 0)


def test_an_update() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 4))
    training = Training(model, Recipe(2, 2, rate=0.5))
    decays = {p.ndim: group["weight_decay"] for group in training.optimizer.param_groups for p in group["params"]}
    assert decays == {2: 0.1, 1: 0.0}
    ids = torch.tensor([[0, 1], [2, 3]])
    before = model[0].weight.detach().clone()
    loss = training.step(ids, ids)
    assert not loss.requires_grad
    assert training.updates == 1
    assert training.optimizer.param_groups[0]["lr"] == 0.5
    assert not torch.equal(model[0].weight, before)
    assert all(p.grad is None for p in model.parameters())
    training.step(ids, ids)
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0.275)


@pytest.mark.parametrize(("layers", "named"), [(1, "1.weight"), (2, "0.weight and 1 more")])
def test_weights_that_are_not_fp32_are_refused(layers: int, named: str) -> None:
    """Pitfall: 195 updates in pure bf16. One layer is enough."""
    model = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Linear(3, 4, bias=False))
    for layer in list(model)[-layers:]:
        layer.bfloat16()
    with pytest.raises(SettingError) as raised:
        Training(model, Recipe(195, 2))
    assert str(raised.value) == (
        f"Training: {named} of the model is bfloat16, not float32\n"
        "Updates smaller than a weight's last bit are lost: in pure bf16 the published tasks learned nothing.\n"
        "hint: train model.float(); a step computes in bf16 by itself on a GPU, by autocast"
    )
    Training(model.float(), Recipe(195, 2))


def test_gradients_are_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Linear(3, 4))
    training = Training(model, Recipe(1, 2))
    with torch.no_grad():
        model[1].weight.mul_(1000)
    norms = []
    update = training.optimizer.step

    def look() -> None:
        norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters())))
        update()

    monkeypatch.setattr(training.optimizer, "step", look)
    training.step(torch.tensor([[0, 1, 2]]), torch.tensor([[1, 2, 3]]))
    assert norms == [pytest.approx(1.0, rel=1e-4)]


def test_a_step_marks_its_parts() -> None:
    run = stepping.stepping(
        decoder("softmax", "cpu", vocabulary=16, positions=8, hidden=16, layers=1, heads=2), "cpu", 2, 8
    )
    assert (run.inputs[:, 1:] == run.targets[:, :-1]).all()
    spans = [span.name for span in capture(run.step).spans]
    assert [name for name in spans if not name.startswith("Optimizer.")] == ["forward", "loss", "backward", "optimizer"]


def test_warm_up_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, durations = [0.0], [9.0, 9.0, 1.0, 2.0, 3.0]

    def step() -> None:
        now[0] += durations.pop(0)

    monkeypatch.setattr(stepping.time, "perf_counter", lambda: now[0])
    assert stepping.time_steps(step, "cpu", warm_up=2, steps=3) == (2.0, 1.0)


def test_steps_under_a_profiler_are_not_timed() -> None:
    """Published steps took up to 1.85 times as long under the profiler."""

    def profiled() -> None:
        with torch.profiler.profile():
            torch.ones(1)

    with pytest.raises(SettingError) as raised:
        stepping.time_steps(profiled, "cpu", warm_up=0, steps=2)
    assert raised.value.what == "the measured call starts torch's profiler"
    with torch.profiler.profile(), pytest.raises(SettingError) as raised:
        stepping.time_steps(lambda: None, "cpu", warm_up=0, steps=2)
    assert raised.value.what == "this call is to be measured while torch's profiler runs"


def test_memory_of_a_backward_pass_holds_what_the_forward_pass_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and optimizer hold 1000. Forward peaks at 1700 and leaves 1500; backward peaks at 1900."""
    readings = iter([(1000, 1000), (1500, 1700), (1100, 1900)])
    calls: list[str] = []
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: calls.append(name))
    monkeypatch.setattr(memory, "_requested", lambda: next(readings))

    figures = memory._on_device(Linear(), torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64))

    assert figures == {"forward_memory": 700, "held_memory": 500, "backward_memory": 900, "step_memory": 900}
    assert calls.count("reset_peak_memory_stats") == 2


class Linear(torch.nn.Module):
    """Holds activations of 16 MiB for the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        wide = (self.weight.sum() * torch.ones(1 << 22)).exp()
        return self.weight.expand(*ids.shape, 4) + wide.mean()


def test_memory_on_a_cpu_covers_the_activations() -> None:
    ids = torch.zeros(1, 2, dtype=torch.int64)
    model = Linear()
    memory.memory_of_step(model, ids, ids)
    figures = memory.memory_of_step(model, ids, ids)
    # The product and its exponential at once; the latter is kept, and the backward pass reads it.
    wide = 4 << 22
    assert wide * 2 <= figures["forward_memory"] < wide * 4
    assert wide <= figures["held_memory"] < wide * 3
    assert figures["backward_memory"] >= figures["held_memory"] + wide
    assert figures["step_memory"] == max(figures["forward_memory"], figures["backward_memory"])
    assert memory.memory_of_step(model, ids, ids) == figures
    assert model.weight.grad is None


def test_allocations_are_counted_to_the_byte() -> None:
    def call() -> torch.Tensor:
        lost = torch.ones(1 << 18)
        return lost[:10] + torch.ones(1 << 10)[:10]

    counted = allocations.count(call)
    assert (counted.peak, counted.left) == ((4 << 18) + (4 << 10) + 40, 40)
    assert counted.result.tolist() == [2.0] * 10


def test_a_profiler_that_tells_of_no_allocation_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocations, "_EVENT", "[another name]")
    with pytest.raises(RuntimeError) as error:
        allocations.count(lambda: torch.ones(8))
    assert str(error.value) == "torch's profiler told of no allocation: what the call took is not known"


@given(power=st.floats(-3, 3), factor=st.floats(1e-6, 1e6), first=st.integers(1, 100))
def test_the_exponent_of_a_power_is_found(power: float, factor: float, first: int) -> None:
    lengths = [first * 2**i for i in range(4)]
    assert exponent(lengths, [factor * length**power for length in lengths]) == pytest.approx(power, abs=1e-9)


def test_fixed_costs_pull_an_exponent_down() -> None:
    lengths = [1024, 2048, 4096, 8192]
    assert 1.5 < exponent(lengths, [1e6 + length**2 for length in lengths]) < 2


@pytest.mark.parametrize(("name", "expected"), [("softmax-math", 2), ("linear-naive_chunk", 1)])
def test_operations_of_an_op_grow_as_stated(name: str, expected: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def flops(tokens: int) -> int:
        call, inputs = operation(name, (1, tokens, 2, 16), "cpu")
        with FlopCounterMode(display=False) as counter:
            call(*inputs)
        return int(counter.get_total_flops())

    lengths = (256, 512, 1024)
    assert exponent(lengths, [flops(tokens) for tokens in lengths]) == pytest.approx(expected, abs=0.01)


def test_work_of_softmax_attention() -> None:
    # Two products of [8, 4] and [4, 8], of which the upper half is hidden; four tensors of 64 elements.
    assert softmax_flops((1, 8, 2, 4)) == 2 * (2 * 2 * 8 * 8 * 4) // 2
    assert softmax_bytes((1, 8, 2, 4), 2) == 4 * 64 * 2


def test_an_operation_that_is_not_there() -> None:
    with pytest.raises(ValueError) as raised:
        operation("softmax-fast", (1, 2, 1, 4), "cpu")
    assert str(raised.value) == "operation: there is no 'softmax-fast'"


def test_gates_of_tasks_that_take_long_need_the_time_to_be_passed(pytester: pytest.Pytester) -> None:
    """They are slow, and one that was stopped before it has learned would look BROKEN."""
    folder = ROOT / "perf_tests"
    for path in (folder / "conftest.py", folder / "linear_attention" / "test_tasks.py"):
        shutil.copy(path, pytester.path)
    gates = ["test_tasks.py", "-rs", "-k", "cpu-softmax-10 or cpu-softmax-8"]
    for options, reason in (
        ([], "slow: give it time with --slow-budget=SECONDS"),
        (["--slow-budget=119"], "takes up to 120 s: --slow-budget=119"),
    ):
        ran = pytester.runpytest(*gates, *options)
        ran.assert_outcomes(skipped=2)
        ran.stdout.fnmatch_lines([f"SKIPPED*{reason}"])


def test_a_grid_has_every_row_and_value() -> None:
    params = list(grid("cuda", (256, 512)))
    assert [each.values for each in params] == [("cuda", row, n) for row in ROWS["cuda"] for n in (256, 512)]
    assert params[0].id == "gpu-softmax-256"
    assert [[mark.name for mark in each.marks] for each in params] == [["sm80", "perf"]] * len(params)
    (param,) = grid("cpu", (64,), rows=["flash"])
    assert (param.id, [mark.name for mark in param.marks]) == ("cpu-flash-64", ["cpu", "perf"])


def test_each_device_has_limits_of_its_own(pytester: pytest.Pytester) -> None:
    """What a test says itself goes before what the grid says; what it leaves out is the device's."""
    config = pytester.makepyfile(
        """
        import pytest
        from perf_workloads.attention.cases import grid

        @pytest.mark.perf(budget=0.3)
        @pytest.mark.parametrize(("device", "row"), [*grid("cuda", rows=["linear"]), *grid("cpu", rows=["linear"])])
        def test_step(device, row):
            pass

        @pytest.mark.perf(time="50%")
        @pytest.mark.parametrize(("device", "row"), list(grid("cpu", rows=["linear"])))
        def test_task(device, row):
            pass
        """
    )
    on_gpu, on_cpu, task = map(plan.of, pytester.getitems(config.read_text(encoding="utf-8")))
    assert (on_gpu.time, on_gpu.memory, on_gpu.budget_s) == (None, Limit(0.01), 0.3)
    assert (on_cpu.time, on_cpu.memory, on_cpu.budget_s) == (Limit(0.2), Limit(0.3), 0.3)
    assert (task.time, task.memory) == (Limit(0.5), Limit(0.3))


@pytest.fixture
def memory_cases() -> ModuleType:
    """Import the cases of memory, which are in no package."""
    spec = importlib.util.spec_from_file_location(
        "attention_memory_cases", ROOT / "perf_tests" / "linear_attention" / "test_memory.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["test_memory_scaling", "test_out_of_memory", "test_beyond_softmax"])
def test_out_of_memory_is_an_outcome(monkeypatch: pytest.MonkeyPatch, memory_cases: ModuleType, name: str) -> None:
    """A configuration that does not fit ends its case as out of memory, which may be recorded, and not in a gap."""

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 GiB.")

    monkeypatch.setattr(stepping, "stepping", full)
    case = getattr(memory_cases, name)
    benchmark = SimpleNamespace(note=lambda name, text: None)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        case(benchmark, torch, "cpu", "softmax", 64)
    assert outcomes.classify(raised.value) is Outcome.OUT_OF_MEMORY
    (marker,) = (mark for mark in case.pytestmark if mark.name == "perf")
    assert plan.read(marker.kwargs, name).outcomes == {Outcome.OUT_OF_MEMORY}
