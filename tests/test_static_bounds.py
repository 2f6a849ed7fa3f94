"""Does the lint of 32-bit offsets know how far a loop goes: on the way up and down, by steps, sums and assumptions?"""

from __future__ import annotations

import pytest

from perfgate.static.index_width import narrow_offsets

#: Tiles of 1024 of a row of ``%n``, rounded up as ``tl.cdiv`` does.
NUMBERS = (
    "%true = arith.constant true\n%zero = arith.constant 0 : i32\n%c = arith.constant 1 : i32\n"
    "%back = arith.constant -1 : i32\n%four = arith.constant 4 : i32\n%tile = arith.constant 1024 : i32\n"
    "%less = arith.constant 1023 : i32\n%few = arith.constant 65536 : i32\n"
    "%same_tile = arith.constant 1024 : i32\n%up = arith.addi %n, %less : i32\n"
    "%tiles = arith.divsi %up, %tile : i32\n"
)
LENGTH = (
    "%begin = tt.load %p : !tt.ptr<i32>\n%end = tt.load %q : !tt.ptr<i32>\n%length = arith.subi %end, %begin : i32\n"
    "%sum = arith.addi %length, %less : i32\n%count = arith.divsi %sum, %tile : i32\n"
)
ADDRESS = "%address = tt.addptr %p, %at : !tt.ptr<f32>, i32\n"
AT = "%at = arith.muli %i, %tile : i32"
TILE = f"{AT}\n{ADDRESS}"
SUM = "%next = arith.addi %at, %stride : i32"
TWO = (
    "%half = arith.addi %at, %{added} : i32\n%other = tt.addptr %p, %half : !tt.ptr<f32>, i32\n"
    "%next = arith.addi %half, %{added} : i32\n"
)


def counting(body: str, until: str = "%n", start: str = "%zero", step: str = "%c") -> str:
    """Write a ``for`` that counts in ``%i``."""
    return f"{NUMBERS}scf.for %i = {start} to {until} step {step} : i32 {{\n{body}}}\n"


def adding(body: str, until: str = "%n", start: str = "%zero", step: str = "%c") -> str:
    """Write a ``for`` that carries ``%at``, the offset of an address, and yields ``%next``."""
    return (
        f"{NUMBERS}%r = scf.for %i = {start} to {until} step {step} iter_args(%at = %zero) -> (i32) : i32 {{\n"
        f"{ADDRESS}{body}scf.yield %next : i32\n}}\n"
    )


def while_loop(condition: str, body: str, added: str = "%c", start: str = "%zero") -> str:
    """Write a ``while`` that counts in ``%i`` and carries ``%off``, to which it adds a stride."""
    return (
        f"{NUMBERS}%r:2 = scf.while (%i = {start}, %off = %zero) : (i32, i32) -> (i32, i32) {{\n{condition}"
        f"scf.condition(%go) %i, %off : i32, i32\n}} do {{\n^bb0(%i: i32, %off: i32):\n{body}"
        f"%more = arith.addi %i, {added} : i32\nscf.yield %more, %next : i32, i32\n}}\n"
    )


WHILE_TILE = f"{TILE}%next = arith.addi %off, %zero : i32\n"
WHILE_SUM = "%next = arith.addi %off, %stride : i32\n%there = tt.addptr %p, %off : !tt.ptr<f32>, i32\n"
FAR_SUM = "%next = arith.addi %off, %stride : i32"
UNTIL_SMALL = "%large = arith.cmpf ogt, %error, %tolerance : f32\n%both = arith.andi %go, %large : i1\n"


def compared(*comparisons: str) -> str:
    """Write what must all hold for a ``while`` to go on."""
    lines = [f"%go{number} = arith.cmpi {each} : i32\n" for number, each in enumerate(comparisons)]
    both = "%go0, %go1" if len(comparisons) > 1 else "%go0, %go0"
    return "".join(lines) + f"%go = arith.andi {both} : i1\n"


