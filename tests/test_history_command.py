"""What does ``perfgate history`` tell, and what becomes of a run with ``--perf-history``?"""

from __future__ import annotations

import datetime
import io
import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from perfgate.cli import main
from perfgate.errors import SettingError
from perfgate.history import entry as entries
from perfgate.history import keeping, plot, query
from perfgate.history.entry import Entry, Point
from perfgate.history.store import History
from perfgate.model import CaseResult, Device, Hardware, MetricVerdict, Outcome, Run, Verdict

KEY = "cpu-pretended-2t"
FIRST = datetime.datetime(2026, 10, 1, 2, tzinfo=datetime.UTC).timestamp()
STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]
#: Noise that is the same every time: a tenth of a percent.
WAVE = [1e-3 * (1 + 1e-3 * np.sin(7.0 * night)) for night in range(60)]


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """What the history takes for now: some hours after the run of night 60, unless a test says otherwise."""
    clock = SimpleNamespace(now_s=FIRST + 59.5 * 86400)
    monkeypatch.setattr(entries, "time", SimpleNamespace(time=lambda: clock.now_s))
    return clock


def fill(path, series, nights, **changes) -> None:
    """Append a run a night: the figures of each case by its name."""
    with History(f"sqlite:///{path}") as history:
        for night in range(nights):
            points = tuple(
                Point(f"t.py::test_{name}", KEY, "wall_time", "s", values[night], allowed=5e-5, **changes)
                for name, values in series.items()
            )
            history.append(Entry(f"{night}", "perfgate", FIRST + night * 86400, f"{night:012x}", points))


