"""Has every launch that is compiled for this repository a baseline, and every baseline a launch?

A case without one is *new*, which fails nothing on a machine of one's own. Here it would be a launch that no gate looks
at: of a class that was tuned, say, and whose new configuration was not recorded.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from perfgate.baseline.store import BaselineStore

ROOT = Path(__file__).parent.parent
MODULE = "perf_tests/static/test_kernels"


def test_every_compiled_launch_has_a_baseline_and_the_other_way_round():
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", f"{MODULE}.py"]
    listed = subprocess.run(pytest, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    collected = {line.partition("::")[2] for line in listed.splitlines() if "::" in line}
    assert len(collected) > 100
    store = BaselineStore(ROOT / "baselines")
    recorded = [
        name
        for folder in sorted((ROOT / "baselines").glob("static-*"))
        for name in store.load(folder.name, MODULE).cases
    ]
    hint = "pytest perf_tests -m static --perf-update=new"
    assert collected - set(recorded) == set(), hint
    assert set(recorded) - collected == set(), "recorded, and compiled no more"
    # A target's cases are in its own folder.
    assert len(recorded) == len(set(recorded))
