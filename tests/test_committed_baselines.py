"""Can today's code still use every baseline of this repository?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from perfgate.baseline.store import BaselineStore
from perfgate.measure.case import METHOD_VERSION
from perfgate.static.figures import VERSION

ROOT = Path(__file__).parents[1]
STORE = BaselineStore(ROOT / "baselines")
KEYS = STORE.keys()
FILES = [(key, module) for key in KEYS for module in STORE.modules(key)]
#: How each clock measures now; with another method a baseline is stale, and nothing is compared with it. What cannot be
#: captured is queued, and copies that fit into the L2 cache are flushed out of it.
METHODS = {
    "device": [
        {"cache": cache, "clock": "device", "launch": launch, "memory": "requested"}
        for cache, launch in (("rotated", "graph"), ("flushed", "graph"), ("flushed", "queue"))
    ],
    "pedantic": [{"clock": "pedantic"}],
    "wall": [{"clock": "wall", "memory": "requested"}],
    "compiler": [{"clock": "compiler", "figures": str(VERSION)}],
}
#: Figures that a clock's method measures.
OF_A_CLOCK = frozenset({"device_time", "wall_time", "memory", "registers"})


def test_there_are_baselines() -> None:
    assert len(FILES) >= 12


@pytest.mark.parametrize(("key", "module"), FILES)
def test_baselines_can_be_read_and_are_of_todays_method(key: str, module: str) -> None:
    loaded = STORE.load(key, module)
    assert not loaded.damages
    for case, baseline in loaded.cases.items():
        if not baseline.method:
            # What a case records itself, or running out of memory, is no figure of a clock of ours, or of a compiler.
            assert not key.startswith("static-"), case
            assert OF_A_CLOCK.isdisjoint(metric.name for metric in baseline.metrics), case
            continue
        known = [{**method, "version": METHOD_VERSION} for method in METHODS[baseline.method["clock"]]]
        assert baseline.method in known, case


@pytest.mark.parametrize(("key", "module"), FILES)
def test_baselines_are_of_tests_that_exist(key: str, module: str) -> None:
    text = (ROOT / f"{module}.py").read_text(encoding="utf-8")
    for case in STORE.load(key, module).cases:
        name = case.split("[")[0].split("::")[-1]
        assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{module} has no {name}"


def test_pools_of_calibrations_can_be_read() -> None:
    from perfgate.calibrate import store

    paths = sorted(ROOT.glob("baselines/*/calibration/*.json"))
    assert {path.parts[-3].split("-")[0] for path in paths} == {"cpu", "nvidia"}
    readme = (ROOT / "tests" / "twins" / "README.md").read_text(encoding="utf-8")
    for path in paths:
        pool = store.load(path)
        assert pool is not None
        # It says of how many processes its figures are, and links them.
        told = [part for part in readme.split("\n\n") if f"(../../{path.relative_to(ROOT).as_posix()})" in part]
        assert [f"{len(pool.processes)} processes" in " ".join(part.split()) for part in told] == [True]