@pytest.mark.parametrize(
    ("ttir", "narrow"),
    [
        (while_loop(compared("sgt, %i, %zero"), WHILE_TILE, "%back", "%n"), [AT]),
        (while_loop(compared("slt, %zero, %i"), WHILE_TILE, "%back", "%n"), [AT]),
        (while_loop(compared("ne, %i, %zero"), WHILE_TILE, "%back", "%n"), [AT]),
        (while_loop(compared("sgt, %i, %zero"), WHILE_TILE, "%back", "%tiles"), []),
        (while_loop(compared("sgt, %i, %zero"), WHILE_SUM, "%back", "%n"), [FAR_SUM]),
        (while_loop(compared("sgt, %i, %zero"), WHILE_SUM, "%back", "%c"), []),
        (while_loop(compared("sge, %i, %zero", "slt, %i, %n"), WHILE_TILE), [AT]),
        (while_loop(compared("slt, %i, %n", "sge, %i, %zero"), WHILE_TILE), [AT]),
        (while_loop(compared("sge, %i, %zero", "slt, %i, %tiles"), WHILE_TILE), []),
        (while_loop(compared("slt, %i, %n", "sgt, %tiles, %i"), WHILE_TILE), []),
        (while_loop(compared("ne, %i, %tiles"), WHILE_TILE), []),
        (
            while_loop("%w = arith.extsi %i : i32 to i64\n%go = arith.cmpi slt, %w, %end : i64\n", WHILE_TILE),
            [AT],
        ),
        (while_loop(compared("sgt, %i, %zero"), WHILE_TILE), [AT]),
        (while_loop(f"{compared('slt, %i, %n')}{UNTIL_SMALL}", WHILE_TILE).replace("(%go)", "(%both)"), [AT]),
        (while_loop(f"{compared('slt, %i, %n')}{UNTIL_SMALL}", WHILE_SUM).replace("(%go)", "(%both)"), [FAR_SUM]),
    ],
    ids=[
        "down",
        "down, mirrored",
        "down, unequal",
        "down by tiles",
        "stride down",
        "one stride down",
        "between",
        "between, other order",
        "between tiles",
        "the nearer end",
        "unequal to tiles",
        "up to a wide number",
        "up without an end",
        "up, or until small enough",
        "stride, or until small enough",
    ],
)
def test_a_while_ends_where_its_comparisons_say(ttir: str, narrow: list[str]) -> None:
    assert narrow_offsets(ttir) == narrow


@pytest.mark.parametrize(
    "ttir",
    [
        # for i in range(tiles - 1, -1, -1), as Triton writes it.
        counting(
            "%left = arith.subi %tiles, %i : i32\n%last = arith.addi %left, %back : i32\n"
            f"%at = arith.muli %last, %tile : i32\n{ADDRESS}",
            "%tiles",
        ),
        # Of a length, the difference of two numbers, of which more is known only where the loop runs.
        counting(
            "%left = arith.subi %count, %i : i32\n%last = arith.addi %left, %back : i32\n"
            f"%at = arith.muli %last, %tile : i32\n{ADDRESS}",
            "%count",
        ).replace("scf.for", f"{LENGTH}scf.for"),
        counting(
            f"%last = arith.subi %most, %i : i32\n%at = arith.muli %last, %tile : i32\n{ADDRESS}", "%count"
        ).replace("scf.for", f"{LENGTH}%most = arith.subi %count, %c : i32\nscf.for"),
        counting(f"%after = arith.addi %i, %c : i32\n%at = arith.muli %after, %tile : i32\n{ADDRESS}", "%tiles"),
        while_loop(
            compared("slt, %i, %tiles"),
            f"%after = arith.addi %i, %c : i32\n%at = arith.muli %after, %tile : i32\n{ADDRESS}"
            "%next = arith.addi %off, %zero : i32\n",
        ),
        # Unrolled four times; the last of four tiles.
        "%three = arith.constant 3 : i32\n"
        + counting(
            f"%last = arith.addi %i, %three : i32\n%at = arith.muli %last, %tile : i32\n{ADDRESS}",
            "%whole",
            step="%step",
        ).replace(
            "scf.for",
            "%rest = arith.remsi %tiles, %four : i32\n%whole = arith.subi %tiles, %rest : i32\n"
            "%step = arith.muli %c, %four : i32\nscf.for",
        ),
        adding("%next = arith.addi %at, %same_tile : i32\n", step="%tile"),
        # The rest of an unrolled loop.
        adding("%next = arith.addi %at, %same_tile : i32\n", start="%whole", step="%tile").replace(
            "%r = ", "%rest = arith.remsi %n, %tile : i32\n%whole = arith.subi %n, %rest : i32\n%r = "
        ),
        # The tile after the one that is counted by hand.
        adding(
            "%after = arith.addi %at, %c : i32\n%row = arith.muli %after, %tile : i32\n"
            "%there = tt.addptr %p, %row : !tt.ptr<f32>, i32\n%next = arith.addi %at, %c : i32\n",
            "%tiles",
        ),
        counting(TILE, "%tiles", start="%first"),
        # At most 16 rounds, wherever they begin.
        adding("%next = arith.addi %at, %tile : i32\n", "%end", start="%first").replace(
            "%r = ", "%end = arith.addi %first, %four : i32\n%r = "
        ),
        adding("%next = arith.addi %at, %tile : i32\n", "%least", start="%first").replace(
            "%r = ",
            "%end = arith.addi %first, %four : i32\n%least = arith.minsi %n, %end : i32\n%r = ",
        ),
        # tl.cdiv(tl.cdiv(n, tile), splits)
        counting(TILE, "%per").replace(
            "scf.for",
            "%one_less = arith.subi %splits, %c : i32\n%sum = arith.addi %tiles, %one_less : i32\n"
            "%per = arith.divsi %sum, %splits : i32\nscf.for",
        ),
        counting(
            "%part = arith.muli %i, %tile : i32\n%at = arith.muli %part, %programs : i32\n" + ADDRESS, "%per"
        ).replace(
            "scf.for",
            "%programs = tt.get_num_programs x : i32\n%all = arith.muli %programs, %tile : i32\n"
            "%one_less = arith.subi %all, %c : i32\n%sum = arith.addi %n, %one_less : i32\n"
            "%per = arith.divsi %sum, %all : i32\nscf.for",
        ),
    ],
    ids=[
        "tiles backwards",
        "tiles of a length backwards",
        "tiles of a length from the last one on",
        "next tile",
        "next tile of a while",
        "unrolled",
        "carried by tiles",
        "rest of an unrolled loop",
        "next tile by hand",
        "from an argument on",
        "so many rounds",
        "at most so many rounds",
        "split",
        "programs",
    ],
)
def test_a_walk_along_a_row_ends_below_its_end(ttir: str) -> None:
    assert narrow_offsets(ttir) == []


