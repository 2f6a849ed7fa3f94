"""perfgate github: the comment of a pull request, the issue of a nightly run, a pull request of baselines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perfgate import cli
from perfgate.errors import PerfgateError
from perfgate.github import comment, gh, issue, pull_request, waiting
from perfgate.model import CaseResult, Device, Hardware, MetricVerdict, Outcome, Run, Verdict
from perfgate.report import markdown, run_file

HEAD = "0123456789abcdef0123456789abcdef01234567"
CPU = Device("cpu", "Pretended CPU", "cpu-pretended-2t", 8 << 30, count=2)
METRIC = MetricVerdict("wall_time", "s", 1.5, Verdict.REGRESSED, baseline=1.0, change=0.5, limit=0.1)
SLOW = CaseResult("t.py::slow", CPU.key, Verdict.REGRESSED, Outcome.PASSED, 4, metrics=(METRIC,), failed=True)
SAME = CaseResult("t.py::same", CPU.key, Verdict.UNCHANGED, Outcome.PASSED, 1)


def run_of(*results: CaseResult, **more: Any) -> Run:
    return Run(Hardware((CPU,)), results, {"python": "3.11"}, "2026-11-21T00:00:00+00:00", 1.5, **more)


class Fake:
    """GitHub's command as the tests see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        script = folder / "gh"
        script.write_text(f"#!{sys.executable} -S\n" + (Path(__file__).parent / "fake_gh.py").read_text())
        script.chmod(0o755)

    def answers(self, answers: dict[str, Any]) -> None:
        told = {start: each if isinstance(each, str) else json.dumps(each) for start, each in answers.items()}
        (self.folder / "answers.json").write_text(json.dumps(told))

    @property
    def calls(self) -> list[dict[str, Any]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def called(self) -> list[str]:
        return [" ".join(call["arguments"]) for call in self.calls]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/name")
    return made


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What the machines of a workflow left: runs, and the number of the pull request."""
    folder = tmp_path / "results"
    run_file.write(run_of(SAME), folder / "perf-cpu" / "run.json")
    run_file.write(run_of(SLOW), folder / "perf-h200" / "run.json")
    (folder / "perf-pull-request").mkdir()
    (folder / "perf-pull-request" / "pull-request").write_text("7\n")
    return folder


PULL = {"api repos/owner/name/pulls/7": {"head": {"sha": HEAD}}}
COMMENTS = "api --paginate repos/owner/name/issues/7/comments?per_page=100"
ANSWER = "Performance gate failed: 1 unchanged on `cpu-pretended-2t`; 1 regressed on `cpu-pretended-2t`"


class TestComment:
    def post(self, results: Path, *more: str) -> int:
        return cli.main(["github", "comment", str(results), "--head", HEAD, *more])

    def test_the_first_run_writes_it(self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fake.answers({**PULL, COMMENTS: "", "api --method POST": {"id": 1}})
        assert self.post(results, "--link", "https://github.com/owner/name/actions/runs/9") == 0
        assert capsys.readouterr().out == "commented on pull request 7\n"
        assert fake.called()[-1] == "api --method POST repos/owner/name/issues/7/comments --input -"
        body = json.loads(fake.calls[-1]["text"])["body"]
        assert body.startswith(f"{markdown.MARKER}\n## {ANSWER}\n")

    def test_later_runs_replace_it_and_touch_no_other(
        self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        comments = [
            {"id": 1, "login": "somebody", "body": f"{markdown.MARKER}\nmine"},
            {"id": 2, "login": comment.AUTHOR, "body": f"see {markdown.MARKER}"},
            {"id": 3, "login": comment.AUTHOR, "body": None},
            {"id": 4, "login": comment.AUTHOR, "body": f"{markdown.MARKER}\nold"},
        ]
        fake.answers({**PULL, COMMENTS: "\n".join(map(json.dumps, comments)), "api --method PATCH": {"id": 4}})
        assert self.post(results) == 0
        assert capsys.readouterr().out == "replaced the comment on pull request 7\n"
        assert fake.called()[-1] == "api --method PATCH repos/owner/name/issues/comments/4 --input -"

    def test_a_pull_request_with_another_head_gets_none(
        self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fake.answers({"api repos/owner/name/pulls/7": {"head": {"sha": "f" * 40}}})
        assert self.post(results) == 0
        assert capsys.readouterr().out == "pull request 7 is not at 0123456789ab: no comment\n"
        assert len(fake.calls) == 1

    def test_without_a_measurement_none_is_written(
        self, fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "none").mkdir()
        (tmp_path / "number").write_text("7")
        fake.answers({**PULL, COMMENTS: ""})
        assert self.post(tmp_path / "none", "--number", str(tmp_path / "number")) == 0
        assert capsys.readouterr().out == "nothing was measured: no comment\n"
        assert [call for call in fake.called() if "--method" in call] == []

    def test_what_an_earlier_commit_got_does_not_stay(self, fake: Fake, tmp_path: Path) -> None:
        (tmp_path / "none").mkdir()
        (tmp_path / "number").write_text("7")
        old = {"id": 4, "login": comment.AUTHOR, "body": f"{markdown.MARKER}\nold"}
        fake.answers({**PULL, COMMENTS: json.dumps(old), "api --method PATCH": {"id": 4}})
        assert self.post(tmp_path / "none", "--number", str(tmp_path / "number")) == 0
        assert fake.called()[-1] == "api --method PATCH repos/owner/name/issues/comments/4 --input -"
        assert json.loads(fake.calls[-1]["text"])["body"] == f"{markdown.MARKER}\n## Performance gate: no run\n"

    @pytest.mark.parametrize("text", ["", "0", "07", "-7", "7 8", "7/../../x", "７", "7\n8", "9" * 20, "$(id)"])
    def test_a_number_that_is_none_is_refused(self, fake: Fake, results: Path, text: str) -> None:
        (results / "perf-pull-request" / "pull-request").write_text(text)
        assert self.post(results) == 1
        assert fake.calls == []

    def test_says_why_it_is_refused(self) -> None:
        with pytest.raises(PerfgateError) as error:
            comment.number_in("7; id", "results/pull-request")
        assert str(error.value) == (
            "results/pull-request: '7; id' is not the number of a pull request\n"
            "It comes from a run of the pull request's own code and is not believed."
        )

    def test_no_number_is_told(self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.rmtree(results / "perf-pull-request")
        assert self.post(results) == 1
        assert capsys.readouterr().err == (
            f"perfgate: {results}: no machine left the number of the pull request\n"
            "Without it nobody knows where to comment.\n"
            "hint: give a file that holds it with --number=FILE\n"
        )

    def test_a_commit_that_is_none_is_refused(self, fake: Fake, results: Path) -> None:
        with pytest.raises(PerfgateError) as error:
            list(comment.post("owner/name", 7, "main", [run_of(SAME)]))
        assert str(error.value) == "--head: 'main' is not a full commit id\nhint: --head=$(git rev-parse HEAD)"

    def test_a_run_that_is_none_is_refused(self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (results / "perf-cpu" / "run.json").write_text('{"schema": 4, "cases": "<script>"}')
        assert self.post(results) == 1
        assert "not a stored run" in capsys.readouterr().err
        assert fake.calls == []

    def test_what_github_refuses_is_told(self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fake.answers({})
        assert self.post(results) == 1
        assert capsys.readouterr().err == (
            "perfgate: gh api repos/owner/name/pulls/7 failed: gh: no answer for api repos/owner/name/pulls/7\n"
        )


class TestIssueBody:
    def test_nothing_wrong_is_nothing_to_tell(self) -> None:
        assert issue.body({"cpu": run_of(SAME)}, ["cpu"]) == ""

    def test_a_regression_is_told_with_the_range_of_commits(self) -> None:
        slow = replace(SLOW, baseline_commit="aaaaaaaaaaaa")
        text = issue.body({"cpu": run_of(slow, commit="bbbbbbbbbbbb")}, ["cpu"], repository="owner/name")
        assert text.startswith(
            f"{issue.MARKER}\n"
            "Commits to look at, since the baselines of the failing cases were recorded:\n"
            "- [`aaaaaaaaaaaa..bbbbbbbbbbbb`](https://github.com/owner/name/compare/aaaaaaaaaaaa...bbbbbbbbbbbb): "
            "`t.py::slow`\n\n"
            "## Performance gate failed: 1 regressed on `cpu-pretended-2t`\n"
        )

    def test_what_is_no_commit_becomes_no_link(self) -> None:
        slow = replace(SLOW, baseline_commit="x](y)")
        text = issue.body({"cpu": run_of(slow, commit="bbbbbbbbbbbb")}, repository="owner/name")
        assert "- `x](y)..bbbbbbbbbbbb`: `t.py::slow`\n" in text

    @pytest.mark.parametrize(
        ("runs", "expected", "told"),
        [
            ({"cpu": run_of(SAME)}, ["cpu", "h200"], "**No result from `h200`**: see the log of the run."),
            ({}, [], "**No result from any machine**: see the log of the run."),
            ({"cpu": run_of()}, ["cpu"], "## Performance gate: no performance case ran"),
            ({"cpu": run_of(SAME, problems=("lost",))}, ["cpu"], "; 1 problem"),
        ],
    )
    def test_silence_is_no_success(self, runs: dict[str, Run], expected: list[str], told: str) -> None:
        assert told in issue.body(runs, expected)

    def test_history_alone_is_enough(self) -> None:
        text = issue.body({"cpu": run_of(SAME)}, ["cpu"], "**1 new change point**\n")
        assert text.startswith(
            f"{issue.MARKER}\n{issue.HISTORY_MARKER}\n**1 new change point**\n\n## Performance gate passed"
        )

    def test_a_job_that_failed_without_a_case_is_told(self) -> None:
        text = issue.body({"cpu": run_of(SAME)}, ["cpu"], ended="failure")
        assert text.startswith(f"{issue.MARKER}\n**A run ended as `failure`, and no case did**: a test that is no")
        assert "**A run ended" not in issue.body({"cpu": run_of(SLOW)}, ["cpu"], ended="failure")

    def test_stays_within_what_github_takes(self) -> None:
        many = [replace(SLOW, case=f"t.py::{'x' * 500}{number}") for number in range(500)]
        text = issue.body({"cpu": run_of(*many)}, ["cpu"], "line of history\n" * 10_000, link="https://example.org/9")
        assert 30_000 < len(text.encode()) < 65_536


class TestIssue:
    LIST = "issue list --repo owner/name --state open --label perf-nightly"

    def write(self, results: Path, *more: str) -> int:
        return cli.main(["github", "issue", str(results), *more])

    def test_is_opened(self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        others = [{"number": 3, "body": "somebody's own"}, {"number": 4, "body": None}]
        fake.answers({self.LIST: others, "label create": "", "issue create": "https://github.com/owner/name/issues/9"})
        assert self.write(results, "--expected", '["perf-cpu", {"name": "perf-h200"}]') == 0
        assert capsys.readouterr().out == "opened https://github.com/owner/name/issues/9\n"
        assert fake.called()[-1] == (
            "issue create --repo owner/name --title Performance changed in a nightly run "
            "--label perf-nightly --body-file -"
        )
        failing = '<!-- perfgate: failing [["perf-h200","t.py::slow"]] -->'
        assert fake.calls[-1]["text"].startswith(f"{issue.MARKER}\n{failing}\n## {ANSWER}")

    def test_is_updated_while_it_is_open(self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fake.answers({self.LIST: [{"number": 5, "body": f"{issue.MARKER}\nold"}], "issue edit": ""})
        assert self.write(results) == 0
        assert capsys.readouterr().out == "updated issue 5\n"
        assert fake.called()[1:] == ["issue edit 5 --repo owner/name --body-file -"]

    def test_an_update_does_not_forget_a_step(self, fake: Fake, results: Path) -> None:
        fake.answers(
            {self.LIST: [{"number": 5, "body": f"{issue.MARKER}\n{issue.HISTORY_MARKER}\n"}], "issue edit": ""}
        )
        assert self.write(results) == 0
        assert fake.calls[-1]["text"].count(issue.HISTORY_MARKER) == 1

    def test_a_quiet_night_opens_none(self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.rmtree(results / "perf-h200")
        found = {"findings": [{"worse": False}]}
        (results / "perf-cpu" / "history.json").write_text(json.dumps(found))
        (results / "perf-cpu" / "history.md").write_text("**faster**")
        fake.answers({self.LIST: [{"number": 3, "body": "somebody's own"}, {"number": 4, "body": None}]})
        assert self.write(results, "--expected", '["perf-cpu"]') == 0
        assert capsys.readouterr().out == "nothing to tell: no issue\n"
        assert len(fake.calls) == 1

    def test_a_good_night_closes_its_own_and_no_other(
        self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.rmtree(results / "perf-h200")
        others = [{"number": 3, "body": "somebody's own"}, {"number": 4, "body": f"see {issue.MARKER}"}]
        fake.answers({self.LIST: [*others, {"number": 5, "body": f"{issue.MARKER}\nold"}], "issue close": ""})
        assert self.write(results, "--expected", '["perf-cpu"]', "--link", "https://example.org/9") == 0
        assert capsys.readouterr().out == "closed issue 5\n"
        assert fake.calls[1]["arguments"] == [
            *("issue", "close", "5", "--repo", "owner/name", "--reason", "completed", "--comment"),
            "No case fails in this night. Performance gate passed: 1 unchanged on `cpu-pretended-2t`.\n\n"
            "[Run](https://example.org/9)\n",
        ]
        assert len(fake.calls) == 2

    def test_a_failing_case_has_to_be_compared_again_before_its_issue_is_closed(
        self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        worse = replace(SLOW, case="t.py::test_a[<b>-->]")
        run_file.write(run_of(worse), results / "perf-h200" / "run.json")
        fake.answers({self.LIST: [], "label create": "", "issue create": "x"})
        assert self.write(results) == 0
        opened = fake.calls[-1]["text"]
        assert waiting.of(opened) == {("perf-h200", "t.py::test_a[<b>-->]")}

        # The next night skips it, as it does a slow case on all days but one.
        skipped = replace(worse, verdict=Verdict.SKIPPED, outcome=Outcome.SKIPPED, failed=False, metrics=())
        run_file.write(run_of(skipped, SAME), results / "perf-h200" / "run.json")
        fake.answers({self.LIST: [{"number": 5, "body": opened}]})
        capsys.readouterr()
        assert self.write(results) == 0
        told = capsys.readouterr().out
        assert told == "issue 5 stays open: t.py::test_a[<b>-->] on perf-h200 was not compared again\n"

        # Another one fails then: the issue tells of both.
        other = replace(SLOW, case="t.py::test_z")
        run_file.write(run_of(skipped, other), results / "perf-h200" / "run.json")
        fake.answers({self.LIST: [{"number": 5, "body": opened}], "issue edit": ""})
        assert self.write(results) == 0
        edited = fake.calls[-1]["text"]
        assert waiting.of(edited) == {("perf-h200", "t.py::test_a[<b>-->]"), ("perf-h200", "t.py::test_z")}
        assert "Failed in an earlier night, and not compared since: `t.py::test_a[<b>-->]` on `perf-h200`." in edited

        run_file.write(
            run_of(replace(worse, verdict=Verdict.UNCHANGED, failed=False)), results / "perf-h200" / "run.json"
        )
        fake.answers({self.LIST: [{"number": 5, "body": opened}], "issue close": ""})
        capsys.readouterr()
        assert self.write(results) == 0
        assert capsys.readouterr().out == "closed issue 5\n"

    @pytest.mark.parametrize(
        ("verdict", "more", "told"),
        [
            (Verdict.STALE, "", "a machine compared nothing"),
            (Verdict.UNCHANGED, issue.HISTORY_MARKER, "it tells of a step in the history"),
        ],
    )
    def test_an_issue_that_a_night_does_not_answer_stays_open(
        self,
        fake: Fake,
        results: Path,
        capsys: pytest.CaptureFixture[str],
        verdict: Verdict,
        more: str,
        told: str,
    ) -> None:
        run_file.write(run_of(replace(SAME, verdict=verdict)), results / "perf-h200" / "run.json")
        fake.answers({self.LIST: [{"number": 5, "body": f"{issue.MARKER}\n{more}"}]})
        assert self.write(results) == 0
        assert capsys.readouterr().out == f"issue 5 stays open: {told}\n"
        assert len(fake.calls) == 1

    @pytest.mark.parametrize(
        "found",
        [
            {"findings": [{"worse": True}], "future": []},
            # The clock of a machine is wrong: what its nights brought is not known.
            {"findings": [], "future": [{"date": "2030-01-01T02:00:00+00:00", "host": "a", "revision": ""}]},
        ],
    )
    def test_a_step_in_the_history_opens_one(self, fake: Fake, results: Path, found: dict[str, Any]) -> None:
        shutil.rmtree(results / "perf-h200")
        (results / "perf-cpu" / "history.json").write_text(json.dumps(found))
        (results / "perf-cpu" / "history.md").write_text("**1 new change point**")
        fake.answers({self.LIST: [], "label create": "", "issue create": "x"})
        assert self.write(results) == 0
        assert "**1 new change point**" in fake.calls[-1]["text"]

    def test_a_report_that_is_none_is_told(self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = results / "perf-cpu" / "history.json"
        path.write_text("[]")
        assert self.write(results) == 1
        assert capsys.readouterr().err == (
            f"perfgate: {path}: not a report of the history\nhint: write it with: perfgate history report --json\n"
        )

    @pytest.mark.parametrize("names", ["cpu", "7", "[7]", '[{"runner": "x"}]'])
    def test_names_that_are_none_are_told(
        self, fake: Fake, results: Path, capsys: pytest.CaptureFixture[str], names: str
    ) -> None:
        assert self.write(results, "--expected", names) == cli.USAGE
        assert capsys.readouterr().err == (
            f'perfgate: --expected: {names!r} is not a list of names\nhint: --expected=\'["cpu", "h200"]\'\n'
        )


class TestPullRequest:
    @pytest.fixture
    def clone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A clone whose folder of baselines has changed, and the repository it is from."""
        for name, value in {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}.items():
            monkeypatch.setenv(name, value)
        self.git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
        self.git(tmp_path, "clone", "--quiet", "origin.git", "clone")
        clone = tmp_path / "clone"
        (clone / "baselines").mkdir()
        (clone / "baselines" / "a.json").write_text("1")
        (clone / "code.py").write_text("1")
        self.git(clone, "checkout", "--quiet", "-b", "main")
        self.git(clone, "add", ".")
        self.git(clone, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m1")
        self.git(clone, "push", "--quiet", "origin", "main")
        (tmp_path / "body.md").write_text("| a table |\n")
        monkeypatch.chdir(clone)
        return clone

    def git(self, folder: Path, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout

    def propose(self, *more: str) -> int:
        names = ["--branch", "perf-baselines/h200", "--title", "Record baselines on h200", "--body", "../body.md"]
        return cli.main(["github", "pull-request", "baselines", *names, *more])

    LIST = "pr list --repo owner/name --head perf-baselines/h200 --base main --state open --json number"

    def test_only_the_folder_is_committed_and_proposed(
        self, fake: Fake, clone: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (clone / "baselines" / "a.json").write_text("2")
        (clone / "baselines" / "b.json").write_text("2")
        (clone / "code.py").write_text("2")
        fake.answers({self.LIST: [], "pr create": "https://github.com/owner/name/pull/8"})
        assert self.propose() == 0
        assert capsys.readouterr().out == "opened https://github.com/owner/name/pull/8\n"
        origin = clone.parent / "origin.git"
        changed = self.git(origin, "diff", "--name-only", "main", "perf-baselines/h200")
        assert changed.split() == ["baselines/a.json", "baselines/b.json"]
        assert self.git(origin, "log", "-1", "--format=%s|%an", "perf-baselines/h200") == (
            "Record baselines on h200|github-actions[bot]\n"
        )
        assert fake.calls[-1]["text"] == "| a table |\n"

    def test_an_open_one_is_updated_and_its_branch_replaced(
        self, fake: Fake, clone: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.git(clone, "push", "--quiet", "origin", "main:perf-baselines/h200")
        (clone / "baselines" / "a.json").write_text("3")
        fake.answers({self.LIST: [{"number": 8}], "pr edit": ""})
        assert self.propose() == 0
        assert capsys.readouterr().out == "updated pull request 8\n"
        assert self.git(clone.parent / "origin.git", "show", "perf-baselines/h200:baselines/a.json") == "3"

    def test_without_a_change_there_is_none(self, fake: Fake, clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (clone / "code.py").write_text("2")
        assert self.propose() == 0
        assert capsys.readouterr().out == "nothing in baselines has changed: no pull request\n"
        assert fake.calls == []

    def test_what_the_run_did_not_record_is_told_first(self, fake: Fake, clone: Path) -> None:
        (clone / "baselines" / "a.json").write_text("2")
        broken = replace(SLOW, case="t.py::broken", verdict=Verdict.SKIPPED, outcome=Outcome.FAILED, failed=False)
        run_file.write(run_of(broken, SAME), clone.parent / "run.json")
        fake.answers({self.LIST: [], "pr create": "x"})
        assert self.propose("--run", "../run.json", "--ended", "failure", "--link", "https://example.org/9") == 0
        assert fake.calls[-1]["text"] == (
            "**The run that recorded these baselines failed.** What it did not record is as before.\n\n"
            "1 case failed:\n\n- `t.py::broken` on `cpu-pretended-2t`: failed\n\n"
            "[Log of the run](https://example.org/9)\n\n| a table |\n"
        )

    def test_a_run_without_a_failure_is_not_told(self, fake: Fake, clone: Path) -> None:
        (clone / "baselines" / "a.json").write_text("2")
        run_file.write(run_of(SAME), clone.parent / "run.json")
        fake.answers({self.LIST: [], "pr create": "x"})
        assert self.propose("--run", "../run.json", "--link", "https://example.org/9") == 0
        assert fake.calls[-1]["text"] == "| a table |\n"

    def test_no_more_failures_are_named_than_somebody_reads(self) -> None:
        broken = replace(SLOW, verdict=Verdict.SKIPPED, outcome=Outcome.CRASHED, failed=False)
        many = [replace(broken, case=f"t.py::{number}") for number in range(60)]
        text = pull_request.failures(run_of(*many, problems=("x" * 1000, *["y"] * 55)), "failure")
        assert "60 cases failed:" in text
        assert text.count(": crashed\n") == 50
        assert "56 problems:" in text
        assert text.count("- `y`\n") == 49
        assert f"- `{'x' * 117}...`\n" in text
        assert text.endswith("- ... and 16 more\n\n")

    def test_the_branch_to_merge_into_is_never_replaced(
        self, fake: Fake, clone: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = self.git(clone.parent / "origin.git", "rev-parse", "main")
        (clone / "baselines" / "a.json").write_text("2")
        names = ["--branch", "main", "--title", "Record", "--body", "../body.md"]
        assert cli.main(["github", "pull-request", "baselines", *names]) == cli.USAGE
        assert capsys.readouterr().err == (
            "perfgate: --branch: 'main' is the branch to merge into\nWhat the branch held is replaced.\n"
            "hint: --branch perf-baselines/MACHINE\n"
        )
        assert fake.calls == []
        assert self.git(clone.parent / "origin.git", "rev-parse", "main") == before


def test_without_gh_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PerfgateError) as error:
        gh.ask("repos/owner/name")
    assert str(error.value) == (
        "gh is not installed\nGitHub is reached by it.\n"
        "hint: install it from https://cli.github.com and log in: gh auth login"
    )


def test_without_a_repository_it_says_which_one_to_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert cli.main(["github", "issue", str(tmp_path)]) == cli.USAGE
    assert capsys.readouterr().err == (
        "perfgate: which repository? Neither --repository nor $GITHUB_REPOSITORY says it\n"
        "hint: --repository=OWNER/NAME\n"
    )
