"""Does ``perfgate static`` find kernels and say what there is when it does not?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from perfgate import cli
from perfgate.static import find, pool
from perfgate.static.answers import Answer, Question
from perfgate.static.figures import Code, Figures

CODE = Code(
    40,
    3,
    24,
    300,
    {16: 5, 8: 0, 4: 1, 2: 0},
    {16: 0, 8: 10, 4: 2, 2: 0},
    8,
    6,
    1,
    4800,
    scalars=22,
    asynchronous_bytes=40,
)


#: Numbers of rows of launches in another list.
MANY = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
ASKED: list[Question] = []


class Pool:
    """Compiles every launch to the same kernel, and refuses sm80."""

    def launches(self, place: str) -> Answer:
        """Name two launches."""
        if place not in ("mine.rows.specialisations", "mine.many.specialisations"):
            return Answer("failed", f"ModuleNotFoundError: No module named {place!r}")
        return Answer("compiled", code={"a": "", "b": ""}, tuned={"b-tuned-nvidia-h200": "sm90"})

    def every_launch(self, place: str) -> Answer:
        """Name those of two lists."""
        more = {
            f"{number}-rows": f"{place}:MORE_LAUNCHES" for number in (MANY if place.startswith("mine.many") else ())
        }
        return Answer("compiled", code=dict.fromkeys(("a", "b"), f"{place}:LAUNCHES") | more)

    def submit(self, questions: Iterable[Question]) -> None:
        """Take questions."""

    def ask(self, question: Question) -> Answer:
        """Give figures and code."""
        ASKED.append(question)
        environment = {"triton": "3.9.0", "ptxas": "13.4"}
        if question.target == "sm80":
            return Answer("unsupported", "f: needs compute capability 8.9", environment=environment)
        figures = Figures("k", question.target, 8, 4096, 0.625, ("%1 = arith.muli",), CODE)
        text = "// the code\n" if question.code in ("ptx", "ttir") else ""
        passed_over = ("fast: PTXASError: no",) if question.target == "sm89" else ()
        told = {"passed_over": passed_over, "operators": "aten::clone" if passed_over else ""}
        told |= {"too_large": ("large: no room",)} if passed_over else {}
        return Answer("compiled", "", "", (figures,), 1, environment, {"k": text}, **told)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two kernels below a source root, and a scripted compiler."""
    (tmp_path / "pyproject.toml").write_text('[tool.pytest]\npythonpath = ["code"]\n')
    for kernel in ("rows", "columns", "many"):
        folder = tmp_path / "code" / "mine" / kernel
        folder.mkdir(parents=True)
        (folder / "specialisations.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    monkeypatch.setattr(pool, "shared", Pool)
    ASKED.clear()
    return tmp_path


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["static", "rows", "--target", "sm90", "--target", "sm80", "--launch", "a"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:2]] == [
        [
            *("a", "sm90", "40", "62.5", "%", "3", "24", "B", "6", "4.00", "KiB"),
            *("5/0/1/0", "0/10/2/0", "47.6", "%", "8", "1", "1", "300", "4.69", "KiB"),
        ]
    ]
    columns = ["launch", "target", "registers", "occupancy", "spills", "stack", "local memory", "shared"]
    assert re.split("  +", lines[0])[:8] == columns
    assert lines[2:] == [
        "a on sm80: unsupported: f: needs compute capability 8.9",
        "compiled with triton 3.9.0, ptxas 13.4",
    ]


def test_what_a_launch_passes_over_and_what_torch_does_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["static", "rows", "--target", "sm90", "--target", "sm89", "--launch", "a"]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == [
        "a on sm89 goes on without what does not compile: fast: PTXASError: no",
        "a on sm89 goes on without what does not fit: large: no room",
        "a on sm89 runs operators of torch beside its kernels: aten::clone",
        "compiled with triton 3.9.0, ptxas 13.4",
    ]


