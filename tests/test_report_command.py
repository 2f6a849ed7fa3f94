"""``perfgate report``: reports of stored runs, later and elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from perfgate.baseline.store import BaselineStore
from perfgate.cli import main
from perfgate.model import (
    Baseline,
    CaseResult,
    Device,
    Hardware,
    MetricVerdict,
    Outcome,
    Run,
    StoredMetric,
    Verdict,
)
from perfgate.report import html, markdown, run_file, terminal
from perfgate.report.merge import latest, merged

GPU = Device("cuda", "NVIDIA H200", "nvidia-h200")
CPU = Device("cpu", "A CPU", "cpu-a")


def run(device: Device, verdict: Verdict, *names: str, **more: str) -> Run:
    metric = MetricVerdict("device_time", "s", 31e-6, verdict, baseline=30e-6, change=0.033, limit=0.02)
    cases = tuple(CaseResult(name, device.key, verdict, Outcome.PASSED, 1, metrics=(metric,)) for name in names)
    return Run(Hardware((device,)), cases, {"torch": "2.13.0"}, "2026-01-31T12:00:00Z", 2.0, **more)  # type: ignore[arg-type]


def stored(folder: Path, *runs: Run) -> list[str]:
    paths = [folder / f"{number}.json" for number in range(len(runs))]
    for path, each in zip(paths, runs, strict=True):
        run_file.write(each, path)
    return [str(path) for path in paths]


RUNS = (
    run(GPU, Verdict.REGRESSED, "a.py::t", "a.py::u", commit="1c2d3e4"),
    run(GPU, Verdict.UNCHANGED, "a.py::t", commit="5f6a7b8"),
    run(CPU, Verdict.IMPROVED, "a.py::t"),
)


def test_it_writes_what_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = stored(tmp_path, *RUNS)
    names = {"html": "a.html", "markdown": "a.md", "github-comment": "comment.md", "json": "a.json"}
    page, text, comment, one = files_out = [tmp_path / "out" / name for name in names.values()]
    flags = [each for flag, path in zip(names, files_out, strict=True) for each in (f"--{flag}", str(path))]
    assert main(["report", *files, *flags]) == 0
    assert capsys.readouterr().out.splitlines() == [f"wrote {path}" for path in files_out]
    assert page.read_text() == html.render(RUNS, root=Path())
    assert "<title>1 regressed of 3 on NVIDIA H200 and A CPU</title>" in page.read_text()
    # What a later run has replaced is in none of them.
    assert text.read_text() == markdown.summary(*latest(RUNS))
    assert (
        text.read_text()
        .splitlines()[0]
        .endswith(": 1 regressed on `nvidia-h200`; 1 unchanged on `nvidia-h200`; 1 improved on `cpu-a`")
    )
    assert comment.read_text() == markdown.comment(*latest(RUNS))
    read = run_file.read(one)
    assert read == merged(RUNS)
    assert [(each.key, each.case, each.verdict.value) for each in read.results] == [
        ("nvidia-h200", "a.py::u", "regressed"),
        ("nvidia-h200", "a.py::t", "unchanged"),
        ("cpu-a", "a.py::t", "improved"),
    ]
    assert (read.commit, read.duration_s) == ("1c2d3e4, 5f6a7b8", 6.0)


def test_a_run_of_which_nothing_is_left_is_left_out() -> None:
    before, after = run(GPU, Verdict.REGRESSED, "a.py::t"), run(GPU, Verdict.UNCHANGED, "a.py::t")
    assert latest([before, after]) == [after]
    # What went wrong with a run is told, and that nothing ran as well.
    damaged = dataclasses.replace(before, problems=("no space",))
    assert latest([damaged, after]) == [dataclasses.replace(damaged, results=()), after]
    assert latest([run(GPU, Verdict.NEW)]) == [run(GPU, Verdict.NEW)]


def test_without_a_file_it_tells_in_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *stored(tmp_path, *RUNS)]) == 0
    assert capsys.readouterr().out.splitlines() == [line.text for line in terminal.lines(merged(RUNS))]


def test_published_figures_are_found_from_the_root(tmp_path: Path) -> None:
    files = stored(tmp_path, RUNS[1])
    row = "a.py::t,device_time,62,us,RTX 3090,A paper\n"
    (tmp_path / "published.csv").write_text(f"case,metric,value,unit,hardware,source\n{row}")
    page = tmp_path / "a.html"
    assert main(["report", *files, "--html", str(page), "--root", str(tmp_path)]) == 0
    assert "0.5 ×" in page.read_text()


def test_published_figures_are_written_beside_ours_and_none_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skipped = dataclasses.replace(RUNS[1].results[0], case="a.py::s", outcome=Outcome.SKIPPED, reason="no driver")
    removed = dataclasses.replace(RUNS[1].results[0], case="a.py::r", verdict=Verdict.REMOVED)
    new = dataclasses.replace(RUNS[1].results[0], reason="no baseline")
    files = stored(tmp_path, dataclasses.replace(RUNS[1], results=(new, skipped, removed)))
    rows = [
        "a.py::t,device_time,62,us,RTX 3090,A paper",
        "a.py::t,device_time,62,B,RTX 3090,A paper",
        "a.py::t,tokens_per_s,7,tokens/s,RTX 3090,A paper",
        "a.py::s,outcome,oom,,RTX 3090,A paper",
        "a.py::t,outcome,oom,,RTX 3090,A paper",
        "a.py::r,outcome,oom,,RTX 3090,A paper",
        "a.py::nowhere,device_time,1,s,RTX 3090,A paper",
    ]
    (tmp_path / "published.csv").write_text("\n".join(["case,metric,value,unit,hardware,source", *rows]))
    table = tmp_path / "made" / "ours.csv"
    assert main(["report", *files, "--published", str(table), "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"wrote {table}: 7 published figures of the root folder\n"
    assert table.read_text().splitlines() == [
        "case,metric,unit,published,published on,ours,on,times,outcome,why not",
        "a.py::t,device_time,s,6.2e-05,RTX 3090,3.1e-05,nvidia-h200,0.5,passed,",
        "a.py::t,device_time,B,62,RTX 3090,,nvidia-h200,,passed,ours is in s",
        "a.py::t,tokens_per_s,tokens/s,7,RTX 3090,,nvidia-h200,,passed,it has no tokens_per_s",
        "a.py::s,outcome,,oom,RTX 3090,,nvidia-h200,,skipped,no driver",
        "a.py::t,outcome,,oom,RTX 3090,passed,nvidia-h200,,passed,",
        "a.py::r,outcome,,oom,RTX 3090,,nvidia-h200,,,no run has this case",
        "a.py::nowhere,device_time,s,1,RTX 3090,,,,,no run has this case",
    ]


@pytest.mark.parametrize("quote", ["", '"'])
def test_published_figures_are_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str], quote: str) -> None:
    figures = tmp_path / "published.csv"
    header = ",".join(f"{quote}{name}{quote}" for name in ("case", "metric", "value", "unit", "hardware", "source"))
    figures.write_text(before := f"{header}\nt.py::a,wall_time,1,s,theirs,paper\n")
    assert main(["report", *stored(tmp_path, RUNS[0]), "--published", str(figures), "--root", str(tmp_path)]) == 4
    assert figures.read_text() == before
    told = capsys.readouterr().err
    assert f"--published={figures}: this file holds the published figures themselves" in told
    assert "--published=table.csv" in told


def test_a_reason_that_is_known_stands_where_ours_is_missing(tmp_path: Path) -> None:
    rows = [
        "a.py::t,latency_2,7,s,RTX 3090,A paper,timed once",
        "a.py::t,device_time,62,us,RTX 3090,A paper,never",
        "a.py::t,,3,s,RTX 3090,A paper,nobody measures that",
        "a.py::t,,3,s,RTX 3090,A paper,",
    ]
    (tmp_path / "published.csv").write_text("\n".join(["case,metric,value,unit,hardware,source,absent", *rows]))
    table = tmp_path / "ours.csv"
    files = stored(tmp_path, RUNS[1])
    assert main(["report", *files, "--published", str(table), "--root", str(tmp_path)]) == 0
    assert table.read_text().splitlines()[1:] == [
        "a.py::t,latency_2,s,7,RTX 3090,,nvidia-h200,,passed,timed once",
        "a.py::t,device_time,s,6.2e-05,RTX 3090,3.1e-05,nvidia-h200,0.5,passed,",
        "a.py::t,,s,3,RTX 3090,,,,,nobody measures that",
    ]


def test_a_folder_without_baselines_writes_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder above the one that is meant, say."""
    metric = StoredMetric("device_time", "s", "lower", (5e-6,))
    stored = Baseline("t", Outcome.PASSED, (metric,), {"version": "1"}, {"torch": "2"}, "1c2d3e4", "2026-01-31")
    BaselineStore(tmp_path / "baselines").merge("nvidia-h200", "a", {"t": stored})
    (tmp_path / "published.csv").write_text("case,metric,value,unit,hardware,source\na.py::t,device_time,8,us,,paper\n")
    table = tmp_path / "ours.csv"
    table.write_text("before")
    arguments = ["--published", str(table), "--root", str(tmp_path), "--baselines", str(tmp_path / "baselines")]
    assert main(["report", *arguments]) == 4
    assert table.read_text() == "before"
    assert f"{tmp_path}/baselines: there is no baseline that can be used" in capsys.readouterr().err


