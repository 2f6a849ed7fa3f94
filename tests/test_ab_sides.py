"""Does the base run its own code with this side's tests, however the code is found?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest

from perfgate import options
from perfgate.ab import launch, overlay, setting, sides
from perfgate.ab.git import Base
from perfgate.ab.launch import Ways
from perfgate.ab.sides import last_error
from perfgate.errors import SettingError
from perfgate.replicate.command import Launch


@pytest.fixture
def both(tmp_path, monkeypatch):
    """A working tree under git and a checkout of an older state of it."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    root, tree = tmp_path / "root", tmp_path / "temporary" / "base"
    for folder in (root, tree):
        folder.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    return root, tree


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_tests_and_settings_are_this_sides_and_code_is_the_bases(both):
    root, tree = both
    code = ("src/lib/work.py", "src/lib/test_inside.py", "src/lib/helper.py", "perf_kernels/k/kernel.py", "data.csv")
    measuring = ("pyproject.toml", "conftest.py", "src/conftest.py", "tests/unit/test_a.py", "tests/helpers/data.json")
    put(root, dict.fromkeys((*code, *measuring, "tests/new.py", "perf_kernels/k/test_k.py"), "head"))
    put(tree, dict.fromkeys((*code, *measuring, "tests/gone.py", "perf_kernels/k/test_k.py"), "base"))
    put(root, {".gitignore": "tests/ignored\n", "tests/ignored": "head"})
    modules = [root / "tests/unit/test_a.py", root / "src/lib/test_inside.py", root / "perf_kernels/k/test_k.py"]
    placed = overlay.apply(root, tree, modules, [], None)
    of_head = {name for name, text in texts(tree).items() if text == "head"}
    assert of_head == {*measuring, "tests/new.py", "src/lib/test_inside.py", "perf_kernels/k/test_k.py"}
    assert {name for name, text in texts(tree).items() if text == "base"} == {*code} - {"src/lib/test_inside.py"}
    assert Path("tests") in placed


def test_what_a_setting_names_measures_too_and_what_git_ignores_is_linked_to(both):
    root, tree = both
    put(root, {".gitignore": "data\n", "data/big.bin": "head", "bench_code/case.py": "head", "own.ini": "head"})
    put(tree, {"bench_code/case.py": "base", "bench_code/old.py": "base"})
    overlay.apply(root, tree, [], [root / "data", root / "bench_code"], root / "own.ini")
    assert (tree / "data").is_symlink()
    assert {**texts(tree), "data/big.bin": (tree / "data/big.bin").read_text()} == {
        "bench_code/case.py": "head",
        "own.ini": "head",
        "data/big.bin": "head",
    }


def test_a_setting_that_names_nothing(both):
    root, tree = both
    with pytest.raises(SettingError) as caught:
        overlay.apply(root, tree, [], [root / "missing"], None)
    assert str(caught.value) == (
        f"ini option perf_ab_measuring: {root / 'missing'} is not in {root}\n"
        "What measures is copied from the working tree into the checkout of the base.\n"
        "hint: name files and folders that exist, from the folder of the ini file"
    )


def test_the_measuring_code_itself_is_this_sides_where_the_repository_holds_it(both, monkeypatch):
    root, tree = both
    put(root, {"src/perfgate/__init__.py": "head", "src/perfgate/clock.py": "head", "src/lib/__init__.py": "head"})
    put(tree, {"src/perfgate/__init__.py": "base", "src/perfgate/old.py": "base", "src/lib/__init__.py": "base"})
    monkeypatch.setattr("perfgate.__file__", str(root / "src/perfgate/__init__.py"))
    overlay.apply(root, tree, [], [], None)
    assert texts(tree) == {
        "src/perfgate/__init__.py": "head",
        "src/perfgate/clock.py": "head",
        "src/lib/__init__.py": "base",
    }
    variables = sides.base_launch(Launch((), root, root), Base("main", "0" * 40, "0000000", root), tree).variables(root)
    # The base's process, and those that it starts, find the copy first.
    assert variables["PYTHONPATH"].split(os.pathsep)[0] == str(tree / "src")


def test_tests_behind_a_link_are_replaced_where_they_are(both):
    root, tree = both
    put(root, {"shared/tests/test_a.py": "head"})
    put(tree, {"shared/tests/test_a.py": "base", "shared/tests/old.py": "base"})
    for folder in both:
        (folder / "tests").symlink_to("shared/tests")
    overlay.apply(root, tree, [root / "tests/test_a.py"], [], None)
    assert (tree / "tests").is_symlink()
    assert texts(tree) == {"shared/tests/test_a.py": "head"}


@pytest.mark.parametrize(
    ("module", "folder"),
    [
        ("tests/test_a.py", "tests"),
        ("tests/perf/test_a.py", "tests"),
        ("perf_tests/hbv/test_a.py", "perf_tests"),
        ("lib/benchmarks/test_a.py", "lib/benchmarks"),
        ("tests_gpu/test_a.py", "tests_gpu"),
        ("perf_kernels/k/test_a.py", None),
        ("torchbench/test_a.py", None),
        ("test_a.py", None),
    ],
)
def test_which_folder_is_for_tests(module, folder, tmp_path):
    assert overlay.tests_folder(Path(module), tmp_path) == (Path(folder) if folder else None)


