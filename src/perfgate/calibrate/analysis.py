"""How often is the gate wrong, and how small a slow-down does it find? Counts over the comparisons of a pool."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from perfgate.calibrate import rivals, splits
from perfgate.calibrate.deciding import Player
from perfgate.calibrate.intervals import Rate, rate
from perfgate.calibrate.pool import Pool, PooledCase, Row, Series
from perfgate.calibrate.splits import Split
from perfgate.calibrate.steps import NONE, share_of
from perfgate.model import FAILING, Limit, Verdict
from perfgate.options import DEFAULT_PROCESSES, RECORDED_PROCESSES

#: Power that a slow-down is to be found with.
WANTED = 0.95
#: The limit that a step is also judged with, as a share of the step.
HALF = 0.5
#: Comparisons that are drawn of a memory step.
FEW = 20


@dataclass(frozen=True)
class Power:
    """How often a step is found.

    Attributes:
        own: with the case's own limit.
        half: with a limit of half the step; None for memory.
        achieved: how much the extra work really added, the median over the processes, as a share of the unchanged
            figure of the same process; on a CPU in reference loops. Not a number where that figure is 0.
    """

    own: Rate
    half: Rate | None
    achieved: float


@dataclass(frozen=True)
class CaseFigures:
    """What is known of one case.

    Attributes:
        case: node id.
        clock: "device", "wall" or "pedantic"; of a CPU always "cpu".
        time: median of the first time of the case, in seconds; None without one.
        spread: standard deviation of that between processes, as a share.
        cycles: the same in cycles of the machine, where its speed is known.
        clock_spread: standard deviation of the SM clock between processes.
        limit: the allowed share.
        detectable: the smallest slow-down that a whole confirmation of unchanged code could have shown.
        alarms: comparisons of unchanged code that fail.
        undecided: those that end INCONCLUSIVE or THROTTLED.
        power: by step.
        half_alarms: by step, comparisons of unchanged code that fail with a limit of half the step.
        advice: what would help where it is too noisy for its limit; "" where it is not.
    """

    case: str
    clock: str
    time: float | None
    spread: float
    cycles: float | None
    clock_spread: float
    limit: float
    detectable: float | None
    alarms: Rate
    undecided: Rate
    power: Mapping[str, Power] = field(default_factory=dict)
    half_alarms: Mapping[str, Rate] = field(default_factory=dict)
    advice: str = ""


@dataclass(frozen=True)
class RivalFigures:
    """How another tool's rule does: wrong on unchanged code by comparison and by run, and power by step."""

    alarms: Rate
    runs: Rate
    power: Mapping[str, Rate]


@dataclass(frozen=True)
class Suite:
    """Everything about one pool.

    Attributes:
        key: the hardware key.
        processes: in the pool.
        commits: that they measured.
        devices: GPUs that they ran on, as ``--devices`` named them.
        cases: by case.
        alarms: comparisons of unchanged code that fail, over all cases.
        runs: runs of the whole suite with any of them.
        shuffled: the same on processes in random order.
        across: the same with baseline and run on different GPUs; None where there was one.
        verdicts: how many comparisons of unchanged code ended how.
        confirmed: fresh processes that one run of the suite takes beside its own, the mean.
        rivals: by the name of the rule.
        limit: what replaced the cases' limits; None for their own.
        total: processes that were to confirm a suspicion.
    """

    key: str
    processes: int
    commits: tuple[str, ...]
    devices: tuple[str, ...]
    cases: tuple[CaseFigures, ...]
    alarms: Rate
    runs: Rate
    shuffled: Rate
    across: Rate | None
    verdicts: Mapping[str, int]
    confirmed: float
    rivals: Mapping[str, RivalFigures]
    limit: float | None = None
    total: int = DEFAULT_PROCESSES

    @property
    def few(self) -> int | None:
        """Give how many processes a confirmation had, where the pool had not all that it takes."""
        had = self.processes - RECORDED_PROCESSES
        return had if had < self.total else None


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
        figures = _case_figures(name, case, player, drawn, total, *rates)
        power, half = _powers(case, player, drawn, worth, total)
        cases.append(_advised(replace(figures, power=power, half_alarms=half)))
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
        rivals={name: _rival(pool, rival, most) for name, rival in rivals.RIVALS.items()},
        limit=limit,
        total=total,
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
    steps = dict.fromkeys(step for series in case.series.values() for step in series.steps)
    for step in steps:
        series = next(series for series in case.series.values() if step in series.steps)
        share = share_of(step)
        # Memory hardly differs between processes: a few comparisons say what many would.
        own = _found(player, drawn if share is not None else splits.thin(drawn, FEW), step, worth, total)
        half = None
        if series.unit == "s" and share is not None:
            strict = Player(case, Limit(share * HALF))
            half = _found(strict, drawn, step, worth, total)
            false[step] = _found(strict, drawn, NONE, worth, total)
        power[step] = Power(own, half, _achieved(series, step))
    return power, false


