"""Does a launch cover every row and its padding, and is the work counted that it does?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_kernels.model_shapes import WIDTHS
from perf_kernels.row_tests import examples
from perf_kernels.slide_quantization import bytes_moved, launch_config, padded_rows, slid_width
from perf_kernels.slide_quantization.launch import GROUPS, cut
from perfgate.static.pool import shared
from perfgate.static.tested import question


@examples
@given(
    st.integers(1, 2**17),
    st.integers(1, 2**20),
    st.sampled_from(list(GROUPS)),
    st.sampled_from([2, 4]),
    st.sampled_from([32, 64]),
)
def test_launch_covers_the_row(rows: int, width: int, group: int, itemsize: int, lanes: int) -> None:
    config = launch_config(rows, width, group, itemsize, lanes)
    shape = cut(config, width, group, itemsize, lanes)
    columns, words = config.groups * group, config.groups * (group // 2 - 1)
    assert shape.units == config.num_warps * lanes <= 1024
    assert columns % shape.vector == 0
    assert words % shape.across == 0
    assert shape.vector * itemsize <= 16
    # The last tile is needed, the row's words are covered, and those of whole tiles lie within the row.
    row_words = slid_width(width, group) // 4
    assert (shape.tiles - 1) * shape.units * words < row_words <= shape.tiles * shape.units * words
    assert shape.tiles * shape.units * columns >= width
    assert shape.whole * shape.units * columns <= width
    assert shape.whole * shape.units * words <= row_words
    assert config.one_pass == (shape.tiles * columns * itemsize <= 160)


@pytest.mark.parametrize("width", [*WIDTHS, 37888])
@pytest.mark.parametrize("group", GROUPS)
def test_rows_of_the_models_are_read_once(group: int, width: int) -> None:
    config = launch_config(65536, width, group, 2)
    assert config.one_pass
    shape = cut(config, width, group, 2, 32)
    assert 1 - slid_width(width, group) / (shape.tiles * shape.units * config.groups * (group // 2 - 1) * 4) <= 0.26


@pytest.mark.parametrize("rows", [64, 512, 8192, 65536])
@pytest.mark.parametrize("width", [3584, 18944])
@pytest.mark.parametrize("group", [4, 8])
def test_what_has_goals_is_declared(group: int, width: int, rows: int) -> None:
    """Qwen2.5-7B in INT8 with 2:4 and 2:8, where nothing is tuned."""
    answer = shared().ask(question("perf_kernels.slide_quantization.specialisations", "sm90"))
    assert answer.status == "compiled", answer.reason
    config = launch_config(rows, width, group, 2)
    shape = cut(config, width, group, 2, 32)
    wanted = {"CODE": "=int8", "GROUP": f"={group}", "GROUPS": f"={config.groups}", "UNITS": f"={shape.units}"}
    wanted |= {"TILES": f"={shape.tiles}", "WHOLE": f"={shape.whole}", "width": "i32:16"}
    assert any(
        form.arguments.items() >= wanted.items() and form.options["num_warps"] == f"{config.num_warps}"
        for launch, forms in answer.forms.items()
        for form in forms
        if launch not in answer.tuned
    )


@pytest.mark.parametrize(
    ("width", "group", "expected"),
    [
        (3584, 4, 3584),
        (3584, 6, 4800),
        (3584, 8, 5376),
        (3584, 10, 5760),
        (3584, 12, 5984),
        (37888, 8, 56832),
        (1, 8, 32),
    ],
)
def test_slid_width(width: int, group: int, expected: int) -> None:
    assert slid_width(width, group) == expected


def test_padded_rows() -> None:
    assert [padded_rows(rows) for rows in (0, 1, 16, 17)] == [0, 16, 16, 32]


def test_bytes_moved() -> None:
    assert bytes_moved(rows=17, width=3584, group=8, itemsize=2) == 17 * 3584 * 2 + 32 * (5376 + 4)