def test_a_project_of_its_own_is_no_folder_for_tests(tmp_path):
    put(tmp_path, {"benchmarks/pyproject.toml": "", "benchmarks/tests/test_a.py": ""})
    assert overlay.tests_folder(Path("benchmarks/tests/test_a.py"), tmp_path) == Path("benchmarks/tests")


def test_ways_lead_to_the_checkout_and_environments_stay(tmp_path):
    root, tree, venv = tmp_path / "root", tmp_path / "root/.tmp/base", tmp_path / "root/.venv"
    ways = Ways(root, tree, [venv, tmp_path])
    assert ways.turned(str(root / "src")) == str(tree / "src")
    assert ways.turned(str(root)) == str(tree)
    for same in (str(venv / "lib"), str(tree / "src"), str(tmp_path / "rootless"), "", "src", "no-path"):
        assert ways.turned(same) == same


#: Runs as the base's process does, up to pytest: tells what an import of each kind of installation finds.
PROBE = """
import json, os, sys, types
from pathlib import Path
from importlib.machinery import ModuleSpec, PathFinder
root, tree = map(Path, sys.argv[1:])
sys.path.append(str(root / "src"))
import early

class Editable:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ("flat", "fresh"):
            return PathFinder.find_spec(name, [str(root / "elsewhere")])
        if name == "spaced":
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(root / "spaces/spaced")]
            return spec

finder = types.ModuleType("__editable___flat_finder")
finder.MAPPING = {"flat": str(root / "elsewhere/flat.py")}
sys.modules[finder.__name__] = finder
sys.meta_path.append(Editable)
from perfgate.ab import launch
ways = launch.Ways(root, tree)
launch.turn(ways)
found = {}
for name in ("pathed", "early", "flat", "fresh", "spaced.inner", "only_head"):
    try:
        module = __import__(name, fromlist=["SIDE"])
        found[name] = module.SIDE
    except ModuleNotFoundError as error:
        found[name] = str(error)
print(json.dumps([found, launch.strangers(ways), os.environ["PYTHONPATH"].split(os.pathsep)]))
"""


def test_every_kind_of_installation_leads_to_the_base(both):
    root, tree = both
    common = ("src/pathed.py", "src/early.py", "elsewhere/flat.py", "spaces/spaced/inner.py")
    put(root, dict.fromkeys((*common, "src/only_head.py", "elsewhere/fresh.py"), "SIDE = 'head'"))
    put(tree, dict.fromkeys(common, "SIDE = 'base'"))
    answer = subprocess.run(
        [sys.executable, "-c", PROBE, str(root), str(tree)], capture_output=True, text=True, check=True
    ).stdout
    found, strangers, path = json.loads(answer)
    assert found == {
        "pathed": "base",
        "early": "base",
        "flat": "base",
        "fresh": "No module named 'fresh'",
        "spaced.inner": "base",
        "only_head": "No module named 'only_head'",
    }
    assert strangers == {}
    # What the process starts finds the base's too.
    assert {str(tree / "src"), str(tree / "elsewhere")} <= set(path)


def test_a_module_that_is_compiled_in_place_is_missing_and_told_so(tmp_path):
    name = f"built{EXTENSION_SUFFIXES[0]}"
    put(tmp_path / "root", {name: ""})
    (tmp_path / "base").mkdir()
    finder = launch.TurningFinder(Ways(tmp_path / "root", tmp_path / "base"))
    spec = spec_from_file_location("built", tmp_path / "root" / name)
    with pytest.raises(ModuleNotFoundError) as caught:
        finder._turned(spec)
    assert str(caught.value) == "No module named 'built': it is compiled, in the working tree only"


