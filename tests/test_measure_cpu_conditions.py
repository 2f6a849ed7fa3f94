"""What was the machine doing around the samples?"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from perfgate.measure.cpu_conditions import CpuConditions, CpuTimes, QueueWait, parse_stat, read_load, read_times

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, which Linux alone has")

STAT = """\
cpu  1000 20 300 50000 400 5 15 160 70 0
cpu0 500 10 150 25000 200 2 8 80 35 0
cpu1 500 10 150 25000 200 3 7 80 35 0
intr 12345
cpus 7
"""


def test_stat_is_read_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfgate.measure.cpu_conditions._TICKS", 100)

    # user + nice + system + irq + softirq; guest time is in user already, idle and iowait are not busy.
    assert parse_stat(STAT) == CpuTimes(busy_s=pytest.approx(13.4), stolen_s=1.6, count=2)


@pytest.mark.parametrize(
    "text",
    ["", "garbage", "cpu  1 2 3\ncpu0 1 2 3\n", "cpu  1 2 3 4 5 6 7 x\ncpu0 1\n", "cpu  1 2 3 4 5 6 7 8\n"],
    ids=["empty", "garbage", "short", "word", "no processors"],
)
def test_a_stat_that_is_not_linuxs_gives_nothing(text: str) -> None:
    assert parse_stat(text) is None


def conditions(
    times: tuple[CpuTimes | None, CpuTimes | None], own: tuple[float, float] = (1.0, 5.0), load: float | None = 1.25
) -> CpuConditions:
    """Conditions over 4 seconds of a scripted machine."""
    clock, owned, seen = iter([10.0, 14.0]), iter(own), iter(times)
    return CpuConditions(
        times=lambda: next(seen), own=lambda: next(owned), clock=lambda: next(clock), load=lambda: load
    )


def test_what_others_used_is_given_in_cores() -> None:
    with conditions((CpuTimes(100.0, 7.0, 2), CpuTimes(106.0, 7.5, 2))) as seen:
        assert seen.report() == {}

    assert seen.report() == {
        "cpu_elapsed_s": 4.0,
        "load_1min": 1.25,
        "cpu_own": 1.0,
        "cpu_others": 0.5,
        "cpu_stolen": 0.125,
        "cpu_count": 2.0,
    }


def test_the_kernels_coarse_ticks_never_make_others_negative() -> None:
    with conditions((CpuTimes(100.0, 7.0, 2), CpuTimes(103.9, 7.0, 2))) as seen:
        pass

    assert seen.report()["cpu_others"] == 0.0


def test_without_proc_and_load_the_own_share_is_left() -> None:
    with conditions((None, None), load=None) as seen:
        pass

    assert seen.report() == {"cpu_elapsed_s": 4.0, "cpu_own": 1.0}


def test_a_clock_that_stands_still_divides_nothing() -> None:
    with CpuConditions(times=lambda: None, own=lambda: 1.0, clock=lambda: 1.0, load=lambda: None) as seen:
        pass

    assert seen.report() == {"cpu_elapsed_s": 0.0}


def test_conditions_are_known_after_an_error_too() -> None:
    seen = conditions((None, None))
    with pytest.raises(ZeroDivisionError), seen:
        raise ZeroDivisionError

    assert seen.report()["cpu_own"] == 1.0


@linux
def test_the_real_machine_is_read() -> None:
    times = read_times()
    assert times is not None
    assert times.count == os.sysconf("SC_NPROCESSORS_ONLN")
    assert times.busy_s > 0
    assert read_load() is not None

    with CpuConditions() as seen:
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass
    assert seen.report()["cpu_elapsed_s"] >= 0.05
    assert 0 < seen.report()["cpu_own"] <= 1.5


def test_a_missing_queue_figure_counts_as_no_wait(tmp_path: Path) -> None:
    with QueueWait(str(tmp_path / "absent")) as wait:
        assert wait() == 0.0


def test_the_queue_figure_is_the_second_of_three_in_nanoseconds(tmp_path: Path) -> None:
    file = tmp_path / "schedstat"
    file.write_text("123456789 2500000000 42\n")
    wait = QueueWait(str(file))

    assert wait() == 2.5
    file.write_text("123456789 3500000000 43\n")
    assert wait() == 3.5
    file.write_text("0\n")
    assert wait() == 0.0
    wait.close()
    assert wait() == 0.0
    wait.close()


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="this kernel counts no run-queue wait")
def test_a_thread_that_shares_its_core_waits_about_half_of_the_time() -> None:
    """Two busy threads on one core; hashing releases the lock of the interpreter."""
    import hashlib

    core = {min(os.sched_getaffinity(0))}
    stop = threading.Event()
    block = bytes(1 << 20)

    def burn(seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end and not stop.is_set():
            hashlib.sha256(block).digest()

    def rival() -> None:
        os.sched_setaffinity(0, core)
        burn(10.0)

    waited: list[float] = []

    def timed() -> None:
        os.sched_setaffinity(0, core)
        with QueueWait() as wait:
            before = wait()
            burn(0.3)
            waited.append(wait() - before)

    threads = [threading.Thread(target=rival), threading.Thread(target=timed)]
    for thread in threads:
        thread.start()
    threads[1].join()
    stop.set()
    threads[0].join()

    assert 0.05 < waited[0] < 2.0
