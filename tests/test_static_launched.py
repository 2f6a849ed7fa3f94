"""Are the kernels of a timed case remembered, and told beside its regression? With pretended compiled kernels."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perfgate.baseline.check import Origin, examine
from perfgate.baseline.record import to_baseline
from perfgate.baseline.store import BaselineStore
from perfgate.book import Shelf
from perfgate.model import Measurement, Metric, Noise, Outcome
from perfgate.static import launched
from perfgate.static.answers import FORMS, Answer, Question
from perfgate.static.figures import VERSION, Form
from perfgate.static.undeclared_marker import Marker

ASSEMBLY = """
k:
\tglobal_load_dwordx4 v[18:21], v[0:1], off
\tv_mov_b32 v{last}, 0
\ts_endpgm
.Lfunc_end0:
; codeLenInByte = 16
    .vgpr_count:     {registers}
"""


class Kernel:
    """What Triton keeps of a compiled kernel."""

    def __init__(self, registers: int = 40, warps: int = 8, hint: int = 16, name: str = "k") -> None:
        target = SimpleNamespace(backend="hip", arch="gfx942", warp_size=64)
        self.metadata = SimpleNamespace(name=name, shared=0, num_warps=warps, target=target)
        self.asm = {"amdgcn": ASSEMBLY.format(registers=registers, last=registers - 1), "ttir": ""}
        self.hash = "0"
        self.src = SimpleNamespace(
            fn=SimpleNamespace(__module__="rows.kernel", __name__=name),
            signature={"x_ptr": "*bf16", "width": "i32", "TILE": "constexpr"},
            attrs={(0,): [["tt.divisibility", 16]], (1,): [["tt.divisibility", hint]] if hint else []},
            constants={(2,): 1024},
        )


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read every kernel anew."""
    monkeypatch.setitem(sys.modules, "triton.runtime.cache", None)
    # Nor is Triton imported, which it could not be without that.
    monkeypatch.setattr("perfgate.static.reading.default_options", lambda target: {})


def test_launches_are_recorded_and_each_form_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Kernel(), Kernel(name="other")

    class JITFunction:
        def __init__(self, kernel: Kernel | None) -> None:
            self.kernel = kernel

        def run(self, *args: Any, grid: Any, warmup: bool) -> Kernel | None:
            return self.kernel

    monkeypatch.setitem(sys.modules, "triton.runtime.jit", SimpleNamespace(JITFunction=JITFunction))
    original = JITFunction.run
    with launched.recording() as found:
        for kernel in (first, second, first, None):
            assert JITFunction(kernel).run(1, grid=(1,), warmup=False) is kernel
    assert found == [first, second]
    assert JITFunction.run is original


def test_without_triton_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "triton.runtime.jit", raising=False)
    with launched.recording() as found:
        pass
    assert found == []


def test_a_kernel_is_described_by_its_figures_and_its_form() -> None:
    described = launched.describe([Kernel(), Kernel(hint=0), object()])
    assert list(described) == ["k", "k#2"]
    record = described["k"]
    assert (record["registers"], record["occupancy"], record["loads_16"]) == (40.0, 100.0, 1.0)
    assert record["form"] == "x_ptr *bf16:16; width i32:16; TILE =1024; num_warps 8"
    assert record["figures"] == VERSION
    assert (record["function"], record["target"]) == ("rows.kernel.k", "gfx942")
    assert described["k#2"]["form"] == "x_ptr *bf16:16; width i32; TILE =1024; num_warps 8"


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ([Kernel()], ["the compiled kernels are identical"]),
        ([Kernel(registers=128)], ["kernel k: registers 40 -> 128, occupancy 100 % -> 50 %"]),
        ([Kernel(warps=4)], ["kernel k: num_warps 8 -> 4"]),
        ([Kernel(hint=0)], ["kernel k: width i32:16 -> i32"]),
        (
            [Kernel(name="other")],
            ["kernel other: not launched when the baseline was recorded", "kernel k: no longer launched"],
        ),
        ([], []),
    ],
)
def test_differences_are_told(now: list[Kernel], told: list[str]) -> None:
    assert launched.compared(launched.describe([Kernel()]), launched.describe(now)) == told


def test_a_baseline_that_tells_no_instructions_claims_nothing_of_them() -> None:
    before = {name: {**record} for name, record in launched.describe([Kernel()]).items()}
    del before["k"][launched.DIGEST]
    told = launched.compared(before, launched.describe([Kernel()]))
    assert told == ["the compiled kernels have the same figures"]


def test_other_instructions_with_the_same_figures_are_told() -> None:
    other = Kernel()
    other.asm["amdgcn"] = other.asm["amdgcn"].replace("v[18:21]", "v[22:25]")
    told = launched.compared(launched.describe([Kernel()]), launched.describe([other]))
    assert told == ["kernel k: other instructions, the same figures"]


def recorded(kernel: Kernel, version: int | None, **figures: float) -> dict[str, dict[str, float | str]]:
    """Give the record of a kernel as another version wrote it, which found other figures."""
    (record,) = launched.describe([kernel]).values()
    assert record[launched.FIGURES] == VERSION
    written = {**record, **figures}
    del written[launched.FIGURES]
    return {"k": written if version is None else {**written, launched.FIGURES: version}}


