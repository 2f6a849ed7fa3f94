"""Where do the profiles of a case go, and what does its text say?"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate.profile import Operator, Profile, Span
from perfgate.profile.summary import place, text, write, write_case

ROOT = Path("profiles")


class Recorded:
    """What torch would have recorded."""

    def table(self, *, sort_by: str, row_limit: int) -> str:
        return f"{row_limit} rows by {sort_by}\n"

    def export_chrome_trace(self, path: str) -> None:
        Path(path).write_text("{}")


def profile(**changes) -> Profile:
    values = {
        "operators": (Operator("aten::mm", 2, 1e-3, 2e-3, 3e-6, 3e-6, 0, 64),),
        "kernels": {"gemm": 2, "fill": 1},
        "copies": {"Memset (Device)": 1},
        "runtime": {"cudaLaunchKernel": 3},
        "spans": (Span("backward", 1, 2e-3, 3e-6),),
        "cpu_s": 2e-3,
        "device_s": 4e-6,
        "_averages": Recorded(),
        "_profiler": Recorded(),
    }
    return Profile(**{**values, **changes})


@pytest.mark.parametrize(
    ("case", "path"),
    [
        ("test_x.py::test_y", "test_x/test_y"),
        ("perf_tests/a/test_x.py::test_y[fp8-1,2=3]", "perf_tests/a/test_x/test_y[fp8-1,2=3]"),
        ("test_x.py::test_y[a/b]", "test_x/test_y[a-b]-3369bc57"),
        ("test_x.py::TestZ::test_y", "test_x/TestZ--test_y-f3d2028f"),
        ("../test_x.py::test_y", "-5ec1f7e7/test_x/test_y"),
    ],
)
def test_a_case_has_files_of_its_own(case, path):
    assert place(ROOT, case).relative_to(ROOT).as_posix() == path


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_cases_never_share_a_file_nor_leave_the_folder(one, other):
    first, second = (place(ROOT, f"test_x.py::test[{name}]") for name in (one, other))
    assert (first == second) == (one == other)
    assert first.parent == ROOT / "test_x"
    assert len(first.name) < 200


@given(st.text(min_size=1))
def test_no_module_leaves_the_folder(module):
    parts = place(ROOT, f"{module.replace('::', '')}::test").parts
    assert parts[0] == "profiles"
    assert not any(part in ("", ".", "..") or "/" in part for part in parts)


def test_the_text_names_every_kernel_with_its_launches():
    assert text("test_x.py::test_y", profile()) == (
        "test_x.py::test_y\n"
        "Times are those under the profiler, which slows a call down: they are not the time of the call.\n"
        "\n"
        "15 rows by self_device_time_total\n"
        "\n"
        "3 launches of 2 kernels, 1 copy or fill of memory\n"
        "       2  gemm\n"
        "       1  fill\n"
        "       1  Memset (Device)\n"
        "span backward: 1 call, 2.00 ms on the CPU, 3.00 us on the device\n"
    )


@pytest.mark.parametrize(
    ("changes", "top"),
    [
        ({}, "aten::mm"),
        ({"device_s": 0.0}, "aten::mm"),
        ({"operators": (Operator("aten::t", 1, 1e-3, 1e-3, 0.0, 0.0, 0, 0),)}, ""),
        ({"operators": ()}, ""),
    ],
)
def test_the_top_operator_is_one_that_took_the_time_of_the_case(tmp_path, changes, top):
    assert write_case(tmp_path, "test_x.py::test_y", profile(**changes)).top_operator == top


def test_the_summary_is_sorted_by_case(tmp_path):
    rows = [write_case(tmp_path, f"test_x.py::test_{name}", profile()) for name in "ba"]
    write(tmp_path, rows)
    assert (tmp_path / "summary.csv").read_text() == (
        "case,profiled_cpu_s,profiled_device_s,launches,kernels,operator_calls,operators,top_operator,trace\n"
        "test_x.py::test_a,0.002000000,0.000004000,3,2,2,1,aten::mm,test_x/test_a.json.gz\n"
        "test_x.py::test_b,0.002000000,0.000004000,3,2,2,1,aten::mm,test_x/test_b.json.gz\n"
    )
