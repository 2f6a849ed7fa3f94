"""Which files become history, once each, and what is said of those that cannot?"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from perfgate.cli import main
from perfgate.errors import HistoryError, RunFileError
from perfgate.history import entry as entries
from perfgate.history import importing
from perfgate.history.entry import Entry, Point
from perfgate.history.store import History
from perfgate.model import CaseResult, Device, Hardware, MetricVerdict, Outcome, Run, Verdict
from perfgate.report import run_file

ROOT = Path(__file__).parents[1]
#: When the tests are run, to the history: an hour after its runs began.
NOW = datetime.datetime(2026, 11, 20, 3, tzinfo=datetime.UTC).timestamp()
KINDS = (
    "hint: what can be added is a run (--perf-json), a file of pytest-benchmark (--benchmark-json), "
    "or published figures (CSV)"
)
WRITTEN = "hint: such a file is written by: pytest --benchmark-json=FILE"


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr(entries, "time", SimpleNamespace(time=lambda: NOW))


def benchmark_file(path: Path, **changes) -> Path:
    """Write a file as pytest-benchmark 5 does, as far as it is read."""
    stats = {"min": 1.0e-6, "max": 9e-6, "mean": 2.5e-6, "median": 2e-6, "q1": 1.5e-6, "q3": 3e-6, "rounds": 100}
    document = {
        "machine_info": {
            "node": "runner-1",
            "python_version": "3.11.7",
            "cpu": {"brand_raw": "AMD EPYC 7B13", "count": 8, "arch": "X86_64"},
        },
        "commit_info": {"id": "0123456789abcdef0123", "dirty": True, "branch": "main"},
        "benchmarks": [{"fullname": "tests/test_x.py::test_a[1]", "name": "test_a[1]", "params": None, "stats": stats}],
        "datetime": "2026-11-20T02:00:00.123456+00:00",
        "version": "5.2.3",
        **changes,
    }
    path.write_text(json.dumps(document))
    return path


def stored_run(path: Path, **changes) -> Path:
    metric = MetricVerdict("wall_time", "s", 1e-3, Verdict.NEW)
    result = CaseResult("t.py::test_a", "cpu-a-2t", Verdict.NEW, Outcome.PASSED, metrics=(metric,))
    hardware = Hardware((Device("cpu", "A", "cpu-a-2t"),))
    run_file.write(Run(hardware, (result,), {}, "2026-11-20T02:00:00+00:00", 1.0, "0123456789ab", **changes), path)
    return path


def test_a_run_that_compared_with_a_ref_is_no_night(tmp_path):
    path = stored_run(tmp_path / "run.json", base="origin/main", base_commit="1" * 12)
    with pytest.raises(HistoryError) as error:
        importing.read(path)
    assert str(error.value) == (
        f"{path}: it compares with origin/main, and is no run of its own\n"
        "What a pull request measures is on no series of nights.\n"
        "hint: add a run that compares with baselines: pytest --benchmark-compare --perf-json=FILE"
    )


def test_a_file_of_pytest_benchmark(tmp_path):
    made = importing.read(benchmark_file(tmp_path / "b.json"))
    assert made.points == (
        Point(
            "tests/test_x.py::test_a[1]", "cpu-amd-epyc-7b13-8t", "median", "s", 2e-6, low=1.5e-6, high=3e-6
        ),
    )  # fmt: skip
    assert (made.source, made.started_s, made.revision, made.host) == (
        "pytest-benchmark", 1795140000.123456, "0123456789ab+changes", "runner-1"
    )  # fmt: skip
    assert made.software == {"python": "3.11.7", "pytest-benchmark": "5.2.3"}
    assert not made.published


def test_what_pytest_benchmark_writes_now_is_read(pytester, tmp_path):
    pytester.makepyfile(test_x="def test_a(benchmark): benchmark(sum, [1, 2])")
    arguments = ("-p", "benchmark", "--benchmark-min-rounds=2", "--benchmark-max-time=0.01", "--benchmark-json=b.json")
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=1)
    made = importing.read(pytester.path / "b.json")
    [point] = made.points
    assert point.case == "test_x.py::test_a"
    assert 0 < point.low <= point.value <= point.high < 1
    assert point.key.startswith("cpu-")


def broken(**changes):
    def write(path: Path) -> None:
        benchmark_file(path, **changes)

    return write


def figures(**stats):
    full = {"median": 1.0, "q1": 1.0, "q3": 1.0, **stats}
    kept = {name: value for name, value in full.items() if value is not ...}
    return broken(benchmarks=[{"fullname": "t.py::test_a", "stats": kept}])


TWO = [{"fullname": "a", "stats": {"median": 1, "q1": 1, "q3": 1}}] * 2


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "{path}: cannot read it: No such file or directory"),
        (lambda path: path.mkdir(), "{path}: cannot read it: Is a directory"),
        (lambda path: path.write_bytes(b"{\xff}"), "{path}: not UTF-8 at byte 1\n" + KINDS),
        (
            lambda path: path.write_text('{"a": '),
            "{path}: not JSON: Expecting value: line 1 column 7 (char 6)\n" + KINDS,
        ),
        (lambda path: path.write_text("[" * 100_000), "{path}: not JSON: it is nested too deep\n" + KINDS),
        (lambda path: path.write_text("[]"), "{path}: neither a run of perfgate nor of pytest-benchmark\n" + KINDS),
        (lambda path: path.write_text("{}"), "{path}: neither a run of perfgate nor of pytest-benchmark\n" + KINDS),
        (broken(machine_info=None), "{path}: machine_info: it is not an object\n" + WRITTEN),
        (broken(commit_info=[]), "{path}: commit_info: it is not an object\n" + WRITTEN),
        (broken(datetime="today"), "{path}: datetime: Invalid isoformat string: 'today'\n" + WRITTEN),
        (
            broken(datetime="9999-12-31T23:59:59-14:00"),
            "{path}: datetime: '9999-12-31T23:59:59-14:00' is not between the years 1970 and 9999\n" + WRITTEN,
        ),
        (broken(benchmarks={}), "{path}: benchmarks: it is not a list\n" + WRITTEN),
        (broken(benchmarks=[1]), "{path}: benchmarks[0]: it is not an object\n" + WRITTEN),
        (broken(benchmarks=[{}]), "{path}: benchmarks[0].fullname: it is missing\n" + WRITTEN),
        (broken(benchmarks=TWO), '{path}: benchmarks[1].fullname: "a" is there twice\n' + WRITTEN),
        (figures(median=...), "{path}: benchmarks[0].stats.median: it is missing\n" + WRITTEN),
        (figures(q1="1"), '{path}: benchmarks[0].stats.q1: "1" is not a time in seconds\n' + WRITTEN),
        (figures(q3=float("nan")), "{path}: benchmarks[0].stats.q3: NaN is not a time in seconds\n" + WRITTEN),
        (figures(median=-1.0), "{path}: benchmarks[0].stats.median: -1.0 is not a time in seconds\n" + WRITTEN),
        (
            figures(median=10**400),
            "{path}: benchmarks[0].stats.median: 1" + "0" * 116 + "... is not a time in seconds\n" + WRITTEN,
        ),
    ],
)
def test_a_file_that_cannot_be_added_is_named_with_the_place(tmp_path, write, message):
    path = tmp_path / "file.json"
    write(path)
    with pytest.raises(HistoryError) as error:
        importing.read(path)
    assert str(error.value) == message.format(path=path)


def csv(tmp_path: Path, text: str, name: str = "some_model_rtx3090_train.csv") -> Entry:
    path = tmp_path / name
    path.write_text(text)
    return importing.read(path)


def test_published_figures(tmp_path):
    made = csv(
        tmp_path,
        "attention,length,step_ms,step_ms_std,tokens_per_s,peak_memory_mb,self_cpu_ms_10_steps\n"
        'flash,256,24.5,0.5,1000,2,oom\n"a, b",512,,,,,3\n',
    )
    key = "published-rtx3090"
    source = "some_model_rtx3090_train"
    flash = f"{source}::attention=flash, length=256"
    assert made.points == (
        Point(flash, key, "step_ms", "s", pytest.approx(0.0245), low=pytest.approx(0.024), high=pytest.approx(0.025)),
        Point(flash, key, "tokens_per_s", "tokens/s", 1000.0, "higher"),
        Point(flash, key, "peak_memory_mb", "B", 2.0 * 2**20),
        Point(f"{source}::attention=a, b, length=512", key, "self_cpu_ms_10_steps", "s", 0.003),
    )
    assert (made.published, made.source, made.started_s) == (True, "some_model_rtx3090_train.csv", 0.0)


def test_repeated_published_runs_are_one_figure_with_a_spread(tmp_path):
    [point] = csv(tmp_path, "method,run,latency_s\nfp16,1,1.0\nfp16,2,3.0\nfp16,3,1.5\n", "x_rocm.csv").points
    assert (point.case, point.key) == ("x_rocm::method=fp16", "published-rocm")
    assert (point.value, point.low, point.high) == (1.5, 1.0, 3.0)


def test_rows_without_a_name_are_numbered(tmp_path):
    points = csv(tmp_path, "time_s,rss_mb\n0,1\n1,2\n", "x_ryzen9700x_memory.csv").points
    assert [point.case for point in points] == [f"x_ryzen9700x_memory::row={n}" for n in (1, 1, 2, 2)]
    assert points[0].key == "published-ryzen9700x"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "figures.csv",
            "a,b_ms\n",
            "{path}: the name says no hardware\n"
            "Published figures are kept by the hardware that they were measured on.\n"
            "hint: name it SOURCE_HARDWARE.csv, e.g. hbv_rtx3080ti_laptop.csv",
        ),
        ("x_a100.csv", "", "{path}: line 1: it does not name each column once"),
        ("x_a100.csv", "a,a\n", "{path}: line 1: it does not name each column once"),
        ("x_a100.csv", "a,b_ms\n1,2\n1\n", "{path}: line 3: 1 cells under 2 columns"),
        ("x_a100.csv", 'a,b_ms\n1,"2\n', "{path}: not a table: unexpected end of data"),
    ],
)
def test_published_figures_that_cannot_be_read(tmp_path, name, text, message):
    with pytest.raises(HistoryError) as error:
        csv(tmp_path, text, name)
    assert str(error.value) == message.format(path=tmp_path / name)


def test_what_a_spreadsheet_writes_is_read(tmp_path):
    [point] = csv(tmp_path, "\ufeffmethod,latency_s\r\nfp16,1.5\r\n", "x_rocm.csv").points
    assert point.case == "x_rocm::method=fp16"


def test_what_is_no_finite_figure_is_none(tmp_path):
    text = "method,peak_gb\na,inf\nb,nan\nc,1e400\nd,1e305\ne,oom\nf,2\n"
    assert [point.value for point in csv(tmp_path, text, "x_rocm.csv").points] == [2.0 * 2**30]


REFERENCES = sorted(ROOT.glob("perf_tests/*/reference/*.csv"))


@pytest.mark.skipif(not REFERENCES, reason="the published figures are not part of an installed package")
def test_the_published_figures_of_this_repository(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERFGATE_HISTORY", raising=False)
    assert len(REFERENCES) >= 15
    assert main(["history", "import", *map(str, REFERENCES)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(REFERENCES)
    # That one says how runs ended, and has no figure.
    assert [line for line in lines if not line.endswith(" figures added")] == [
        f"{ROOT}/perf_tests/slidesparse/reference/slidesparse_a100_status.csv: no figure in it, nothing to add"
    ]
    with History(f"sqlite:///{tmp_path / 'perf-history.sqlite'}", create=False) as history:
        keys = {name.key for name in history.find()}
        assert keys == {f"published-{each}" for each in ("ryzen9700x", "a100", "rtx3080ti-laptop", "rtx3090", "rocm")}
        assert list(history.everything()) == []
        [name] = [
            name
            for name in history.find("hbv_rtx3080ti_laptop::implementation=triton, basins=32, timesteps=100")
            if name.metric == "forward_ms"
        ]
        [point] = history.points(name.id)
    assert (point.value, point.run.published, point.run.source) == (
        pytest.approx(9.42e-3), True, "hbv_rtx3080ti_laptop.csv"
    )  # fmt: skip


def test_files_are_added_once_and_a_broken_one_keeps_no_other_back(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERFGATE_HISTORY", raising=False)
    benchmark_file(Path("b.json"))
    stored_run(Path("run.json"))
    Path("broken.json").write_text("{")
    assert main(["history", "import", "run.json", "broken.json", "b.json"]) == 1
    said = capsys.readouterr()
    assert said.out == "run.json: 1 figure added\nb.json: 1 figure added\n"
    reason = "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    assert said.err == f"perfgate: broken.json: {reason}\n{KINDS}\n"
    assert main(["history", "import", "b.json", "run.json"]) == 0
    assert capsys.readouterr().out == "b.json: already there\nrun.json: already there\n"
    assert main(["history", "import", "broken.json", "none.json"]) == 1
    assert capsys.readouterr().err == (
        f"perfgate: broken.json: {reason}\nnone.json: cannot read it: No such file or directory\n{KINDS}\n"
    )


def test_a_run_with_a_time_that_is_none_is_named(tmp_path):
    path = stored_run(tmp_path / "run.json")
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "started": "soon"}))
    with pytest.raises(HistoryError) as error:
        importing.read(path)
    assert str(error.value) == f"{path}: started: Invalid isoformat string: 'soon'"


def test_a_run_that_cannot_be_read_is_told_as_everywhere(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"cases": [], "schema": 999}')
    with pytest.raises(RunFileError) as error:
        importing.read(path)
    with pytest.raises(RunFileError) as same:
        run_file.read(path)
    assert str(error.value) == str(same.value)
    assert str(error.value).startswith(f"{path}: the run has format version 999\n")


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        (0.9, ""),
        (1.1, "; dated in the future, and left out of every report until then: is its machine's clock right?"),
    ],
)
def test_a_run_from_the_future_is_added_and_told(tmp_path, capsys, hours, told):
    started = datetime.datetime.fromtimestamp(NOW + hours * 3600, datetime.UTC).isoformat()
    path = benchmark_file(tmp_path / "b.json", datetime=started)
    assert main(["history", "import", str(path), "--history", str(tmp_path / "h.sqlite")]) == 0
    assert main(["history", "import", str(path), "--history", str(tmp_path / "h.sqlite")]) == 0
    assert capsys.readouterr().out == f"{path}: 1 figure added{told}\n{path}: already there{told}\n"


def half(path: Path) -> None:
    """Write a benchmark whose name is half of a character."""
    stats = {"median": 1e-6, "q1": 1e-6, "q3": 1e-6}
    benchmark_file(path, benchmarks=[{"fullname": "t.py::test_\ud83d", "stats": stats}])


@pytest.mark.parametrize(
    ("write", "code", "said"),
    [
        (lambda path: path.write_text("{}"), 1, f"neither a run of perfgate nor of pytest-benchmark\n{KINDS}"),
        (half, 1, "'t.py::test_\\ud83d' is not UTF-8\nhint: give it another name"),
        (lambda path: benchmark_file(path, benchmarks=[]), 0, "no figure in it, nothing to add"),
    ],
)
def test_where_nothing_can_be_added_nothing_is_left_behind(tmp_path, capsys, write, code, said):
    path = tmp_path / "b.json"
    write(path)
    assert main(["history", "import", str(path), "--history", str(tmp_path / "deep" / "h.sqlite")]) == code
    told = capsys.readouterr()
    assert told.err + told.out == f"{'perfgate: ' if code else ''}{path}: {said}\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_history_that_cannot_be_opened_is_told_once(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    files = [benchmark_file(tmp_path / f"{n}.json", version=str(n)) for n in range(3)]
    place = tmp_path / "taken" / "h.sqlite"
    assert main(["history", "import", *map(str, files), "--history", str(place)]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"perfgate: {place}: the history cannot be opened: File exists\n")