def test_what_a_process_imported_before_another_one_went_on_is_kept(tmp_path):
    task = tmp_path / "task.json"
    assert launch.read_answer(task) == {"collected": {}, "uncollected": {}, "strangers": {}, "installed": {}}
    task.write_text(json.dumps({"root": str(tmp_path / "root"), "tree": str(tmp_path / "base")}))
    (tmp_path / launch.ANSWER).write_text(json.dumps({"strangers": {"ours": "/ours.py"}}))
    (tmp_path / "test_a.py").write_text("def test_a(): pass")
    command = [sys.executable, "-P", "-m", launch.__name__, "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, launch.VARIABLE: str(task)}
    subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert launch.read_answer(task) == {
        "collected": {"test_a.py": ""},
        "uncollected": {},
        "strangers": {"ours": "/ours.py"},
        "installed": {},
    }


def test_modules_of_the_working_tree_are_noticed(tmp_path, monkeypatch):
    module = SimpleNamespace(__file__=str(tmp_path / "root/lib.py"))
    monkeypatch.setitem(sys.modules, "lib_of_the_head", module)
    ways = Ways(tmp_path / "root", tmp_path / "base")
    assert launch.strangers(ways) == {"lib_of_the_head": str(tmp_path / "root/lib.py")}


def test_an_installed_copy_is_neither_sides(tmp_path, monkeypatch):
    root, tree = tmp_path / "root", tmp_path / "base"
    put(tree, {"src/lib_of_both/__init__.py": "", "own_lib/__init__.py": "", "queue/__init__.py": ""})
    places = {"lib_of_both": "site", "own_lib": "base/own_lib", "other_lib": "site", "queue": "site"}
    for name, folder in places.items():
        module = SimpleNamespace(__file__=str(tmp_path / folder / "__init__.py"))
        monkeypatch.setitem(sys.modules, name, module)
    copies = launch.installed(Ways(root, tree))
    assert copies == {"lib_of_both": str(tmp_path / "site/__init__.py")}
    with pytest.raises(sides.NotTheBase) as caught:
        sides._check({"strangers": {}, "installed": copies})
    assert str(caught.value) == (
        "the tests import lib_of_both from an installed copy, which is neither side's code: "
        f"{tmp_path / 'site/__init__.py'}\n"
        "Base and head would both run that copy, so nothing was compared.\n"
        "hint: install the working tree itself: pip install -e ."
    )


def test_the_bases_processes_start_in_the_checkout(tmp_path, monkeypatch):
    root, tree = tmp_path / "root", tmp_path / "temporary/base"
    tree.mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root / "src"), "/elsewhere"]))
    head = Launch(("-q", f"-c={root / 'own.ini'}", str(root / "x")), root / "sub", root / "sub/deep")
    base = sides.base_launch(head, Base("main", "0" * 40, "0000000", root), tree)
    assert (base.root, base.cwd) == (tree / "sub", tree / "sub/deep")
    assert base.cwd.is_dir()
    command = base.command(["tests/test_a.py::test_b"], tmp_path / "scratch")
    assert command[1:4] == ["-P", "-m", "perfgate.ab.launch"]
    assert command[4:9] == ["-q", f"-c={tree / 'own.ini'}", str(tree / "x"), "--maxfail=0", f"--rootdir={tree / 'sub'}"]
    assert command[-2:] == [str(tree / "sub/tests/test_a.py"), "--continue-on-collection-errors"]
    variables = base.variables(tmp_path / "task")
    assert variables["PYTHONPATH"] == os.pathsep.join([str(tree / "src"), "/elsewhere"])
    assert json.loads(Path(variables[launch.VARIABLE]).read_text()) == {"root": str(root), "tree": str(tree)}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.py:1: in <module>\n    import x\nE   ModuleNotFoundError: No module named 'x'", None),
        ("Traceback:\n  File\nModuleNotFoundError: No module named 'x'\nsome more", None),
        ("ERROR: usage\n", "ERROR: usage"),
        ("", "it said nothing"),
    ],
)
def test_the_line_that_names_an_error(text, line):
    assert last_error(text) == (line or "ModuleNotFoundError: No module named 'x'")


def config(**given: object) -> SimpleNamespace:
    known = {"perf_ab": "main", "benchmark_compare": None, "perf_update": None, "perf_profile": None, **given}
    return SimpleNamespace(getoption=lambda name, default=None: known.get(name, default))


def test_a_run_without_a_ref_compares_with_none():
    assert setting.read(config(perf_ab=None, benchmark_compare=True)) == ""
    assert setting.read(config()) == "main"


def test_a_ref_goes_before_what_an_ini_file_asks_for(pytester):
    pytester.makeini("[pytest]\nperf_compare = true\nperf_update = all\nperf_profile = profiles\n")
    settings = options.read(pytester.parseconfig("--perf-ab=main"))
    assert (settings.ab, settings.compare, settings.update, settings.profile) == ("main", True, "", None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"benchmark_compare": True},
            "--perf-ab=main and --benchmark-compare: a run compares with one of the two\n"
            "The baseline of --perf-ab is the commit itself, measured in the same run.\n"
            "hint: leave --benchmark-compare out, or run pytest twice: without --perf-ab=main it compares with stored "
            "baselines",
        ),
        (
            {"perf_update": "all"},
            "--perf-ab=main and --perf-update: a comparison with a commit records nothing\n"
            "Its processes share the machine with those of another commit in turn.\n"
            "hint: leave one of the two out: pytest --perf-update=all",
        ),
        (
            {"perf_profile": ""},
            "--perf-ab=main and --perf-profile: no case runs in a process that could be followed by a profile\n"
            "Profiles are taken of cases that a run has measured itself.\n"
            "hint: profile what regressed in a run of its own: pytest --perf-profile",
        ),
        (
            {"dist": "load"},
            "--perf-ab=main and -n: base and head take turns on one machine\n"
            "Workers beside them would slow either side down, and every verdict with it.\n"
            "hint: -n 0",
        ),
    ],
)
def test_what_it_does_not_go_with(given, message):
    with pytest.raises(SettingError) as caught:
        setting.read(config(**given))
    assert str(caught.value) == message
