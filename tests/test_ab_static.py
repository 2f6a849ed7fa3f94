"""Does a comparison with a commit catch compiled code that became worse, on a machine without a GPU?"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

KERNEL = """
import torch
import triton
import triton.language as tl


@triton.jit
def copy(x_ptr, y_ptr, stride, TILE: tl.constexpr):
    offsets = tl.arange(0, TILE)
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets * stride))


def launch(x):
    copy[(1,)](x, torch.empty(4096, device=x.device), x.stride(0), 4096, num_warps=4)


LAUNCHES = {
    "contiguous": lambda: launch(torch.empty(4096, device="cuda")),
    "rows": lambda: launch(torch.empty(8192, device="cuda")[:4096]),
}
"""
#: A launcher that no longer makes its tensor contiguous loses every wide access.
NARROWER = KERNEL.replace('(8192, device="cuda")[:4096]', '(8192, device="cuda")[::2]')
CASES = """
import pytest

@pytest.mark.static("ours.kernels", targets=("sm90",))
def test_copy(compiled):
    assert compiled.kernel.code.instructions > 0
"""


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_narrower_loads_are_a_regression(tmp_path: Path) -> None:
    package = tmp_path / "ours"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "kernels.py").write_text(KERNEL)
    (tmp_path / "test_code.py").write_text(CASES)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    (tmp_path / ".gitignore").write_text("__pycache__\ncache\nrun.json\n")
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    assert NARROWER != KERNEL
    (package / "kernels.py").write_text(NARROWER)

    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "TRITON"))}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TRITON_CACHE_DIR": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-P", "-m", "pytest", "-p", "benchmark", "-p", "perfgate", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--perf-ab=main", "--perf-json=run.json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    cases = {case["id"]: case for case in json.loads((tmp_path / "run.json").read_text())["cases"]}
    assert {name: (case["verdict"], case["processes"]) for name, case in cases.items()} == {
        "test_code.py::test_copy[contiguous-sm90]": ("unchanged", 1),
        "test_code.py::test_copy[rows-sm90]": ("regressed", 1),
    }
    told = r"mean width of global loads 16 B -> 4 B, .*loads of at most 4 bytes 0 -> \d+.* on sm90"
    reason = cases["test_code.py::test_copy[rows-sm90]"]["reason"]
    assert re.search(told, reason), reason
    assert "1 regressed, 1 unchanged on static-sm90" in done.stdout
