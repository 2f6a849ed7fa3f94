"""Does every setting work from the command line and from the ini file, and is a bad one named?"""

from __future__ import annotations

import argparse

import pytest

from perfgate import options, swallowed
from perfgate.errors import SettingError

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]


@pytest.fixture
def steady(project):
    """A project with one case, ``a``, and its baseline."""
    project.cases("a")
    project.figures("a", STEADY)
    project.store("a")
    return project


def ini(project, *lines: str) -> None:
    text = "[pytest]\naddopts = -p benchmark -p perfgate -p no:cacheprovider\n"
    project.pytester.makeini(text + "\n".join(lines) + "\n")


def test_without_the_gate_nothing_is_measured_written_or_said(steady):
    before = steady.baseline_file().read_text()
    result = steady.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*perfgate*: *")
    assert not list(steady.path.glob("*.taken")) or (steady.path / "a.taken").exists() is False
    assert steady.baseline_file().read_text() == before


def test_compare_from_the_ini_file(steady):
    steady.figures("a", [2e-3])
    ini(steady, "perf_compare = true")
    steady.run("--perf-processes=4").assert_outcomes(failed=1)


def test_a_path_after_the_flag_is_a_path(steady):
    steady.pytester.makepyfile(test_other="def test_other(): raise AssertionError('not asked for')")
    steady.run("--benchmark-compare", "test_speed.py").assert_outcomes(passed=1)
    steady.run("--benchmark-compare", "test_speed.py::test_a").assert_outcomes(passed=1)
    steady.run("--benchmark-compare", str(steady.path / "test_speed.py"), "-q").assert_outcomes(passed=1)


def test_a_path_behind_an_equals_sign_is_a_path(steady):
    steady.pytester.makepyfile(test_other="def test_other(): raise AssertionError('not asked for')")
    source = steady.path / "test_speed.py"
    source.write_text(source.read_text() + "\ndef test_plain(): pass\n")
    result = steady.run("--benchmark-compare=test_speed.py::test_plain", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_speed.py::test_plain PASSED*"])


@pytest.mark.parametrize("path", ["tests/typo.py", "typo.py", "typo/", "test_speed.py::test_typo"])
def test_a_path_that_is_not_there_is_named_by_pytest(steady, path):
    result = steady.run("--benchmark-compare", path)
    assert result.ret == 4
    result.assert_outcomes()
    missing = steady.path / path
    what = f"not found: {missing}" if "::" in path else f"file or directory not found: {path}"
    result.stderr.fnmatch_lines([f"ERROR: {what}"])


@pytest.mark.parametrize("run", ["0001", "0001_old", ".benchmarks/0001_old.json", "*old"])
def test_the_name_of_a_stored_run_is_no_path(run):
    namespace = argparse.Namespace(benchmark_compare=run, file_or_dir=[])
    arguments = ["--benchmark-compare", run]
    swallowed.free_compared_path(namespace, arguments)
    assert arguments == ["--benchmark-compare", run]
    assert namespace.benchmark_compare == run


def test_a_path_after_the_flag_in_addopts_is_a_path(steady):
    steady.pytester.makepyfile(test_other="def test_other(): raise AssertionError('not asked for')")
    steady.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p no:cacheprovider --benchmark-compare\n")
    steady.run("test_speed.py").assert_outcomes(passed=1)


@pytest.mark.parametrize("where", ["flag", "addopts"])
def test_a_path_after_the_profile_flag_is_a_path(steady, where):
    steady.pytester.makepyfile(test_other="def test_other(): raise AssertionError('not asked for')")
    if where == "flag":
        result = steady.run("--collect-only", "-q", "--perf-profile", "test_speed.py")
    else:
        steady.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p no:cacheprovider --perf-profile\n")
        result = steady.run("--collect-only", "-q", "test_speed.py")
    result.stdout.fnmatch_lines(["test_speed.py::test_a"])
    result.stdout.no_fnmatch_line("*test_other*")


@pytest.mark.parametrize(
    ("flags", "line", "folder"),
    [
        ((), "", None),
        (("--perf-profile",), "", "perf-profile"),
        (("--perf-profile", "--benchmark-compare"), "", "perf-profile"),
        (("--perf-profile=out/profiles",), "", "sub/out/profiles"),
        ((), "perf_profile = stored", "stored"),
        (("--perf-profile=out",), "perf_profile = stored", "sub/out"),
        (("--perf-profile",), "perf_profile = stored", "perf-profile"),
    ],
)
def test_the_folder_of_the_profiles(pytester, monkeypatch, flags, line, folder):
    """From the root by default and in the ini file, from where it was typed on the command line."""
    pytester.makeini(f"[pytest]\n{line}\n")
    pytester.mkdir("sub")
    monkeypatch.chdir(pytester.path / "sub")
    settings = options.read(pytester.parseconfig(*flags, ".."))
    assert settings.profile == (pytester.path / folder if folder else None)


def test_a_fresh_process_does_not_profile_by_itself(pytester, monkeypatch):
    pytester.makeini("[pytest]\nperf_profile = stored\n")
    monkeypatch.setenv(options.REPLICA_VARIABLE, "task.json")
    assert options.read(pytester.parseconfig()).profile is None


def test_profiles_need_a_folder_and_torch(pytester, monkeypatch):
    (pytester.path / "taken").write_text("")
    with pytest.raises(SettingError) as refused:
        options.read(pytester.parseconfig("--perf-profile=taken"))
    assert str(refused.value) == (
        f"--perf-profile: {str(pytester.path / 'taken')!r} is not a folder\n"
        "Each case writes its profile to files of its own.\n"
        "hint: --perf-profile=perf-profile"
    )
    pytester.makeini("[pytest]\nperf_profile = stored\n")
    config = pytester.parseconfig()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingError) as refused:
        options.read(config)
    assert str(refused.value) == (
        "ini option perf_profile: torch is not installed, and it is torch that profiles\nhint: pip install torch"
    )


