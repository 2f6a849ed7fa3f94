"""Is a function that became 10 % slower caught, with a real clock, and a refactoring left alone?

A try starts 8 to 24 processes that time a function of about 1 ms, so the tests run only when asked for:
``PERFGATE_AB_TRIES=20 pytest -s tests/test_ab_acceptance.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRIES = int(os.environ.get("PERFGATE_AB_TRIES", "0"))
WORK = """
def summary(n=9000):
    rows = {}
    for i in range(n):
        key = i % 97
        rows[key] = rows.get(key, 0) + i * i % 7
    return sorted(rows.values())
"""
REFACTORED = '''
"""Sums by remainder."""


def summary(count: int = 9000) -> list[int]:
    """Sum a remainder of squares in groups, and sort the sums."""
    sums: dict[int, int] = {}
    for number in range(count):
        group = number % 97
        sums[group] = sums.get(group, 0) + number * number % 7
    return sorted(sums.values())
'''
CHANGES = {
    "slower": {"src/ours/work.py": WORK.replace("9000", "9900")},
    "refactored": {"src/ours/sums.py": REFACTORED, "src/ours/work.py": "from ours.sums import summary as summary\n"},
}
FILES = {
    "src/ours/__init__.py": "",
    "src/ours/work.py": WORK,
    "tests/test_speed.py": "from ours.work import summary\n\n\ndef test_summary(benchmark):\n    benchmark(summary)\n",
    "pyproject.toml": '[tool.pytest]\npythonpath = ["src"]\n',
    ".gitignore": "*.json\n__pycache__\n.pytest_cache\n",
}


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.skipif(not TRIES, reason="takes half a minute a try: PERFGATE_AB_TRIES=20 runs it")
@pytest.mark.parametrize(("change", "verdict"), [("slower", "regressed"), ("refactored", "unchanged")])
@pytest.mark.parametrize("number", range(TRIES or 1))
def test_a_plain_benchmark_under_git(tmp_path, change, verdict, number):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    put(tmp_path, FILES)
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], cwd=tmp_path, check=True)
    subprocess.run([*git, "add", "--all"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "one"], cwd=tmp_path, check=True)
    put(tmp_path, CHANGES[change])
    command = [sys.executable, "-P", "-m", "pytest", "-q", "--perf-ab=main", "--perf-json=run.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    case = json.loads((tmp_path / "run.json").read_text())["cases"][0]
    print(number, change, case["verdict"], case["processes"], case["metrics"][0]["change"])
    assert case["verdict"] == verdict, done.stdout
    assert done.returncode == (1 if change == "slower" else 0)
