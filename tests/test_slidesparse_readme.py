"""Does every case and metric that the README of products and layers names exist, and are there as many as it says?"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perf_workloads.slidesparse import MODELS, SCHEMES, TOKENS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "perf_tests" / "slidesparse"
FILES = ("test_gemm.py", "test_linear_layer.py")
SECTION = (
    (FOLDER / "README.md").read_text(encoding="utf-8").split("\n## Products and linear layers\n")[1].split("\n## ")[0]
)
#: The same without line breaks.
TEXT = " ".join(SECTION.split())
OWN = {"device_time", "wall_time", "memory"}
LAYERS = ("qkv", "o", "gate_up", "down")
#: Numbers of tokens of the cases of layers.
LAYER_TOKENS = (64, 512, 8192, 65536)


@pytest.fixture(scope="module")
def cases(cases_of: Callable[..., set[str]]) -> set[str]:
    """Give the cases of both files, without the names of files."""
    return cases_of(*(f"perf_tests/slidesparse/{name}" for name in FILES))


def expanded(name: str) -> set[str]:
    """Fill in all that a name leaves open."""
    tokens = TOKENS if name.startswith("test_gemm") else LAYER_TOKENS
    return {
        name.replace("{scheme}", scheme)
        .replace("{model}", model)
        .replace("{layer}", layer)
        .replace("{tokens}", str(number))
        for scheme, model, layer, number in itertools.product(SCHEMES, MODELS, LAYERS, tokens)
    }


def test_named_cases_exist(cases: set[str]) -> None:
    named = set(re.findall(r"`(test_\w+(?:\[[^`]+\])?)`", SECTION))
    functions = {case.split("[")[0] for case in cases}
    assert len(named) >= 6
    assert {name for name in named if "[" not in name} - functions == set()
    assert {case for name in named if "[" in name for case in expanded(name)} - cases == set()


def test_the_grid_is_complete(cases: set[str]) -> None:
    grid = {case for case in cases if case.startswith("test_gemm[")}
    layers = {case for case in cases if case.startswith("test_linear_layer[")}
    assert f"{len(grid)} products and {len(layers)} layers" in TEXT
    assert grid == expanded("test_gemm[{scheme}-{model}-{layer}-{tokens}]")
    assert layers == expanded("test_linear_layer[{scheme}-{model}-{layer}-{tokens}]")


def test_what_runs_by_default_is_as_told() -> None:
    """Counted by pytest where all GPU cases are skipped: those that are slow say so."""
    files = [str(FOLDER / name) for name in FILES]
    code = (
        "import sys, pytest\n"
        "class Count:\n"
        "    def pytest_collection_finish(self, session):\n"
        "        for name in ('test_gemm', 'test_linear_layer'):\n"
        "            items = [each for each in session.items if each.originalname == name]\n"
        "            print(name, sum(each.get_closest_marker('slow') is None for each in items))\n"
        f"sys.exit(pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', *{files!r}], plugins=[Count()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    always = dict(re.findall(r"^(test_\w+) (\d+)$", done.stdout, re.MULTILINE))
    assert f"run {always['test_gemm']} products and {always['test_linear_layer']} layers" in TEXT


def test_named_metrics_exist() -> None:
    sources = "".join((FOLDER / name).read_text(encoding="utf-8") for name in (*FILES, "conftest.py"))
    rows = [line.split("|")[3] for line in SECTION.splitlines() if line.startswith("|") and "`test_" in line]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named >= {"device_time", "speedup_over_dense", "weight_memory"}
    assert {name for name in named - OWN if f'"{name}"' not in sources} == set()