def test_baselines_stand_in_for_cases_that_no_run_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = BaselineStore(tmp_path / "baselines")
    metric = StoredMetric("device_time", "s", "lower", (5e-6, 4e-6, 6e-6))
    passed = Baseline("t", Outcome.PASSED, (metric,), {"version": "1"}, {"torch": "2"}, "1c2d3e4", "2026-01-31")
    ended = dataclasses.replace(passed, case="m", outcome=Outcome.OUT_OF_MEMORY, metrics=())
    store.merge("nvidia-h200", "a", {"t": passed, "u": dataclasses.replace(passed, case="u"), "m": ended})
    (tmp_path / "baselines" / "nvidia-h200" / "b.json").write_text("{")
    names = ("t", "u", "m", "gone")
    rows = [f"a.py::{name},{metric},8,us,,A paper" for name in names for metric in ("device_time", "tokens_per_s")]
    (tmp_path / "published.csv").write_text("\n".join(["case,metric,value,unit,hardware,source", *rows]))
    table = tmp_path / "ours.csv"
    arguments = ["--published", str(table), "--root", str(tmp_path)]
    arguments += ["--baselines", str(tmp_path / "baselines" / "nvidia-h200")]
    assert main(["report", *stored(tmp_path, RUNS[1]), *arguments]) == 0
    damaged, wrote = capsys.readouterr().out.splitlines()
    assert damaged.startswith(f"damaged: {tmp_path}/baselines/nvidia-h200/b.json: ")
    assert wrote == f"wrote {table}: 8 published figures of the root folder"
    assert table.read_text().splitlines()[1:] == [
        "a.py::t,device_time,s,8e-06,,3.1e-05,nvidia-h200,3.875,passed,",
        "a.py::t,tokens_per_s,s,8e-06,,,nvidia-h200,,passed,it has no tokens_per_s",
        "a.py::u,device_time,s,8e-06,,5e-06,nvidia-h200,0.625,passed,",
        "a.py::u,tokens_per_s,s,8e-06,,,nvidia-h200,,passed,its baseline has no tokens_per_s",
        "a.py::m,device_time,s,8e-06,,,nvidia-h200,,out_of_memory,so its baseline says",
        "a.py::m,tokens_per_s,s,8e-06,,,nvidia-h200,,out_of_memory,so its baseline says",
        "a.py::gone,device_time,s,8e-06,,,,,,no run and no baseline has this case",
        "a.py::gone,tokens_per_s,s,8e-06,,,,,,no run and no baseline has this case",
    ]
    # Without a run they are all there is.
    assert main(["report", *arguments]) == 0
    assert table.read_text().splitlines()[1] == "a.py::t,device_time,s,8e-06,,5e-06,nvidia-h200,0.625,passed,"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "perfgate: there is no run to report\nhint: perfgate report RUN.json, of pytest --perf-json=RUN.json\n"),
        (
            ["--baselines", "."],
            "perfgate: --baselines: there is no table to put them into\n"
            "Baselines stand beside published figures alone.\nhint: add --published=FILE\n",
        ),
        (
            ["--baselines", "gone", "--published", "a.csv"],
            "perfgate: gone: there is no such folder\nIt is to hold the baselines of one kind of hardware.\n"
            "hint: --baselines=baselines/KEY, with a key that perfgate hardware shows\n",
        ),
        (
            ["--baselines", ".", "--published", "a.csv", "--html", "a.html"],
            "perfgate: there is no run to report\nhint: perfgate report RUN.json, of pytest --perf-json=RUN.json\n",
        ),
    ],
)
def test_what_would_report_nothing_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["report", *arguments]) != 0
    assert capsys.readouterr().err == told


