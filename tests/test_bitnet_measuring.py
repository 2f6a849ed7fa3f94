"""Do recorder, timeline, system and comparison measure what they say they do?"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import time
from collections.abc import Callable
from itertools import cycle, pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from perf_workloads.bitnet import roofline
from perf_workloads.bitnet.clocks import CudaClock, WallClock, open_clock
from perf_workloads.bitnet.compare import FIRST_ROUNDS, Ratio, time_ratio
from perf_workloads.bitnet.generation import Stages
from perf_workloads.bitnet.procfs import Memory, peak_rss, read_memory, reset_peak
from perf_workloads.bitnet.recorder import APART, Call, LayerRecorder
from perf_workloads.bitnet.system import base_frequency, describe, physical_cores
from perf_workloads.bitnet.timeline import MemoryTimeline
from perf_workloads.bitnet.tokenizer import ByteTokenizer
from perfgate.errors import SettingError

torch = pytest.importorskip("torch")

MIB = 1 << 20


class ScriptedClock:
    """Gives one mark after the other; a second passes between two."""

    def __init__(self) -> None:
        self.marks = 0

    def before(self) -> float:
        self.marks += 1
        return float(self.marks)

    def after(self, before: float) -> float:
        return self.before()

    def seconds(self, before: float, after: float) -> float:
        return after - before

    def late(self, before: float, after: float) -> bool:
        return before == 3.0


def test_calls_are_recorded_with_phase_and_shape_and_the_first_of_each_shape_is_cold():
    module = torch.nn.Linear(8, 4, bias=False)
    recorder = LayerRecorder({"model.layers.0.mlp.up_proj": module}, ScriptedClock())
    with recorder:
        with recorder.phase("prefill"):
            module(torch.zeros(1, 5, 8))
        with recorder.phase("decode"):
            for _ in range(3):
                module(torch.zeros(1, 1, 8))
        with recorder.phase(APART):
            module(torch.zeros(1, 5, 8))
    module(torch.zeros(1, 1, 8))

    (figures,) = recorder.figures(4)

    prompt, token = ((1, 5, 8), (1, 5, 4)), ((1, 1, 8), (1, 1, 4))
    assert figures.calls == [
        Call("prefill", *prompt, 1.0, True),
        Call("decode", *token, 1.0, True, late=True),
        Call("decode", *token, 1.0, False),
        Call("decode", *token, 1.0, False),
        Call(APART, *prompt, 1.0, False),
    ]
    assert (figures.group, figures.ternary, figures.parameters, figures.weight_bytes) == ("mlp.up_proj", False, 32, 128)
    assert (figures.total_s, figures.cold_s, figures.warm_s, figures.prefill_again_s) == (4.0, 2.0, 1.0, 1.0)
    assert len(figures.counted) == 4


def test_the_clock_of_a_cpu_leaves_out_the_wait_for_a_core():
    log: list[str] = []

    def script(name: str, values: list[float]) -> Any:
        left = iter(values)
        return lambda: log.append(name) or next(left)

    clock = WallClock(script("wait", [5.0, 5.5]), script("wall", [10.0, 13.0]))
    before = clock.before()
    after = clock.after(before)
    assert clock.seconds(before, after) == 2.5
    assert not clock.late(before, after)
    # Otherwise a core lost between two readings would make a time too small, even negative.
    assert log == ["wall", "wait", "wait", "wall"]


def test_a_stage_waits_for_a_core_within_its_time() -> None:
    """As long as memory is looked at before and after, somebody else may have the core."""
    now_s, waited_s = [0.0], [0.0]

    def lose_the_core() -> Memory:
        now_s[0] += 7.0
        waited_s[0] += 7.0
        return Memory(0, 0, 0, 0)

    stages = Stages(MemoryTimeline(clock=lambda: now_s[0], look=lose_the_core), lambda: None, lambda: waited_s[0])
    stages._timeline._start_s = 0.0
    with stages("decode"):
        now_s[0] += 3.0
        waited_s[0] += 2.0
    (stage,) = stages.done
    # The first look is after the time of the stage's begin, the second after that of its end.
    assert (stage.seconds, stage.waited_s) == (10.0, 2.0)


def test_the_clock_of_a_cpu_counts_other_waits():
    with open_clock("cpu") as clock:
        before = clock.before()
        time.sleep(0.02)
        assert 0.01 <= clock.seconds(before, clock.after(before)) < 5


class PretendedGpu:
    """A queue that the device works off while the CPU fills it, and a CPU that takes time for every entry."""

    def __init__(self) -> None:
        self.now_s = self.free_s = 0.0
        self.spun_s: list[float] = []

    def launch(self, seconds: float, queued_s: float = 10e-6) -> None:
        self.now_s += queued_s
        self.free_s = max(self.free_s, self.now_s) + seconds

    def layer(self, launches: int = 20, queued_s: float = 10e-6) -> None:
        """Launch kernels of 2 us each: the device waits for the CPU unless it is busy."""
        for _ in range(launches):
            self.launch(2e-6, queued_s)

    def spin(self, seconds: float) -> None:
        self.spun_s.append(seconds)
        self.launch(seconds)

    def event(self) -> PretendedEvent:
        return PretendedEvent(self)

    def clock(self) -> CudaClock:
        return CudaClock(self.event, self.spin, lambda: self.now_s)

    def timed(self, clock: CudaClock, **layer: Any) -> tuple[float, bool]:
        before = clock.before()
        self.layer(**layer)
        after = clock.after(before)
        return clock.seconds(before, after), clock.late(before, after)


class PretendedEvent:
    def __init__(self, gpu: PretendedGpu) -> None:
        self._gpu, self.reached_s = gpu, 0.0

    def record(self) -> None:
        self._gpu.launch(0.0, 1e-6)
        self.reached_s = self._gpu.free_s

    def query(self) -> bool:
        return self._gpu.now_s >= self.reached_s

    def synchronize(self) -> None:
        """Nothing to do: when a pretended GPU reaches an event is known as soon as it is queued."""

    def elapsed_time(self, other: PretendedEvent) -> float:
        return (other.reached_s - self.reached_s) * 1e3


def test_the_clock_of_a_gpu_leaves_out_the_wait_for_launches():
    gpu = PretendedGpu()
    # Between two events alone, as the launches take five times as long as the kernels.
    start, end = gpu.event(), gpu.event()
    start.record()
    gpu.layer()
    end.record()
    assert start.elapsed_time(end) > 0.19
    clock = gpu.clock()
    for _ in range(40):
        assert gpu.timed(clock) == (pytest.approx(40e-6), False)
        gpu.layer()
    # No longer than is needed: what is spun is missing elsewhere.
    assert gpu.spun_s[-1] == pytest.approx(1.5 * 201e-6)


def test_the_clock_of_a_gpu_follows_the_cpu():
    gpu = PretendedGpu()
    clock = gpu.clock()
    found = [gpu.timed(clock, queued_s=40e-6) for _ in range(20)]
    # The first spin is shorter than this CPU needs; those calls are known, and the next ones are in time.
    assert found[0][1]
    assert found[0][0] > 200e-6
    assert found[-5:] == [(pytest.approx(40e-6), False)] * 5


def test_a_first_call_that_compiles_is_late_and_changes_no_other():
    gpu = PretendedGpu()
    clock = gpu.clock()
    for _ in range(20):
        gpu.timed(clock)
    seconds, late = gpu.timed(clock, launches=1, queued_s=0.6)
    assert late
    assert 0.59 < seconds < 0.61
    assert gpu.timed(clock) == (pytest.approx(40e-6), False)
    assert gpu.spun_s[-1] == pytest.approx(1.5 * 201e-6)


def test_a_gpu_that_is_behind_is_not_kept_busy():
    gpu = PretendedGpu()
    clock = gpu.clock()
    furthest_s = 0.0
    for _ in range(200):
        # The spin alone takes longer than all that the CPU does.
        assert gpu.timed(clock) == (pytest.approx(40e-6), False)
        furthest_s = max(furthest_s, gpu.free_s - gpu.now_s)
    assert furthest_s < 3e-3
    assert 10 < len(gpu.spun_s) < 200


def test_a_gpu_is_not_kept_busy_for_long():
    gpu = PretendedGpu()
    clock = gpu.clock()
    for _ in range(20):
        assert gpu.timed(clock, launches=1, queued_s=0.1)[1]
    assert max(gpu.spun_s) == 2e-3


def test_ceilings_are_measured(monkeypatch):
    monkeypatch.setattr(roofline, "_STREAM_BYTES", 4 * MIB)
    monkeypatch.setattr(roofline, "_PIECE_BYTES", MIB)
    monkeypatch.setattr(roofline, "_EDGE", {"cpu": 64})
    found = roofline.measure("cpu")
    assert 1e7 < found.bandwidth < 1e12
    assert all(1e7 < found.rates[name] < 1e13 for name in ("fp32", "bf16", "int8"))


def touched(size: int) -> mmap.mmap:
    """Take memory of the system's own: an allocator may have some left that it once had touched."""
    memory = mmap.mmap(-1, size)
    for place in range(0, size, mmap.PAGESIZE):
        memory[place] = 1
    return memory


