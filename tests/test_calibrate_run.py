"""Does ``perfgate calibrate`` measure, store, go on, and refuse what it must? Real processes where they matter."""

from __future__ import annotations

import errno
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perfgate import cli, hardware
from perfgate.baseline.store import BaselineStore
from perfgate.calibrate import command, inject, measuring, steps, store
from perfgate.calibrate.again import Again
from perfgate.calibrate.pool import Found, Pool, Process, add, having
from perfgate.calibrate.samples import KEPT, from_row, summary, to_row
from perfgate.calibrate.selecting import Selected
from perfgate.errors import BaselineError, SettingError
from perfgate.model import Device, Hardware, Limit, Measurement, Metric, Noise, Outcome
from perfgate.replicate.command import Launch
from perfgate.replicate.process import Findings
from perfgate.replicate.wire import Task
from perfgate.report import conform

ENVIRONMENT = {"python": "3.11.7", "torch": "2.13.0"}
CASES = ("test_x.py::test_a", "test_x.py::test_b")
SELECTED = Selected(Launch((), Path(), Path()), CASES, frozenset({CASES[1]}), 0, Path("baselines"))


def process(steps: tuple[str, ...] = (), device: str = "") -> Process:
    return Process("2026-01-31T12:00:00+00:00", 48.2, "1c2d3e4", device, steps)


def measured(case: str = CASES[0], value: float = 1.71e-6, **changes: Any) -> Found:
    metrics = (
        Metric(
            "device_time", "s", value, limit=Limit(0.02, 2.5e-7), noise=Noise(0.002, 3e-8), speeds={"sm_clock": 1.98e9}
        ),
        Metric("memory", "B", 25_690_112),
    )
    measurement = Measurement(case, "pretended", metrics=metrics, method={"clock": "device"}, environment=ENVIRONMENT)
    again = [Again("device_time", "1%", value * 1.01, {"sm_clock": 1.98e9}, summary([value, value * 1.02]))]
    return Found(replace(measurement, **changes), "device_time", summary([value * 0.99, value, value * 1.01]), again)


def test_a_pool_survives_the_file_and_grows(tmp_path: Path) -> None:
    empty = Pool("pretended", ENVIRONMENT)
    store.merge(tmp_path, "suite", empty, process(("1%",)), [measured(), measured(CASES[1], 2e-3)])
    grown, problems = store.merge(tmp_path, "suite", empty, process(device="1"), [measured(value=1.75e-6)])
    path = tmp_path / "pretended" / "calibration" / "suite.json"
    assert problems == []
    loaded = store.load(path)
    assert loaded.processes == grown.processes == (process(("1%",)), process(device="1"))
    series = loaded.cases[CASES[0]].series["device_time"]
    assert [(row.process, row.step, row.value) for row in series.rows] == [
        (0, "", 1.71e-6), (0, "1%", 1.7271e-6), (1, "", 1.75e-6), (1, "1%", 1.7675e-6),
    ]  # fmt: skip
    assert (series.limit, series.noise) == (Limit(0.02, 2.5e-7), Noise(0.002, 3e-8))
    assert series.rows[0].samples.some == pytest.approx((1.6929e-6, 1.71e-6, 1.7271e-6))
    assert series.rows[0].speeds == {"sm_clock": 1.98e9}
    assert [row.value for row in loaded.cases[CASES[0]].series["memory"].rows] == [25_690_112, 25_690_112]
    assert store.to_text(loaded, "suite") == path.read_text()


def test_the_schema_accepts_what_is_written_and_says_only_what_is_checked(tmp_path: Path) -> None:
    import jsonschema

    store.merge(tmp_path, "suite", Pool("pretended", ENVIRONMENT), process(("1%",)), [measured()])
    document = json.loads((tmp_path / "pretended" / "calibration" / "suite.json").read_text())
    schema = conform.load(store.SCHEMA_FILE)
    jsonschema.validate(document, schema)
    assert list(conform.faults({**document, "more": 1}, schema)) == ['"more" is not a known field']


