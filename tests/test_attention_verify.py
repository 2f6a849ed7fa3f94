"""Is it caught when something else runs than what a case is about, or when a profile does not add up?"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

import perf_kernels.gated_delta_rule
import perf_kernels.linear_attention
from perf_workloads.attention import delta_net, mixers
from perf_workloads.attention.cases import skip_unless_it_runs
from perf_workloads.attention.config import ROWS, decoder
from perf_workloads.attention.decoder import build
from perf_workloads.attention.profiling import ProfileMismatch, assert_adds_up
from perf_workloads.attention.training import logits
from perf_workloads.attention.verify import (
    assert_implementation,
    assert_kernels,
    sdpa_backends,
)
from perf_workloads.implementation import WrongImplementation
from perf_workloads.profiles import copy_share
from perfgate.measure import notes
from perfgate.profile import Operator, Profile, Span

IDS = torch.zeros(1, 8, dtype=torch.int64)


def built(row: str, **changes: Any) -> tuple[Any, Any]:
    config = decoder(row, "cpu", vocabulary=16, positions=8, hidden=16, layers=2, heads=2, **changes)
    return build(config, "cpu"), config


@pytest.mark.parametrize("row", ROWS["cpu"])
def test_what_was_asked_for_ran(row: str) -> None:
    model, config = built(row)
    assert_implementation(lambda: logits(model, IDS), config)
    loss = functools.partial(lambda: logits(model, IDS).sum().backward())
    assert_implementation(loss, config)


def test_a_choice_that_is_left_to_torch_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published "softmax" row was flash attention."""
    model, config = built("softmax")
    monkeypatch.setattr(mixers, "sdpa_kernel", lambda backends: contextlib.nullcontext())
    with pytest.raises(WrongImplementation) as raised:
        assert_implementation(lambda: model(IDS), config)
    assert str(raised.value) == "asked for the math backend of scaled_dot_product_attention, and flash ran"


def test_a_backend_that_cannot_run_is_an_error_and_no_fallback() -> None:
    """A CPU has no attention by cuDNN."""
    q = torch.randn(1, 1, 4, 8)
    with pytest.raises(RuntimeError, match="No viable backend"):
        mixers.attend(q, q, q, "cudnn")


def test_backends_are_read_from_the_operators_that_ran() -> None:
    q = torch.randn(1, 1, 4, 8)
    assert sdpa_backends(lambda: mixers.attend(q, q, q, "math")) == {"math"}
    assert sdpa_backends(lambda: mixers.attend(q, q, q, "flash")) == {"flash"}
    assert sdpa_backends(lambda: q + 1) == set()


@pytest.mark.parametrize(
    ("row", "package", "name"),
    [
        ("linear", perf_kernels.linear_attention, "linear_attention"),
        ("gated_deltanet", perf_kernels.gated_delta_rule, "gated_delta_rule"),
    ],
)
def test_a_silent_fallback_is_caught(monkeypatch: pytest.MonkeyPatch, row: str, package: Any, name: str) -> None:
    model, config = built(row)
    attend = getattr(package, name)

    def falls_back(*inputs: Any, implementation: str, **options: Any) -> Any:
        return attend(*inputs, implementation="naive_recurrent", **options)

    monkeypatch.setattr(package, name, falls_back)
    with pytest.raises(WrongImplementation) as raised:
        assert_implementation(lambda: model(IDS), config)
    assert str(raised.value) == "asked for naive_chunk, and naive_recurrent ran"


