"""--perf-github: what GitHub Actions shows of a run, and when it is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate import options
from perfgate.errors import RunFileError, SettingError
from perfgate.model import CaseResult, Device, Hardware, MetricVerdict, Outcome, Run, Verdict
from perfgate.report import annotations, github, markdown

CPU = Device("cpu", "Pretended CPU", "cpu-pretended-2t", 8 << 30, count=2)


def case(name: str, verdict: Verdict = Verdict.REGRESSED, change: float = 0.3, **more: object) -> CaseResult:
    metric = MetricVerdict("wall_time", "s", 30e-6 * (1 + change), verdict, baseline=30e-6, change=change, limit=0.1)
    given = {"failed": verdict is Verdict.REGRESSED, "metrics": (metric,), "processes": 4, **more}
    return CaseResult(name, CPU.key, verdict, Outcome.PASSED, **given)  # type: ignore[arg-type]


def run_of(*results: CaseResult, **more: object) -> Run:
    return Run(Hardware((CPU,)), results, {"python": "3.11"}, "2026-11-21T00:00:00+00:00", 1.5, **more)  # type: ignore[arg-type]


def annotated(run: Run, root: Path, places: dict[str, annotations.Place] | None = None) -> list[str]:
    return annotations.lines(run, places or {}, root=root, workspace=root)


class TestAnnotations:
    def test_names_file_line_and_figures(self, tmp_path: Path) -> None:
        run = run_of(case("sub/test_x.py::test_a"))
        lines = annotations.lines(
            run, {"sub/test_x.py::test_a": ("sub/test_x.py", 6)}, root=tmp_path / "project", workspace=tmp_path
        )
        assert lines == [
            "::error title=performance regressed%3A test_a,file=project/sub/test_x.py,line=7::performance regressed: "
            "wall_time 30.0 us -> 39.0 us (+30.0 %25, limit 10 %25, 4 processes)%0A  hardware: cpu-pretended-2t%0A"
            "hint: if the change is intended, record it: pytest --perf-update=all sub/test_x.py::test_a"
        ]

    @pytest.mark.parametrize(
        ("name", "title"),
        [
            ("test_x[::error file=x::pwn]", "test_x[%3A%3Aerror file=x%3A%3Apwn]"),
            ("TestIt::test_x[a::b]", "test_x[a%3A%3Ab]"),
            ("TestIt::TestMore::test_x", "test_x"),
        ],
    )
    def test_the_title_has_the_parameters_whole(self, tmp_path: Path, name: str, title: str) -> None:
        (line,) = annotated(run_of(case(f"a[b]/test_x.py::{name}")), tmp_path)
        assert line.startswith(f"::error title=performance regressed%3A {title},file=a[b]/test_x.py::performance")

    def test_a_change_that_is_not_that_of_the_values_says_what_it_is_in(self, tmp_path: Path) -> None:
        metric = MetricVerdict("wall_time", "s", 2.13e-3, Verdict.REGRESSED, baseline=2.21e-3, change=0.106, limit=0.1)
        (line,) = annotated(run_of(case("t.py::t", metrics=(metric,))), tmp_path)
        assert (
            "::performance regressed: wall_time 2.21 ms -> 2.13 ms, +10.6 %25 in cycles of the machine, which ran at "
            "about 115 %25 (limit 10 %25, 4 processes)%0A"
        ) in line

    def test_a_case_without_a_line_is_shown_at_its_file(self, tmp_path: Path) -> None:
        (line,) = annotated(run_of(case("test_x.py::test_a")), tmp_path)
        assert line.startswith("::error title=performance regressed%3A test_a,file=test_x.py::performance")

    def test_a_file_outside_of_the_checkout_is_left_out(self, tmp_path: Path) -> None:
        (line,) = annotated(run_of(case("x::y")), tmp_path, {"x::y": ("../else/test_x.py", 3)})
        assert line.startswith("::error title=performance regressed%3A y::performance regressed")

    def test_what_is_undecided_warns_and_what_is_well_is_silent(self, tmp_path: Path) -> None:
        verdicts = (Verdict.UNCHANGED, Verdict.INCONCLUSIVE, Verdict.NEW, Verdict.STALE, Verdict.IMPROVED)
        lines = annotated(run_of(*(case(f"t.py::{verdict}", verdict) for verdict in verdicts)), tmp_path)
        assert [line.partition(",")[0] for line in lines] == [
            "::warning title=performance stale%3A stale",
            "::warning title=performance inconclusive%3A inconclusive",
        ]

    def test_a_test_that_failed_by_itself_is_an_error(self, tmp_path: Path) -> None:
        result = CaseResult("t.py::a", CPU.key, Verdict.SKIPPED, Outcome.FAILED, reason="ValueError: no")
        (line,) = annotated(run_of(result), tmp_path)
        assert line.startswith("::error title=performance not judged%3A a,file=t.py::skipped: ValueError: no%0A")

    def test_the_worst_ten_are_shown_and_the_others_counted(self, tmp_path: Path) -> None:
        run = run_of(*(case(f"t.py::test_{number}", change=number / 10) for number in range(2, 27)))
        lines = annotated(run, tmp_path)
        assert len(lines) == annotations.MOST == 10
        assert [re.search(r"test_\d+", line)[0] for line in lines[:-1]] == [f"test_{n}" for n in range(26, 17, -1)]
        assert lines[-1] == "::error title=performance gate::and 16 more cases: see the summary of this run"

    def test_exactly_ten_are_all_shown(self, tmp_path: Path) -> None:
        lines = annotated(run_of(*(case(f"t.py::test_{number}") for number in range(10))), tmp_path)
        assert len(lines) == 10
        assert all("t.py" in line for line in lines)

    def test_problems_of_the_run_are_errors(self, tmp_path: Path) -> None:
        assert annotated(run_of(problems=("100 % of it\nis lost",)), tmp_path) == [
            "::error title=performance gate::100 %25 of it%0Ais lost"
        ]

    @given(st.text(), st.text(), st.text())
    def test_stays_one_command_whatever_its_parts_hold(self, message: str, title: str, file: str) -> None:
        line = annotations.command("error", message, title=title, file=file)
        assert len(line.splitlines()) == 1
        properties, _, data = line.removeprefix("::error").partition("::")
        assert properties.count(",") == (bool(title) and bool(file))
        assert "\n" not in data
        assert "%" not in re.sub(r"%(25|0A|0D|3A|2C)", "", line)

    def test_a_long_message_is_cut(self) -> None:
        assert len(annotations.command("error", "x" * 10_000)) < 4100


class TestSummary:
    def test_is_appended(self, tmp_path: Path) -> None:
        path = tmp_path / "summary.md"
        path.write_text("Before.")
        environment = {github.SUMMARY: str(path)}
        github.write_summary(run_of(case("t.py::a")), strict=False, folder=".", environment=environment)
        assert path.read_text().startswith("Before.\n## Performance gate failed: 1 regressed on `cpu-pretended-2t`\n")

    def test_stays_within_what_github_takes_of_a_step(self, tmp_path: Path) -> None:
        path = tmp_path / "summary.md"
        run = run_of(*(case(f"t.py::test_{number}" + "x" * 2000) for number in range(120)))
        environment = {github.SUMMARY: str(path)}
        for _ in range(40):
            github.write_summary(run, strict=False, folder=".", environment=environment)
        assert 2**19 < path.stat().st_size < 2**20

    def test_says_where_the_rest_is(self, tmp_path: Path) -> None:
        environment = {
            github.SUMMARY: str(tmp_path / "summary.md"),
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_REPOSITORY": "a/b",
            "GITHUB_RUN_ID": "7",
        }
        run = run_of(*(case(f"t.py::test_{number}") for number in range(markdown.MOST_ROWS + 5)))
        github.write_summary(run, strict=False, folder=".", environment=environment)
        text = (tmp_path / "summary.md").read_text()
        assert "\n... and 5 more cases\n" in text
        assert text.endswith(
            "\n> Not all of it is here. The whole is in "
            "[the artifacts of this run](https://github.com/a/b/actions/runs/7).\n"
        )

    def test_nothing_is_written_where_there_is_no_summary(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        github.write_summary(run_of(case("t.py::a")), strict=False, folder=".", environment={})
        assert list(tmp_path.iterdir()) == []

    def test_one_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "none" / "summary.md"
        with pytest.raises(RunFileError) as error:
            github.write_summary(run_of(), strict=False, folder=".", environment={github.SUMMARY: str(path)})
        assert str(error.value) == (
            f"{path}: cannot write the summary of this step: No such file or directory\n"
            "The tests have run; only the summary is missing.\n"
            "hint: leave it out with --no-perf-github, or look where $GITHUB_STEP_SUMMARY points to"
        )


@pytest.fixture
def slower(project: Any) -> Any:
    """A project of which one case regressed."""
    project.cases("quick", "slow")
    for name in ("quick", "slow"):
        project.figures(name, [1.0])
    project.store("quick", "slow")
    project.figures("slow", [1.5])
    return project


@pytest.fixture
def on_github(slower: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same under GitHub Actions; gives the file of the summary."""
    summary = Path(slower.path) / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv(github.SUMMARY, str(summary))
    monkeypatch.setenv(github.WORKSPACE, str(slower.path))
    return summary


