"""Was the code slower, or the machine? Looks at a metric in cycles of the machine, beside its plain values.

A speed is anything that the machine does per second around the samples: the SM clock of a GPU, rounds of a reference
loop on a core or in memory. A duration times a speed is a duration in cycles (a throughput divided by it, a throughput
per cycle), which the machine's own slowness leaves alone. All views are scaled to the speed at recording.

*GPU* (``sm_clock``, ``host``): seconds decide, cycles may object, see :mod:`perfgate.verdict.objecting`.

*CPU* (every other name): a core shared with neighbours drifts by up to 2x within minutes, and code that waits for
memory suffers less than code that computes. The truth lies between the views. Where all of them say the same, that is
the verdict, whatever the seconds say. Where they do not, the mixture of the two speeds whose cycles scatter least
between processes is asked, and stands unless it is contradicted: for REGRESSED and IMPROVED by a view that is not
beyond half the limit, for UNCHANGED by one beyond the limit. A view that scatters twice as much as the mixture cannot
contradict: it follows something that the case does not feel. In its place plain seconds can: code that waits follows
no speed. Where the disagreement stays to the end, a slow-down in seconds that vanishes in a view while the machine was
slower is THROTTLED, and anything else INCONCLUSIVE.

Where every view alone is too noisy to tell, the mixture is asked too, but only on the machine of the recording
(``SAME_MACHINE``). On another it may be certain and wrong: where processes are more than cores, each loses its caches
to the others. In the cycles that fit it best attention then took 11 to 12 % longer, matrix products 6 to 12 %, a clone
19 to 41 %, while the speeds beside them fell by 2 to 8 %. Bytecode did not feel it (at most 1.3 %).

Measured on 60 fresh processes of each of six cases on two virtual cores, one of them busy (four Python and torch calls,
two of their bigger siblings), resampled 400 times a case, half of it with the baseline from one half of the time and
the rest from the other: no alarm in 2400 comparisons of unchanged code, of which 218 ended undecided (all but 3 of them
the clone of 8 MB), and 1994 of 2000 slow-downs by 30 % found. Of the clone's own, 121 of 400 were found and 43 called
UNCHANGED: its time differs by 11 % between processes in every view, more than its limit. With the baseline from these
processes and 50 others taken while about eight processes shared the two cores, 11 of 200 comparisons of the unchanged
clone were REGRESSED, 3 of 200 of the attention call and none of 400 of the other four: record where and how you
compare.

How small a slow-down is found on these 60 (limit 10 %, 1000 draws a case; in brackets without asking the mixture where
all views leave it open): by 15 %, two Python functions 100 % (100 %), two matrix products 66 and 90 % (30 and 69 %),
attention 81 % (59 %); by 10 %, which is the limit itself, 19 to 41 % (10 to 41 %). Base and head of one run are
judged by what :mod:`perfgate.verdict.fitted` makes of the speeds.

Why a stored baseline is not judged as strictly as that: with a limit of 5 % and a noise of 2 % it would find 43 to
100 % of slow-downs by 10 %. But with the load of the 50 other processes 2 and 12 % of unchanged matrix products and 3 %
of attention would be REGRESSED (0.1 to 1.1 % as it is), and 6 to 10 % of the bigger product with baselines of another
hour that no figure of ours tells apart (their processes ran one case less before).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from perfgate import units
from perfgate.model import Metric, StoredMetric, Verdict
from perfgate.verdict.rule import Look

CLOCK = "sm_clock"
HOST = "host"
#: Speeds that may object to what seconds say, and decide nothing themselves.
OBJECTING = (CLOCK, HOST)
#: A clock or a machine that changed by less has not changed.
SAME_CLOCK = 0.01
#: A machine whose speed changed by more than this is mentioned. A host that changed by less excuses nothing.
SAME_SPEED = 0.05
#: A machine no speed of which changed by more than this is in the state that it was in at recording. Medians of five
#: and twelve processes differ by 1 to 2 % without any reason, by 3 to 6 % where more processes than cores run now.
SAME_MACHINE = 0.025
#: A view that scatters this many times as much as the mixture follows something that the case does not feel.
DEAF = 2.0
#: Shares of the first speed in the mixtures that are tried.
MIXTURES = (1.0, 0.75, 0.5, 0.25, 0.0)


@dataclass(frozen=True)
class Speed:
    """One speed of the machine that both sides know.

    Attributes:
        name: e.g. ``sm_clock``.
        stored: median over the recorded processes.
        current: median over the processes of now.
        values: the baseline's values at the recorded speed, one a process.
        now: the values of now at the recorded speed, one a process.
    """

    name: str
    stored: float
    current: float
    values: tuple[float, ...]
    now: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Give the speed of now as a share of the speed at recording."""
        return self.current / self.stored