@pytest.mark.parametrize("number", ["%n", "%most"], ids=["rows left", "from the last one on"])
def test_rows_backwards_go_as_far_as_rows(number: str) -> None:
    body = f"%row = arith.subi {number}, %i : i32\n%at = arith.muli %row, %tile : i32\n{ADDRESS}"
    ttir = counting(body).replace("scf.for", "%most = arith.subi %n, %c : i32\nscf.for")
    assert narrow_offsets(ttir) == ["%at = arith.muli %row, %tile : i32"]


@pytest.mark.parametrize(
    ("said", "narrow"),
    [
        ("llvm.intr.assume %true : i1\n", [AT]),
        ("llvm.intr.assume %flag : i1\n", [AT]),
        ("%a = arith.cmpi sle, %n : i32\n", [AT]),
        ("%a = arith.cmpi sle, %n, %few : i32\n", []),
        ("%a = arith.cmpi sge, %few, %n : i32\n", []),
        ("%a = arith.cmpi eq, %n, %few : i32\n", []),
        ("%a = arith.cmpi sge, %n, %few : i32\n", [AT]),
        ("%a = arith.cmpi ne, %n, %few : i32\n", [AT]),
        ("%a = arith.cmpi slt, %n, %zero : i32\n", []),
        (
            "%x = arith.cmpi sge, %n, %zero : i32\n%y = arith.cmpi sle, %n, %few : i32\n%a = arith.andi %x, %y : i1\n",
            [],
        ),
        (
            "%b = arith.cmpi sle, %n, %few : i32\nllvm.intr.assume %b : i1\n%far = arith.constant 2147483000 : i32\n"
            "%a = arith.cmpi sle, %n, %far : i32\n",
            [],
        ),
        (
            "%a = arith.cmpi sle, %wide, %much : i64\n",
            [],
        ),
    ],
    ids=[
        "true",
        "flag",
        "nothing else",
        "at most",
        "mirrored",
        "equal",
        "at least",
        "unequal",
        "negative",
        "both",
        "two",
        "wide",
    ],
)
def test_what_a_kernel_assumes(said: str, narrow: list[str]) -> None:
    """``tl.assume`` of something true when the kernel is compiled says nothing, and is no error."""
    wide = "%wide = arith.extsi %n : i32 to i64\n%much = arith.constant 65536 : i64\n"
    told = f"{said}llvm.intr.assume %a : i1\n" if "%a =" in said else said
    assert narrow_offsets(counting(TILE).replace("scf.for", f"{wide}{told}scf.for")) == narrow


