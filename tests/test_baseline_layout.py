"""Which file holds the baseline of a case, and which paths are refused?"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.baseline.layout import baseline_path, display_path, split_node_id
from perfgate.errors import BaselineError

ROOT = Path("/repo/baselines")


def test_file_of_a_case() -> None:
    module, case = split_node_id("perf_tests/a/test_x.py::test_y[z]")
    assert (module, case) == ("perf_tests/a/test_x", "test_y[z]")
    assert baseline_path(ROOT, "nvidia-h200", module) == Path("/repo/baselines/nvidia-h200/perf_tests/a/test_x.json")
    assert baseline_path(ROOT, "nvidia-h200", module + ".py") == baseline_path(ROOT, "nvidia-h200", module)


@pytest.mark.parametrize(
    ("node_id", "module", "case"),
    [
        ("test_x.py::TestA::test_b", "test_x", "TestA::test_b"),
        ("test_x.py::test_b[a::b.py::c/d]", "test_x", "test_b[a::b.py::c/d]"),
        ("docs/guide.txt::guide.txt", "docs/guide.txt", "guide.txt"),
    ],
)
def test_node_id_is_split_at_the_first_colons(node_id: str, module: str, case: str) -> None:
    assert split_node_id(node_id) == (module, case)


@pytest.mark.parametrize("node_id", ["test_x.py", "test_x.py::"])
def test_node_id_without_a_test(node_id: str) -> None:
    with pytest.raises(BaselineError) as caught:
        split_node_id(node_id)
    assert str(caught.value) == (
        f"'{node_id}' does not name a test\n"
        "A baseline belongs to one test of one module.\n"
        "hint: give a node id such as perf_tests/test_x.py::test_y"
    )


@pytest.mark.parametrize(
    ("module", "shown", "fault"),
    [
        ("/etc/passwd", "'/etc/passwd'", "it is absolute"),
        ("../other/test_x", "'../other/test_x'", 'it contains ".."'),
        ("a/../../test_x", "'a/../../test_x'", 'it contains ".."'),
        ("", "''", "it has an empty part"),
        (".py", "'.py'", "it has an empty part"),
        ("a//test_x", "'a//test_x'", "it has an empty part"),
        ("a/./test_x", "'a/./test_x'", "it has an empty part"),
        ("C:/test_x", "'C:/test_x'", "it contains a backslash, a colon or an unprintable character"),
        ("a\\..\\test_x", "'a\\\\..\\\\test_x'", "it contains a backslash, a colon or an unprintable character"),
        ("a\0b", "'a\\x00b'", "it contains a backslash, a colon or an unprintable character"),
        ("a\nb", "'a\\nb'", "it contains a backslash, a colon or an unprintable character"),
    ],
)
def test_module_that_leaves_its_folder_is_refused(module: str, shown: str, fault: str) -> None:
    with pytest.raises(BaselineError) as caught:
        baseline_path(ROOT, "nvidia-h200", module)
    assert str(caught.value) == (
        f"the test module {shown} cannot have a baseline file: {fault}\n"
        "The baselines of a module lie at baselines/<key>/<path of the module below pytest's rootdir>.\n"
        "hint: run pytest with --rootdir set to a folder that contains the tests"
    )


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("a/b", "it contains a slash"),
        ("..", "it starts with a dot"),
        (".git", "it starts with a dot"),
        ("", "it has an empty part"),
        ("a:b", "it contains a backslash, a colon or an unprintable character"),
    ],
)
def test_key_that_is_no_folder_name_is_refused(key: str, fault: str) -> None:
    with pytest.raises(BaselineError) as caught:
        baseline_path(ROOT, key, "test_x")
    assert str(caught.value) == (
        f"the hardware key '{key}' cannot name a folder of baselines: {fault}\n"
        "The baselines of one kind of hardware lie in the folder baselines/<key>.\n"
        "hint: see the key of this machine with: perfgate hardware"
    )


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("./\\ab:\0\n\ud800é~ "), max_size=12), st.text(max_size=6))
def test_no_text_leads_out_of_the_root(module: str, key: str) -> None:
    try:
        path = baseline_path(ROOT, key, module)
    except BaselineError:
        return
    assert path.parts[: len(ROOT.parts) + 1] == (*ROOT.parts, key)
    assert ".." not in path.parts
    assert path.suffix == ".json"


def test_path_is_shown_as_a_user_would_type_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert display_path(tmp_path / "baselines" / "k" / "t.json") == "baselines/k/t.json"
    assert display_path(tmp_path.parent / "t.json") == str(tmp_path.parent / "t.json")