@pytest.mark.parametrize("where", ["flag", "ini"])
def test_update_new_stores_only_cases_without_a_baseline(steady, where):
    before = steady.baseline_file().read_text()
    steady.cases("a", "b")
    steady.figures("a", [2e-3])
    steady.figures("b", STEADY)
    if where == "flag":
        steady.run("--perf-update=new").assert_outcomes(passed=2)
    else:
        ini(steady, "perf_update = new")
        steady.run().assert_outcomes(passed=2)
    text = steady.baseline_file().read_text()
    assert '"test_b"' in text
    assert (steady.path / "b.taken").read_text() == "6", "once for the test, then in five fresh processes"
    assert (steady.path / "a.taken").read_text() == "1"
    old = before[before.index('"test_a"') : before.rindex("]")]
    assert old in text


@pytest.mark.parametrize("where", ["flag", "ini"])
def test_update_all_replaces_and_stores_one_value_a_process(steady, where):
    steady.figures("a", [9e-3, 2.0e-3, 2.1e-3, 2.2e-3, 2.3e-3, 2.4e-3])
    if where == "flag":
        result = steady.run("--perf-update=all")
    else:
        ini(steady, "perf_update = all")
        result = steady.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*recorded 1 case into baselines/cpu-pretended-2t/test_speed.json*"])
    data = steady.baseline()
    assert data["cases"]["test_a"]["metrics"]["wall_time"]["values"] == [0.002, 0.0021, 0.0022, 0.0023, 0.0024]


def test_a_failing_case_never_touches_its_baseline(steady):
    before = steady.baseline_file().read_text()
    steady.cases("a", body="benchmark(lambda: {name!r}); assert False")
    steady.run("--perf-update=all").assert_outcomes(failed=1)
    assert steady.baseline_file().read_text() == before


def test_a_case_that_fails_in_a_fresh_process_is_not_recorded(steady):
    before = steady.baseline_file().read_text()
    steady.cases("a", body="benchmark(lambda: {name!r}); assert int(open('a.taken').read()) < 4, 'tired'")
    result = steady.run("--perf-update=all")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*test_speed.py::test_a: not recorded: in a fresh process failed: AssertionError: tired*"]
    )
    assert steady.baseline_file().read_text() == before


def test_a_case_that_fails_in_this_process_alone_is_not_recorded(steady):
    before = steady.baseline_file().read_text()
    steady.cases("a", body="benchmark(lambda: {name!r}); assert int(open('a.taken').read()) > 1, 'cold'")
    steady.figures("a", [0.5e-3])
    steady.run("--perf-update=all").assert_outcomes(failed=1)
    assert steady.baseline_file().read_text() == before


def test_a_regressed_case_is_not_recorded_while_comparing(steady):
    before = steady.baseline_file().read_text()
    steady.figures("a", [2e-3])
    steady.run("--benchmark-compare", "--perf-update=all", "--perf-processes=4").assert_outcomes(failed=1)
    assert steady.baseline_file().read_text() == before


@pytest.mark.parametrize("where", ["flag", "ini"])
def test_another_folder_for_the_baselines(steady, where):
    (steady.path / "baselines").rename(steady.path / "elsewhere")
    if where == "flag":
        result = steady.run("--benchmark-compare", "--perf-baselines=elsewhere")
    else:
        ini(steady, "perf_baselines = elsewhere")
        result = steady.run("--benchmark-compare")
    result.stdout.fnmatch_lines(["*1 unchanged on cpu-pretended-2t*"])


