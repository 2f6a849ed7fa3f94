"""Is ``..._VISIBLE_DEVICES`` read as CUDA and HIP read it?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate.hardware.visible import visible

GPUS = ["GPU-5d5ba0d6-d33d", "GPU-5d5ba0d6-ffff", "GPU-85bc2a0b-1c6f"]
INSTANCES = ["MIG-41b4d2b8-7f5b", "MIG-93fbbd4f-aa65"]


@pytest.mark.parametrize(
    ("listed", "positions"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("1gpu,2", [1, 2]),
        ("0,-1,1", [0]),
        ("0,,1", [0]),
        ("0,3,1", [0]),
        ("1,1", []),
        ("GPU-85bc2a0b-1c6f", [2]),
        ("GPU-85bc,GPU-5d5ba0d6-d", [2, 0]),
        ("gpu-85BC", [2]),
        ("GPU-5d5ba0d6", []),
        ("GPU-85bc,GPU-nothing,GPU-5d5ba0d6-d", [2]),
        ("GPU-85bc,1", [2]),
        ("1,GPU-85bc", [1]),
        ("GPU-85bc,GPU-85bc", []),
        ("MIG-93", [4]),
        ("MIG-93,MIG-41", [4, 3]),
        ("MIG-nothing", []),
    ],
)
def test_what_is_left_visible(listed: str | None, positions: list[int]) -> None:
    assert visible(listed, GPUS + INSTANCES, count=len(GPUS)) == positions


def test_every_device_has_a_number_unless_told_otherwise() -> None:
    assert visible(None, GPUS) == [0, 1, 2]
    assert visible("2", GPUS) == [2]


@given(st.text(st.sampled_from("012,-+ GPUMIG-d5ba8c٣"), max_size=30))
def test_whatever_is_listed_names_devices_that_exist_and_each_once(listed: str) -> None:
    positions = visible(listed, GPUS + INSTANCES, count=len(GPUS))
    assert len(set(positions)) == len(positions)
    assert set(positions) <= set(range(5))
