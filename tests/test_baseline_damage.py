"""Is everything that can be wrong with a baseline file named, and does it spoil only what depends on it?"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perfgate
from perfgate.baseline import BaselineStore, LoadedFile
from perfgate.baseline import files as files_module
from perfgate.baseline.check import Origin, examine
from perfgate.model import Baseline, Damage, Outcome, StoredMetric

SCHEMA = json.loads(Path(perfgate.__file__).with_name("schema").joinpath("baseline.schema.json").read_text())
KEY, MODULE = "nvidia-h200", "perf_tests/test_x"
FILE = "baselines/nvidia-h200/perf_tests/test_x.json"
BAD, GOOD = "test_bad[1]", "test_good"

RESTORE = f"restore it with: git checkout -- {FILE} (or delete it and record again with --perf-update=all)"
AGAIN = "record it again: pytest 'perf_tests/test_x.py::test_bad[1]' --perf-update=all"
UPGRADE = "upgrade perfgate if a newer one wrote it, or "
TIME_RULE = "a time is between 0 and 1e7 s"
FIGURE_RULE = "a figure is between -1e30 and 1e30"


def make(case: str, torch: str) -> Baseline:
    metrics = (
        StoredMetric("device_time", "s", "lower", (1.5e-06, 1.25e-06), 0.01, {"sm_clock": (1.98e9, 1.97e9)}),
        StoredMetric("peak", "B", "lower", (1024.0, 1024.0)),
    )
    return Baseline(case, Outcome.PASSED, metrics, {"clock": "device"}, {"torch": torch}, "1c2d3e4", "2026-01-31")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BaselineStore:
    monkeypatch.chdir(tmp_path)
    store = BaselineStore(tmp_path / "baselines")
    store.merge(KEY, MODULE, {BAD: make(BAD, "2.13.0"), GOOD: make(GOOD, "2.14.0")})
    return store


def load(store: BaselineStore, data: str | bytes) -> LoadedFile:
    store.path(KEY, MODULE).write_bytes(data if isinstance(data, bytes) else data.encode())
    return store.load(KEY, MODULE)


def text_of(store: BaselineStore) -> str:
    return store.path(KEY, MODULE).read_text()


def test_a_sound_file(store: BaselineStore) -> None:
    loaded = store.load(KEY, MODULE)
    assert loaded.path == store.root / KEY / "perf_tests" / "test_x.json"
    assert loaded.exists
    assert loaded.damages == ()
    assert loaded.cases == {BAD: make(BAD, "2.13.0"), GOOD: make(GOOD, "2.14.0")}


def test_no_file(store: BaselineStore) -> None:
    loaded = store.load(KEY, "perf_tests/other")
    assert (loaded.exists, loaded.cases, loaded.damages) == (False, {}, ())


def metric(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["cases"][BAD]["metrics"]["device_time"]
    return found


def setter(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        place: Any = document["cases"][BAD]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


def dropper(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        place: Any = document["cases"][BAD]
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


WORDS = "passed, failed, skipped, out_of_memory, illegal_access, compile_error, unsupported, crashed, timed_out"
VALUES = ("metrics", "device_time", "values")


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        (setter("extra", to=1), "extra", "unknown field"),
        (setter("recorded", "extra", to=1), "recorded.extra", "unknown field"),
        (setter("metrics", "device_time", "extra", to=1), "metrics.device_time.extra", "unknown field"),
        (setter("metrics", "device_time", "a\x1b[31m", to=1), r'metrics.device_time."a\u001b[31m"', "unknown field"),
        (dropper("outcome"), "outcome", "missing"),
        (dropper("recorded"), "recorded", "missing"),
        (dropper("method"), "method", "missing"),
        (dropper("metrics"), "metrics", "missing"),
        (dropper("recorded", "date"), "recorded.date", "missing"),
        (dropper("metrics", "device_time", "unit"), "metrics.device_time.unit", "missing"),
        (dropper("metrics", "device_time", "better"), "metrics.device_time.better", "missing"),
        (dropper("metrics", "device_time", "values"), "metrics.device_time.values", "missing"),
        (setter("outcome", to="pased"), "outcome", f'must be one of {WORDS}; is "pased"'),
        (setter("outcome", to=["passed"]), "outcome", f"must be one of {WORDS}; is a list"),
        (setter("recorded", to="now"), "recorded", 'must be an object, is the string "now"'),
        (setter("recorded", "date", to=20260131), "recorded.date", "must be a string, is the number 2.02601e+07"),
        (
            setter("recorded", "environment", to="0123"),
            "recorded.environment",
            'the file has no environment "0123"',
        ),
        (setter("recorded", "environment", to=None), "recorded.environment", "must be a string, is null"),
        (setter("method", to=[]), "method", "must be an object, is a list"),
        (setter("method", "clock", to=True), "method.clock", "must be a string, is true"),
        (setter("metrics", to={}), "metrics", "empty: a case that passed has at least one figure"),
        (setter("metrics", to=[]), "metrics", "must be an object, is a list"),
        (setter("metrics", "peak", to=1), "metrics.peak", "must be an object, is the number 1"),
        (
            setter("metrics", "device_time", "better", to="up"),
            "metrics.device_time.better",
            'must be one of lower, higher; is "up"',
        ),
        (setter("metrics", "device_time", "unit", to={}), "metrics.device_time.unit", "must be a string, is an object"),
        (setter(*VALUES, to=[]), "metrics.device_time.values", "empty: there is one figure for each recorded process"),
        (setter(*VALUES, to=1.0), "metrics.device_time.values", "must be a list of numbers, is the number 1"),
        (
            setter(*VALUES, 0, to="1.5e-06"),
            "metrics.device_time.values[0]",
            'must be a number, is the string "1.5e-06"',
        ),
        (setter(*VALUES, 1, to=True), "metrics.device_time.values[1]", "must be a number, is true"),
        (setter(*VALUES, 1, to=None), "metrics.device_time.values[1]", "must be a number, is null"),
        (
            setter(*VALUES, 1, to=float("nan")),
            "metrics.device_time.values[1]",
            f"implausible: NaN, {TIME_RULE}",
        ),
        (
            setter(*VALUES, 1, to=float("-inf")),
            "metrics.device_time.values[1]",
            f"implausible: -Infinity, {TIME_RULE}",
        ),
        (setter(*VALUES, 1, to=-1e-9), "metrics.device_time.values[1]", f"implausible: the number -1e-09, {TIME_RULE}"),
        (
            setter(*VALUES, 0, to=1.1e7),
            "metrics.device_time.values[0]",
            f"implausible: the number 1.1e+07, {TIME_RULE}",
        ),
        (
            setter("metrics", "peak", "values", 0, to=-2e30),
            "metrics.peak.values[0]",
            f"implausible: the number -2e+30, {FIGURE_RULE}",
        ),
        (
            setter("metrics", "peak", "values", 1, to=10**400),
            "metrics.peak.values[1]",
            f"implausible: the number of 401 digits, {FIGURE_RULE}",
        ),
        (
            setter("metrics", "device_time", "spread", to="small"),
            "metrics.device_time.spread",
            'must be a number, is the string "small"',
        ),
        (
            setter("metrics", "device_time", "spread", to=-0.1),
            "metrics.device_time.spread",
            "implausible: the number -0.1, a spread is between 0 and 1e30",
        ),
        (
            setter("metrics", "device_time", "speeds", to=[1]),
            "metrics.device_time.speeds",
            "must be an object, is a list",
        ),
        (
            setter("metrics", "device_time", "speeds", "sm_clock", to=[1.0]),
            "metrics.device_time.speeds.sm_clock",
            "holds 1 figures, but values holds 2",
        ),
        (
            setter("metrics", "device_time", "speeds", "sm_clock", to=[1.0, 0]),
            "metrics.device_time.speeds.sm_clock[1]",
            "implausible: the number 0, a speed is above 0 and at most 1e30",
        ),
    ],
)
def test_damage_in_one_case(
    store: BaselineStore, change: Callable[[dict[str, Any]], None], field: str, problem: str
) -> None:
    document = json.loads(text_of(store))
    change(document)
    loaded = load(store, json.dumps(document))
    hint = UPGRADE + AGAIN if problem == "unknown field" else AGAIN
    assert loaded.damages == (Damage(FILE, problem, BAD, field, hint),)
    assert str(loaded.damages[0]) == f"{FILE}: {BAD}: {field}: {problem}"
    assert loaded.damage_of(BAD) == loaded.damages
    assert loaded.damage_of(GOOD) == ()
    assert loaded.cases == {GOOD: make(GOOD, "2.14.0")}


def test_case_that_is_no_object(store: BaselineStore) -> None:
    document = json.loads(text_of(store))
    document["cases"][BAD] = [1]
    problems = [(each.case, each.field, each.problem) for each in load(store, json.dumps(document)).damages]
    assert problems == [(BAD, None, "must be an object, is a list")]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("1.25e-06", "1e999", f"implausible: the number beyond 1.8e308, {TIME_RULE}"),
        ("1.25e-06", "9" * 5000, f"implausible: the number of 5000 digits, {TIME_RULE}"),
        ("1.25e-06", "-" + "9" * 5000, f"implausible: the number of 5000 digits, {TIME_RULE}"),
    ],
)
def test_numbers_that_json_allows_and_python_does_not(store: BaselineStore, old: str, new: str, problem: str) -> None:
    loaded = load(store, text_of(store).replace(old, new, 1))
    assert loaded.damages == (Damage(FILE, problem, BAD, "metrics.device_time.values[1]", AGAIN),)
    assert loaded.cases == {GOOD: make(GOOD, "2.14.0")}


def test_several_problems_are_named_one_by_one(store: BaselineStore) -> None:
    document = json.loads(text_of(store))
    for change in (dropper("method"), setter("outcome", to="ok"), setter(*VALUES, to=["a", "b"])):
        change(document)
    assert [(each.case, each.field) for each in load(store, json.dumps(document)).damages] == [
        (BAD, "method"),
        (BAD, "outcome"),
        (BAD, "metrics.device_time.values[0]"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"outcome": "passed"', '"outcome": "passed", "outcome": "failed"', "outcome"),
        ('"method": {', '"method": {"clock": "wall", ', "method.clock"),
        ('"peak": {', '"peak": 1, "peak": {', "metrics.peak"),
        ('"unit": "s"', '"unit": "s", "unit": "B"', "metrics.device_time.unit"),
    ],
)
def test_name_given_twice_in_a_case(store: BaselineStore, old: str, new: str, field: str) -> None:
    loaded = load(store, text_of(store).replace(old, new, 1))
    assert loaded.damages == (Damage(FILE, "given twice (a bad merge?)", BAD, field, AGAIN),)
    assert loaded.cases.keys() == {GOOD}


def test_case_given_twice(store: BaselineStore) -> None:
    loaded = load(store, text_of(store).replace('"cases": {', f'"cases": {{"{BAD}": {{}},'))
    assert loaded.damages == (Damage(FILE, "given twice (a bad merge?)", BAD, None, AGAIN),)
    assert loaded.cases.keys() == {GOOD}


def environment_of(store: BaselineStore) -> str:
    name: str = json.loads(text_of(store))["cases"][BAD]["recorded"]["environment"]
    return name


def test_damaged_environment_spoils_the_cases_that_refer_to_it(store: BaselineStore) -> None:
    name = environment_of(store)
    loaded = load(store, text_of(store).replace('"torch": "2.13.0"', '"torch": 2.13'))
    problem = "must be a string, is the number 2.13"
    assert loaded.damages == (Damage(FILE, problem, BAD, f"environments.{name}.torch", AGAIN),)
    assert loaded.cases.keys() == {GOOD}


def test_environment_given_twice(store: BaselineStore) -> None:
    name = environment_of(store)
    loaded = load(store, text_of(store).replace('"environments": {', f'"environments": {{"{name}": {{}},'))
    assert loaded.damages == (Damage(FILE, "given twice (a bad merge?)", BAD, f"environments.{name}", AGAIN),)


def edit(**changes: object) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes)


def without(name: str) -> Callable[[str], str]:
    return lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != name})


TAKE_A_SIDE = f"resolve the conflict in an editor, or take one side with: git checkout --ours -- {FILE} (or --theirs)"


@pytest.mark.parametrize(
    ("change", "field", "problem", "hint"),
    [
        (lambda _: "", None, "the file is empty", RESTORE),
        (lambda _: " \n\n", None, "the file is empty", RESTORE),
        (lambda _: b"\x7fELF\x00\x01", None, "binary data, not JSON text: byte 0x00 at offset 4", RESTORE),
        (lambda _: b"\x89PNG\r\n", None, "not UTF-8 text: byte 0x89 at offset 0", RESTORE),
        (lambda text: text.encode("utf-16"), None, "binary data, not JSON text: byte 0x00 at offset 3", RESTORE),
        (lambda _: "[1]\n", None, "must be a JSON object, is a list", RESTORE),
        (lambda _: "NaN", None, "must be a JSON object, is NaN", RESTORE),
        (lambda _: "hello\n", None, "not JSON: line 1, column 1: Expecting value", RESTORE),
        (
            lambda text: text.replace('"key":', '"key"', 1),
            None,
            "not JSON: line 3, column 9: Expecting ':' delimiter",
            RESTORE,
        ),
        (
            lambda text: text.replace('"key":', "key:", 1),
            None,
            "not JSON: line 3, column 3: Expecting property name enclosed in double quotes",
            RESTORE,
        ),
        (
            lambda text: text.replace('"nvidia-h200",', '"nvidia-h200"', 1),
            None,
            "not JSON: line 4, column 3: Expecting ',' delimiter",
            RESTORE,
        ),
        (lambda text: text + "{}\n", None, "not JSON: line 29, column 1: Extra data", RESTORE),
        (
            lambda text: text[: text.index("device_time") + 4],
            None,
            "cut short: the text ends at line 14, column 14, inside an object",
            RESTORE,
        ),
        (
            lambda text: text.replace('    "test_bad', '<<<<<<< HEAD\n    "test_bad', 1),
            None,
            "merge-conflict marker <<<<<<< in line 9",
            TAKE_A_SIDE,
        ),
        (
            lambda text: text.replace('    "test_bad', '>>>>>>> branch\n    "test_bad', 1),
            None,
            "merge-conflict marker >>>>>>> in line 9",
            TAKE_A_SIDE,
        ),
        (lambda _: "[" * 200_000, None, "nested too deep to be a baseline file", RESTORE),
        (lambda _: '{"cases": ' + '{"a":' * 200_000, None, "nested too deep to be a baseline file", RESTORE),
        (
            edit(schema=2),
            "schema",
            "written by a newer perfgate (schema 2, this one reads 1)",
            "upgrade perfgate: pip install --upgrade perfgate",
        ),
        (
            edit(schema=10**50),
            "schema",
            "written by a newer perfgate (schema of 51 digits, this one reads 1)",
            "upgrade perfgate: pip install --upgrade perfgate",
        ),
        (edit(schema=0), "schema", "unknown schema 0, this perfgate reads 1", RESTORE),
        (edit(schema="1"), "schema", 'must be the number 1, is the string "1"', RESTORE),
        (edit(schema=True), "schema", "must be the number 1, is true", RESTORE),
        (edit(schema=1.5), "schema", "must be the number 1, is the number 1.5", RESTORE),
        (without("schema"), "schema", "missing", RESTORE),
        (without("key"), "key", "missing", RESTORE),
        (without("environments"), "environments", "missing", RESTORE),
        (without("cases"), "cases", "missing", RESTORE),
        (
            edit(key="nvidia-a100"),
            "key",
            'the file says "nvidia-a100", but it lies in the folder of "nvidia-h200"',
            RESTORE,
        ),
        (edit(key=7), "key", "must be a string, is the number 7", RESTORE),
        (edit(cases=[]), "cases", "must be an object, is a list", RESTORE),
        (edit(environments=None), "environments", "must be an object, is null", RESTORE),
        (
            edit(comment="hello"),
            "comment",
            "unknown field",
            f"upgrade perfgate if a newer one wrote it, or remove the field from {FILE}",
        ),
        (lambda text: text.replace('"key"', '"key": "a", "key"', 1), "key", "given twice (a bad merge?)", RESTORE),
    ],
)
def test_damage_of_the_whole_file(
    store: BaselineStore, change: Callable[[str], str | bytes], field: str | None, problem: str, hint: str
) -> None:
    loaded = load(store, change(text_of(store)))
    assert loaded.damages == (Damage(FILE, problem, None, field, hint),)
    assert loaded.exists
    assert loaded.cases == {}
    assert loaded.damage_of(BAD) == loaded.damage_of("never heard of") == loaded.damages


def test_byte_order_mark_and_windows_line_ends_do_no_harm(store: BaselineStore) -> None:
    loaded = load(store, b"\xef\xbb\xbf" + text_of(store).replace("\n", "\r\n").encode())
    assert loaded.damages == ()
    assert loaded.cases.keys() == {BAD, GOOD}


def test_other_files_stay_usable(store: BaselineStore) -> None:
    store.merge(KEY, "perf_tests/other", {GOOD: make(GOOD, "2.13.0")})
    assert load(store, b"\0").damages
    assert store.load(KEY, "perf_tests/other").cases.keys() == {GOOD}


UNREADABLE = "check what lies there, and the permissions of the file and its folders"


def replaced_by(store: BaselineStore, make_other: Callable[[Path], object]) -> tuple[Damage, ...]:
    path = store.path(KEY, MODULE)
    path.unlink()
    make_other(path)
    loaded = store.load(KEY, MODULE)
    assert loaded.exists
    return loaded.damages


def test_folder_in_place_of_the_file(store: BaselineStore) -> None:
    damages = replaced_by(store, Path.mkdir)
    assert damages == (Damage(FILE, "cannot be read: Is a directory", None, None, UNREADABLE),)


def test_named_pipe_in_place_of_the_file(store: BaselineStore) -> None:
    damages = replaced_by(store, os.mkfifo)
    assert damages == (Damage(FILE, "cannot be read: Not a regular file", None, None, UNREADABLE),)


def test_link_to_itself_in_place_of_the_file(store: BaselineStore) -> None:
    damages = replaced_by(store, lambda path: path.symlink_to(path))
    assert damages == (Damage(FILE, "cannot be read: Too many levels of symbolic links", None, None, UNREADABLE),)


def test_file_in_place_of_the_folder(store: BaselineStore) -> None:
    (store.root / KEY / "perf_tests" / "test_x").write_text("")
    damages = store.load(KEY, "perf_tests/test_x/test_z").damages
    file = f"baselines/{KEY}/perf_tests/test_x/test_z.json"
    assert damages == (Damage(file, "cannot be read: Not a directory", None, None, UNREADABLE),)


def test_file_that_the_system_refuses(store: BaselineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files_module.os, "open", refuse)
    damages = store.load(KEY, MODULE).damages
    assert damages == (Damage(FILE, "cannot be read: Permission denied", None, None, UNREADABLE),)


def test_file_that_is_far_too_large(store: BaselineStore) -> None:
    os.truncate(store.path(KEY, MODULE), 65 * 2**20)
    damages = store.load(KEY, MODULE).damages
    assert damages == (Damage(FILE, "cannot be read: Larger than 64 MiB", None, None, UNREADABLE),)


def test_file_cut_short_at_every_byte(store: BaselineStore) -> None:
    odd = 'test_odd["\\}],{\u00e9\U0001f600]'
    store.merge(KEY, MODULE, {odd: make(odd, "}")})
    data = store.path(KEY, MODULE).read_bytes()
    origin = Origin(FILE, KEY, MODULE)
    assert examine(data[:-1], origin).damages == ()
    for length in range(1, len(data) - 1):
        contents = examine(data[:length], origin)
        kept = data[:length].decode()
        line, column = kept.count("\n") + 1, length - kept.rfind("\n")
        problem = f"cut short: the text ends at line {line}, column {column}, inside an object"
        assert contents.damages == (Damage(FILE, problem, None, None, RESTORE),)
        assert contents.cases == {}


SOUND = json.loads(
    json.dumps(
        {
            "schema": 1,
            "key": KEY,
            "environments": {"e1": {"torch": "2.13.0"}, "e2": {"torch": "2.14.0"}},
            "cases": {
                name: {
                    "outcome": "passed",
                    "recorded": {"date": "d", "commit": "c", "environment": environment},
                    "method": {"clock": "device"},
                    "metrics": {
                        "time": {"unit": "s", "better": "lower", "values": [1.5, 2], "speeds": {"sm": [1, 2.5]}}
                    },
                }
                for name, environment in ((BAD, "e1"), (GOOD, "e2"))
            },
        }
    )
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["@long", "@large"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, member in members for place in places(member, (*path, name)))]


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """Replace, remove or add one to three members anywhere in a sound file."""
    document = copy.deepcopy(SOUND)
    for _ in range(draw(st.integers(1, 3))):
        *steps, last = draw(st.sampled_from([place for place in places(document) if place]))
        parent: Any = document
        for step in steps:
            parent = parent[step]
        action = draw(st.sampled_from(["replace", "remove", "rename"]))
        if action == "replace" or isinstance(parent, list):
            parent[last] = draw(json_values)
        else:
            member = parent.pop(last)
            if action == "rename":
                parent[draw(st.text(max_size=6))] = member
        if not document:
            break
    return dumps(document)


def dumps(value: object) -> str:
    """Write JSON, with the numbers that Python itself does not write."""
    return json.dumps(value).replace('"@long"', "9" * 5000).replace('"@large"', "1e999")


def assert_case_is_judged_by_itself(text: str) -> None:
    contents = examine(text.encode("utf-8", "surrogatepass"), Origin(FILE, KEY, MODULE))
    for damage in contents.damages:
        assert damage.problem
        assert damage.hint
        assert damage.case not in contents.cases
        str(damage).encode("utf-8", "surrogatepass")
    if contents.damages:
        return
    # What is called sound is sound: by the schema, which was written apart from the reader.
    document = json.loads(text)
    document["environments"] = {
        name: document["environments"][name]
        for name in {case["recorded"]["environment"] for case in document["cases"].values()}
    }
    jsonschema.validate(document, SCHEMA)


@settings(max_examples=300, deadline=None)
@given(mutations())
def test_random_changes_are_named_or_harmless(text: str) -> None:
    assert_case_is_judged_by_itself(text)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_changes_of_one_case_leave_the_other_alone(data: st.DataObject) -> None:
    document = copy.deepcopy(SOUND)
    *steps, last = data.draw(st.sampled_from([place for place in places(document["cases"][BAD]) if place]))
    parent = document["cases"][BAD]
    for step in steps:
        parent = parent[step]
    parent[last] = data.draw(json_values)
    origin = Origin(FILE, KEY, MODULE)
    contents = examine(dumps(document).encode(), origin)
    assert contents.cases[GOOD] == examine(dumps(SOUND).encode(), origin).cases[GOOD]
    assert {damage.case for damage in contents.damages} <= {BAD}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_random_bytes_never_raise(data: st.DataObject) -> None:
    text = json.dumps(SOUND, indent=1).encode()
    at = data.draw(st.integers(0, len(text)))
    gone = data.draw(st.integers(0, 40))
    noise = data.draw(
        st.binary(max_size=8) | st.sampled_from([b"{", b"}", b"]", b'"', b"\\u12", b",", b"-", b"1e9999"])
    )
    contents = examine(text[:at] + noise + text[at + gone :], Origin(FILE, KEY, MODULE))
    assert all(damage.problem and damage.hint for damage in contents.damages)


@given(st.binary(max_size=60))
def test_garbage_is_a_damage(data: bytes) -> None:
    contents = examine(data, Origin(FILE, KEY, MODULE))
    assert contents.cases == {}
    assert [damage.case for damage in contents.damages] == [None] * len(contents.damages) != []
