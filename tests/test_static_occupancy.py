"""Is occupancy estimated as the vendors' own calculators do?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.static.occupancy import occupancy
from perfgate.static.targets import TARGETS

LIMITS = {name: target.limits for name, target in TARGETS.items()}


@pytest.mark.parametrize(
    ("target", "registers", "shared", "warps", "expected"),
    [
        # CUDA's occupancy calculator: 65536 registers, 64 warps a SM.
        ("sm90", 32, 0, 8, 1.0),
        ("sm90", 33, 0, 8, 0.75),
        ("sm90", 40, 0, 8, 0.75),
        ("sm90", 64, 0, 8, 0.5),
        ("sm90", 128, 0, 4, 0.25),
        ("sm90", 255, 0, 4, 0.125),
        # Four blocks of 48 KiB and 1 KiB each are 196 of 228 KiB.
        ("sm90", 32, 48 << 10, 4, 0.25),
        ("sm90", 32, 227 << 10, 4, 0.0625),
        # At most 32 blocks of one warp.
        ("sm90", 16, 0, 1, 0.5),
        ("sm89", 40, 0, 16, 1.0),
        ("sm89", 41, 0, 16, 2 / 3),
        ("sm80", 85, 64, 16, 0.25),
        # LLVM's "; Occupancy:" for the same figures: 8 of 8 waves with up to 64 registers, 7 with 72, 5 with 96.
        ("gfx942", 64, 0, 1, 0.5),
        ("gfx942", 64, 0, 4, 1.0),
        ("gfx942", 72, 0, 4, 7 / 8),
        ("gfx942", 96, 0, 4, 5 / 8),
        ("gfx90a", 512, 0, 4, 1 / 8),
        ("gfx942", 32, 32 << 10, 4, 0.25),
        ("gfx1100", 96, 0, 4, 1.0),
        ("gfx1100", 97, 0, 4, 12 / 16),
        ("gfx1100", 256, 0, 4, 5 / 16),
    ],
)
def test_occupancy(target: str, registers: int, shared: int, warps: int, expected: float) -> None:
    assert occupancy(LIMITS[target], registers=registers, shared=shared, warps=warps) == pytest.approx(expected)


def test_scalar_registers_limit_cdna_waves() -> None:
    assert occupancy(LIMITS["gfx942"], registers=32, shared=0, warps=4, scalars=96) == 1.0
    assert occupancy(LIMITS["gfx942"], registers=32, shared=0, warps=4, scalars=102) == 7 / 8


def test_what_does_not_fit_has_none() -> None:
    assert occupancy(LIMITS["sm90"], registers=32, shared=228 << 10, warps=4) == 0.0


@settings(deadline=None)
@given(
    target=st.sampled_from(sorted(TARGETS)),
    registers=st.integers(1, 255),
    shared=st.integers(0, 64 << 10),
    warps=st.sampled_from([1, 2, 4, 8, 16]),
    more=st.integers(0, 64),
)
def test_needing_more_never_raises_it(target: str, registers: int, shared: int, warps: int, more: int) -> None:
    limits = LIMITS[target]
    before = occupancy(limits, registers=registers, shared=shared, warps=warps)
    assert 0 <= before <= 1
    assert occupancy(limits, registers=min(registers + more, 256), shared=shared, warps=warps) <= before
    assert occupancy(limits, registers=registers, shared=shared + more * 1024, warps=warps) <= before
