"""Do cases, tests and metrics that the README of text generation names exist, and is every published point a case?"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "perf_tests" / "llm_generate"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
#: Metrics that perfgate itself takes.
OWN = {"wall_time", "memory"}
SIZES = {"{input}": (3, 26), "{new}": (50, 100)}


@pytest.fixture(scope="module")
def cases(cases_of: Callable[..., set[str]]) -> set[str]:
    """Give the cases of the folder, without the names of files."""
    return cases_of("perf_tests/llm_generate")


def expanded(name: str) -> list[str]:
    """Fill in every size where a name leaves it open."""
    names = [name]
    for placeholder, sizes in SIZES.items():
        names = [each.replace(placeholder, str(size)) for each in names for size in sizes]
    return sorted(set(names))


def test_named_cases_exist(cases: set[str]) -> None:
    named = re.findall(r"`(test_\w+(?:\[[a-z][^`]+\])?)`", README)
    known = cases | {case.split("[")[0] for case in cases}
    assert len(named) > 20
    assert [case for name in named for case in expanded(name) if case not in known] == []


def test_named_tests_exist() -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", README)
    assert len(named) >= 6
    assert [test for file, test in named if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")] == []


def test_named_metrics_exist() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py"))
    rows = [
        line.split("|")[3] for line in README.splitlines() if line.startswith("|") and "`test_" in line.split("|")[2]
    ]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named >= {"inter_token_latency", "tokens_per_s", "peak_memory", "logit_error", "products", "load_time"}
    assert {name for name in named - OWN if f'"{name}"' not in sources} == set()


def test_every_published_point_is_a_case(cases: set[str]) -> None:
    with (FOLDER / "reference" / "llm_generate_qwen3_4b_rocm.csv").open(encoding="utf-8") as file:
        points = {(row["method"], row["input_tokens"], row["new_tokens"]) for row in csv.DictReader(file)}
    ours = {
        "fp16": "fp16-torch",
        "int8-torchao": "int8-weight-only-rebuild",
        "gptq": "int4-gptq-rebuild",
        "gptq-new": "int4-gptq-rebuild",
    }
    assert len(points) == 16
    named = {f"test_qwen3_4b[{ours[method]}-dynamic-eager-b1-{tokens}-{new}]" for method, tokens, new in points}
    assert named - cases == set()
