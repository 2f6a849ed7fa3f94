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
            "%tiles = arith.divsi %n, %tile : i32\n"
            "scf.for %i = %zero to %tiles step %c : i32 {\n  %1 = arith.muli %i, %tile : i32\n"
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
            ["%2 = arith.muli %i, %c : i32", "%3 = tt.addptr %p, %2 : !tt.ptr<f32>, i32"],
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


LOOPS = (
    "%zero = arith.constant 0 : i32\n%c = arith.constant 1 : i32\n%four = arith.constant 4 : i32\n"
    "%tile = arith.constant 1024 : i32\n%less = arith.constant 1023 : i32\n%most = arith.constant 65536 : i32\n"
    "%up = arith.addi %n, %less : i32\n%tiles = arith.divsi %up, %tile : i32\n"
    "%columns = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>\n"
)
ADDRESS = "%address = tt.addptr %p, %at : !tt.ptr<f32>, i32\n"
TILE_OF_COUNTER = "%at = arith.muli %i, %tile : i32\n"
WIDE = "%wide = arith.extsi %at : i32 to i64\n%address = tt.addptr %p, %wide : !tt.ptr<f32>, i64\n"


def counting(body: str, until: str = "%n") -> str:
    """Write a loop that counts up to a number."""
    return f"{LOOPS}scf.for %i = %zero to {until} step %c : i32 {{\n{body}}}\n"


def adding(body: str, until: str = "%n", step: str = "%c", kind: str = "i32") -> str:
    """Write a loop that carries ``%at`` and yields ``%next``."""
    return (
        f"{LOOPS}%r = scf.for %i = %zero to {until} step {step} iter_args(%at = %zero) -> ({kind}) : i32 {{\n"
        f"{body}scf.yield %next : {kind}\n}}\n"
    )


def while_loop(condition: str, added: str = "%stride") -> str:
    """Write a ``while`` that counts ``%i`` by one and carries ``%at`` and ``%n``."""
    return (
        f"{LOOPS}%r:2 = scf.while (%i = %zero, %at = %zero) : (i32, i32) -> (i32, i32) {{\n{condition}"
        "scf.condition(%go) %i, %at : i32, i32\n} do {\n^bb0(%i: i32, %at: i32):\n"
        f"{ADDRESS}%more = arith.addi %i, %c : i32\n%next = arith.addi %at, {added} : i32\n"
        "scf.yield %more, %next : i32, i32\n}\n"
    )


BELOW = "%go = arith.cmpi slt, %i, %n : i32\n"


