"""How much does one case scatter, how much slower did the extra work make it, and what would help it?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from perfgate.calibrate.deciding import Player
from perfgate.calibrate.figures import CaseFigures
from perfgate.calibrate.intervals import Rate
from perfgate.calibrate.pool import PooledCase, Row, Series
from perfgate.calibrate.splits import Split
from perfgate.calibrate.steps import NONE


def achieved(series: Series, step: str) -> float:
    """Give how much slower a step really made the case, the median over the processes, as a share."""
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


def describe(
    name: str, case: PooledCase, player: Player, drawn: Sequence[Split], total: int, alarms: Rate, undecided: Rate
) -> CaseFigures:
    """Give what is known of a case but for its power."""
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


def advised(figures: CaseFigures) -> CaseFigures:
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