def test_memory_is_sampled_between_the_edges_of_a_stage():
    """Pitfall: a timeline of stage edges has no sample where memory is highest."""
    with MemoryTimeline(0.005) as timeline:
        start_s = timeline.now_s()
        before = timeline.samples[0].memory.rss
        held = touched(64 * MIB)
        # As long as a busy machine takes for some samples.
        enough, deadline = len(timeline.samples) + 20, time.monotonic() + 60
        while len(timeline.samples) < enough:
            assert time.monotonic() < deadline, "memory is not sampled"
            time.sleep(0.005)
        held.close()
        end_s = timeline.now_s()
    inside = [sample for sample in timeline.samples if start_s < sample.time_s < end_s]
    assert 0.004 < min(after.time_s - before.time_s for before, after in pairwise(inside)) < 0.05
    assert max(sample.memory.rss for sample in inside) >= before + 60 * MIB
    assert [sample.time_s for sample in timeline.samples] == sorted(sample.time_s for sample in timeline.samples)
    assert timeline.samples[-1].memory.rss < before + 30 * MIB


def test_the_high_water_mark_sees_what_falls_between_samples():
    with MemoryTimeline(10.0) as timeline:
        before = timeline.samples[0].memory.rss
        touched(64 * MIB).close()
    assert len(timeline.samples) == 2
    assert max(sample.memory.rss for sample in timeline.samples) < before + 30 * MIB
    assert timeline.peak_rss >= before + 60 * MIB