def test_baselines_know_nothing_of_the_folder(tmp_path: Path) -> None:
    store.merge(tmp_path, "suite", Pool("pretended", ENVIRONMENT), process(), [measured()])
    assert BaselineStore(tmp_path).files() == ()


def test_a_pool_of_other_software_is_refused(tmp_path: Path) -> None:
    store.merge(tmp_path, "suite", Pool("pretended", ENVIRONMENT), process(), [measured()])
    path = tmp_path / "pretended" / "calibration" / "suite.json"
    before = path.read_text()
    with pytest.raises(BaselineError) as caught:
        store.merge(
            tmp_path, "suite", Pool("pretended", {"python": "3.11.7", "torch": "2.14.0"}), process(), [measured()]
        )
    assert str(caught.value) == (
        f"{path}: measured with other software: torch 2.13.0 -> 2.14.0\n"
        "Figures of both in one pool would show the difference of the software as noise.\n"
        "hint: keep both, with --name NAME for the new one, or delete the file"
    )
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("{", "not JSON: line 1, column 2: Expecting property name enclosed in double quotes"),
        ('{"schema": 1}', "not a calibration: key is missing"),
        ("[NaN]", "not a calibration: NaN stands where a number belongs"),
        ('{"schema": 1, "schema": 1}', 'not a calibration: "schema" is given twice (a bad merge?)'),
        ("[" * 100_000, "nested too deep to be a calibration"),
    ],
)
def test_a_damaged_pool_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "suite.json"
    path.write_text(text)
    with pytest.raises(BaselineError) as caught:
        store.load(path)
    hint = f"restore it with: git checkout -- {path} (or delete it and measure again)"
    assert str(caught.value) == f"{path}: {problem}\nhint: {hint}"


def test_a_damaged_row_and_another_version_are_refused(tmp_path: Path) -> None:
    store.merge(tmp_path, "suite", Pool("pretended", ENVIRONMENT), process(), [measured()])
    path = tmp_path / "pretended" / "calibration" / "suite.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "processes": []}))
    with pytest.raises(BaselineError) as caught:
        store.load(path)
    at = f"cases.{CASES[0]}.metrics.device_time"
    assert caught.value.what.startswith(f"{path}: not a calibration: {at}: [0, ")
    assert caught.value.what.endswith("... is not a row of figures")
    for version, hint in ((2, "pip install --upgrade perfgate"), (0, "delete it and measure again")):
        path.write_text(json.dumps({**document, "schema": version}))
        with pytest.raises(BaselineError) as caught:
            store.load(path)
        assert str(caught.value) == f"{path}: has format version {version}, this perfgate reads 1\nhint: {hint}"


