"""perfgate diff: how recorded baselines differ from those of a commit or of another folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from perfgate import cli
from perfgate.baseline import diff
from perfgate.baseline.store import BaselineStore
from perfgate.model import Baseline, Outcome, StoredMetric

KEY = "cpu-pretended-2t"
FIVE = (0.99, 1.0, 1.0, 1.0, 1.02)


def baseline(
    time_s: float = 1.0, outcome: Outcome = Outcome.PASSED, torch: str = "2.13.0", **metrics: float
) -> Baseline:
    given = [StoredMetric("wall_time", "s", "lower", tuple(time_s * each for each in FIVE))]
    given += [StoredMetric(name, "B", "lower", (value,) * 5) for name, value in metrics.items()]
    environment = {"torch": torch}
    figures = tuple(given) if outcome is Outcome.PASSED else ()
    return Baseline("", outcome, figures, {"version": "1"}, environment, "0123456789ab", "2026-01-01T00:00:00+00:00")


def store(root: Path, **cases: Baseline) -> Path:
    BaselineStore(root).merge(KEY, "perf/test_x", cases)
    return root


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose commit has baselines of three cases."""
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "baselines", a=baseline(memory=2048.0), b=baseline(2.0), c=baseline(3.0))
    for command in (["init", "--quiet"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm1"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_the_largest_change_comes_first_and_equal_figures_do_not_come() -> None:
    old = {
        (KEY, "t.py::a"): baseline(1.0, memory=1024.0),
        (KEY, "t.py::b"): baseline(1.0),
        (KEY, "t.py::c"): baseline(),
    }
    new = {
        (KEY, "t.py::a"): baseline(1.1, memory=1024.0),
        (KEY, "t.py::b"): baseline(0.5),
        (KEY, "t.py::c"): baseline(),
    }
    found = diff.compare(old, new)
    assert [(each.case, each.metric, round(each.change or 0, 3)) for each in found.differences] == [
        ("t.py::b", "wall_time", -0.5),
        ("t.py::a", "wall_time", 0.1),
    ]
    assert (found.common, found.changed) == (3, 2)
    assert round(found.differences[0].spread or 0, 3) == 0.03


def test_cases_that_are_gone_or_end_otherwise_come_before_figures_and_new_ones_last() -> None:
    old = {(KEY, name): baseline() for name in ("a", "b", "c")}
    new = {(KEY, "a"): baseline(5.0), (KEY, "b"): baseline(outcome=Outcome.OUT_OF_MEMORY), (KEY, "d"): baseline()}
    found = diff.compare(old, new)
    assert [(each.what, each.case, each.note) for each in found.differences] == [
        ("gone", "c", ""),
        ("outcome", "b", "passed -> out of memory"),
        ("changed", "a", ""),
        ("new", "d", ""),
    ]


def test_metrics_of_a_case_stand_together_and_what_was_nothing_is_the_largest_change() -> None:
    old = {(KEY, "a"): baseline(1.0, memory=1024.0), (KEY, "b"): baseline(1.0, spills=0.0), (KEY, "c"): baseline(1.0)}
    new = {(KEY, "a"): baseline(1.1, memory=4096.0), (KEY, "b"): baseline(1.2, spills=8.0), (KEY, "c"): baseline(1.5)}
    found = diff.compare(old, new).differences
    assert [(each.case, each.metric) for each in found] == [
        ("b", "spills"), ("b", "wall_time"), ("a", "memory"), ("a", "wall_time"), ("c", "wall_time"),
    ]  # fmt: skip


def test_a_metric_on_one_side_only_is_a_difference() -> None:
    found = diff.compare({(KEY, "a"): baseline(memory=1.0)}, {(KEY, "a"): baseline()})
    assert [(each.metric, each.before, each.after, each.change) for each in found.differences] == [
        ("memory", 1.0, None, None)
    ]


def test_other_software_is_told_once_a_key() -> None:
    old = {(KEY, name): baseline() for name in ("a", "b")}
    new = {(KEY, name): baseline(torch="2.14.0") for name in ("a", "b")}
    assert diff.compare(old, new).software == {KEY: ("torch 2.13.0 -> 2.14.0",)}


def test_compares_with_a_commit_in_the_terminal_and_in_markdown(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(repository / "baselines", a=baseline(1.5, memory=4096.0), d=baseline())
    assert cli.main(["diff", "HEAD", "--markdown", "out/diff.md"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 of 3 stored cases changed, 1 new.",
        "",
        "case               hardware          metric       before       now   change  spread",
        "perf/test_x.py::a  cpu-pretended-2t  memory     2.00 KiB  4.00 KiB   +100 %     0 %",
        "                                     wall_time    1.00 s    1.50 s  +50.0 %     3 %",
        "perf/test_x.py::d  cpu-pretended-2t  new               -         -        -       -",
    ]
    assert (repository / "out" / "diff.md").read_text() == (
        "**1 of 3 stored cases changed, 1 new.**\n\n"
        "| case | hardware | metric | before | now | change | spread |\n"
        "| :-- | :-- | :-- | --: | --: | --: | --: |\n"
        "| `perf/test_x.py::a` | `cpu-pretended-2t` | `memory` | `2.00 KiB` | `4.00 KiB` | `+100 %` | `0 %` |\n"
        "| `perf/test_x.py::a` | `cpu-pretended-2t` | `wall_time` | `1.00 s` | `1.50 s` | `+50.0 %` | `3 %` |\n"
        "| `perf/test_x.py::d` | `cpu-pretended-2t` | `new` | `-` | `-` | `-` | `-` |\n"
    )


def test_head_and_the_folder_of_baselines_are_the_defaults(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["diff"]) == 0
    assert capsys.readouterr().out == "0 of 3 stored cases changed.\n"


def test_compares_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = store(tmp_path / "old", a=baseline()), store(tmp_path / "new", b=baseline())
    assert cli.main(["diff", str(old), str(new)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "0 of 0 stored cases changed, 1 gone, 1 new."


def test_a_commit_without_baselines_has_none(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(repository / "others", a=baseline())
    assert cli.main(["diff", "HEAD", "others"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "0 of 0 stored cases changed, 1 new."


def test_damage_is_told(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = repository / "baselines" / KEY / "perf" / "test_x.json"
    path.write_text("{")
    assert cli.main(["diff"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0 of 0 stored cases changed, 3 gone."
    assert lines[1].startswith("damaged: baselines/cpu-pretended-2t/perf/test_x.json: ")


def test_a_commit_that_is_not_there_is_told(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diff", "nowhere"]) == cli.USAGE
    assert capsys.readouterr().err == (
        "perfgate: the baselines of 'nowhere' cannot be read: there is no commit 'nowhere'\n"
        "What to compare with is a folder of baselines, or a commit of the repository they are in.\n"
        "hint: perfgate diff origin/main\n"
    )


def test_a_folder_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["diff", "HEAD", "none"]) == cli.USAGE
    assert capsys.readouterr().err == (
        "perfgate: none: there is no such folder\nIt is to hold baselines.\nhint: perfgate diff HEAD baselines\n"
    )
