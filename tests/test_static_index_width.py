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
        (
            "%zero = arith.constant 0 : i32\n%c = arith.constant 1 : i32\n"
            "scf.for %i = %zero to %n step %c : i32 {\n  %1 = arith.muli %i, %stride : i32\n"
            "  %2 = arith.extsi %1 : i32 to i64\n  %3 = tt.addptr %p, %2 : !tt.ptr<f32>, i64\n} loc(#loc4)",
            ["%1 = arith.muli %i, %stride : i32"],
        ),
        (
            "%zero = arith.constant 0 : i32\n%c = arith.constant 1 : i32\n%tile = arith.constant 1024 : i32\n"
            "scf.for %i = %zero to %n step %c : i32 {\n  %1 = arith.muli %i, %tile : i32\n"
            "  %2 = tt.addptr %p, %1 : !tt.ptr<f32>, i32\n}",
            [],
        ),
        (
            "%zero = arith.constant 0 : i32\n%c = arith.constant 1 : i32\n%wide = arith.extsi %stride : i32 to i64\n"
            "scf.for %i = %zero to %n step %c : i32 {\n  %1 = arith.extsi %i : i32 to i64\n"
            "  %2 = arith.muli %1, %wide : i64\n  %3 = tt.addptr %p, %2 : !tt.ptr<f32>, i64\n}",
            [],
        ),
        (
            # A sum that a loop carries is not its counter.
            "%zero = arith.constant 0 : i32\n%c = arith.constant 1 : i32\n"
            "%r = scf.for %i = %zero to %n step %c iter_args(%sum = %zero) -> (i32) : i32 {\n"
            "  %1 = arith.addi %sum, %m : i32\n  %2 = arith.muli %sum, %m : i32\n  scf.yield %1 : i32\n}",
            [],
        ),
        (
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n%1 = tt.get_num_programs x : i32\n"
            "scf.for %i = %0 to %n step %1 : i32 {\n  %2 = arith.muli %i, %c : i32\n"
            "  %3 = tt.addptr %p, %2 : !tt.ptr<f32>, i32\n}",
            ["%3 = tt.addptr %p, %2 : !tt.ptr<f32>, i32"],
        ),
        (
            # As Triton prints it.
            "%row = tt.get_program_id x : i32 loc(#loc7)\n"
            "%row_0 = scf.while (%row_1 = %row) : (i32) -> i32 {\n"
            "  %1 = arith.cmpi slt, %row_1, %rows : i32 loc(#loc3)\n  scf.condition(%1) %row_1 : i32 loc(#loc3)\n"
            '} do {\n^bb0(%row_1: i32 loc("row"(#loc7))):\n  %1 = arith.muli %row_1, %stride : i32 loc(#loc8)\n'
            "  %2 = tt.addptr %p, %1 : !tt.ptr<f32>, i32 loc(#loc4)\n  %row_2 = tt.get_num_programs x : i32\n"
            "  %row_3 = arith.addi %row_1, %row_2 : i32 loc(#loc9)\n  scf.yield %row_3 : i32 loc(#loc2)\n"
            "} loc(#loc10)\n%3 = arith.muli %row_0, %stride : i32 loc(#loc8)",
            [
                "%1 = arith.muli %row_1, %stride : i32",
                "%2 = tt.addptr %p, %1 : !tt.ptr<f32>, i32",
                "%3 = arith.muli %row_0, %stride : i32",
            ],
        ),
        (
            "%zero = arith.constant 0 : i32\n%c = arith.constant 1 : i32\n"
            "scf.while (%i = %zero) : (i32) -> (i32) {\n  %1 = arith.cmpi slt, %i, %n : i32\n"
            "  scf.condition(%1) %i : i32\n} do {\n^bb0(%j: i32):\n  %1 = arith.muli %j, %stride : i32\n"
            "  %2 = arith.addi %j, %c : i32\n  scf.yield %2 : i32\n}",
            ["%1 = arith.muli %j, %stride : i32"],
        ),
        (
            # As packed weights are unpacked.
            "%zero = arith.constant 0 : i32\n%c = arith.constant 1 : i32\n"
            "scf.for %i = %zero to %n step %c : i32 {\n  %1 = arith.shli %word, %i : i32\n}",
            [],
        ),
        (
            "%zero = arith.constant 0 : i32\n%c = arith.constant 1 : i32\n"
            "scf.for %i = %zero to %n step %c : i32 {\n  %1 = arith.cmpi slt, %i, %m : i32\n"
            "  %2 = arith.select %1, %a, %b : i32\n  %3 = arith.muli %2, %stride : i32\n}",
            [],
        ),
        (
            # Neither branch's constant makes the other's a constant.
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n"
            "%r = scf.if %cond -> (i32) {\n  scf.yield %c : i32\n} else {\n  scf.yield %stride : i32\n}\n"
            "%1 = arith.muli %0, %r : i32",
            ["%1 = arith.muli %0, %r : i32"],
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
        "loop counter",
        "loop counter in tiles",
        "wide loop counter",
        "sum of a loop",
        "loop from the program id",
        "while from the program id",
        "while from zero",
        "shift by a loop counter",
        "chosen by a loop counter",
        "constant of one branch",
    ],
)
def test_narrow_offsets(ttir: str, narrow: list[str]) -> None:
    assert narrow_offsets(ttir) == narrow