def test_a_pool_that_cannot_be_written_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.merge(tmp_path, "suite", Pool("pretended", ENVIRONMENT), process(), [measured()])
    path = tmp_path / "pretended" / "calibration" / "suite.json"
    before = path.read_text()

    def full(*places: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(BaselineError) as caught:
        store.merge(tmp_path, "suite", Pool("pretended", ENVIRONMENT), process(), [measured()])
    assert str(caught.value) == (
        f"{path}: cannot be written: No space left on device\n"
        "What this process measured is not stored; what was stored before is unchanged.\n"
        "hint: check the free space and the permissions of its folder, or name another with --baselines DIR"
    )
    assert path.read_text() == before


def test_a_case_measured_in_another_way_is_left_out() -> None:
    first, _ = add(Pool("pretended", ENVIRONMENT), process(), [measured()])
    second, problems = add(
        first, process(), [measured(method={"clock": "wall"}), measured(CASES[1], outcome=Outcome.FAILED)]
    )
    assert problems == [f"{CASES[0]}: measured in another way than in the processes before; left out"]
    assert [row.process for row in second.cases[CASES[0]].series["memory"].rows] == [0]
    assert CASES[1] not in second.cases


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    """A stored figure that is none would make the whole pool unreadable."""
    broken = Metric("device_time", "s", float("nan"))
    again = [Again("device_time", "1%", float("inf")), *measured().again]
    found = [measured(metrics=(broken,)), replace(measured(CASES[1]), again=again)]
    _, problems = store.merge(tmp_path, "suite", Pool("pretended", ENVIRONMENT), process(), found)
    assert problems == [f"{CASES[0]}: measured what is no number; left out"]
    loaded = store.load(tmp_path / "pretended" / "calibration" / "suite.json")
    assert list(loaded.cases) == [CASES[1]]
    assert [row.step for row in loaded.cases[CASES[1]].series["device_time"].rows] == ["", "1%"]


def test_processes_of_other_cases_say_nothing_of_these() -> None:
    grown, _ = add(Pool("pretended", ENVIRONMENT), process(("1%",)), [measured()])
    grown, _ = add(grown, process(), [measured(), measured(CASES[1])])
    assert having(grown, CASES) == [process(("1%",)), process()]
    assert having(grown, CASES[1:]) == [process()]
    assert having(grown, ["test_y.py::test_a"]) == []


def test_samples_are_thinned_and_come_back() -> None:
    seconds = [1e-3 + number * 1e-6 for number in range(100)]
    kept = summary(seconds)
    assert (kept.count, kept.least, len(kept.some)) == (100, 1e-3, KEPT)
    assert kept.mean == pytest.approx(1.0495e-3)
    back = from_row(*to_row(kept, 1.05e-3), 1.05e-3)
    assert back.some == pytest.approx(kept.some, rel=1e-5)
    assert (back.count, back.mean, back.deviation) == pytest.approx((100, kept.mean, kept.deviation), rel=1e-5)
    assert summary([]) is None
    assert from_row(*to_row(None, 1.0), 1.0) is None


@pytest.mark.parametrize(("text", "expected"), [("0.01,0.05", (0.01, 0.05)), ("10%,1%", (0.01, 0.1)), ("none", ())])
def test_steps_are_read(text: str, expected: tuple[float, ...]) -> None:
    assert steps.read_time(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["fast", "0", "-1%", "200%", "nan", "1%,"])
def test_steps_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        steps.read_time(text)
    part = text.split(",")[-1]
    hint = "--steps 0.01,0.05, --steps 1%,5% or --steps none"
    assert str(caught.value) == f"--steps: {part!r} is not a slow-down\nhint: {hint}"


def test_memory_steps() -> None:
    assert steps.read_memory("2MiB, 1%") == ("2MiB", "1%")
    assert steps.read_memory("none") == ()
    assert (steps.bytes_of("2MiB", 5.0), steps.bytes_of("1%", 1e6)) == (2 << 20, 10_000)
    assert steps.Steps((0.01, 0.1), ("1%",)).labels == ("1%", "10%", "memory 1%")
    assert [steps.share_of(name) for name in ("3%", "memory 1%", "memory 2MiB")] == [0.03, None, None]
    with pytest.raises(SettingError) as caught:
        steps.read_memory("many")
    assert str(caught.value) == (
        "--memory-steps: limit 'many' cannot be used: it is not a share or an amount\n"
        "hint: --memory-steps 2MiB,1% or none"
    )


def test_processes_with_extra_work_are_spread_evenly() -> None:
    asked = measuring.ask([], 8, 3, steps.Steps((0.01,)), memory=("2MiB", "1%"))
    assert [bool(each.steps.time) for each in asked] == [True, False, True, False, False, True, False, False]
    assert [each.steps.memory for each in asked if each.steps.time] == [("2MiB",), ("1%",), ("2MiB",)]
    rest = measuring.ask([process(("1%",)), process(), process()], 8, 3, steps.Steps((0.01,)), memory=())
    assert [each.number for each in rest] == [3, 4, 5, 6, 7]
    assert [each.number for each in rest if each.steps.time] == [3, 5]
    assert measuring.ask([process()] * 8, 8, 3, steps.Steps((0.01,)), memory=()) == []


def test_each_process_runs_the_selection_and_isolated_cases_alone() -> None:
    groups = []

    def run(group: list[str], launch: Launch, *, calibration: dict[str, Any], progress: Any, **_: Any) -> Findings:
        groups.append((group, calibration))
        progress(group[0])
        found = Findings(measurements={case: measured(case).measurement for case in group})
        found.calibrations = {
            case: {"timed": "device_time", "samples": None, "again": [], "problems": ["1%: too short"]}
            for case in group
        }
        return found

    told: list[str] = []
    asked = measuring.ask([], 1, 1, steps.Steps((0.01,)), memory=())
    (taken,) = measuring.Line(SELECTED, asked, "abc", run=run, tell=told.append).results()
    assert groups == [([CASES[0]], {"time": (0.01,), "memory": ()}), ([CASES[1]], {"time": (0.01,), "memory": ()})]
    assert [found.measurement.case for found in taken.found] == list(CASES)
    assert taken.problems == tuple(f"{case}: 1%: too short" for case in CASES)
    assert (taken.process.commit, taken.process.steps, taken.process.device) == ("abc", ("1%",), "")
    assert told == [f"process 1: case 1 of 2: {CASES[0]}", f"process 1: case 2 of 2: {CASES[1]}"]


def test_a_death_is_told_and_the_others_count() -> None:
    def run(group: list[str], launch: Launch, **_: Any) -> Findings:
        if group == [CASES[1]]:
            return Findings(deaths={CASES[1]: (Outcome.CRASHED, "killed by SIGSEGV (signal 11)", "")})
        return Findings(measurements={CASES[0]: measured().measurement})

    (taken,) = measuring.Line(SELECTED, measuring.ask([], 1, 0, steps.Steps(), memory=()), "", run=run).results()
    assert taken.problems == (f"{CASES[1]}: crashed: killed by SIGSEGV (signal 11)",)
    assert len(taken.found) == 1


def test_devices_work_at_once_one_process_each() -> None:
    together = threading.Barrier(2, timeout=20)
    seen = []

    def run(group: list[str], launch: Launch, **_: Any) -> Findings:
        if group == [CASES[0]]:
            together.wait()
        seen.append(launch.variables(Path("task"))["CUDA_VISIBLE_DEVICES"])
        return Findings(measurements={case: measured(case).measurement for case in group})

    asked = measuring.ask([], 4, 0, steps.Steps(), memory=())
    taken = list(measuring.Line(SELECTED, asked, "", devices=("2", "3"), run=run).results())
    assert sorted(each.asked.number for each in taken) == [0, 1, 2, 3]
    assert sorted(seen) == ["2"] * 4 + ["3"] * 4
    assert sorted(each.process.device for each in taken) == ["2", "2", "3", "3"]


def test_a_failure_on_one_device_ends_all() -> None:
    def run(group: list[str], launch: Launch, **_: Any) -> Findings:
        raise ValueError("broken")

    asked = measuring.ask([], 4, 0, steps.Steps(), memory=())
    with pytest.raises(ValueError, match="broken"):
        list(measuring.Line(SELECTED, asked, "", devices=("2", "3"), run=run).results())


def test_no_process_begins_after_the_deadline() -> None:
    asked = measuring.ask([], 4, 0, steps.Steps(), memory=())
    assert list(measuring.Line(SELECTED, asked, "", deadline=0.0).results()) == []


def test_a_task_carries_the_extra_work(tmp_path: Path) -> None:
    task = Task(CASES, "events", calibration=steps.Steps((0.01,), ("2MiB",)).to_json())
    task.save(tmp_path / "task.json")
    loaded = Task.load(str(tmp_path / "task.json"))
    assert steps.Steps.from_json(loaded.calibration) == steps.Steps((0.01,), ("2MiB",))
    Task(CASES, "events").save(tmp_path / "task.json")
    assert Task.load(str(tmp_path / "task.json")).calibration is None


def test_a_device_sample_gets_one_kernel_for_all_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    slept: list[int] = []
    monkeypatch.setattr(inject, "spin_cost", lambda device: inject.SpinCost(1e-6, 0.5e-9))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "_sleep", slept.append, raising=False)
    slower = inject.DeviceExtra(lambda x: x + 1, 0.2e-6)
    assert slower(1) == 2
    slower.perfgate_extra(32)
    assert slept == [10_800], "32 x 0.2 us less the 1 us of the kernel itself, in cycles of 0.5 ns"
    assert slower.problem == ""
    slower.perfgate_extra(1)
    assert slept == [10_800]
    assert slower.problem == "0.20 us of extra work cannot be added: a kernel that does nothing costs 1.00"