def test_a_table_of_no_published_figures_says_where_they_were_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "ours.csv"
    assert main(["report", *stored(tmp_path, RUNS[0]), "--published", str(table), "--root", str(tmp_path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"no published.csv beside the cases of these runs: looked in the root folder, from {tmp_path}",
        f"wrote {table}: 0 published figures of the root folder",
    ]
    (tmp_path / "published.csv").write_text("case\n")
    assert main(["report", *stored(tmp_path, RUNS[0]), "--published", str(table), "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("published.csv: the columns metric, value, unit")


def test_a_history_is_drawn_on_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sqlalchemy")
    from perfgate.history.entry import of_run
    from perfgate.history.place import locate
    from perfgate.history.store import History

    with History(locate("past.db", tmp_path, "the test")) as past:
        for day in (1, 2, 3):
            past.append(of_run(dataclasses.replace(RUNS[0], started=f"2026-01-0{day}T12:00:00+00:00")))
    page = tmp_path / "a.html"
    files = stored(tmp_path, RUNS[0])
    assert main(["report", *files, "--html", str(page), "--history", str(tmp_path / "past.db")]) == 0
    assert page.read_text().count("<figcaption>history of device_time</figcaption>") == 2
    assert "2026-01-01 to 2026-01-03" in page.read_text()
    capsys.readouterr()
    assert main(["report", *files, "--html", str(page), "--history", str(tmp_path / "none.db")]) == 1
    assert capsys.readouterr().err.startswith(f"perfgate: {tmp_path}/none.db: there is no history\n")


def test_problems_of_all_runs_are_told(tmp_path: Path) -> None:
    first = dataclasses.replace(RUNS[0], problems=("no space", "once"))
    page = html.render([first, dataclasses.replace(RUNS[1], problems=("no space",), unused=("b/x.json",))])
    assert page.count("<li>no space</li>") == page.count("<li>once</li>") == 1
    assert "<li>unused baseline: b/x.json</li>" in page


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none.json"), "--html", str(tmp_path / "a.html")]) == 1
    assert capsys.readouterr().err == (
        f"perfgate: {tmp_path}/none.json: cannot read the run: No such file or directory\n"
        "hint: a run is stored with: pytest --benchmark-compare --perf-json=FILE\n"
    )
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize(
    ("flag", "what"),
    [
        ("--html", "the page"),
        ("--markdown", "the Markdown"),
        ("--github-comment", "the comment"),
        ("--json", "the run"),
    ],
)
def test_a_report_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, what: str
) -> None:
    (tmp_path / "taken").write_text("")
    assert main(["report", *stored(tmp_path, RUNS[0]), flag, str(tmp_path / "taken" / "a")]) == 1
    assert capsys.readouterr().err == (
        f"perfgate: {tmp_path}/taken/a: cannot write {what}: File exists\n"
        f"hint: give {flag} a file in a folder that can be written to\n"
    )


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_a_folder_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["report", *stored(tmp_path, RUNS[0]), "--markdown", name]) == 1
    assert capsys.readouterr().err == (
        f"perfgate: {name}: cannot write the Markdown: Is a directory\n"
        "hint: give --markdown a file in a folder that can be written to\n"
    )