def _found(player: Player, drawn: Sequence[Split], step: str, worth: float, total: int) -> Rate:
    played = [each for each in player.play_all(drawn, step, total) if each is not None]
    return rate(sum(each.verdict in FAILING for each in played), len(played), worth)


def _achieved(series: Series, step: str) -> float:
    plain = series.of(NONE)
    shares = [
        _in_loops(row) / _in_loops(plain[process]) - 1
        for process, row in series.of(step).items()
        if process in plain and plain[process].value
    ]
    return statistics.median(shares) if shares else math.nan


def _in_loops(row: Row) -> float:
    """Give a time on a CPU in reference loops: the machine may have been slower during one of two measurements."""
    core, memory = row.speeds.get("core"), row.speeds.get("memory")
    return row.value * math.sqrt(core * memory) if core and memory else row.value


def _case_figures(
    name: str, case: PooledCase, player: Player, drawn: Sequence[Split], total: int, alarms: Rate, undecided: Rate
) -> CaseFigures:
    timed = next((series for series in case.series.values() if series.unit == "s"), None)
    if timed is None:
        return CaseFigures(name, case.method.get("clock", ""), None, 0.0, None, 0.0, 0.0, None, alarms, undecided)
    rows = list(timed.of(NONE).values())
    median = statistics.median(row.value for row in rows)
    on_cpu = any("core" in row.speeds for row in rows)
    clocks = [row.speeds["sm_clock"] for row in rows if "sm_clock" in row.speeds]
    possible = next((split for split in drawn if player.can(split, NONE)), None)
    found = player.detectable(possible, total) if possible is not None else {}
    return CaseFigures(
        case=name,
        clock="cpu" if on_cpu else case.method.get("clock", ""),
        time=median,
        spread=_spread([row.value for row in rows]),
        cycles=_cycles(timed),
        clock_spread=_spread(clocks),
        limit=timed.limit.of(median) / median if median else 0.0,
        detectable=found.get(timed.name),
        alarms=alarms,
        undecided=undecided,
    )


def _cycles(series: Series) -> float | None:
    """Give the smallest spread of the time in cycles: of a GPU's clock, or of a mixture of a CPU's two speeds."""
    rows = list(series.of(NONE).values())
    names = set.intersection(*(set(row.speeds) for row in rows)) if rows else set()
    if names == {"core", "memory"}:
        mixed = [(share, 1 - share) for share in (1.0, 0.75, 0.5, 0.25, 0.0)]
        return min(
            _spread([row.value * row.speeds["core"] ** a * row.speeds["memory"] ** b for row in rows]) for a, b in mixed
        )
    if "sm_clock" in names:
        return _spread([row.value * row.speeds["sm_clock"] for row in rows])
    return None


def _spread(values: Sequence[float]) -> float:
    """Give the standard deviation as a share, 0 for fewer than two values."""
    if len(values) < 2 or min(values) <= 0:
        return 0.0
    return statistics.stdev(map(math.log, values))


def _advised(figures: CaseFigures) -> CaseFigures:
    """Say what would help a case that is too noisy for its limit."""
    noisy = figures.detectable is not None and figures.detectable > 2 * figures.limit
    if not (noisy or figures.alarms.events or figures.undecided.share > 0.05) or figures.time is None:
        return figures
    hints = []
    if figures.clock == "wall":
        hints.append('clock="device", if it is a kernel')
    if figures.clock_spread > 0.005:
        hints.append("a pinned SM clock (nvidia-smi -lgc)")
    if figures.clock == "device" and figures.time < 20e-6:
        hints.append("more work a call")
    if figures.clock == "cpu":
        hints.append("a machine without neighbours" if figures.spread > 0.05 else "more work a call")
    if figures.detectable is not None and math.isfinite(figures.detectable):
        hints.append(f'time="{math.ceil(max(figures.detectable, figures.limit) * 100)}%"')
    return replace(figures, advice=" or ".join(hints) or "a larger limit")


def _rival(pool: Pool, rival: rivals.Rival, most: int) -> RivalFigures:
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


def enough(pool: Pool) -> bool:
    """Tell whether anything can be compared: a baseline and one process more."""
    return len(pool.processes) > RECORDED_PROCESSES