def test_cpu_work_is_counted_in_core_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    spun: list[int] = []
    monkeypatch.setattr(inject, "_overhead", lambda: 4.0)
    monkeypatch.setattr(inject, "spin", spun.append)
    assert inject.on_cpu(lambda: "result", 2.5)() == "result"
    assert inject.on_cpu(lambda: "result", 0.001)() == "result"
    assert spun == [1246, 0]


def test_bytecode_spins_as_often_as_asked() -> None:
    assert inject.spin(1203) == 2 * inject.core_loop() + inject.spin(203)
    assert inject.spin(0) == 0


MODULE = """
import pytest

@pytest.mark.cpu
@pytest.mark.perf(budget=0.1)
def test_sum(benchmark):
    assert benchmark(sum, range(20_000)) > 0

@pytest.mark.cuda
@pytest.mark.skip(reason="never")
def test_skipped(benchmark):
    benchmark(sum, range(10))

def test_no_case():
    raise AssertionError("never run")
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    (tmp_path / "test_cases.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_calibration_measures_stores_and_goes_on(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["calibrate", "test_cases.py", "--steps", "0.5", "--memory-steps", "8MiB", "--injected", "1"]
    assert cli.main([*asked, "--runs", "1", "--measure-only"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "calibrating 1 case in 1 fresh process; this machine cannot run 1 more"
    assert out[1].startswith("process 1 of 1: ")
    assert out[1].endswith(" s, with 50%, memory 8MiB")
    (path,) = repository.glob("baselines/*/calibration/suite.json")
    assert out[2] == f"stored in {path.relative_to(repository)}"
    assert cli.main(["calibrate", "--from", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        f"{path.parts[-3]}: 1 process is too few to compare: a baseline takes 5, and a run at least one more"
    )
    assert cli.main([*asked, "--runs", "2", "--measure-only"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        "calibrating 1 case in 1 fresh process, beside 1 in the pool; this machine cannot run 1 more"
    )
    pool = store.load(path)
    assert [bool(process.steps) for process in pool.processes] == [True, False]
    series = pool.cases["test_cases.py::test_sum"].series
    assert [(row.process, row.step) for row in series["wall_time"].rows] == [(0, ""), (0, "50%"), (1, "")]
    plain, slower, _ = series["wall_time"].rows
    loops = [row.value * row.speeds["core"] for row in (plain, slower)]
    assert 1.2 < loops[1] / loops[0] < 1.9
    assert plain.samples.count >= 3
    memory = {row.step: row.value for row in series["memory"].rows if row.process == 0}
    assert memory["memory 8MiB"] - memory[""] > 7 << 20


def test_interrupting_keeps_what_was_measured(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = iter([Findings(measurements={CASES[0]: measured().measurement}), None])

    def run(*_: Any, **__: Any) -> Findings:
        found = next(runs)
        if found is None:
            raise KeyboardInterrupt
        return found

    line = measuring.Line
    monkeypatch.setattr(measuring, "Line", lambda *args, **more: line(*args, **more, run=run))
    monkeypatch.setattr(
        "perfgate.calibrate.selecting.select", lambda arguments: replace(SELECTED, isolated=frozenset())
    )
    assert cli.main(["calibrate", "--runs", "6", "--baselines", "b"]) == 1
    assert capsys.readouterr().err == (
        "perfgate: interrupted: 1 of 6 processes measured\n"
        "What they measured is stored.\n"
        "hint: go on with the same command\n"
    )
    assert len(store.load(repository / "b" / "pretended" / "calibration" / "suite.json").processes) == 1


def test_other_cases_under_the_same_name_are_measured_too(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = hardware.detect().devices[0].key

    def run(group: list[str], launch: Launch, **_: Any) -> Findings:
        return Findings(measurements={case: measured(case, key=key).measurement for case in group})

    def calibrate(*cases: str) -> list[str]:
        chosen = replace(SELECTED, cases=cases, isolated=frozenset())
        monkeypatch.setattr("perfgate.calibrate.selecting.select", lambda arguments: chosen)
        assert cli.main(["calibrate", "--runs", "3", "--baselines", "b", "--measure-only"]) == 0
        return capsys.readouterr().out.splitlines()

    line = measuring.Line
    monkeypatch.setattr(measuring, "Line", lambda *args, **more: line(*args, **more, run=run))
    monkeypatch.setattr(store, "check_environment", lambda *_: None)
    assert calibrate(CASES[0])[0] == "calibrating 1 case in 3 fresh processes"
    assert calibrate(CASES[0])[0] == "calibrating 1 case in 0 fresh processes, beside 3 in the pool"
    assert calibrate(*CASES)[:2] == [
        "calibrating 2 cases in 0 fresh processes, beside 3 in the pool",
        f"careful: 1 case not in all of these 3, e.g. {CASES[1]}; "
        "with --name NAME they are measured in a pool of their own",
    ]
    assert calibrate(CASES[1])[:2] == [
        "calibrating 1 case in 3 fresh processes",
        "process 1 of 3: 0 s, with 1%, 2%, 3%, 5%, 10%, memory 2MiB",
    ]
    (path,) = repository.glob("b/*/calibration/suite.json")
    assert len(store.load(path).processes) == 6


def test_a_selection_without_cases_is_refused(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", "test_cases.py", "--runs", "6", "--", "-k", "skipped"]) == 1
    assert capsys.readouterr().err == (
        "perfgate: pytest --collect-only -q test_cases.py -k skipped found no case to calibrate; "
        "this machine cannot run 1\n"
        "Calibrated are tests that use the benchmark fixture.\n"
        "hint: name others, e.g.: perfgate calibrate perf_tests --runs 30\n"
    )


def test_devices_are_gpus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cpu = Device("cpu", "A CPU", "cpu-a", 8 << 30, count=2)
    monkeypatch.setattr(hardware, "detect", lambda: Hardware((cpu,), {}))
    assert cli.main(["calibrate", "test_x.py", "--devices", "0,1"]) == 4
    assert capsys.readouterr().err == (
        "perfgate: --devices 0,1: there is no GPU here\n"
        "Processes at once on one CPU would slow each other down, and the pool would hold their noise.\n"
        "hint: leave --devices out\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "0"], "--runs: 0 is not a number of processes\nhint: --runs 30"),
        (
            ["--runs", "4"],
            "--runs 4: too few processes to compare\n"
            "A baseline takes 5, and a run at least one more. A whole confirmation takes 17, and 24 in pairs of base "
            "and head.\n"
            "hint: --runs 30, or --measure-only to add to the pool and compare later",
        ),
        (["--injected", "-1"], "--injected: -1 is not a number of processes\nhint: --injected 30"),
        (["--processes", "0"], "--processes: 0 is not a number of processes\nhint: --processes 12"),
        (["--limit", "1us"], "--limit: '1us' is not a share\nhint: --limit 0.5%"),
        (["--from", "none.json"], "none.json: there is no such file\nhint: ls baselines/*/calibration"),
    ],
)
def test_options_that_cannot_be_used(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("perfgate.calibrate.selecting.select", lambda arguments: pytest.fail("refused too late"))
    assert cli.main(["calibrate", *arguments]) == 4
    assert capsys.readouterr().err == f"perfgate: {message}\n"


def test_defaults_are_those_of_the_gate() -> None:
    from perfgate.calibrate import splits
    from perfgate.options import DEFAULT_PROCESSES, RECORDED_PROCESSES

    assert (command.PROCESSES, command.COMPARISONS, RECORDED_PROCESSES) == (DEFAULT_PROCESSES, splits.MOST, 5)
