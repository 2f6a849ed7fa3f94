"""Does the table of products and layers say which cases have a baseline, of exactly those that there are?"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from perf_workloads.slidesparse import command, grid

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "perf_tests" / "slidesparse" / "results" / "grid.md"
TABLE = """\
| model | layer | int8-2_4-bf16 | int8-2_8-bf16 |
|---|---|---|---|
| Qwen2.5-7B | qkv | 2 | - |
| Qwen2.5-7B | o, gate_up, down | - | - |
"""


def test_cases_are_those_that_pytest_collects(cases_of: Callable[..., set[str]]) -> None:
    collected = cases_of(*(f"{cases.module}.py" for cases in grid.GRID))
    for cases in grid.GRID:
        names = {case for case in collected if case.startswith(f"{cases.function}[")}
        assert sorted(cases.all_names()) == sorted(names)


def test_a_table_counts_what_is_stored() -> None:
    names = [f"test_scaled_gemm[int8-2_4-bf16-Qwen2.5-7B-qkv-{tokens}]" for tokens in (64, 16384, 7)]
    text = grid.markdown("h200", {"perf_tests/slidesparse/test_gemm": names})
    assert text.startswith("# Products and layers with a baseline on h200\n")
    assert "\n## `test_gemm`: 0 of 1760\n" in text
    numbers = "Numbers of tokens: 64, 8192, 16384; with baselines: 64, 16384.\n"
    assert f"\n## `test_scaled_gemm`: 2 of 24\n\n{numbers}\n{TABLE}\n" in text
    assert text.count("; with baselines: none.\n") == 3


def test_the_stored_table_is_of_the_stored_baselines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "grid.md"
    arguments = ["grid", "--device", "nvidia-h200", "--baselines", str(ROOT / "baselines")]
    assert command.main([*arguments, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text() == STORED.read_text()
    assert command.main(arguments) == 0
    assert capsys.readouterr().out == f"{out.read_text()}\n"


def test_the_readme_tells_how_many_there_are() -> None:
    text = " ".join((ROOT / "perf_tests" / "slidesparse" / "README.md").read_text().split())
    counts = dict(re.findall(r"^## `(\w+)`: (\d+) of", STORED.read_text(), re.M))
    products = int(counts["test_gemm"]) + int(counts["test_scaled_gemm"])
    layers = int(counts["test_linear_layer"]) + int(counts["test_scaled_linear_layer"])
    assert f"**What has a baseline**, {products} products and {layers} layers," in text


def test_a_damaged_file_is_not_taken_for_absent_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "h200" / "perf_tests" / "slidesparse" / "test_gemm.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert command.main(["grid", "--device", "h200", "--baselines", str(tmp_path)]) == 1
    assert str(file) in capsys.readouterr().err
