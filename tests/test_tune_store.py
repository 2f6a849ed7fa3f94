"""Do tuned configurations survive, and is a file that cannot be used told?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from perfgate.baseline.store import BaselineStore
from perfgate.errors import BaselineError
from perfgate.report import conform
from perfgate.tune import store
from perfgate.tune.store import Tuned

SOFTWARE = {"torch": "2.11.0", "triton": "3.6.0"}
ONE = Tuned(
    {"num_warps": 8, "tile": 2048, "one_pass": True},
    2.3000001234e-06,
    {"num_warps": 4, "tile": 1024, "one_pass": True},
    2.41e-06,
    "2026-01-31T12:00:00+00:00",
    SOFTWARE,
)
STAYS = replace(ONE, config=None, config_s=2.41e-06)

TEXT = """\
{
  "schema": 1,
  "key": "nvidia-h200",
  "kernel": "rows",
  "environments": {
    "ENVIRONMENT": {"torch": "2.11.0", "triton": "3.6.0"}
  },
  "classes": {
    "a-128": {
      "recorded": {"date": "2026-01-31T12:00:00+00:00", "environment": "ENVIRONMENT"},
      "default": {"num_warps": 4, "one_pass": true, "tile": 1024},
      "default_s": 2.41e-06,
      "config": null,
      "config_s": 2.41e-06
    },
    "b-128": {
      "recorded": {"date": "2026-01-31T12:00:00+00:00", "environment": "ENVIRONMENT"},
      "default": {"num_warps": 4, "one_pass": true, "tile": 1024},
      "default_s": 2.41e-06,
      "config": {"num_warps": 8, "one_pass": true, "tile": 2048},
      "config_s": 2.3e-06
    }
  }
}
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "baselines"


def merge(root: Path, **tuned: Tuned) -> Path:
    return store.merge(root, "nvidia-h200", "rows", {name.replace("_", "-"): entry for name, entry in tuned.items()})


def test_what_is_stored_comes_back(root: Path) -> None:
    merge(root, b_128=ONE, a_128=STAYS)
    assert store.load(root, "nvidia-h200", "rows") == {"a-128": STAYS, "b-128": replace(ONE, config_s=2.3e-06)}
    assert store.load(root, "nvidia-h200", "other") == {}


def test_the_text_is_sorted_and_made_for_git(root: Path) -> None:
    path = merge(root, b_128=ONE, a_128=STAYS)
    assert path == root / "nvidia-h200" / "tuning" / "rows.json"
    text = path.read_text()
    environment = next(iter(json.loads(text)["environments"]))
    assert text == TEXT.replace("ENVIRONMENT", environment)


def test_the_order_of_writing_leaves_no_trace(root: Path) -> None:
    text = merge(root, b_128=ONE, a_128=STAYS).read_text()
    (root / "nvidia-h200/tuning/rows.json").unlink()
    merge(root, a_128=STAYS)
    assert merge(root, b_128=ONE).read_text() == text


def test_a_class_that_is_tuned_again_replaces_its_own_lines_and_the_software_that_nobody_names(root: Path) -> None:
    before = merge(root, a_128=STAYS, b_128=ONE).read_text().splitlines()
    after = merge(root, b_128=replace(ONE, environment={"triton": "3.9.0"})).read_text().splitlines()
    changed = [line for line in after if line not in before]
    assert len(changed) == 3
    assert len(json.loads("\n".join(after))["environments"]) == 2
    last = merge(root, a_128=replace(STAYS, environment={"triton": "3.9.0"}))
    assert list(json.loads(last.read_text())["environments"].values()) == [{"triton": "3.9.0"}]


def test_an_empty_file_can_be_written(root: Path) -> None:
    merge(root)
    assert store.load(root, "nvidia-h200", "rows") == {}


def test_the_file_is_as_its_schema_says(root: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install -e '.[dev]'")
    schema = conform.load(store.SCHEMA_FILE)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(merge(root, a_128=STAYS, b_128=ONE).read_text()), schema)


def test_baselines_of_tests_pass_over_tuned_configurations(root: Path) -> None:
    merge(root, a_128=STAYS)
    assert BaselineStore(root).keys() == ("nvidia-h200",)
    assert BaselineStore(root).files() == ()