@pytest.mark.parametrize(
    ("ttir", "narrow"),
    [
        (
            adding(TWO.format(added="tile"), "%tiles"),
            ["%half = arith.addi %at, %tile : i32", "%next = arith.addi %half, %tile : i32"],
        ),
        (adding(TWO.format(added="less"), step="%few"), []),
        (
            adding(TWO.format(added="stride"), step="%stride"),
            ["%half = arith.addi %at, %stride : i32", "%next = arith.addi %half, %stride : i32"],
        ),
        (adding(f"{SUM}\n", step="%stride"), []),
        (
            adding(
                "%next = scf.for %j = %zero to %four step %c iter_args(%in = %at) -> (i32) : i32 {\n"
                "%far = arith.addi %in, %tile : i32\nscf.yield %far : i32\n}\n",
                "%tiles",
            ),
            ["%far = arith.addi %in, %tile : i32"],
        ),
        (
            adding(
                "%next = scf.for %j = %zero to %four step %c iter_args(%in = %at) -> (i32) : i32 {\n"
                "%far = arith.addi %in, %tile : i32\nscf.yield %far : i32\n}\n",
                step="%few",
            ),
            [],
        ),
        (
            adding(
                "%next = scf.for %j = %zero to %n step %stride iter_args(%in = %at) -> (i32) : i32 {\n"
                "%far = arith.addi %in, %stride : i32\nscf.yield %far : i32\n}\n",
                step="%stride",
            ),
            ["%far = arith.addi %in, %stride : i32"],
        ),
        (
            adding(
                "%next = scf.if %some -> (i32) {\n%one = arith.addi %at, %tile : i32\nscf.yield %one : i32\n} else {\n"
                "%one = arith.addi %at, %tile : i32\nscf.yield %one : i32\n}\n",
                "%tiles",
            ),
            [],
        ),
        (
            adding(
                "%flag = tt.load %p : !tt.ptr<i32>\n%some = arith.cmpi sgt, %flag, %zero : i32\n"
                "%chosen = arith.select %some, %stride, %other : i32\n"
                "%next = arith.addi %at, %chosen : i32\n"
            ),
            ["%next = arith.addi %at, %chosen : i32"],
        ),
        (
            adding(
                "%length = tt.load %p : !tt.ptr<i32>\n%far = arith.addi %at, %length : i32\n"
                "%next = arith.addi %far, %stride : i32\n"
            ),
            ["%next = arith.addi %far, %stride : i32"],
        ),
        (
            adding(
                "%length = tt.load %p : !tt.ptr<i32>\n%far = arith.addi %at, %length : i32\n"
                "%next = arith.addi %far, %c : i32\n"
            ),
            [],
        ),
        (
            adding(f"{SUM}\n", "%zero", start="%minus").replace("%r = ", "%minus = arith.subi %zero, %n : i32\n%r = "),
            [SUM],
        ),
        # Set to another number in one round, and counted on from there.
        (
            adding(
                "%row = arith.muli %at, %tile : i32\n%there = tt.addptr %p, %row : !tt.ptr<f32>, i32\n"
                "%more = arith.addi %at, %c : i32\n%next = arith.select %some, %start, %more : i32\n",
                "%four",
            ),
            ["%row = arith.muli %at, %tile : i32"],
        ),
    ],
    ids=[
        "two a round",
        "two small ones a round",
        "two strides beside the counter",
        "one stride beside the counter",
        "rounds of an inner loop",
        "few rounds of an inner loop",
        "beside both counters",
        "branches",
        "one of two strides",
        "with lengths",
        "little with lengths",
        "up from below zero",
        "set anew",
    ],
)
def test_sums_of_all_that_a_loop_adds(ttir: str, narrow: list[str]) -> None:
    assert narrow_offsets(ttir) == narrow


