"""Does every case, test and column that the README of serving names exist?"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from perf_workloads.slidesparse import MODELS, command
from perf_workloads.slidesparse.serving import models, report, results
from perf_workloads.slidesparse.serving.workloads import POINTS
from perfgate.tune import store

#: Columns of slid weights over those of dense ones.
SLID = {"int8-2_4-bf16": 1.0, "int8-2_8-bf16": 1.5}
MODEL, TOKENS = "Qwen2.5-7B", 16384
ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "perf_tests" / "slidesparse"
SECTION = (FOLDER / "README.md").read_text(encoding="utf-8").split("\n## Serving\n")[1].split("\n## ")[0]


NAMED_TESTS = set(re.findall(r"`(tests/test_\w+\.py::test_\w+)`", SECTION))
CASES = "perf_tests/slidesparse/test_serving.py"


@pytest.fixture(scope="module")
def named_and_collected(collected: Callable[..., frozenset[str]]) -> frozenset[str]:
    """Give the ids of the cases of serving, and of the files whose tests are named."""
    return collected(CASES, *sorted({name.split("::")[0] for name in NAMED_TESTS}))


def test_named_cases_exist(named_and_collected: frozenset[str]) -> None:
    cases = {case.split("::")[1] for case in named_and_collected if case.startswith(CASES)}
    named = set(re.findall(r"`(test_\w+(?:\[[^`]+\])?)`", SECTION))
    functions = {case.split("[")[0] for case in cases}
    assert {name for name in named if "[" not in name} - functions == set()
    schemes = (*models.COMPARED, models.VLLM_INT8)
    wanted = {
        name.replace("{model}", model)
        .replace("{scheme}", scheme)
        .replace("{stage}", point.stage)
        .replace("{tokens}", str(point.tokens))
        for name in named
        if "[" in name
        for model, scheme, point in itertools.product(models.PUBLISHED, schemes, POINTS)
        if "{stage}" in name or f"-{point.stage}-" in name
    }
    assert len(wanted) == 4 * 8 * 12
    assert wanted - cases == set()


def test_named_tests_exist(named_and_collected: frozenset[str]) -> None:
    assert len(NAMED_TESTS) == 6
    assert NAMED_TESTS - {case.split("[")[0] for case in named_and_collected} == set()


def test_named_columns_exist() -> None:
    cells = [row.split("|")[4] for row in SECTION.split("in `serving.csv` |")[1].splitlines() if row.count("|") == 5]
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    head = report.to_csv(report.Table("h200", [], [], []), {}).strip().split(",")
    assert {"status", "speedup", "prompt_tokens_per_s"} <= named
    assert named - set(head) == set()


@pytest.mark.parametrize(
    "line", re.findall(r"^perfgate-slidesparse ((?:serve|report|baseline).*)$", SECTION.replace("\\\n", ""), re.M)
)
def test_commands_are_understood(line: str) -> None:
    command._parser().parse_args(line.split("#")[0].split())


def test_why_2_8_is_slower_is_what_is_stored() -> None:
    """Milliseconds of passes from results, and those of their products from what the search timed."""
    stands = results.standing(results.read(FOLDER / "results" / "serving.jsonl"))
    classes = store.load(ROOT / "baselines", "nvidia-h200", "sparse_matmul")

    def pass_ms(scheme: str) -> float:
        key = results.Key("nvidia-h200", MODEL, scheme, "prefill", TOKENS)
        return stands[key].figures["median_pass_s"] * 1e3

    def products_ms(scheme: str) -> float:
        found = [
            classes[f"int8-to-bf16-{layer.outputs}x{int(layer.inputs * SLID[scheme])}-{TOKENS}"]
            for layer in MODELS[MODEL].values()
        ]
        return sum(each.config_s for each in found) * models.CONFIGS[MODEL]["num_hidden_layers"] * 1e3

    products = {scheme: products_ms(scheme) for scheme in SLID}
    passes = {scheme: pass_ms(scheme) for scheme in ("int8-dense", *SLID)}
    few, many = SLID
    left = [passes[scheme] - products[scheme] for scheme in SLID]
    wanted = passes["int8-dense"] / 1.1
    text = " ".join(SECTION.split())
    for told in (
        f"take {products[many]:.0f} ms (2:8) and {products[few]:.0f} ms (2:4)",
        f"the passes took {passes[many]:.0f} and {passes[few]:.0f} ms, and the dense one {passes['int8-dense']:.0f}",
        f"The {passes[many] - passes[few]:.0f} ms between the passes are the {products[many] - products[few]:.0f} ms",
        f"what is left, {left[0]:.0f} ms, is the same",
        f"a pass of {wanted:.0f} ms, which leaves {wanted - products[many]:.0f} ms",
    ):
        assert told in text, told
    assert abs(left[0] - left[1]) < 1