def test_a_folder_on_the_command_line_starts_where_it_was_typed(steady, monkeypatch):
    (steady.path / "sub").mkdir()
    (steady.path / "baselines").rename(steady.path / "sub" / "stored")
    monkeypatch.chdir(steady.path / "sub")
    result = steady.run("--benchmark-compare", "--perf-baselines=stored", "..")
    result.stdout.fnmatch_lines(["*1 unchanged on cpu-pretended-2t*"])


@pytest.mark.parametrize("where", ["flag", "ini"])
def test_fewer_processes(steady, where):
    steady.figures("a", [1.15e-3, 0.95e-3, 1.25e-3])
    if where == "flag":
        steady.run("--benchmark-compare", "--perf-processes=3")
    else:
        ini(steady, "perf_processes = 3")
        steady.run("--benchmark-compare")
    assert (steady.path / "a.taken").read_text() == "3"


def test_one_process_screens_only(steady):
    steady.figures("a", [2e-3])
    case = steady.json("--perf-processes=1")["cases"][0]
    assert (case["processes"], case["verdict"]) == (1, "regressed")
    assert (steady.path / "a.taken").read_text() == "1"


@pytest.mark.parametrize("where", ["flag", "ini"])
def test_strict(project, where):
    project.cases("a")
    project.figures("a", STEADY)
    if where == "flag":
        result = project.run("--benchmark-compare", "--perf-strict")
    else:
        ini(project, "perf_strict = true")
        result = project.run("--benchmark-compare")
    result.assert_outcomes(failed=1)


@pytest.mark.parametrize("where", ["flag", "ini"])
def test_json(steady, where):
    if where == "flag":
        steady.run("--benchmark-compare", "--perf-json=out/run.json")
    else:
        ini(steady, "perf_json = out/run.json")
        steady.run("--benchmark-compare")
    assert '"unchanged"' in (steady.path / "out" / "run.json").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("--benchmark-compare", "--perf-processes=0"),
            [
                "ERROR: --perf-processes: '0' is not a number of processes",
                "A suspicion is confirmed in fresh processes; at least the first one must run.",
                "hint: --perf-processes=12, or --perf-processes=1 to screen only",
            ],
        ),
        (
            ("--perf-json=run.json",),
            [
                "ERROR: --perf-json has nothing to write: no case is judged or recorded in this run",
                "hint: add --benchmark-compare or --perf-update=new",
            ],
        ),
        (
            ("--perf-ab=",),
            [
                "ERROR: --perf-ab=: no commit is named",
                "A run that compares with nothing would pass. In a workflow the variable that names it may be empty.",
                "hint: --perf-ab=origin/main",
            ],
        ),
        (
            ("--perf-ab=HEAD", "--benchmark-disable"),
            [
                "ERROR: --benchmark-disable leaves nothing to compare or record",
                "hint: leave it out, or leave --perf-ab out",
            ],
        ),
        (
            ("--benchmark-compare", "--benchmark-disable"),
            [
                "ERROR: --benchmark-disable leaves nothing to compare or record",
                "hint: leave it out, or leave --benchmark-compare and --perf-update out",
            ],
        ),
    ],
)
def test_bad_settings_are_usage_errors(steady, args, message):
    result = steady.run(*args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([line.replace("[", "[[]") for line in message], consecutive=True)


def test_a_bad_ini_value_is_a_usage_error(steady):
    ini(steady, "perf_update = some")
    result = steady.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: ini option perf_update: 'some' is not one of new, all", "hint: perf_update = new"], consecutive=True
    )


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("colour='red'", "unknown argument colour"),
        ("clock='sundial'", "clock='sundial' cannot be used"),
        ("cache='tepid'", "cache='tepid' cannot be used"),
        ("threads=0", "threads=0 cannot be used"),
        ("budget=-1", "budget=-1 cannot be used"),
        ("outcomes='crashed'", "outcomes='crashed' cannot be used"),
        ("time='quick'", "time: "),
    ],
)
def test_a_bad_perf_marker_is_an_error_of_its_own_test(steady, marker, message):
    steady.cases("a", head=f"@pytest.mark.perf({marker})")
    source = steady.path / "test_speed.py"
    source.write_text(source.read_text() + "\ndef test_plain(): pass\n")
    result = steady.run("--benchmark-compare", "--perf-update=all")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines([f"E * test_speed.py::test_a: perf marker: {message}*", "E *hint: *"])
    assert not (steady.path / "a.taken").exists()


def test_the_nearer_perf_marker_wins(steady):
    steady.cases("a", head="@pytest.mark.perf(time='300%')")
    source = steady.path / "test_speed.py"
    source.write_text(source.read_text() + "\npytestmark = pytest.mark.perf(time='1%', memory='50%')\n")
    steady.figures("a", [2e-3], memory=1.4 * (1 << 20))
    steady.run("--benchmark-compare").assert_outcomes(passed=1)
