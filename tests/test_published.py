"""Published figures beside ours: files beside the cases, in any repository."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

import pytest

from perfgate.model import CaseResult, Device, Hardware, MetricVerdict, Outcome, Reported, Run, Verdict
from perfgate.report import html
from perfgate.report.published import ABSENT, COLUMNS, FILE, Published, beside, folders, load

HEAD = "case,metric,value,unit,hardware,source\n"
ROOT = Path(__file__).parents[1]


def case(name: str, value: float = 30e-6, **more: object) -> CaseResult:
    metric = MetricVerdict("device_time", "s", value, Verdict.UNCHANGED)
    plain = CaseResult(
        name, "nvidia-h200", Verdict.UNCHANGED, Outcome.PASSED, metrics=(metric,),
        reported=(Reported("tokens_per_s", "tokens/s", 50.0), Reported("accuracy", "1", 0.25)),
    )  # fmt: skip
    return dataclasses.replace(plain, **more)  # type: ignore[arg-type]


def write(root: Path, text: str, folder: str = "perf/hbv") -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / FILE).write_text(text, encoding="utf-8")


def test_ours_stands_beside_theirs(tmp_path: Path) -> None:
    write(
        tmp_path,
        HEAD + 'test_a.py::t[*-32],device_time,60,us,RTX 3080,"A paper, 2025"\n'
        "test_a.py::t[x-32],tokens_per_s,25,tokens/s,RTX 3080,\n"
        "test_a.py::t[x-32],outcome,out of memory,,RTX 3080,\n"
        "test_a.py::t[x-32],device_time,1,MiB,RTX 3080,\n"
        "test_a.py::t[x-32],accuracy,50,%,RTX 3080,\n"
        "test_a.py::other,device_time,1,us,RTX 3080,\n",
    )
    results = [case("perf/hbv/test_a.py::t[x-32]"), case("perf/hbv/test_a.py::t[x-33]"), case("test_b.py::t")]
    assert folders(results) == ["perf/hbv", ""]
    found, problems = load(tmp_path, folders(results))
    assert problems == []
    assert found[0] == Published(
        "perf/hbv", "test_a.py::t[*-32]", "device_time", pytest.approx(60e-6), "60 us", "s", "RTX 3080", "A paper, 2025"
    )
    rows = beside(found, results)
    assert [(row.case, row.ours, row.unit, row.word) for row in rows] == [
        ("perf/hbv/test_a.py::t[x-32]", 30e-6, "s", ""),
        ("perf/hbv/test_a.py::t[x-32]", 50.0, "tokens/s", ""),
        ("perf/hbv/test_a.py::t[x-32]", None, "", "passed"),
        ("perf/hbv/test_a.py::t[x-32]", 30e-6, "s", ""),
        ("perf/hbv/test_a.py::t[x-32]", 0.25, "1", ""),
    ]
    assert beside(found, [dataclasses.replace(results[0], outcome=Outcome.SKIPPED, metrics=(), reported=())]) == []
    # Only figures of one unit have a ratio.
    assert [row.ratio for row in rows] == [pytest.approx(0.5), 2.0, None, None, 0.5]


def test_they_are_on_the_page(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "test_a.py::t,device_time,60,us,RTX 3080,A paper\ntest_a.py::u,device_time,1,us,RTX 3080,\n")
    run = Run(
        Hardware((Device("cuda", "NVIDIA H200", "nvidia-h200"),)), (case("perf/hbv/test_a.py::t"),), {}, "now", 1.0
    )
    page = html.render([run], root=tmp_path)
    assert "0.5 ×" in page
    assert "published: A paper" in page
    assert "1 published figure without a measured one in this report" in page
    assert "0.5 ×" not in html.render([run])


def test_what_is_wrong_with_a_file_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "t,device_time,fast,us,A,\nt,device_time\nt,device_time,2,us,A,\nt,,2,us,A,\n", "a")
    write(tmp_path, "case,value\n", "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / FILE).write_bytes(b"\xff")
    (tmp_path / "d" / FILE).mkdir(parents=True)
    found, problems = load(tmp_path, ["a", "b", "c", "d", "gone", "../a", "/a"])
    assert [each.value for each in found] == [pytest.approx(2e-6)]
    assert problems == [
        "a/published.csv, line 2: 'fast' is not a number",
        "a/published.csv, line 3: it has fewer columns than the first line",
        "a/published.csv, line 5: it names no metric, and does not say why there is none",
        "b/published.csv: the columns metric, unit, hardware, source are missing",
        "c/published.csv: it is not text in UTF-8",
        "d/published.csv: cannot read the published figures: Is a directory",
    ]


COMMITTED = sorted(path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob(f"perf_tests/*/{FILE}"))


@pytest.mark.parametrize("folder", COMMITTED)
def test_every_pattern_of_this_repository_has_a_case(folder: str, collected_of_systems: frozenset[str]) -> None:
    found, _ = load(ROOT, [folder])
    own = [case for case in collected_of_systems if case.startswith(f"{folder}/")]
    assert own
    assert [each.case for each in found if not any(map(each.is_of, own))] == []


@pytest.mark.parametrize("folder", COMMITTED)
def test_the_figures_of_this_repository_can_be_read(folder: str) -> None:
    found, problems = load(ROOT, [folder])
    assert problems == []
    assert found
    with (ROOT / folder / FILE).open(encoding="utf-8", newline="") as file:
        assert tuple(next(csv.reader(file))) in (COLUMNS, (*COLUMNS, ABSENT))
    reference = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / folder / "reference").glob("*.csv"))
    cells = set(re.split(r'[,\n" ]', reference))
    for each in found:
        # A pattern names a test that is there, and a figure stands in the reference that it names.
        module, _, name = each.case.partition("::")
        function = re.escape(name.partition("[")[0]).replace(r"\*", r"\w*")
        assert re.search(rf"^def {function}\(", (ROOT / folder / module).read_text(encoding="utf-8"), re.MULTILINE)
        if each.source.startswith("reference/"):
            assert (ROOT / folder / each.source.partition(", ")[0]).exists()
            # Millions have their exponent.
            assert {each.text.split(" ")[0].removesuffix("e6"), each.text.replace(" ", "-")} & cells
