"""Does a test fail that launches a kernel as no declared launch does, unless its marker says why it may?"""

from __future__ import annotations

import os
import sys

import pytest

# Here, so that pytester does not take them away again: triton cannot be imported twice.
pytest.importorskip("torch")
pytest.importorskip("triton")

CONFTEST = """
from pathlib import Path
from perfgate.static import undeclared

def pytest_configure(config):
    undeclared.register(config, Path(__file__).parent, lambda: "sm90")
"""
#: Launches of it are what its tests launch; and something to do so without a GPU.
KERNEL = """
import torch
import triton
import triton.language as tl


@triton.jit
def scale(x_ptr, y_ptr, width, TILE: tl.constexpr):
    offsets = tl.arange(0, TILE)
    tl.store(y_ptr + offsets, 2 * tl.load(x_ptr + offsets, mask=offsets < width), mask=offsets < width)


@triton.jit
def twin(x_ptr):
    tl.store(x_ptr, 1.0)


def launch(device="cpu", width=32, tile=64, dtype=torch.bfloat16, **options):
    x = torch.zeros(width, dtype=dtype, device=device)
    scale[(1,)](x, torch.empty_like(x), width, tile, **options)
"""
SPECIALISATIONS = """
import functools
from rows.kernel import launch
LAUNCHES = {
    "narrow": functools.partial(launch, "cuda", num_warps=1),
    "wide": functools.partial(launch, "cuda", width=128, tile=128, num_warps=4),
}
"""
TESTS = """
import pytest
import torch
from rows.kernel import launch, twin

marked = pytest.mark.undeclared_launches

def test_declared():
    launch(num_warps=1)

def test_undeclared():
    launch(width=31, tile=32, num_warps=1)

def test_in_a_fixture(launched):
    pass

@pytest.fixture
def launched():
    launch(num_warps=2)

def test_without_any_launch():
    twin[(1,)](torch.zeros(1))

@marked("ragged on purpose")
def test_marked():
    launch(width=31, tile=32, num_warps=1)
    twin[(1,)](torch.zeros(1))

@marked("ragged on purpose", "width", "T*", "twin")
def test_marked_with_names():
    launch(width=31, tile=32, num_warps=1)
    twin[(1,)](torch.zeros(1))

@marked("ragged on purpose", "width")
@marked("other tiles", "TILE", "other")
def test_marked_for_something_else():
    launch(width=31, tile=32, dtype=torch.float16, num_warps=1)
    launch(width=30, tile=32, dtype=torch.float32, num_warps=1)
    launch(width=31, tile=64, dtype=torch.float16, num_warps=1)
    launch(width=31, tile=64, num_warps=1)

@marked("of no use")
def test_marked_in_vain():
    launch(num_warps=1)

@marked("some", "TILE")
@pytest.mark.parametrize("tile", [16, 64])
def test_one_of_two_needs_it(tile):
    launch(tile=tile, num_warps=1)

@pytest.mark.parametrize("tile", [pytest.param(64, marks=marked("not this one"))])
def test_marked_parameters(tile):
    launch(tile=tile, num_warps=1)

@marked("that fails for another reason")
def test_failing():
    launch(tile=16)
    assert torch.zeros(1) == 1
"""