@pytest.mark.parametrize(
    ("ttir", "narrow"),
    [
        (counting(TILE_OF_COUNTER + ADDRESS), ["%at = arith.muli %i, %tile : i32"]),
        # It wraps before it is made wide.
        (counting(TILE_OF_COUNTER + WIDE), ["%at = arith.muli %i, %tile : i32"]),
        (counting(f"%at = arith.shli %i, %four : i32\n{ADDRESS}"), ["%at = arith.shli %i, %four : i32"]),
        # So many tiles of a quarter of the size, each as wide as all of it.
        (
            counting(f"%row = arith.muli %i, %four : i32\n{TILE_OF_COUNTER}{ADDRESS}", "%up"),
            ["%at = arith.muli %i, %tile : i32"],
        ),
        (
            counting(f"%row = arith.divsi %i, %four : i32\n%at = arith.muli %row, %tile : i32\n{ADDRESS}"),
            ["%at = arith.muli %row, %tile : i32"],
        ),
        (
            counting(
                "%b = tt.splat %i : i32 -> tensor<64xi32>\n%row = arith.addi %b, %columns : tensor<64xi32>\n"
                "%t = arith.constant dense<128> : tensor<64xi32>\n%at = arith.muli %row, %t : tensor<64xi32>\n"
                "%address = tt.addptr %q, %at : tensor<64x!tt.ptr<f32>>, tensor<64xi32>\n"
            ),
            ["%at = arith.muli %row, %t : tensor<64xi32>"],
        ),
        # Rows from one that was loaded to another one, as of one sequence among others.
        (
            f"%end = tt.load %e : !tt.ptr<i32>\n{counting(TILE_OF_COUNTER + ADDRESS, '%end')}",
            ["%at = arith.muli %i, %tile : i32"],
        ),
        (
            f"{LOOPS}scf.while (%i = %zero) : (i32) -> (i32) {{\n{BELOW}scf.condition(%go) %i : i32\n}} do {{\n"
            f"^bb0(%i: i32):\n{TILE_OF_COUNTER}{ADDRESS}%next = arith.addi %i, %c : i32\nscf.yield %next : i32\n}}\n",
            ["%at = arith.muli %i, %tile : i32"],
        ),
        (adding(f"{ADDRESS}%next = arith.addi %at, %stride : i32\n"), ["%next = arith.addi %at, %stride : i32"]),
        (adding(f"{ADDRESS}%next = arith.subi %at, %stride : i32\n"), ["%next = arith.subi %at, %stride : i32"]),
        (adding(f"{WIDE}%next = arith.addi %stride, %at : i32\n"), ["%next = arith.addi %stride, %at : i32"]),
        (
            adding(f"{ADDRESS}%far = arith.muli %stride, %four : i32\n%next = arith.addi %at, %far : i32\n", "%four"),
            ["%next = arith.addi %at, %far : i32"],
        ),
        (
            adding(
                "%address = tt.addptr %q, %at : tensor<64x!tt.ptr<f32>>, tensor<64xi32>\n"
                "%far = tt.splat %stride : i32 -> tensor<64xi32>\n"
                "%next = arith.addi %at, %far : tensor<64xi32>\n",
                kind="tensor<64xi32>",
            ),
            ["%next = arith.addi %at, %far : tensor<64xi32>"],
        ),
        (
            adding(
                f"{ADDRESS}%next = scf.if %some -> (i32) {{\n%far = arith.addi %at, %stride : i32\n"
                "scf.yield %far : i32\n} else {\nscf.yield %at : i32\n}\n"
            ),
            ["%far = arith.addi %at, %stride : i32"],
        ),
        (
            adding(f"{ADDRESS}%far = arith.addi %at, %stride : i32\n%next = arith.select %some, %far, %at : i32\n"),
            ["%far = arith.addi %at, %stride : i32"],
        ),
        (
            adding(
                f"{ADDRESS}%next = scf.for %j = %zero to %m step %c iter_args(%in = %at) -> (i32) : i32 {{\n"
                "%far = arith.addi %in, %stride : i32\nscf.yield %far : i32\n}\n"
            ),
            ["%far = arith.addi %in, %stride : i32"],
        ),
        (adding(f"{ADDRESS}%next = arith.addi %at, %tile : i32\n"), ["%next = arith.addi %at, %tile : i32"]),
        (
            adding(
                f"{ADDRESS}%next = scf.for %j = %zero to %four step %c iter_args(%in = %at) -> (i32) : i32 {{\n"
                "%far = arith.addi %in, %tile : i32\nscf.yield %far : i32\n}\n"
            ),
            ["%far = arith.addi %in, %tile : i32"],
        ),
        (while_loop(BELOW), ["%next = arith.addi %at, %stride : i32"]),
        (
            while_loop(
                f"{BELOW.replace('%go', '%a')}%b = arith.cmpi slt, %i, %m : i32\n%go = arith.andi %a, %b : i1\n"
            ),
            ["%next = arith.addi %at, %stride : i32"],
        ),
        # Counted by hand.
        (
            adding(
                "%row = arith.muli %at, %tile : i32\n%address = tt.addptr %p, %row : !tt.ptr<f32>, i32\n"
                "%next = arith.addi %at, %c : i32\n"
            ),
            ["%row = arith.muli %at, %tile : i32"],
        ),
        (
            adding(
                "%row = arith.muli %at, %stride : i32\n%address = tt.addptr %p, %row : !tt.ptr<f32>, i32\n"
                "%next = arith.addi %at, %c : i32\n"
            ),
            ["%row = arith.muli %at, %stride : i32"],
        ),
    ],
    ids=[
        "rows",
        "rows made wide",
        "rows by a shift",
        "rows beside tiles",
        "rows in fours",
        "rows of a tile",
        "rows until one loaded",
        "rows of a while",
        "stride",
        "stride back",
        "stride made wide",
        "few large strides",
        "tensor",
        "branch",
        "select",
        "inner loop",
        "constant stride",
        "rounds of an inner loop",
        "while",
        "while both",
        "by hand",
        "by hand times a stride",
    ],
)
def test_loops_that_go_too_far(ttir: str, narrow: list[str]) -> None:
    assert narrow_offsets(ttir) == narrow


