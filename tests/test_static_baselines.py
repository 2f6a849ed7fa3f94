"""Has every launch that is compiled for this repository a baseline, and every baseline a launch?

A case without one is *new*, which fails nothing on a machine of one's own. Here it would be a launch that no gate looks
at: of a class that was tuned, say, and whose new configuration was not recorded.
"""

from __future__ import annotations

from pathlib import Path

from perfgate.baseline.store import BaselineStore

ROOT = Path(__file__).parent.parent
MODULE = "perf_tests/static/test_kernels"


def test_every_compiled_launch_has_a_baseline_and_the_other_way_round(collected):
    launches = {case.partition("::")[2] for case in collected(f"{MODULE}.py")}
    assert len(launches) > 100
    store = BaselineStore(ROOT / "baselines")
    recorded = [
        name
        for folder in sorted((ROOT / "baselines").glob("static-*"))
        for name in store.load(folder.name, MODULE).cases
    ]
    hint = "pytest perf_tests -m static --perf-update=new"
    assert launches - set(recorded) == set(), hint
    assert set(recorded) - launches == set(), "recorded, and compiled no more"
    # A target's cases are in its own folder.
    assert len(recorded) == len(set(recorded))