@pytest.fixture
def rows(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder of kernels whose tests are watched; kernels are interpreted."""
    folder = pytester.mkpydir("rows")
    modules = {"kernel": KERNEL, "specialisations": SPECIALISATIONS, "test_rows": TESTS}
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\npythonpath = .\naddopts = --import-mode=importlib --strict-markers\n")
    source = os.pathsep.join(entry for entry in sys.path if entry)
    for name, value in {"TRITON_INTERPRET": "1", "PYTHONPATH": source, "PYTHONWARNINGS": "ignore"}.items():
        monkeypatch.setenv(name, value)
    return pytester


def test_a_test_fails_that_launches_what_is_not_declared(rows: pytest.Pytester) -> None:
    result = rows.runpytest_subprocess("-p", "no:cacheprovider", "--tb=short")
    result.assert_outcomes(passed=7, failed=5)
    text = result.stdout.str()
    failures = text.partition("= FAILURES =")[2].partition("\n===")[0]
    sections = {
        line.strip("_ "): block for line, _, block in (part.partition("\n") for part in failures.split("\n___"))
    }
    declare = "hint: if users launch it, add it to LAUNCHES in rows/specialisations.py; if only this test does, write"
    why = "The static gate compiles nothing that is not declared."
    assert sections["test_undeclared"].strip() == (
        "scale is launched as no launch of rows.specialisations does; nearest is narrow, but for\n"
        "    width: i32, not a multiple of 16 (declared: a multiple of 16)\n"
        "    TILE: constant 32 (declared: constant 64)\n"
        f'{why}\n{declare} @pytest.mark.undeclared_launches("why", "width", "TILE")'
    )
    assert sections["test_in_a_fixture"].strip() == (
        "scale is launched as no launch of rows.specialisations does; nearest is narrow, but for\n"
        "    num_warps: 2 (declared: 1)\n"
        f'{why}\n{declare} @pytest.mark.undeclared_launches("why", "num_warps")'
    )
    assert sections["test_without_any_launch"].strip() == (
        "twin is launched, and no launch of rows.specialisations launches it\n"
        f'{why}\n{declare} @pytest.mark.undeclared_launches("why", "twin")'
    )
    assert sections["test_marked_for_something_else"].strip() == (
        "scale is launched as no launch of rows.specialisations does; nearest is narrow, but for\n"
        "    x_ptr: *fp16, aligned to 16 bytes (declared: *bf16, aligned to 16 bytes)\n"
        "    y_ptr: *fp16, aligned to 16 bytes (declared: *bf16, aligned to 16 bytes)\n"
        "scale is launched as no launch of rows.specialisations does; nearest is narrow, but for\n"
        "    x_ptr: *fp32, aligned to 16 bytes (declared: *bf16, aligned to 16 bytes)\n"
        "    y_ptr: *fp32, aligned to 16 bytes (declared: *bf16, aligned to 16 bytes)\n"
        "  and in 1 more form\n"
        f'{why}\n{declare} @pytest.mark.undeclared_launches("why", "x_ptr", "y_ptr")'
    )
    assert "assert tensor([0.]) == 1" in sections["test_failing"]
    assert "undeclared_launches" not in sections["test_failing"]
    assert text.partition("= undeclared launches =")[2].partition("\n")[2].partition("\n=")[0].splitlines() == [
        "rows/test_rows.py::test_marked_in_vain: nothing is launched there that "
        'undeclared_launches("of no use") allows: remove the marker',
        "rows/test_rows.py::test_marked_parameters[64]: nothing is launched there that "
        'undeclared_launches("not this one") allows: remove the marker',
    ]


NEEDLESS = """
import pytest

pytestmark = pytest.mark.undeclared_launches("for the file")

def test_plain(): pass

@pytest.mark.undeclared_launches("for the test")
@pytest.mark.parametrize("number", [1, 2])
def test_numbers(number): pass

@pytest.mark.undeclared_launches("skipped")
def test_skipped(): pytest.skip("not here")

class TestClass:
    pytestmark = pytest.mark.undeclared_launches("for the class", "TILE")

    def test_method(self): pass
"""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        # What was skipped, or left out, may need the marker of the file.
        ([], ["::TestClass: for the class", "::test_numbers: for the test"]),
        (["-k", "plain"], []),
        (["-k", "1 or method"], ["::TestClass: for the class"]),
        (["test_needless.py::test_numbers"], []),
        (["--lf"], []),
    ],
)
def test_a_marker_that_nothing_needs_is_told(pytester: pytest.Pytester, arguments: list[str], told: list[str]) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_needless=NEEDLESS)
    result = pytester.runpytest("--strict-markers", *arguments)
    lines = result.stdout.str().partition("= undeclared launches =")[2].partition("\n")[2].partition("\n=")[0]
    where = ": nothing is launched there that undeclared_launches("
    assert lines.splitlines() == [
        f'test_needless.py{place}{where}"{reason}") allows: remove the marker'
        for place, reason in (line.rsplit(": ", 1) for line in told)
    ]
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if told else pytest.ExitCode.OK)


def test_on_a_gpu_a_marker_may_be_without_need(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.replace('"sm90")', '"sm90", strict=False)'))
    pytester.makepyfile(test_needless=NEEDLESS)
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.OK
    assert "undeclared launches" not in result.stdout.str()


def test_tests_of_other_folders_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.mkdir("kernels").joinpath("conftest.py").write_text(CONFTEST)
    pytester.makepyfile(test_needless=NEEDLESS)
    assert pytester.runpytest("kernels", "test_needless.py").ret == pytest.ExitCode.OK


@pytest.mark.parametrize("arguments", ["", "3", '"why", 4', '" "', 'reason="why"'])
def test_a_marker_without_a_reason_is_an_error(pytester: pytest.Pytester, arguments: str) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        test_needless=f"import pytest\n@pytest.mark.undeclared_launches({arguments})\ndef test_a(): pass\n"
    )
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().strip() == (
        "ERROR: test_needless.py::test_a: undeclared_launches marker: it takes a reason, and then names, as texts\n"
        "hint: write "
        '@pytest.mark.undeclared_launches("small shapes, for the interpreter", "TILE", "*_stride")'
    )


ANSWER = """
from types import SimpleNamespace
from perfgate.static import tested
from perfgate.static.answers import Answer
from perfgate.static.figures import Form

form, wide = (Form("rows.kernel.scale", {"TILE": tile}, {}) for tile in ("=64", "=128"))
answer = Answer(%s)
undeclared.shared = lambda: SimpleNamespace(submit=list, ask=lambda question: answer)

def pytest_runtest_call(item):
    watch = next(each for each in item.config.pluginmanager.get_plugins() if type(each).__name__ == "_Watch")
    watch._launched["scale"] = wide if "128" in item.name else form
"""


def run_scripted(
    pytester: pytest.Pytester, answer: str, register: str = CONFTEST, tests: str = "def test_a(): pass", *arguments: str
) -> pytest.RunResult:
    """Run tests that launch with a tile of 64, or of 128 if their name says so; what is declared is scripted."""
    pytester.makeconftest(register + ANSWER % answer)
    folder = pytester.mkpydir("rows")
    for name in ("kernel", "specialisations"):
        (folder / f"{name}.py").touch()
    pytester.makepyfile(test_a=tests)
    # In a process of its own: the answer would stay with this one.
    return pytester.runpytest_subprocess("--tb=short", "-p", "no:cacheprovider", *arguments)


MARKED = """
import pytest
marked = pytest.mark.undeclared_launches

def test_declared(): pass

@marked("ragged on purpose", "T*")
def test_marked_128(): pass

@marked("of no use")
def test_marked_in_vain(): pass

@marked("some", "TILE")
@pytest.mark.parametrize("tile", [128, 64])
def test_one_of_two_needs_it(tile): pass
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_workers_of_xdist_tell_the_same(pytester: pytest.Pytester, workers: str) -> None:
    pytest.importorskip("xdist")
    result = run_scripted(pytester, '"compiled", forms={"a": (form,)}', CONFTEST, MARKED, "-n", workers)
    result.assert_outcomes(passed=5)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told = result.stdout.str().partition("= undeclared launches =")[2].partition("\n")[2].partition("\n=")[0]
    assert told.splitlines() == [
        'test_a.py::test_marked_in_vain: nothing is launched there that undeclared_launches("of no use") allows: '
        "remove the marker"
    ]


def test_nothing_is_told_where_nothing_can_be_compiled(pytester: pytest.Pytester) -> None:
    run_scripted(pytester, '"no_compiler"').assert_outcomes(passed=1)


def test_launches_that_cannot_be_looked_at_fail_the_test(pytester: pytest.Pytester) -> None:
    result = run_scripted(pytester, '"failed", "launch: KeyError", "at line 3"')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["rows/specialisations.py: its launches cannot be looked at: launch: KeyError", "at line 3"]
    )


