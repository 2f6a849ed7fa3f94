"""Do cases that record figures without calling ``benchmark(...)`` mark a call that ``--perf-profile`` can profile?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from perfgate.profile import Profile, capture  # noqa: E402


class Profiled(Exception):
    """Ends a case, as the process that profiles does."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile


class Benchmark:
    """Profiles what a case marks; nothing may be recorded before."""

    def profile(self, function: Callable[..., Any], *args: Any) -> None:
        raise Profiled(capture(lambda: function(*args)))

    def note(self, name: str, text: str) -> None: ...


def profile_of(case: Callable[[Any], object]) -> Profile:
    """Run a case until it is profiled."""
    with pytest.raises(Profiled) as ended:
        case(Benchmark())
    return ended.value.profile


def test_memory_of_a_step_has_a_profile_of_the_step(imported: Callable[[str], ModuleType]) -> None:
    memory = imported("perf_tests/linear_attention/test_memory.py")
    found = profile_of(lambda benchmark: memory.measure(benchmark, "cpu", "flash", 256))
    assert [span.name for span in found.spans][:2] == ["forward", "loss"]


def test_exponents_have_a_profile_of_the_longest_call(imported: Callable[[str], ModuleType]) -> None:
    exponents = imported("perf_tests/linear_attention/test_scaling_exponents.py")
    found = profile_of(lambda benchmark: exponents.test_exponents(benchmark, torch, "cpu", "softmax-flash"))
    assert found.calls("aten::_scaled_dot_product_flash_attention_for_cpu") == 1
    assert found.calls("aten::normal_") == 0, "its inputs are drawn before"


def test_compared_calls_are_in_one_profile(imported: Callable[[str], ModuleType]) -> None:
    goals = imported("perf_tests/bitnet/test_cpu_goals.py")
    x = torch.ones(2, 2)
    calls = {"slow": lambda: x @ x, "fast": lambda: x + x}
    found = profile_of(lambda benchmark: goals.compare(benchmark, calls, 1.5))
    assert (found.calls("aten::mm"), found.calls("aten::add")) == (1, 1)


def test_a_report_has_a_profile_of_a_prompt_and_a_token(
    imported: Callable[[str], ModuleType], pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    from perf_workloads.bitnet import BitnetSetup

    pytestconfig.addinivalue_line("markers", "slow: a long experiment")
    report = imported("perf_tests/bitnet/test_report.py")
    setup = BitnetSetup(**{**report.SHORT, "layers": 1})
    found = profile_of(lambda benchmark: report.write_report(benchmark, setup, 8, tmp_path, None))
    # Seven linear layers in a pass, and two passes.
    assert found.calls("aten::_int_mm") == 2 * 7
