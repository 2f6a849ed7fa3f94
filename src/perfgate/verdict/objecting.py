"""Was the GPU slower, or its clock, or the host that launches? Seconds decide, cycles may object.

*Device time* (``sm_clock``): a slow-down that is not there in cycles, on a clock that fell by at least 1 %, is
THROTTLED; a speed-up that is not there in cycles, on a clock that rose, is UNCHANGED.

*Wall time of work on a GPU* (``host``, rounds of a loop on the CPU that launches it): the same, where the host's speed
changed by at least 5 %. How much of the time is launching is not known, so cycles can only object: work that keeps the
GPU busy does not follow the host.

What that excuses, simulated (``tests/test_verdict_host.py``, here 1000 comparisons each; independent Gaussian noise,
five processes recorded, limit 10 %, slow-downs by 12, 15 and 20 %). On equal hosts noise of the host's speed may pass
for a slower host. THROTTLED, where times differ by 2 % between processes (in brackets by 5 %), at most:

================ =========== =========== =========== ============
speed differs by 1 process   4           8           12
================ =========== =========== =========== ============
1 %              0   (0)     0   (0)     0   (0)     0   (0)
2 %              0.7 (0.3) % 0   (0)     0   (0)     0   (0)
3 %              3.5 (1.7) % 1.7 (0.7) % 0.3 (0.3) % 0.1 (0) %
5 %              14  (7.1) % 5.8 (2.0) % 5.3 (2.2) % 4.3 (1.7) %
================ =========== =========== =========== ============

With 8 processes, times that differ by 2 % and speeds by 5 %, 15 % is REGRESSED in 85 % of comparisons, and in 91 %
without a look at the host; at 1 and 2 % the look costs nothing. On this the number of looks rests
(:mod:`perfgate.measure.host_speed`).

On a host at 94, 90 or 80 % of the speed at recording (12 processes, both differ by 2 %) unchanged launches are never
REGRESSED, and launches that take 15 % longer on an equal host in 92 %, 20 % longer in 99.9 %. The price is work that
keeps the GPU busy: there 15 % longer is REGRESSED in 23 % at 94 % of the speed, and never at 90 and 80 %; 30 % in 100,
98 and 0 %; what is not is mostly THROTTLED. ``clock="device"`` knows no host. On a faster host launches that take
longer by less than it gains are UNCHANGED: no seconds are lost. Base and head that ran in turn meet the same host, so
there seconds alone decide: a host that only the head finds slower is the head's doing.
"""

from __future__ import annotations

from perfgate import units
from perfgate.model import Verdict
from perfgate.verdict.rule import Look
from perfgate.verdict.speeds import CLOCK, SAME_CLOCK, SAME_SPEED, Finding, Speed, word


def by_clock(seconds: Look, cycles: Look, clock: Speed, limit: float, *, last: bool) -> Finding:
    """Judge a metric of a GPU: seconds decide, cycles may object when the clock, or the host's speed, is another.

    Args:
        seconds: the look at the plain values.
        cycles: the look at the values in cycles.
        clock: the SM clock of both sides, in Hz, or the speed of the host.
        limit: the allowed change, on the scale of the looks.
        last: no further process will come.
    """
    verdict = word(seconds)
    if clock.name == CLOCK:
        same, unit = SAME_CLOCK, "clock cycles"
        ran = f"SM clock {clock.stored / 1e6:.0f} -> {clock.current / 1e6:.0f} MHz"
    else:
        same, unit = SAME_SPEED, "cycles of the host"
        ran = f"the CPU that launches ran at {units.share(round(clock.ratio, 2))} of the speed at recording"
    if clock.ratio <= 1 - same and not cycles.regressed:
        vanished = Finding(Verdict.THROTTLED, seconds, f"slower in seconds, not in {unit}: {ran}")
        if verdict is Verdict.REGRESSED:
            unclear = f"slower in seconds, too noisy in {unit} to tell: {ran}"
            return vanished if cycles.estimate <= limit else Finding(Verdict.INCONCLUSIVE, seconds, unclear)
        if last and verdict is Verdict.INCONCLUSIVE and seconds.estimate > limit and cycles.unchanged:
            return vanished
    if clock.ratio >= 1 + same and verdict is Verdict.IMPROVED and not cycles.improved:
        if cycles.estimate >= -limit:
            return Finding(Verdict.UNCHANGED, seconds, f"faster in seconds, not in {unit}: {ran}")
        return Finding(Verdict.INCONCLUSIVE, seconds, f"faster in seconds, too noisy in {unit} to tell: {ran}")
    return Finding(verdict, seconds)
