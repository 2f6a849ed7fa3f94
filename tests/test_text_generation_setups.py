"""Which setups, configurations and cases are there, what are they called, and what is refused?"""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

from perf_workloads.text_generation import Configuration, GenerationSetup
from perf_workloads.text_generation.grid import EVERYTHING, ON_CPU, PUBLISHED, QWEN3_4B, SELECTED, Case, Point

ROOT = Path(__file__).resolve().parents[1]


def test_labels_name_method_backend_cache_mode_and_point():
    setup = GenerationSetup("qwen3-4b", "float16", method="int4-gptq", backend="triton")
    configuration = Configuration(setup, "static", "graph")
    assert setup.label == "int4-gptq-triton"
    assert configuration.label == "int4-gptq-triton-static-graph"
    assert Case(configuration, Point(26, 100, batch=8)).label == "int4-gptq-triton-static-graph-b8-26-100"
    assert Configuration(GenerationSetup("qwen3-4b", "float32")).label == "fp32-torch-dynamic-eager"


def test_an_unknown_model_is_an_error():
    with pytest.raises(ValueError) as error:
        GenerationSetup("qwen9")
    assert str(error.value) == "unknown model 'qwen9': the known ones are qwen3-4b, tiny-qwen3"


def test_a_backend_that_cannot_serve_a_method_is_an_error():
    with pytest.raises(ValueError) as error:
        GenerationSetup("qwen3-4b", method="int8-dynamic", backend="rebuild")
    assert str(error.value) == "no backend 'rebuild' for int8-dynamic: there are int-mm, triton"


@pytest.mark.parametrize(
    ("setup", "cache", "mode", "message"),
    [
        (GenerationSetup("qwen3-4b", backend="triton"), "dynamic", "graph", "mode 'graph' needs the static cache"),
        (GenerationSetup("qwen3-4b"), "dynamic", "compile", "mode 'compile' needs the static cache"),
        (GenerationSetup("qwen3-4b"), "static", "graph", "mode 'graph' needs the backend 'triton'"),
    ],
)
def test_a_mode_that_cannot_be_captured_is_an_error(setup, cache, mode, message):
    with pytest.raises(ValueError) as error:
        Configuration(setup, cache, mode)
    assert str(error.value) == message


def test_the_published_grid_is_complete():
    """Three methods, two prompts, two lengths: as in the published run, one sequence, eager, dynamic cache."""
    assert sorted(case.label for case in PUBLISHED) == sorted(
        f"{method}-dynamic-eager-b1-{input_tokens}-{new_tokens}"
        for method in ("fp16-torch", "int8-weight-only-rebuild", "int4-gptq-rebuild")
        for input_tokens in (3, 26)
        for new_tokens in (50, 100)
    )


def test_everything_is_every_method_cache_mode_prompt_length_and_batch():
    cases = [case.label for case in EVERYTHING]
    assert len(cases) == len(set(cases))
    of_setup = Counter(case.configuration.setup.label for case in EVERYTHING)
    points = 3 * 2 * 2
    assert of_setup == {
        # Outside of graphs a dense model is the same under both names.
        label: points if label in ("fp16-triton", "bf16-triton") else 3 * points
        for label in QWEN3_4B
    }
    assert {case.configuration.setup.method for case in EVERYTHING} == {
        "dense",
        "int8-weight-only",
        "int8-dynamic",
        "fp8",
        "int4-gptq",
    }


def test_default_cases_are_not_run_twice_and_every_method_runs_captured():
    default = [case.label for case in (*PUBLISHED, *SELECTED)]
    assert len(default) == len(set(default))
    captured = {case.configuration.setup.label for case in SELECTED if case.configuration.mode == "graph"}
    assert captured == {label for label in QWEN3_4B if label.endswith("-triton")}
    assert {case.configuration.setup.device for case in ON_CPU} == {"cpu"}


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_skips_with_the_line_that_installs_it(package, monkeypatch):
    spec = importlib.util.spec_from_file_location("cases_conftest", ROOT / "perf_tests" / "conftest.py")
    shared = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shared)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(pytest.skip.Exception) as skip:
        shared.require(package)
    assert str(skip.value) == f"{package} is not installed: pip install -e '.[suite]'"
