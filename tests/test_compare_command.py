"""``perfgate compare``: two stored runs side by side, with words only where they mean something."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import numpy as np
import pytest

from perfgate.cli import main
from perfgate.compare.command import lines, ratio
from perfgate.compare.sides import Row, compare
from perfgate.model import CaseResult, Device, Hardware, MetricVerdict, Outcome, Run, Verdict
from perfgate.report import run_file

GPU = Device("cuda", "NVIDIA H200", "nvidia-h200")
CPU = Device("cpu", "A CPU", "cpu-a")
STORED = (30.0e-6, 30.1e-6, 29.9e-6, 30.05e-6, 29.95e-6)
#: Eight processes around a value.
SPREAD = np.array([-3, -2, -1, -0.5, 0.5, 1, 2, 3]) * 1e-3 + 1


def metric(value: float, many: bool = True, name: str = "device_time", **more: object) -> MetricVerdict:
    values = tuple(float(each) for each in value * SPREAD) if many else (value,)
    plain = MetricVerdict(
        name, "s", statistics.median(values), Verdict.UNCHANGED, limit=0.02, values=values, baseline_values=STORED
    )
    return dataclasses.replace(plain, **more)  # type: ignore[arg-type]


def case(name: str, *metrics: MetricVerdict, key: str = "nvidia-h200", **more: object) -> CaseResult:
    return CaseResult(name, key, Verdict.UNCHANGED, Outcome.PASSED, 8, metrics=metrics, **more)  # type: ignore[arg-type]


def run(*cases: CaseResult, device: Device = GPU, commit: str = "1c2d3e4", torch: str = "2.13.0") -> Run:
    return Run(Hardware((device,)), cases, {"torch": torch}, "2026-01-31T12:00:00Z", 2.0, commit)


def only_row(a: CaseResult, b: CaseResult) -> Row:
    (row,) = compare(run(a), run(b)).rows
    return row


@pytest.mark.parametrize(
    ("factor", "word"),
    [(1.05, Verdict.REGRESSED), (0.95, Verdict.IMPROVED), (1.0, Verdict.UNCHANGED), (1.005, Verdict.UNCHANGED)],
)
def test_words_where_the_hardware_is_the_same(factor: float, word: Verdict) -> None:
    row = only_row(case("a.py::t", metric(30e-6)), case("a.py::t", metric(30e-6 * factor)))
    assert row.verdict is word
    assert row.ratio == pytest.approx(factor)
    assert row.low is not None
    assert row.high is not None
    assert row.low < factor < row.high


def test_more_is_better_for_some() -> None:
    fast, slow = (case("a.py::t", metric(value, better="higher")) for value in (100.0, 90.0))
    assert only_row(fast, slow).verdict is Verdict.REGRESSED
    assert only_row(slow, fast).verdict is Verdict.IMPROVED


def test_one_process_a_side_leans_on_what_the_baselines_say_of_the_spread() -> None:
    row = only_row(case("a.py::t", metric(30e-6, many=False)), case("a.py::t", metric(30.1e-6, many=False)))
    assert row.verdict is Verdict.UNCHANGED
    assert row.low is not None
    # The spread of the baseline is 0.26 %, and it is leant on with 4 degrees of freedom.
    assert 0.9 < row.low < 0.99


def test_without_any_spread_there_is_a_ratio_alone() -> None:
    a, b = (case("a.py::t", metric(value, many=False, values=(), baseline_values=())) for value in (30e-6, 33e-6))
    row = only_row(a, b)
    assert (row.ratio, row.low, row.high, row.verdict) == (pytest.approx(1.1), None, None, None)


def test_no_word_where_the_hardware_differs() -> None:
    a, b = run(case("a.py::t", metric(30e-6))), run(case("a.py::t", metric(60e-6), key="cpu-a"), device=CPU)
    (row,) = compare(a, b).rows
    assert (row.ratio, row.verdict) == (pytest.approx(2.0), None)
    assert row.low is not None
    assert (row.key_a, row.key_b) == ("nvidia-h200", "cpu-a")


def test_the_same_hardware_is_preferred() -> None:
    both = run(case("a.py::t", metric(30e-6)), case("a.py::t", metric(90e-6), key="cpu-a"))
    found = compare(both, run(case("a.py::t", metric(30e-6))))
    assert [(row.key_a, row.key_b) for row in found.rows] == [("nvidia-h200", "nvidia-h200")]
    assert [result.key for result in found.only_a] == ["cpu-a"]
    # With two candidates nobody can say which one is meant.
    other = run(case("a.py::t", metric(30e-6), key="nvidia-a100"))
    assert [result.key for result in compare(both, other).only_a] == ["nvidia-h200", "cpu-a"]


def test_no_word_where_it_was_measured_otherwise() -> None:
    a = case("a.py::t", metric(30e-6), method={"launch": "graph", "clock": "device"})
    b = case("a.py::t", metric(60e-6), method={"launch": "events", "clock": "device"})
    row = only_row(a, b)
    assert (row.verdict, row.told) == (None, "launch graph -> events")


def test_no_word_without_a_limit() -> None:
    a, b = (case("a.py::t", metric(value, limit=None)) for value in (30e-6, 60e-6))
    assert only_row(a, b).verdict is None


def test_what_repeats_exactly_needs_no_statistics() -> None:
    def memory(value: float) -> CaseResult:
        same = (value,) * 4
        return case("a.py::t", MetricVerdict("memory", "B", value, Verdict.UNCHANGED, limit=0.0, values=same))

    assert only_row(memory(2**20), memory(2**20)).verdict is Verdict.UNCHANGED
    assert only_row(memory(2**20), memory(2**20 + 512)).verdict is Verdict.REGRESSED


def test_figures_of_compiled_code_repeat_exactly() -> None:
    def compiled(registers: float, spills: float) -> CaseResult:
        figures = {"registers": registers, "spills": spills}
        metrics = (MetricVerdict(name, "1", value, Verdict.NEW, values=(value,)) for name, value in figures.items())
        return case("a.py::t", *metrics, key="static-sm90")

    found = compare(run(compiled(40, 0)), run(compiled(64, 0)))
    assert [(row.metric, row.verdict) for row in found.rows] == [
        ("registers", Verdict.REGRESSED), ("spills", Verdict.UNCHANGED),
    ]  # fmt: skip
    found = compare(run(compiled(64, 0)), run(compiled(40, 2)))
    assert {row.metric: row.verdict for row in found.rows} == {
        "registers": Verdict.IMPROVED, "spills": Verdict.REGRESSED,
    }  # fmt: skip


def test_a_run_and_itself_differ_in_nothing() -> None:
    one = run(case("a.py::t", metric(30e-6, many=False, values=(), baseline_values=(), limit=None)))
    assert [row.verdict for row in compare(one, one).rows] == [Verdict.UNCHANGED]
    assert "a.py::t" not in "".join(lines(one, one))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_figures_without_a_ratio(value: float) -> None:
    odd = dataclasses.replace(metric(30e-6), value=value, values=(value,))
    row = only_row(case("a.py::t", odd), case("a.py::t", metric(30e-6)))
    assert row.low is None
    assert row.ratio is None or value == float("inf")


def test_the_whole_of_it() -> None:
    broke = dataclasses.replace(case("a.py::broke"), outcome=Outcome.OUT_OF_MEMORY)
    a = run(
        case("a.py::same", metric(30e-6)), case("a.py::slow", metric(30e-6), metric(1e-3, name="wall_time")),
        case("a.py::broke", metric(1e-6)), case("a.py::gone", metric(1e-6)),
    )  # fmt: skip
    b = run(
        case("a.py::same", metric(30e-6)), case("a.py::slow", metric(33e-6), metric(1e-3, name="total_time")),
        broke, case("a.py::come", metric(1e-6)), commit="5f6a7b8", torch="2.14.0",
    )  # fmt: skip
    told = list(lines(a, b))
    slow = compare(a, b).rows[1]
    assert slow.low is not None
    assert slow.high is not None
    assert told == [
        "1 outcome changed, 1 regressed, 1 unchanged of 3 cases; 1 only in A; 1 only in B",
        "A: 1c2d3e4, 2026-01-31T12:00:00Z, NVIDIA H200",
        "B: 5f6a7b8, 2026-01-31T12:00:00Z, NVIDIA H200",
        "software: torch 2.13.0 -> 2.14.0",
        "",
        "case         metric             A        B  B / A        interval  verdict",
        "a.py::broke                     -        -      -               -  outcome changed: passed -> out of memory",
        f"a.py::slow   device_time  30.0 us  33.0 us  1.100  [{slow.low:.3f}, {slow.high:.3f}]  regressed",
        "             wall_time    1.00 ms        -      -               -  -",
        "    only in A",
        "             total_time         -  1.00 ms      -               -  -",
        "    only in B",
        "",
        "only in A (1 case)",
        "    a.py::gone on nvidia-h200",
        "only in B (1 case)",
        "    a.py::come on nvidia-h200",
    ]
    everything = "\n".join(lines(a, b, verbose=True))
    assert "a.py::same" in everything
    assert "unchanged" in everything


def test_the_largest_change_comes_first() -> None:
    a, b = (
        run(
            *(case(f"a.py::{factor}", metric(30e-6 * (factor if new else 1.0))) for factor in (1.0, 1.1, 0.8, 1.5, 0.9))
        )
        for new in (False, True)
    )
    assert [row.case for row in compare(a, b).rows] == [
        "a.py::1.5", "a.py::1.1", "a.py::0.8", "a.py::0.9", "a.py::1.0",
    ]  # fmt: skip


def test_a_case_is_unchanged_only_where_all_of_it_is() -> None:
    free = {"name": "total_time", "limit": None}
    a, b = (run(case("a.py::t", metric(30e-6), metric(value, **free))) for value in (1e-3, 2e-3))
    assert {row.metric: row.verdict for row in compare(a, b).rows} == {
        "device_time": Verdict.UNCHANGED, "total_time": None,
    }  # fmt: skip
    assert next(lines(a, b)) == "1 case compared by ratios alone"
    assert next(lines(a, a)) == "1 unchanged of 1 case"


def test_two_machines_have_ratios_alone() -> None:
    a, b = run(case("a.py::t", metric(30e-6))), run(case("a.py::t", metric(60e-6), key="cpu-a"), device=CPU)
    told = list(lines(a, b))
    assert told[0] == "1 case compared by ratios alone"
    assert told[4:7][1].startswith("a.py::t (nvidia-h200 -> cpu-a)  device_time  30.0 us  60.0 us  2.000  [")
    assert next(lines(run(), run())) == "no case is in both runs"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (1.0423, "1.042"), (150.0, "150"), (0.0052, "0.00520"), (1e-6, "1.00 x 10^-6")]
)
def test_a_ratio_is_written_with_the_digits_that_matter(value: float | None, text: str) -> None:
    assert ratio(value) == text


def test_the_command_reads_files_and_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = run(case("a.py::t", metric(30e-6))), run(case("a.py::t", metric(36e-6)))
    run_file.write(a, tmp_path / "a.json")
    run_file.write(b, tmp_path / "b.json")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert capsys.readouterr().out.splitlines() == list(lines(a, b))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "none.json")]) == 1
    assert capsys.readouterr().err == (
        f"perfgate: {tmp_path}/none.json: cannot read the run: No such file or directory\n"
        "hint: a run is stored with: pytest --benchmark-compare --perf-json=FILE\n"
    )
