"""The machine's speed in the verdict: a GPU's clock may object, a CPU's views must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pytest

from perfgate.model import Limit, Metric, MetricVerdict, Noise, StoredMetric, Verdict
from perfgate.verdict.decide import decide

STEADY = (1.0, 1.001, 0.999, 1.002, 0.998)
EIGHT = (*STEADY, 1.0, 1.0005, 0.9995)


def judge(
    seconds: float,
    before: Mapping[str, float | Sequence[float]],
    now: Mapping[str, float | Sequence[float]],
    *,
    last: bool = True,
    better: Literal["lower", "higher"] = "lower",
    limit: float = 0.02,
    processes: Sequence[float] = EIGHT,
) -> MetricVerdict:
    """Compare 1 s at the speeds of before with ``seconds`` at the speeds of now."""

    def each(speed: float | Sequence[float], count: int) -> list[float]:
        return [speed] * count if isinstance(speed, int | float) else list(speed)

    stored = StoredMetric(
        "time", "s", better, STEADY, speeds={name: tuple(each(speed, 5)) for name, speed in before.items()}
    )
    speeds = {name: each(speed, len(processes)) for name, speed in now.items()}
    current = [
        Metric(
            name="time",
            unit="s",
            value=seconds * value,
            better=better,
            limit=Limit(limit),
            noise=Noise(0.002),
            speeds={name: values[index] for name, values in speeds.items() if values[index] > 0},
        )
        for index, value in enumerate(processes)
    ]
    return decide(stored, current, last=last)


# --- GPU


def test_slower_in_seconds_but_not_in_cycles_is_throttled() -> None:
    verdict = judge(1980 / 1410, {"sm_clock": 1.98e9}, {"sm_clock": 1.41e9}, last=False)
    assert verdict.verdict is Verdict.THROTTLED
    assert verdict.reason == "slower in seconds, not in clock cycles: SM clock 1980 -> 1410 MHz"
    assert verdict.change == pytest.approx(1980 / 1410 - 1, rel=1e-3)


def test_slower_in_cycles_too_is_regressed_whatever_the_clock() -> None:
    verdict = judge(1.05 * 1980 / 1410, {"sm_clock": 1.98e9}, {"sm_clock": 1.41e9})
    assert (verdict.verdict, verdict.reason) == (Verdict.REGRESSED, "beyond the limit and the noise")


@pytest.mark.parametrize(("clock", "word"), [(1.961e9, Verdict.REGRESSED), (1.96e9, Verdict.THROTTLED)])
def test_a_clock_that_fell_by_less_than_1_percent_excuses_nothing(clock: float, word: Verdict) -> None:
    # 2.5 % slower in seconds, about 1.5 % in cycles: beyond the limit in seconds only.
    assert judge(1.025, {"sm_clock": 1.98e9}, {"sm_clock": clock}).verdict is word


def test_a_change_that_is_too_noisy_in_cycles_is_not_called_throttled() -> None:
    clocks = [1.9e9, 1.0e9, 1.9e9, 1.8e9, 1.9e9, 1.2e9, 1.9e9, 1.8e9]
    undecided = judge(1.5, {"sm_clock": 1.98e9}, {"sm_clock": clocks}, last=False)
    assert (undecided.verdict, undecided.reason) == (
        Verdict.INCONCLUSIVE,
        "slower in seconds, too noisy in clock cycles to tell: SM clock 1980 -> 1850 MHz",
    )


def test_noise_in_seconds_that_the_clock_explains_is_throttled_at_the_end() -> None:
    clocks = [1.98e9, 1.1e9, 1.98e9, 1.2e9, 1.3e9, 1.1e9, 1.2e9, 1.98e9]
    processes = [1.98e9 / clock for clock in clocks]
    there = judge(1.0, {"sm_clock": 1.98e9}, {"sm_clock": clocks}, processes=processes)
    assert there.verdict is Verdict.THROTTLED
    assert there.reason == "slower in seconds, not in clock cycles: SM clock 1980 -> 1250 MHz"
    waiting = judge(1.0, {"sm_clock": 1.98e9}, {"sm_clock": clocks}, processes=processes, last=False)
    assert (waiting.verdict, waiting.reason) == (Verdict.INCONCLUSIVE, "undecided after 8 processes")


def test_faster_only_because_the_clock_rose_is_unchanged() -> None:
    verdict = judge(1410 / 1980, {"sm_clock": 1.41e9}, {"sm_clock": 1.98e9})
    assert verdict.verdict is Verdict.UNCHANGED
    assert verdict.reason == "faster in seconds, not in clock cycles: SM clock 1410 -> 1980 MHz"


def test_faster_in_cycles_too_is_improved() -> None:
    verdict = judge(0.9 * 1410 / 1980, {"sm_clock": 1.41e9}, {"sm_clock": 1.98e9})
    assert verdict.verdict is Verdict.IMPROVED


def test_faster_but_too_noisy_in_cycles_is_inconclusive() -> None:
    clocks = [1.5e9, 2.6e9, 1.5e9, 1.4e9, 1.5e9, 2.4e9, 1.5e9, 1.6e9]
    verdict = judge(0.6, {"sm_clock": 1.41e9}, {"sm_clock": clocks})
    assert verdict.verdict is Verdict.INCONCLUSIVE
    assert verdict.reason == "faster in seconds, too noisy in clock cycles to tell: SM clock 1410 -> 1500 MHz"


def test_a_memory_bound_kernel_on_a_faster_clock_is_unchanged_in_seconds() -> None:
    assert judge(1.0, {"sm_clock": 1.41e9}, {"sm_clock": 1.98e9}).verdict is Verdict.UNCHANGED


def test_a_throughput_in_cycles_is_divided_by_the_clock() -> None:
    verdict = judge(1410 / 1980, {"sm_clock": 1.98e9}, {"sm_clock": 1.41e9}, better="higher")
    assert verdict.verdict is Verdict.THROTTLED


def test_the_clock_decides_alone_where_other_speeds_are_known_too() -> None:
    verdict = judge(1.0, {"sm_clock": 1.98e9, "core": 1e6}, {"sm_clock": 1.98e9, "core": 5e5})
    assert verdict.verdict is Verdict.UNCHANGED


@pytest.mark.parametrize("now", [{}, {"sm_clock": [0.0] * 8}, {"sm_clock": [*[1.41e9] * 7, 0.0]}, {"core": 1.0}])
def test_seconds_decide_where_a_side_has_no_usable_speed(now: Mapping[str, float | Sequence[float]]) -> None:
    assert judge(1980 / 1410, {"sm_clock": 1.98e9}, now).verdict is Verdict.REGRESSED


def test_stored_speeds_that_do_not_match_the_values_are_not_used() -> None:
    stored = StoredMetric("time", "s", "lower", STEADY, speeds={"sm_clock": (1.98e9,)})
    current = [Metric("time", "s", 1.4, limit=Limit(0.02), speeds={"sm_clock": 1.41e9})] * 8
    assert decide(stored, current, last=True).verdict is Verdict.REGRESSED


# --- wall time of work on a GPU

HOST = {"host": 4e4}


def test_launches_of_a_slower_host_are_throttled() -> None:
    verdict = judge(1.19, HOST, {"host": 4e4 / 1.18}, limit=0.1)
    assert verdict.verdict is Verdict.THROTTLED
    assert verdict.reason == (
        "slower in seconds, not in cycles of the host: the CPU that launches ran at 85 % of the speed at recording"
    )
    assert verdict.change == pytest.approx(0.19, rel=1e-2)


def test_launches_that_are_slower_in_cycles_of_the_host_too_are_regressed() -> None:
    assert judge(1.19 * 1.2, HOST, {"host": 4e4 / 1.18}, limit=0.1).verdict is Verdict.REGRESSED


@pytest.mark.parametrize(("speed", "word"), [(0.96, Verdict.REGRESSED), (0.94, Verdict.THROTTLED)])
def test_a_host_that_is_slower_by_less_than_5_percent_excuses_nothing(speed: float, word: Verdict) -> None:
    assert judge(1.13, HOST, {"host": speed * 4e4}, limit=0.1).verdict is word


def test_work_that_does_not_follow_a_slower_host_is_unchanged() -> None:
    assert judge(1.0, HOST, {"host": 2e4}, limit=0.1).verdict is Verdict.UNCHANGED


def test_work_that_does_not_follow_a_faster_host_is_no_regression() -> None:
    assert judge(1.0, HOST, {"host": 8e4}, limit=0.1).verdict is Verdict.UNCHANGED
    assert judge(1.2, HOST, {"host": 8e4}, limit=0.1).verdict is Verdict.REGRESSED


def test_launches_of_a_faster_host_are_no_improvement() -> None:
    verdict = judge(0.8, HOST, {"host": 4e4 / 0.8}, limit=0.1)
    assert verdict.verdict is Verdict.UNCHANGED
    assert verdict.reason.startswith("faster in seconds, not in cycles of the host: ")


def test_rates_of_a_slower_host_are_throttled() -> None:
    assert judge(1 / 1.19, HOST, {"host": 4e4 / 1.18}, limit=0.1, better="higher").verdict is Verdict.THROTTLED


def test_baselines_from_before_hosts_were_looked_at_are_judged_in_seconds() -> None:
    assert judge(1.19, {}, {"host": 4e4 / 1.18}, limit=0.1).verdict is Verdict.REGRESSED


# --- CPU

BEFORE = {"core": 1e6, "memory": 2e5}


def test_a_slow_machine_does_not_make_code_that_computes_regressed() -> None:
    verdict = judge(1 / 0.52, BEFORE, {"core": 0.52e6, "memory": 1.42e5})
    assert verdict.verdict is Verdict.THROTTLED
    assert verdict.reason == (
        "slower in seconds, but the machine ran at 52 % (core) and 71 % (memory) of the speed at recording"
    )
    assert verdict.change == pytest.approx(1 / 0.52 - 1, rel=1e-3)


def test_views_that_disagree_ask_for_a_repeat() -> None:
    verdict = judge(1 / 0.52, BEFORE, {"core": 0.52e6, "memory": 1.42e5}, last=False)
    assert verdict.verdict is Verdict.INCONCLUSIVE
    assert verdict.reason == (
        "the machine ran at 52 % (core) and 71 % (memory) of the speed at recording; "
        "in its cycles the change is 0.0 % (core) and +36.5 % (memory)"
    )


def test_slower_in_every_view_is_regressed_and_shows_the_smaller_change() -> None:
    verdict = judge(3.0, BEFORE, {"core": 0.52e6, "memory": 1.42e5})
    assert verdict.verdict is Verdict.REGRESSED
    assert verdict.change == pytest.approx(3.0 * 0.52 - 1, rel=1e-3)
    assert verdict.value == pytest.approx(3.0, rel=1e-3)
    assert verdict.reason == (
        "beyond the limit and the noise; the machine ran at 52 % (core) and 71 % (memory) of the speed at recording"
    )


def test_faster_in_every_view_is_improved() -> None:
    verdict = judge(0.5, BEFORE, {"core": 1.02e6, "memory": 1.99e5})
    assert (verdict.verdict, verdict.reason) == (Verdict.IMPROVED, "beyond the limit and the noise")


def test_unchanged_in_every_view_is_unchanged_and_names_a_speed_that_differs() -> None:
    same = judge(1.0, BEFORE, BEFORE)
    slower = judge(1 / 0.9, BEFORE, {"core": 0.9e6, "memory": 1.8e5})
    assert (same.verdict, same.reason) == (Verdict.UNCHANGED, "")
    assert slower.verdict is Verdict.UNCHANGED
    assert slower.reason == "the machine ran at 90 % (core) and 90 % (memory) of the speed at recording"


def test_seconds_have_no_vote_a_regression_hidden_by_a_faster_machine_is_found() -> None:
    verdict = judge(1.0, BEFORE, {"core": 1.5e6, "memory": 3e5})
    assert verdict.verdict is Verdict.REGRESSED
    assert verdict.change == pytest.approx(0.5, rel=1e-3)


def test_views_that_disagree_without_a_slower_machine_are_inconclusive() -> None:
    verdict = judge(1.0, BEFORE, {"core": 1.0e6, "memory": 2.6e5})
    assert verdict.verdict is Verdict.INCONCLUSIVE
    assert verdict.reason == (
        "the machine ran at 100 % (core) and 130 % (memory) of the speed at recording; "
        "in its cycles the change is 0.0 % (core) and +30.0 % (memory)"
    )


def test_a_slow_down_in_every_view_is_regressed_by_the_speed_that_the_case_follows() -> None:
    memory = [0.71 * 2e5 * factor for factor in (1.0, 1.5, 0.7, 1.4, 0.6, 1.3, 0.8, 1.2)]
    verdict = judge(3.0, BEFORE, {"core": 0.52e6, "memory": memory})
    assert verdict.verdict is Verdict.REGRESSED
    assert verdict.change == pytest.approx(3.0 * 0.52 - 1, rel=1e-2)


def test_a_mixture_cannot_overrule_a_view_that_saw_nothing() -> None:
    # It follows the memory, whose cycles say +30 %; in cycles of the core there is no change at all.
    core = [1e6 * factor for factor in (1.0, 1.2, 0.9, 1.1, 0.8, 1.0, 0.95, 1.0)]
    verdict = judge(1.0, BEFORE, {"core": core, "memory": 2.6e5})
    assert verdict.verdict is Verdict.INCONCLUSIVE


#: Speeds of a memory that was much disturbed; the case, which only computes, felt nothing of it.
DISTURBED = [2e5 * factor for factor in (0.6, 1.0, 0.5, 0.7, 0.6, 0.9, 0.5, 0.6)]


def test_a_view_that_the_case_does_not_follow_cannot_hide_a_slow_down() -> None:
    verdict = judge(1.3, BEFORE, {"core": 1e6, "memory": DISTURBED})
    assert verdict.verdict is Verdict.REGRESSED
    assert verdict.change == pytest.approx(0.3, rel=1e-2)


def test_a_view_that_the_case_does_not_follow_cannot_keep_it_undecided() -> None:
    verdict = judge(1.0, BEFORE, {"core": 1e6, "memory": DISTURBED})
    assert verdict.verdict is Verdict.UNCHANGED
    assert verdict.change == pytest.approx(0.0, abs=1e-2)


def test_a_view_that_the_case_does_not_follow_cannot_hide_a_speed_up() -> None:
    verdict = judge(0.7, BEFORE, {"core": 1e6, "memory": [1 / speed * 4e10 for speed in DISTURBED]})
    assert verdict.verdict is Verdict.IMPROVED


def test_views_around_the_limit_are_settled_by_their_mixture() -> None:
    verdict = judge(1.025, BEFORE, {"core": 0.994e6, "memory": 2e5})
    assert verdict.verdict is Verdict.REGRESSED
    assert verdict.change == pytest.approx(0.025, abs=0.007)


#: Speeds that scatter by a tenth, one up where the other is down: a case that follows both alike feels nothing of it.
UPS_AND_DOWNS = (1.0, 1.1, 0.9, 1.15, 0.87, 1.0, 1.12, 0.89)


def opposed(processes: int, core: float = 1.0) -> dict[str, list[float]]:
    return {
        "core": [core * 1e6 * factor for factor in UPS_AND_DOWNS[:processes]],
        "memory": [2e5 / factor for factor in UPS_AND_DOWNS[:processes]],
    }


@pytest.mark.parametrize(
    ("seconds", "word", "reason"),
    [
        (1.05, Verdict.REGRESSED, "beyond the limit and the noise"),
        (1.0, Verdict.UNCHANGED, ""),
        (0.95, Verdict.IMPROVED, "beyond the limit and the noise"),
    ],
)
def test_views_that_are_all_undecided_are_settled_by_their_mixture(seconds: float, word: Verdict, reason: str) -> None:
    verdict = judge(seconds, opposed(5), opposed(8))
    assert (verdict.verdict, verdict.reason) == (word, reason)
    assert verdict.change == pytest.approx(seconds - 1, abs=1e-3)
    assert verdict.detectable is not None
    assert verdict.detectable < 0.03


@pytest.mark.parametrize("core", [0.98, 1.02])
def test_a_machine_that_changed_by_less_than_its_own_scatter_lets_the_mixture_speak(core: float) -> None:
    assert judge(1.05, opposed(5), opposed(8, core)).verdict is Verdict.REGRESSED


@pytest.mark.parametrize("core", [0.97, 1.03])
def test_on_a_machine_that_changed_a_mixture_alone_does_not_settle_anything(core: float) -> None:
    verdict = judge(1.05, opposed(5), opposed(8, core))
    assert (verdict.verdict, verdict.reason) == (
        Verdict.INCONCLUSIVE,
        "noise too large to tell: 8 processes would show a change of 79.7 % or more",
    )


def test_noise_in_every_view_is_inconclusive_and_says_what_all_of_them_could_have_seen() -> None:
    noisy = (1.0, 1.4, 0.8, 1.3, 0.7, 1.2, 0.9, 1.1)
    alike = judge(1.0, BEFORE, BEFORE, processes=noisy)
    assert alike.verdict is Verdict.INCONCLUSIVE
    assert alike.reason == "noise too large to tell: 8 processes would show a change of 164.7 % or more"
    # The noisier view decides what all views together could have shown.
    memory = [2e5 * factor for factor in (1.0, 1.5, 0.7, 1.4, 0.6, 1.3, 0.8, 1.2)]
    other = judge(1.0, BEFORE, {"core": 1e6, "memory": memory}, processes=noisy)
    assert other.verdict is Verdict.INCONCLUSIVE
    assert alike.detectable is not None
    assert other.detectable is not None
    assert other.detectable > 1.5 * alike.detectable