def commands(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.startswith("::")]


class TestPlugin:
    def test_is_on_by_itself_under_github_actions(self, slower: Any, on_github: Path) -> None:
        result = slower.run("--benchmark-compare", "--perf-processes=4", "--perf-github-comment=out/comment.md")
        (line,) = commands(result)
        # The second test of the module: below "import pytest" and the first one.
        assert line.startswith("::error title=performance regressed%3A test_slow,file=test_speed.py,line=7::")
        assert (slower.path / "test_speed.py").read_text().splitlines()[6] == "def test_slow(benchmark):"
        assert "wall_time 1.00 s -> 1.50 s (+50.0 %25" in line
        told = on_github.read_text()
        assert told.startswith("## Performance gate failed: 1 regressed, 1 unchanged on `cpu-pretended-2t`\n")
        # Only this process writes: the fresh ones that confirmed the suspicion left nothing.
        assert told.count("\n## ") == 0
        assert (slower.path / "out" / "comment.md").read_text() == f"{markdown.MARKER}\n{told}"

    def test_tells_nothing_while_the_gate_is_off(self, slower: Any, on_github: Path) -> None:
        result = slower.run()
        result.assert_outcomes(passed=2)
        assert commands(result) == []
        assert not on_github.exists()

    def test_can_be_switched_off(self, slower: Any, on_github: Path) -> None:
        result = slower.run("--benchmark-compare", "--perf-processes=1", "--no-perf-github")
        assert commands(result) == []
        assert not on_github.exists()

    def test_works_from_the_ini_file_elsewhere(self, slower: Any) -> None:
        flags = ("-o", "perf_github=on", "-o", "perf_github_comment=comment.md")
        result = slower.run("--benchmark-compare", "--perf-processes=1", *flags)
        (line,) = commands(result)
        assert ",file=test_speed.py,line=7::" in line
        assert (slower.path / "comment.md").read_text().startswith(markdown.MARKER)

    def test_the_controller_of_xdist_knows_the_lines(
        self, project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        project.gpus(2)
        project.script["environments"]["cuda"] = {"python": "3.12.3"}
        project.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p xdist -p no:cacheprovider\n")
        project.cases("a", "b", head="@pytest.mark.cuda")
        for name in "ab":
            project.figures(name, [1e-3])
        project.store("a", "b", key="nvidia-h200")
        project.figures("b", [2e-3])
        monkeypatch.setenv(github.SUMMARY, str(tmp_path / "summary.md"))
        result = project.run("-n", "2", "--benchmark-compare", "--perf-processes=4", "--perf-github")
        (line,) = commands(result)
        place = re.search(r",file=test_speed\.py,line=(\d+)::", line)
        assert place is not None
        lines = (project.path / "test_speed.py").read_text().splitlines()
        first = int(place[1]) - 1
        # Python counts decorators in.
        assert lines[first : first + 2] == ["@pytest.mark.cuda", "def test_b(benchmark):"]
        text = (tmp_path / "summary.md").read_text()
        assert text.splitlines()[0] == "## Performance gate failed: 1 regressed, 1 unchanged on `nvidia-h200`"


class TestSettings:
    def read(self, pytester: pytest.Pytester, *arguments: str) -> options.Settings:
        return options.read(pytester.parseconfig("--benchmark-compare", *arguments))

    @pytest.mark.parametrize(
        ("arguments", "actions", "expected"),
        [
            ([], "", False),
            ([], "true", True),
            (["--perf-github"], "", True),
            (["--no-perf-github"], "true", False),
            (["-o", "perf_github=on"], "", True),
            (["-o", "perf_github=off"], "true", False),
            (["-o", "perf_github=off", "--perf-github"], "", True),
            (["-o", "perf_github=on", "--no-perf-github"], "true", False),
        ],
    )
    def test_flag_before_ini_before_environment(
        self,
        pytester: pytest.Pytester,
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
        actions: str,
        expected: bool,
    ) -> None:
        monkeypatch.setenv("GITHUB_ACTIONS", actions)
        assert self.read(pytester, *arguments).github is expected

    def test_a_fresh_process_tells_nothing(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        monkeypatch.setenv(options.REPLICA_VARIABLE, "task.json")
        assert self.read(pytester).github is False

    def test_another_word_is_refused(self, pytester: pytest.Pytester) -> None:
        with pytest.raises(SettingError) as error:
            self.read(pytester, "-o", "perf_github=yes")
        assert str(error.value) == (
            "ini option perf_github: 'yes' is not one of auto, on, off\nhint: perf_github = auto"
        )

    def test_a_comment_of_no_comparison_is_refused(self, pytester: pytest.Pytester) -> None:
        with pytest.raises(SettingError) as error:
            options.read(pytester.parseconfig("--perf-github-comment=c.md"))
        assert str(error.value) == (
            "--perf-github-comment has nothing to write: no case is judged or recorded in this run\n"
            "hint: add --benchmark-compare or --perf-update=new"
        )
