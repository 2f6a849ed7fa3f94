"""Does a baseline come back as it was written, in a text that suits review and git?"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perfgate
from perfgate.baseline import BaselineStore
from perfgate.baseline.check import Origin, examine
from perfgate.baseline.format import dump, dump_case, dump_environment, environment_id, rounded
from perfgate.model import Baseline, Outcome, StoredMetric

SCHEMA = json.loads(Path(perfgate.__file__).with_name("schema").joinpath("baseline.schema.json").read_text())
KEY, MODULE = "nvidia-h200", "perf_tests/test_x"

TIME = StoredMetric("device_time", "s", "lower", (1.7123456e-06, 1.70e-06), 0.01234567, {"sm_clock": (1.98e9, 1.975e9)})
PEAK = StoredMetric("peak_allocated", "B", "lower", (1234567.0, 1234567.0))


def make(case: str = "test_y", *metrics: StoredMetric, torch: str = "2.13.0", commit: str = "1c2d3e4") -> Baseline:
    return Baseline(
        case,
        Outcome.PASSED,
        metrics or (TIME, PEAK),
        {"version": "1", "clock": "device"},
        {"torch": torch, "driver": "580.1"},
        commit,
        "2026-01-31T12:00:00Z",
    )


def scaled(case: str, factor: float, **changes: str) -> Baseline:
    """Give a case that was recorded again: every figure is another one."""
    time = dataclasses.replace(TIME, values=tuple(value * factor for value in TIME.values))
    peak = dataclasses.replace(PEAK, values=tuple(value + round(factor) for value in PEAK.values))
    return make(case, time, peak, **changes)


def test_text_of_a_file(tmp_path: Path) -> None:
    path = BaselineStore(tmp_path).merge(KEY, MODULE, {"test_y[\u00e9]": make(), "TestA::test_b": make()})
    assert path == tmp_path / "nvidia-h200" / "perf_tests" / "test_x.json"
    case = """{
      "outcome": "passed",
      "recorded": {"date": "2026-01-31T12:00:00Z", "commit": "1c2d3e4", "environment": "9a08bfc58375"},
      "method": {"clock": "device", "version": "1"},
      "metrics": {
        "device_time": {"unit": "s", "better": "lower", "values": [1.71235e-06, 1.7e-06], "spread": 0.0123457, \
"speeds": {"sm_clock": [1980000000, 1975000000]}},
        "peak_allocated": {"unit": "B", "better": "lower", "values": [1234567, 1234567]}
      }
    }"""
    assert path.read_bytes().decode("ascii") == (
        '{\n  "schema": 1,\n  "key": "nvidia-h200",\n'
        '  "environments": {\n    "9a08bfc58375": {"driver": "580.1", "torch": "2.13.0"}\n  },\n'
        f'  "cases": {{\n    "TestA::test_b": {case},\n    "test_y[\\u00e9]": {case}\n  }}\n}}\n'
    )


def test_text_of_a_case_that_has_no_figures(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    baseline = dataclasses.replace(make("test_y"), outcome=Outcome.OUT_OF_MEMORY, metrics=())
    path = store.merge(KEY, MODULE, {"test_y": baseline})
    assert '      "metrics": {}\n' in path.read_text()
    assert store.load(KEY, MODULE).cases == {"test_y": baseline}


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([1.23456789e-05, 2e-05], "[1.23457e-05, 2e-05]"),
        ([1234567891.0, 3.0], "[1234567891, 3]"),
        ([-0.0, 1.5], "[0, 1.5]"),
        ([1234567.5, 1.0], "[1234570, 1]"),
        ([0.123456789, 0.123456789], "[0.123456789, 0.123456789]"),
        ([0.123456789], "[0.123456789]"),
        ([1.23456789e25, 1.0], "[1.23457e+25, 1]"),
    ],
)
def test_rounding(values: list[float], written: str) -> None:
    assert json.dumps(rounded(values)) == written


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=6))
def test_rounding_is_close_and_final(values: list[float]) -> None:
    once = [float(value) for value in rounded(values)]
    assert rounded(once) == once
    assert all(math.isclose(new, old, rel_tol=5.1e-6, abs_tol=1e-320) for new, old in zip(once, values, strict=True))


names = st.text(min_size=1, max_size=8)
texts = st.dictionaries(names, st.text(max_size=8), max_size=3)


@st.composite
def metrics(draw: st.DrawFn, name: str) -> StoredMetric:
    unit = draw(st.sampled_from(["s", "B", "1", "s/token", "é"]))
    processes = draw(st.integers(1, 4))
    figures = st.floats(0, 1e7) if unit.startswith("s") else st.floats(-1e30, 1e30)
    speeds = st.lists(st.floats(1e-9, 1e30), min_size=processes, max_size=processes).map(tuple)
    return StoredMetric(
        name,
        unit,
        draw(st.sampled_from(["lower", "higher"])),
        tuple(draw(st.lists(figures, min_size=processes, max_size=processes))),
        draw(st.none() | st.floats(0, 100)),
        draw(st.dictionaries(names, speeds, max_size=2)),
    )


@st.composite
def baselines(draw: st.DrawFn) -> dict[str, Baseline]:
    result = {}
    for case in draw(st.lists(names, max_size=3, unique=True)):
        stored = tuple(draw(metrics(name)) for name in sorted(draw(st.sets(names, min_size=1, max_size=3))))
        outcome = draw(st.sampled_from(Outcome))
        result[case] = Baseline(case, outcome, stored, draw(texts), draw(texts), draw(names), draw(names))
    return result


@settings(max_examples=60, deadline=None)
@given(baselines())
def test_round_trip_is_exact_after_the_first_rounding(cases: dict[str, Baseline]) -> None:
    def text_of(wanted: dict[str, Baseline]) -> str:
        taken: dict[str, dict[str, str]] = {}
        entries = []
        for case, baseline in wanted.items():
            name = environment_id(baseline.environment, taken)
            taken[name] = dict(baseline.environment)
            entries.append((case, dump_case(baseline, name)))
        return dump(KEY, [(name, dump_environment(each)) for name, each in taken.items()], entries)

    text = text_of(cases)
    contents = examine(text.encode("ascii"), Origin("f", KEY, MODULE))
    assert contents.damages == ()
    assert contents.cases.keys() == cases.keys()
    for case, baseline in cases.items():
        read = contents.cases[case]
        assert dataclasses.replace(read, metrics=()) == dataclasses.replace(baseline, metrics=())
        for new, old in zip(read.metrics, baseline.metrics, strict=True):
            assert (new.name, new.unit, new.better) == (old.name, old.unit, old.better)
            assert list(new.values) == rounded(old.values)
            assert {name: list(values) for name, values in new.speeds.items()} == {
                name: rounded(values) for name, values in old.speeds.items()
            }
    assert text_of(dict(contents.cases)) == text
    jsonschema.validate(json.loads(text), SCHEMA)


def test_environment_is_shared_and_dropped_with_its_last_case(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    path = store.merge(KEY, MODULE, {"a": make("a"), "b": make("b"), "c": make("c", torch="2.14.0")})
    environments = json.loads(path.read_text())["environments"]
    assert sorted(each["torch"] for each in environments.values()) == ["2.13.0", "2.14.0"]
    store.merge(KEY, MODULE, {"c": make("c")})
    environments = json.loads(path.read_text())["environments"]
    assert [each["torch"] for each in environments.values()] == ["2.13.0"]


def test_two_environments_never_share_an_id(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    path = store.merge(KEY, MODULE, {"a": make("a")})
    path.write_text(path.read_text().replace("2.13.0", "edited"))
    store.merge(KEY, MODULE, {"b": make("b")})
    cases = store.load(KEY, MODULE).cases
    assert (cases["a"].environment["torch"], cases["b"].environment["torch"]) == ("edited", "2.13.0")


def test_recording_one_case_again_changes_few_lines(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    path = store.merge(KEY, MODULE, {name: make(name) for name in "abcde"})
    before = path.read_text().splitlines()
    store.merge(KEY, MODULE, {"c": scaled("c", 1.5, commit="fffffff")})
    diff = list(difflib.unified_diff(before, path.read_text().splitlines(), n=0, lineterm=""))[2:]
    assert sum(line.startswith("+") for line in diff) == 3
    assert sum(line.startswith("-") for line in diff) == 3


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_branches_that_record_different_cases_merge_without_conflict(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path / "baselines")
    path = store.merge(KEY, MODULE, {name: make(name) for name in "bdf"})
    base = tmp_path / "base.json"
    base.write_bytes(path.read_bytes())
    store.merge(KEY, MODULE, {"b": scaled("b", 1.5, commit="aaaaaaa"), "a": make("a", commit="aaaaaaa")})
    ours = tmp_path / "ours.json"
    ours.write_bytes(path.read_bytes())
    path.write_bytes(base.read_bytes())
    store.merge(KEY, MODULE, {"d": scaled("d", 2.5, commit="bbbbbbb"), "e": make("e", commit="bbbbbbb")})
    merged = subprocess.run(["git", "merge-file", "-p", ours, base, path], capture_output=True, check=False)
    assert merged.returncode == 0, merged.stdout.decode()
    path.write_bytes(merged.stdout)
    loaded = store.load(KEY, MODULE)
    assert loaded.damages == ()
    commits = {name: baseline.commit for name, baseline in loaded.cases.items()}
    assert commits == {
        "a": "aaaaaaa",
        "b": "aaaaaaa",
        "d": "bbbbbbb",
        "e": "bbbbbbb",
        "f": "1c2d3e4",
    }


@pytest.mark.parametrize("change", [{"schema": 2}, {"extra": 1}, {"key": None}, {"cases": []}])
def test_schema_refuses_what_the_reader_refuses_at_the_top(change: dict[str, object]) -> None:
    document = {"schema": 1, "key": KEY, "environments": {}, "cases": {}}
    jsonschema.validate(document, SCHEMA)
    document |= change
    assert examine(json.dumps(document).encode(), Origin("f", KEY, MODULE)).damages
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)
