"""How often is the gate wrong, and how small a slow-down does it find? Counts over the comparisons of a pool."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from perfgate.calibrate import competing, counting_pairs, rivals, scatter, splits
from perfgate.calibrate.deciding import Player
from perfgate.calibrate.figures import Power, Suite
from perfgate.calibrate.intervals import Rate, rate
from perfgate.calibrate.pool import Pool, PooledCase
from perfgate.calibrate.splits import Split
from perfgate.calibrate.steps import NONE, half_of, share_of
from perfgate.model import FAILING, Limit, Verdict
from perfgate.options import DEFAULT_PROCESSES, RECORDED_PROCESSES

#: Comparisons that are drawn of a memory step.
FEW = 20


def analyse(
    pool: Pool, *, limit: float | None = None, most: int = splits.MOST, total: int = DEFAULT_PROCESSES
) -> Suite:
    """Compare every case of a pool with itself and with its slowed-down versions.

    Args:
        pool: at least six processes.
        limit: a share that replaces the limits of all times; None keeps them.
        most: comparisons that are drawn of each kind.
        total: processes that confirm a suspicion, as ``--perf-processes`` has them.
    """
    drawn = splits.in_time(pool.processes, most)
    worth = splits.distinct(pool.processes)
    replaced = None if limit is None else Limit(limit)
    players = {name: Player(case, replaced) for name, case in pool.cases.items()}
    verdicts: Counter[str] = Counter()
    failing_runs = [False] * len(drawn)
    longest = [1] * len(drawn)
    cases = []
    for name, case in sorted(pool.cases.items()):
        player = players[name]
        alarms = undecided = made = 0
        for number, played in enumerate(player.play_all(drawn, most=total)):
            if played is None:
                continue
            verdicts[played.verdict.value] += 1
            made += 1
            alarms += played.verdict in FAILING
            undecided += played.verdict in (Verdict.INCONCLUSIVE, Verdict.THROTTLED)
            failing_runs[number] |= played.verdict in FAILING
            longest[number] = max(longest[number], played.processes)
        rates = rate(alarms, made, worth), rate(undecided, made, worth)
        figures = scatter.describe(name, case, player, drawn, total, *rates)
        power, half = _powers(case, player, drawn, worth, total)
        cases.append(scatter.advised(replace(figures, power=power, half_alarms=half)))
    everything = sum(verdicts.values())
    failed = sum(verdicts[word.value] for word in FAILING)
    return Suite(
        key=pool.key,
        processes=len(pool.processes),
        commits=tuple(dict.fromkeys(process.commit for process in pool.processes)),
        devices=tuple(sorted({process.device for process in pool.processes if process.device})),
        cases=tuple(cases),
        alarms=rate(failed, everything, worth * len(cases)),
        runs=rate(sum(failing_runs), len(drawn), worth),
        shuffled=_runs(players, splits.shuffled(pool.processes, most), worth, total),
        across=_across(pool, players, most, total),
        verdicts=dict(verdicts),
        confirmed=statistics.fmean(number - 1 if number > 1 else 0 for number in longest) if longest else 0.0,
        rivals={name: competing.count(pool, rival, most) for name, rival in rivals.RIVALS.items()},
        limit=limit,
        total=total,
        in_pairs=counting_pairs.count(pool, replaced, most, total),
    )


def _runs(players: Mapping[str, Player], drawn: Sequence[Split], worth: float, total: int) -> Rate:
    """Count runs of the suite with a false alarm."""
    failing: set[int] = set()
    for player in players.values():
        played = player.play_all(drawn, most=total)
        failing.update(number for number, each in enumerate(played) if each is not None and each.verdict in FAILING)
    return rate(len(failing), len(drawn), worth)


def _across(pool: Pool, players: Mapping[str, Player], most: int, total: int) -> Rate | None:
    drawn = splits.across(pool.processes, most)
    return _runs(players, drawn, splits.distinct(pool.processes), total) if drawn else None


def _powers(
    case: PooledCase, player: Player, drawn: Sequence[Split], worth: float, total: int
) -> tuple[dict[str, Power], dict[str, Rate]]:
    power, false = {}, {}
    for step, series in case.steps.items():
        # Memory hardly differs between processes: a few comparisons say what many would.
        own = _found(player, drawn if share_of(step) is not None else splits.thin(drawn, FEW), step, worth, total)
        half = None
        if (limit := half_of(step)) is not None:
            strict = Player(case, limit)
            half = _found(strict, drawn, step, worth, total)
            false[step] = _found(strict, drawn, NONE, worth, total)
        power[step] = Power(own, half, scatter.achieved(series, step))
    return power, false


def _found(player: Player, drawn: Sequence[Split], step: str, worth: float, total: int) -> Rate:
    played = [each for each in player.play_all(drawn, step, total) if each is not None]
    return rate(sum(each.verdict in FAILING for each in played), len(played), worth)


def enough(pool: Pool) -> bool:
    """Tell whether anything can be compared: a baseline and one process more."""
    return len(pool.processes) > RECORDED_PROCESSES