def test_what_was_tuned_is_declared_on_the_gpu_that_it_was_tuned_for(pytester: pytest.Pytester) -> None:
    answer = '"compiled", forms={"a": (wide,), "a-tuned-x": (form,)}, tuned={"a-tuned-x": "sm90"}'
    result = run_scripted(pytester, answer, CONFTEST.replace('"sm90")', '"sm90", strict=False)'))
    result.assert_outcomes(passed=1)


def test_elsewhere_what_was_tuned_is_not_declared(pytester: pytest.Pytester) -> None:
    answer = '"compiled", forms={"a": (wide,), "a-tuned-x": (form,)}, tuned={"a-tuned-x": "sm90"}'
    result = run_scripted(pytester, answer)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["    TILE: constant 64 (declared: constant 128)"])


def test_on_a_gpu_an_undeclared_launch_is_warned_of(pytester: pytest.Pytester) -> None:
    answer = '"compiled", forms={"a": (wide,)}'
    result = run_scripted(pytester, answer, CONFTEST.replace('"sm90")', '"sm90", strict=False)'))
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*UndeclaredLaunch: scale is launched as no launch of rows.specialisations does; nearest is a, but for",
            "*TILE: constant 64 (declared: constant 128)",
        ]
    )


def test_a_timed_case_may_have_the_marker_without_a_watched_folder(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.undeclared_launches("as nobody should", "TILE")
        def test_slow(benchmark):
            benchmark(int)
        """
    )
    pytester.runpytest_subprocess("--strict-markers", "--benchmark-max-time=0.01").assert_outcomes(passed=1)
    pytester.runpytest_subprocess("--markers").stdout.fnmatch_lines(["@pytest.mark.undeclared_launches(reason,*"])