#: Before version 3 bytes were counted otherwise, before version 4 32-bit offsets.
OTHER = 2


@pytest.mark.parametrize("version", [None, OTHER, VERSION + 1])
def test_the_same_code_is_the_same_whatever_another_version_reads_off_it(version: int | None) -> None:
    before = recorded(Kernel(), version, load_bytes=32, narrow_offsets=3)
    assert launched.compared(before, launched.describe([Kernel()])) == ["the compiled kernels are identical"]


@pytest.mark.parametrize("version", [VERSION, VERSION - 1])
def test_what_is_not_in_the_instructions_is_compared_where_they_are_the_same(version: int) -> None:
    """Shared memory is asked for with the launch."""
    before = recorded(Kernel(), version, shared_memory=1024, occupancy=50)
    (line,) = launched.compared(before, launched.describe([Kernel()]))
    assert "occupancy 50 % -> 100 %" in line
    assert "shared memory" in line


def test_figures_are_the_same_as_far_as_they_are_compared() -> None:
    before = recorded(Kernel(), OTHER, load_bytes=32)
    del before["k"][launched.DIGEST]
    told = launched.compared(before, launched.describe([Kernel()]))
    assert told == ["the compiled kernels have the same figures as far as their versions count alike"]


@pytest.mark.parametrize("version", [None, OTHER])
def test_figures_that_another_version_counts_otherwise_are_not_compared(version: int | None) -> None:
    others = {"load_bytes": 32, "load_width": 2, "store_bytes": 1, "store_width": 1, "narrow_offsets": 3}
    before = recorded(Kernel(), version, **others)
    now = launched.describe([Kernel(registers=128)])
    assert launched.compared(before, now) == ["kernel k: registers 40 -> 128, occupancy 100 % -> 50 %"]
    # What made the kernel another one is told, and what it costs; what was counted otherwise is not.
    now = launched.describe([Kernel(warps=4)])
    assert launched.compared(before, now) == ["kernel k: num_warps 8 -> 4"]
    now = recorded(Kernel(registers=128), VERSION, registers=40, occupancy=100)
    told = "kernel k: other instructions, the same figures as far as their versions count alike"
    assert launched.compared(before, now) == [told]


def test_figures_that_both_versions_count_alike_are_compared() -> None:
    before = recorded(Kernel(), 3, store_bytes=1, narrow_offsets=3)
    told = launched.compared(before, launched.describe([Kernel(registers=128)]))
    assert len(told) == 1
    assert "bytes of global stores 1 B -> " in told[0]
    assert "32-bit offsets" not in told[0]


def test_no_figure_is_compared_with_those_of_a_later_version() -> None:
    told = "kernel k: other instructions, the same figures as far as their versions count alike"
    before = recorded(Kernel(), VERSION + 1)
    assert launched.compared(before, launched.describe([Kernel(registers=128)])) == [told]


def test_figures_of_one_version_are_compared() -> None:
    told = ["kernel k: registers 40 -> 128, occupancy 100 % -> 50 %, 32-bit offsets 3 -> 0"]
    for version in (VERSION, None):
        before = recorded(Kernel(), version, narrow_offsets=3)
        now = recorded(Kernel(registers=128), version)
        assert launched.compared(before, now) == told


def measured(time_s: float, kernels: list[Kernel]) -> Measurement:
    """Give what one process measured."""
    metric = Metric("device_time", "s", time_s, noise=Noise(0.002))
    return Measurement("t.py::test_k", "gpu", metrics=(metric,), kernels=launched.describe(kernels))


def test_a_regression_of_time_shows_its_kernels(tmp_path: Path) -> None:
    baseline = to_baseline([measured(1e-5, [Kernel()])] * 5, commit="", date="")
    store = BaselineStore(tmp_path)
    path = store.merge("gpu", "t.py", {"test_k": replace(baseline, case="test_k")})
    assert '"kernels": {\n        "k": {"registers": 40, ' in path.read_text()

    shelf = Shelf(store)
    result = shelf.judge([measured(2e-5, [Kernel(registers=128)])] * 4, last=True)
    assert result.verdict == "regressed"
    assert result.reason.splitlines()[1:] == ["kernel k: registers 40 -> 128, occupancy 100 % -> 50 %"]
    result = shelf.judge([measured(2e-5, [Kernel()])] * 4, last=True)
    assert result.reason.splitlines()[1:] == ["the compiled kernels are identical"]
    result = shelf.judge([measured(1e-5, [Kernel(registers=128)])] * 4, last=True)
    assert (result.verdict, result.reason) == ("unchanged", "")


