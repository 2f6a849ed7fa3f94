"""Does a change reach all the cases that it can, and no others?"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from perfgate import cli
from perfgate.ab import affected

FILES = {
    "pyproject.toml": '[project]\nname = "x"\n[project.entry-points.pytest11]\nown = "own.plugin"\n'
    '[tool.pytest]\npythonpath = ["src", "kernels"]\n',
    "README.md": "",
    "docs/conf.py": "",
    ".github/workflows/ci.yml": "",
    "uv.lock": "",
    "src/own/__init__.py": "",
    "src/own/plugin.py": "",
    "src/own/deep/part.py": "",
    "kernels/fast/__init__.py": "",
    "kernels/fast/rows.py": "",
    "kernels/fast/add/__init__.py": "from fast.add.kernel import add",
    "kernels/fast/add/kernel.py": "from ..rows import width",
    "kernels/fast/add/source.cu": "",
    "kernels/fast/add/launches.py": "LAUNCHES = {}",
    "kernels/fast/mul/__init__.py": "from . import kernel",
    "kernels/fast/mul/kernel.py": "",
    "kernels/fast/mul/launches.py": "",
    "src/models/__init__.py": "",
    "src/models/big.py": "def run():\n    from fast import mul",
    "src/models/started.py": "",
    "src/unused.py": "",
    "perf_tests/conftest.py": "import pytest\n@pytest.fixture\ndef timed(benchmark): return benchmark",
    "perf_tests/add/test_add.py": "import fast.add\ndef test_add(benchmark): pass\ndef test_fast(benchmark): pass",
    "perf_tests/add/table.csv": "",
    "perf_tests/models/conftest.py": "from models import shared",
    "src/models/shared.py": "",
    "perf_tests/models/test_big.py": "from models.big import run\nclass TestBig:\n    def test_run(self, timed): pass",
    "perf_tests/models/test_started.py": "def test_it(benchmark): start('models.started')",
    "perf_tests/static/test_all.py": "import pytest\n"
    '@pytest.mark.static("fast.add.launches")\ndef test_add(compiled): pass\n'
    '@pytest.mark.static("fast.mul.launches:LAUNCHES")\ndef test_mul(compiled): pass\n',
    "tests/test_plain.py": "import fast.add\nfrom models.big import run\ndef test_it(): pass",
    "baselines/gpu/perf_tests/add/test_add.json": "{}",
    "baselines/gpu/tuning/mul.json": "{}",
}
MUL = ["perf_tests/models/test_big.py", "perf_tests/static/test_all.py::test_mul"]


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, check=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with kernels, models, a plugin of its own and cases; a branch is checked out."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    git(tmp_path, "checkout", "--quiet", "-b", "change")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "reached"),
    [
        ("kernels/fast/mul/kernel.py", MUL),
        ("kernels/fast/mul/launches.py", ["perf_tests/static/test_all.py::test_mul"]),
        ("kernels/fast/add/kernel.py", ["perf_tests/add/test_add.py", "perf_tests/static/test_all.py::test_add"]),
        ("kernels/fast/add/source.cu", ["perf_tests/add/test_add.py", "perf_tests/static/test_all.py::test_add"]),
        ("kernels/fast/rows.py", ["perf_tests/add/test_add.py", "perf_tests/static/test_all.py::test_add"]),
        ("baselines/gpu/tuning/mul.json", MUL),
        ("src/models/big.py", ["perf_tests/models/test_big.py"]),
        ("src/models/shared.py", ["perf_tests/models/test_big.py", "perf_tests/models/test_started.py"]),
        ("src/models/started.py", ["perf_tests/models/test_started.py::test_it"]),
        ("src/unused.py", []),
        ("perf_tests/add/test_add.py", ["perf_tests/add/test_add.py"]),
        ("perf_tests/add/table.csv", ["perf_tests/add/test_add.py"]),
        ("perf_tests/models/conftest.py", ["perf_tests/models/test_big.py", "perf_tests/models/test_started.py"]),
        ("tests/test_plain.py", []),
        ("docs/conf.py", []),
        ("README.md", []),
        (".github/workflows/ci.yml", []),
        ("baselines/gpu/perf_tests/add/test_add.json", []),
    ],
)
def test_what_one_changed_file_reaches(repository, changed, reached):
    (repository / changed).write_text((repository / changed).read_text() + "\n# changed\n")
    found = affected.find("main", repository)
    assert found.changed == (changed,)
    assert (list(found.arguments), found.everything) == (reached, "")


@pytest.mark.parametrize(
    "changed", ["pyproject.toml", "uv.lock", "src/own/plugin.py", "src/own/deep/part.py", "conftest.py"]
)
def test_settings_dependencies_and_plugins_reach_everything(repository, changed):
    with (repository / changed).open("a") as file:
        file.write("\n# changed\n")
    found = affected.find("main", repository)
    assert (found.arguments, found.everything) == (("perf_tests",), changed)


def test_deleted_and_moved_files_count(repository):
    (repository / "kernels/fast/mul/kernel.py").unlink()
    assert list(affected.find("main", repository).arguments) == MUL
    git(repository, "mv", "src/models/started.py", "src/models/renamed.py")
    assert list(affected.find("main", repository).arguments) == [
        "perf_tests/models/test_big.py",
        "perf_tests/models/test_started.py::test_it",
        "perf_tests/static/test_all.py::test_mul",
    ]


def test_new_and_committed_files_count_and_those_of_the_other_branch_do_not(repository):
    git(repository, "checkout", "--quiet", "main")
    (repository / "kernels/fast/add/kernel.py").write_text("changed = 1")
    git(repository, "commit", "--quiet", "--all", "--message", "on main")
    git(repository, "checkout", "--quiet", "change")
    (repository / "src/models/big.py").write_text("changed = 1")
    git(repository, "commit", "--quiet", "--all", "--message", "on the branch")
    (repository / "perf_tests/test_new.py").write_text("def test_new(benchmark): pass")
    for ref in ("main", "main..."):
        assert list(affected.find(ref, repository).arguments) == [
            "perf_tests/models/test_big.py",
            "perf_tests/test_new.py",
        ]


def test_arguments_are_told_from_where_they_are_typed(repository):
    (repository / "src/models/big.py").write_text("changed = 1")
    assert affected.find("main", repository / "perf_tests").arguments == ("models/test_big.py",)
    assert affected.find("main", repository / "src").arguments == ("../perf_tests/models/test_big.py",)


def test_the_command_prints_arguments_and_tells_the_rest_aside(repository, capsys):
    assert cli.main(["affected", "main"]) == 0
    assert capsys.readouterr() == ("", "perfgate: no case: none can be reached by 0 changed files\n")
    (repository / "kernels/fast/mul/kernel.py").write_text("changed = 1")
    assert cli.main(["affected", "main"]) == 0
    assert capsys.readouterr() == ("\n".join(MUL) + "\n", "perfgate: 1 changed file: 2 arguments for pytest\n")
    assert cli.main(["affected", "--json", "main"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "arguments": MUL,
        "everything": "",
        "changed": ["kernels/fast/mul/kernel.py"],
    }
    (repository / "uv.lock").write_text("changed")
    assert cli.main(["affected", "main"]) == 0
    assert capsys.readouterr() == ("perf_tests\n", "perfgate: all cases: uv.lock reaches them all\n")


def test_a_ref_that_does_not_exist(repository, capsys):
    assert cli.main(["affected", "origin/main"]) == 4
    assert capsys.readouterr().err == (
        f"perfgate: affected origin/main: there is no commit origin/main in {repository}\n"
        "A branch of the remote is known here once it was fetched.\n"
        "hint: git fetch origin main\n"
    )


def test_a_repository_without_folders_for_its_tests(repository):
    for name in FILES:
        (repository / name).unlink()
    for name, text in {"lib.py": "", "test_lib.py": "import lib\ndef test_it(benchmark): pass"}.items():
        (repository / name).write_text(text)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "flat")
    (repository / "lib.py").write_text("changed = 1")
    assert affected.find("HEAD", repository).arguments == ("test_lib.py",)
    (repository / "requirements.txt").write_text("")
    assert affected.find("HEAD", repository).arguments == ("test_lib.py",)


def test_a_repository_of_several_projects(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    files = {
        "one/pyproject.toml": '[tool.pytest]\npythonpath = ["code"]\n'
        '[project.entry-points.pytest11]\nown = "plugged"\n',
        "one/code/alone.py": "",
        "one/code/plugged.py": "",
        "one/tests/test_one.py": "import alone\ndef test_it(benchmark): pass",
        "two parts/setup.py": "",
        "two parts/lib/inner/__init__.py": "",
        "two parts/lib/inner/work.py": "",
        "two parts/tests/test_two.py": "from inner.work import run\ndef test_it(benchmark): pass",
        "three/pyproject.toml": "this is no TOML",
        "three/src/single.py": "",
        "three/test_three.py": "import single\ndef test_it(benchmark): pass",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    for changed, reached in {
        "one/code/alone.py": ("one/tests/test_one.py",),
        "two parts/lib/inner/work.py": ("two parts/tests/test_two.py",),
        "three/src/single.py": ("three/test_three.py",),
        "one/code/plugged.py": ("one", "three", "two parts"),
    }.items():
        (tmp_path / changed).write_text("changed = 1")
        assert affected.find("HEAD", tmp_path).arguments == reached
        git(tmp_path, "checkout", "--quiet", ".")