@pytest.mark.parametrize("added", ["%c", "%length"])
def test_rows_that_a_loop_adds_up_are_counted_and_lengths_that_it_loads_are_not(added: str) -> None:
    row = "%row = arith.muli %at, %tile : i32"
    body = (
        f"{LENGTH}{row}\n%there = tt.addptr %p, %row : !tt.ptr<f32>, i32\n"
        f"%some = arith.addi %at, {added} : i32\n%next = arith.addi %some, %c : i32\n"
    )
    assert (row in narrow_offsets(adding(body))) is (added == "%c")


def test_what_an_inner_loop_counts_in_goes_to_its_end_once() -> None:
    """As of a grouped product, whose programs take tiles in turns, from one group to the next."""
    inner = (
        "%length = tt.load %p : !tt.ptr<i32>\n"
        "%next = scf.while (%in = %at) : (i32) -> (i32) {\n%go = arith.cmpi slt, %in, %length : i32\n"
        "scf.condition(%go) %in : i32\n} do {\n^bb0(%in: i32):\n%more = arith.addi %in, %four : i32\n"
        "scf.yield %more : i32\n}\n"
    )
    assert narrow_offsets(adding(inner)) == []
    # What the outer loop adds itself is added in each of its rounds.
    outer = f"{inner.replace('%next', '%done')}%next = arith.addi %done, %four : i32\n"
    assert "%next = arith.addi %done, %four : i32" in narrow_offsets(adding(outer))


PERSISTENT = (
    "%programs = tt.get_num_programs x : i32\n%program = tt.get_program_id x : i32\n"
    "scf.for %i = %program to {until} step %programs : i32 {{\n{body}}}\n"
)
WIDE = "%wide = arith.extsi %at : i32 to i64\n%address = tt.addptr %p, %wide : !tt.ptr<f32>, i64\n"


@pytest.mark.parametrize(
    ("until", "body", "narrow"),
    [
        ("%n", f"{AT}\n{WIDE}", [AT]),
        (
            "%n",
            f"%row = arith.addi %i, %c : i32\n%at = arith.muli %row, %tile : i32\n{WIDE}",
            ["%at = arith.muli %row, %tile : i32"],
        ),
        ("%tiles", f"{AT}\n{WIDE}", []),
        # A row of the tiles of a product, found from the tile's number.
        ("%n", f"%row = arith.divsi %i, %m : i32\n%at = arith.muli %row, %tile : i32\n{WIDE}", []),
        ("%n", f"%row = arith.addi %program, %c : i32\n%at = arith.muli %row, %tile : i32\n{WIDE}", []),
    ],
    ids=["rows", "next row", "tiles", "row of tiles", "tile of the program"],
)
def test_loops_from_the_program_id_on(until: str, body: str, narrow: list[str]) -> None:
    assert narrow_offsets(NUMBERS + PERSISTENT.format(until=until, body=body)) == narrow


@pytest.mark.parametrize(
    "line",
    [
        "%tiles = arith.divsi %up : i32",
        "%tiles = arith.subi %up : i32",
        "%tiles = arith.select %up : i32",
        "%tiles = tt.splat : i32",
        "%tiles = foo.bar %up, %up, %up : i32",
        "%tiles = arith.cmpi slt, %up : i32",
    ],
)
def test_operations_that_are_not_known_have_no_bound(line: str) -> None:
    assert narrow_offsets(counting(TILE, "%tiles").replace("%tiles = arith.divsi %up, %tile : i32", line)) == [AT]


def test_what_is_computed_from_the_same_number_again_and_again_costs_little() -> None:
    many = range(400)
    least = "".join(f"%u{each + 1} = arith.minsi %u{each}, %u{each} : i32\n" for each in many)
    said = "".join(f"%a{each + 1} = arith.andi %a{each}, %a{each} : i1\n" for each in many)
    before = (
        f"%u0 = arith.addi %n, %zero : i32\n{least}%a0 = arith.cmpi sle, %n, %few : i32\n{said}"
        "llvm.intr.assume %a400 : i1\n"
    )
    assert narrow_offsets(counting(TILE).replace("scf.for", f"{before}scf.for")) == []
    again = said.replace("%a", "%go")
    condition = f"%go0 = arith.cmpi slt, %i, %tiles : i32\n{again}".replace("%go400 =", "%go =")
    assert narrow_offsets(while_loop(condition, WHILE_TILE)) == []
