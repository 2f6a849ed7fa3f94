"""Is the repository root kept off the path, where its folder ``kernels`` would pass for an installed package?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CASE = """
import importlib.util, sys
from pathlib import Path

def test_path():
    found = importlib.util.find_spec("kernels")
    ours = found is not None and str(Path.cwd() / "kernels") in (found.submodule_search_locations or [])
    assert not ours, "the folder kernels shadows the package"
    {more}
"""
IMPORTS = "from transformers import AutoModelForCausalLM, Qwen3ForCausalLM"


def run_in_copy(folder: Path, command: list[str], *, conftest: bool, more: str = "pass") -> tuple[int, str]:
    """Run a test in a folder laid out like the repository, with or without its ``conftest.py``."""
    (folder / "kernels" / "perf_kernels").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[tool.pytest]\npythonpath = ["kernels"]\n')
    (folder / "test_path.py").write_text(CASE.format(more=more))
    if conftest:
        shutil.copy(ROOT / "conftest.py", folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PERFGATE_"))}
    environment["PYTHONPATH"] = ""
    run = subprocess.run(
        [*command, "-q", "--import-mode=importlib"], cwd=folder, env=environment, capture_output=True, text=True
    )
    return run.returncode, run.stdout + run.stderr


def test_python_m_pytest_leaves_the_name_kernels_to_the_package_and_transformers_imports(tmp_path):
    pytest.importorskip("transformers")
    code, output = run_in_copy(tmp_path, [sys.executable, "-m", "pytest"], conftest=True, more=IMPORTS)
    assert code == 0, output


def test_without_the_conftest_python_m_pytest_falls_into_the_trap(tmp_path):
    code, output = run_in_copy(tmp_path, [sys.executable, "-m", "pytest"], conftest=False)
    assert code == 1, output
    assert "the folder kernels shadows the package" in output