@dataclass(frozen=True)
class Finding:
    """A verdict, the look that its figures are taken from, and words.

    Attributes:
        verdict: INCONCLUSIVE also stands for undecided.
        look: where change and interval come from.
        reason: replaces the usual words for the verdict, when not empty.
        note: added to the usual words for the verdict.
    """

    verdict: Verdict
    look: Look
    reason: str = ""
    note: str = ""


def common(stored: StoredMetric, current: Sequence[Metric]) -> tuple[Speed, ...]:
    """Give the speeds that every process of both sides knows; one that may only object stands alone."""
    found = []
    for name, before in stored.speeds.items():
        now = [metric.speeds.get(name, math.nan) for metric in current]
        usable = len(before) == len(stored.values) and all(0 < speed < math.inf for speed in (*before, *now))
        if usable:
            reference = statistics.median(before)
            higher = stored.better == "higher"
            found.append(
                Speed(
                    name=name,
                    stored=reference,
                    current=statistics.median(now),
                    values=tuple(_scaled(v, s / reference, higher) for v, s in zip(stored.values, before, strict=True)),
                    now=tuple(_scaled(m.value, s / reference, higher) for m, s in zip(current, now, strict=True)),
                )
            )
    return tuple(speed for speed in found if speed.name in OBJECTING)[:1] or tuple(found)


def _scaled(value: float, ratio: float, higher: bool) -> float:
    return value / ratio if higher else value * ratio