def cut(text: str) -> str:
    return text[: text.index('"b-128"')]


RESTORE = (
    "restore it with: git checkout -- baselines/nvidia-h200/tuning/rows.json (or delete it and run: perfgate tune rows)"
)


@pytest.mark.parametrize(
    ("damage", "problem", "hint"),
    [
        (lambda text: "", "it is empty", RESTORE),
        (cut, "not JSON: line 16, column 5: Expecting property name enclosed in double quotes", RESTORE),
        (
            lambda text: text.replace('"classes"', "<<<<<<< ours"),
            "not JSON: line 8, column 3: Expecting property name enclosed in double quotes",
            RESTORE,
        ),
        (
            lambda text: text.replace("b-128", "a-128"),
            'not a tuning file: "a-128" is given twice (a bad merge?)',
            RESTORE,
        ),
        (lambda text: text.replace("2.3e-06", "NaN"), "not a tuning file: NaN stands where a number belongs", RESTORE),
        (lambda text: "[]", "not a tuning file: [] is not an object", RESTORE),
        (lambda text: "[" * 100_000, "nested too deep to be a tuning file", RESTORE),
        (
            lambda text: text.replace('"schema": 1', '"schema": 2'),
            "has format version 2, this perfgate reads 1",
            "pip install --upgrade perfgate",
        ),
        (
            lambda text: text.replace('"schema": 1', '"schema": 0'),
            "has format version 0, this perfgate reads 1",
            "delete it and run: perfgate tune rows",
        ),
        (lambda text: text.replace('"schema": 1,', ""), "not a tuning file: schema is missing", RESTORE),
        (
            lambda text: text.replace('"config_s": 2.3e-06', '"config_s": "fast"'),
            'not a tuning file: classes.b-128.config_s: "fast" is not a number',
            RESTORE,
        ),
        (
            lambda text: text.replace('"tile": 2048', '"tile": [2048]'),
            "not a tuning file: classes.b-128.config.tile: [2048] is not a number or a text or true or false",
            RESTORE,
        ),
        (
            lambda text: text.replace('"nvidia-h200"', '"nvidia-b200"'),
            "key is \"nvidia-b200\", not 'nvidia-h200'",
            RESTORE,
        ),
        (lambda text: text.replace('"rows"', '"columns"'), "kernel is \"columns\", not 'rows'", RESTORE),
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_left_alone(
    damage: Callable[[str], str], problem: str, hint: str, root: Path
) -> None:
    path = merge(root, a_128=STAYS, b_128=ONE)
    path.write_text(damage(path.read_text()))
    before = path.read_bytes()
    for attempt in (lambda: store.load(root, "nvidia-h200", "rows"), lambda: merge(root, a_128=ONE)):
        with pytest.raises(BaselineError) as caught:
            attempt()
        assert str(caught.value) == f"baselines/nvidia-h200/tuning/rows.json: {problem}\nhint: {hint}"
    assert path.read_bytes() == before


def test_bytes_that_are_no_text(root: Path) -> None:
    path = merge(root, a_128=STAYS)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(
        BaselineError, match=r"^baselines/nvidia-h200/tuning/rows.json: not a tuning file: 'utf-8' codec"
    ):
        store.load(root, "nvidia-h200", "rows")


def test_a_folder_in_the_place_of_the_file(root: Path) -> None:
    (root / "nvidia-h200/tuning/rows.json").mkdir(parents=True)
    with pytest.raises(BaselineError) as caught:
        store.load(root, "nvidia-h200", "rows")
    assert str(caught.value) == (
        "baselines/nvidia-h200/tuning/rows.json: cannot be read: Is a directory\n"
        "hint: check what lies there, and the permissions of the file and its folders"
    )
    with pytest.raises(BaselineError, match="cannot be read"):
        merge(root, a_128=STAYS)


def test_a_name_that_leaves_the_folder_is_refused(root: Path) -> None:
    with pytest.raises(BaselineError, match=r'it contains "\.\."'):
        store.load(root, "nvidia-h200", "../../rows")
