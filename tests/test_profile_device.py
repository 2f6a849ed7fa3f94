"""Does what ran on a device count for the operators and spans that launched it, on whatever thread?"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from perfgate.profile import capture
from perfgate.profile.torch_profile import read, spans_of

torch = pytest.importorskip("torch")
CPU, CUDA = torch.autograd.DeviceType.CPU, torch.autograd.DeviceType.CUDA
MAIN, AUTOGRAD = 1, 2


def function_event(name, start, end, *, thread=MAIN, device=CPU, launched=(), annotation=False):
    """What torch makes of one event: times in microseconds; kernels as (name, microseconds)."""
    event = torch.autograd.profiler_util.FunctionEvent(
        id=0,
        name=name,
        thread=thread,
        start_us=start,
        end_us=end,
        device_type=device,
        use_device="cuda",
        is_user_annotation=annotation,
        stack=[],
        overload_name="",
        input_shapes=[],
    )
    for kernel, lasted in launched:
        event.append_kernel(kernel, 0, lasted)
    return event


def raw_event(name, start, end, *, device=CPU, number=0, annotation=False):
    """What the profiler records of one event: times in microseconds."""
    return SimpleNamespace(
        name=lambda: name,
        start_ns=lambda: start * 1000,
        end_ns=lambda: end * 1000,
        duration_ns=lambda: (end - start) * 1000,
        device_type=lambda: device,
        correlation_id=lambda: number,
        is_user_annotation=lambda: annotation,
    )


def recorded(events, raw=()):
    """A profiler that has recorded these events."""
    listed = torch.autograd.profiler_util.EventList(events, use_device="cuda", profile_memory=True)
    listed._build_tree()
    results = SimpleNamespace(events=lambda: list(raw))
    return SimpleNamespace(
        events=lambda: listed,
        key_averages=listed.key_averages,
        profiler=SimpleNamespace(kineto_results=results),
    )


def training_step():
    """A forward and a backward pass: autograd launches the backward one from its own thread."""
    return recorded(
        [
            function_event("forward", 0, 10, annotation=True),
            function_event("aten::mm", 1, 5, launched=[("gemm", 30)]),
            function_event("cudaLaunchKernel", 2, 3),
            function_event("backward", 20, 90, annotation=True),
            function_event("MmBackward0", 30, 80, thread=AUTOGRAD),
            function_event("aten::mm", 40, 50, thread=AUTOGRAD, launched=[("gemm", 60)]),
            function_event("cudaLaunchKernel", 41, 42, thread=AUTOGRAD),
            function_event("aten::copy_", 60, 70, thread=AUTOGRAD, launched=[("Memcpy DtoH (Device -> Pinned)", 5)]),
            function_event("Activity Buffer Request", 95, 96),
            function_event("gemm", 100, 130, device=CUDA),
            function_event("gemm", 130, 190, device=CUDA),
            function_event("Memcpy DtoH (Device -> Pinned)", 190, 195, device=CUDA),
            function_event("Memset (Device)", 195, 196, device=CUDA),
            function_event("forward", 100, 130, device=CUDA, annotation=True),
        ],
        [
            raw_event("forward", 0, 10, annotation=True),
            raw_event("aten::mm", 1, 5, number=8),  # operators have numbers of their own
            raw_event("cudaLaunchKernel", 2, 3, number=7),
            raw_event("backward", 20, 90, annotation=True),
            raw_event("cuLaunchKernelEx", 41, 42, number=8),
            raw_event("cudaMemcpyAsync", 61, 62, number=9),
            raw_event("gemm", 100, 130, device=CUDA, number=7),
            raw_event("gemm", 130, 190, device=CUDA, number=8),
            raw_event("Memcpy DtoH (Device -> Pinned)", 190, 195, device=CUDA, number=9),
            raw_event("forward", 100, 130, device=CUDA, number=7, annotation=True),
        ],
    )


def test_backward_operators_have_the_device_time_of_their_kernels():
    operators = {operator.name: operator for operator in read(training_step()).operators}
    assert set(operators) == {"aten::mm", "MmBackward0", "aten::copy_"}
    assert operators["MmBackward0"].device_s == pytest.approx(65e-6)
    assert operators["MmBackward0"].self_device_s == 0
    assert operators["aten::mm"].self_device_s == pytest.approx(90e-6)


def test_a_span_around_backward_has_the_device_time_of_autograds_thread():
    spans = {span.name: span for span in read(training_step()).spans}
    assert spans["forward"].device_s == pytest.approx(30e-6)
    assert spans["backward"].device_s == pytest.approx(65e-6)
    assert spans["backward"].cpu_s == pytest.approx(70e-6)
    own = {row.key: row for row in training_step().key_averages() if row.device_type == CPU}
    assert own["backward"].device_time_total == 0, "torch itself would do: spans_of is not needed"


def test_spans_of_one_name_are_summed_and_may_nest():
    spans = spans_of(
        [
            raw_event("step", 10, 20, annotation=True),
            raw_event("epoch", 0, 40, annotation=True),
            raw_event("step", 20, 30, annotation=True),
            raw_event("cudaLaunchKernel", 20, 21, number=1),
            raw_event("hipLaunchKernel", 30, 31, number=2),
            raw_event("one", 100, 104, device=CUDA, number=1),
            raw_event("two", 104, 110, device=CUDA, number=2),
            raw_event("launched by another process", 110, 120, device=CUDA, number=3),
        ]
    )
    assert [(span.name, span.calls, round(span.cpu_s * 1e6), round(span.device_s * 1e6)) for span in spans] == [
        ("epoch", 1, 40, 10),
        ("step", 2, 20, 4),
    ]


def test_kernels_are_launches_and_copies_and_fills_are_not():
    profile = read(training_step())
    assert (profile.launches, profile.kernels) == (2, {"gemm": 2})
    assert profile.copies == {"Memcpy DtoH (Device -> Pinned)": 1, "Memset (Device)": 1}
    assert profile.calls("cudaLaunchKernel") == 2
    assert profile.device_s == pytest.approx(96e-6)


def test_with_a_device_the_table_is_sorted_by_its_time():
    profiler = training_step()
    table = read(profiler).table(2)
    assert table == profiler.key_averages().table(sort_by="self_device_time_total", row_limit=2)
    assert "Self CUDA time total: 96.000us" in table
    first = read(profiler).operators[0]
    assert (first.name, first.calls) == ("aten::mm", 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_counts_are_exact_and_backward_has_device_time():
    weight = torch.randn(256, 256, device="cuda", requires_grad=True)
    x = torch.randn(256, 256, device="cuda")

    def step():
        weight.grad = None
        with torch.profiler.record_function("forward"):
            loss = (x @ weight).sum()
        with torch.profiler.record_function("backward"):
            loss.backward()

    first, second = capture(step), capture(step)
    assert first.kernels == second.kernels
    assert first.launches == sum(first.kernels.values()) >= 3
    assert first.calls("aten::mm") == 2
    operators = {operator.name: operator for operator in first.operators}
    assert operators["MmBackward0"].device_s > 0
    spans = {span.name: span for span in first.spans}
    assert spans["forward"].device_s > 0
    assert spans["backward"].device_s >= operators["MmBackward0"].device_s * 0.999
    assert sum(span.device_s for span in first.spans) == pytest.approx(first.device_s, rel=0.01)
    assert capture(lambda: torch.ones(3)).launches == 0