def steadiest(speeds: Sequence[Speed]) -> Speed | None:
    """Give the mixture of two speeds whose cycles scatter least between the processes of each side.

    How much of its time a case computes, and how much it waits for memory, shows in which speed it follows.

    Args:
        speeds: what both sides know; positive values.

    Returns:
        The geometric mixture as a speed of its own, or None where there are not exactly two.
    """
    if len(speeds) != 2:
        return None
    first, second = speeds

    def mixed(share: float) -> Speed:
        def blend(some: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
            return tuple(one**share * other ** (1 - share) for one, other in zip(some, others, strict=True))

        return Speed(
            name=f"{first.name}^{share} {second.name}^{1 - share}",
            stored=first.stored**share * second.stored ** (1 - share),
            current=first.current**share * second.current ** (1 - share),
            values=blend(first.values, second.values),
            now=blend(first.now, second.now),
        )

    return min((mixed(share) for share in MIXTURES), key=_scatter)


def _scatter(speed: Speed) -> float:
    """Give the squared spread of the logarithms around the mean of their side."""
    total = 0.0
    for side in (speed.values, speed.now):
        logarithms = [math.log(value) for value in side]
        mean = statistics.fmean(logarithms)
        total += sum((logarithm - mean) ** 2 for logarithm in logarithms)
    return total


def word(look: Look) -> Verdict:
    """Name what a look says; INCONCLUSIVE when it is undecided."""
    if look.regressed:
        return Verdict.REGRESSED
    if look.improved:
        return Verdict.IMPROVED
    return Verdict.UNCHANGED if look.unchanged else Verdict.INCONCLUSIVE


def contradicted(verdict: Verdict, witnesses: Sequence[Look], limit: float) -> bool:
    """Whether a view speaks against what another one says.

    Args:
        verdict: REGRESSED and IMPROVED are contradicted by a view that is not beyond half the limit, UNCHANGED by one
            beyond the limit.
        witnesses: the views that are heard.
        limit: the allowed change, on the scale of the looks.
    """
    if verdict is Verdict.UNCHANGED:
        return any(abs(view.estimate) > limit for view in witnesses)
    sign = 1 if verdict is Verdict.REGRESSED else -1
    return any(sign * view.estimate <= limit / 2 for view in witnesses)


def ran_at(speeds: Sequence[Speed]) -> str:
    """Say at which share of the recorded speeds the machine ran."""
    shares = " and ".join(f"{units.share(round(speed.ratio, 2))} ({speed.name})" for speed in speeds)
    return f"the machine ran at {shares} of the speed at recording"


def remark(speeds: Sequence[Speed]) -> str:
    """Give :func:`ran_at` where a speed changed enough to be mentioned."""
    return ran_at(speeds) if any(abs(speed.ratio - 1) > SAME_SPEED for speed in speeds) else ""


def by_views(
    seconds: Look,
    views: Sequence[Look],
    blend: Look | None,
    speeds: Sequence[Speed],
    limit: float,
    say: Callable[[float], str],
    *,
    last: bool,
) -> Finding:
    """Judge a metric of a CPU: every view must say the same, or none contradict the mixture that fits best.

    Base and head of one run are judged so where nothing can be fitted to them (:mod:`perfgate.verdict.fitted`).

    The figures shown are those of the view with the smallest change, the only size of change that all views support;
    for THROTTLED they are those in seconds, which the verdict is about. What could have been shown is what the noisiest
    view could, or the mixture where it is asked in any case.

    Args:
        seconds: the look at the plain values.
        views: one look a speed, at the values at the recorded speed.
        blend: the look in cycles of the mixture that fits best, if there is one.
        speeds: the speeds, in the same order.
        limit: the allowed change, on the scale of the looks.
        say: writes a difference on that scale as a change.
        last: no further process will come.
    """
    nearest = min(views, key=lambda view: abs(float(view.estimate)))
    detectable = max((view.detectable for view in views), key=float)
    same = all(abs(speed.ratio - 1) <= SAME_MACHINE for speed in speeds)
    if blend is not None and same:
        detectable = min(detectable, blend.detectable, key=float)
    shown = replace(nearest, detectable=detectable)
    note = remark(speeds)

    words = {word(view) for view in views}
    undecided = words == {Verdict.INCONCLUSIVE}
    if len(words) == 1 and not (undecided and same):
        return Finding(words.pop(), shown, note=note)
    if blend is not None:
        # Plain seconds are heard here too: a wait follows no speed of the machine at all.
        heard = [view for view in (seconds, *views) if view.deviation < DEAF * blend.deviation]
        says = word(blend)
        # A change that all views see needs no further witness.
        seen = says in (Verdict.REGRESSED, Verdict.IMPROVED) and not contradicted(says, views, limit)
        if says is not Verdict.INCONCLUSIVE and (seen or not contradicted(says, heard, limit)):
            return Finding(says, blend, note=note)
    if undecided:
        return Finding(Verdict.INCONCLUSIVE, shown, note=note)
    slower = seconds.estimate > limit and any(speed.ratio <= 1 - SAME_CLOCK for speed in speeds)
    if last and slower and any(view.estimate <= limit for view in views):
        return Finding(Verdict.THROTTLED, seconds, f"slower in seconds, but {ran_at(speeds)}")
    changes = " and ".join(
        f"{say(float(view.estimate))} ({speed.name})" for view, speed in zip(views, speeds, strict=True)
    )
    return Finding(Verdict.INCONCLUSIVE, shown, f"{ran_at(speeds)}; in its cycles the change is {changes}")
