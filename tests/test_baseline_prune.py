"""Are only those baselines removed that no test uses any more?"""

from __future__ import annotations

from pathlib import Path

import pytest

from perfgate.baseline import BaselineStore, Unused, damaged, remove, unused
from perfgate.model import Baseline, Outcome, StoredMetric

COLLECTED = {"perf_tests/test_x": {"test_a", "test_new"}}


def make(case: str) -> Baseline:
    metrics = (StoredMetric("device_time", "s", "lower", (1.5,)),)
    return Baseline(case, Outcome.PASSED, metrics, {}, {"torch": "2.13.0"}, "1c2d3e4", "2026-01-31")


def exists(module: str) -> bool:
    return module in {"perf_tests/test_x", "perf_tests/test_deselected"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BaselineStore:
    monkeypatch.chdir(tmp_path)
    store = BaselineStore(tmp_path / "baselines")
    for key in ("cpu", "nvidia-h200"):
        for module in ("perf_tests/test_x", "perf_tests/test_deselected", "perf_tests/gone/test_z"):
            store.merge(key, module, {name: make(name) for name in ("test_a", "test_c", "test_b")})
    return store


UNUSED_ON_CPU = [
    Unused("cpu", "perf_tests/gone/test_z", None),
    Unused("cpu", "perf_tests/test_x", "test_b"),
    Unused("cpu", "perf_tests/test_x", "test_c"),
]


def test_unused(store: BaselineStore) -> None:
    on_gpu = [item._replace(key="nvidia-h200") for item in UNUSED_ON_CPU]
    assert unused(store, COLLECTED, exists) == UNUSED_ON_CPU + on_gpu
    assert unused(store, COLLECTED, exists, keys=["cpu"]) == UNUSED_ON_CPU


def test_remove(store: BaselineStore) -> None:
    assert remove(store, UNUSED_ON_CPU) == UNUSED_ON_CPU
    assert unused(store, COLLECTED, exists, keys=["cpu"]) == []
    assert store.modules("cpu") == ("perf_tests/test_deselected", "perf_tests/test_x")
    assert not (store.root / "cpu" / "perf_tests" / "gone").exists()
    assert store.load("cpu", "perf_tests/test_x").cases == {"test_a": make("test_a")}
    assert len(store.load("cpu", "perf_tests/test_deselected").cases) == 3
    assert len(store.load("nvidia-h200", "perf_tests/test_x").cases) == 3
    assert remove(store, UNUSED_ON_CPU) == []


def test_module_of_which_no_case_is_left(store: BaselineStore) -> None:
    items = unused(store, {"perf_tests/test_x": set()}, exists, keys=["cpu"])
    assert remove(store, items) == items
    assert store.modules("cpu") == ("perf_tests/test_deselected",)


def test_file_without_entries_of_a_module_that_is_gone(store: BaselineStore) -> None:
    path = store.path("cpu", "perf_tests/gone/test_z")
    path.write_text('{"schema": 1, "key": "cpu", "environments": {}, "cases": {}}')
    item = Unused("cpu", "perf_tests/gone/test_z", None)
    assert remove(store, [item]) == [item]
    assert not path.exists()


def test_damaged_files_are_left_alone_and_named(store: BaselineStore) -> None:
    whole = store.path("cpu", "perf_tests/gone/test_z")
    whole.write_text("<<<<<<< HEAD\n")
    entry = store.path("cpu", "perf_tests/test_x")
    entry.write_text(entry.read_text().replace('"passed"', '"pased"', 1))
    before = whole.read_bytes(), entry.read_bytes()
    assert unused(store, COLLECTED, exists, keys=["cpu"]) == []
    assert remove(store, UNUSED_ON_CPU) == []
    assert (whole.read_bytes(), entry.read_bytes()) == before
    assert [str(damage) for damage in damaged(store, keys=["cpu"])] == [
        "baselines/cpu/perf_tests/gone/test_z.json: merge-conflict marker <<<<<<< in line 1",
        "baselines/cpu/perf_tests/test_x.json: test_a: outcome: must be one of passed, failed, skipped, "
        'out_of_memory, illegal_access, compile_error, unsupported, crashed, timed_out; is "pased"',
    ]
    assert damaged(store, keys=["nvidia-h200"]) == []