COUNTED = (
    "%zero = arith.constant 0 : i32\n%c = arith.constant 1 : i32\n%two = arith.constant 2 : i32\n"
    "%tile = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n%wide = arith.extsi %0 : i32 to i64\n"
    "%far = arith.muli %wide, %stride : i64\n%q = tt.addptr %p, %far : !tt.ptr<i8>, i64\n"
)


@pytest.mark.parametrize(
    "ttir",
    [
        # (word >> 2 * i) & 3, times an activation.
        "scf.for %i = %zero to %n step %c : i32 {\n  %1 = arith.muli %i, %two : i32\n"
        "  %2 = arith.shrsi %word, %1 : i32\n  %3 = tt.load %p : !tt.ptr<i32>\n  %4 = arith.muli %2, %3 : i32\n}",
        # Pointers that begin at the program's row, and a sum beside them, times a zero point.
        "%r:2 = scf.for %i = %zero to %n step %c iter_args(%at = %q, %sum = %zero) -> (!tt.ptr<i8>, i32) : i32 {\n"
        "  %1 = tt.load %at : !tt.ptr<i8>\n  %2 = tt.dot %1, %y, %sum : i32\n"
        "  %3 = tt.addptr %at, %tile : !tt.ptr<i8>, i32\n  scf.yield %3, %2 : !tt.ptr<i8>, i32\n}\n"
        "%4 = arith.muli %r#1, %point : i32",
        # The index of the largest, and a sum beside it.
        "%r:2 = scf.for %i = %zero to %n step %c iter_args(%best = %zero, %sum = %zero) -> (i32, i32) : i32 {\n"
        "  %1 = arith.select %larger, %i, %best : i32\n  %2 = arith.addi %sum, %m : i32\n"
        "  scf.yield %1, %2 : i32, i32\n}\n%3 = arith.muli %r#1, %point : i32",
        # A while that counts tiles, and a sum beside it.
        "%r:2 = scf.while (%i = %zero, %sum = %zero) : (i32, i32) -> (i32, i32) {\n"
        "  %1 = arith.cmpi slt, %i, %n : i32\n  scf.condition(%1) %i, %sum : i32, i32\n} do {\n"
        "^bb0(%i: i32, %sum: i32):\n  %1 = tt.dot %x, %y, %sum : i32\n  %2 = arith.addi %i, %c : i32\n"
        "  scf.yield %2, %1 : i32, i32\n}\n%3 = arith.muli %r#1, %point : i32",
        # Indices that were loaded from a wide address, under a mask of a narrow one.
        "%1 = arith.muli %0, %tile : i32\n%2 = arith.cmpi slt, %1, %n : i32\n"
        "%3 = tt.load %q, %2 : !tt.ptr<i32>\n%4 = tt.addptr %p, %3 : !tt.ptr<f32>, i32",
        "%1 = arith.muli %0, %tile : i32\n%2 = arith.cmpi slt, %1, %n : i32\n"
        "%3 = arith.select %2, %columns, %zero : i32\n%4 = tt.addptr %p, %3 : !tt.ptr<f32>, i32",
        "%1 = tt.get_num_programs x : i32\nscf.for %i = %zero to %n step %c : i32 {\n  %2 = arith.muli %i, %1 : i32\n}",
        "%1 = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>\n"
        "scf.for %i = %zero to %n step %c : i32 {\n  %2 = arith.muli %i, %1 : tensor<64xi32>\n}",
    ],
    ids=[
        "unpacked",
        "sum beside pointers",
        "sum beside an index",
        "sum beside what a while counts",
        "loaded under a mask",
        "chosen by a mask",
        "number of a program",
        "place in a tile",
    ],
)
def test_no_false_alarm_beside_counters(ttir: str) -> None:
    assert narrow_offsets(COUNTED + ttir) == []


def test_the_second_of_two_carried_values_is_known_by_its_place() -> None:
    loop = (
        "%r:2 = scf.for %i = %zero to %n step %c iter_args(%sum = %zero, %row = %0) -> (i32, i32) : i32 {\n"
        "  %1 = arith.addi %sum, %m : i32\n  %2 = arith.addi %row, %c : i32\n  scf.yield %1, %2 : i32, i32\n}\n"
        "%3 = arith.muli %r#0, %stride : i32\n%4 = arith.muli %r#1, %stride : i32"
    )
    assert narrow_offsets(COUNTED + loop) == ["%4 = arith.muli %r#1, %stride : i32"]
