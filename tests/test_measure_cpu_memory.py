"""How much memory does one call need? Twins that hold 8 MiB more must be seen, whoever allocates it."""

from __future__ import annotations

import contextlib
import gc
import mmap
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from perfgate.measure import case, cpu_memory
from perfgate.model import Device
from perfgate.plan import Plan

# What is loaded later would not be set aside.
with contextlib.suppress(ImportError):
    import torch  # noqa: F401

pytestmark = pytest.mark.usefixtures("resting_heap")

MIB = 1 << 20
HELD = 8 * MIB

glibc = pytest.mark.skipif(
    cpu_memory._glibc() is None or not cpu_memory._can_reset(),
    reason="the high-water mark needs Linux, glibc and a kernel that lets it be reset",
)


def torch_of(make: str) -> Callable[[], Any]:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'perfgate[suite]'")
    return lambda: getattr(torch, make)(HELD // 4)


def numpy_of(make: str) -> Callable[[], Any]:
    import numpy as np

    return lambda: getattr(np, make)(HELD, np.uint8)


TWINS: dict[str, Callable[[], Callable[[], Any]]] = {
    "torch ones": lambda: torch_of("ones"),
    "torch empty, never written": lambda: torch_of("empty"),
    "torch zeros": lambda: torch_of("zeros"),
    "numpy ones": lambda: numpy_of("ones"),
    "numpy empty, never written": lambda: numpy_of("empty"),
    "numpy zeros, never written": lambda: numpy_of("zeros"),
    "bytes, never written": lambda: lambda: bytes(HELD),
    "written bytes": lambda: lambda: b"x" * HELD,
    "bytearray": lambda: lambda: bytearray(HELD),
}


def small() -> int:
    return len(list(range(1000)))


def large() -> int:
    """Needs 24 MiB itself, so that malloc takes its blocks from elsewhere than for a small call."""
    return len(b"x" * (24 * MIB))


@glibc
@pytest.mark.parametrize("base", [small, large], ids=["small", "large"])
@pytest.mark.parametrize("twin", TWINS)
def test_eight_more_mebibytes_are_seen(base: Callable[[], int], twin: str) -> None:
    hold = TWINS[twin]()

    def holding() -> int:
        held = hold()
        return base() + len(held)

    base()
    holding()
    more = cpu_memory.peak_memory(holding).peak_bytes - cpu_memory.peak_memory(base).peak_bytes

    assert abs(more - HELD) < MIB // 2


@glibc
def test_the_peak_counts_what_is_gone_when_the_call_returns_and_what_it_returns() -> None:
    def passing() -> int:
        return len(b"x" * HELD)

    def returning() -> bytes:
        return b"x" * HELD

    for call in (passing, returning):
        reading = cpu_memory.peak_memory(call)
        assert abs(reading.peak_bytes - HELD) < MIB // 2
        assert reading.method == "high-water"
        assert reading.resident_bytes > MIB


@glibc
def test_memory_left_free_by_earlier_calls_does_not_hide_a_call() -> None:
    # Many blocks below malloc's mmap threshold: freed, they stay in the heap until it is trimmed.
    blocks = [bytes(100_000) for _ in range(300)]
    keep = blocks[::2]
    del blocks

    reading = cpu_memory.peak_memory(lambda: [b"x" * 100_000 for _ in range(80)])

    assert abs(reading.peak_bytes - 8_000_000) < MIB
    assert len(keep) == 150


@glibc
def test_three_calls_are_read_and_their_median_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_memory, "_high_water", scripted := Scripted([9, 50, 10, 30]))

    reading = cpu_memory.peak_memory(lambda: None)

    # The first call tells whether blocks may be cleared, and does not count then.
    assert (reading.peak_bytes, reading.calls_bytes) == (30, (50, 10, 30))
    assert scripted.left == []


@glibc
def test_a_slow_call_is_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_memory, "BUDGET_S", 0.0)
    calls: list[int] = []

    reading = cpu_memory.peak_memory(lambda: calls.append(1))

    assert len(calls) == 2
    assert len(reading.calls_bytes) == 1