def sums(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Convolve by sums of shifted inputs."""
    padded = torch.nn.functional.pad(x, (0, 0, weight.shape[1] - 1, 0))
    return sum(padded[:, tap : tap + x.shape[1]] * weight[:, tap] for tap in range(weight.shape[1]))


@pytest.mark.parametrize(
    ("implementation", "noted", "ran"),
    [
        # Something else is computed than what is noted; something else is noted; nothing is.
        ("naive_chunk", "torch", "none"),
        ("naive_chunk", "fla", "fla"),
        ("naive_chunk", "", "none"),
        ("fla_chunk", "torch", "torch"),
        ("fla_kda", "", "none"),
    ],
)
def test_another_convolution_is_caught(
    monkeypatch: pytest.MonkeyPatch, implementation: str, noted: str, ran: str
) -> None:
    model, config = built("gated_deltanet", implementation=implementation)

    def convolves(x: torch.Tensor, weight: torch.Tensor, *, fla: bool) -> torch.Tensor:
        if noted:
            notes.note("causal_conv1d", noted)
        return sums(x, weight)

    def rule(q: Any, k: Any, v: Any, g: Any, beta: Any, implementation: str) -> torch.Tensor:
        notes.note("gated_delta_rule", implementation)
        return v

    monkeypatch.setattr(delta_net, "short_convolution", convolves)
    monkeypatch.setattr(delta_net, "delta_rule", rule)
    with pytest.raises(WrongImplementation) as raised:
        assert_implementation(lambda: model(IDS), config)
    wanted = "torch" if implementation == "naive_chunk" else "fla"
    assert str(raised.value) == f"asked for the short convolution of {wanted}, and that of {ran} ran"


def test_a_convolution_that_fails_is_not_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no GPU")

    monkeypatch.setattr(delta_net, "_fla", lambda *_: fails)
    with notes.collect() as noted, pytest.raises(RuntimeError, match="no GPU"):
        delta_net.short_convolution(torch.ones(1, 4, 8), torch.ones(8, 4), fla=True)
    assert noted == {}


def test_a_mixer_that_says_nothing_is_caught() -> None:
    _, config = built("linear")
    with pytest.raises(WrongImplementation) as raised:
        assert_implementation(lambda: IDS + 1, config)
    assert str(raised.value) == "asked for naive_chunk, and none ran"


def test_fla_on_a_cpu_is_an_error_and_no_fallback() -> None:
    model, _ = built("linear", implementation="fla_fused_chunk")
    with pytest.raises(ValueError) as raised:
        model(IDS)
    assert str(raised.value) == (
        "linear_attention: fla_fused_chunk runs on a GPU, and q is on cpu\n"
        "hint: on a CPU choose naive_chunk or naive_recurrent"
    )


@pytest.mark.parametrize("implementation", ["fla_chunk", "fla_kda"])
def test_fla_that_is_not_installed_is_an_error_and_no_fallback(
    monkeypatch: pytest.MonkeyPatch, implementation: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "fla"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fla", None)
    model, _ = built("gated_deltanet", implementation=implementation)
    with pytest.raises(ModuleNotFoundError) as raised:
        model(IDS)
    assert str(raised.value) == (
        "GatedDeltaNet: implementation 'fla' needs fla, and fla.modules is not installed\n"
        "hint: pip install fla-core, or choose another implementation"
    )


def test_the_rule_by_itself_has_no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a whole mixer the convolution asks for fla first, and would hide what the rule does without it."""
    q = torch.ones(1, 4, 2, 8)
    inputs = (q, q, q, -q[..., 0], q[..., 0])
    with pytest.raises(ValueError) as refused:
        delta_net.delta_rule(*inputs, "fla_chunk")
    assert str(refused.value) == (
        "gated_delta_rule: fla_chunk runs on a GPU, and q is on cpu\n"
        "hint: on a CPU choose naive_chunk or naive_recurrent"
    )
    for name in [name for name in sys.modules if name.partition(".")[0] == "fla"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fla", None)
    with pytest.raises(ModuleNotFoundError) as missing:
        delta_net.delta_rule(*inputs, "fla_kda")
    assert str(missing.value) == (
        "GatedDeltaNet: implementation 'fla_kda' needs fla, and fla.ops is not installed\n"
        "hint: pip install fla-core, or choose another implementation"
    )


@pytest.mark.parametrize("row", ROWS["cpu"])
def test_what_ran_is_noted(row: str) -> None:
    model, config = built(row)
    with notes.collect() as noted:
        model(IDS)
    expected = {
        "softmax": {"sdpa_backend": {config.implementation}},
        "linear": {"linear_attention": {"naive_chunk"}},
        "gated_deltanet": {"gated_delta_rule": {"naive_chunk"}, "causal_conv1d": {"torch"}},
    }
    assert noted == expected[config.mixer]


def raises(error: Exception) -> Any:
    def backward(**_: Any) -> None:
        raise error

    return backward


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (RuntimeError("wrong on this GPU (see #640)"), "wrong on this GPU (see #640)"),
        # It went on to compute.
        (AttributeError("'types.SimpleNamespace' object has no attribute 'device'"), ""),
    ],
)
def test_gradients_that_fla_refuses_are_a_reason_to_skip(
    monkeypatch: pytest.MonkeyPatch, error: Exception, refused: str
) -> None:
    monkeypatch.setattr(delta_net, "_fla", lambda implementation, module, name: raises(error))
    monkeypatch.setitem(sys.modules, "fla", ModuleType("fla"))
    assert delta_net.gradients_refused("fla_chunk") == refused
    config = decoder("gated_deltanet", "cuda", vocabulary=16, positions=8)
    if not refused:
        skip_unless_it_runs(config)
        return
    with pytest.raises(pytest.skip.Exception) as raised:
        skip_unless_it_runs(config)
    assert str(raised.value) == "fla refuses the gradients of fla_chunk: wrong on this GPU (see #640)"
    skip_unless_it_runs(config, gradients=False)
    skip_unless_it_runs(decoder("gated_deltanet_kda", "cuda", vocabulary=16, positions=8))