@pytest.fixture
def stepped(tmp_path, monkeypatch):
    """A history in which ``slow`` became 10 % slower three nights ago, and ``steady`` did nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERFGATE_HISTORY", raising=False)
    slow = [value * (1.1 if night >= 37 else 1) for night, value in enumerate(WAVE)]
    fill(tmp_path / "perf-history.sqlite", {"slow": slow, "steady": WAVE}, 40)
    return tmp_path


def told(capsys, *arguments: str, code: int = 0) -> str:
    assert main(["history", *arguments]) == code
    said = capsys.readouterr()
    return said.err if code else said.out


def test_the_report_names_a_step_with_its_commits_on_the_third_night(stepped, capsys):
    lines = told(capsys).splitlines()
    assert lines[:3] == [
        "1 figure got worse, 0 better, in the last night: 2 figures until 2026-11-09",
        "new change points (1)",
        "    t.py::test_slow",
    ]
    assert lines[3].startswith("        wall_time on cpu-pretended-2t: 1.00 ms -> 1.10 ms (+")
    assert lines[3].endswith(" %, worse), since 2026-11-07, commits 000000000024..000000000025")
    assert len(lines) == 4
    assert told(capsys, "report").splitlines() == lines


def test_the_report_tells_it_once(stepped, capsys):
    fill(stepped / "perf-history.sqlite", {"slow": [v * 1.1 for v in WAVE], "steady": WAVE}, 41)
    assert told(capsys) == "nothing new in the last night: 2 figures until 2026-11-10\n"
    assert told(capsys, "--nights", "3").startswith("1 figure got worse, 0 better, in the last 3 nights: 2 figures")


def test_the_report_as_json_and_as_markdown(stepped, capsys):
    document = json.loads(told(capsys, "report", "--json"))
    [finding] = document.pop("findings")
    assert document == {"nights": 1, "series": 2, "until": "2026-11-09T02:00:00+00:00", "future": []}
    assert 0.09 < finding.pop("share") < 0.11
    assert finding.pop("before") == pytest.approx(1e-3, rel=0.01)
    assert finding.pop("after") == pytest.approx(1.1e-3, rel=0.01)
    assert finding == {
        "kind": "change", "case": "t.py::test_slow", "key": KEY, "metric": "wall_time", "unit": "s", "worse": True,
        "since": "2026-11-07T02:00:00+00:00", "last_good": "000000000024", "first_bad": "000000000025", "beside": [],
        "state": "new", "was": None, "nights": ["2026-11-07T02:00:00+00:00"],
    }  # fmt: skip
    lines = told(capsys, "report", "--markdown").splitlines()
    assert lines[0] == "**1 figure got worse, 0 better, in the last night: 2 figures until 2026-11-09**"
    assert lines[2] == "### New change points (1)"
    assert lines[6].startswith("| t.py::test\\_slow | wall\\_time | cpu-pretended-2t | 1.00 ms -&gt; 1.10 ms (+")
    assert lines[6].endswith(" | 2026-11-07 | 000000000024..000000000025 |")


def test_a_night_halfway_leaves_open_which_commits_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    halfway = [*WAVE[:37], 1.0467e-3, *(1.1 * value for value in WAVE[38:])]
    fill(tmp_path / "h.sqlite", {"slow": halfway}, 41)
    text = "commits 000000000024..000000000026 (night uncertain: one of 2026-11-07, 2026-11-08)"
    assert told(capsys, "--nights=4", "--history=h.sqlite").splitlines()[-1].endswith(text)
    assert any(line.endswith(text) for line in told(capsys, "slow", "--history=h.sqlite").splitlines())
    assert text.removeprefix("commits ") in told(capsys, "--nights=4", "--markdown", "--history=h.sqlite")
    [finding] = json.loads(told(capsys, "--nights=4", "--json", "--history=h.sqlite"))["findings"]
    assert (finding["last_good"], finding["first_bad"]) == ("000000000024", "000000000026")
    assert finding["nights"] == ["2026-11-07T02:00:00+00:00", "2026-11-08T02:00:00+00:00"]
    [series] = json.loads(told(capsys, "slow", "--json", "--history=h.sqlite"))
    assert [(each["earliest"], each["latest"]) for each in series["changes"]] == [(37, 38)]


def test_a_run_from_the_future_does_not_blind_the_report(stepped, capsys, clock):
    """A machine whose clock runs years ahead; the nights of the others stay the last ones."""
    clock.now_s = FIRST + 39.2 * 86400
    before = told(capsys).splitlines()
    assert before[1] == "new change points (1)"
    ahead = datetime.datetime(2030, 1, 1, 2, tzinfo=datetime.UTC).timestamp()
    points = (
        Point("t.py::test_slow", KEY, "wall_time", "s", 5e-3),
        Point("t.py::test_new", KEY, "wall_time", "s", 1.0),
    )
    with History("sqlite:///perf-history.sqlite") as history:
        for night, host in enumerate(("runner-7", "runner-7", "")):
            history.append(Entry(f"ahead {night}", "perfgate", ahead + night * 86400, "f" * 12, points, host))
    careful = (
        "3 runs are dated in the future (2030-01-01 to 2030-01-03, from runner-7, an unknown machine) "
        "and left out here until then: is the clock there right?"
    )
    assert told(capsys).splitlines() == [before[0], f"careful: {careful}", *before[1:]]
    assert told(capsys, "--markdown").splitlines()[:3] == [f"**{before[0]}**", "", f"Careful: {careful}"]
    document = json.loads(told(capsys, "--json"))
    assert (document["until"], document["series"], len(document["findings"])) == ("2026-11-09T02:00:00+00:00", 2, 1)
    assert document["future"] == [
        {"date": f"2030-01-0{day}T02:00:00+00:00", "host": host, "revision": "f" * 12}
        for day, host in ((1, "runner-7"), (2, "runner-7"), (3, ""))
    ]
    lines = told(capsys, "slow", "--points=4").splitlines()
    assert [line.split()[0] for line in lines if "dated in the future, not judged" in line] == [
        "2030-01-01", "2030-01-02", "2030-01-03"
    ]  # fmt: skip
    assert "2026-11-07: 1.00 ms -> 1.10 ms" in "\n".join(lines)
    # When its time has come it is a night as any other: nothing was thrown away.
    clock.now_s = ahead + 3 * 86400
    text = told(capsys)
    assert "2 figures until 2030-01-03" in text
    assert "wall_time on cpu-pretended-2t: 1.10 ms -> 5.00 ms" in text
    assert "future" not in text


def test_clocks_of_two_machines_may_differ_by_an_hour(stepped, capsys, clock):
    clock.now_s = FIRST + 39 * 86400 - 3500
    assert "until 2026-11-09" in told(capsys)
    clock.now_s = FIRST + 39 * 86400 - 3700
    assert told(capsys).splitlines()[:2] == [
        "nothing new in the last night: 2 figures until 2026-11-08",
        "careful: 1 run is dated in the future (2026-11-09, from an unknown machine) and left out here until then: "
        "is the clock there right?",
    ]
    clock.now_s = 0
    assert told(capsys).splitlines()[0] == "the history has no figure up to now"


def test_a_drift_and_noise_are_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(3)
    drifting = np.linspace(1e-3, 1.0502e-3, 60) + random.normal(0, 2e-6, 60)
    noisy = 1e-3 + random.normal(0, 2e-6, 60)
    noisy[46:] = 1e-3 + (noisy[46:] - 1e-3) * 8
    fill(tmp_path / "h.sqlite", {"drifting": drifting.tolist(), "noisy": noisy.tolist()}, 60)
    document = json.loads(told(capsys, "report", "--history", "h.sqlite", "--json", "--nights", "14"))
    kinds = {(finding["kind"], finding["case"]) for finding in document["findings"]}
    assert ("noisier", "t.py::test_noisy") in kinds
    text = told(capsys, "report", "--history", "h.sqlite", "--nights", "14")
    assert "cases that became noisier (1)\n    t.py::test_noisy\n" in text
    assert " times the spread), since 2026-11-" in text


def test_a_case_with_its_plot_and_changes(stepped, capsys):
    lines = told(capsys, "slow", "--points", "2").splitlines()
    assert lines[0] == "t.py::test_slow"
    assert lines[1] == "    wall_time on cpu-pretended-2t, 40 runs from 2026-10-01 to 2026-11-09"
    assert any("1.10 ms" in line for line in lines[2:6])
    assert lines[6].strip() in ("▲", "^")
    assert lines[7].startswith("    2026-11-07: 1.00 ms -> 1.10 ms (+")
    assert lines[7].endswith("worse), commits 000000000024..000000000025")
    assert [line.split()[:2] for line in lines[8:]] == [["2026-11-08", "000000000026"], ["2026-11-09", "000000000027"]]
    assert told(capsys, "show", "slow", "--points", "2").splitlines() == lines
    steady = told(capsys, "t.py::test_steady")
    assert "    no change point\n" in steady
    document = json.loads(told(capsys, "test_", "--json"))
    assert [each["case"] for each in document] == ["t.py::test_slow", "t.py::test_steady"]
    assert [change["index"] for change in document[0]["changes"]] == [37]


def test_reports_can_ask_for_one_series(stepped):
    found = query.series("perf-history.sqlite", "t.py::test_slow", KEY, "wall_time")
    assert found is not None
    assert (len(found.values), found.dates[0], found.commits[-1]) == (40, "2026-10-01T02:00:00+00:00", f"{39:012x}")
    assert [change.index for change in found.changes] == [37]
    assert query.series("perf-history.sqlite", "t.py::test_slow", "other", "wall_time") is None
    read = query.reader("perf-history.sqlite")
    assert read("t.py::test_slow", KEY, "wall_time") == found
    assert read("t.py::test", KEY, "wall_time") is None


def test_throttled_nights_are_shown_and_not_analysed(tmp_path):
    path = tmp_path / "h.sqlite"
    values = [value * (1.5 if 30 <= night < 36 else 1) for night, value in enumerate(WAVE)]
    with History(f"sqlite:///{path}") as history:
        for night in range(40):
            verdict = "throttled" if 30 <= night < 36 else "unchanged"
            point = Point("t.py::test_a", KEY, "wall_time", "s", values[night], verdict=verdict)
            history.append(Entry(f"{night}", "perfgate", FIRST + night * 86400, "c", (point,)))
    found = query.series(str(path), "t.py::test_a", KEY, "wall_time")
    assert len(found.values) == 40
    assert found.changes == ()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing"], 1, "perf-history.sqlite: no case of the history has 'nothing' in its name\n"
                         "hint: a case is named by its node id, or a part of it"),
        (["import"], 4, "perfgate history import: no file is named\nhint: perfgate history import FILE ..."),
        (["show"], 4, "perfgate history show: name one case\nhint: perfgate history show CASE"),
        (["a", "b"], 4, "perfgate history: 'a b' is more than one case\nhint: perfgate history CASE"),
        (["--nights", "0"], 4, "perfgate history: --nights is 1 or more, --points is 0 or more"),
        (["--history", "none.sqlite"], 1, "none.sqlite: there is no history\n"
                                          "hint: runs are added with: pytest --benchmark-compare --perf-history"),
        (["--history", "mysql://h/d"], 4, "--history: a history is not kept in 'mysql'\n"
                                          "hint: a path, sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"),
    ],
)  # fmt: skip
def test_what_cannot_be_told(stepped, capsys, arguments, code, message):
    assert told(capsys, *arguments, code=code) == f"perfgate: {message}\n"


def test_without_the_library_the_command_says_what_to_install(stepped, capsys, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec

    def without(name: str, package: str | None = None):
        return None if name == "ruptures" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert told(capsys, code=4) == (
        "perfgate: perfgate history: ruptures is not installed, and it is what finds change points\n"
        "hint: pip install 'perfgate[history]'\n"
    )


def test_a_plot_of_braille_dots():
    assert plot.lines([0, 0, 0, 0, 15, 15, 15, 15], [4], ("15", "0"), unicode=True, columns=4) == [
        "15 ┤⠀⠀⠉⠉",
        "   ┤⠀⠀⠀⠀",
        "   ┤⠀⠀⠀⠀",
        " 0 ┤⣀⣀⠀⠀",
        "      ▲",
    ]


def test_a_plot_in_ascii():
    assert plot.lines([0, 1, 2, 3, 3], [3], ("3", "0"), unicode=False, columns=10) == [
        "3 |   **",
        "  |  *",
        "  | *",
        "0 |*",
        "      ^",
    ]
    assert plot.lines([5.0, 5.0], [], ("5", "5"), unicode=False) == ["5 |", "  |", "  |", "5 |**"]


@pytest.mark.parametrize(("encoding", "drawn"), [("utf-8", True), ("ascii", False), ("latin-1", False), (None, False)])
def test_what_an_encoding_can_draw(encoding, drawn):
    assert plot.can_draw(encoding) is drawn


def test_a_terminal_without_unicode_gets_ascii(stepped, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["history", "slow"]) == 0
    out.flush()
    assert b"|" in out.buffer.getvalue()


@pytest.fixture
def steady(project):
    """A project with one case, ``a``, and its baseline."""
    project.cases("a")
    project.figures("a", STEADY)
    project.store("a")
    return project


def points(project, name: str = "perf-history.sqlite") -> list[tuple[str, float]]:
    with History(f"sqlite:///{project.path / name}", create=False) as history:
        return [(name.metric, point.value) for name, found in history.everything() for point in found]


def test_a_compared_run_is_added_at_its_end(steady, monkeypatch):
    monkeypatch.delenv("PERFGATE_HISTORY", raising=False)
    # What comes after the flag is a test: the history's own path stands behind an equals sign.
    result = steady.run("--benchmark-compare", "--perf-json=run.json", "--perf-history", "test_speed.py")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert sorted(points(steady)) == [("memory", 1 << 20), ("wall_time", 1e-3)]
    assert not list(steady.path.glob("perf-run-*"))
    monkeypatch.chdir(steady.path)
    assert main(["history", "import", "run.json"]) == 0
    assert len(points(steady)) == 2


def test_a_recorded_run_is_added_where_the_ini_file_says(steady):
    steady.pytester.makeini(
        "[pytest]\naddopts = -p benchmark -p perfgate -p no:cacheprovider\nperf_history = deep/h.sqlite\n"
    )
    steady.run().assert_outcomes(passed=1)
    assert not (steady.path / "deep").exists()
    steady.run("--perf-update=all").assert_outcomes(passed=1)
    assert len(points(steady, "deep/h.sqlite")) == 2


def test_a_run_that_compares_with_a_ref_is_told_and_not_added(tmp_path):
    metric = MetricVerdict("wall_time", "s", 1e-3, Verdict.UNCHANGED)
    result = CaseResult("t.py::test_a", KEY, Verdict.UNCHANGED, Outcome.PASSED, metrics=(metric,))
    run = Run(Hardware((Device("cpu", "A", KEY),)), (result,), {}, "2026-11-20T02:00:00+00:00", 1.0, remarks=("first",))
    address = f"sqlite:///{tmp_path / 'h.sqlite'}"
    kept = keeping.keep(replace(run, base="origin/main"), address, tmp_path, None)
    assert kept.remarks == (
        "first", "not added to the history: the run compares with origin/main, not with baselines"
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    assert keeping.keep(run, address, tmp_path, None) == run
    assert (tmp_path / "h.sqlite").exists()


def test_what_changed_beside_the_code_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with History(f"sqlite:///{tmp_path / 'h.sqlite'}") as history:
        for night, value in enumerate([*WAVE[:37], *(1.1 * value for value in WAVE[37:40])]):
            new = night >= 37
            software = {
                "python": "3.11.7",
                "torch": "2.13.0" if new else "2.12.0",
                **({"triton": "3.9.0"} if new else {}),
            }
            points = (Point("t.py::test_a", KEY, "wall_time", "s", value),)
            date = FIRST + night * 86400
            history.append(Entry(f"{night}", "perfgate", date, "a" * 12, points, f"runner-{int(new)}", software))
    beside = ["host runner-0 -> runner-1", "torch 2.12.0 -> 2.13.0", "triton none -> 3.9.0"]
    text = f"commits {'a' * 12} in both: not the code; also {', '.join(beside)}"
    assert told(capsys, "--history=h.sqlite").splitlines()[-1].endswith(text)
    assert told(capsys, "test_a", "--points=0", "--history=h.sqlite").splitlines()[-1].endswith(text)
    [finding] = json.loads(told(capsys, "--json", "--history=h.sqlite"))["findings"]
    assert finding["beside"] == beside
    [series] = json.loads(told(capsys, "test_a", "--json", "--history=h.sqlite"))
    assert series["beside"] == [beside]


def test_nothing_from_a_file_reaches_the_terminal_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with History(f"sqlite:///{tmp_path / 'h.sqlite'}") as history:
        for night, value in enumerate([*WAVE[:37], *(1.1 * value for value in WAVE[37:40])]):
            points = (Point("t\x1b[2J", "k\x1b[2J", "m\x1b[2J", "s", value),)
            history.append(Entry(f"{night}", "pytest-benchmark", FIRST + night * 86400, f"{night}\x1b[2J", points))
    for arguments in (("report",), ("report", "--markdown"), ("t",)):
        text = told(capsys, *arguments, "--history=h.sqlite")
        assert "\x1b" not in text
        assert "36" in text
        assert "x1b" in text


def test_a_history_that_fails_hides_no_verdict_and_loses_no_run(steady, monkeypatch):
    (steady.path / "taken").write_text("")
    result = steady.run("--benchmark-compare", "--perf-history=taken/h.sqlite")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    [kept] = steady.path.glob("perf-run-*.json")
    result.stdout.fnmatch_lines(
        [
            "1 unchanged on cpu-pretended-2t",
            "problem: taken/h.sqlite: the history cannot be opened: File exists",
            f"The run is kept in {kept.name}.",
            f"hint: perfgate history import {kept.name}",
            "*= 1 passed in *",
        ]
    )
    monkeypatch.chdir(steady.path)
    assert main(["history", "import", kept.name, "--history", "h.sqlite"]) == 0
    assert len(points(steady, "h.sqlite")) == 2


def test_a_run_with_a_file_of_its_own_is_kept_there(steady):
    (steady.path / "taken").write_text("")
    result = steady.run("--benchmark-compare", "--perf-json=run.json", "--perf-history=taken/h.sqlite")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["The run is kept in run.json.", "hint: perfgate history import run.json"])
    assert not list(steady.path.glob("perf-run-*"))
    [problem] = json.loads((steady.path / "run.json").read_text())["problems"]
    assert problem.startswith("taken/h.sqlite: the history cannot be opened: File exists")


def test_a_flag_with_nothing_to_add_is_refused(pytester):
    from perfgate import options

    with pytest.raises(SettingError) as error:
        options.read(pytester.parseconfig("--perf-history=h.sqlite"))
    assert str(error.value) == (
        "--perf-history has nothing to add: no case is judged or recorded in this run\n"
        "hint: add --benchmark-compare or --perf-update=new"
    )
    pytester.makeini("[pytest]\nperf_history = h.sqlite\n")
    assert options.read(pytester.parseconfig()).history == f"sqlite:///{pytester.path / 'h.sqlite'}"


def test_nobody_pays_for_the_history_who_does_not_use_it():
    code = (
        "import sys, perfgate.plugin, perfgate.cli; "
        "print([name for name in ('sqlalchemy', 'ruptures', 'numpy', 'perfgate.history.store') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
