"""Does a baseline hold what every process found, and nothing that only some did?"""

from __future__ import annotations

import dataclasses

import pytest

from perfgate.baseline import BaselineStore, to_baseline
from perfgate.errors import BaselineError
from perfgate.model import Baseline, Limit, Measurement, Metric, Outcome, StoredMetric

CASE = "test_y[z]"
WHY = "A baseline must hold for every process, so nothing is stored for this case."
ALONE = "hint: run the test alone with --perf-update=all; if it still differs, it cannot be gated yet"


def measured(time: float, spread: float | None = 0.01, clock: float = 1.98e9) -> Measurement:
    return Measurement(
        CASE,
        "nvidia-h200",
        metrics=(
            Metric("peak", "B", 1024),
            Metric("device_time", "s", time, limit=Limit(0.02), spread=spread, speeds={"sm_clock": clock}),
        ),
        method={"clock": "device"},
        environment={"torch": "2.13.0"},
        conditions={"temperature_c": time},
    )


RUNS = (measured(1.0, 0.03), measured(1.5, 0.01, 1.5e9), measured(1.25, 0.02))


def record(*measurements: Measurement) -> Baseline:
    return to_baseline(measurements, commit="1c2d3e4", date="2026-01-31T12:00:00Z")


def error_of(*measurements: Measurement) -> str:
    with pytest.raises(BaselineError) as caught:
        record(*measurements)
    return str(caught.value)


def with_metrics(measurement: Measurement, *metrics: Metric) -> Measurement:
    return dataclasses.replace(measurement, metrics=metrics)


def test_one_figure_a_process_in_their_order() -> None:
    assert record(*RUNS) == Baseline(
        CASE,
        Outcome.PASSED,
        (
            StoredMetric("device_time", "s", "lower", (1.0, 1.5, 1.25), 0.02, {"sm_clock": (1.98e9, 1.5e9, 1.98e9)}),
            StoredMetric("peak", "B", "lower", (1024.0, 1024.0, 1024.0)),
        ),
        {"clock": "device"},
        {"torch": "2.13.0"},
        "1c2d3e4",
        "2026-01-31T12:00:00Z",
    )


def test_it_can_be_stored_and_read_back(tmp_path: pytest.TempPathFactory) -> None:
    store = BaselineStore(tmp_path)  # type: ignore[arg-type]
    store.merge("nvidia-h200", "test_x", {CASE: record(*RUNS)})
    assert store.load("nvidia-h200", "test_x").cases == {CASE: record(*RUNS)}


def test_spread_is_of_the_processes_that_have_one_and_a_width() -> None:
    baseline = record(measured(1.0, None), measured(1.0, -0.04), measured(1.0, 0.02))
    assert baseline.metrics[0].spread == 0.03
    assert record(measured(1.0, None)).metrics[0].spread is None


@pytest.mark.parametrize("clock", [0.0, float("nan")])
def test_speed_that_a_process_could_not_read_is_left_out(clock: float) -> None:
    assert record(*RUNS, measured(1.0, clock=clock)).metrics[0].speeds == {}


def test_expected_failure_has_no_figures() -> None:
    failed = dataclasses.replace(RUNS[0], outcome=Outcome.OUT_OF_MEMORY, metrics=())
    assert record(failed, failed).metrics == ()
    assert record(failed, failed).outcome is Outcome.OUT_OF_MEMORY


def test_nothing_measured() -> None:
    assert error_of() == "no measurement to make a baseline of"


@pytest.mark.parametrize(
    ("odd", "disagreement"),
    [
        (
            dataclasses.replace(RUNS[0], outcome=Outcome.TIMED_OUT),
            "the outcome: passed in processes 1, 2 and 3, timed_out in process 4",
        ),
        (
            dataclasses.replace(RUNS[0], method={"clock": "wall"}),
            "the method (clock): device in processes 1, 2 and 3, wall in process 4",
        ),
        (
            dataclasses.replace(RUNS[0], method={"clock": "device", "launch": "graph"}),
            "the method (launch): none in processes 1, 2 and 3, graph in process 4",
        ),
        (
            dataclasses.replace(RUNS[0], environment={"torch": "2.14.0"}),
            "the environment (torch): 2.13.0 in processes 1, 2 and 3, 2.14.0 in process 4",
        ),
        (dataclasses.replace(RUNS[0], case="b"), "the case: test_y[z] in processes 1, 2 and 3, b in process 4"),
        (
            dataclasses.replace(RUNS[0], key="cpu"),
            "the hardware key: nvidia-h200 in processes 1, 2 and 3, cpu in process 4",
        ),
        (
            with_metrics(RUNS[0], Metric("peak", "KiB", 1), RUNS[0].metrics[1]),
            "the unit of peak: B in processes 1, 2 and 3, KiB in process 4",
        ),
        (
            with_metrics(RUNS[0], Metric("peak", "B", 1, "higher"), RUNS[0].metrics[1]),
            "the better direction of peak: lower in processes 1, 2 and 3, higher in process 4",
        ),
    ],
)
def test_processes_that_disagree(odd: Measurement, disagreement: str) -> None:
    assert error_of(*RUNS, odd) == f"{CASE}: the processes disagree on {disagreement}\n{WHY}\n{ALONE}"


def test_metric_that_a_process_lacks_is_not_dropped() -> None:
    lacking = with_metrics(RUNS[1], RUNS[1].metrics[1])
    hint = "hint: report the metric in every run of the test, or in none"
    assert error_of(RUNS[0], lacking, lacking) == (
        f"{CASE}: the metric peak is missing in processes 2 and 3 of 3\n{WHY}\n{hint}"
    )
    assert error_of(lacking, RUNS[0]) == f"{CASE}: the metric peak is missing in process 1 of 2\n{WHY}\n{hint}"


def test_metric_that_is_reported_twice() -> None:
    twice = with_metrics(RUNS[0], Metric("peak", "B", 1), Metric("peak", "B", 2))
    assert (
        error_of(twice) == f"{CASE}: the metric peak is reported twice\n{WHY}\nhint: give each metric a name of its own"
    )


def test_case_that_passed_without_a_figure() -> None:
    assert error_of(with_metrics(RUNS[0])) == (
        f"{CASE}: metrics: empty: a case that passed has at least one figure\n{WHY}\n"
        "hint: correct the figure in the test"
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "implausible: NaN, a figure is between -1e30 and 1e30"),
        (1e31, "implausible: the number 1e+31, a figure is between -1e30 and 1e30"),
    ],
)
def test_figure_that_could_not_be_read_back(value: float, problem: str) -> None:
    odd = with_metrics(RUNS[0], Metric("error", "1", value))
    assert error_of(odd) == f"{CASE}: metrics.error.values[0]: {problem}\n{WHY}\nhint: correct the figure in the test"


@pytest.mark.parametrize(("found", "stored"), [((0, 0), ()), ((1, 1), (1, 1)), ((0, 1), (0, 1))])
def test_a_figure_that_need_not_be_stored_is_stored_where_it_is_another(
    found: tuple[float, ...], stored: tuple[float, ...]
) -> None:
    peak = Metric("peak", "B", 1024)
    runs = [with_metrics(RUNS[0], peak, Metric("failures", "1", value, unless_stored=0.0)) for value in found]
    metrics = record(*runs).metrics
    assert tuple(value for metric in metrics if metric.name == "failures" for value in metric.values) == stored