@pytest.mark.parametrize("tilelang", [False, True], ids=["triton", "tilelang"])
def test_fla_is_asked_about_gradients_with_what_it_chooses_kernels_by(
    monkeypatch: pytest.MonkeyPatch, tilelang: bool
) -> None:
    """Where tilelang is installed fla computes what its Triton kernel refuses, if shapes and types suit it."""
    chunk_o = pytest.importorskip("fla.ops.common.chunk_o", reason="fla is not installed: pip install fla-core einops")
    from fla.ops.common.backends import CommonTileLangBackend

    # Hopper with Triton 3.6.
    for name, value in (("IS_NVIDIA_HOPPER", True), ("TRITON_ABOVE_3_4_0", True), ("TRITON_ABOVE_3_7_1", False)):
        monkeypatch.setattr(chunk_o, name, value)
    computed = []
    monkeypatch.delenv("FLA_TILELANG", raising=False)
    monkeypatch.setattr(CommonTileLangBackend, "is_available", staticmethod(lambda: tilelang))
    monkeypatch.setattr(CommonTileLangBackend, "default_enable", True)
    monkeypatch.setattr(CommonTileLangBackend, "chunk_bwd_dqkwg", lambda self, **tensors: computed.append(tensors))
    refused = delta_net.gradients_refused("fla_chunk")
    assert bool(computed) is tilelang
    assert ("#640" in refused) is not tilelang


KERNELS = {
    "flash": "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4>>",
    "efficient": "fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<...>)",
    "cudnn": "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x64_4x1x1_kernel0_0",
    "fla_fused_chunk": "fused_chunk_fwd_kernel",
    "fla_chunk": "chunk_gated_delta_rule_fwd_kkt_solve_kernel",
    "fla_kda": "chunk_kda_fwd_kernel_inter_solve_fused",
}
#: What all of fla's chunked rules launch.
SHARED = {"chunk_gated_delta_rule_fwd_kernel_h_blockdim64": 1, "causal_conv1d_fwd_kernel": 1, "void at::native": 9}


@pytest.mark.parametrize("implementation", KERNELS)
def test_kernels_tell_who_ran(implementation: str) -> None:
    assert_kernels({KERNELS[implementation]: 4, **SHARED}, implementation)
    with pytest.raises(WrongImplementation) as raised:
        assert_kernels(SHARED, implementation)
    assert str(raised.value) == f"asked for {implementation}, and the kernels that ran are those of none"
    if implementation in ("fla_chunk", "fla_kda"):
        with pytest.raises(WrongImplementation) as raised:
            assert_kernels({KERNELS[implementation]: 4, "void at::native::conv_depthwise2d": 4}, implementation)
        assert str(raised.value) == f"asked for {implementation}, and no kernel of fla's short convolution ran"
    with pytest.raises(WrongImplementation) as raised:
        assert_kernels({KERNELS[implementation]: 4}, "math")
    assert str(raised.value) == f"asked for math, and the kernels that ran are those of {implementation}"


def test_plain_torch_launches_none_of_those_kernels() -> None:
    assert_kernels(SHARED, "math")
    assert_kernels({}, "naive_chunk")


def profile(*, operators: float, spans: dict[str, float], device_s: float = 1.0, cpu: float = 1.9) -> Profile:
    """Give a profile of 2 s on a CPU."""
    return Profile(
        operators=(Operator("aten::mm", 1, cpu, 2.0, operators, operators, 0, 0),),
        kernels={},
        copies={},
        runtime={},
        spans=tuple(Span(name, 1, 0.5, seconds) for name, seconds in spans.items()),
        cpu_s=2.0,
        device_s=device_s,
        _averages=None,
        _profiler=None,
    )


STEP = {"forward": 0.3, "loss": 0.05, "backward": 0.55, "optimizer": 0.1}


def test_a_profile_that_adds_up() -> None:
    assert_adds_up(profile(operators=1.0, spans=STEP))
    # torch's optimizers mark a span inside of ours.
    assert_adds_up(profile(operators=1.0, spans={**STEP, "Optimizer.step#AdamW.step": 0.09}))
    assert_adds_up(profile(operators=0.0, spans=dict.fromkeys(STEP, 0.0), device_s=0.0))
    # The CPU waits for the device, in cudaDeviceSynchronize.
    assert_adds_up(profile(operators=1.0, spans=STEP, cpu=0.1))


def test_a_column_that_is_seven_times_off() -> None:
    with pytest.raises(ProfileMismatch) as raised:
        assert_adds_up(profile(operators=1 / 7, spans=STEP))
    assert str(raised.value) == (
        "the self device time of the operators adds up to 0.142857 s, and the whole profile to 1.000000 s"
    )
    with pytest.raises(ProfileMismatch) as raised:
        assert_adds_up(profile(operators=7.0, spans=STEP))
    assert str(raised.value) == (
        "the self device time of the operators adds up to 7.000000 s, and the whole profile to 1.000000 s"
    )


