"""Does the lint find addresses that are computed in 32 bits, and only those?"""

from __future__ import annotations

import pytest

from perfgate.static.index_width import narrow_offsets


@pytest.mark.parametrize(
    ("ttir", "narrow"),
    [
        ("%0 = tt.get_program_id x : i32\n%1 = tt.addptr %p, %0 : !tt.ptr<f32>, i32", []),
        (
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n%1 = arith.muli %0, %c : i32\n"
            "%2 = arith.extsi %1 : i32 to i64\n%3 = tt.addptr %p, %2 : !tt.ptr<f32>, i64",
            [],
        ),
        (
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n%1 = arith.muli %0, %c : i32\n"
            "%2 = tt.splat %1 : i32 -> tensor<8xi32>\n%3 = tt.addptr %p, %2 : tensor<8x!tt.ptr<f32>>, tensor<8xi32>",
            ["%3 = tt.addptr %p, %2 : tensor<8x!tt.ptr<f32>>, tensor<8xi32>"],
        ),
        (
            "%0 = tt.get_program_id x : i32\n%1 = arith.muli %0, %stride : i32 loc(#loc3)\n"
            "%2 = arith.extsi %1 : i32 to i64\n%3 = tt.addptr %p, %2 : !tt.ptr<f32>, i64",
            ["%1 = arith.muli %0, %stride : i32"],
        ),
        (
            "%c = arith.constant 12 : i32\n%0 = tt.get_program_id x : i32\n"
            "%1 = arith.shli %0, %c overflow<nsw> : i32\n%2 = tt.addptr %p, %1 : !tt.ptr<f32>, i32",
            ["%2 = tt.addptr %p, %1 : !tt.ptr<f32>, i32"],
        ),
        (
            "%0 = tt.get_program_id x : i32\n%1 = arith.shli %0, %bits : i32 loc(#loc3)\n"
            "%2 = arith.extsi %1 : i32 to i64\n%3 = tt.addptr %p, %2 : !tt.ptr<f32>, i64",
            ["%1 = arith.shli %0, %bits : i32"],
        ),
        (
            "%c = arith.constant 12 : i64\n%0 = tt.get_program_id x : i32\n%1 = arith.extsi %0 : i32 to i64\n"
            "%2 = arith.shli %1, %c : i64\n%3 = tt.addptr %p, %2 : !tt.ptr<f32>, i64",
            [],
        ),
        (
            # Of what was loaded, as of packed weights: no address comes from it.
            "%c = arith.constant 4 : i32\n%0 = tt.get_program_id x : i32\n%1 = tt.addptr %p, %0 : !tt.ptr<i32>, i32\n"
            "%2 = tt.load %1 : !tt.ptr<i32>\n%3 = arith.shli %2, %c : i32\n%4 = tt.addptr %p, %3 : !tt.ptr<f32>, i32",
            [],
        ),
        (
            "%0 = tt.get_program_id x : i32\n%1 = arith.extsi %0 : i32 to i64\n%2 = arith.muli %1, %stride : i64\n"
            "%3 = tt.addptr %p, %2 : !tt.ptr<f32>, i64",
            [],
        ),
        (
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n%1 = arith.muli %0, %c : i32\n"
            "%r = scf.for %i = %zero to %n step %c iter_args(%at = %zero) -> (i32) : i32 {\n"
            "  %2 = tt.addptr %p, %at : !tt.ptr<f32>, i32\n  scf.yield %1 : i32\n}",
            ["%2 = tt.addptr %p, %at : !tt.ptr<f32>, i32"],
        ),
        (
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n%1 = arith.muli %0, %c : i32\n"
            "%r = scf.if %cond -> (i32) {\n  scf.yield %zero : i32\n} else {\n  scf.yield %1 : i32\n}\n"
            "%2 = tt.addptr %p, %r : !tt.ptr<f32>, i32",
            ["%2 = tt.addptr %p, %r : !tt.ptr<f32>, i32"],
        ),
        (
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n"
            "scf.if %cond {\n  %1 = arith.muli %0, %c : i32\n} else {\n"
            "  %1 = arith.muli %n, %c : i32\n  %2 = tt.addptr %p, %1 : !tt.ptr<f32>, i32\n}",
            [],
        ),
    ],
    ids=[
        "row",
        "tile start made wide",
        "tile start",
        "stride then wide",
        "tile start by a shift",
        "stride by a shift",
        "wide shift",
        "shift of what was loaded",
        "wide",
        "through a loop",
        "through a branch",
        "same name elsewhere",
    ],
)
def test_narrow_offsets(ttir: str, narrow: list[str]) -> None:
    assert narrow_offsets(ttir) == narrow
