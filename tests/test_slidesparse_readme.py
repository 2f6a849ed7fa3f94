"""Does every case and metric that the README of products and layers names exist, and are there as many as it says?"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from perf_workloads.slidesparse import MODELS, SCHEMES, TOKENS
from perf_workloads.slidesparse.serving import results
from perfgate.baseline import BaselineStore
from perfgate.tune import store

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


def test_memory_of_weights_is_as_stored() -> None:
    """All of the table: every case, number of tokens and form that was stored has the memory that stands there."""
    cases = BaselineStore(ROOT / "baselines").load("nvidia-h200", "perf_tests/slidesparse/test_gemm").cases
    stored = {
        case: metric.values
        for case, baseline in cases.items()
        for metric in baseline.metrics
        if metric.name == "weight_memory"
    }
    engines = results.standing(results.read(FOLDER / "results" / "serving.jsonl"))

    def layer(scheme: str, name: str) -> float | None:
        wanted = re.compile(rf"\[(?:int8|fp8)-{scheme}(?:-bf16)?-Qwen2.5-7B-{name}-")
        return the_one({value for case, values in stored.items() if wanted.search(case) for value in values})

    def engine(scheme: str, model: str) -> float | None:
        names = (scheme,) if scheme == "bf16" else (f"int8-{scheme}", f"int8-{scheme}-bf16", f"fp8-{scheme}")
        mine = [each for key, each in engines.items() if key.model == model and key.scheme in names]
        return the_one({each.figures["weight_bytes"] for each in mine})

    def the_one(values: set[float]) -> float | None:
        assert len(values) <= 1
        return values.pop() if values else None

    def cell(value: float | None, dense: float | None, text: str, unit: float) -> str:
        if value is None or dense is None:
            return "-"
        return text.format(value / unit) + ("" if value == dense else f" ({value / dense:.2f})")

    rows = []
    for scheme in ("bf16", "dense", "2_4", "2_6", "2_8", "2_10"):
        cells = [cell(layer(scheme, name), layer("dense", name), "{:.1f}", 1e6) for name in ("gate_up", "down")]
        for model in ("Qwen2.5-7B", "Llama3.2-1B"):
            cells.append(cell(engine(scheme, model), engine("dense", model), "{:.2f}", 1e9))
        rows.append(f"| {' | '.join((scheme.replace('_', ':'), *cells))} |")
    table = SECTION.split("| scheme | gate_up, MB |")[1].split("\n\n")[0].splitlines()[2:]
    assert table == rows


def test_products_of_two_models_are_as_stored() -> None:
    """What the table has of baselines: tera-operations a second, and how many times as fast as dense."""
    cases = BaselineStore(ROOT / "baselines").load("nvidia-h200", "perf_tests/slidesparse/test_gemm").cases

    def seconds(scheme: str, model: str, layer: str, tokens: int) -> float:
        metrics = cases[f"test_gemm[{scheme}-{model}-{layer}-{tokens}]"].metrics
        return median(next(metric.values for metric in metrics if metric.name == "device_time"))

    table = (
        SECTION.split("| layer, tokens | dense INT8 | 2:4 | 2:6 | 2:8 | 2:10 |")[1].split("\n\n")[0].splitlines()[2:]
    )
    assert len(table) == 32
    sparse = {"int8-2_4": 2, "int8-2_6": 3 / 2, "int8-2_8": 4 / 3, "int8-2_10": 5 / 4}
    checked = 0
    for line in table:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        model, layer, tokens = re.fullmatch(r"(\S+) (\w+), (\d+)", name).groups()  # type: ignore[union-attr]
        if model == "Qwen2.5-7B" and layer in ("gate_up", "down") and tokens != "1024":
            continue  # One process: the baselines are of another day.
        shape = MODELS[model][layer]
        operations = 2 * int(tokens) * shape.inputs * shape.outputs / 1e12
        dense = seconds("int8-dense", model, layer, int(tokens))
        assert cells[0] == f"{operations / dense:.0f}", name
        for (scheme, ideal), cell in zip(sparse.items(), cells[1:], strict=True):
            if "*" in cell:
                continue  # One process.
            took = seconds(scheme, model, layer, int(tokens))
            ratio = dense / took
            told = f"{'n.p. ' if ratio > 1.1 * ideal else ''}{ratio:.2f}"
            assert cell == f"{operations / took:.0f} ({told})", (name, scheme)
            checked += 1
    assert checked >= 80


def test_what_was_searched_is_as_stored() -> None:
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_workloads.slidesparse.sparse_matmul.tuning import TUNABLE

    classes = {TUNABLE.shape_class(*shape) for shape in TUNABLE.shapes()}
    found = store.load(ROOT / "baselines", "nvidia-h200", TUNABLE.kernel)
    assert set(found) <= classes
    default = sum(each.config is None for each in found.values())
    told = f"{len(found)} of {len(classes)} classes, of which {default} say that the default is best:"
    assert f"Stored for an H200 are {told}" in TEXT