def test_the_high_water_mark_can_be_reset():
    held = bytearray(os.urandom(32 * MIB))
    del held
    assert peak_rss() >= read_memory().rss
    if not reset_peak():
        pytest.skip("this kernel does not reset the high-water mark")
    assert peak_rss() < read_memory().rss + 8 * MIB


def test_a_timeline_keeps_what_it_is_shown():
    looks = iter(Memory(number, 2 * number, 3 * number, 100) for number in range(1, 100))
    with MemoryTimeline(60.0, clock=iter([10.0, 10.0, 12.5, 13.0]).__next__, look=looks.__next__) as timeline:
        assert timeline.sample().memory == Memory(2, 4, 6, 100)
    assert [(sample.time_s, sample.memory.rss) for sample in timeline.samples] == [(0.0, 1), (2.5, 2), (3.0, 3)]


def test_memory_is_read_in_bytes(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "self/statm").write_text("1000 200 30 1 0 40 0\n")
    (tmp_path / "meminfo").write_text(
        "MemTotal:  8000 kB\nMemFree:  10 kB\nMemAvailable:  6000 kB\nHugePages_Total: 0\n"
    )
    page = os.sysconf("SC_PAGE_SIZE")
    assert read_memory(tmp_path) == Memory(200 * page, 1000 * page, 2000 * 1024, 8000 * 1024)


