"""How often are other tools' rules wrong on the same processes, and what do they find?"""

from __future__ import annotations

from collections import Counter

from perfgate.calibrate import rivals, splits
from perfgate.calibrate.figures import RivalFigures
from perfgate.calibrate.intervals import rate
from perfgate.calibrate.pool import Pool
from perfgate.calibrate.steps import NONE


def count(pool: Pool, rival: rivals.Rival, most: int) -> RivalFigures:
    """Ask another tool's rule about each case's first time, in all pairs of processes."""
    order = sorted(range(len(pool.processes)), key=lambda number: (pool.processes[number].began, number))
    pairs = splits.thin(rivals.sides(order, rival), most)
    timed = [next((s for s in case.series.values() if s.unit == "s"), None) for case in pool.cases.values()]
    series = [each for each in timed if each is not None]
    events: Counter[str] = Counter()
    drawn: Counter[str] = Counter()
    failing = set()
    for each in series:
        plain = each.of(NONE)
        for step in (NONE, *each.steps):
            stepped = each.of(step)
            for number, (before, now) in enumerate(pairs):
                if not (plain.keys() >= set(before) and stepped.keys() >= set(now)):
                    continue
                slower = rival.slower([plain[process] for process in before], [stepped[process] for process in now])
                drawn[step] += 1
                events[step] += slower
                if slower and step == NONE:
                    failing.add(number)
    distinct = max(len(order) // (2 * rival.processes), 1)
    return RivalFigures(
        rate(events[NONE], drawn[NONE], distinct * len(series)),
        rate(len(failing), len(pairs), distinct),
        {step: rate(events[step], drawn[step], distinct * len(series)) for step in drawn if step != NONE},
    )
