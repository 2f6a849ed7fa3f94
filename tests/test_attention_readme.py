"""Does every case, test and metric that the README of the attention cases names exist, and every published point?"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "perf_tests" / "linear_attention"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
#: Metrics that perfgate itself takes.
OWN = {"device_time", "wall_time", "memory"}
ROWS = ("softmax", "flash", "linear", "gated_deltanet")
VALUES = {
    "{row}": (*ROWS, "gated_deltanet_kda"),
    "{tokens}": ("256", "512", "1024"),
    "{length}": ("256", "512", "1024", "2048", "4096"),
    "{size}": ("1M", "5M", "15M", "30M"),
    "{items}": ("5", "10", "20", "30", "50"),
    "{pairs}": ("3", "5", "8", "10", "15"),
}


@pytest.fixture(scope="module")
def cases(cases_of: Callable[..., set[str]]) -> set[str]:
    """Give the cases of the folder, without the names of files."""
    return cases_of("perf_tests/linear_attention")


def unit_tests() -> set[str]:
    """Give the names of the tests of models and drivers."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_attention_*.py"))
    return set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))


def expanded(name: str) -> list[str]:
    """Fill in every value where a name leaves it open."""
    names = [name]
    for placeholder, values in VALUES.items():
        names = [each.replace(placeholder, value) for each in names for value in values]
    return sorted(set(names))


def test_named_cases_exist(cases: set[str]) -> None:
    named = set(re.findall(r"`(test_\w+(?:\[[^`]+\])?)`", README))
    checks = unit_tests()
    assert len(named) > 30
    missing = [case for name in named for case in expanded(name) if case not in cases]
    assert [case for case in missing if case.partition("[")[0] not in checks] == []


def test_named_metrics_exist() -> None:
    sources = [*FOLDER.glob("*.py"), ROOT / "src" / "perf_workloads" / "attention" / "memory.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    literals = {re.sub(r"\{[^}]*\}", "{}", literal) for literal in re.findall(r'"([a-z0-9_{}.]+)"', text)}
    cells = [
        line.split("|")[3] for line in README.splitlines() if line.startswith("|") and "`test_" in line.split("|")[2]
    ]
    cells = [cell for cell in cells if "--perf-profile" not in cell]
    named = {re.sub(r"\{[^}]*\}", "{}", name) for cell in cells for name in re.findall(r"`([\w{}]+)`", cell)}
    assert named >= {"wall_time", "train_loss_{}", "backward_memory", "accuracy", "launches", "time_exponent"}
    assert {name for name in named - OWN if name not in literals} == set()


def published(name: str) -> list[dict[str, str]]:
    with (FOLDER / "reference" / f"linear_attention_rtx3090_{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "test", "column"),
    [
        ("pretrain", "test_pretraining", ""),
        ("train_step", "test_training_efficiency", "sequence_length"),
        ("memory", "test_memory_scaling", "sequence_length"),
        ("copy_task", "test_copy", "copy_length"),
        ("associative_recall", "test_recall", "kv_pairs"),
        ("scaling", "test_model_scaling", "nominal_size"),
        ("profiler", "test_profiler", "sequence_length"),
    ],
)
def test_every_published_point_is_a_case(cases: set[str], name: str, test: str, column: str) -> None:
    points = published(name)
    assert {point["attention"] for point in points} == set(ROWS)
    ids = {f"{test}[gpu-{'-'.join(filter(None, (each['attention'], each.get(column))))}]" for each in points}
    assert ids - cases == set()


@pytest.mark.parametrize(
    "name", ["pretrain", "train_step", "memory", "copy_task", "associative_recall", "scaling", "profiler"]
)
def test_every_published_column_is_mapped(name: str) -> None:
    given = {"attention", "epoch", "sequence_length", "copy_length", "kv_pairs", "nominal_size"}
    columns = set(published(name)[0]) - given
    mapped = {column for column in columns if f"| {name}: `{column}` |" in README}
    assert mapped == columns


def test_figures_beside_ours_are_those_that_were_published() -> None:
    rows = {
        ("train_step", "1024", "step_ms"): ("sequence_length", "step at 1024 tokens, ms"),
        ("memory", "2048", "backward_mb"): ("sequence_length", "memory of a step at 2048 tokens"),
        ("scaling", "30M", "step_ms"): ("nominal_size", "step at 30M, ms"),
        ("pretrain", "5", "val_perplexity"): ("epoch", "perplexity after 5 epochs"),
    }
    lines = README.splitlines()
    for (name, value, column), (key, label) in rows.items():
        expected = [point[column] for point in published(name) if point[key] == value]
        first = next(number for number, line in enumerate(lines) if line.startswith(f"| {label}"))
        assert [line.split("|")[3].strip() for line in lines[first : first + 4]] == expected
    for name, key, value, label in (
        ("copy_task", "copy_length", "10", "| copy of 10"),
        ("associative_recall", "kv_pairs", "8", "| recall of 8"),
    ):
        expected = [point["accuracy_pct"] for point in published(name) if point[key] == value]
        line = next(line for line in lines if line.startswith(label))
        assert line.split("|")[3].strip() == ", ".join(expected)