@pytest.mark.parametrize(
    ("launches", "told"),
    [
        (["a"], ["a on sm80, sm89: failed: IndexError: no", "at 3:1", "ValueError: no"]),
        (
            ["a", "b"],
            [
                "a on sm80, sm89: failed: IndexError: no",
                "b on sm80, sm89: failed: IndexError: no",
                "hint: --launch a shows the whole error",
            ],
        ),
    ],
)
def test_a_failure_is_told_once_with_its_targets(
    launches: list[str], told: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Answer("failed", "IndexError: no", "at 3:1\nValueError: no\n")
    monkeypatch.setattr(Pool, "ask", lambda self, question: failed)
    chosen = [argument for launch in launches for argument in ("--launch", launch)]
    assert cli.main(["static", "rows", "--target", "sm80", "--target", "sm89", *chosen]) == 0
    assert capsys.readouterr().out.splitlines() == told


@pytest.mark.parametrize("kernel", ["rows", "mine.rows", "mine.rows.specialisations"])
def test_of_one_launch_and_target_the_lines_with_32_bit_offsets_are_shown(
    kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["static", kernel, "--target", "sm90", "--launch", "a"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "32-bit offset: k: %1 = arith.muli",
        "compiled with triton 3.9.0, ptxas 13.4",
    ]


def test_scalar_registers_of_amd_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["static", "rows", "--target", "gfx942", "--target", "sm90", "--launch", "a"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()[:3]
    assert re.split("  +", heading)[3:5] == ["occupancy", "scalar registers"]
    assert [row.split()[:6] for row in rows] == [
        ["a", "gfx942", "40", "62.5", "%", "22"],
        ["a", "sm90", "40", "62.5", "%", "-"],
    ]


def test_a_launch_of_another_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["static", "many", "--target", "sm90", "--launch", "128-rows", "--launch", "a"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:-1]] == [
        ["128-rows", "sm90"],
        ["a", "sm90"],
    ]
    assert [question.place for question in ASKED] == [
        "mine.many.specialisations:MORE_LAUNCHES",
        "mine.many.specialisations:LAUNCHES",
    ]


def test_of_many_launches_those_most_like_the_name_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["static", "many", "--launch", "129-rows"]) == 4
    assert capsys.readouterr().err == (
        "perfgate: mine.many.specialisations has no launch '129-rows'\n"
        "hint: launches are 512-rows, 128-rows, 2-rows, 1-rows, 32-rows, 16-rows, 256-rows, 8-rows, and 5 others\n"
    )


def test_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["static", "mine.rows.specialisations", "--target", "sm90", "--launch", "a", "--ptx"]) == 0
    assert capsys.readouterr().out == "// the code\n"
    assert cli.main(["static", "rows", "--target", "sm90", "--ttir"]) == 0
    assert capsys.readouterr().out == (
        "// a on sm90: k\n// the code\n// b on sm90: k\n// the code\n// b-tuned-nvidia-h200 on sm90: k\n// the code\n"
    )


def test_tuned_configurations_are_shown_for_their_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["static", "rows", "--target", "sm90", "--target", "sm100"]) == 0
    shown = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert shown == [["a", "sm90"], ["a", "sm100"], ["b", "sm90"], ["b", "sm100"], ["b-tuned-nvidia-h200", "sm90"]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["cells"],
            "perfgate: there is no kernel 'cells'\n"
            "Kernels are folders with a specialisations.py that holds LAUNCHES, below pytest's pythonpath; "
            "--launch NAME is for one of its launches.\n"
            "hint: kernels are columns, many, rows\n",
        ),
        (
            ["rows", "--target", "sm75"],
            "perfgate: there is no target 'sm75'\nhint: targets are sm80, sm89, sm90, sm100, gfx90a, gfx942, gfx1100\n",
        ),
        (
            ["rows", "--launch", "c"],
            "perfgate: mine.rows.specialisations has no launch 'c'\nhint: launches are a, b, b-tuned-nvidia-h200\n",
        ),
        (
            ["rows", "--launch", "b-tuned-nvidia-h200", "--target", "sm80"],
            "perfgate: nothing to compile: b-tuned-nvidia-h200 is for sm90\nhint: give another --target, or none\n",
        ),
        (
            ["your.rows"],
            "perfgate: your.rows: ModuleNotFoundError: No module named 'your.rows'\n",
        ),
        (
            ["rows", "--target", "sm90", "--launch", "a", "--amdgcn"],
            "perfgate: sm90 has no amdgcn\n"
            "hint: sass and ptx are NVIDIA's, amdgcn is AMD's; ttir, ttgir and llir are there for both\n",
        ),
    ],
)
def test_what_is_not_there(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["static", *arguments]) == 4
    assert capsys.readouterr().err == told


def test_code_of_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["static", "rows", "--target", "sm80", "--launch", "a", "--ptx"]) == 1
    assert capsys.readouterr().err == "perfgate: a on sm80: unsupported: f: needs compute capability 8.9\n"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pyproject.toml", '[tool.pytest.ini_options]\npythonpath = "code other"\n'),
        ("pytest.ini", "[pytest]\npythonpath = code other\n"),
        ("setup.cfg", "[tool:pytest]\npythonpath = code\n"),
    ],
)
def test_source_roots(project: Path, file: str, text: str) -> None:
    (project / "pyproject.toml").unlink()
    (project / file).write_text(text)
    assert find.source_roots(project) == [project / "code"]


def test_without_a_pythonpath_the_folder_itself_is_looked_through(project: Path) -> None:
    (project / "pyproject.toml").unlink()
    roots = find.source_roots(project)
    assert roots == [project]
    assert find.kernels(roots)["rows"] == "code.mine.rows.specialisations"


def test_a_folder_that_goes_away_while_kernels_are_looked_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going = project / "code" / "cache"
    going.mkdir()
    scandir = os.scandir

    def scan(folder: str | Path) -> object:
        if Path(folder) == going:
            going.rmdir()
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    assert set(find.kernels([project / "code"])) == {"rows", "columns", "many"}
    assert not going.exists()


def test_kernels_are_packages_of_which_the_least_deep_counts(project: Path) -> None:
    for folder in ("deep/er/rows", "a-b/odd", "a/b/c/d/e/deepest", "a/b/c/deep"):
        (project / "code" / folder).mkdir(parents=True)
        (project / "code" / folder / "specialisations.py").touch()
    found = find.kernels([project / "code"])
    assert set(found) == {"rows", "columns", "many", "deep"}
    assert (found["rows"], found["deep"]) == ("mine.rows.specialisations", "a.b.c.deep.specialisations")