def test_kernels_in_a_baseline_are_read_back_and_checked(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    baseline = replace(to_baseline([measured(1e-5, [Kernel()])], commit="", date=""), case="test_k")
    path = store.merge("gpu", "t.py", {"test_k": baseline})
    assert store.load("gpu", "t.py").cases["test_k"].kernels == dict(baseline.kernels)
    broken = path.read_text().replace('"registers": 40', '"registers": [40]')
    damages = examine(broken.encode(), Origin("f", "gpu", "t")).damages
    assert [(damage.field, damage.problem) for damage in damages] == [
        ("kernels.k.registers", "must be a number, is a list")
    ]
    without = replace(baseline, kernels={})
    text = store.merge("gpu", "t.py", {"test_k": without}).read_text()
    assert "kernels" not in text
    assert store.load("gpu", "t.py").cases["test_k"].outcome is Outcome.PASSED


class Pool:
    """Answers with one form of one kernel for the declared launch; compiles nothing."""

    def __init__(self, form: Form) -> None:
        self.forms = {"a": (form,)}

    def ask(self, question: Question) -> Answer:
        """Tell the forms."""
        assert question == Question("rows.specialisations", "", "gfx942", FORMS)
        return Answer("compiled", forms=self.forms)


def test_a_form_that_no_launch_declares_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for name in ("__init__", "kernel", "specialisations"):
        (tmp_path / "rows" / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    declared = Form("rows.kernel.k", {"x_ptr": "*bf16:16", "width": "i32:16", "TILE": "=1024"}, {"num_warps": "8"})
    pool: Any = Pool(declared)

    def told(kernel: Kernel, *names: str) -> list[str]:
        markers = [Marker("t.py::test", ("a slow one", *names))] if names else []
        return launched.undeclared(launched.describe([kernel]).values(), pool, markers)

    assert told(Kernel()) == []
    assert told(Kernel(hint=0, warps=4)) == [
        "k is launched in a form that no launch of rows.specialisations has; "
        "nearest: width i32:16 -> i32, num_warps 8 -> 4"
    ]
    assert told(Kernel(name="other")) == ["other is launched, and no launch of rows.specialisations launches it"]
    # What a test's marker allows to be another is not told, and nothing else is kept quiet by it.
    assert told(Kernel(hint=0, warps=4), "width", "num_*") == []
    assert told(Kernel(hint=0, warps=4), "width") == [
        "k is launched in a form that no launch of rows.specialisations has; nearest: num_warps 8 -> 4"
    ]
    assert told(Kernel(name="other"), "width") != []
    assert told(Kernel(name="other"), "other") == []


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("no_compiler", []),
        ("no_target", []),
        ("failed", ["the launches of rows.specialisations cannot be looked at: wide: KeyError: 'q'"]),
        ("crashed", ["the launches of rows.specialisations cannot be looked at: wide: KeyError: 'q'"]),
    ],
)
def test_launches_that_cannot_be_looked_at_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: str, told: list[str]
) -> None:
    (tmp_path / "rows").mkdir()
    for name in ("__init__", "kernel", "specialisations"):
        (tmp_path / "rows" / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    pool: Any = SimpleNamespace(ask=lambda question: Answer(status, "wide: KeyError: 'q'"))
    assert launched.undeclared(launched.describe([Kernel()]).values(), pool) == told


def test_an_option_that_a_launch_does_not_give_is_tritons_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfgate.static.reading.default_options", lambda target: {"num_stages": "3"})
    declared = launched._declared_forms(Answer("compiled", forms={"a": (Form("m.k", {}, {}),)}), "m.k", "sm90")
    record = {"num_warps": "4", "num_stages": "7"}
    assert [launched._differences(form, record) for form in declared] == [["num_stages 3 -> 7"]]


def test_options_are_compared_that_both_tell() -> None:
    """A launch tells the options that it gives, a compiled kernel some that it has."""
    assert launched._differences({"num_warps": "8", "fused": "True"}, {"num_warps": "8", "num_ctas": "1"}) == []
    assert launched._differences({"num_warps": "8", "num_stages": "3"}, {"num_warps": "8", "num_stages": "4"}) == [
        "num_stages 3 -> 4"
    ]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("kernel", ["row_quantization", "linear_attention", "dequantize_bias", "hbv"])
def test_declared_forms_are_those_that_are_compiled(kernel: str) -> None:
    """What is declared is told without a compiler; Triton's own record of the same launch must not differ from it."""
    from perfgate.static.pool import shared

    place = f"perf_kernels.{kernel}.specialisations"
    forms = shared().ask(Question(place, "", "sm90", FORMS)).forms
    launch = shared().launches(place).names("sm90")[0]
    compiled = shared().ask(Question(place, launch, "sm90")).kernels
    declared = [form for form in forms[launch] if "naive" not in form.kernel]
    for each, form in zip(compiled, declared, strict=True):
        record = launched.form_parts(launched.form_text(each.form))
        assert each.form.kernel == form.kernel
        assert {**form.arguments} == {name: record[name] for name in form.arguments}
        assert launched._differences({**form.arguments, **form.options}, record) == []


def test_a_package_without_declared_launches_is_left_alone() -> None:
    pool: Any = None
    kernel = Kernel()
    kernel.src.fn.__module__ = "elsewhere.kernel"
    assert launched.undeclared(launched.describe([kernel]).values(), pool) == []