def test_without_linux_memory_cannot_be_read(tmp_path):
    with pytest.raises(RuntimeError) as error:
        read_memory(tmp_path)
    assert str(error.value) == f"memory is read from Linux's {tmp_path}/self/statm, which is not there"


CPUINFO = """\
processor	: 0
model name	: Some CPU @ 2.50GHz
cpu MHz		: 2400.000
physical id	: 0
core id		: 0

processor	: 1
model name	: Some CPU @ 2.50GHz
cpu MHz		: 2600.000
physical id	: 0
core id		: 0

processor	: 2
model name	: Some CPU @ 2.50GHz
cpu MHz		: 2800.000
physical id	: 1
core id		: 0
"""


def test_the_system_is_described(tmp_path: Path):
    pytest.importorskip("transformers")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(CPUINFO)
    (tmp_path / "proc/meminfo").write_text("MemTotal:  8000 kB\n")
    found = describe("cpu", tmp_path)
    assert (found.cpu, found.cores, found.base_mhz, found.current_mhz) == ("Some CPU @ 2.50GHz", 2, 2500.0, 2600.0)
    assert (found.memory_bytes, found.accelerator) == (8000 * 1024, None)
    assert (found.logical, found.threads) == (os.cpu_count(), torch.get_num_threads())


def test_unknown_parts_of_the_system_are_said_to_be_unknown(tmp_path: Path):
    pytest.importorskip("transformers")
    found = describe("cpu", tmp_path)
    assert (found.cores, found.base_mhz, found.current_mhz, found.memory_bytes) == (0, None, None, 0)
    assert physical_cores("") == 0


def test_the_kernels_base_frequency_wins_over_the_name():
    assert base_frequency("CPU @ 2.50GHz", "3800000\n") == 3800.0
    assert base_frequency("CPU @ 2.50GHz", "") == 2500.0
    assert base_frequency("CPU", "") is None


class Turns:
    """Two calls that take what a script says, on a clock that nothing else moves."""

    def __init__(self, first: list[float], second: list[float]) -> None:
        self.now = 0.0
        self.log: list[str] = []
        self.durations = {"first": cycle(first), "second": cycle(second)}

    def call(self, name: str) -> None:
        self.log.append(name)
        self.now += next(self.durations[name])

    def compare(self, **settings: Any) -> Ratio:
        return time_ratio(lambda: self.call("first"), lambda: self.call("second"), clock=lambda: self.now, **settings)


def test_calls_take_turns_and_the_median_counts():
    # One call of seven is disturbed, on one side.
    turns = Turns([3, 3, 3, 30, 3, 3, 3], [1])
    found = turns.compare(goal=2)
    assert (found.median, found.low, found.high) == (3, 3, 30)
    assert (found.first_s, found.second_s, found.rounds) == (3, 1, FIRST_ROUNDS)
    assert turns.log == ["first", "second"] * (1 + FIRST_ROUNDS)
    assert str(found) == "3.00 times (3.00 to 30.00 in 15 rounds)"


def test_a_ratio_far_below_the_goal_is_known_at_once():
    found = Turns([4, 5], [2]).compare(goal=3)
    assert found.high == 2.5
    assert found.rounds == FIRST_ROUNDS


def test_a_ratio_beside_the_goal_takes_more_rounds():
    # Four of five rounds reach the goal: fifteen rounds cannot tell that from every second one, more can.
    looks: list[str] = []
    found = Turns([32, 28, 32, 32, 32], [10]).compare(goal=3, enough_s=10_000, progress=looks.append)
    assert found.low >= 3
    assert found.rounds > FIRST_ROUNDS
    assert looks[0] == f"{FIRST_ROUNDS} rounds, 2.80 to 3.20 times"
    assert looks[-1] == f"{found.rounds} rounds, {found.low:.2f} to {found.high:.2f} times"