@pytest.mark.parametrize(
    "ttir",
    [
        counting(TILE_OF_COUNTER + ADDRESS, "%tiles"),
        counting(f"%at = arith.muli %i, %four : i32\n{ADDRESS}", "%tiles"),
        counting(TILE_OF_COUNTER + ADDRESS, "%most"),
        counting(f"%row = arith.remsi %i, %four : i32\n%at = arith.muli %row, %tile : i32\n{ADDRESS}"),
        counting(f"%row = arith.andi %i, %four : i32\n%at = arith.muli %row, %tile : i32\n{ADDRESS}"),
        counting(f"%row = arith.minsi %i, %four : i32\n%at = arith.muli %row, %tile : i32\n{ADDRESS}"),
        counting(f"%row = arith.shrsi %i, %tile : i32\n%at = arith.muli %row, %tile : i32\n{ADDRESS}"),
        "%few = arith.constant 65536 : i32\n%said = arith.cmpi sle, %n, %few : i32\nllvm.intr.assume %said : i1\n"
        + counting(TILE_OF_COUNTER + ADDRESS),
        "%few = arith.constant 2097152 : i32\n%said = arith.cmpi slt, %n, %few : i32\nllvm.intr.assume %said : i1\n"
        + counting(TILE_OF_COUNTER + ADDRESS),
        # A number of rows, times their width in 64 bits.
        counting(
            "%four_rows = arith.muli %i, %four : i32\n%wide = arith.extsi %four_rows : i32 to i64\n"
            "%at = arith.muli %wide, %width : i64\n%address = tt.addptr %p, %at : !tt.ptr<f32>, i64\n"
        ),
        counting(f"{TILE_OF_COUNTER}%value = tt.load %p : !tt.ptr<i32>\n%sum = arith.addi %value, %at : i32\n"),
        counting(
            "%1 = tt.get_num_programs x : i32\n%2 = arith.muli %i, %1 : i32\n%wide = arith.extsi %2 : i32 to i64\n"
            "%address = tt.addptr %p, %wide : !tt.ptr<f32>, i64\n"
        ),
        counting(f"%left = arith.subi %tiles, %i : i32\n%at = arith.muli %left, %tile : i32\n{ADDRESS}", "%tiles"),
        f"{LOOPS}scf.while (%i = %zero) : (i32) -> (i32) {{\n%go = arith.cmpi slt, %i, %tiles : i32\n"
        f"scf.condition(%go) %i : i32\n}} do {{\n^bb0(%i: i32):\n{TILE_OF_COUNTER}{ADDRESS}"
        "%next = arith.addi %i, %c : i32\nscf.yield %next : i32\n}\n",
        adding(f"{ADDRESS}%next = arith.addi %at, %tile : i32\n", "%tiles"),
        adding(f"{ADDRESS}%next = arith.addi %at, %tile : i32\n", step="%tile"),
        adding(f"{ADDRESS}%next = arith.addi %at, %less : i32\n", step="%tile"),
        adding(f"{ADDRESS}%next = arith.addi %at, %tile : i32\n", "%most"),
        adding(f"{ADDRESS}%next = arith.addi %at, %stride : i32\n", step="%stride"),
        adding(f"{ADDRESS}%next = arith.addi %at, %c : i32\n"),
        adding(f"{ADDRESS}%far = arith.addi %at, %stride : i32\n%next = arith.remsi %far, %tile : i32\n"),
        adding(f"{ADDRESS}%far = arith.addi %at, %stride : i32\n%next = arith.minsi %far, %last : i32\n"),
        adding(f"{ADDRESS}%length = tt.load %p : !tt.ptr<i32>\n%next = arith.addi %at, %length : i32\n"),
        adding(
            "%row = arith.muli %at, %tile : i32\n%address = tt.addptr %p, %row : !tt.ptr<f32>, i32\n"
            "%length = tt.load %p : !tt.ptr<i32>\n%next = arith.addi %at, %length : i32\n"
        ),
        adding("%next = arith.addi %at, %stride : i32\n"),
        adding(f"{ADDRESS}%next = arith.addi %at, %stride : i64\n".replace(", i32", ", i64"), kind="i64"),
        adding(
            "%row = arith.muli %at, %tile : i32\n%address = tt.addptr %p, %row : !tt.ptr<f32>, i32\n"
            "%next = arith.addi %at, %c : i32\n",
            "%tiles",
        ),
        while_loop(BELOW.replace("%i", "%at")),
        while_loop(BELOW, "%c"),
        # Either of two carried numbers may be what ends it.
        while_loop("%go = arith.cmpi slt, %i, %at : i32\n")
        .replace("%p, %at", "%p, %row")
        .replace("%address", "%row = arith.muli %i, %tile : i32\n%address"),
    ],
    ids=[
        "tiles",
        "less than tiles",
        "known number",
        "ring",
        "mask",
        "at most four",
        "no bit left",
        "assumed at most",
        "assumed below",
        "number of rows",
        "no address",
        "number of a program",
        "tiles from the last",
        "tiles of a while",
        "tile by tile",
        "beside the counter by tiles",
        "less than the counter",
        "known number of strides",
        "beside the counter",
        "by one",
        "ring of strides",
        "up to the last",
        "lengths",
        "after lengths",
        "sum that is no address",
        "wide",
        "tiles by hand",
        "counted in strides",
        "while by one",
        "both carried",
    ],
)
def test_loops_that_stay_below(ttir: str) -> None:
    assert narrow_offsets(ttir) == []


def test_what_is_known_reaches_no_further_than_it_must() -> None:
    """A number that is computed in very many steps has no bound, and costs no deep recursion."""
    steps = "".join(f"%{number + 1} = arith.minsi %{number}, %four : i32\n" for number in range(2000))
    body = f"%0 = arith.addi %i, %c : i32\n{steps}%at = arith.muli %2000, %tile : i32\n{ADDRESS}"
    assert narrow_offsets(counting(body)) == []
    body = body.replace("minsi", "maxsi")
    assert narrow_offsets(counting(body)) == ["%at = arith.muli %2000, %tile : i32"]