def test_a_column_of_a_cpu_that_is_seven_times_off() -> None:
    with pytest.raises(ProfileMismatch) as raised:
        assert_adds_up(profile(operators=0.0, spans={}, device_s=0.0, cpu=1.9 / 7))
    assert str(raised.value) == (
        "the self CPU time of the operators adds up to 0.271429 s, and the whole profile to 2.000000 s"
    )
    with pytest.raises(ProfileMismatch) as raised:
        assert_adds_up(profile(operators=1.0, spans=STEP, cpu=7.0))
    assert str(raised.value) == (
        "the self CPU time of the operators adds up to 7.000000 s, and the whole profile to 2.000000 s"
    )


def test_a_backward_span_without_device_time() -> None:
    with pytest.raises(ProfileMismatch) as raised:
        assert_adds_up(profile(operators=1.0, spans={**STEP, "backward": 0.0}))
    assert (
        str(raised.value) == "the device time of the spans adds up to 0.450000 s, and the whole profile to 1.000000 s"
    )


def test_the_share_of_copies() -> None:
    copies = Operator("aten::copy_", 1, 0.1, 2.0, 0.25, 3.0, 0, 0)
    both = profile(operators=0.75, spans={})
    # Of the time in itself, on the device where that did anything.
    assert copy_share(replace(both, operators=(*both.operators, copies))) == 0.25
    assert copy_share(replace(both, operators=(*both.operators, copies), device_s=0.0)) == 0.05
    assert copy_share(both) == 0.0


class Recording:
    """A benchmark fixture that measures nothing, and keeps what is attached and reported."""

    def __init__(self) -> None:
        self.attached: dict[str, str] = {}
        self.reported: dict[str, float] = {}

    def __call__(self, call: Any) -> Any:
        return call()

    def attach(self, name: str, text: str) -> None:
        self.attached[name] = text

    def report(self, name: str, value: float, **_: Any) -> None:
        self.reported[name] = value

    def record(self, name: str, value: float, **_: Any) -> None:
        """Look at nothing that is judged."""

    def progress(self, text: str) -> None:
        """Show nothing."""


def test_the_operator_table_of_a_profile_goes_with_its_case(imported: Callable[[str], ModuleType]) -> None:
    """The published tables: the first 15 operators by time in themselves, with their calls."""
    benchmark = Recording()
    imported("perf_tests/linear_attention/test_profiler.py").test_profiler(benchmark, torch, "cpu", "softmax", 64)
    assert list(benchmark.attached) == ["operators.txt"]
    head, names, _, *rows = benchmark.attached["operators.txt"].splitlines()
    assert set(head) == {"-", " "}
    assert [name.strip() for name in re.split(r"  +", names.strip())][:3] == ["Name", "Self CPU %", "Self CPU"]
    assert rows.index(head) == 15
    assert any(row.split()[0] == "aten::mm" for row in rows[:15])
    assert 0 < benchmark.reported["copy_share"] < 1


def test_gradients_of_another_implementation_are_an_error(
    imported: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operation's own case asks who computed, as gradients do not tell."""
    cases = imported("perf_tests/linear_attention/test_linear_attention_ops.py")
    attend = perf_kernels.linear_attention.linear_attention

    def other(*inputs: Any, implementation: str) -> Any:
        return attend(*inputs, implementation="naive_recurrent")

    def run() -> None:
        heads = torch.randn(3, 1, 64, 2, 16).unbind(0)
        cases.test_forward_and_backward(Measuring(), torch, lambda shape: heads, "naive_chunk", (1, 64, 2, 16))

    run()
    monkeypatch.setattr(perf_kernels.linear_attention, "linear_attention", other)
    with pytest.raises(AssertionError):
        run()


@pytest.mark.parametrize("implementation", ["naive_chunk", "naive_recurrent"])
@pytest.mark.parametrize("name", ["linear_attention", "gated_delta_rule"])
def test_a_case_of_an_operation_notes_what_computed_it(
    imported: Callable[[str], ModuleType], name: str, implementation: str
) -> None:
    """Notes are in the run's JSON."""
    benchmark = Measuring()
    cases = imported(f"perf_tests/linear_attention/test_{name}_ops.py")
    getattr(cases, f"test_{name}_on_a_cpu")(benchmark, torch, implementation)
    assert benchmark.notes == {name: implementation}


class Measuring(Recording):
    """Calls what is measured with its arguments, and keeps notes."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: dict[str, str] = {}

    def __call__(self, call: Any, *args: Any, **named: Any) -> Any:
        return call(*args, **named)

    def note(self, name: str, text: str) -> None:
        self.notes[name] = text

    def work(self, **_: float) -> None:
        """Show no share of anything."""