def test_a_ratio_at_the_goal_stays_open_until_time_is_up():
    found = Turns([32, 28], [10]).compare(goal=3, enough_s=500)
    assert found.low < 3 <= found.high
    assert 500 <= found.rounds * 40 < 1200


@pytest.mark.parametrize(
    ("low", "high", "ended"),
    [(2.5, 2.9, "failed"), (2.5, 3.0, "inconclusive"), (2.9, 3.5, "inconclusive"), (3.0, 3.5, "reached")],
)
def test_a_goal_is_reached_missed_or_neither(
    low: float, high: float, ended: str, imported: Callable[[str], ModuleType]
) -> None:
    found = Ratio(2.75, low, high, 2.75, 1.0, 15)
    told = f"fp32 takes 2.75 times ({low:.2f} to {high:.2f} in 15 rounds) as long as int8, and 3 times is the goal"
    expected: Any = contextlib.nullcontext()
    if ended == "failed":
        expected = pytest.raises(pytest.fail.Exception, match=rf"^{re.escape(told)}$")
    elif ended == "inconclusive":
        expected = pytest.raises(pytest.skip.Exception, match=rf"^inconclusive: {re.escape(told)}$")
    with expected:
        imported("perf_tests/bitnet/test_cpu_goals.py").judge(found, 3.0, "fp32", "int8")


@pytest.mark.parametrize(
    ("low", "high", "raised", "told"),
    [
        (1.5, 1.9, pytest.fail.Exception, "2 times is the floor"),
        (1.5, 2.1, pytest.skip.Exception, "2 times is the floor"),
        # What the marker of a goal that is known to be missed expects.
        (2.1, 2.9, AssertionError, "3 times is the goal"),
        (2.1, 3.1, pytest.skip.Exception, "3 times is the goal"),
        (3.0, 3.1, None, ""),
    ],
)
def test_a_goal_that_is_known_to_be_missed_has_a_floor(
    low: float,
    high: float,
    raised: Any,
    told: str,
    imported: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goals = imported("perf_tests/bitnet/test_cpu_goals.py")
    asked: list[float] = []

    def time_ratio(*_: object, goal: float, progress: Callable[[str], None]) -> Ratio:
        asked.append(goal)
        progress("15 rounds")
        return Ratio(2.75, low, high, 2.75, 1.0, 15)

    monkeypatch.setattr(goals, "time_ratio", time_ratio)
    calls = {"fp32": lambda: None, "int8": lambda: None}
    shown: list[str] = []
    benchmark = SimpleNamespace(
        report=lambda *_, **__: None, note=lambda *_: None, profile=lambda *_: None, progress=shown.append
    )
    with contextlib.nullcontext() if raised is None else pytest.raises(raised, match=told):
        goals.compare(benchmark, calls, 3.0, floor=2.0)
    # The floor is asked for where the goal is missed, and by how much is open.
    assert asked == ([3.0, 2.0] if high < 3.0 and low < 2.0 else [3.0])
    assert shown == ["15 rounds"] * len(asked)
    (mark,) = goals.test_int8_is_faster_than_fp32_on_the_narrowest_layer.pytestmark
    assert (mark.name, mark.kwargs["raises"]) == ("xfail", AssertionError)
    assert not issubclass(pytest.fail.Exception, AssertionError)


def test_calls_under_a_profiler_are_not_compared():
    with torch.profiler.profile(), pytest.raises(SettingError) as error:
        time_ratio(lambda: None, lambda: None, goal=1)
    assert error.value.what == "this call is to be measured while torch's profiler runs"


def test_the_stand_in_tokenizer_undoes_itself():
    tokenizer = ByteTokenizer()
    text = "Grüße, 世界!"
    assert tokenizer.decode(tokenizer.encode("plain")) == "plain"
    assert len(tokenizer.encode(text)) == len(text.encode())
    assert tokenizer.decode([72, 105, 4000]) == "Hi<4000>"
