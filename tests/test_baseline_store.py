"""Do new baselines get in without touching any other entry?"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import perfgate
from perfgate.baseline import BaselineStore, StoredFile
from perfgate.errors import BaselineError
from perfgate.model import Baseline, Outcome, StoredMetric

KEY, MODULE = "nvidia-h200", "perf_tests/test_x"
FILE = "baselines/nvidia-h200/perf_tests/test_x.json"


def make(case: str, value: float = 1.5e-06, torch: str = "2.13.0") -> Baseline:
    metrics = (StoredMetric("device_time", "s", "lower", (value, value)),)
    return Baseline(case, Outcome.PASSED, metrics, {"clock": "device"}, {"torch": torch}, "1c2d3e4", "2026-01-31")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BaselineStore:
    monkeypatch.chdir(tmp_path)
    return BaselineStore(tmp_path / "baselines")


def test_merge_makes_the_folders_and_leaves_nothing_else(store: BaselineStore) -> None:
    path = store.merge(KEY, MODULE, {"a": make("a")})
    assert path == store.root / KEY / "perf_tests" / "test_x.json"
    assert [each for each in store.root.rglob("*") if each.is_file()] == [path]


def test_the_name_in_the_mapping_is_the_name_in_the_file(store: BaselineStore) -> None:
    store.merge(KEY, MODULE, {"test_y[z]": make("perf_tests/test_x.py::test_y[z]")})
    assert store.load(KEY, MODULE).cases == {"test_y[z]": make("test_y[z]")}


def test_merge_replaces_adds_and_keeps(store: BaselineStore) -> None:
    store.merge(KEY, MODULE, {"a": make("a", 1.0), "b": make("b", 1.0)})
    store.merge(KEY, MODULE, {"b": make("b", 2.0), "c": make("c", 2.0)})
    values = {name: each.metrics[0].values[0] for name, each in store.load(KEY, MODULE).cases.items()}
    assert values == {"a": 1.0, "b": 2.0, "c": 2.0}


def test_keep_existing_replaces_only_what_cannot_be_used(store: BaselineStore) -> None:
    path = store.merge(KEY, MODULE, {"a": make("a", 1.0), "b": make("b", 1.0)})
    document = json.loads(path.read_text())
    document["cases"]["b"]["outcome"] = "?"
    path.write_text(json.dumps(document))
    store.merge(KEY, MODULE, {name: make(name, 2.0) for name in "abc"}, keep_existing=True)
    loaded = store.load(KEY, MODULE)
    assert loaded.damages == ()
    values = {name: each.metrics[0].values[0] for name, each in loaded.cases.items()}
    assert values == {"a": 1.0, "b": 2.0, "c": 2.0}


def test_a_file_is_not_written_for_nothing(store: BaselineStore) -> None:
    path = store.merge(KEY, MODULE, {"a": make("a", 1.0)})
    before = path.stat().st_ino
    store.merge(KEY, MODULE, {"a": make("a", 2.0)}, keep_existing=True)
    store.merge(KEY, MODULE, {})
    assert path.stat().st_ino == before
    store.merge(KEY, "perf_tests/other", {})
    assert store.modules(KEY) == (MODULE,)


ODD_ENTRIES = """\
    "b": {"outcome":  "passed", "future": {"nan": NaN, "big": 1e999, "twice": 1, "twice": 2}},
    "c": [%s],
    "d": 1,
    "d": {"recorded": {"environment": "0123"}}""" % ("7" * 5000)


def test_other_entries_stay_as_they_stand_however_odd(store: BaselineStore) -> None:
    path = store.merge(KEY, MODULE, {"a": make("a")})
    text = path.read_text()
    environments = '"environments": {\n    "0123": {"torch": "old"},'
    text = text.replace('"environments": {', environments).replace(
        "\n    }\n  }\n}", f"\n    }},\n{ODD_ENTRIES}\n  }}\n}}"
    )
    path.write_text(text)
    assert store.load(KEY, MODULE).cases.keys() == {"a"}
    store.merge(KEY, MODULE, {"a": make("a", 3.0)})
    assert path.read_text() == text.replace("[1.5e-06, 1.5e-06]", "[3, 3]")
    store.merge(KEY, MODULE, {"d": make("d")})
    assert store.load(KEY, MODULE).cases.keys() == {"a", "d"}
    assert '"0123"' not in path.read_text()


def test_text_of_other_entries_becomes_ascii_with_line_feeds(store: BaselineStore) -> None:
    path = store.merge(KEY, MODULE, {"a": make("a")})
    text = path.read_text().replace("1c2d3e4", "\u00e9\U0001f600").replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    store.merge(KEY, MODULE, {"b": make("b")})
    assert store.load(KEY, MODULE).cases["a"].commit == "\u00e9\U0001f600"
    assert path.read_bytes().isascii()
    assert b"\r" not in path.read_bytes()


@pytest.mark.parametrize(
    "edit",
    [
        lambda text, name: text.replace('"environments": {', f'"environments": {{"{name}": {{}},'),
        lambda text, name: text.replace('"torch": ', '"torch": "1", "torch": '),
        lambda text, name: text.replace('"2.13.0"', "NaN"),
    ],
)
def test_a_damaged_environment_is_not_used_again(store: BaselineStore, edit: object) -> None:
    assert callable(edit)
    path = store.merge(KEY, MODULE, {"a": make("a")})
    (name,) = json.loads(path.read_text())["environments"]
    path.write_text(edit(path.read_text(), name))
    store.merge(KEY, MODULE, {"b": make("b")})
    loaded = store.load(KEY, MODULE)
    assert loaded.cases == {"b": make("b")}
    assert loaded.damage_of("a")
    store.merge(KEY, MODULE, {"a": make("a")})
    assert store.load(KEY, MODULE).damages == ()


@pytest.mark.parametrize(
    ("count", "why"),
    [
        (1, "1 new result is not stored: writing the file would lose what is in it."),
        (2, "2 new results are not stored: writing the file would lose what is in it."),
    ],
)
def test_merge_refuses_a_file_that_is_unusable_as_a_whole(store: BaselineStore, count: int, why: str) -> None:
    path = store.merge(KEY, MODULE, {"a": make("a")})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BaselineError) as caught:
        store.merge(KEY, MODULE, {str(number): make(str(number)) for number in range(count)})
    assert str(caught.value) == (
        f"{FILE}: cut short: the text ends at line 5, column 40, inside an object\n"
        f"{why}\n"
        f"hint: restore it with: git checkout -- {FILE} (or delete it and record again with --perf-update=all)"
    )
    assert path.stat().st_size == 100


def test_merge_refuses_a_newer_file(store: BaselineStore) -> None:
    path = store.merge(KEY, MODULE, {"a": make("a")})
    text = path.read_text().replace('"schema": 1', '"schema": 2')
    path.write_text(text)
    with pytest.raises(BaselineError) as caught:
        store.merge(KEY, MODULE, {"a": make("a", 2.0)})
    assert str(caught.value) == (
        f"{FILE}: schema: written by a newer perfgate (schema 2, this one reads 1)\n"
        "1 new result is not stored: writing the file would lose what is in it.\n"
        "hint: upgrade perfgate: pip install --upgrade perfgate"
    )
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "implausible: NaN, a time is between 0 and 1e7 s"),
        (float("inf"), "implausible: Infinity, a time is between 0 and 1e7 s"),
        (-1.0, "implausible: the number -1, a time is between 0 and 1e7 s"),
    ],
)
def test_merge_refuses_what_could_not_be_read_back(store: BaselineStore, value: float, problem: str) -> None:
    path = store.merge(KEY, MODULE, {"a": make("a")})
    before = path.read_bytes()
    with pytest.raises(BaselineError) as caught:
        store.merge(KEY, MODULE, {"a": make("a", 2.0), "b": make("b", value)})
    assert str(caught.value) == (
        f"a new result cannot be stored in {FILE}: b: metrics.device_time.values[0]: {problem}\n"
        "None of the new results for this file are stored; it is left as it was.\n"
        "hint: correct the figure in the test, or leave the test out of the recording"
    )
    assert path.read_bytes() == before


def test_merge_refuses_a_case_that_passed_without_a_figure(store: BaselineStore) -> None:
    with pytest.raises(BaselineError) as caught:
        store.merge(KEY, MODULE, {"a": dataclasses.replace(make("a"), metrics=())})
    assert caught.value.what == (
        f"a new result cannot be stored in {FILE}: a: metrics: empty: a case that passed has at least one figure"
    )


def test_listing(store: BaselineStore) -> None:
    assert (store.keys(), store.modules(KEY), store.files()) == ((), (), ())
    for key, module in (("cpu", "b/test_z"), ("cpu", "test_a"), (KEY, MODULE)):
        store.merge(key, module, {"a": make("a")})
    for name in ("README.md", "cpu/notes.txt", "cpu/.json", ".git/x.json", "cpu/b/.perfgate-1.tmp"):
        path = store.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert store.keys() == ("cpu", KEY)
    assert store.modules("cpu") == ("b/test_z", "test_a")
    assert store.files() == (
        StoredFile("cpu", "b/test_z", store.root / "cpu/b/test_z.json"),
        StoredFile("cpu", "test_a", store.root / "cpu/test_a.json"),
        StoredFile(KEY, MODULE, store.root / KEY / "perf_tests/test_x.json"),
    )


def test_listing_does_not_overlook_a_folder_that_cannot_be_read(store: BaselineStore) -> None:
    store.root.mkdir()
    (store.root / "cpu").write_text("")
    with pytest.raises(BaselineError) as caught:
        store.modules("cpu")
    assert str(caught.value) == (
        "baselines/cpu: the folder cannot be read: Not a directory\n"
        "Baselines in it would be overlooked.\n"
        "hint: check its permissions, or name another folder with --perf-baselines=DIR"
    )


def test_listing_a_root_that_is_a_file(store: BaselineStore) -> None:
    store.root.write_text("")
    with pytest.raises(BaselineError) as caught:
        store.files()
    assert caught.value.what == "baselines: the folder cannot be read: Not a directory"


def test_discard(store: BaselineStore) -> None:
    store.merge(KEY, MODULE, {"a": make("a"), "b": make("b", torch="2.14.0"), "c": make("c")})
    assert store.discard(KEY, MODULE, ["b", "x"]) == ("b",)
    assert store.load(KEY, MODULE).cases == {"a": make("a"), "c": make("c")}
    assert "2.14.0" not in store.path(KEY, MODULE).read_text()
    assert store.discard(KEY, MODULE, ["x"]) == ()
    assert store.discard(KEY, MODULE, ["a", "c"]) == ("a", "c")
    assert list(store.root.iterdir()) == []
    assert store.discard(KEY, MODULE) is None


def test_discard_keeps_folders_that_are_in_use(store: BaselineStore) -> None:
    store.merge(KEY, MODULE, {"a": make("a")})
    other = store.merge(KEY, "test_z", {"a": make("a")})
    assert store.discard(KEY, MODULE) == ("a",)
    assert list(other.parent.iterdir()) == [other]


def test_discard_leaves_a_damaged_file_alone(store: BaselineStore) -> None:
    path = store.merge(KEY, MODULE, {"a": make("a"), "b": make("b")})
    path.write_text(path.read_text().replace("passed", "pased", 1))
    before = path.read_bytes()
    assert store.discard(KEY, MODULE, ["b"]) is None
    assert store.discard(KEY, MODULE) is None
    assert path.read_bytes() == before


def test_reading_costs_little_more_than_parsing(store: BaselineStore) -> None:
    """126 cases take a few milliseconds; counted in parses of the same text, as machines differ."""

    def best(call: Callable[[], object]) -> float:
        times = []
        for _ in range(15):
            started = time.process_time()
            call()
            times.append(time.process_time() - started)
        return min(times)

    path = store.merge(KEY, MODULE, {f"test_{number}": make(f"test_{number}") for number in range(126)})
    text = path.read_text()
    assert best(lambda: store.load(KEY, MODULE)) < 25 * best(lambda: json.loads(text))


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, perfgate.baseline; print(sorted({'numpy', 'scipy', 'torch', 'pytest'} & sys.modules.keys()))"
    source = str(Path(perfgate.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": source}, capture_output=True, check=True)
    assert done.stdout == b"[]\n"
