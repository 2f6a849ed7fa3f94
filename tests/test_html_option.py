"""``--perf-html``: written by whoever sums the run up, whole or not at all, and told when it cannot be."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from perfgate.errors import RunFileError
from perfgate.model import (
    Baseline,
    Device,
    Hardware,
    Limit,
    Measurement,
    Metric,
    Noise,
    Outcome,
    Run,
    StoredMetric,
)
from perfgate.options import Settings
from perfgate.replicate.wire import result_from_json, result_to_json
from perfgate.report import html, outputs, whole_file
from perfgate.report.words import typed
from perfgate.verdict.case import judge

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]
SLOWER = [1.300e-3, 1.301e-3, 1.299e-3, 1.300e-3, 1.302e-3]


@pytest.fixture
def slowed(project):
    """A project whose one case got slower."""
    project.cases("a")
    project.figures("a", STEADY)
    project.store("a", notes={"rows": "num_warps=8"})
    project.figures("a", SLOWER * 3)
    return project


def test_a_flag_writes_the_page(slowed):
    result = slowed.run("--benchmark-compare", "--perf-html=out/report.html", "--perf-json=run.json")
    result.assert_outcomes(failed=1)
    page = (slowed.path / "out" / "report.html").read_text()
    assert "<title>1 regressed of 1 on Pretended" in page
    # Every process that spoke stands in the page, those of the baseline and those of now.
    assert re.search(
        r"baseline 0?\.?\d+ \w+ to [\d.]+ ms in 5 processes; now [\d.]+ ms to [\d.]+ ms in \d+ processes", page
    )
    assert "--benchmark-compare --perf-html=out/report.html --perf-json=run.json</code>" in page
    assert "0123456789ab 2026-01-01T00:00:00+00:00" in page


def test_the_history_that_the_run_is_added_to_is_drawn(slowed):
    compare = ("--benchmark-compare", "--perf-processes=4", "--perf-history=past.sqlite")
    slowed.run(*compare).assert_outcomes(failed=1)
    slowed.run(*compare, "--perf-html=report.html").assert_outcomes(failed=1)
    assert "<figcaption>history of wall_time</figcaption>" in (slowed.path / "report.html").read_text()


def test_the_ini_file_names_the_page(slowed):
    addopts = "addopts = -p benchmark -p perfgate -p no:cacheprovider"
    slowed.pytester.makeini(f"[pytest]\n{addopts}\nperf_html = report.html\n")
    slowed.run("--benchmark-compare", "--perf-processes=4").assert_outcomes(failed=1)
    assert "1 regressed of 1" in (slowed.path / "report.html").read_text()


def test_a_page_that_cannot_be_written_keeps_no_other_file_back(slowed):
    (slowed.path / "taken").write_text("")
    flags = ("--perf-processes=4", "--perf-html=taken/report.html", "--perf-json=run.json")
    result = slowed.run("--benchmark-compare", *flags)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"ERROR: perfgate: {slowed.path}/taken/report.html: cannot write the page: File exists",
            "The tests have run; only this file is missing.",
            "hint: give --perf-html a file in a folder that can be written to",
        ],
        consecutive=True,
    )
    assert (slowed.path / "run.json").exists()


def test_a_run_without_a_gate_has_nothing_to_write(slowed):
    result = slowed.run("--perf-html=report.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --perf-html has nothing to write: no case is judged or recorded in this run",
            "hint: add --benchmark-compare or --perf-update=new",
        ],
        consecutive=True,
    )


def measured(value: float) -> Measurement:
    metric = Metric("wall_time", "s", value, limit=Limit(0.02), noise=Noise(0.01))
    return Measurement("a.py::t", "cpu-a", metrics=(metric,), environment={"torch": "2.13.0"})


def test_a_result_holds_every_process_and_what_it_was_compared_with() -> None:
    stored = StoredMetric("wall_time", "s", "lower", (1.0, 1.01, 0.99))
    baseline = Baseline(
        "t", Outcome.PASSED, (stored,), {}, {"torch": "2.13.0"}, "0a1b2c3", "2026-01-30", notes={"rows": "4"}
    )
    result = judge(baseline, [measured(2.0), measured(2.1), measured(2.2), measured(2.3)], last=True)
    (metric,) = result.metrics
    assert (metric.values, metric.baseline_values) == ((2.0, 2.1, 2.2, 2.3), (1.0, 1.01, 0.99))
    assert (result.environment, result.baseline_environment) == ({"torch": "2.13.0"}, {"torch": "2.13.0"})
    assert (result.baseline_commit, result.baseline_date) == ("0a1b2c3", "2026-01-30")
    assert result.baseline_notes == {"rows": "4"}
    # As it travels from a worker to whoever writes the page.
    result = replace(result, kernel_differences=("kernel a: registers 40 -> 64",))
    assert result_from_json(json.loads(json.dumps(result_to_json(result)))) == result
    # Without a baseline, and with one that has more than was measured.
    (new,) = judge(None, [measured(2.0), measured(2.1)], last=True).metrics
    assert (new.values, new.baseline_values) == ((2.0, 2.1), ())
    more = replace(baseline, metrics=(stored, replace(stored, name="gone")))
    gone = judge(more, [measured(1.0)], last=True).metrics[1]
    assert (gone.values, gone.baseline_values) == ((), (1.0, 1.01, 0.99))
    (corrupt,) = judge(baseline, [measured(float("nan"))], last=True).metrics
    assert (len(corrupt.values), corrupt.baseline_values) == (1, (1.0, 1.01, 0.99))


def test_two_files_that_cannot_be_written_are_both_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    run_json, page = tmp_path / "taken" / "run.json", tmp_path / "taken" / "report.html"
    settings = Settings(True, "", tmp_path, 1, False, run_json, False, html=page)
    run = Run(Hardware((Device("cpu", "A CPU", "cpu-a"),)), (), {}, "2026-01-31T12:00:00Z", 1.0)
    with pytest.raises(RunFileError) as caught:
        outputs.write(run, settings, tmp_path)
    assert str(caught.value) == (
        f"{run_json}: cannot write the run: File exists; {page}: cannot write the page: File exists\n"
        "The tests have run; only this file is missing.\n"
        "hint: give --perf-json a file in a folder that can be written to"
    )


def test_half_a_report_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_file.os, "fsync", full)
    with pytest.raises(RunFileError) as caught:
        whole_file.write(path, "after", what="the page", setting="--html")
    assert str(caught.value) == (
        f"{path}: cannot write the page: No space left on device\n"
        "hint: give --html a file in a folder that can be written to"
    )
    assert path.read_text() == "before"
    assert [child.name for child in tmp_path.iterdir()] == ["report.html"]


def test_style_and_script_are_files_of_the_package() -> None:
    folder = Path(html.__file__).parent
    assert {"report.css", "report.js"} <= {child.name for child in folder.iterdir()}


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--perf-history=postgresql://me:s3cret@host/db", "'--perf-history=postgresql://me:***@host/db'"),
        ("--perf-history=postgresql://me:p@ss@host/db", "'--perf-history=postgresql://me:***@host/db'"),
        ("sqlite:///a.db?password=s3cret&x=1", "'sqlite:///a.db?password=***&x=1'"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("a.py::t[a:b@c]", "'a.py::t[a:b@c]'"),
        ("-k a and b", "'-k a and b'"),
    ],
)
def test_a_command_line_tells_no_password(argument: str, told: str) -> None:
    assert typed([argument]) == f"pytest {told}"
