"""A stored run: what is written satisfies the schema and comes back, and what cannot be read says why."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import stat
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perfgate
from perfgate.errors import RunFileError
from perfgate.model import (
    CaseResult,
    Device,
    Hardware,
    MetricVerdict,
    Outcome,
    Reported,
    Run,
    Verdict,
    Work,
)
from perfgate.report import conform, run_file, terminal

SCHEMA = conform.load(run_file.SCHEMA_FILE)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
AGAIN = "hint: write it again with: pytest --benchmark-compare --perf-json=FILE"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
text_maps = st.dictionaries(texts, texts, max_size=3)
finite = st.floats(allow_nan=False, allow_infinity=False)
optional = st.none() | finite
whole = st.integers(0, 2**60)
plain = st.recursive(
    st.none() | st.booleans() | finite | st.integers(-(2**60), 2**60) | texts,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(texts, part, max_size=3),
    max_leaves=5,
)


def metrics(figure: st.SearchStrategy[Any], value: st.SearchStrategy[Any]) -> st.SearchStrategy[MetricVerdict]:
    return st.builds(
        MetricVerdict,
        name=texts, unit=texts, value=value, verdict=st.sampled_from(Verdict),
        better=st.sampled_from(["lower", "higher"]), baseline=figure, change=figure, low=figure, high=figure,
        limit=figure, relative=st.booleans(), reason=texts, detectable=figure,
        values=st.lists(value, max_size=3).map(tuple), baseline_values=st.lists(value, max_size=3).map(tuple),
    )  # fmt: skip


def runs(figure: st.SearchStrategy[Any], value: st.SearchStrategy[Any]) -> st.SearchStrategy[Run]:
    cases = st.builds(
        CaseResult,
        case=texts, key=texts, verdict=st.sampled_from(Verdict), outcome=st.sampled_from(Outcome), processes=whole,
        reason=texts, metrics=st.lists(metrics(figure, value), max_size=2).map(tuple),
        work=st.none() | st.builds(Work, figure, figure), copy_bandwidth=figure, method=text_maps,
        conditions=st.dictionaries(texts, plain, max_size=3), failed=st.booleans(), notes=text_maps,
        reported=st.lists(st.builds(Reported, texts, texts, value), max_size=2).map(tuple),
        environment=text_maps, baseline_environment=text_maps, baseline_notes=text_maps, baseline_commit=texts,
        baseline_date=texts, kernel_differences=st.lists(texts, max_size=2).map(tuple),
        attached=text_maps,
    )  # fmt: skip
    devices = st.builds(
        Device,
        kind=st.sampled_from(["cuda", "rocm", "cpu"]), name=texts, key=texts, memory_bytes=whole,
        capability=st.none() | st.tuples(whole, whole), arch=st.none() | texts, power_limit_w=figure,
        mig=st.none() | texts, count=whole,
    )  # fmt: skip
    several = st.lists(texts, max_size=2).map(tuple)
    return st.builds(
        Run,
        hardware=st.builds(
            Hardware, st.lists(devices, max_size=2).map(tuple), st.dictionaries(texts, text_maps, max_size=2)
        ),
        results=st.lists(cases, max_size=3).map(tuple), software=text_maps, started=texts, duration_s=value,
        commit=texts, compared=st.booleans(), recorded=several, files=several, unused=several, problems=several,
        command=texts, base=texts, base_commit=texts, remarks=several,
    )  # fmt: skip


def sample() -> Run:
    gpu = Device("cuda", "NVIDIA H200", "nvidia-h200", 2**37, (9, 0), None, 700.0, None, 2)
    time = MetricVerdict(
        "device_time", "s", 31.2e-6, Verdict.REGRESSED, "lower", 30e-6, 0.04, 0.031, 0.049, 0.02, True, "slower", 0.012,
        (31.2e-6, 31.3e-6), (30e-6,),
    )  # fmt: skip
    case = CaseResult(
        "a.py::t[1]", "nvidia-h200", Verdict.REGRESSED, Outcome.PASSED, 4, "slower", (time,), Work(1e8, None), 4.16e12,
        {"clock": "device"}, {"sm_clock_mhz": [1755, 1980]}, True, {"rows": "num_warps=8 (tuned)"},
        (Reported("load_time", "s", 1.5),), {"torch": "2.13.0"}, {"torch": "2.11.0"}, {"rows": "num_warps=4 (default)"},
        "0a1b2c3", "2026-01-30T12:00:00Z", ("kernel rows: registers 40 -> 64",), {"report.md": "# Rows\n"},
    )  # fmt: skip
    return Run(
        Hardware((gpu,), {"cuda": {"driver": "580.1"}}), (case,), {"pytest": "9.2.0"}, "2026-01-31T12:00:00Z", 12.5,
        "1c2d3e4", True, ("a.py::u",), ("b/a.json",), ("b/gone.json",), ("no space",), "pytest --perf-ab=main", "main",
        "9f8e7d6", ("the tree has changes",),
    )  # fmt: skip


def test_a_run_as_json() -> None:
    assert run_file.to_json(sample()) == {
        "schema": 4,
        "perfgate": perfgate.__version__,
        "started": "2026-01-31T12:00:00Z",
        "duration_s": 12.5,
        "commit": "1c2d3e4",
        "hardware": {
            "devices": [
                {
                    "kind": "cuda", "name": "NVIDIA H200", "key": "nvidia-h200", "memory_bytes": 2**37,
                    "capability": [9, 0], "arch": None, "power_limit_w": 700.0, "mig": None, "count": 2,
                }
            ],
            "environments": {"cuda": {"driver": "580.1"}},
        },
        "software": {"pytest": "9.2.0"},
        "compared": True,
        "counts": {"regressed": 1},
        "cases": [
            {
                "id": "a.py::t[1]", "key": "nvidia-h200", "verdict": "regressed", "outcome": "passed", "processes": 4,
                "reason": "slower",
                "metrics": [
                    {
                        "name": "device_time", "unit": "s", "value": 31.2e-6, "baseline": 30e-6, "change": 0.04,
                        "low": 0.031, "high": 0.049, "limit": 0.02, "detectable": 0.012, "relative": True,
                        "better": "lower", "verdict": "regressed", "reason": "slower",
                        "values": [31.2e-6, 31.3e-6], "baseline_values": [30e-6],
                    }
                ],
                "work": {"bytes": 1e8, "flops": None}, "copy_bandwidth": 4.16e12, "method": {"clock": "device"},
                "conditions": {"sm_clock_mhz": [1755, 1980]}, "failed": True,
                "notes": {"rows": "num_warps=8 (tuned)"},
                "reported": [{"name": "load_time", "unit": "s", "value": 1.5}],
                "environment": {"torch": "2.13.0"}, "baseline_environment": {"torch": "2.11.0"},
                "baseline_notes": {"rows": "num_warps=4 (default)"}, "baseline_commit": "0a1b2c3",
                "baseline_date": "2026-01-30T12:00:00Z", "kernel_differences": ["kernel rows: registers 40 -> 64"],
                "attached": {"report.md": "# Rows\n"},
            }
        ],
        "recorded": ["a.py::u"],
        "files": ["b/a.json"],
        "unused": ["b/gone.json"],
        "problems": ["no space"],
        "command": "pytest --perf-ab=main",
        "base": "main",
        "base_commit": "9f8e7d6",
        "remarks": ["the tree has changes"],
    }  # fmt: skip


@settings(max_examples=60)
@given(runs(optional, finite))
def test_every_run_satisfies_the_schema_and_comes_back(run: Run) -> None:
    text = json.dumps(run_file.to_json(run), allow_nan=False)
    document = json.loads(text)
    VALIDATOR.validate(document)
    assert list(conform.faults(document, SCHEMA)) == []
    assert run_file.from_json(document) == run


@settings(max_examples=40)
@given(runs(st.none() | st.floats(), st.floats()))
def test_what_is_not_finite_is_written_as_null(run: Run) -> None:
    document = json.loads(json.dumps(run_file.to_json(run), allow_nan=False))
    VALIDATOR.validate(document)
    for before, after in zip(run.results, run_file.from_json(document).results, strict=True):
        for old, new in zip(before.metrics, after.metrics, strict=True):
            assert new.value == old.value if math.isfinite(old.value) else math.isnan(new.value)
            assert new.baseline == (old.baseline if math.isfinite(old.baseline or 0) else None)


def test_a_run_goes_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "run.json"
    run_file.write(sample(), path)
    assert run_file.read(path) == sample()
    assert [line.text for line in terminal.lines(run_file.read(path), 2)] == [
        line.text for line in terminal.lines(sample(), 2)
    ]
    assert [child.name for child in path.parent.iterdir()] == ["run.json"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def older(document: dict[str, Any]) -> dict[str, Any]:
    """Give a document as version 2 of the format had it."""
    document = copy.deepcopy(document)
    for name in ("command", "base", "base_commit", "remarks"):
        del document[name]
    for case in document["cases"]:
        for name in (
            "environment",
            "kernel_differences",
            "attached",
            *(name for name in case if name.startswith("baseline_")),
        ):
            case.pop(name, None)
        for metric in case["metrics"]:
            del metric["values"], metric["baseline_values"]
    return {**document, "schema": 2}


def test_a_run_of_version_3_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    document = {**run_file.to_json(sample()), "schema": 3}
    del document["cases"][0]["attached"]
    path.write_text(json.dumps(document), encoding="utf-8")
    (case,) = sample().results
    assert run_file.read(path) == dataclasses.replace(sample(), results=(dataclasses.replace(case, attached={}),))
    # What version 3 had already is asked for as ever.
    del document["cases"][0]["environment"]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RunFileError, match=r"not a stored run: cases\[0\]: environment is missing"):
        run_file.read(path)


def test_a_run_of_an_older_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(older(run_file.to_json(sample()))), encoding="utf-8")
    (case,) = sample().results
    (metric,) = case.metrics
    plain = dataclasses.replace(
        case, metrics=(dataclasses.replace(metric, values=(), baseline_values=()),), environment={},
        baseline_environment={}, baseline_notes={}, baseline_commit="", baseline_date="", kernel_differences=(),
        attached={},
    )  # fmt: skip
    before = dataclasses.replace(sample(), results=(plain,), command="", base="", base_commit="", remarks=())
    assert run_file.read(path) == before


@pytest.mark.parametrize(
    "broken", [{"cases": 1}, {"cases": [1]}, {"cases": [{"metrics": 1}]}, {"cases": [{"metrics": [1]}]}]
)
def test_what_is_wrong_in_a_run_of_an_older_version_is_told(tmp_path: Path, broken: dict[str, Any]) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**older(run_file.to_json(sample())), **broken}), encoding="utf-8")
    with pytest.raises(RunFileError, match="not a stored run: cases"):
        run_file.read(path)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    run = sample()
    metric = dataclasses.replace(run.results[0].metrics[0], value=numpy.int64(3), baseline=numpy.float32(0.5))
    conditions = {"load": numpy.float64(1.5), "names": {"one"}, "other": Path("x")}
    case = dataclasses.replace(run.results[0], metrics=(metric,), conditions=conditions)
    run_file.write(dataclasses.replace(run, results=(case,)), tmp_path / "run.json")
    read = run_file.read(tmp_path / "run.json").results[0]
    assert (read.metrics[0].value, read.metrics[0].baseline) == (3.0, 0.5)
    assert read.conditions == {"load": 1.5, "names": ["one"], "other": "x"}


def test_the_schema_is_valid_and_knows_every_word() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$defs"]["verdict"]["enum"] == [word.value for word in Verdict]
    assert SCHEMA["$defs"]["outcome"]["enum"] == [word.value for word in Outcome]


def test_the_schema_names_every_field_of_the_records() -> None:
    def names(record: Any) -> set[str]:
        return {field.name for field in dataclasses.fields(record)}

    kinds = SCHEMA["$defs"]
    assert set(kinds["metric"]["properties"]) == names(MetricVerdict)
    assert set(kinds["case"]["properties"]) == names(CaseResult) - {"case"} | {"id"}
    assert set(kinds["device"]["properties"]) == names(Device)
    assert set(SCHEMA["properties"]) == names(Run) - {"results"} | {"schema", "perfgate", "counts", "cases"}


def test_every_object_of_the_schema_is_closed_and_complete() -> None:
    def walk(part: Any, at: str) -> None:
        if isinstance(part, dict):
            if "properties" in part and at != "properties":
                assert part["additionalProperties"] is False
                assert sorted(part["required"]) == sorted(part["properties"])
            for name, inner in part.items():
                walk(inner, name)

    walk(SCHEMA, "")


def test_our_own_check_knows_every_keyword_of_the_schema() -> None:
    said = {"$schema", "$id", "$defs", "title", "description"}

    def walk(rule: dict[str, Any]) -> None:
        assert set(rule) <= conform.KEYWORDS | said
        for name in ("properties", "$defs"):
            for inner in rule.get(name, {}).values():
                walk(inner)
        for name in ("items", "additionalProperties", "propertyNames"):
            if isinstance(rule.get(name), dict):
                walk(rule[name])

    walk(SCHEMA)


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the path of every value in a document."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))]


PLACES = places(json.loads(json.dumps(run_file.to_json(sample()))))[1:]


@settings(max_examples=150)
@given(st.sampled_from(PLACES), st.sampled_from(["replace", "remove", "add"]), plain)
def test_our_own_check_agrees_with_a_full_validator(place: tuple[Any, ...], how: str, value: Any) -> None:
    document = json.loads(json.dumps(run_file.to_json(sample())))
    part = document
    for step in place[:-1]:
        part = part[step]
    if how == "remove":
        del part[place[-1]]
    elif how == "replace":
        part[place[-1]] = value
    elif isinstance(part, dict):
        part["unknown"] = value
    else:
        part.append(value)
    # A full validator takes 1.0 for a whole number; ours wants one as it is written.
    if not isinstance(value, float):
        assert (next(conform.faults(document, SCHEMA), None) is None) == VALIDATOR.is_valid(document)


def changed(**changes: Any) -> bytes:
    """Give the sample's file with the values at some paths (``cases/0/verdict``) changed."""
    document = copy.deepcopy(run_file.to_json(sample()))
    for path, value in changes.items():
        part: Any = document
        *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        for step in steps:
            part = part[step]
        part[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a stored run: Expecting value: line 1 column 1 (char 0)\nA stored run is JSON.\n" + AGAIN),
        (
            b'{"schema": 1,',
            "not a stored run: Expecting property name enclosed in double quotes: line 1 column 14 (char 13)\n"
            "A stored run is JSON.\n" + AGAIN,
        ),
        (
            b"\xff\xfe",
            "not a stored run: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte\n"
            "A stored run is JSON.\n" + AGAIN,
        ),
        (b"[" * 200000, "not a stored run: it is nested too deep\nA stored run is JSON.\n" + AGAIN),
        (b"[1, 2]", "not a stored run: [1, 2] is not an object\n" + AGAIN),
        (b"{}", "not a stored run: schema is missing\n" + AGAIN),
        (
            changed(schema=5),
            f"the run has format version 5\nperfgate {perfgate.__version__} reads versions 2 to 4.\n"
            "hint: install a newer version: pip install --upgrade perfgate",
        ),
        (
            changed(schema=1),
            f"the run has format version 1\nperfgate {perfgate.__version__} reads versions 2 to 4.\n" + AGAIN,
        ),
        (changed(schema="1"), 'not a stored run: schema: "1" is not a whole number\n' + AGAIN),
        (changed(schema=True), "not a stored run: schema: true is not a whole number\n" + AGAIN),
        (
            changed(duration_s=math.nan),
            "not a stored run: NaN stands where a number belongs\nA stored run is JSON.\n" + AGAIN,
        ),
        (
            changed(duration_s=-math.inf),
            "not a stored run: -Infinity stands where a number belongs\nA stored run is JSON.\n" + AGAIN,
        ),
        (
            changed().replace(b"3.12e-05", b"1e999"),
            'not a stored run: "1e999" is too large for a number\nA stored run is JSON.\n' + AGAIN,
        ),
        (changed(duration_s=10**400), "not a stored run: a number is too large\n" + AGAIN),
        (
            changed(**{"cases/0/metrics/0/value": "31 us"}),
            'not a stored run: cases[0].metrics[0].value: "31 us" is not a number or null\n' + AGAIN,
        ),
        (
            changed(**{"cases/0/verdict": "slower"}),
            'not a stored run: cases[0].verdict: "slower" is not one of unchanged, improved, regressed, inconclusive, '
            "throttled, new, stale, outcome_changed, removed, corrupt, skipped\n" + AGAIN,
        ),
        (changed(**{"cases/0/extra": 1}), 'not a stored run: cases[0]: "extra" is not a known field\n' + AGAIN),
        (changed(**{"cases/0/processes": -1}), "not a stored run: cases[0].processes: -1 is less than 0\n" + AGAIN),
        (
            changed(**{"hardware/devices/0/capability": [9]}),
            "not a stored run: hardware.devices[0].capability: a list of 1 has the wrong length\n" + AGAIN,
        ),
        (
            changed(counts={"slower": 1}),
            'not a stored run: counts: "slower" is not one of unchanged, improved, regressed, inconclusive, '
            "throttled, new, stale, outcome_changed, removed, corrupt, skipped\n" + AGAIN,
        ),
        (
            changed(commit=["x" * 100]),
            'not a stored run: commit: ["' + "x" * 58 + "... is not a text\n" + AGAIN,
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(data)
    with pytest.raises(RunFileError) as raised:
        run_file.read(path)
    assert str(raised.value) == f"{path}: {message}"


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(RunFileError) as raised:
        run_file.read(path)
    assert str(raised.value) == (
        f"{path}: cannot read the run: No such file or directory\n"
        "hint: a run is stored with: pytest --benchmark-compare --perf-json=FILE"
    )


def test_a_place_that_cannot_be_written_says_so_and_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(RunFileError) as raised:
        run_file.write(sample(), path)
    assert str(raised.value) == (
        f"{path}: cannot write the run: Is a directory\n"
        "The tests have run; only this file is missing.\n"
        "hint: give --perf-json a file in a folder that can be written to"
    )
    assert [child.name for child in tmp_path.iterdir()] == ["folder"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunFileError, match="No space left on device"):
        run_file.write(sample(), path)
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["run.json"]