@glibc
def test_what_another_test_once_mapped_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with mmap.mmap(-1, 8 << 30, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ):
        pass  # the process's mark of address space stays this high
    monkeypatch.setattr(cpu_memory, "_available_bytes", lambda: 2 << 30)

    assert cpu_memory.peak_memory(lambda: bytes(HELD)).method == "high-water"
    assert cpu_memory.peak_memory(lambda: len(bytes(3 << 30))).method == "touched"


@glibc
def test_an_address_space_larger_than_the_memory_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_memory, "_available_bytes", lambda: 0)

    reading = cpu_memory.peak_memory(lambda: len(bytes(256 * MIB)))

    assert reading.method == "touched"
    assert reading.peak_bytes < 2 * MIB
    assert len(reading.calls_bytes) == 3


@glibc
def test_malloc_hands_out_blocks_as_before_afterwards() -> None:
    cpu_memory.peak_memory(lambda: bytes(HELD))
    before = cpu_memory._status()["VmRSS"]
    held = bytes(256 * MIB)

    assert cpu_memory._status()["VmRSS"] - before < 64 * MIB
    assert len(held) == 256 * MIB


@glibc
def test_the_collector_is_left_as_it_was() -> None:
    frozen: list[int] = []
    gc.unfreeze()

    cpu_memory.peak_memory(lambda: frozen.append(gc.get_freeze_count()))
    assert frozen[0] > cpu_memory.IMMORTAL
    assert gc.get_freeze_count() <= cpu_memory.IMMORTAL

    # As the other tests here have it.
    gc.freeze()
    count = gc.get_freeze_count()
    cpu_memory.peak_memory(lambda: None)
    assert gc.get_freeze_count() == count


def test_a_case_sets_the_heap_aside_once_for_its_time_and_its_memory() -> None:
    frozen: list[int] = []
    gc.unfreeze()
    device = Device("cpu", "Pretended CPU", "cpu-pretended", 8 << 30)

    case.measure(lambda: frozen.append(gc.get_freeze_count()), (), {}, plan=Plan(budget_s=0.01), device=device)

    # Some of what is set aside ends meanwhile.
    assert max(frozen) >= min(frozen) > max(cpu_memory.IMMORTAL, 0.99 * max(frozen))
    assert gc.get_freeze_count() <= cpu_memory.IMMORTAL
    gc.freeze()


@glibc
def test_an_error_of_the_call_is_passed_on() -> None:
    def call() -> None:
        raise ZeroDivisionError("of the call")

    with pytest.raises(ZeroDivisionError, match=r"^of the call$"):
        cpu_memory.peak_memory(call)


class Scripted:
    """Stands in for one call's reading."""

    def __init__(self, peaks: list[int]) -> None:
        self.left = peaks

    def __call__(self, fn: Callable[[], Any], libc: object) -> tuple[int, int]:
        return self.left.pop(0), 7


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without glibc."""
    monkeypatch.setattr(cpu_memory, "_glibc", lambda: None)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "twin", [name for name in TWINS if not name.startswith("torch")], ids=lambda name: name.replace(",", "")
)
def test_elsewhere_pythons_and_numpys_allocations_are_traced(twin: str) -> None:
    reading = cpu_memory.peak_memory(TWINS[twin]())

    assert abs(reading.peak_bytes - HELD) < MIB // 16
    assert (reading.method, reading.resident_bytes) == ("traced", 0)
    assert not tracemalloc.is_tracing()


@pytest.mark.usefixtures("elsewhere")
def test_tracing_that_was_on_stays_on_and_its_memory_does_not_count() -> None:
    tracemalloc.start()
    try:
        before = bytes(HELD)
        reading = cpu_memory.peak_memory(lambda: bytes(MIB))
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()

    assert abs(reading.peak_bytes - MIB) < MIB // 16
    assert len(before) == HELD


@glibc
def test_a_kernel_that_refuses_the_reset_is_traced(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(cpu_memory, "_CLEAR_REFS", str(tmp_path / "no such folder" / "clear_refs"))

    assert cpu_memory.peak_memory(lambda: bytes(HELD)).method == "traced"


@pytest.mark.skipif(sys.platform.startswith("linux"), reason="Linux has a method of its own")
def test_other_systems_are_traced() -> None:
    assert cpu_memory.peak_memory(lambda: bytes(HELD)).method == "traced"
