"""Does every case and metric that the README of the HBV cases names exist, and is every published point a case?"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "perf_tests" / "hbv"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
#: Metrics that perfgate itself takes.
OWN = {"device_time", "wall_time", "memory"}
SIZES = {"{basins}": (32, 64, 128, 256, 512, 1024), "{days}": (100, 365, 730, 1461)}


@pytest.fixture(scope="module")
def cases(cases_of: Callable[..., set[str]]) -> set[str]:
    """Give the cases of the folder, without the names of files."""
    return cases_of("perf_tests/hbv")


def expanded(name: str) -> list[str]:
    """Fill in every size where a name leaves it open."""
    names = [name]
    for placeholder, sizes in SIZES.items():
        names = [each.replace(placeholder, str(size)) for each in names for size in sizes]
    return sorted(set(names))


def test_named_cases_exist(cases: set[str]) -> None:
    named = re.findall(r"`(test_\w+(?:\[[^`]+\])?)`", README)
    assert len(named) > 20
    assert [case for name in named for case in expanded(name) if case not in cases] == []


def test_named_metrics_exist() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py"))
    rows = [
        line.split("|")[3] for line in README.splitlines() if line.startswith("|") and "`test_" in line.split("|")[2]
    ]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named >= {"device_time", "step_memory", "forward_time", "loss"}
    assert {name for name in named - OWN if f'"{name}"' not in sources} == set()


def test_every_published_point_is_a_case(cases: set[str]) -> None:
    with (FOLDER / "reference" / "hbv_rtx3080ti_laptop.csv").open(encoding="utf-8") as file:
        points = [(row["implementation"], row["basins"], row["timesteps"]) for row in csv.DictReader(file)]
    ours = {"triton": "test_fused_forward[fused", "eager": "test_loop[eager", "jit": "test_loop[torchscript"}
    assert len(points) == 72
    assert {point for point in points if f"{ours[point[0]]}-hard-{point[1]}-{point[2]}]" not in cases} == set()


def test_every_timed_size_says_which_model_it_ran(cases: set[str]) -> None:
    sized = [case for case in cases if re.match(r"test_(fused|loop|cpu_loop)", case)]
    assert len(sized) > 150
    assert [case for case in sized if not re.search(r"-(hard|smooth)-\d+-\d+\]$", case)] == []
